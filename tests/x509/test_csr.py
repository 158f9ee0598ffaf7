"""Requests: ours are understood by others, and everybody's are understood by us, with what they ask for in words."""

from __future__ import annotations

import functools
import subprocess
import warnings
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.names import MAX_NAMES, Names
from gatekey.x509 import certificate, csr, der, names, oids, signature
from kit import objects

ASKED = {
    "person": Names("ann", emails=("ann@example.com",)),
    "server": Names("www.example.com", ("www.example.com", "*.example.com"), ("10.0.0.1", "2001:db8::1")),
    "name only": Names("eager-client"),
    "no subject": Names("", ("a.example",)),
    "nothing": Names(),
}


@functools.cache
def made(name: str, key_type: str = "p256") -> bytes:
    private = objects.key(key_type)
    return csr.encode_csr(ASKED[name], objects.spki_of(private), key_type, functools.partial(objects.sign, private))


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
@pytest.mark.parametrize("name", ASKED)
def test_what_was_written_is_read_and_proves_possession(name: str, key_type: str) -> None:
    read = csr.read_csr(made(name, key_type))
    assert (read.names, read.spki, read.wants, read.challenge) == (ASKED[name], objects.spki_of(objects.key(key_type)), (), "")
    assert read.algorithm == signature.algorithm(key_type)
    assert csr.proof_holds(read)
    assert not csr.proof_holds(read._replace(signature=read.signature[:-1] + bytes((read.signature[-1] ^ 1,))))
    assert not csr.proof_holds(read._replace(info=made("person" if name != "person" else "server")))


@pytest.mark.parametrize("name", ASKED)
def test_the_same_bytes_as_the_builder_of_cryptography(name: str) -> None:
    asked = ASKED[name]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, asked.common_name)] if asked.common_name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in asked.dns]
    alternatives += [x509.IPAddress(ip_address(ip)) for ip in asked.ips]
    alternatives += [x509.RFC822Name(email) for email in asked.emails]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=not asked.common_name)
    theirs = builder.sign(objects.key("p256"), hashes.SHA256())
    assert csr.read_csr(made(name)).info == theirs.tbs_certrequest_bytes
    assert x509.load_der_x509_csr(made(name)).is_signature_valid


