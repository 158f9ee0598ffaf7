"""PKCS#12 (RFC 7292): one private key with its certificate and issuers under one password, written for two kinds of readers, read from all.

What opens what was measured: `any` is the only form that every system opens, `modern` needs readers of the last years. RC2 is never written.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import GatekeyError, Malformed, Reason, Refused
from . import der, pbe, pkcs8

#: `any`: 3DES and SHA-1, 2,048 iterations. Opens everywhere; safe only under a generated password. `modern`: AES-256 and SHA-256, 10,000 iterations.
TARGETS = ("any", "modern")

#: A file longer than this is no identity of one person.
MOST_BYTES = 1024 * 1024
_MOST_PARTS = 64

_DATA, _ENCRYPTED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.6"
_KEY_BAG, _SHROUDED_BAG, _CERT_BAG, _SAFE_BAG = (f"1.2.840.113549.1.12.10.1.{n}" for n in (1, 2, 3, 6))
_X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
_FRIENDLY_NAME, _LOCAL_KEY_ID = "1.2.840.113549.1.9.20", "1.2.840.113549.1.9.21"
_SHA1, _SHA256 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1"
_HASHES = {_SHA1: "sha1", "2.16.840.1.101.3.4.2.4": "sha224", _SHA256: "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
_PBMAC1 = "1.2.840.113549.1.5.14"
_PORTABLE_KEYS = (pkcs8.RSA, pkcs8.EC)


class Opened(NamedTuple):
    """What was inside: plain PKCS#8, its certificate, the other certificates (issuers in order first), and the name it goes by."""

    pkcs8: bytes
    certificate: bytes
    chain: tuple[bytes, ...]
    friendly_name: str


class Part(NamedTuple):
    """One part of the file as it shows itself without a password. `encryption` is "" where it is not encrypted; `salt` is a number of bytes."""

    holds: str
    encryption: str = ""
    iterations: int = 0
    salt: int = 0
    friendly_name: str = ""


class Account(NamedTuple):
    """The structure of a PKCS#12 without its password. `mac` is "" where nothing protects the whole."""

    mac: str
    mac_iterations: int
    mac_salt: int
    parts: tuple[Part, ...]


class _Mac(NamedTuple):
    described: str
    hash: str
    digest: bytes
    salt: bytes
    iterations: int
    pbmac1: tuple[str, int] | None = None  # PRF and key length of PBKDF2, for RFC 9879


class _Bag(NamedTuple):
    kind: str
    value: bytes
    friendly_name: str
    key_id: bytes


def refusal(key_type: str, target: str) -> Reason | None:
    """Why a key of this type cannot go into a PKCS#12 (or a .mobileconfig around one) for `target`, or None. `pem` takes every key."""
    if target == "pem" or key_type.startswith("rsa-") or key_type in ("p256", "p384", "p521"):
        return None
    return Reason(
        "key-not-for-target",
        f"{key_type} keys cannot be used by browsers and key stores, so none is written for {target!r}",
        "take a P-256 or RSA key, or --for pem",
        {"found": key_type, "target": target},
    )


def encode(
    pkcs8_key: bytes,
    certificate: bytes,
    chain: Sequence[bytes],
    *,
    friendly_name: str,
    password: str,
    target: str,
    random: Callable[[int], bytes],
) -> bytes:
    """A PKCS#12 for `target`: key and certificate (both with `friendly_name` and the same localKeyId) and the certificates of `chain`.

    Raises Refused: "unknown-target", "key-not-for-target" (neither RSA nor EC) or "bad-password" (empty, or not ASCII: not every reader opens such a file).
    """
    if target not in TARGETS:
        raise Refused("unknown-target", f"{target!r} is no form of PKCS#12", hint=" or ".join(TARGETS), found=target)
    if not password or not password.isascii() or not password.isprintable():
        raise Refused("bad-password", "the password of a PKCS#12 must be printable ASCII and not empty: other ones do not open everywhere")
    if (algorithm := pkcs8.read(pkcs8_key).algorithm) not in _PORTABLE_KEYS:
        raise Refused("key-not-for-target", "only RSA and EC keys can be used by browsers and key stores", hint="write it with --for pem", algorithm=algorithm)
    attributes = _attributes(friendly_name, hashlib.sha1(certificate, usedforsecurity=False).digest())
    secret = password.encode()
    certificates = der.seq(_cert_bag(certificate, attributes), *(_cert_bag(one, b"") for one in chain))
    scheme = _scheme(target, random)
    shrouded = der.seq(pbe.encode(scheme), der.octets(pbe.encrypt(scheme, pkcs8_key, secret)))
    key = der.seq(der.seq(der.oid(_SHROUDED_BAG), der.explicit(0, shrouded), attributes))
    safe = der.seq(_encrypted_part(_scheme(target, random), certificates, secret), _part(key))
    return der.seq(der.integer(3), _part(safe), _mac(safe, password, target, random))


