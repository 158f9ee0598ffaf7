"""To-be-signed certificates and CRLs put together by hand, part by part, so that each part can be wrong on its own.

good = tbs.leaf()                                         # a client's, under `tbs.issuer()`
bad = good.but(serial=der.integer(-1))                    # any field of `Parts` replaced, as DER
worse = good.without(oids.KEY_USAGE).having(tbs.extension(oids.KEY_USAGE, b"\\x03\\x01\\x00"))
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gatekey.model.instants import DAY, HOUR
from gatekey.x509 import oids
from gatekey.x509.certificate import Certificate, read_tbs
from gatekey.x509.der import (
    bits,
    boolean,
    explicit,
    implicit,
    instant,
    integer,
    named_bits,
    null,
    octets,
    oid,
    seq,
    set_of,
    utf8,
)
from gatekey.x509.spki import key_identifier

from . import objects

#: 2026-11-18T11:06:40Z.
NOW = objects.NOW
ECDSA_SHA256 = seq(oid(oids.ECDSA_SHA256))


def name(common_name: str) -> bytes:
    return seq(set_of(seq(oid(oids.COMMON_NAME), utf8(common_name)))) if common_name else seq()


def extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    return seq(oid(kind), boolean(True) if critical else b"", octets(value))


def usage(*words: str, critical: bool = True) -> bytes:
    return extension(oids.KEY_USAGE, named_bits([oids.KEY_USAGES.index(word) for word in words]), critical=critical)


def purposes(*words: str, critical: bool = False) -> bytes:
    return extension(oids.EXTENDED_KEY_USAGE, seq(*(oid(oids.EXTENDED.get(word, word)) for word in words)), critical=critical)


def basic(*, ca: bool, length: int | None = None, critical: bool = True) -> bytes:
    return extension(oids.BASIC_CONSTRAINTS, seq(boolean(True) if ca else b"", integer(length) if length is not None else b""), critical=critical)


def alternatives(*dns: str, emails: tuple[str, ...] = (), others: tuple[bytes, ...] = (), critical: bool = False) -> bytes:
    names = [*(implicit(2, host.encode("latin-1")) for host in dns), *(implicit(1, email.encode("latin-1")) for email in emails), *others]
    return extension(oids.SUBJECT_ALT_NAME, seq(*names), critical=critical)


def constraints(*, permitted: tuple[bytes, ...] = (), excluded: tuple[bytes, ...] = (), critical: bool = True) -> bytes:
    """Subtrees are general names in DER."""
    sides = [explicit(number, *(seq(base) for base in bases)) for number, bases in ((0, permitted), (1, excluded)) if bases]
    return extension(oids.NAME_CONSTRAINTS, seq(*sides), critical=critical)


def crl_points(*urls: str) -> bytes:
    return extension(oids.CRL_DISTRIBUTION_POINTS, seq(*(seq(explicit(0, explicit(0, implicit(6, url.encode())))) for url in urls)))


def access(*urls: str, method: str = oids.AD_OCSP) -> bytes:
    return extension(oids.AUTHORITY_INFO_ACCESS, seq(*(seq(oid(method), implicit(6, url.encode())) for url in urls)))


def key_id(spki: bytes) -> bytes:
    return extension(oids.SUBJECT_KEY_ID, octets(key_identifier(spki)))


def authority_key_id(spki: bytes) -> bytes:
    return extension(oids.AUTHORITY_KEY_ID, seq(implicit(0, key_identifier(spki))))


def spki(key_type: str = "p256", which: int = 0) -> bytes:
    return objects.spki_of(objects.key(key_type, which))


def rsa_spki(modulus: int, exponent: int = 65537) -> bytes:
    """An RSA key of any numbers, also impossible ones."""
    return seq(seq(oid(oids.RSA), null()), bits(seq(integer(modulus), integer(exponent))))


class Parts(NamedTuple):
    """The fields of a TBSCertificate, each in DER."""

    version: bytes
    serial: bytes
    algorithm: bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    spki: bytes
    extensions: tuple[bytes, ...]

    @property
    def der(self) -> bytes:
        return seq(*self[:7], explicit(3, seq(*self.extensions)) if self.extensions else b"")

    def but(self, **parts: Any) -> Parts:
        return self._replace(**parts)

    def without(self, *kinds: str) -> Parts:
        return self._replace(
            extensions=tuple(one for one in self.extensions if not any(one[2:].startswith(oid(kind)) or oid(kind) in one[:16] for kind in kinds))
        )

    def having(self, *extensions: bytes) -> Parts:
        return self._replace(extensions=(*self.extensions, *extensions))

    def instead(self, kind: str, *extensions: bytes) -> Parts:
        return self.without(kind).having(*extensions)


def validity(first: int, last: int) -> bytes:
    return seq(instant(first), instant(last))


def _parts(issuer: str, subject: str, key: bytes, above: bytes, days: int, *extensions: bytes) -> Parts:
    return Parts(
        explicit(0, integer(2)),
        integer(int("5A" * 16, 16)),
        ECDSA_SHA256,
        name(issuer),
        validity(NOW - HOUR, NOW + days * DAY - 1),
        name(subject),
        key,
        (*extensions, key_id(key), authority_key_id(above)),
    )


@functools.cache
def root() -> Parts:
    """One that signs itself and may have one authority below it."""
    key = spki(which=1)
    return _parts("kitty-ca root", "kitty-ca root", key, key, 7300, basic(ca=True, length=1), usage("keyCertSign", "cRLSign"))


@functools.cache
def issuing() -> Parts:
    """An authority below `root()`."""
    key = spki(which=2)
    return _parts("kitty-ca root", "kitty-ca people", key, spki(which=1), 3650, basic(ca=True, length=0), usage("keyCertSign", "cRLSign"))


def client() -> Parts:
    """A person's, below `issuing()`."""
    return _parts(
        "kitty-ca people",
        "ann",
        spki(),
        spki(which=2),
        365,
        basic(ca=False),
        usage("digitalSignature"),
        purposes("clientAuth"),
        alternatives(emails=("ann@example.com",)),
    )


def server() -> Parts:
    """A web server's, below `issuing()`."""
    return _parts(
        "kitty-ca people",
        "a.example",
        spki(),
        spki(which=2),
        375,
        basic(ca=False),
        usage("digitalSignature"),
        purposes("serverAuth"),
        alternatives("a.example"),
    )


def responder() -> Parts:
    """An OCSP responder's, below `issuing()`."""
    return _parts(
        "kitty-ca people",
        "kitty-ca people OCSP",
        spki(),
        spki(which=2),
        7,
        basic(ca=False),
        usage("digitalSignature"),
        purposes("OCSPSigning"),
        extension(oids.OCSP_NOCHECK, null()),
    )


def read(parts: Parts) -> Certificate:
    """As the issuer of others."""
    return read_tbs(parts.der)


def weak_rsa(bits_: int) -> bytes:
    """A well-formed RSA key of a size that nobody should use."""
    modulus = (1 << (bits_ - 1)) | 0x10001 | (0xABCDEF << (bits_ // 2))
    return rsa_spki(modulus)


@functools.cache
def real_rsa(bits_: int = 2048) -> bytes:
    private = rsa.generate_private_key(65537, bits_)
    return private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