def by_cryptography() -> x509.CertificateSigningRequest:
    """A request that wants everything."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme\nInc."),
                    x509.NameAttribute(NameOID.COMMON_NAME, "Zoë"),
                ]
            )
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("WWW.Example.com"),
                    x509.DNSName("www.example.com"),
                    x509.IPAddress(ip_address("::1")),
                    x509.RFC822Name("Ann@example.com"),
                    x509.UniformResourceIdentifier("https://example.com/"),
                    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])),
                    x509.OtherName(x509.ObjectIdentifier(oids.UPN), der.utf8("ann@corp")),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier("1.2.3")]), critical=False)
        .add_extension(x509.BasicConstraints(True, 3), critical=True)
        .add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")
        .add_attribute(x509.ObjectIdentifier("1.2.3.4"), b"whatever")
        .sign(objects.key("p384"), hashes.SHA384())
    )


def test_what_else_a_request_asks_for_is_said_in_words() -> None:
    read = csr.read_csr(by_cryptography().public_bytes(serialization.Encoding.DER))
    assert read.names == Names("Zoë", ("www.example.com",), ("::1",), ("Ann@example.com",))
    assert set(read.wants) == {
        "C=DE in the subject",
        r"O=Acme\nInc. in the subject",
        "the URI https://example.com/",
        "the directory name CN=ann",
        "a name of the kind user principal name",
        "key usage digitalSignature, keyCertSign",
        "extended key usage serverAuth, 1.2.3",
        "to be a CA",
        "the extension TLS feature (must staple)",
        "a challenge password",
        "the attribute 1.2.3.4",
    }
    assert read.challenge == "secret"
    assert not any("secret" in want for want in read.wants)
    assert csr.proof_holds(read)


def request(*attributes: bytes, version: int = 0, subject: bytes | None = None, wrapped: bool = True) -> bytes:
    """A request of these attributes, really signed."""
    private = objects.key("p256")
    attribute_list = der.explicit(0, *attributes) if wrapped else b""
    info = der.seq(der.integer(version), names.encode_name("ann") if subject is None else subject, objects.spki_of(private), attribute_list)
    return der.seq(info, signature.algorithm("p256"), der.bits(objects.sign(private, info)))


def attribute(kind: str, *values: bytes) -> bytes:
    return der.seq(der.oid(kind), der.tlv(der.SET, *values))


SAN = certificate.extension(oids.SUBJECT_ALT_NAME, names.encode_general_names(Names("", ("a.example",))))
HOSTS = certificate.extension(oids.SUBJECT_ALT_NAME, der.seq(*(der.implicit(2, f"h{n}.example".encode()) for n in range(MAX_NAMES + 1))))


@pytest.mark.parametrize("kind", [oids.EXTENSION_REQUEST, oids.MS_EXTENSION_REQUEST])
def test_names_are_found_in_both_forms_of_the_extension_request(kind: str) -> None:
    assert csr.read_csr(request(attribute(kind, der.seq(SAN)))).names == Names("ann", ("a.example",))


def test_what_windows_tells_about_itself_is_no_wish() -> None:
    version = der.tlv(der.IA5, b"10.0.1.2")
    about = attribute(oids.MS_OS_VERSION, version), attribute(oids.MS_REQUEST_CLIENT_INFO, der.seq(der.integer(5)), der.seq(der.integer(6)))
    assert csr.read_csr(request(*about)).wants == ()


def test_a_wish_not_to_be_a_ca_is_read_in_both_spellings() -> None:
    for basic in (der.seq(), der.seq(der.boolean(False))):
        extension = certificate.extension(oids.BASIC_CONSTRAINTS, basic)
        assert csr.read_csr(request(attribute(oids.EXTENSION_REQUEST, der.seq(extension)))).wants == ("not to be a CA",)


def test_a_request_without_attributes_is_read() -> None:
    assert csr.read_csr(request()).names == Names("ann")
    assert csr.read_csr(request(wrapped=False)).names == Names("ann")  # against RFC 2986 4.1, and often seen


TWO_NAMES = der.seq(*(der.tlv(der.SET, der.seq(der.oid(oids.COMMON_NAME), der.utf8(name))) for name in ("ann", "root")))
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the value ends"),
    "cut": (made("person")[:-1], "longer than what holds it"),
    "something behind it": (made("person") + b"\0", "left over"),
    "too long": (bytes(70_000), "more than the 65536"),
    "a certificate": (objects.house().root_der, "tag 0xA0 where 0x02"),
    "version 2": (request(version=1), "its version is 2"),
    "two common names": (request(subject=TWO_NAMES), "2 common names"),
    "broken subject": (request(subject=der.seq(der.seq())), "tag 0x30 where 0x31"),
    "extensions twice": (
        request(attribute(oids.EXTENSION_REQUEST, der.seq(SAN)), attribute(oids.MS_EXTENSION_REQUEST, der.seq(SAN))),
        "asks for extensions twice",
    ),
    "attribute twice": (request(attribute("1.2.3", der.null()), attribute("1.2.3", der.null())), "1.2.3 stands there twice"),
    "attribute of two values": (request(attribute(oids.EXTENSION_REQUEST, der.seq(SAN), der.seq(SAN))), "more than one value"),
    "attribute without a value": (request(attribute("1.2.3")), "value ends"),
    "extension twice": (request(attribute(oids.EXTENSION_REQUEST, der.seq(SAN, SAN))), "stands there twice"),
    "no extensions": (request(attribute(oids.EXTENSION_REQUEST, der.seq())), "list of extensions is empty"),
    "too many names": (request(attribute(oids.EXTENSION_REQUEST, der.seq(HOSTS))), "more than 100 names"),
    "too many attributes": (request(*(attribute(f"1.2.{n}", der.null()) for n in range(33))), "more than 32 attributes"),
    "password that is no text": (request(attribute(oids.CHALLENGE_PASSWORD, der.integer(5))), "where a character string"),
    "zero byte in a host": (
        request(attribute(oids.EXTENSION_REQUEST, der.seq(certificate.extension(oids.SUBJECT_ALT_NAME, der.seq(der.implicit(2, b"a\0b")))))),
        "not printable ASCII",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_in_a_sentence(name: str) -> None:
    encoded, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as refusal:
        csr.read_csr(encoded)
    assert refusal.value.code == "bad-csr"
    assert refusal.value.message.startswith("this is not a certificate signing request that can be read: ")


@given(st.data())
def test_damaged_requests_end_in_a_request_or_a_sentence(data: st.DataObject) -> None:
    encoded = data.draw(objects.damaged(everything()))
    try:
        read = csr.read_csr(encoded)
    except GatekeyError as error:
        assert error.code == "bad-csr"
    else:
        assert not csr.proof_holds(read) or (read.info, read.spki) == (csr.read_csr(everything()).info, csr.read_csr(everything()).spki)


@functools.cache
def everything() -> bytes:
    return by_cryptography().public_bytes(serialization.Encoding.DER)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_sentence(data: bytes) -> None:
    with pytest.raises(Malformed):
        csr.read_csr(data)


# Outside judges

VECTORS = Path(cryptography_vectors.__path__[0]) / "x509"

#: Requests of cryptography's collection that it loads and we refuse, with the words of our reason.
STRICTER = {
    "requests/challenge-invalid.der": "where a character string",
    "requests/challenge-multi-valued.der": "more than one value",
    "requests/long-form-attribute.pem": "a tag of more than one byte",
}


def test_requests_of_the_whole_world_are_read_as_cryptography_reads_them() -> None:
    refused, count = {}, 0
    for path in sorted(VECTORS.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = x509.load_pem_x509_csr(content) if b"-----BEGIN" in content else x509.load_der_x509_csr(content)
                extensions = theirs.extensions
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            continue
        count += 1
        try:
            ours = csr.read_csr(theirs.public_bytes(serialization.Encoding.DER))
        except Malformed as error:
            refused[str(path.relative_to(VECTORS))] = error.message
            continue
        assert ours.info == theirs.tbs_certrequest_bytes
        assert ours.subject == theirs.subject.public_bytes()
        assert [extension.oid for extension in ours.extensions] == [extension.oid.dotted_string for extension in extensions]
        common_names = theirs.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert ours.names.common_name == (common_names[0].value if common_names else "")
    assert count >= 20
    assert refused.keys() == STRICTER.keys()
    for name, words in STRICTER.items():
        assert words in refused[name]


@pytest.mark.interop
@pytest.mark.parametrize("name", ["person", "server", "name only"])
@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa-2048", "ed25519"])
def test_openssl_reads_and_verifies_ours(name: str, key_type: str, program: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "a.csr").write_bytes(made(name, key_type))
    told = subprocess.run(
        [program("openssl"), "req", "-inform", "DER", "-in", "a.csr", "-noout", "-text", "-verify"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "verify OK" in told.stderr
    assert f"CN = {ASKED[name].common_name}" in told.stdout
    for host in ASKED[name].dns:
        assert f"DNS:{host}" in told.stdout
    for email in ASKED[name].emails:
        assert f"email:{email}" in told.stdout


@pytest.mark.interop
def test_we_read_and_verify_those_of_openssl(program: Callable[[str], str], tmp_path: Path) -> None:
    openssl = program("openssl")
    subprocess.run([openssl, "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "k.pem"], cwd=tmp_path, check=True)
    names_asked = "subjectAltName=DNS:www.example.com,IP:10.0.0.1,email:a@example.com"
    command = [openssl, "req", "-new", "-key", "k.pem", "-subj", "/O=Acme/CN=picture-server", "-addext", names_asked, "-outform", "DER", "-out", "a.csr"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    read = csr.read_csr((tmp_path / "a.csr").read_bytes())
    assert read.names == Names("picture-server", ("www.example.com",), ("10.0.0.1",), ("a@example.com",))
    assert read.wants == ("O=Acme in the subject",)
    assert csr.proof_holds(read)


OLD_WAYS = {
    "-sha1": "the request is signed with RSA with SHA-1, which is not accepted",
    "-md5": "the request is signed with RSA with MD5, which is not accepted",
    "-sha3-256": "the request is signed with RSA with SHA3-256, which is not accepted",
    "-sha1 -sigopt rsa_padding_mode:pss": "the request is signed with RSA-PSS with SHA-1, which is not accepted",
}


@pytest.mark.interop
@pytest.mark.parametrize("how", OLD_WAYS)
def test_how_a_request_is_signed_is_said_if_it_is_not_accepted(program: Callable[[str], str], tmp_path: Path, how: str) -> None:
    """The key is at hand and the signature holds: "make the request again with the private key" would lead nowhere."""
    openssl = program("openssl")
    command = [openssl, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-subj", "/CN=ann", "-outform", "DER", "-out", "a.csr"]
    subprocess.run([*command, *how.split()], cwd=tmp_path, check=True, capture_output=True)
    problem = csr.proof_problem(csr.read_csr((tmp_path / "a.csr").read_bytes()))
    assert problem is not None
    assert (problem.code, problem.message) == ("signature-not-accepted", OLD_WAYS[how])
    assert "SHA-256" in problem.hint


def test_what_is_wrong_with_a_request_is_said_in_order() -> None:
    """First the key, then how it is signed, then the signature."""
    read = csr.read_csr(made("person"))
    assert csr.proof_problem(read) is None
    weak = der.seq(der.oid(oids.RSA_SHA1), der.null())
    compressed = read.spki[:-65] + b"\x02" + read.spki[-64:]
    unknown = der.seq(der.seq(der.oid("1.2.3")), der.bits(b"key"))
    forged = read.signature[:-1] + bytes((read.signature[-1] ^ 1,))
    codes = {
        "bad-key": read._replace(spki=compressed, algorithm=weak, signature=forged),
        "key-unknown": read._replace(spki=unknown, algorithm=weak),
        "signature-not-accepted": read._replace(algorithm=weak, signature=forged),
        "bad-proof": read._replace(signature=forged),
    }
    for code, wrong in codes.items():
        problem = csr.proof_problem(wrong)
        assert problem is not None
        assert problem.code == code


def test_the_one_request_of_a_file() -> None:
    one, other = made("person"), made("server")
    assert csr.proven([]) is csr.proven([("certificate", b"")]) is None
    assert csr.proven([("private-key", b""), ("csr", one), ("csr", one)]) == csr.read_csr(one)
    with pytest.raises(Malformed) as raised:
        csr.proven([("csr", one), ("csr", other)])
    assert raised.value.code == "several-requests"
    with pytest.raises(Malformed) as raised:
        csr.proven([("csr", one[:-1] + bytes((one[-1] ^ 1,)))])
    assert raised.value.code == "bad-proof"


@pytest.mark.interop
def test_we_read_and_verify_those_of_keytool(program: Callable[[str], str], tmp_path: Path) -> None:
    from gatekey.x509 import pem

    common = ["-keystore", "k.p12", "-storepass", "secret-enough", "-alias", "a"]
    keytool = program("keytool")
    make = [keytool, "-genkeypair", *common, "-keyalg", "RSA", "-keysize", "2048", "-dname", "CN=java client"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    told = subprocess.run([keytool, "-certreq", *common, "-ext", "SAN=dns:www.example.com"], cwd=tmp_path, check=True, capture_output=True)
    ((label, encoded),) = pem.decode(told.stdout)
    read = csr.read_csr(encoded)
    assert label == "NEW CERTIFICATE REQUEST"
    assert read.names == Names("java client", ("www.example.com",))
    assert csr.proof_holds(read)
