"""PKCS#12: five foreign programs read each target, the structure is what was promised, and what others wrote is read or refused in words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12 as library
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Refused
from gatekey.model import passwords
from gatekey.x509 import der, pkcs8, pkcs12
from kit import objects, pki
from kit.cases import cases

Program = Callable[[str], str]
KEY_TYPES = ("p256", "p384", "rsa-2048")
NAME = "Zoë Ångström – kitty-ca 2026"
VECTORS = Path(cryptography_vectors.__file__).parent / "pkcs12"


def plain(key: object) -> bytes:
    made: bytes = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())  # type: ignore[attr-defined]  # any key
    return made


class Identity:
    """A person's key and certificate under root -> issuing, and the PKCS#12 of it."""

    def __init__(self, key_type: str = "p256") -> None:
        self.pki = pki.make_pki()
        self.leaf = self.pki.client("ann", key=objects.key(key_type))
        self.key = plain(self.leaf.key)
        self.issuing = self.pki.issuing.certificate.public_bytes(serialization.Encoding.DER)
        self.password = passwords.generate(os.urandom)

    def encode(self, target: str, *, name: str = NAME, password: str | None = None) -> bytes:
        secret = self.password if password is None else password
        return pkcs12.encode(self.key, self.leaf.der, [self.issuing], friendly_name=name, password=secret, target=target, random=os.urandom)


@pytest.fixture(scope="module")
def ann() -> Identity:
    return Identity()


def run(command: list[str], cwd: Path, **more: str) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", check=False, timeout=120, env=os.environ | more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


# Foreign readers

every = pytest.mark.parametrize(("target", "key_type"), [(target, key_type) for target in pkcs12.TARGETS for key_type in KEY_TYPES])


@every
def test_cryptography_reads_it(target: str, key_type: str) -> None:
    who = Identity(key_type)
    found = library.load_pkcs12(who.encode(target), who.password.encode())
    assert found.key is not None
    assert plain(found.key) == who.key
    assert found.cert is not None
    assert found.cert.certificate == who.leaf.certificate
    assert found.cert.friendly_name == NAME.encode()
    assert [other.certificate for other in found.additional_certs] == [who.pki.issuing.certificate]


@pytest.mark.interop
@every
def test_openssl_reads_it_without_legacy(target: str, key_type: str, tmp_path: Path, program: Program) -> None:
    who = Identity(key_type)
    (tmp_path / "a.p12").write_bytes(who.encode(target))
    told = run([program("openssl"), "pkcs12", "-in", "a.p12", "-passin", f"pass:{who.password}", "-info", "-nodes", "-out", "all.pem"], tmp_path)
    text = (tmp_path / "all.pem").read_text("latin-1")
    assert len(re.findall("BEGIN CERTIFICATE", text)) == 2
    assert len(re.findall("BEGIN PRIVATE KEY", text)) == 1
    identifiers = re.findall(r"localKeyID: ([0-9A-F ]+)", text)
    assert len(identifiers) == 2
    assert len(set(identifiers)) == 1
    if target == "any":
        assert told.count("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048") == 2
        assert "MAC: sha1, Iteration 2048" in told
        assert "AES" not in told
    else:
        assert told.count("PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256") == 2
        assert "MAC: sha256, Iteration 10000" in told
        assert "DES" not in told
    assert "RC2" not in told


@pytest.mark.interop
@every
def test_nss_reads_it(target: str, key_type: str, tmp_path: Path, program: Program) -> None:
    """As Firefox and Chromium on Linux do: the certificate comes with its key."""
    who = Identity(key_type)
    (tmp_path / "a.p12").write_bytes(who.encode(target))
    (tmp_path / "db").mkdir()
    run([program("certutil"), "-N", "-d", "sql:db", "--empty-password"], tmp_path)
    told = run([program("pk12util"), "-i", "a.p12", "-d", "sql:db", "-W", who.password], tmp_path)
    assert "PKCS12 IMPORT SUCCESSFUL" in told
    listed = run([program("certutil"), "-L", "-d", "sql:db"], tmp_path)
    assert re.search(rf"{NAME}\s+u,u,u", listed), "the key belongs to the certificate"
    assert "kitty-ca people" in listed


