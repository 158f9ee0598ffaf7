"""The one value into which every way of asking is translated, and the facts about its key that policy judges."""

from __future__ import annotations

from typing import NamedTuple

from .names import Names


class CertificateId(NamedTuple):
    """What identifies a certificate: its issuer (the authority's short name) and its serial (32 upper-case hex digits)."""

    issuer: str
    serial: str


class Request(NamedTuple):
    """Somebody asks for a certificate.

    `profile`: the name of the profile. `names`: the names asked for, already chosen by the door (from the command line, the record of a person, or a CSR).
    `spki`: SubjectPublicKeyInfo, DER. `holder`: login of the person, or first name of the server. `device`: the person's device, or "".
    `days` or `not_after` (POSIX seconds): what was asked for explicitly; None leaves it to the profile.
    `proof`: how possession of the key was shown: "csr" (its self-signature holds), "made-here", "own-key" (the private key was at hand), "same-key" (the key
    of the certificate that is renewed).
    `requester` and `idempotency`: who asks, and their key for asking again. `door`: cli, api, acme, ...
    `renews`: the certificate that this one follows. `asked`: digest of the words in which a door was asked, where the idempotency key is bound to those; or "".
    """

    profile: str
    names: Names
    spki: bytes
    holder: str
    device: str = ""
    days: int | None = None
    not_after: int | None = None
    proof: str = "made-here"
    requester: str = "local"
    door: str = "cli"
    idempotency: str = ""
    renews: CertificateId | None = None
    issuer: str = ""
    asked: str = ""


class KeyFacts(NamedTuple):
    """What is known about a public key when policy decides.

    `label`: key type (`p256`, `rsa-2048`, ...) or "" when unknown, `described` in words. `sha256`: of the SPKI, hex.
    `weaknesses`: findings of the weak-key tests, in words. `compromised`: it was reported so. `authority`: the authority whose own key it is, or "".
    `other_holder`: somebody else whose certificates use it, or "".
    """

    label: str
    described: str
    bits: int
    exponent: int
    sha256: str
    weaknesses: tuple[str, ...] = ()
    compromised: bool = False
    authority: str = ""
    other_holder: str = ""


class IssuerFacts(NamedTuple):
    """What policy must know of the authority that would sign. `permitted_*`: its name constraints; None where it has none.

    `permitted_dns` holds DNS subtrees (`example.com` covers itself and all below), `permitted_emails` rfc822 constraints (`example.com`, `.example.com`,
    or a mailbox), `permitted_ips` CIDR blocks; an empty tuple permits nothing of that kind. Backdating stops at `not_before`.
    """

    name: str
    not_after: int
    path_length: int | None = None
    permitted_dns: tuple[str, ...] | None = None
    permitted_emails: tuple[str, ...] | None = None
    permitted_ips: tuple[str, ...] | None = None
    not_before: int = 0


class HolderFacts(NamedTuple):
    """What policy must know of whom it is for. `left`: the person has left. `live`: serial of a live certificate for the same device (other than the one that
    is being renewed), or "".
    """

    login: str
    kind: str
    left: bool = False
    live: str = ""
