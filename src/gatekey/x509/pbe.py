"""Encryption under a password: PBES2 (RFC 8018) and the schemes of PKCS#12 with their key derivation (RFC 7292 appendices B and C)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Malformed
from . import der

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm as _Algorithm

#: PBKDF2 as a function of (hash name, password, salt, iterations, key length): `hashlib.pbkdf2_hmac`, or something that remembers its results.
Derive = Callable[[str, bytes, bytes, int, int], bytes]

#: More iterations than this are not tried (Java has the same limit): a file must not keep us busy for minutes.
MOST_ITERATIONS = 5_000_000
_MOST_SCRYPT_MEMORY = 256 * 1024 * 1024
_MOST_SALT = 1024

PBES2 = "1.2.840.113549.1.5.13"
PBKDF2 = "1.2.840.113549.1.5.12"
SCRYPT = "1.3.6.1.4.1.11591.4.11"
SHA1_3DES = "1.2.840.113549.1.12.1.3"
HMAC_SHA256 = "1.2.840.113549.2.9"
AES_256_CBC = "2.16.840.1.101.3.4.1.42"

_CIPHERS = {  # dotted: (name, bytes of key, bytes of iv)
    "2.16.840.1.101.3.4.1.2": ("AES-128-CBC", 16, 16),
    "2.16.840.1.101.3.4.1.22": ("AES-192-CBC", 24, 16),
    AES_256_CBC: ("AES-256-CBC", 32, 16),
    "1.2.840.113549.3.7": ("3DES-CBC", 24, 8),
}
PRFS = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    HMAC_SHA256: "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_OLD = {  # PBES1 and PKCS#12 schemes that are named but never used here
    "1.2.840.113549.1.5.3": "DES-CBC, MD5",
    "1.2.840.113549.1.5.6": "RC2-CBC, MD5",
    "1.2.840.113549.1.5.10": "DES-CBC, SHA-1",
    "1.2.840.113549.1.5.11": "RC2-CBC, SHA-1",
    "1.2.840.113549.1.12.1.1": "RC4-128, SHA-1",
    "1.2.840.113549.1.12.1.2": "RC4-40, SHA-1",
    "1.2.840.113549.1.12.1.4": "2-key 3DES-CBC, SHA-1",
    "1.2.840.113549.1.12.1.5": "RC2-128-CBC, SHA-1",
    "1.2.840.113549.1.12.1.6": "RC2-40-CBC, SHA-1",
}


class Scheme(NamedTuple):
    """How something is encrypted. `cipher` is "" where `described` names something that is not supported here."""

    oid: str
    described: str
    cipher: str = ""
    kdf: str = ""
    hash: str = ""
    salt: bytes = b""
    iterations: int = 0
    key_size: int = 0
    iv: bytes = b""
    cost: tuple[int, int] = (0, 0)


def pbes2(salt: bytes, iv: bytes, iterations: int) -> Scheme:
    """PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA256."""
    return Scheme(PBES2, "PBES2, AES-256-CBC, PBKDF2-HMAC-SHA256", "AES-256-CBC", "pbkdf2", "sha256", salt, iterations, 32, iv)


def sha1_3des(salt: bytes, iterations: int) -> Scheme:
    """pbeWithSHA1And3-KeyTripleDES-CBC (RFC 7292 appendix C): the one form that every system opens."""
    return Scheme(SHA1_3DES, "pbeWithSHA1And3-KeyTripleDES-CBC", "3DES-CBC", "pkcs12", "sha1", salt, iterations, 24)


def encode(scheme: Scheme) -> bytes:
    """The AlgorithmIdentifier of a scheme made by `pbes2` or `sha1_3des`."""
    if scheme.oid == SHA1_3DES:
        return der.seq(der.oid(SHA1_3DES), der.seq(der.octets(scheme.salt), der.integer(scheme.iterations)))
    prf = der.seq(der.oid(HMAC_SHA256), der.null())
    kdf = der.seq(der.oid(PBKDF2), der.seq(der.octets(scheme.salt), der.integer(scheme.iterations), prf))
    return der.seq(der.oid(PBES2), der.seq(kdf, der.seq(der.oid(AES_256_CBC), der.octets(scheme.iv))))


def read(algorithm: der.Reader) -> Scheme:
    """The scheme out of the content of an AlgorithmIdentifier; one that is not supported is described, not refused.

    Raises Malformed where the parameters of a known scheme cannot be read or are beyond the limits.
    """
    oid = algorithm.oid()
    if oid == PBES2:
        scheme = _read_pbes2(algorithm.inside())
    elif oid == SHA1_3DES:
        inner = algorithm.inside()
        scheme = sha1_3des(inner.octets(), inner.integer())
        inner.finish()
    else:
        return Scheme(oid, _OLD.get(oid, f"scheme {oid}"))
    if scheme.cipher:
        algorithm.finish()
        _check_limits(scheme)
    return scheme


def _read_pbes2(params: der.Reader) -> Scheme:
    kdf_algorithm = params.inside()
    kdf = kdf_algorithm.oid()
    cipher_algorithm = params.inside()
    cipher = cipher_algorithm.oid()
    if cipher not in _CIPHERS or kdf not in (PBKDF2, SCRYPT):
        return Scheme(PBES2, f"PBES2 with cipher {_CIPHERS.get(cipher, (cipher,))[0]} and key derivation {kdf}")
    name, key_size, iv_size = _CIPHERS[cipher]
    iv = cipher_algorithm.octets()
    if len(iv) != iv_size:
        raise Malformed("bad-encryption", f"the initialisation vector of {name} has {len(iv)} bytes; it must have {iv_size}")
    inner = kdf_algorithm.inside()
    salt = inner.octets()
    if kdf == SCRYPT:
        n, r, p = inner.integer(), inner.integer(), inner.integer()
        _optional_key_size(inner, key_size)
        return Scheme(PBES2, f"PBES2, {name}, scrypt", name, "scrypt", "", salt, n, key_size, iv, (r, p))
    iterations = inner.integer()
    _optional_key_size(inner, key_size)
    prf = "1.2.840.113549.2.7"  # the DEFAULT of RFC 8018 A.2
    if inner:
        prf_algorithm = inner.inside()
        prf = prf_algorithm.oid()
        inner.finish()
    if prf not in PRFS:
        return Scheme(PBES2, f"PBES2, {name}, PBKDF2 with {prf}")
    return Scheme(PBES2, f"PBES2, {name}, PBKDF2-HMAC-{PRFS[prf].upper()}", name, "pbkdf2", PRFS[prf], salt, iterations, key_size, iv)


def _optional_key_size(inner: der.Reader, key_size: int) -> None:
    if inner.peek() == der.INTEGER and (found := inner.integer()) != key_size:
        raise Malformed("bad-encryption", f"a key of {found} bytes is announced; the cipher needs {key_size}")


def _check_limits(scheme: Scheme) -> None:
    if not 0 < scheme.iterations <= MOST_ITERATIONS:
        raise Malformed(
            "bad-encryption",
            f"{scheme.iterations} iterations are announced; 1 to {MOST_ITERATIONS} are accepted",
            iterations=scheme.iterations,
        )
    if len(scheme.salt) > _MOST_SALT:
        raise Malformed("bad-encryption", f"the salt has {len(scheme.salt)} bytes; at most {_MOST_SALT} are accepted")
    if scheme.kdf == "scrypt":
        n, (r, p) = scheme.iterations, scheme.cost
        if n < 2 or n & (n - 1) or not 0 < r <= 64 or not 0 < p <= 16 or 128 * n * r > _MOST_SCRYPT_MEMORY:
            raise Malformed("bad-encryption", f"scrypt with n={n}, r={r}, p={p} is outside what is accepted", hint="at most 256 MiB of memory are used")


def bmp_password(password: str) -> bytes:
    """The password as a BMPString with its closing zero (RFC 7292 appendix B.1)."""
    return password.encode("utf-16-be", "surrogatepass") + b"\0\0"


def pkcs12_key(password: bytes, salt: bytes, purpose: int, iterations: int, size: int, hash_name: str) -> bytes:
    """The key derivation of PKCS#12 (RFC 7292 appendix B.2). `password` as `bmp_password` gives it; purpose 1 key, 2 iv, 3 MAC key."""
    digest: Callable[..., hashlib._Hash] = getattr(hashlib, hash_name)
    block = digest().block_size
    state = bytearray(_fill(salt, block) + _fill(password, block))
    head = bytes([purpose]) * block
    result = b""
    while True:
        value = digest(head + state).digest()
        for _ in range(iterations - 1):
            value = digest(value).digest()
        result += value
        if len(result) >= size:
            return result[:size]
        add = int.from_bytes(_fill(value, block)[:block], "big") + 1
        for at in range(0, len(state), block):
            total = int.from_bytes(state[at : at + block], "big") + add
            state[at : at + block] = (total & ((1 << 8 * block) - 1)).to_bytes(block, "big")