@pytest.mark.interop
@every
def test_java_reads_it(target: str, key_type: str, tmp_path: Path, program: Program) -> None:
    who = Identity(key_type)
    (tmp_path / "a.p12").write_bytes(who.encode(target))
    command = [program("keytool"), "-J-Dfile.encoding=UTF-8", "-J-XX:TieredStopAtLevel=1", "-list", "-v", "-keystore", "a.p12", "-storetype", "PKCS12"]
    told = run([*command, "-storepass", who.password], tmp_path, LC_ALL="C.UTF-8")
    assert "Entry type: PrivateKeyEntry" in told
    assert "Certificate chain length: 2" in told
    assert f"Alias name: {NAME.lower()}" in told
    assert who.leaf.fingerprint in told.replace(":", "").replace(" ", "")


@pytest.mark.interop
@every
def test_gnutls_reads_it(target: str, key_type: str, tmp_path: Path, program: Program) -> None:
    who = Identity(key_type)
    (tmp_path / "a.p12").write_bytes(who.encode(target))
    told = run([program("certtool"), "--p12-info", "--inder", "--password", who.password, "--infile", "a.p12"], tmp_path)
    assert f"Friendly name: {NAME}" in told
    assert len(re.findall("BEGIN CERTIFICATE", told)) == 2
    assert ("Cipher: 3DES-CBC" if target == "any" else "Cipher: AES-256-CBC") in told
    assert "Iteration count: " + ("2048" if target == "any" else "10000") in told


# Structure


@pytest.mark.parametrize("target", pkcs12.TARGETS)
def test_structure_without_the_password(ann: Identity, target: str) -> None:
    found = pkcs12.account(ann.encode(target))
    scheme, iterations, mac, salt = {
        "any": ("pbeWithSHA1And3-KeyTripleDES-CBC", 2048, "HMAC-SHA1", 8),
        "modern": ("PBES2, AES-256-CBC, PBKDF2-HMAC-SHA256", 10_000, "HMAC-SHA256", 16),
    }[target]
    assert (found.mac, found.mac_iterations, found.mac_salt) == (mac, iterations, salt)
    assert found.parts == (pkcs12.Part("encrypted content", scheme, iterations, salt), pkcs12.Part("private key", scheme, iterations, salt, NAME))


def test_salts_are_never_shared(ann: Identity) -> None:
    drawn: list[bytes] = []

    def random(count: int) -> bytes:
        drawn.append(os.urandom(count))
        return drawn[-1]

    for target, draws in (("any", 3), ("modern", 5)):
        drawn.clear()
        pkcs12.encode(ann.key, ann.leaf.der, [], friendly_name="", password="x", target=target, random=random)
        assert len(set(drawn)) == draws


def test_the_same_dice_give_the_same_file(ann: Identity) -> None:
    def one() -> bytes:
        return pkcs12.encode(ann.key, ann.leaf.der, [], friendly_name="a", password="x", target="any", random=lambda count: b"\7" * count)

    assert one() == one()
    assert pkcs12.to_der(one()) == one(), "what we write is DER"


# What is refused when writing


@pytest.mark.parametrize("password", ["", "żółw", "tab\tbed", "line\n", "\x7f"])
def test_passwords_that_do_not_open_everywhere(ann: Identity, password: str) -> None:
    with pytest.raises(Refused) as caught:
        ann.encode("any", password=password)
    assert caught.value.code == "bad-password"


@pytest.mark.parametrize("target", ["apple", "pem", "rc2", "legacy", ""])
def test_unknown_targets(ann: Identity, target: str) -> None:
    with pytest.raises(Refused) as caught:
        ann.encode(target)
    assert caught.value.code == "unknown-target"


@pytest.mark.parametrize("key_type", ["ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
@pytest.mark.parametrize("target", ["any", "modern", "apple"])
def test_keys_that_browsers_do_not_take(ann: Identity, key_type: str, target: str) -> None:
    reason = pkcs12.refusal(key_type, target)
    assert reason is not None
    assert key_type in reason.message
    assert pkcs12.refusal(key_type, "pem") is None
    if target != "apple":
        with pytest.raises(Refused) as caught:
            pkcs12.encode(plain(objects.key(key_type)), ann.leaf.der, [], friendly_name="", password="x", target=target, random=os.urandom)
        assert caught.value.code == reason.code == "key-not-for-target"


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "rsa-2048", "rsa-4096"])
def test_keys_that_browsers_take(key_type: str) -> None:
    assert all(pkcs12.refusal(key_type, target) is None for target in ("any", "modern", "apple", "pem"))


