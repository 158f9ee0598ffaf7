"""Files as people hand them over: told apart by what is inside, and called by name when they are the wrong thing."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.names import Names
from gatekey.x509 import csr, pem, sniff
from kit import objects
from kit.objects import NOW

Encoding, Private, Nothing = serialization.Encoding, serialization.PrivateFormat, serialization.NoEncryption()


def _csr() -> bytes:
    private = objects.key("p256", 3)
    return csr.encode_csr(Names("ann"), objects.spki_of(private), "p256", functools.partial(objects.sign, private))


def _private(key_type: str, form: serialization.PrivateFormat, password: bytes = b"") -> bytes:
    cipher = serialization.BestAvailableEncryption(password) if password else Nothing
    made: bytes = objects.key(key_type).private_bytes(Encoding.DER, form, cipher)
    return made


def _p12() -> bytes:
    house = objects.house()
    leaf = x509.load_der_x509_certificate(house.certificate(objects.client(key_info=objects.spki_of(objects.key("p256")))))
    return pkcs12.serialize_key_and_certificates(b"ann", objects.key("p256"), leaf, None, serialization.BestAvailableEncryption(b"secret"))


def _p7() -> bytes:
    return pkcs7.serialize_certificates([x509.load_der_x509_certificate(objects.house().root_der)], Encoding.DER)


def _ocsp(*, good: bool) -> bytes:
    if not good:
        return ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)
    import datetime as dt

    house = objects.house()
    root, issuing = x509.load_der_x509_certificate(house.root_der), x509.load_der_x509_certificate(house.issuing_der)
    at = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = ocsp.OCSPResponseBuilder().add_response(issuing, root, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, at, None, None, None)
    return builder.responder_id(ocsp.OCSPResponderEncoding.HASH, root).sign(house.root.private, hashes.SHA256()).public_bytes(Encoding.DER)


#: What each thing is, its PEM label, and its DER.
THINGS: dict[str, tuple[str, str, bytes]] = {
    "certificate": (sniff.CERTIFICATE, "CERTIFICATE", objects.house().certificate()),
    "root": (sniff.CERTIFICATE, "X509 CERTIFICATE", objects.house().root_der),
    "request": (sniff.CSR, "CERTIFICATE REQUEST", _csr()),
    "request of old programs": (sniff.CSR, "NEW CERTIFICATE REQUEST", _csr()),
    "list": (sniff.CRL, "X509 CRL", objects.house().issuing.crl()),
    "PKCS#8 P-256": (sniff.PRIVATE_KEY, "PRIVATE KEY", _private("p256", Private.PKCS8)),
    "PKCS#8 RSA": (sniff.PRIVATE_KEY, "PRIVATE KEY", _private("rsa-2048", Private.PKCS8)),
    "PKCS#8 Ed25519": (sniff.PRIVATE_KEY, "PRIVATE KEY", _private("ed25519", Private.PKCS8)),
    "PKCS#8 ML-DSA": (sniff.PRIVATE_KEY, "PRIVATE KEY", _private("ml-dsa-65", Private.PKCS8)),
    "PKCS#1": (sniff.PRIVATE_KEY, "RSA PRIVATE KEY", _private("rsa-2048", Private.TraditionalOpenSSL)),
    "SEC 1": (sniff.PRIVATE_KEY, "EC PRIVATE KEY", _private("p384", Private.TraditionalOpenSSL)),
    "encrypted PKCS#8": (sniff.ENCRYPTED_PRIVATE_KEY, "ENCRYPTED PRIVATE KEY", _private("p256", Private.PKCS8, b"secret")),
    "public key": (sniff.PUBLIC_KEY, "PUBLIC KEY", objects.spki_of(objects.key("p256"))),
    "RSA public key": (sniff.PUBLIC_KEY, "RSA PUBLIC KEY", objects.key("rsa-2048").public_key().public_bytes(Encoding.DER, serialization.PublicFormat.PKCS1)),
    "PKCS#12": (sniff.PKCS12, "PKCS12", _p12()),
    "PKCS#7": (sniff.PKCS7, "PKCS7", _p7()),
    "OCSP answer": (sniff.OCSP_RESPONSE, "OCSP RESPONSE", _ocsp(good=True)),
    "OCSP refusal": (sniff.OCSP_RESPONSE, "OCSP RESPONSE", _ocsp(good=False)),
}


@pytest.mark.parametrize("name", THINGS)
def test_things_are_known_in_every_wrapping(name: str) -> None:
    kind, label, der = THINGS[name]
    text = pem.encode(label, der)
    assert sniff.sniff(der) == [(kind, der)]
    assert sniff.sniff(text) == [(kind, der)]
    assert sniff.sniff(base64.b64encode(der)) == [(kind, der)]
    assert sniff.sniff(base64.encodebytes(der)) == [(kind, der)]
    assert sniff.sniff(b"\xef\xbb\xbf" + text) == [(kind, der)]  # Windows Notepad
    assert sniff.sniff(text.decode().encode("utf-16")) == [(kind, der)]  # PowerShell's >
    assert sniff.sniff(b"some words\n" + text.replace(b"\n", b"\r\n") + b"more words") == [(kind, der)]
    assert kind in sniff.KINDS
    assert kind in sniff.WORDS


def test_a_file_of_many_things_keeps_their_order() -> None:
    text = b"".join(pem.encode(label, der) for _, label, der in THINGS.values())
    assert sniff.sniff(text) == [(kind, der) for kind, _, der in THINGS.values()]


def test_the_content_counts_and_not_the_label() -> None:
    assert sniff.sniff(pem.encode("CERTIFICATE", _csr()))[0][0] == sniff.CSR


def test_parameters_beside_a_key_are_passed_over() -> None:
    kind, label, der = THINGS["SEC 1"]
    text = pem.encode("EC PARAMETERS", bytes.fromhex("06052b81040022")) + pem.encode(label, der)
    assert sniff.sniff(text) == [(kind, der)]


def test_an_old_encrypted_key_comes_with_its_headers() -> None:
    private = objects.key("rsa-2048")
    text = private.private_bytes(Encoding.PEM, Private.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret"))
    ((kind, whole),) = sniff.sniff(b"words\n" + text)
    assert (kind, whole) == (sniff.ENCRYPTED_PRIVATE_KEY, text)


def test_certificates_with_the_trust_settings_of_openssl() -> None:
    der = objects.house().root_der
    assert sniff.sniff(pem.encode("TRUSTED CERTIFICATE", der + bytes.fromhex("300c300a06082b06010505070301"))) == [(sniff.CERTIFICATE, der)]


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("ann.csr", _csr())
    return out.getvalue()


OPENSSH = objects.key("ed25519").private_bytes(Encoding.PEM, Private.OpenSSH, Nothing)
OPENSSH_PUBLIC = objects.key("ed25519").public_key().public_bytes(Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
PGP = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"

#: What people hand over by mistake, and the words that they must be told.
WRONG: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "empty-file", "the file is empty"),
    "blanks": (b" \r\n\t\n", "empty-file", "nothing but blanks"),
    "OpenSSH key": (OPENSSH, "unknown-file", "an OpenSSH private key"),
    "OpenSSH public key": (OPENSSH_PUBLIC, "unknown-file", "an SSH public key"),
    "SSH2 public key": (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n", "unknown-file", "an SSH public key"),
    "PuTTY key": (b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "unknown-file", "a PuTTY private key"),
    "PGP": (PGP, "unknown-file", "an OpenPGP file"),
    "JKS": (b"\xfe\xed\xfe\xed\0\0\0\2", "unknown-file", "a Java key store"),
    "ZIP": (_zip(), "unknown-file", "a ZIP archive"),
    "gzip": (gzip.compress(_csr()), "unknown-file", "a gzip file"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\n", "unknown-file", "a PDF document"),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "unknown-file", "a PNG picture"),
    "web page": (b"<!DOCTYPE html>\n<html><title>Sign in</title>", "unknown-file", "a web page"),
    "web page of old": (b"\n\n<!-- x --><HTML><BODY>404", "unknown-file", "a web page"),
    "JSON": (b'{"error": "not found"}', "unknown-file", "this is JSON"),
    "XML": (b"<?xml version='1.0'?><plist/>", "unknown-file", "this is XML"),
    "printed certificate": (b"Certificate:\n    Data:\n        Version: 3 (0x2)\n", "unknown-file", "printed description"),
    "ledger": (b"SQLite format 3\0" + bytes(80), "unknown-file", "an SQLite database"),
    "script": (b"#!/bin/sh\nexit 1\n", "unknown-file", "a script"),
    "program": (b"\x7fELF\x02\x01\x01", "unknown-file", "a program"),
    "text": (b"hello, world\n", "unknown-file", "this is text"),
    "noise": (bytes(range(256)), "unknown-file", "this is binary data"),
    "cut DER": (objects.house().root_der[:-5], "unknown-file", "cut, damaged"),
    "other DER": (b"\x30\x03\x02\x01\x05", "unknown-file", "begins like DER"),
    "other PEM": (pem.encode("DH PARAMETERS", b"\x30\x00"), "unknown-file", "only key parameters"),
    "strange PEM": (pem.encode("CERTIFICATE", b"\x30\x00"), "unknown-file", "the PEM block CERTIFICATE holds none"),
    "cut PEM": (pem.encode("CERTIFICATE", objects.house().root_der)[:-30], "bad-pem", "no END line"),
    "UTF-16 noise": (b"\xff\xfe\xe4\x00\xf6\x00", "unknown-file", "of an unknown kind"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_called_by_their_name(name: str) -> None:
    content, code, words = WRONG[name]
    with pytest.raises(Malformed) as refusal:
        sniff.sniff(content)
    assert refusal.value.code == code
    assert words in refusal.value.message
    assert not refusal.value.message.endswith(".")
    assert refusal.value.message[0].islower()


def test_a_secret_is_never_repeated_in_a_sentence() -> None:
    for content, _, _ in WRONG.values():
        with pytest.raises(Malformed) as refusal:
            sniff.sniff(content)
        assert len(refusal.value.message + refusal.value.hint) < 300


def test_what_can_be_converted_says_how() -> None:
    for name in ("OpenSSH key", "PuTTY key", "JKS", "ZIP"):
        with pytest.raises(Malformed) as refusal:
            sniff.sniff(WRONG[name][0])
        assert refusal.value.hint


@given(st.data(), st.sampled_from(sorted(THINGS)))
def test_damaged_files_end_in_things_or_a_sentence(data: st.DataObject, name: str) -> None:
    _, label, der = THINGS[name]
    content = data.draw(objects.damaged(der if data.draw(st.booleans()) else pem.encode(label, der)))
    _try(content)


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda content: b"\x30\x80" + content), st.text(max_size=60).map(str.encode)))
def test_any_bytes_end_in_things_or_a_sentence(content: bytes) -> None:
    _try(content)


def _try(content: bytes) -> None:
    try:
        found = sniff.sniff(content)
    except GatekeyError as error:
        assert error.code in ("empty-file", "unknown-file", "bad-pem")
    else:
        assert found
        assert all(kind in sniff.KINDS for kind, _ in found)


# Outside judges

VECTORS = Path(cryptography_vectors.__path__[0])


def test_certificates_of_the_whole_world_are_known() -> None:
    """All of cryptography's and NIST's certificates, CRLs and requests, by their structure alone."""
    loads: dict[str, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]] = {
        sniff.CERTIFICATE: (x509.load_pem_x509_certificate, x509.load_der_x509_certificate),
        sniff.CRL: (x509.load_pem_x509_crl, x509.load_der_x509_crl),
        sniff.CSR: (x509.load_pem_x509_csr, x509.load_der_x509_csr),
    }
    wrong, count = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((VECTORS / "x509").rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            for kind, (load_pem, load_der) in loads.items():
                try:
                    encoded = (load_pem if b"-----BEGIN" in content else load_der)(content).public_bytes(Encoding.DER)
                except (ValueError, x509.InvalidVersion):
                    continue
                count += 1
                if sniff.kind_of(encoded) != kind:
                    wrong[str(path.relative_to(VECTORS))] = sniff.kind_of(encoded)
    assert count > 700
    assert wrong == {}


def test_keys_and_pkcs12_of_the_whole_world_are_known() -> None:
    kinds: dict[str, set[str]] = {}
    for path in sorted((VECTORS / "asymmetric").rglob("*.pem")) + sorted((VECTORS / "pkcs12").glob("*.p12")):
        try:
            found = {kind for kind, _ in sniff.sniff(path.read_bytes())}
        except Malformed as error:
            found = {error.code}
        kinds.setdefault(path.parent.name, set()).update(found)
    assert kinds["pkcs12"] == {sniff.PKCS12}
    assert kinds["PKCS8"] <= {sniff.PRIVATE_KEY, sniff.ENCRYPTED_PRIVATE_KEY, sniff.PUBLIC_KEY, "unknown-file", "bad-pem"}
    assert {sniff.PRIVATE_KEY, sniff.ENCRYPTED_PRIVATE_KEY} <= kinds["Traditional_OpenSSL_Serialization"]


@pytest.mark.interop
def test_files_that_openssl_writes_are_known(program: Callable[[str], str], tmp_path: Path) -> None:
    openssl = program("openssl")
    run = functools.partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True)
    run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-keyout", "k.pem", "-out", "c.pem"])
    run([openssl, "rsa", "-in", "k.pem", "-traditional", "-aes128", "-passout", "pass:secret", "-out", "old.pem"])
    run([openssl, "pkcs8", "-topk8", "-in", "k.pem", "-passout", "pass:secret", "-out", "new.pem"])
    run([openssl, "pkcs12", "-export", "-inkey", "k.pem", "-in", "c.pem", "-passout", "pass:secret", "-out", "a.p12"])
    run([openssl, "pkcs12", "-in", "a.p12", "-passin", "pass:secret", "-nodes", "-out", "bag.pem"])
    run([openssl, "crl2pkcs7", "-nocrl", "-certfile", "c.pem", "-out", "a.p7b"])
    run([openssl, "cms", "-encrypt", "-stream", "-outform", "DER", "-in", "c.pem", "-out", "ber.p7m", "c.pem"])
    run([openssl, "x509", "-in", "c.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem"])
    run([openssl, "x509", "-in", "c.pem", "-text", "-out", "text.pem"])
    run([openssl, "x509", "-in", "c.pem", "-noout", "-text", "-out", "only-text.txt"])
    kinds = {path.name: [kind for kind, _ in sniff.sniff(path.read_bytes())] for path in tmp_path.iterdir() if path.name != "only-text.txt"}
    assert kinds == {
        "k.pem": [sniff.PRIVATE_KEY],
        "c.pem": [sniff.CERTIFICATE],
        "old.pem": [sniff.ENCRYPTED_PRIVATE_KEY],
        "new.pem": [sniff.ENCRYPTED_PRIVATE_KEY],
        "a.p12": [sniff.PKCS12],
        "bag.pem": [sniff.CERTIFICATE, sniff.PRIVATE_KEY],
        "a.p7b": [sniff.PKCS7],
        "ber.p7m": [sniff.PKCS7],
        "trusted.pem": [sniff.CERTIFICATE],
        "text.pem": [sniff.CERTIFICATE],
    }
    with pytest.raises(Malformed, match="printed description"):
        sniff.sniff((tmp_path / "only-text.txt").read_bytes())
