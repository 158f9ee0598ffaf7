"""What `show FILE` says about a file, in words and as JSON: nothing secret in it, nothing that a stranger's file can break."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from gatekey.cli.account import SHOWN_ENTRIES, account, account_json
from gatekey.errors import GatekeyError, Malformed
from gatekey.model.names import Names
from gatekey.model.plan import NameConstraints
from gatekey.x509 import pem, pkcs8, pkcs12, sniff
from kit import objects, pki

NOW = int(time.time())
DAY = 86_400


def told(kind: str, der: bytes, **more: Any) -> dict[str, str]:
    """The lines by name; each name stands there once, unless it is about what is inside."""
    return dict(account(kind, der, **more))


def der_of(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def people() -> pki.Pki:
    return pki.make_pki()


def test_a_client(people: pki.Pki) -> None:
    ann = people.client("ann")
    lines = told("certificate", ann.der, now=people.now)
    assert lines["this is"] == "a certificate for a client"
    assert lines["subject"] == "CN=ann"
    assert lines["e-mail"] == "ann@example.com"
    assert lines["issuer"] == "CN=kitty-ca people"
    assert lines["serial"] == ann.serial
    assert lines["valid until"].endswith("(in 30 days)")
    assert lines["public key"] == "EC P-256"
    assert lines["good for"] == "signing in as a client (clientAuth)"
    assert lines["key usage"] == "digitalSignature"
    assert lines["signed with"] == "ECDSA with SHA-256"
    assert lines["SHA-256"] == ann.fingerprint


def test_as_json(people: pki.Pki) -> None:
    ann = people.client("ann")
    value = account_json("certificate", ann.der, now=people.now)
    assert json.loads(json.dumps(value)) == value
    assert value["kind"] == "certificate"
    assert value["common_name"] == "ann"
    assert value["emails"] == ["ann@example.com"]
    assert value["serial"] == ann.serial
    assert value["sha256"] == ann.fingerprint
    assert value["usage"] == ["clientAuth"]
    assert value["ca"] is False
    assert value["state"] == "valid"
    assert value["key"] == "p256"
    assert value["not_after"].endswith("Z")


@pytest.mark.parametrize(
    ("at", "state", "line", "words"),
    [
        (-2 * 3600, "not-yet-valid", "valid from", "(not yet)"),
        (0, "valid", "valid until", "(in 30 days)"),
        (33 * DAY, "expired", "valid until", "(expired 3 days ago)"),
    ],
)
def test_states(people: pki.Pki, at: int, state: str, line: str, words: str) -> None:
    ann = people.client("ann")
    assert account_json("certificate", ann.der, now=people.now + at)["state"] == state
    assert told("certificate", ann.der, now=people.now + at)[line].endswith(words)


def test_without_a_clock_nothing_is_judged(people: pki.Pki) -> None:
    ann = people.client("ann")
    assert "state" not in account_json("certificate", ann.der)
    assert "(" not in told("certificate", ann.der)["valid until"]


def test_roles(people: pki.Pki) -> None:
    assert told("certificate", der_of(people.root.certificate))["this is"] == "the certificate of a root authority"
    assert told("certificate", der_of(people.issuing.certificate))["this is"] == "the certificate of an issuing authority"
    assert told("certificate", people.server("a.test").der)["this is"] == "a certificate for a server"
    assert told("certificate", people.client("ann", usage=(pki.CLIENT, pki.SERVER)).der)["this is"] == "a certificate for a client and a server"
    assert told("certificate", pki.self_signed("ann")._replace().der)["this is"] == "a certificate for a client"
    assert told("certificate", people.client("ann", usage=()).der)["this is"] == "a certificate"


def test_a_ca_and_what_it_may_do(people: pki.Pki) -> None:
    lines = told("certificate", der_of(people.issuing.certificate))
    assert lines["CAs below it"] == "none: it signs end certificates only"
    assert lines["good for"] == "signing certificates"
    assert told("certificate", der_of(people.root.certificate))["CAs below it"] == "any number"
    assert told("certificate", der_of(people.root.certificate))["issuer"].endswith("(itself)")


def test_everything_a_plan_can_hold() -> None:
    constraints = NameConstraints(dns=("example.com",), emails=("example.com",), no_ips=True)
    plan = objects.client(
        Names("", dns=("a.example.com", "b.example.com"), ips=("192.0.2.1",)),
        crl_urls=("http://ca.example/x.crl",),
        issuer_urls=("http://ca.example/x.crt",),
        ocsp_urls=("http://ocsp.example/",),
        constraints=constraints,
        no_check=True,
    )
    der = objects.house().certificate(plan)
    lines = told("certificate", der)
    assert lines["subject"] == "(empty)"
    assert lines["host names"] == "a.example.com\nb.example.com"
    assert lines["addresses"] == "192.0.2.1"
    assert lines["CRL at"] == "http://ca.example/x.crl"
    assert lines["issuer at"] == "http://ca.example/x.crt"
    assert lines["OCSP at"] == "http://ocsp.example/"
    assert "permitted DNS example.com" in lines["limited to"]
    assert "excluded IP 0.0.0.0/0" in lines["limited to"]
    assert lines["also says"] == "OCSP no check"
    value = account_json("certificate", der)
    assert value["name_constraints"]["permitted"] == {"DNS": ["example.com"], "email": ["example.com"]}
    assert value["other_extensions"] == [{"oid": "1.3.6.1.5.5.7.48.1.5", "critical": False}]


def request(*, good: bool = True) -> bytes:
    key = objects.key("p256")
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www.example.com")]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example.com")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return der if good else der[:-1] + bytes([der[-1] ^ 1])


def test_a_request() -> None:
    lines = told("csr", request())
    assert lines["this is"] == "a request for a certificate"
    assert lines["host names"] == "www.example.com"
    assert lines["signed by its key"] == "yes"
    assert lines["also asks for"].startswith("to be a CA\n(never granted")
    value = account_json("csr", request())
    assert (value["proof"], value["wants"], value["common_name"]) == (True, ["to be a CA"], "www.example.com")


def test_a_request_that_nobody_signed() -> None:
    assert told("csr", request(good=False))["signed by its key"].startswith("NO")
    assert account_json("csr", request(good=False))["proof"] is False


def crl_of(people: pki.Pki, state: str = "fresh") -> bytes:
    return pem.decode(people.crl("issuing", state))[0][1]


def test_a_crl() -> None:
    people = pki.make_pki()
    bob = people.client("bob")
    people.revoke(bob, at=people.now - 60)
    lines = told("crl", crl_of(people), now=people.now)
    assert lines["this is"] == "a list of revoked certificates (CRL)"
    assert lines["revoked"] == "1 certificate"
    assert lines["good until"].endswith("(in 30 days)")
    assert lines["entries"].startswith(bob.serial)
    assert lines["entries"].endswith("key-compromise")
    value = account_json("crl", crl_of(people), now=people.now)
    assert value["entries"][0]["serial"] == bob.serial
    assert (value["state"], value["count"], value["entries_left_out"], value["scope"]) == ("fresh", 1, 0, None)
    assert account_json("crl", crl_of(people, "expired"), now=people.now)["state"] == "expired"
    assert account_json("crl", crl_of(people, "not-yet"), now=people.now)["state"] == "not-yet-valid"


def test_a_long_crl_is_cut_for_people() -> None:
    people = pki.make_pki()
    people.revoked = dict.fromkeys(range(1, SHOWN_ENTRIES + 6), people.now - 60)
    lines = told("crl", crl_of(people))
    assert lines["entries"].endswith("\n... and 5 more")
    assert len(lines["entries"].split("\n")) == SHOWN_ENTRIES + 1
    assert len(account_json("crl", crl_of(people))["entries"]) == SHOWN_ENTRIES + 5


def p12(people: pki.Pki, target: str) -> bytes:
    ann = people.client("ann")
    key = pkcs8.unlock(ann.key_pem, None)
    return pkcs12.encode(key, ann.der, [der_of(people.issuing.certificate)], friendly_name="Ann", password="geheim", target=target, random=os.urandom)


@pytest.mark.parametrize("target", pkcs12.TARGETS)
def test_a_pkcs12(people: pki.Pki, target: str) -> None:
    data = p12(people, target)
    assert sniff.sniff(data)[0][0] == "pkcs12"
    shut = told("pkcs12", data)
    assert "inside" in shut
    assert shut["goes by"] == "Ann"
    assert "subject" not in shut
    assert account_json("pkcs12", data)["target"] == target
    lines = told("pkcs12", data, password="geheim", now=people.now)
    assert lines["inside"] == "a certificate for a client"
    assert lines["with issuers"] == "CN=kitty-ca people"
    value = account_json("pkcs12", data, password="geheim", now=people.now)
    assert value["kind"] == "pkcs12"
    assert value["certificate"]["common_name"] == "ann"
    with pytest.raises(Malformed) as caught:
        account("pkcs12", data, password="wrong")
    assert caught.value.code == "wrong-password"


@pytest.mark.parametrize("key_type", ["p256", "rsa-2048", "ed25519", "ml-dsa-44"])
def test_keys(key_type: str) -> None:
    key = objects.key(key_type)
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    sealed = pkcs8.encrypt(plain, b"pw", salt=b"s" * 16, iv=b"i" * 16, iterations=7)
    public = told("public-key", objects.spki_of(key))
    assert public["this is"] == "a public key"
    assert "NOT encrypted" in told("private-key", plain)["this is"]
    assert told("private-key", plain)["key SHA-256"] == public["key SHA-256"]
    assert told("encrypted-private-key", sealed)["encrypted with"] == "PBES2, AES-256-CBC, PBKDF2-HMAC-SHA256, 7 iterations"
    assert "key SHA-256" not in told("encrypted-private-key", sealed)
    assert told("encrypted-private-key", sealed, password="pw")["key SHA-256"] == public["key SHA-256"]
    assert account_json("private-key", plain)["key"] == key_type


def test_an_old_encrypted_key_is_called_weak() -> None:
    text = objects.key("rsa-2048").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"pw")
    )
    kind, block = sniff.sniff(text)[0]
    assert "weak" in told(kind, block)["encrypted with"]
    assert told(kind, block, password="pw")["public key"] == "RSA 2048"


def test_no_private_number_is_ever_shown() -> None:
    key = objects.key("p256")
    secret = f"{key.private_numbers().private_value:X}"
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    shown = json.dumps(account("private-key", plain)) + json.dumps(account_json("private-key", plain))
    assert secret not in shown.upper()


def test_names_cannot_talk_to_the_terminal() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ann\x1b[2J\u202egnp.exe")])
    key = objects.key("p256")
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    lines = told("csr", builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    assert "\x1b" not in lines["subject"]
    assert "\u202e" not in lines["subject"]


@pytest.mark.parametrize("kind", ["pkcs7", "ocsp-response", "unknown"])
def test_what_is_not_read_is_said(kind: str) -> None:
    assert told(kind, b"x" * 10)["size"] == "10 bytes"


@given(st.sampled_from(sniff.KINDS), st.binary(max_size=200))
def test_garbage_ends_in_a_sentence_or_an_account(kind: str, data: bytes) -> None:
    for look in (lambda: account(kind, data, now=NOW, password="x"), lambda: account_json(kind, data, now=NOW)):
        try:
            json.dumps(look())
        except GatekeyError as refused:
            assert refused.message


@given(objects.damaged(objects.house().certificate()), objects.damaged(objects.house().issuing.crl()))
def test_damaged_files_end_in_a_sentence_or_an_account(certificate: bytes, crl: bytes) -> None:
    for kind, data in (("certificate", certificate), ("crl", crl)):
        try:
            assert json.dumps(account_json(kind, data, now=NOW))
        except GatekeyError as refused:
            assert refused.message
