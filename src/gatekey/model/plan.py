"""What a certificate will say, decided to the last bit before any byte is built."""

from __future__ import annotations

from typing import NamedTuple

from .names import Names


class NameConstraints(NamedTuple):
    """Permitted subtrees (RFC 5280 4.2.1.10). `no_ips`: every IP address is excluded."""

    dns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    no_ips: bool = False


class Urls(NamedTuple):
    """Where an issuer's CRL, its own certificate and its OCSP responder are found; all may be empty (RFC 5280 4.2.1.13, 4.2.2.1)."""

    crl: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    ocsp: tuple[str, ...] = ()


class Plan(NamedTuple):
    """Everything in the to-be-signed certificate except serial, issuer name and authority key identifier.

    Times are POSIX seconds, both ends included (RFC 5280 4.1.2.5). `key_usage` and `extended` hold the names of RFC 5280 4.2.1.3 and 4.2.1.12
    (`digitalSignature`, `keyCertSign`, ...; `clientAuth`, `serverAuth`, `OCSPSigning`). `path_length`: None for no limit.
    `subject_san_critical` follows from an empty common name. `crl_urls`, `issuer_urls`, `ocsp_urls`: distribution points and AIA, may be empty.
    `no_check`: id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1). `no_revocation`: noRevAvail (RFC 9608).
    `notes`: what a person should be told, such as a validity that was cut.
    """

    profile: str
    profile_sha256: str
    issuer: str
    names: Names
    spki: bytes
    not_before: int
    not_after: int
    key_usage: tuple[str, ...]
    extended: tuple[str, ...] = ()
    ca: bool = False
    path_length: int | None = None
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    constraints: NameConstraints | None = None
    no_check: bool = False
    no_revocation: bool = False
    notes: tuple[str, ...] = ()

    @property
    def san_critical(self) -> bool:
        """An empty subject makes the alternative names critical (RFC 5280 4.2.1.6)."""
        return not self.names.common_name