def _scheme(target: str, random: Callable[[int], bytes]) -> pbe.Scheme:
    if target == "any":
        return pbe.sha1_3des(random(8), 2048)
    return pbe.pbes2(random(16), random(16), 10_000)


def _part(content: bytes) -> bytes:
    """ContentInfo of type data."""
    return der.seq(der.oid(_DATA), der.explicit(0, der.octets(content)))


def _encrypted_part(scheme: pbe.Scheme, content: bytes, secret: bytes) -> bytes:
    """ContentInfo of type encryptedData (RFC 2315 13)."""
    inner = der.seq(der.oid(_DATA), pbe.encode(scheme), der.implicit(0, pbe.encrypt(scheme, content, secret)))
    return der.seq(der.oid(_ENCRYPTED_DATA), der.explicit(0, der.seq(der.integer(0), inner)))


def _cert_bag(certificate: bytes, attributes: bytes) -> bytes:
    inner = der.seq(der.oid(_X509_CERTIFICATE), der.explicit(0, der.octets(certificate)))
    return der.seq(der.oid(_CERT_BAG), der.explicit(0, inner), attributes)


def _attributes(friendly_name: str, key_id: bytes) -> bytes:
    """The attributes friendlyName and localKeyId: what Windows and NSS show, and what Java and NSS pair key and certificate by."""
    name = "".join(c if ord(c) < 0x10000 else "\ufffd" for c in friendly_name)  # a BMPString has no characters beyond
    named = (der.seq(der.oid(_FRIENDLY_NAME), der.set_of(der.tlv(der.BMP, name.encode("utf-16-be", "replace")))),) if name else ()
    return der.set_of(*named, der.seq(der.oid(_LOCAL_KEY_ID), der.set_of(der.octets(key_id))))


def _mac(safe: bytes, password: str, target: str, random: Callable[[int], bytes]) -> bytes:
    """MacData over the AuthenticatedSafe (RFC 7292 4)."""
    oid, name, salt_size, iterations = (_SHA1, "sha1", 8, 2048) if target == "any" else (_SHA256, "sha256", 16, 10_000)
    salt = random(salt_size)
    key = pbe.pkcs12_key(pbe.bmp_password(password), salt, 3, iterations, hashlib.new(name).digest_size, name)
    digest = hmac.digest(key, safe, name)
    return der.seq(der.seq(der.seq(der.oid(oid), der.null()), der.octets(digest)), der.octets(salt), der.integer(iterations))


def account(data: bytes) -> Account:
    """What can be said of a PKCS#12 without its password. Raises Malformed("bad-pkcs12")."""
    safe, mac = _open(data)
    parts: list[Part] = []
    for scheme, content in _contents(safe):
        if scheme:
            parts.append(Part("encrypted content", scheme.described, scheme.iterations, len(scheme.salt)))
            continue
        for bag in _bags(content):
            if bag.kind == _SHROUDED_BAG:
                inner, _ = pkcs8.encryption(bag.value)
                parts.append(Part("private key", inner.described, inner.iterations, len(inner.salt), bag.friendly_name))
            else:
                holds = {_KEY_BAG: "private key", _CERT_BAG: "certificate"}.get(bag.kind, f"bag {bag.kind}")
                parts.append(Part(holds, friendly_name=bag.friendly_name))
    return Account(mac.described if mac else "", mac.iterations if mac else 0, len(mac.salt) if mac else 0, tuple(parts))


def read(data: bytes, password: str) -> Opened:
    """The one identity inside.

    Raises Malformed: "bad-pkcs12" (not a PKCS#12, cut or damaged), "wrong-password", "unsupported-encryption", or "no-identity" where there is not exactly one
    private key with its certificate.
    """
    safe, mac = _open(data)
    secret = password.encode("utf-8", "surrogatepass")
    if mac and not _mac_holds(mac, safe, password):
        raise _wrong_password()
    keys: list[_Bag] = []
    certificates: list[_Bag] = []
    spent = 0
    for scheme, content in _contents(safe):
        plain: bytes | None = content
        if scheme:
            if not scheme.cipher:
                return _read_old(data, password, scheme)
            spent = _spend(spent, scheme)
            plain = pbe.decrypt(scheme, content, secret)
            if plain is None:
                raise _damaged("its parts cannot be decrypted") if mac else _wrong_password()
        for bag in _bags(plain or b""):
            if bag.kind == _SHROUDED_BAG:
                inner, _ = pkcs8.encryption(bag.value)
                if not inner.cipher:
                    return _read_old(data, password, inner)
                spent = _spend(spent, inner)
                keys.append(bag._replace(value=_unshroud(bag.value, secret)))
            elif bag.kind == _KEY_BAG:
                keys.append(bag)
            elif bag.kind == _CERT_BAG:
                certificates.append(bag)
    return _pair(keys, certificates)


