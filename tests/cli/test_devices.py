"""Files for devices as the command line hands them over: Apple's profile from every verb that makes one, and the request that Windows makes in its TPM."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gatekey.x509 import der, names, oids, pem, pkcs12
from gatekey.x509.certificate import read_certificate
from kit.administrator import Administrator, typed

IDENTITY, ISSUER, ROOT = "com.apple.security.pkcs12", "com.apple.security.pem", "com.apple.security.root"


class Profile:
    """A .mobileconfig and the password that came with it."""

    def __init__(self, path: Path, password: str) -> None:
        self.path = path
        self.raw = path.read_bytes()
        self.password = password
        self.values: dict[str, Any] = plistlib.loads(self.raw)
        self.payloads = {payload["PayloadType"]: payload for payload in self.values["PayloadContent"]}
        self.inner: bytes = self.payloads[IDENTITY]["PayloadContent"]

    @property
    def identity(self) -> list[tuple[str, str]]:
        return [(one["PayloadIdentifier"], one["PayloadUUID"]) for one in (self.values, *self.values["PayloadContent"])]

    @property
    def opened(self) -> pkcs12.Opened:
        return pkcs12.read(self.inner, self.password)


def profile(admin: Administrator, *words: object, out: str = ".", login: str = "ann") -> Profile:
    """Types a command that makes a profile, and opens what came of it."""
    secret = admin.folder / f"pw-{len(list(admin.folder.glob('pw-*')))}"
    admin(*words, "--for", "apple", "--password-file", secret)
    path = admin.folder / out
    return Profile(path / f"{login}.mobileconfig" if path.is_dir() else path, secret.read_text().strip())


def certificate(path: Path) -> bytes:
    return pem.decode(path.read_bytes())[0][1]


def test_a_profile_for_a_new_person(admin: Administrator) -> None:
    made = profile(admin, "issue", "client", "ann", "--device", "phone", "--key-type", "rsa-2048")
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert not (admin.folder / "ann.p12").exists()
    assert set(made.payloads) == {ISSUER, IDENTITY}, "the root that web servers trust is not made a root of the device"
    assert made.opened.certificate == certificate(admin.folder / "ann.crt")
    assert len(made.opened.chain) == 1
    assert pem.decode(made.payloads[ISSUER]["PayloadContent"])[0][1] == made.opened.chain[0]
    account = pkcs12.account(made.inner)
    assert {part.encryption for part in account.parts} == {"pbeWithSHA1And3-KeyTripleDES-CBC"}
    assert (account.mac, account.mac_iterations) == ("HMAC-SHA1", 2048)
    assert "Password" not in made.payloads[IDENTITY]
    assert made.password.encode() not in made.raw
    assert "ann" in made.values["PayloadDisplayName"]


def test_renewed_or_made_again_it_takes_the_place_of_the_first(admin: Administrator) -> None:
    first = profile(admin, "issue", "client", "ann", "--device", "phone")
    renewed = profile(admin, "renew", "ann", "--new-key", "--out", "renewed", out="renewed")
    again = profile(admin, "p12", "ann.crt", "--key", "ann.key", "--device", "phone", "--out", "again.mobileconfig", out="again.mobileconfig")
    assert renewed.opened.certificate != first.opened.certificate
    assert again.opened.certificate == first.opened.certificate
    assert len({first.password, renewed.password, again.password}) == 3
    assert first.identity == renewed.identity == again.identity


def test_other_devices_and_people_have_profiles_of_their_own(admin: Administrator) -> None:
    made = [
        profile(admin, "issue", "client", "ann", "--device", "phone", "--out", "1", out="1"),
        profile(admin, "issue", "client", "ann", "--device", "tablet", "--out", "2", out="2"),
        profile(admin, "issue", "client", "bob", "--device", "phone", "--out", "3", out="3", login="bob"),
        profile(admin, "p12", "1/ann.crt", "--key", "1/ann.key", "--out", "4.mobileconfig", out="4.mobileconfig"),
    ]
    assert len({identifier for one in made for identifier, _ in one.identity}) == sum(len(one.identity) for one in made)


def test_under_one_authority_for_both_sides_it_is_the_issuer_and_the_root(flat: Administrator) -> None:
    made = profile(flat, "issue", "client", "ann")
    assert set(made.payloads) == {ROOT, IDENTITY}
    root = read_certificate(made.payloads[ROOT]["PayloadContent"])
    assert root.ca
    assert root.self_issued
    flat("authority", "export", "--out", "root.crt")
    again = profile(flat, "p12", "ann.crt", "--key", "ann.key", "--chain", "root.crt", "--out", "again.mobileconfig", out="again.mobileconfig")
    assert again.identity == made.identity


def test_the_password_is_shown_once_and_never_in_json(admin: Administrator) -> None:
    answer = admin("issue", "client", "ann", "--for", "apple")
    found = re.search(r"password of ann\.mobileconfig:  (\S+)", answer.err)
    assert found
    assert pkcs12.read(Profile(admin.folder / "ann.mobileconfig", "").inner, found[1])
    assert "--key-type rsa-2048" in answer.err
    told = admin("p12", "ann.crt", "--key", "ann.key", "--for", "apple", "--json", "--out", "b.mobileconfig")
    assert told.json == {"file": "b.mobileconfig", "target": "apple"}


@pytest.mark.parametrize("key_type", ["ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
@pytest.mark.parametrize("target", ["any", "modern", "apple"])
def test_keys_that_no_device_takes_are_refused_before_anything_is_made(admin: Administrator, key_type: str, target: str) -> None:
    before = admin.print()
    answer = admin("issue", "client", "ann", "--key-type", key_type, "--for", target, code=1)
    assert f"{key_type} keys cannot be used by browsers and key stores" in answer.err
    assert "--for pem" in answer.err
    assert admin.print() == before


def test_nothing_is_overwritten(admin: Administrator) -> None:
    (admin.folder / "ann.mobileconfig").write_text("mine")
    before = admin.print()
    assert "exists already" in admin("issue", "client", "ann", "--for", "apple", code=1).err
    assert admin.print() == before


def test_a_device_is_said_for_apple_only(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    assert "--for apple" in admin("p12", "ann.crt", "--key", "ann.key", "--device", "phone", "--out", "b.p12", code=2).err


def test_the_request_that_windows_makes_in_its_tpm(admin: Administrator) -> None:
    """As certreq writes it: another label in the PEM, attributes about the machine, and wishes that are not granted."""
    key = rsa.generate_private_key(65537, 2048)
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    provider = der.tlv(der.BMP, "Microsoft Platform Crypto Provider".encode("utf-16-be"))
    attributes = (
        der.seq(der.oid(oids.MS_OS_VERSION), der.set_of(der.tlv(der.IA5, b"10.0.22631.2."))),
        der.seq(der.oid(oids.MS_REQUEST_CLIENT_INFO), der.set_of(der.seq(der.integer(9), der.utf8("pc7"), der.utf8("PC7\\ann"), der.utf8("certreq.exe")))),
        der.seq(der.oid(oids.MS_ENROLLMENT_CSP), der.set_of(der.seq(der.integer(0), provider, der.bits(b"")))),
    )
    info = der.seq(der.integer(0), names.encode_name("ann"), spki, der.explicit(0, *sorted(attributes)))
    signed = key.sign(info, padding.PKCS1v15(), hashes.SHA256())
    request = pem.encode("NEW CERTIFICATE REQUEST", der.seq(info, der.seq(der.oid(oids.RSA_SHA256), der.null()), der.bits(signed)))
    (admin.folder / "ann.csr").write_bytes(request.replace(b"\n", b"\r\n"))
    admin("issue", "client", "ann", "--csr", "ann.csr", "--device", "pc7")
    leaf = read_certificate(certificate(admin.folder / "ann.crt"))
    assert (leaf.spki, leaf.common_name, leaf.extended, leaf.key_usage) == (spki, "ann", ("clientAuth",), ("digitalSignature",))
    assert not list(admin.folder.glob("*.key"))


@pytest.mark.parametrize("key_type", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_ml_dsa_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_type: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("request", "ann", "--key-type", key_type).code == 0
    shown = typed("show", "ann.csr", "--json").json
    assert (shown["key"], shown["proof"]) == (key_type, True)
