"""Private keys in memory: making, loading and signing, one way for each key type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import Malformed, Refused
from ..x509 import pkcs8

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

#: Public exponent of every RSA key made here (RFC 8017; FIPS 186-5 A.1.1).
RSA_EXPONENT = 65537
#: Smallest modulus that is loaded at all; what an authority accepts is policy's business.
RSA_FEWEST_BITS = 1024
RSA_MOST_BITS = 16384

_CURVES = {  # dotted: (key type, bytes of a coordinate, DER of the SubjectPublicKeyInfo up to the point's x)
    "1.2.840.10045.3.1.7": ("p256", 32, bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")),
    "1.3.132.0.34": ("p384", 48, bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")),
    "1.3.132.0.35": ("p521", 66, bytes.fromhex("30819b301006072a8648ce3d020106052b810400230381860004")),
}
_CURVE_OF = {key_type: dotted for dotted, (key_type, _, _) in _CURVES.items()}
_EDWARDS = {  # dotted: (key type, DER of the SubjectPublicKeyInfo up to the key)
    "1.3.101.112": ("ed25519", bytes.fromhex("302a300506032b6570032100")),
    "1.3.101.113": ("ed448", bytes.fromhex("3043300506032b6571033a00")),
}
_ML_DSA = {"2.16.840.1.101.3.4.3.17": "ml-dsa-44", "2.16.840.1.101.3.4.3.18": "ml-dsa-65", "2.16.840.1.101.3.4.3.19": "ml-dsa-87"}


class PrivateKey:
    """A private key in memory; a `ports.Signer` that can also be written out.

    `key_type` is a label of `gatekey.model.keytypes`, `spki` its SubjectPublicKeyInfo in DER.
    """

    __slots__ = ("_pkcs8", "_sign", "key_type", "spki")

    def __init__(self, key_type: str, spki: bytes, sign: Callable[[bytes], bytes], pkcs8: Callable[[], bytes]) -> None:
        self.key_type = key_type
        self.spki = spki
        self._sign = sign
        self._pkcs8 = pkcs8

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`: ECDSA with the hash of the curve's strength, RSA PKCS#1 v1.5 with SHA-256, or Ed25519, Ed448 and ML-DSA as they are."""
        return self._sign(data)

    def pkcs8(self) -> bytes:
        """The key itself: plain PKCS#8 in DER. For writing it to its owner's file, encrypted or 0600."""
        return self._pkcs8()

    def __repr__(self) -> str:
        return f"<PrivateKey {self.key_type}>"


def make(key_type: str) -> PrivateKey:
    """A new private key of this type. Raises Refused("unknown-key-type")."""
    if key_type in _CURVE_OF:
        from cryptography.hazmat.primitives.asymmetric import ec

        return _from_ec(ec.generate_private_key(_curve(_CURVE_OF[key_type])), _CURVE_OF[key_type])
    if key_type.startswith("rsa-") and key_type[4:].isdecimal():
        return _make_rsa(int(key_type[4:]))
    if key_type in ("ed25519", "ed448"):
        from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

        return _from_edwards(ed25519.Ed25519PrivateKey.generate() if key_type == "ed25519" else ed448.Ed448PrivateKey.generate())
    if key_type in _ML_DSA.values():
        from cryptography.hazmat.primitives.asymmetric import mldsa

        return _from_ml_dsa(getattr(mldsa, f"MLDSA{key_type[-2:]}PrivateKey").generate(), key_type)
    raise Refused(
        "unknown-key-type",
        f"{key_type!r} is not a type of key",
        hint="p256, p384, p521, rsa-2048, rsa-3072, rsa-4096, ed25519, ed448, ml-dsa-44, ml-dsa-65 or ml-dsa-87",
        found=key_type,
    )


def load(data: bytes, password: bytes | None = None) -> PrivateKey:
    """The private key in `data`: PEM or DER; PKCS#8, encrypted PKCS#8, PKCS#1 or SEC 1, also RSA and EC keys in OpenSSL's old encrypted PEM.

    Raises Malformed: "not-a-key", "bad-private-key", "unsupported-key", "passphrase-needed", "wrong-passphrase", "unsupported-encryption", "bad-der".
    """
    return from_pkcs8(pkcs8.unlock(data, password))


def from_pkcs8(data: bytes, *, own: bool = False) -> PrivateKey:
    """The private key in plain PKCS#8. `own` says that we made this key ourselves: the primality of RSA factors is not tested again (0.3 s for 4096 bits)."""
    info = pkcs8.read(data)
    if info.algorithm == pkcs8.EC:
        return _load_ec(info)
    if info.algorithm == pkcs8.RSA:
        return _load_rsa(info, data, own)
    if info.algorithm in _EDWARDS:
        return _load_edwards(info)
    if info.algorithm in _ML_DSA:
        return _from_ml_dsa(_load_with_library(data), _ML_DSA[info.algorithm])
    known = {"1.2.840.113549.1.1.10": "an RSA key for PSS only", "1.2.840.10040.4.1": "a DSA key", "1.2.840.113549.1.3.1": "a Diffie-Hellman key"}
    found = known.get(info.algorithm, f"a key of the algorithm {info.algorithm}")
    raise Malformed("unsupported-key", f"{found} is not accepted; RSA, EC (P-256, P-384, P-521), Ed25519, Ed448 and ML-DSA are", algorithm=info.algorithm)