def _wrong_password() -> Malformed:
    hint = "check the password; if it is surely right, the file was changed on its way"
    return Malformed("wrong-password", "the password does not open this PKCS#12", hint=hint)


def _damaged(what: str) -> Malformed:
    return Malformed("bad-pkcs12", f"this PKCS#12 is damaged or cut: {what}")


def _spend(spent: int, scheme: pbe.Scheme) -> int:
    """Keeps the sum of all iterations in a file within bounds."""
    spent += scheme.iterations
    if spent > pbe.MOST_ITERATIONS:
        raise Malformed("bad-encryption", f"the file wants more than {pbe.MOST_ITERATIONS} iterations of key derivation", iterations=spent)
    return spent


def _unshroud(data: bytes, secret: bytes) -> bytes:
    try:
        return pkcs8.decrypt(data, secret)
    except Malformed as problem:
        raise _wrong_password() if problem.code == "wrong-passphrase" else problem from None


def _open(data: bytes) -> tuple[bytes, _Mac | None]:
    """The AuthenticatedSafe's bytes and what protects them."""
    if len(data) > MOST_BYTES:
        raise Malformed("bad-pkcs12", f"{len(data)} bytes are too many for a PKCS#12; at most {MOST_BYTES} are read", size=len(data))
    try:
        outer = der.whole(to_der(data))
        if (version := outer.integer()) != 3:
            raise Malformed("bad-pkcs12", f"this is no PKCS#12: it has version {version}, PKCS#12 has 3")
        content = outer.inside()
        if (kind := content.oid()) != _DATA:
            raise Malformed("bad-pkcs12", f"this PKCS#12 is protected with {kind}; only protection by a password is read")
        safe = content.inside(0xA0).octets()
        mac = _read_mac(outer.inside()) if outer else None
        outer.finish()
    except Malformed as problem:
        if problem.code == "bad-der":
            raise Malformed("bad-pkcs12", f"this is no PKCS#12, or it is damaged or cut: {problem.message}") from None
        raise
    return safe, mac


def _read_mac(data: der.Reader) -> _Mac:
    info = data.inside()
    algorithm = info.inside()
    oid = algorithm.oid()
    digest = info.octets()
    salt = data.octets()
    iterations = data.integer() if data else 1
    if oid == _PBMAC1:
        return _read_pbmac1(algorithm.inside(), digest)
    if oid not in _HASHES:
        raise Malformed("unsupported-encryption", f"the file is protected by a MAC with the hash {oid}, which is not supported", scheme=oid)
    if not 0 < iterations <= pbe.MOST_ITERATIONS:
        raise Malformed("bad-encryption", f"the MAC wants {iterations} iterations; 1 to {pbe.MOST_ITERATIONS} are accepted", iterations=iterations)
    return _Mac(f"HMAC-{_HASHES[oid].upper()}", _HASHES[oid], digest, salt, iterations)


def _read_pbmac1(params: der.Reader, digest: bytes) -> _Mac:
    """PBMAC1 with PBKDF2 (RFC 9879): salt and iterations of MacData do not count."""
    kdf = params.inside()
    if kdf.oid() != pbe.PBKDF2:
        raise Malformed("unsupported-encryption", "the file is protected by PBMAC1 without PBKDF2, which is not supported")
    inner = kdf.inside()
    salt, iterations, size, prf = inner.octets(), inner.integer(), inner.integer(), inner.inside().oid()
    mac = params.inside().oid()
    if prf not in pbe.PRFS or mac not in pbe.PRFS:
        raise Malformed("unsupported-encryption", f"the file is protected by PBMAC1 with {mac}, which is not supported")
    if not 0 < iterations <= pbe.MOST_ITERATIONS or not 20 <= size <= 64:
        raise Malformed("bad-encryption", f"PBMAC1 wants {iterations} iterations and {size} bytes of key, which is beyond the limits")
    return _Mac(f"PBMAC1, HMAC-{pbe.PRFS[mac].upper()}", pbe.PRFS[mac], digest, salt, iterations, (pbe.PRFS[prf], size))