# Reading


@every
def test_round_trip(target: str, key_type: str) -> None:
    who = Identity(key_type)
    assert pkcs12.read(who.encode(target), who.password) == pkcs12.Opened(who.key, who.leaf.der, (who.issuing,), NAME)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.text("abcXYZ019 -_!$", min_size=1, max_size=64),
    st.sampled_from(pkcs12.TARGETS),
)
@cases(25)
def test_any_name_and_password(name: str, password: str, target: str) -> None:
    who = _shared()
    opened = pkcs12.read(who.encode(target, name=name, password=password), password)
    assert opened.friendly_name == "".join(c if ord(c) < 0x10000 else "\ufffd" for c in name)


def test_wrong_password(ann: Identity) -> None:
    for target in pkcs12.TARGETS:
        for wrong in ("", "wrong", ann.password.upper(), ann.password + " ", "żółw", "\udc80"):
            with pytest.raises(Malformed) as caught:
                pkcs12.read(ann.encode(target), wrong)
            assert caught.value.code == "wrong-password"


def test_damage_is_not_called_a_wrong_password(ann: Identity) -> None:
    whole = ann.encode("any")
    for broken in (whole[:-1], whole[: len(whole) // 2], whole + b"x", b"", b"hello", b"\x30\x80"):
        with pytest.raises(Malformed) as caught:
            pkcs12.read(broken, ann.password)
        assert caught.value.code == "bad-pkcs12"


def test_other_der_is_no_pkcs12(ann: Identity) -> None:
    for other in (ann.leaf.der, ann.key):
        with pytest.raises(Malformed) as caught:
            pkcs12.account(other)
        assert caught.value.code == "bad-pkcs12"


def test_too_large() -> None:
    with pytest.raises(Malformed) as caught:
        pkcs12.read(b"\x30" * (pkcs12.MOST_BYTES + 1), "x")
    assert caught.value.code == "bad-pkcs12"


def test_issuers_come_in_order() -> None:
    who = Identity()
    root = who.pki.root.certificate.public_bytes(serialization.Encoding.DER)
    stranger = pki.make_pki("somebody else").root.certificate.public_bytes(serialization.Encoding.DER)
    made = pkcs12.encode(who.key, who.leaf.der, [stranger, root, who.issuing], friendly_name="", password="x", target="any", random=os.urandom)
    assert pkcs12.read(made, "x").chain == (who.issuing, root, stranger)


def test_a_file_without_key_or_without_its_certificate(ann: Identity) -> None:
    other = pki.make_pki().client("bob")
    mixed = pkcs12.encode(ann.key, other.der, [], friendly_name="", password="x", target="any", random=os.urandom)
    with pytest.raises(Malformed) as caught:
        pkcs12.read(mixed, "x")
    assert caught.value.code == "no-identity"
    only = library.serialize_java_truststore([library.PKCS12Certificate(ann.leaf.certificate, b"a")], serialization.BestAvailableEncryption(b"x"))
    with pytest.raises(Malformed) as caught:
        pkcs12.read(only, "x")
    assert caught.value.code == "no-identity"


@pytest.mark.parametrize("encryption", ["aes", "3des", "none"])
def test_what_cryptography_writes(ann: Identity, encryption: str) -> None:
    builder = serialization.PrivateFormat.PKCS12.encryption_builder()
    how: serialization.KeySerializationEncryption = {
        "aes": builder.kdf_rounds(3000).key_cert_algorithm(library.PBES.PBESv2SHA256AndAES256CBC).build(b"x"),
        "3des": builder.kdf_rounds(3000).key_cert_algorithm(library.PBES.PBESv1SHA1And3KeyTripleDESCBC).build(b"x"),
        "none": serialization.NoEncryption(),
    }[encryption]
    data = library.serialize_key_and_certificates(b"ann", ann.leaf.key, ann.leaf.certificate, [ann.pki.issuing.certificate], how)
    opened = pkcs12.read(data, "" if encryption == "none" else "x")
    assert (opened.pkcs8, opened.certificate, opened.chain, opened.friendly_name) == (ann.key, ann.leaf.der, (ann.issuing,), "ann")


OPENSSL_WAYS = [
    [],
    ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
    ["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC", "-macalg", "sha512"],
    ["-keypbe", "NONE", "-certpbe", "NONE"],
    ["-nomac"],
    ["-noiter"],
    ["-nomaciter"],
]


@pytest.mark.interop
@pytest.mark.parametrize("way", OPENSSL_WAYS, ids=lambda way: " ".join(way) or "default")
def test_what_openssl_writes(ann: Identity, way: list[str], tmp_path: Path, program: Program) -> None:
    (tmp_path / "all.pem").write_bytes(ann.leaf.key_pem + ann.leaf.chain_pem)
    run([program("openssl"), "pkcs12", "-export", "-in", "all.pem", "-name", "ann", "-passout", "pass:geheim ü", "-out", "a.p12", *way], tmp_path)
    data = (tmp_path / "a.p12").read_bytes()
    opened = pkcs12.read(data, "geheim ü")
    assert (opened.certificate, opened.chain, opened.friendly_name) == (ann.leaf.der, (ann.issuing,), "ann")
    assert pkcs8.read(opened.pkcs8).algorithm == pkcs8.EC
    if "NONE" not in way:
        with pytest.raises(Malformed) as caught:
            pkcs12.read(data, "wrong")
        assert caught.value.code == "wrong-password"


@pytest.mark.interop
def test_what_old_openssl_wrote_in_rc2(ann: Identity, tmp_path: Path, program: Program) -> None:
    """`-legacy`: RC2-40 for the certificates, as old exports of Windows and macOS have it."""
    (tmp_path / "all.pem").write_bytes(ann.leaf.key_pem + ann.leaf.chain_pem)
    run([program("openssl"), "pkcs12", "-export", "-legacy", "-in", "all.pem", "-name", "ann", "-passout", "pass:x", "-out", "a.p12"], tmp_path)
    data = (tmp_path / "a.p12").read_bytes()
    assert "RC2-40-CBC, SHA-1" in [part.encryption for part in pkcs12.account(data).parts]
    opened = pkcs12.read(data, "x")
    assert (opened.certificate, opened.chain, opened.friendly_name) == (ann.leaf.der, (ann.issuing,), "ann")
    with pytest.raises(Malformed) as caught:
        pkcs12.read(data, "y")
    assert caught.value.code == "wrong-password"


@pytest.mark.interop
def test_what_nss_writes(ann: Identity, tmp_path: Path, program: Program) -> None:
    """In BER: strings in pieces, lengths left open."""
    (tmp_path / "a.p12").write_bytes(ann.encode("modern", name="ann"))
    (tmp_path / "db").mkdir()
    run([program("certutil"), "-N", "-d", "sql:db", "--empty-password"], tmp_path)
    run([program("pk12util"), "-i", "a.p12", "-d", "sql:db", "-W", ann.password], tmp_path)
    run([program("pk12util"), "-o", "b.p12", "-n", "ann", "-d", "sql:db", "-W", "geheim"], tmp_path)
    data = (tmp_path / "b.p12").read_bytes()
    assert pkcs12.to_der(data) != data
    opened = pkcs12.read(data, "geheim")
    assert opened.certificate == ann.leaf.der
    assert opened.friendly_name == "ann"


@pytest.mark.interop
def test_what_java_writes(ann: Identity, tmp_path: Path, program: Program) -> None:
    (tmp_path / "a.p12").write_bytes(ann.encode("any", name="ann"))
    command = [
        program("keytool"),
        "-J-XX:TieredStopAtLevel=1",
        "-importkeystore",
        "-srckeystore",
        "a.p12",
        "-srcstorepass",
        ann.password,
        "-destkeystore",
        "b.p12",
    ]
    run([*command, "-deststoretype", "PKCS12", "-deststorepass", "geheim"], tmp_path)
    opened = pkcs12.read((tmp_path / "b.p12").read_bytes(), "geheim")
    assert (opened.certificate, opened.chain, opened.friendly_name) == (ann.leaf.der, (ann.issuing,), "ann")


@pytest.mark.interop
def test_what_gnutls_writes(ann: Identity, tmp_path: Path, program: Program) -> None:
    (tmp_path / "key.pem").write_bytes(ann.leaf.key_pem)
    (tmp_path / "leaf.pem").write_bytes(ann.leaf.certificate_pem)
    command = [
        program("certtool"),
        "--to-p12",
        "--load-privkey",
        "key.pem",
        "--load-certificate",
        "leaf.pem",
        "--p12-name",
        "ann",
        "--outder",
        "--outfile",
        "a.p12",
    ]
    run([*command, "--password", "geheim"], tmp_path)
    opened = pkcs12.read((tmp_path / "a.p12").read_bytes(), "geheim")
    assert (opened.certificate, opened.friendly_name) == (ann.leaf.der, "ann")


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.p12")), ids=lambda path: path.name)
def test_vectors_end_in_an_identity_or_a_sentence(path: Path) -> None:
    data = path.read_bytes()
    pkcs12.account(data)
    unprotected = "no-pwd" in path.name or path.name in {"no-password.p12", "java-truststore.p12"}
    password = "" if unprotected else "password" if "-pwd" in path.name else "cryptography"
    try:
        opened = pkcs12.read(data, password)
    except Malformed as refused:
        assert refused.code == "no-identity", refused
        assert "no-cert" in path.name or "no-key" in path.name or "truststore" in path.name
    else:
        assert opened.certificate


def pbmac1(size: int = 32, iterations: int = 1000) -> bytes:
    """A file of ours with its MAC changed to PBMAC1 (RFC 9879)."""
    import hashlib
    import hmac

    who = _shared()
    outer = der.whole(who.encode("modern", password="x"))
    version, content = outer.raw(), outer.raw()
    safe = der.Reader(content).inside()
    safe.oid()
    covered = safe.inside(0xA0).octets()
    prf = der.seq(der.oid("1.2.840.113549.2.9"), der.null())
    kdf = der.seq(der.oid("1.2.840.113549.1.5.12"), der.seq(der.octets(b"salt" * 4), der.integer(iterations), der.integer(size), prf))
    digest = hmac.digest(hashlib.pbkdf2_hmac("sha256", b"x", b"salt" * 4, iterations, size), covered, "sha256")
    algorithm = der.seq(der.oid("1.2.840.113549.1.5.14"), der.seq(kdf, prf))
    return der.seq(version, content, der.seq(der.seq(algorithm, der.octets(digest)), der.octets(b"ignored"), der.integer(1)))


def test_pbmac1_is_read() -> None:
    assert pkcs12.account(pbmac1()).mac == "PBMAC1, HMAC-SHA256"
    assert pkcs12.read(pbmac1(), "x").certificate == _shared().leaf.der
    with pytest.raises(Malformed) as caught:
        pkcs12.read(pbmac1(), "y")
    assert caught.value.code == "wrong-password"
    with pytest.raises(Malformed) as caught:
        pkcs12.read(pbmac1(size=10_000), "x")
    assert caught.value.code == "bad-encryption"


_SHARED: list[Identity] = []


def _shared() -> Identity:
    if not _SHARED:
        _SHARED.append(Identity())
    return _SHARED[0]


@given(st.binary(max_size=200))
def test_garbage_ends_in_a_sentence(data: bytes) -> None:
    for given_data in (data, b"\x30\x80\x02\x01\x03" + data, der.seq(der.integer(3), data)):
        for look in (lambda one: pkcs12.read(one, "x"), pkcs12.account):
            with pytest.raises(GatekeyError):
                look(given_data)


def without_mac() -> bytes:
    """So that damage reaches the inside."""
    outer = der.whole(_shared().encode("any", password="x"))
    return der.seq(outer.raw(), outer.raw())


@given(st.data())
@cases(60)
def test_damage_ends_in_a_sentence_or_the_right_key(data: st.DataObject) -> None:
    changed = data.draw(objects.damaged(without_mac()))
    try:
        opened = pkcs12.read(changed, "x")
    except GatekeyError as refused:
        assert refused.message
    else:
        assert opened.pkcs8 == _shared().key


def test_deep_nesting_ends() -> None:
    with pytest.raises(Malformed):
        pkcs12.to_der(b"\x30\x80" * 100_000)


@pytest.mark.parametrize(
    ("ber", "expected"),
    [
        ("3080020103 0000", "3003020103"),
        ("2480 0401aa 0401bb 0000", "0402aabb"),
        ("3081 03 020105", "3003020105"),
        ("a080 2480 0401aa 0000 0000", "a0030401aa"),
    ],
)
def test_ber_becomes_der(ber: str, expected: str) -> None:
    assert pkcs12.to_der(bytes.fromhex(ber)) == bytes.fromhex(expected)
