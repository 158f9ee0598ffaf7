"""A client certificate in a header: all the ways in which web servers write one, and the few facts that are needed of it, cached by fingerprint."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import NamedTuple

from ..errors import GatekeyError, Malformed

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_REMEMBERED = 4096


class Facts(NamedTuple):
    """What is read of a certificate. `issuer` in the form of RFC 2253 as OpenSSL prints it; dates in POSIX seconds; `fingerprint` SHA-256, upper-case hex."""

    fingerprint: str
    serial: str
    issuer: str
    common_name: str
    email: str
    not_before: int
    not_after: int


def one(name: str, value: str) -> bytes:
    """The DER of the one certificate in `value`: PEM (percent-encoded as nginx and Envoy write it, or with spaces for newlines as Apache does) or base64 of
    the DER (HAProxy, Traefik; between colons as in RFC 9440). Raises Malformed("identity-malformed").
    """
    if value[:1] == ":":
        return byte_sequence(name, value)
    if "%" in value:
        value = _unescaped(name, value)
    text = value.strip()
    if text.startswith("-----"):
        if not text.startswith(_BEGIN) or not text.endswith(_END) or text.count("-----BEGIN") != 1:
            raise _malformed(name, "is not exactly one certificate in PEM")
        text = text[len(_BEGIN) : -len(_END)]
        text = "".join(text.split())
    return _base64(name, text)


def first(name: str, value: str) -> bytes:
    """The first of a comma-separated list of certificates, each as in `one`; Traefik writes the client's own first."""
    head, *rest = value.split(",")
    if len(rest) > 9:
        raise _malformed(name, f"has {len(rest) + 1} certificates, which is more than the 10 that are read")
    for other in rest:
        one(name, other)
    return one(name, head)


def byte_sequence(name: str, value: str) -> bytes:
    """The bytes of a structured field's Byte Sequence: base64 between two colons, nothing else (RFC 8941 3.3.5, RFC 9440 2.1)."""
    if len(value) < 2 or value[0] != ":" or value[-1] != ":":
        raise _malformed(name, "is not base64 between two colons, as RFC 9440 wants it")
    return _base64(name, value[1:-1])


def percent_decoded(name: str, value: str) -> str:
    """`value` with each %XX as the byte that it stands for; the bytes must be UTF-8. A % without two hex digits is refused."""
    head, *rest = value.split("%")
    parts = [head.encode("latin-1")]
    try:
        for part in rest:
            pair = part[:2]
            if len(pair) != 2 or not pair.isalnum():  # int() would also take "+1", "1_" and spaces
                raise ValueError
            parts.append(bytes((int(pair, 16),)) + part[2:].encode("latin-1"))
        return b"".join(parts).decode()
    except ValueError:
        raise _malformed(name, "is not percent-encoded UTF-8") from None


def _unescaped(name: str, value: str) -> str:
    """The same for PEM, where few characters are escaped: none of them brings a new % or hex digit, so the order does not matter."""
    text = value.replace("%0A", "\n").replace("%2B", "+").replace("%2F", "/").replace("%3D", "=").replace("%20", " ")
    return percent_decoded(name, text) if "%" in text else text


class Cache:
    """Facts of the certificates that were seen, by fingerprint, so that each is parsed once. Bounded."""

    def __init__(self) -> None:
        self._facts: dict[bytes, Facts] = {}
        self._sha256: Callable[[bytes], bytes] | None = None

    def facts(self, name: str, der: bytes) -> Facts:
        """What stands in `der`. Raises Malformed("identity-malformed") if that is no certificate."""
        if self._sha256 is None:
            from hashlib import sha256  # loads OpenSSL: not before somebody sends a certificate

            self._sha256 = lambda data: sha256(data).digest()
        fingerprint = self._sha256(der)
        found = self._facts.get(fingerprint)
        if found is None:
            found = _facts(name, der, fingerprint.hex().upper())
            if len(self._facts) >= _REMEMBERED:
                self._facts.clear()
            self._facts[fingerprint] = found
        return found


def _facts(name: str, der: bytes, fingerprint: str) -> Facts:
    from ..x509.certificate import read_certificate
    from ..x509.names import rfc2253

    try:
        certificate = read_certificate(der)
        issuer = rfc2253(certificate.issuer)
    except GatekeyError as problem:
        raise _malformed(name, f"is not a certificate: {problem.message}") from None
    emails = certificate.names.emails
    return Facts(
        fingerprint,
        certificate.serial,
        issuer,
        certificate.common_name,
        emails[0] if emails else "",
        certificate.not_before,
        certificate.not_after,
    )


def _base64(name: str, text: str) -> bytes:
    try:
        der = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise _malformed(name, "is not base64") from None
    if not der:
        raise _malformed(name, "is empty")
    return der


def _malformed(name: str, what: str) -> Malformed:
    return Malformed("identity-malformed", f"the header {name} {what}", header=name)