def _mac_holds(mac: _Mac, safe: bytes, password: str) -> bool:
    if mac.pbmac1:
        prf, size = mac.pbmac1
        key = hashlib.pbkdf2_hmac(prf, password.encode("utf-8", "surrogatepass"), mac.salt, mac.iterations, size)
        return hmac.compare_digest(hmac.digest(key, safe, mac.hash), mac.digest)
    # No password: some writers derive from nothing at all, others from the closing zero alone.
    secrets = (pbe.bmp_password(password),) if password else (b"\0\0", b"")
    size = hashlib.new(mac.hash).digest_size
    keys = (pbe.pkcs12_key(secret, mac.salt, 3, mac.iterations, size, mac.hash) for secret in secrets)
    return any(hmac.compare_digest(hmac.digest(key, safe, mac.hash), mac.digest) for key in keys)


def _contents(safe: bytes) -> list[tuple[pbe.Scheme | None, bytes]]:
    """The ContentInfos of an AuthenticatedSafe: how each is encrypted, or None, and its content."""
    try:
        parts = der.whole(to_der(safe))
        found: list[tuple[pbe.Scheme | None, bytes]] = []
        while parts:
            part = parts.inside()
            kind = part.oid()
            content = part.inside(0xA0)
            if kind == _DATA:
                found.append((None, content.octets()))
            elif kind == _ENCRYPTED_DATA:
                found.append(_read_encrypted_part(content.inside()))
            else:
                raise Malformed("unsupported-encryption", f"a part of the file is protected with {kind}; only passwords are supported", scheme=kind)
            if len(found) > _MOST_PARTS:
                raise Malformed("bad-pkcs12", f"the file has more than {_MOST_PARTS} parts")
    except Malformed as problem:
        raise (_damaged(problem.message) if problem.code == "bad-der" else problem) from None
    return found


def _read_encrypted_part(data: der.Reader) -> tuple[pbe.Scheme, bytes]:
    data.integer()
    info = data.inside()
    info.oid()
    scheme = pbe.read(info.inside())
    if info.peek() == 0xA0:  # the ciphertext in pieces, as BER allows
        pieces, content = info.inside(0xA0), b""
        while pieces:
            content += pieces.octets()
        return scheme, content
    return scheme, info.content(0x80)


def _bags(content: bytes, depth: int = 0) -> list[_Bag]:
    """The bags of a SafeContents, nested ones included."""
    try:
        reader = der.whole(to_der(content))
        bags: list[_Bag] = []
        while reader:
            bag = reader.inside()
            kind = bag.oid()
            value = bag.inside(0xA0)
            name, key_id = _read_attributes(bag.inside(der.SET)) if bag.peek() == der.SET else ("", b"")
            if kind == _SAFE_BAG and depth < 3:
                bags += _bags(value.raw(), depth + 1)
            elif kind == _CERT_BAG:
                inner = value.inside()
                if inner.oid() == _X509_CERTIFICATE:
                    bags.append(_Bag(kind, inner.inside(0xA0).octets(), name, key_id))
            else:
                bags.append(_Bag(kind, value.raw(), name, key_id))
            if len(bags) > _MOST_PARTS:
                raise Malformed("bad-pkcs12", f"the file holds more than {_MOST_PARTS} keys and certificates")
    except Malformed as problem:
        raise (_damaged(problem.message) if problem.code == "bad-der" else problem) from None
    return bags


def _read_attributes(attributes: der.Reader) -> tuple[str, bytes]:
    """The friendlyName and localKeyId; others are passed over."""
    name, key_id = "", b""
    while attributes:
        attribute = attributes.inside()
        kind, values = attribute.oid(), attribute.inside(der.SET)
        if kind == _FRIENDLY_NAME and values:
            name = values.any()[1].decode("utf-16-be", "replace")
        elif kind == _LOCAL_KEY_ID and values:
            key_id = values.any()[1]
    return name, key_id


