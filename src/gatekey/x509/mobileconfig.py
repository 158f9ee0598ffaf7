"""Apple's configuration profile around a PKCS#12: not signed, no password inside, and the same identifiers each time for the same person and device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import pem
from .certificate import read_certificate

#: What a web server must say that hands such a file out; otherwise iOS shows its text.
MEDIA_TYPE = "application/x-apple-aspen-config"

#: Ours alone: with it the identifiers come out of names (RFC 9562 5.5), so that they need not be kept anywhere.
_NAMESPACE = "6f0b5f6e-7e0c-5d57-9a0b-0f4b3c1d9a77"


class Owner(NamedTuple):
    """Whose certificate it is. The three together are the profile's identity: a later profile for the same takes the place of this one on the device."""

    authority: str
    login: str
    device: str = ""


def encode(owner: Owner, pkcs12: bytes, issuers: Sequence[bytes], *, file_name: str) -> bytes:
    """The profile as a property list: one payload with the PKCS#12, one for each certificate of `issuers` (DER), a root apart from the others.

    The device asks for the PKCS#12's password when the profile is installed. `file_name`: how the PKCS#12 is called inside.
    """
    import plistlib  # 15 ms

    identifier = _identifier(owner)
    title = f"{owner.login} - {owner.authority}"
    device = f" ({owner.device})" if owner.device else ""
    identity = {
        **_head(owner, "com.apple.security.pkcs12", f"{identifier}.identity", title),
        "PayloadDescription": "The certificate with its private key. Its password is told another way.",
        "PayloadCertificateFileName": file_name,
        "PayloadContent": pkcs12,
    }
    profile = {
        **_head(owner, "Configuration", identifier, title),
        "PayloadDescription": f"With this certificate {owner.login} opens the private websites of {owner.authority}{device}.",
        "PayloadOrganization": owner.authority,
        "PayloadScope": "User",
        "PayloadRemovalDisallowed": False,
        "PayloadContent": [*(_issuer(owner, f"{identifier}.issuer-{number}", der) for number, der in enumerate(issuers, 1)), identity],
    }
    return plistlib.dumps(profile, sort_keys=False)


def _identifier(owner: Owner) -> str:
    """`gatekey.ann.3f2a...`: what people read, and what tells `a b` from `a-b`."""
    import hashlib

    digest = hashlib.sha256("\0".join(owner).encode()).hexdigest()[:16]
    readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in owner.login).strip("-").lower()
    return f"gatekey.{readable}.{digest}" if readable else f"gatekey.{digest}"


def _head(owner: Owner, kind: str, identifier: str, title: str) -> dict[str, Any]:
    """What every payload has."""
    import uuid

    unique = uuid.uuid5(uuid.UUID(_NAMESPACE), "\0".join((*owner, identifier)))
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": str(unique).upper(),
        "PayloadDisplayName": title,
    }


def _issuer(owner: Owner, identifier: str, der: bytes) -> dict[str, Any]:
    certificate = read_certificate(der)
    kind, ending, content = ("root", "cer", der) if certificate.self_issued else ("pem", "pem", pem.encode("CERTIFICATE", der))
    return {
        **_head(owner, f"com.apple.security.{kind}", identifier, certificate.common_name or certificate.serial),
        "PayloadCertificateFileName": f"{identifier.rpartition('.')[2]}.{ending}",
        "PayloadContent": content,
    }
