"""Certificates that no authority ever made: self-signed, and issued by a false authority that copies the names and key identifiers of the true one.

They live for an hour, in memory, and open nothing; a door that lets one in is no door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..model.instants import HOUR
from ..x509 import oids, pem
from ..x509.certificate import assemble, authority_key_id, extension
from ..x509.der import boolean, explicit, instant, integer, named_bits, octets, oid, seq
from ..x509.names import encode_name
from ..x509.signature import algorithm
from .knock import Identity

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_DIGITAL_SIGNATURE, _KEY_CERT_SIGN, _CRL_SIGN = 0, 5, 6


class Names(NamedTuple):
    """What is copied: the DER subject of the leaf, the DER names of its issuers from the issuing authority up, and the issuing key's identifier."""

    subject: bytes
    issuers: tuple[bytes, ...]
    key_id: bytes = b""


def self_signed(subject: bytes, now: int, serial: bytes) -> Identity:
    """A client certificate that vouches for itself. `subject`: DER name, b"" for a name of our own; `serial`: random bytes."""
    key = _Key()
    name = subject or encode_name("gatekey-probe")
    return Identity(_pem(key.certify(key, name, name, now, serial, ca=False)), key.pem, "a self-signed certificate")


def false_authority(names: Names, now: int, serial: bytes) -> Identity:
    """A client certificate of an authority that is called like the true one and has other keys."""
    issuers = names.issuers or (encode_name("gatekey-probe authority"),)
    signer, top = _Key(), issuers[-1]
    chain: list[bytes] = []
    for name in reversed(issuers[:-1]):
        below = _Key()
        chain.insert(0, signer.certify(below, name, top, now, serial, ca=True, key_id=names.key_id if name == issuers[0] else b""))
        signer, top = below, name
    leaf = _Key()
    chain.insert(0, signer.certify(leaf, names.subject or encode_name("gatekey-probe"), issuers[0], now, serial, ca=False, issuer_key_id=names.key_id))
    return Identity(_pem(*chain), leaf.pem, "a false authority's certificate with your authority's names")


def _pem(*certificates: bytes) -> bytes:
    return b"".join(pem.encode("CERTIFICATE", der) for der in certificates)


class _Key:
    """A P-256 key that is thrown away after the check."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.private: EllipticCurvePrivateKey = ec.generate_private_key(ec.SECP256R1())
        self.pem = self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.spki = self.private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def certify(self, key: _Key, subject: bytes, issuer: bytes, now: int, serial: bytes, *, ca: bool, key_id: bytes = b"", issuer_key_id: bytes = b"") -> bytes:
        """The DER certificate for `key`, signed with this one (RFC 5280 4.1)."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        bits = [_KEY_CERT_SIGN, _CRL_SIGN] if ca else [_DIGITAL_SIGNATURE]
        parts = [
            extension(oids.BASIC_CONSTRAINTS, seq(boolean(True)) if ca else seq(), critical=True),
            extension(oids.KEY_USAGE, named_bits(bits), critical=True),
        ]
        if not ca:
            parts.append(extension(oids.EXTENDED_KEY_USAGE, seq(oid(oids.CLIENT_AUTH))))
        if key_id:
            parts.append(extension(oids.SUBJECT_KEY_ID, octets(key_id)))
        if issuer_key_id:
            parts.append(authority_key_id(issuer_key_id))
        tbs = seq(
            explicit(0, integer(2)), integer(int.from_bytes(b"\x01" + serial[:15], "big")), algorithm("p256"), issuer,
            seq(instant(now - HOUR), instant(now + HOUR)), subject, key.spki, explicit(3, seq(*parts)),
        )  # fmt: skip
        return assemble(tbs, self.private.sign(tbs, ec.ECDSA(SHA256())))