def _pair(keys: list[_Bag], certificates: list[_Bag]) -> Opened:
    """The key, the certificate that belongs to it, and the rest with the issuers of that certificate in order first."""
    if not keys:
        found = f"{len(certificates)} certificate{'' if len(certificates) == 1 else 's'}"
        raise Malformed("no-identity", f"this PKCS#12 holds no private key, only {found}", hint="export it again together with its private key")
    if len(keys) > 1:
        raise Malformed("no-identity", f"this PKCS#12 holds {len(keys)} private keys; one is expected", hint="export one identity at a time")
    key = keys[0]
    public = pkcs8.public_key(key.value)
    own = [bag for bag in certificates if _parts_of(bag.value)[2] == public]
    if not own:
        raise Malformed("no-identity", "this PKCS#12 holds a private key, but not the certificate that belongs to it")
    leaf = next((bag for bag in own if bag.key_id and bag.key_id == key.key_id), own[0])
    rest = [bag.value for bag in certificates if bag is not leaf]
    return Opened(key.value, leaf.value, _issuers_first(leaf.value, rest), leaf.friendly_name or key.friendly_name)


def _issuers_first(leaf: bytes, rest: list[bytes]) -> tuple[bytes, ...]:
    chain: list[bytes] = []
    left = list(rest)
    issuer = _parts_of(leaf)[0]
    while above := next((one for one in left if _parts_of(one)[1] == issuer), None):
        chain.append(above)
        left.remove(above)
        issuer = _parts_of(above)[0]
    return (*chain, *left)


def _parts_of(certificate: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and public key of a certificate; the rest is not looked at."""
    try:
        tbs = der.whole(certificate).inside()
        tbs.optional(0xA0)
        tbs.integer()
        tbs.raw()
        issuer = tbs.raw()
        tbs.raw()
        return issuer, tbs.raw(), tbs.raw()
    except Malformed as problem:
        raise _damaged(f"a certificate in it cannot be read: {problem.message}") from None


def _read_old(data: bytes, password: str, scheme: pbe.Scheme) -> Opened:
    """Files in RC2 and the like, which old exports still have: whatever the library can open."""
    refused = Malformed(
        "unsupported-encryption",
        f"it is encrypted with {scheme.described}, which is not supported",
        hint="export it again as AES-256 or 3DES; with openssl: pkcs12 -legacy -in OLD -nodes | openssl pkcs12 -export -out NEW",
        scheme=scheme.oid,
    )
    import warnings

    # The one place that may load cryptography.x509 (0.1 s): these files are rare.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the file is BER, which old exports are
            found = pkcs12.load_pkcs12(data, password.encode("utf-8", "surrogatepass"))
        if found.key is None or found.cert is None:
            raise refused
        key = found.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        name = (found.cert.friendly_name or b"").decode("utf-8", "replace")
        rest = [other.certificate.public_bytes(serialization.Encoding.DER) for other in found.additional_certs]
        leaf = found.cert.certificate.public_bytes(serialization.Encoding.DER)
        return Opened(key, leaf, _issuers_first(leaf, rest), name)
    except GatekeyError:
        raise
    except Exception:  # noqa: BLE001  the library's errors here are of many classes; each means that the file stays shut
        raise refused from None


def to_der(data: bytes) -> bytes:
    """The same value with definite minimal lengths and strings in one piece: NSS, Java and Windows write their PKCS#12 in BER (X.690 8.1.3, 8.7).

    Only the outermost value is read; what stands inside an OCTET STRING stays as it is. Raises Malformed("bad-der").
    """
    value, end = _normal(data, 0, len(data), 0)
    if end != len(data):
        raise Malformed("bad-der", f"not DER: bytes left over at byte {end}", offset=end)
    return value


def _normal(data: bytes, at: int, end: int, depth: int) -> tuple[bytes, int]:
    """The element at `at` in DER, and where the next begins."""
    if at + 2 > end or depth > 40:
        raise Malformed("bad-der", f"not BER: the value is cut or too deep at byte {at}", offset=at)
    tag, size, body = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise Malformed("bad-der", f"not BER as used here: a tag of more than one byte at byte {at}", offset=at)
    endless = size == 0x80
    if size & 0x7F and size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[body : body + count], "big")
        body += count
    stop = end if endless else body + size
    if stop > end or body > end or (endless and not tag & 0x20):
        raise Malformed("bad-der", f"not BER: a length that does not fit at byte {at}", offset=at)
    if not tag & 0x20:
        return der.tlv(tag, data[body:stop]), stop
    parts: list[bytes] = []
    while body < stop and not (endless and data[body : body + 2] == b"\0\0"):
        part, body = _normal(data, body, stop, depth + 1)
        parts.append(part)
    if endless:
        if data[body : body + 2] != b"\0\0":
            raise Malformed("bad-der", f"not BER: an endless value without an end at byte {at}", offset=at)
        stop = body + 2
    if tag == 0x24:
        return der.tlv(der.OCTET_STRING, *(der.Reader(part).octets() for part in parts)), stop
    return der.tlv(tag, *parts), stop