def _fill(data: bytes, block: int) -> bytes:
    """`data` repeated to the next multiple of `block`; nothing stays nothing."""
    if not data:
        return b""
    size = -(-len(data) // block) * block
    return (data * (size // len(data) + 1))[:size]


def encrypt(scheme: Scheme, data: bytes, password: bytes, derive: Derive = hashlib.pbkdf2_hmac) -> bytes:
    """`data` padded and encrypted. `password` is UTF-8."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    algorithm, iv = _cipher(scheme, password, derive)
    encryptor = Cipher(algorithm, modes.CBC(iv)).encryptor()
    pad = len(iv) - len(data) % len(iv)
    return encryptor.update(data + bytes([pad]) * pad) + encryptor.finalize()


def decrypt(scheme: Scheme, data: bytes, password: bytes, derive: Derive = hashlib.pbkdf2_hmac) -> bytes | None:
    """What `encrypt` was given; None when the padding is wrong, which a wrong password nearly always makes.

    Raises Malformed("unsupported-encryption") for a scheme that is only described, Malformed("bad-encryption") for a cut ciphertext.
    """
    if not scheme.cipher:
        raise Malformed("unsupported-encryption", f"it is encrypted with {scheme.described}, which is not supported", scheme=scheme.oid)
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    block = 8 if scheme.cipher == "3DES-CBC" else 16
    if not data or len(data) % block:
        raise Malformed("bad-encryption", f"the encrypted part has {len(data)} bytes, which is not a multiple of {block}: the file is cut or damaged")
    algorithm, iv = _cipher(scheme, password, derive)
    decryptor = Cipher(algorithm, modes.CBC(iv)).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    pad = plain[-1]
    if not 1 <= pad <= block or plain[-pad:] != bytes([pad]) * pad:
        return None
    return plain[:-pad]


def _cipher(scheme: Scheme, password: bytes, derive: Derive) -> tuple[_Algorithm, bytes]:
    """The keyed block cipher and its iv."""
    key, iv = _key(scheme, password, derive)
    if scheme.cipher == "3DES-CBC":
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

        return TripleDES(key), iv
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    return AES(key), iv


def _key(scheme: Scheme, password: bytes, derive: Derive) -> tuple[bytes, bytes]:
    if scheme.kdf == "pkcs12":
        secret = bmp_password(password.decode("utf-8", "surrogateescape"))
        key = pkcs12_key(secret, scheme.salt, 1, scheme.iterations, scheme.key_size, scheme.hash)
        return key, pkcs12_key(secret, scheme.salt, 2, scheme.iterations, 8, scheme.hash)
    if scheme.kdf == "scrypt":
        r, p = scheme.cost
        memory = _MOST_SCRYPT_MEMORY + 128 * r * (p + 2) + 1024 * 1024
        return hashlib.scrypt(password, salt=scheme.salt, n=scheme.iterations, r=r, p=p, maxmem=memory, dklen=scheme.key_size), scheme.iv
    return derive(scheme.hash, password, scheme.salt, scheme.iterations, scheme.key_size), scheme.iv
