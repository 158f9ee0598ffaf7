"""Private keys as bytes: PKCS#8 (RFC 5208, 5958), plain and encrypted (RFC 8018), and the older PKCS#1 and SEC 1 forms that are read into it."""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import NamedTuple

from ..errors import Malformed
from . import der, pbe

RSA = "1.2.840.113549.1.1.1"
EC = "1.2.840.10045.2.1"
ED25519 = "1.3.101.112"

#: Private keys longer than this are not read: RSA with 16,384 bits stays below it.
MOST_BYTES = 64 * 1024

_LABELS = {"PRIVATE KEY": "pkcs8", "ENCRYPTED PRIVATE KEY": "encrypted", "RSA PRIVATE KEY": "pkcs1", "EC PRIVATE KEY": "sec1"}
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n")


class PrivateKeyInfo(NamedTuple):
    """A plain PKCS#8 key: the algorithm, its parameters (DER, b"" if absent), and the private key as that algorithm writes it."""

    algorithm: str
    parameters: bytes
    key: bytes


class EcKey(NamedTuple):
    """An elliptic-curve private key: dotted curve, private scalar, public point (uncompressed, b"" if the file does not say)."""

    curve: str
    value: int
    point: bytes


class RsaKey(NamedTuple):
    """The numbers of an RSA private key with two primes (RFC 8017 appendix A.1.2)."""

    modulus: int
    exponent: int
    private: int
    p: int
    q: int
    dp: int
    dq: int
    qinv: int


def encode(algorithm: str, parameters: bytes, key: bytes) -> bytes:
    """PrivateKeyInfo, version 0. `parameters` is DER or b"" for none."""
    return der.seq(der.integer(0), der.seq(der.oid(algorithm), parameters), der.octets(key))


def encode_ec(curve: str, value: int, size: int, point: bytes) -> bytes:
    """PKCS#8 of an elliptic-curve key: `size` bytes of scalar and the public point (RFC 5915)."""
    inner = der.seq(der.integer(1), der.octets(value.to_bytes(size, "big")), der.explicit(1, der.bits(point)))
    return encode(EC, der.oid(curve), inner)


def encode_raw(algorithm: str, key: bytes) -> bytes:
    """PKCS#8 of an Ed25519 or Ed448 key (RFC 8410 7)."""
    return encode(algorithm, b"", der.octets(key))


def read(data: bytes) -> PrivateKeyInfo:
    """The parts of a plain PKCS#8 key; attributes and a public key beside it (RFC 5958) are passed over. Raises Malformed."""
    _check_size(data)
    outer = der.whole(data)
    version = outer.integer()
    if version not in (0, 1):
        raise Malformed("bad-private-key", f"PKCS#8 version {version} is not known")
    inner = outer.inside()
    algorithm, parameters = inner.oid(), b""
    if inner:
        parameters = inner.raw()
    inner.finish()
    key = outer.octets()
    if outer.peek() == 0xA0:
        outer.any()
    if version == 1 and outer.peek() == 0x81:
        outer.any()
    outer.finish()
    return PrivateKeyInfo(algorithm, parameters, key)


def read_ec(info: PrivateKeyInfo) -> EcKey:
    """The elliptic-curve key inside. Raises Malformed, also for curves written out as parameters."""
    if not info.parameters.startswith(b"\x06"):
        raise Malformed("unsupported-key", "the elliptic curve is written out as numbers; only named curves are accepted (RFC 5480 2.1.1)")
    named = der.Reader(info.parameters)
    curve = named.oid()
    inside_curve, value, point = _read_sec1(info.key)
    if inside_curve not in ("", curve):
        raise Malformed("bad-private-key", f"the key names two curves, {curve} and {inside_curve}")
    return EcKey(curve, value, point)


def _read_sec1(data: bytes) -> tuple[str, int, bytes]:
    """ECPrivateKey (RFC 5915 3): curve or "", scalar, point or b""."""
    inner = der.whole(data)
    if inner.integer() != 1:
        raise Malformed("bad-private-key", "the elliptic-curve key has a version other than 1")
    value = int.from_bytes(inner.octets(), "big")
    curve, point = "", b""
    if named := inner.optional(0xA0):
        if named.peek() != der.OID:
            raise Malformed("unsupported-key", "the elliptic curve is written out as numbers; only named curves are accepted (RFC 5480 2.1.1)")
        curve = named.oid()
    if public := inner.optional(0xA1):
        point = public.whole_bits()
    inner.finish()
    return curve, value, point