def _curve(dotted: str) -> ec.EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    key_type = _CURVES[dotted][0]
    return ec.SECP256R1() if key_type == "p256" else ec.SECP384R1() if key_type == "p384" else ec.SECP521R1()


def _from_ec(key: ec.EllipticCurvePrivateKey, dotted: str) -> PrivateKey:
    from cryptography.hazmat.primitives import hashes

    key_type, size, head = _CURVES[dotted]
    numbers = key.private_numbers()
    public = numbers.public_numbers
    xy = public.x.to_bytes(size, "big") + public.y.to_bytes(size, "big")
    algorithm = _ecdsa(hashes.SHA256() if key_type == "p256" else hashes.SHA384() if key_type == "p384" else hashes.SHA512())
    # Written out here: `serialization` costs every short command 15 ms of imports.
    return PrivateKey(
        key_type,
        head + xy,
        lambda data: key.sign(data, algorithm),
        lambda: pkcs8.encode_ec(dotted, numbers.private_value, size, b"\x04" + xy),
    )


def _ecdsa(digest: hashes.HashAlgorithm) -> ec.ECDSA:
    """ECDSA with this hash. The library's own constructor loads its whole OpenSSL backend to ask about deterministic signatures, which costs every short
    command 8 ms; this one does not ask.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    class Ecdsa(ec.ECDSA):
        def __init__(self) -> None:
            self._algorithm = digest
            self._deterministic_signing = False

    return Ecdsa()


def _load_ec(info: pkcs8.PrivateKeyInfo) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    parts = pkcs8.read_ec(info)
    if parts.curve not in _CURVES:
        names = {"1.3.132.0.10": "secp256k1", "1.3.132.0.33": "P-224", "1.2.840.10045.3.1.1": "P-192"}
        raise Malformed("unsupported-key", f"the curve {names.get(parts.curve, parts.curve)} is not accepted; P-256, P-384 and P-521 are", curve=parts.curve)
    try:
        made = _from_ec(ec.derive_private_key(parts.value, _curve(parts.curve)), parts.curve)
    except ValueError:
        raise Malformed("bad-private-key", "the private number is outside what its curve allows: the file is damaged") from None
    size = _CURVES[parts.curve][1]
    if parts.point and not _same_point(parts.point, made.spki[-2 * size :], size):
        raise Malformed("bad-private-key", "the private key and the public key in the same file do not belong together")
    return made


def _same_point(point: bytes, xy: bytes, size: int) -> bool:
    """Whether the point of the file, uncompressed or compressed (SEC 1 2.3.3), is the one that belongs to the private key."""
    return point in (b"\x04" + xy, bytes((2 + (xy[-1] & 1),)) + xy[:size])


def _make_rsa(bits: int) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not 2048 <= bits <= RSA_MOST_BITS or bits % 8:
        message = f"an RSA key of {bits} bits is not made here; 2048 to {RSA_MOST_BITS} in whole bytes are"
        raise Refused("unknown-key-type", message, hint="rsa-2048, rsa-3072 or rsa-4096", found=bits)
    return _from_rsa(rsa.generate_private_key(RSA_EXPONENT, bits))


def _from_rsa(key: rsa.RSAPrivateKey) -> PrivateKey:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    scheme, algorithm = padding.PKCS1v15(), hashes.SHA256()
    return PrivateKey(
        f"rsa-{key.key_size}",
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        lambda data: key.sign(data, scheme, algorithm),
        lambda: key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _load_rsa(info: pkcs8.PrivateKeyInfo, data: bytes, own: bool) -> PrivateKey:
    numbers = pkcs8.read_rsa(info)
    bits = numbers.modulus.bit_length()
    if not RSA_FEWEST_BITS <= bits <= RSA_MOST_BITS:
        raise Malformed("unsupported-key", f"an RSA key of {bits} bits is not loaded; {RSA_FEWEST_BITS} to {RSA_MOST_BITS} are", bits=bits)
    # `read_rsa` has checked all but the primality of the factors, so that skipping it is safe for a key of our own.
    return _from_rsa(_load_with_library(data, unchecked=own))


def _load_edwards(info: pkcs8.PrivateKeyInfo) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

    seed = pkcs8.read_raw(info)
    try:
        if _EDWARDS[info.algorithm][0] == "ed25519":
            return _from_edwards(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
        return _from_edwards(ed448.Ed448PrivateKey.from_private_bytes(seed))
    except ValueError:
        raise Malformed("bad-private-key", f"the private key has {len(seed)} bytes, which is not the size of its kind") from None


def _from_edwards(key: Any) -> PrivateKey:  # Ed25519PrivateKey or Ed448PrivateKey: equal in form, without a common class
    public = key.public_key().public_bytes_raw()
    dotted = "1.3.101.112" if len(public) == 32 else "1.3.101.113"
    key_type, head = _EDWARDS[dotted]
    return PrivateKey(key_type, head + public, key.sign, lambda: pkcs8.encode_raw(dotted, key.private_bytes_raw()))


def _from_ml_dsa(key: Any, key_type: str) -> PrivateKey:  # one of three classes without a common one
    from cryptography.hazmat.primitives import serialization

    return PrivateKey(
        key_type,
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        key.sign,
        lambda: key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _load_with_library(data: bytes, *, unchecked: bool = False) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_der_private_key(data, None, unsafe_skip_rsa_key_validation=unchecked)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed("bad-private-key", "the private key cannot be used: its parts do not belong together or are damaged") from None
