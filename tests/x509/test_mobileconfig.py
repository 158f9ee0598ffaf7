"""Apple's profile: payloads, identifiers that stay, and never a password inside."""

from __future__ import annotations

import os
import plistlib
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.model import passwords
from gatekey.x509 import mobileconfig, pkcs12, sniff
from gatekey.x509.mobileconfig import Owner
from kit import pki
from kit.cases import cases

ANN = Owner("kitty-ca people", "ann", "phone")


@pytest.fixture(scope="module")
def people() -> pki.Pki:
    return pki.make_pki()


def der(ca: pki.Ca) -> bytes:
    return pki.Leaf("", ca.certificate, ca.key, ()).der


def read(profile: bytes) -> dict[str, Any]:
    found = plistlib.loads(profile)
    assert isinstance(found, dict)
    return found


def payloads(profile: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {payload["PayloadType"]: payload for payload in profile["PayloadContent"]}


def test_payloads(people: pki.Pki) -> None:
    found = read(mobileconfig.encode(ANN, b"\x30the file", [der(people.root), der(people.issuing)], file_name="ann.p12"))
    assert (found["PayloadType"], found["PayloadVersion"], found["PayloadRemovalDisallowed"]) == ("Configuration", 1, False)
    inside = payloads(found)
    assert list(inside) == ["com.apple.security.root", "com.apple.security.pem", "com.apple.security.pkcs12"]
    assert inside["com.apple.security.root"]["PayloadContent"] == der(people.root)
    assert inside["com.apple.security.pem"]["PayloadContent"] == people.issuing.pem
    assert inside["com.apple.security.pkcs12"]["PayloadContent"] == b"\x30the file"
    assert inside["com.apple.security.pkcs12"]["PayloadCertificateFileName"] == "ann.p12"
    for payload in (found, *found["PayloadContent"]):
        assert str(uuid.UUID(payload["PayloadUUID"])).upper() == payload["PayloadUUID"]
        assert payload["PayloadVersion"] == 1
        assert payload["PayloadDisplayName"]
        assert re.fullmatch(r"gatekey\.ann\.[0-9a-f]{16}(\.[a-z0-9-]+)?", payload["PayloadIdentifier"])


def test_no_password_inside(people: pki.Pki) -> None:
    """Not under its key and not in any text: the profile is only obfuscated, not encrypted."""
    ann = people.client("ann")
    from cryptography.hazmat.primitives import serialization

    key = ann.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    password = passwords.generate(os.urandom)
    inner = pkcs12.encode(key, ann.der, [der(people.issuing)], friendly_name="ann", password=password, target="any", random=os.urandom)
    profile = mobileconfig.encode(ANN, inner, [der(people.issuing)], file_name="ann.p12")
    assert b"<key>Password</key>" not in profile
    assert password.encode() not in profile
    opened = pkcs12.read(payloads(read(profile))["com.apple.security.pkcs12"]["PayloadContent"], password)
    assert (opened.pkcs8, opened.certificate) == (key, ann.der)


def identities(owner: Owner, issuers: list[bytes], content: bytes = b"x") -> list[tuple[str, str]]:
    found = read(mobileconfig.encode(owner, content, issuers, file_name="a.p12"))
    return [(one["PayloadIdentifier"], one["PayloadUUID"]) for one in (found, *found["PayloadContent"])]


def test_identifiers_stay_when_the_certificate_is_renewed(people: pki.Pki) -> None:
    before = identities(ANN, [der(people.issuing)], b"old")
    assert identities(ANN, [der(people.foreign().issuing)], b"new") == before
    flat = [value for pair in before for value in pair]
    assert len(flat) == len(set(flat)), "every payload has identifiers of its own"


def test_another_person_device_or_authority_is_another_profile() -> None:
    owners = [
        ANN,
        ANN._replace(device="laptop"),
        ANN._replace(device=""),
        ANN._replace(login="bob"),
        ANN._replace(authority="other"),
        Owner("kitty-ca people", "a b"),
        Owner("kitty-ca people", "a-b"),
        Owner("kitty-ca people", "ann phone"),
    ]
    found = [pair for owner in owners for pair in identities(owner, [])]
    assert len({identifier for identifier, _ in found}) == len({unique for _, unique in found}) == len(found)


@given(st.builds(Owner, *(st.text("abc äß._@- <&>'\"", max_size=64) for _ in range(3))))
@cases(50)
def test_any_name(owner: Owner) -> None:
    found = read(mobileconfig.encode(owner, b"x", [], file_name="a.p12"))
    assert re.fullmatch(r"gatekey\.[a-z0-9.-]+", found["PayloadIdentifier"])
    assert found["PayloadOrganization"] == owner.authority


def test_the_same_again_is_the_same() -> None:
    assert mobileconfig.encode(ANN, b"x", [], file_name="a.p12") == mobileconfig.encode(ANN, b"x", [], file_name="a.p12")


def test_whoever_shows_us_a_profile_is_told_what_it_is() -> None:
    with pytest.raises(Malformed, match="an Apple profile"):
        sniff.sniff(mobileconfig.encode(ANN, b"x", [], file_name="a.p12"))