def read_rsa(info: PrivateKeyInfo) -> RsaKey:
    """The RSA key inside. Raises Malformed where its numbers do not belong together: then it would sign garbage.

    That p and q are prime is not tested here.
    """
    inner = der.whole(info.key)
    if inner.integer() != 0:
        raise Malformed("unsupported-key", "an RSA key with more than two primes is not accepted")
    numbers = RsaKey(*(inner.integer() for _ in range(8)))
    inner.finish()
    n, e, d, p, q, dp, dq, qinv = numbers
    if min(numbers) <= 1 or p * q != n or e * d % (p - 1) != 1 or e * d % (q - 1) != 1 or dp != d % (p - 1) or dq != d % (q - 1) or qinv * q % p != 1:
        raise Malformed("bad-private-key", "the numbers of the RSA key do not belong together: the file is damaged")
    return numbers


def read_raw(info: PrivateKeyInfo) -> bytes:
    """The seed of an Ed25519 or Ed448 key (RFC 8410 7)."""
    inner = der.Reader(info.key)
    seed = inner.octets()
    inner.finish()
    return seed


def encrypt(pkcs8: bytes, password: bytes, *, salt: bytes, iv: bytes, iterations: int, derive: pbe.Derive = hashlib.pbkdf2_hmac) -> bytes:
    """EncryptedPrivateKeyInfo: PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA256 (RFC 8018 6.2). `iv` has 16 bytes."""
    scheme = pbe.pbes2(salt, iv, iterations)
    return der.seq(pbe.encode(scheme), der.octets(pbe.encrypt(scheme, pkcs8, password, derive)))


def encryption(data: bytes) -> tuple[pbe.Scheme, bytes]:
    """How an EncryptedPrivateKeyInfo is encrypted, and its ciphertext. Raises Malformed."""
    _check_size(data)
    outer = der.whole(data)
    scheme = pbe.read(outer.inside())
    ciphertext = outer.octets()
    outer.finish()
    return scheme, ciphertext


def decrypt(data: bytes, password: bytes, *, derive: pbe.Derive = hashlib.pbkdf2_hmac) -> bytes:
    """The plain PKCS#8 inside an EncryptedPrivateKeyInfo.

    Raises Malformed: "wrong-passphrase" when the password does not open it, "unsupported-encryption", "bad-encryption" or "bad-der" otherwise.
    """
    scheme, ciphertext = encryption(data)
    plain = pbe.decrypt(scheme, ciphertext, password, derive)
    if plain is not None:
        try:
            read(plain)
        except Malformed:
            plain = None  # one wrong password in about 250 leaves a padding that looks right
    if plain is None:
        raise Malformed("wrong-passphrase", "the passphrase does not open this private key", hint="give the passphrase it was encrypted with")
    return plain


def is_encrypted(data: bytes) -> bool:
    """Whether these are the bytes of an EncryptedPrivateKeyInfo and not of a plain key: its first element is an algorithm, not a version."""
    try:
        return der.whole(data).peek() == der.SEQUENCE
    except Malformed:
        return False


def from_pkcs1(data: bytes) -> bytes:
    """PKCS#8 around an RSAPrivateKey."""
    return encode(RSA, der.null(), data)


def from_sec1(data: bytes) -> bytes:
    """PKCS#8 around an ECPrivateKey, which must name its curve."""
    curve, _, _ = _read_sec1(data)
    if not curve:
        raise Malformed("bad-private-key", "the elliptic-curve key does not say on which curve it is")
    return encode(EC, der.oid(curve), data)


def public_key(data: bytes) -> bytes:
    """The SubjectPublicKeyInfo that belongs to a plain PKCS#8 key. Raises Malformed("bad-private-key") where it cannot be used."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        public = serialization.load_der_private_key(data, None).public_key()
        return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed("bad-private-key", "the private key cannot be used: it is damaged or of an unknown kind") from None


def unlock(data: bytes, password: bytes | None, *, derive: pbe.Derive = hashlib.pbkdf2_hmac) -> bytes:
    """Plain PKCS#8 out of a private key in any usual form: PEM or DER; PKCS#8, encrypted PKCS#8, PKCS#1 or SEC 1.

    `password` is used only where the key is encrypted. Raises Malformed: "passphrase-needed", "not-a-key", "bad-private-key", "unsupported-key" and those of
    `decrypt`.
    """
    _check_size(data)
    form, body = _find(data)
    if form == "traditional":
        return _traditional(body, password)
    if form == "encrypted":
        if password is None:
            raise _passphrase_needed()
        return decrypt(body, password, derive=derive)
    plain = from_pkcs1(body) if form == "pkcs1" else from_sec1(body) if form == "sec1" else body
    read(plain)
    return plain


def to_pem(data: bytes) -> bytes:
    """PEM of a PKCS#8 key, plain or encrypted, labelled as RFC 7468 10 and 11 want it."""
    label = b"ENCRYPTED PRIVATE KEY" if is_encrypted(data) else b"PRIVATE KEY"
    text = binascii.b2a_base64(data, newline=False)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN " + label + b"-----\n" + lines + b"\n-----END " + label + b"-----\n"


