"""Signature algorithms: their identifiers, their names, and verification. Signing itself is the business of `keys`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..errors import Malformed
from . import oids
from .der import null, oid, seq, whole

if TYPE_CHECKING:
    from collections.abc import Callable

_ECDSA = {oids.ECDSA_SHA256: "SHA256", oids.ECDSA_SHA384: "SHA384", oids.ECDSA_SHA512: "SHA512"}
_RSA = {oids.RSA_SHA256: "SHA256", oids.RSA_SHA384: "SHA384", oids.RSA_SHA512: "SHA512"}
_LEGACY = {
    oids.RSA_SHA1: "SHA1",
    oids.RSA_SHA224: "SHA224",
    oids.ECDSA_SHA1: "SHA1",
    oids.ECDSA_SHA224: "SHA224",
    oids.DSA_SHA1: "SHA1",
    oids.DSA_SHA256: "SHA256",
}
_PURE = {oids.ED25519: "ed25519", oids.ED448: "ed448", oids.ML_DSA_44: "ml-dsa-44", oids.ML_DSA_65: "ml-dsa-65", oids.ML_DSA_87: "ml-dsa-87"}
_HASHES = {oids.SHA1: "SHA1", oids.SHA256: "SHA256", oids.SHA384: "SHA384", oids.SHA512: "SHA512"}
_OURS = {"p256": oids.ECDSA_SHA256, "p384": oids.ECDSA_SHA384, "p521": oids.ECDSA_SHA512} | {label: dotted for dotted, label in _PURE.items()}


@functools.cache
def algorithm(key_type: str) -> bytes:
    """The AlgorithmIdentifier with which a key of this type signs here, DER (RFC 4055, 5758, 8410, 9881). Raises Malformed("bad-key") for an unknown type."""
    if key_type.startswith("rsa-"):
        return seq(oid(oids.RSA_SHA256), null())
    if key_type not in _OURS:
        raise Malformed("bad-key", f"no signature algorithm is known for keys of the type {key_type!r}")
    return seq(oid(_OURS[key_type]))


def describe(algorithm: bytes) -> str:
    """An AlgorithmIdentifier in words: "ECDSA with SHA-256". Never raises."""
    try:
        parts = whole(algorithm)
        kind = parts.oid()
        if kind == oids.RSA_PSS:
            return f"RSA-PSS with {oids.name(_pss(algorithm)[0])}"
    except Malformed:
        return "an unreadable algorithm"
    return oids.NAMES.get(kind, f"an unknown algorithm ({kind})")


def supported(algorithm: bytes, *, legacy: bool = False) -> bool:
    """Whether `verify` knows this AlgorithmIdentifier at all."""
    return _scheme(algorithm, legacy) is not None


def verify(spki: bytes, algorithm: bytes, signature: bytes, data: bytes, *, legacy: bool = False) -> bool:
    """Whether `signature` over `data` was made with the private half of `spki` under this AlgorithmIdentifier.

    False also for algorithms and keys that are not known. `legacy` adds SHA-1, SHA-224 and DSA: only for looking at old archives, never for letting in.
    """
    scheme = _scheme(algorithm, legacy)
    if scheme is None:
        return False
    load, failures, kind, how = _tools(*scheme)
    try:
        key = load(spki)
        if not isinstance(key, kind):
            return False
        key.verify(signature, data, *how)
    except failures:
        return False
    return True


@functools.lru_cache(maxsize=64)
def _scheme(algorithm: bytes, legacy: bool) -> tuple[str, str, int] | None:
    """Family (rsa, pss, ecdsa, dsa or a key label), hash and salt length; None for what is not known. Parameters must be as their RFC wants them."""
    try:
        parts = whole(algorithm)
        kind = parts.oid()
        if kind == oids.RSA_PSS:
            hashed, salt = _pss(algorithm)
            return ("pss", _HASHES[hashed], salt) if hashed in _HASHES and (legacy or hashed != oids.SHA1) else None
        if kind in _RSA or (legacy and kind in (oids.RSA_SHA1, oids.RSA_SHA224)):
            parts.null()
            parts.finish()
            return "rsa", _RSA.get(kind) or _LEGACY[kind], 0
        parts.finish()
    except Malformed:
        return None
    if kind in _ECDSA or (legacy and kind in (oids.ECDSA_SHA1, oids.ECDSA_SHA224)):
        return "ecdsa", _ECDSA.get(kind) or _LEGACY[kind], 0
    if legacy and kind in (oids.DSA_SHA1, oids.DSA_SHA256):
        return "dsa", _LEGACY[kind], 0
    return (_PURE[kind], "", 0) if kind in _PURE else None


def _pss(algorithm: bytes) -> tuple[str, int]:
    """Hash and salt length of RSASSA-PSS parameters; the mask must use the same hash (RFC 4055 3.1, RFC 8017 A.2.3)."""
    parts = whole(algorithm)
    parts.oid()
    fields = parts.inside()
    parts.finish()
    hashed, masked, salt = oids.SHA1, oids.SHA1, 20
    if (given := fields.optional(0xA0)) is not None:
        hashed = _digest(given.raw())
        given.finish()
    if (given := fields.optional(0xA1)) is not None:
        mask = given.inside()
        given.finish()
        if mask.oid() != oids.MGF1:
            raise Malformed("bad-der", "a mask generation function that is not MGF1")
        masked = _digest(mask.raw())
        mask.finish()
    if (given := fields.optional(0xA2)) is not None:
        salt = given.integer()
        given.finish()
    if (given := fields.optional(0xA3)) is not None:
        if given.integer() != 1:
            raise Malformed("bad-der", "an RSA-PSS trailer field that is not 1")
        given.finish()
    fields.finish()
    if masked != hashed or not 0 <= salt <= 512:
        raise Malformed("bad-der", "RSA-PSS parameters that mix hashes or have an absurd salt")
    return hashed, salt


def _digest(der: bytes) -> str:
    parts = whole(der)
    kind = parts.oid()
    if parts:
        parts.null()
    parts.finish()
    return kind


@functools.lru_cache(maxsize=64)
def _tools(family: str, hash_name: str, salt: int) -> tuple[Callable[[bytes], Any], tuple[type[Exception], ...], type[Any], tuple[Any, ...]]:
    """What loads a key, how it and its `verify` may fail, the class of keys of this family, and what their `verify` wants beside signature and data.

    Kept, as an import inside a function costs time at each call; and each class is imported alone, as each costs time at the first.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    digest: Any = getattr(hashes, hash_name)() if hash_name else None
    kind: type[Any]
    how: tuple[Any, ...]
    if family in ("rsa", "pss"):
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        kind, how = rsa.RSAPublicKey, (padding.PSS(padding.MGF1(digest), salt) if family == "pss" else padding.PKCS1v15(), digest)
    elif family == "ecdsa":
        from cryptography.hazmat.primitives.asymmetric import ec

        kind, how = ec.EllipticCurvePublicKey, (ec.ECDSA(digest),)
    elif family == "dsa":
        from cryptography.hazmat.primitives.asymmetric import dsa

        kind, how = dsa.DSAPublicKey, (digest,)
    else:
        kind, how = _pure_class(family), ()
    return load_der_public_key, (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError), kind, how


def _pure_class(label: str) -> type[Any]:
    """The public key class for an algorithm that hashes by itself; imported alone, as each costs time."""
    if label == "ed25519":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey
    if label == "ed448":
        from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey

        return Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric import mldsa

    return {"ml-dsa-44": mldsa.MLDSA44PublicKey, "ml-dsa-65": mldsa.MLDSA65PublicKey, "ml-dsa-87": mldsa.MLDSA87PublicKey}[label]
