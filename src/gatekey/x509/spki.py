"""Public keys: SubjectPublicKeyInfo read strictly with our own DER, without cryptography, and the key identifiers made from it."""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

from ..errors import Malformed
from ..model import keytypes
from . import oids
from .der import BIT_STRING, Reader, whole

#: Largest SubjectPublicKeyInfo that is read: RSA with 16384 bits and ML-DSA-87 fit.
MAX_BYTES = 4096

#: Curve label, bytes of a coordinate, prime and coefficient b of each curve (FIPS 186-4 D.1.2; a is -3 on all).
_CURVES = {
    oids.P256: (
        "p256",
        32,
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    oids.P384: (
        "p384",
        48,
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    oids.P521: (
        "p521",
        66,
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
    ),
}
#: Label, bytes of the key and security strength shown as bits, for keys that are plain byte strings (RFC 8410 4, RFC 9881 4).
_PLAIN = {
    oids.ED25519: ("ed25519", 32, 256),
    oids.ED448: ("ed448", 57, 456),
    oids.ML_DSA_44: ("ml-dsa-44", 1312, 10496),
    oids.ML_DSA_65: ("ml-dsa-65", 1952, 15616),
    oids.ML_DSA_87: ("ml-dsa-87", 2592, 20736),
}


class PublicKey(NamedTuple):
    """What a SubjectPublicKeyInfo says. `label` is a key type of `model.keytypes`, or "" for one that Gatekey does not know.

    `bits` is the size of the modulus, field or key; `exponent` and `modulus` are 0 unless it is RSA.
    """

    label: str
    described: str
    bits: int
    exponent: int
    modulus: int
    spki: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, lower-case hex: the key's identity in the ledger."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def key_id(self) -> bytes:
        return key_identifier(self.spki)


@functools.lru_cache(maxsize=1024)
def read_spki(der: bytes) -> PublicKey:
    """Reads a SubjectPublicKeyInfo (RFC 5280 4.1.2.7).

    One key has one encoding here: RSA parameters must be NULL, points uncompressed and on their curve. Otherwise the same key could come back
    under another hash after it was reported as compromised. A well-formed key of another algorithm gets the label "". Raises Malformed("bad-key").
    """
    if len(der) > MAX_BYTES:
        raise _bad(f"it has {len(der)} bytes, more than the {MAX_BYTES} that are read")
    try:
        return _read(der)
    except Malformed as error:
        if error.code == "bad-key":
            raise
        raise _bad(error.message) from None


def _read(der: bytes) -> PublicKey:
    info = whole(der)
    algorithm = info.inside()
    kind = algorithm.oid()
    key = info.whole_bits()
    info.finish()
    if kind == oids.RSA:
        algorithm.null()
        algorithm.finish()
        return _rsa(key, der)
    if kind == oids.EC:
        return _ec(algorithm, key, der)
    if kind in _PLAIN:
        label, size, bits = _PLAIN[kind]
        if algorithm:
            raise _bad(f"{oids.name(kind)} has parameters, where there must be none")
        if len(key) != size:
            raise _bad(f"a key for {oids.name(kind)} has {size} bytes, this one has {len(key)}")
        return PublicKey(label, keytypes.display(label), bits, 0, 0, der)
    return PublicKey("", f"the algorithm {oids.name(kind)}", 0, 0, 0, der)


def _rsa(key: bytes, der: bytes) -> PublicKey:
    numbers = whole(key)
    modulus, exponent = numbers.integer(), numbers.integer()
    numbers.finish()
    if modulus <= 0 or exponent <= 0:
        raise _bad("its RSA modulus or exponent is not a positive number")
    label = f"rsa-{modulus.bit_length()}"
    return PublicKey(label, keytypes.display(label), modulus.bit_length(), exponent, modulus, der)


def _ec(algorithm: Reader, key: bytes, der: bytes) -> PublicKey:
    if algorithm.peek() != 0x06:
        raise _bad("its curve is not given by name (RFC 5480 2.1.1)")
    curve = algorithm.oid()
    algorithm.finish()
    if curve not in _CURVES:
        return PublicKey("", f"the elliptic curve {oids.name(curve)}", 0, 0, 0, der)
    label, size, prime, b = _CURVES[curve]
    if len(key) == size + 1 and key[0] in (2, 3):
        raise _bad("its point is compressed; only the uncompressed form is accepted")
    if len(key) != 2 * size + 1 or key[0] != 4:
        raise _bad(f"its point is not an uncompressed one of {oids.name(curve)}")
    x, y = int.from_bytes(key[1 : size + 1], "big"), int.from_bytes(key[size + 1 :], "big")
    if x >= prime or y >= prime or (y * y - x * x * x + 3 * x - b) % prime:
        raise _bad(f"its point is not on the curve {oids.name(curve)}")
    return PublicKey(label, keytypes.display(label), prime.bit_length(), 0, 0, der)


def key_bits(spki: bytes) -> bytes:
    """The content of the subjectPublicKey BIT STRING. Raises Malformed("bad-der")."""
    info = whole(spki)
    info.inside()
    return info.content(BIT_STRING)[1:]


@functools.lru_cache(maxsize=256)
def key_identifier(spki: bytes) -> bytes:
    """The leftmost 160 bits of SHA-256 over the subjectPublicKey BIT STRING's content (RFC 7093 2, method 1)."""
    return hashlib.sha256(key_bits(spki)).digest()[:20]


def _bad(why: str) -> Malformed:
    return Malformed("bad-key", f"this is not a public key that can be taken: {why}")