def _check_size(data: bytes) -> None:
    if not data:
        raise Malformed("not-a-key", "the private key is empty")
    if len(data) > MOST_BYTES:
        raise Malformed("not-a-key", f"{len(data)} bytes are too many for a private key; at most {MOST_BYTES} are read", size=len(data))


def _passphrase_needed() -> Malformed:
    return Malformed("passphrase-needed", "the private key is encrypted, and no passphrase was given", hint="give the file that holds its passphrase")


def _find(data: bytes) -> tuple[str, bytes]:
    """The one private key in `data`: its form and its bytes (DER; for "traditional" the PEM block)."""
    if b"-----BEGIN " not in data:
        return _form_of_der(data), data
    blocks = _blocks(data)
    keys = [(label, body, block) for label, body, block in blocks if label.endswith("PRIVATE KEY")]
    if len(keys) > 1:
        raise Malformed("bad-private-key", f"the file holds {len(keys)} private keys; give one at a time")
    if not keys:
        found = blocks[0][0].lower() if blocks else "a PEM block without an end"
        raise Malformed("not-a-key", f"this is no private key: it holds {found}", hint="a private key begins with -----BEGIN PRIVATE KEY-----")
    label, body, block = keys[0]
    if label not in _LABELS:
        hint = "convert it: ssh-keygen -p -m PKCS8 -f FILE" if label.startswith("OPENSSH") else ""
        raise Malformed("unsupported-key", f"a private key of the form {label!r} is not read here", hint=hint)
    if body.startswith(b"Proc-Type:"):
        return "traditional", block
    try:
        return _LABELS[label], binascii.a2b_base64(re.sub(rb"\s+", b"", body), strict_mode=True)
    except binascii.Error:
        raise Malformed("bad-private-key", "the private key's PEM block is not base64: the file is cut or damaged") from None


def _blocks(data: bytes) -> list[tuple[str, bytes, bytes]]:
    """PEM blocks as (label, body, whole). What has no end is passed over."""
    found: list[tuple[str, bytes, bytes]] = []
    endless: set[bytes] = set()  # labels without an end from here on: not to be looked for again and again
    at = 0
    while begin := _BEGIN.search(data, at):
        at = begin.end()
        end = b"-----END " + begin[1] + b"-----"
        stop = -1 if end in endless else data.find(end, at)
        if stop < 0:
            endless.add(end)
            continue
        at = stop + len(end)
        found.append((begin[1].decode(), data[begin.end() : stop], data[begin.start() : at]))
    return found


def _form_of_der(data: bytes) -> str:
    try:
        inner = der.whole(data)
        if inner.peek() == der.SEQUENCE:
            return "encrypted"
        inner.integer()
    except Malformed:
        raise Malformed("not-a-key", "this is neither PEM nor DER of a private key") from None
    return {der.SEQUENCE: "pkcs8", der.INTEGER: "pkcs1", der.OCTET_STRING: "sec1"}.get(inner.peek(), "pkcs8")


def _traditional(pem: bytes, password: bytes | None) -> bytes:
    """OpenSSL's own encrypted PEM (`Proc-Type: 4,ENCRYPTED`), as easy-rsa and OpenSSL before 1.0 wrote it."""
    if password is None:
        raise _passphrase_needed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(pem + b"\n", password)
        return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    except UnsupportedAlgorithm as problem:
        raise Malformed("unsupported-encryption", f"the private key is encrypted in a way that is not supported: {problem}") from None
    except (ValueError, TypeError):
        raise Malformed("wrong-passphrase", "the passphrase does not open this private key", hint="give the passphrase it was encrypted with") from None
