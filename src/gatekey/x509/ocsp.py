"""OCSP (RFC 6960): requests out of strangers' bytes, and answers put together from parts that are encoded once. Signs nothing and knows no ledger."""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

from ..errors import Malformed
from ..model.status import REASONS
from .der import (
    BIT_STRING,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    Reader,
    enumerated,
    explicit,
    generalized,
    header,
    implicit,
    integer,
    null,
    octets,
    oid,
    seq,
    whole,
)

#: Budgets: bytes of a request, certificates that are asked for in one, extensions, octets of a nonce (RFC 9654 2.1: 1 to 128).
MAX_BYTES, MAX_IDS, MAX_EXTENSIONS, MAX_NONCE = 64 * 1024, 100, 16, 128
#: Bytes of a CertID: two SHA-512 hashes and a serial of 20 octets (RFC 5280 4.1.2.2) are 174.
MAX_ID = 256

#: The hashes in which an issuer can be named (RFC 6960 4.1.1; SHA-256: RFC 9919).
HASHES = {"1.3.14.3.2.26": "sha1", "2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
NONCE, BASIC = "1.3.6.1.5.5.7.48.1.2", "1.3.6.1.5.5.7.48.1.1"
#: Extensions that may be critical, because they change nothing in the answer or are obeyed: nonce, acceptable responses.
_UNDERSTOOD = (NONCE, "1.3.6.1.5.5.7.48.1.4")

#: OCSPResponseStatus (RFC 6960 4.2.1).
SUCCESSFUL, MALFORMED_REQUEST, INTERNAL_ERROR, TRY_LATER, SIG_REQUIRED, UNAUTHORIZED = 0, 1, 2, 3, 5, 6


class CertId(NamedTuple):
    """A certificate that is asked for. `issuer`: hash by name, hash of the issuer's name, hash of its key. `raw`: DER, as it must stand in the answer."""

    issuer: tuple[str, bytes, bytes]
    serial: int
    raw: bytes


class OcspRequest(NamedTuple):
    """`nonce` is None when there is none."""

    ids: tuple[CertId, ...]
    nonce: bytes | None


def _bad(what: str) -> Malformed:
    return Malformed("bad-ocsp-request", f"this is no OCSP request that can be read: {what}")


def read_request(der: bytes) -> OcspRequest:
    """Raises Malformed("bad-ocsp-request" or "bad-der"). Neither the asker's signature is looked at (RFC 6960 4.1.2), nor who he says he is."""
    if len(der) > MAX_BYTES:
        raise _bad(f"{len(der)} bytes are more than the {MAX_BYTES} that are read")
    outer = whole(der)
    tbs = outer.inside()
    if outer:
        outer.raw(0xA0)
    outer.finish()
    if version := tbs.optional(0xA0):
        if version.integer() != 0:
            raise _bad("its version is not 1")
        version.finish()
    if tbs.peek() == 0xA1:
        tbs.raw()
    listed = tbs.inside()
    ids = []
    while listed:
        ids.append(_id(listed.inside()))
        if len(ids) > MAX_IDS:
            raise _bad(f"it asks for more than {MAX_IDS} certificates")
    if not ids:
        raise _bad("it asks for nothing")
    nonce = None
    if extensions := tbs.optional(0xA2):
        nonce = _extensions(extensions)
    tbs.finish()
    return OcspRequest(tuple(ids), nonce)


#: Requests up to their nonce, as `encode_request` writes them: whoever asks for the same certificate with another nonce differs in nothing else.
_heads: dict[bytes, tuple[int, OcspRequest]] = {}
_sizes: list[int] = []


def read_again(der: bytes) -> OcspRequest:
    """As `read_request`, quickly where all but the octets of the nonce was read before: every length and tag stands in front of them.

    Remembered is only what has nothing in it but one CertID and a nonce at its very end: then these octets are the nonce, whatever they are, and strangers
    cannot fill the memory with words of their own.
    """
    for size in _sizes:
        known = _heads.get(der[:-size])
        if known is not None and known[0] == size:  # the lengths in the head say how long the nonce is
            return OcspRequest(known[1].ids, der[-size:])
    found = read_request(der)
    if found.nonce and len(found.ids) == 1 and der == encode_request([found.ids[0].raw], found.nonce):
        size = len(found.nonce)
        if len(_heads) >= 1024:
            _heads.clear()
        if size not in _sizes:
            _sizes.insert(0, size)
            del _sizes[4:]
        _heads[der[:-size]] = (size, found)
    return found


def _id(request: Reader) -> CertId:
    raw = request.raw(0x30)
    if extensions := request.optional(0xA0):
        _extensions(extensions)
    request.finish()
    if len(raw) > MAX_ID:
        raise _bad(f"a CertID of {len(raw)} bytes; {MAX_ID} are enough for every hash and serial")
    return _cert_id(raw)


@functools.lru_cache(maxsize=1024)
def _cert_id(raw: bytes) -> CertId:
    """The same few certificates are asked for again and again, with another nonce each time."""
    body = whole(raw)
    algorithm = body.inside()
    name = algorithm.oid()
    if algorithm:
        algorithm.null()
    algorithm.finish()
    found = CertId((HASHES.get(name, name), body.octets(), body.octets()), body.integer(INTEGER), raw)
    body.finish()
    return found


def _extensions(outer: Reader) -> bytes | None:
    """The nonce among some extensions. Raises Malformed for a critical one that is not understood, and for a nonce that RFC 9654 does not allow."""
    listed = outer.inside()
    outer.finish()
    nonce: bytes | None = None
    seen: set[str] = set()
    while listed:
        one = listed.inside()
        name = one.oid()
        critical = one.boolean() if one.peek() == 1 else False
        value = one.octets()
        one.finish()
        if name in seen or len(seen) >= MAX_EXTENSIONS:
            raise _bad("an extension stands there twice, or there are too many")
        seen.add(name)
        if critical and name not in _UNDERSTOOD:
            raise _bad(f"the critical extension {name} is not known")
        if name == NONCE:
            inner = Reader(value)
            nonce = inner.octets()
            inner.finish()
            if not 1 <= len(nonce) <= MAX_NONCE:
                raise _bad(f"its nonce has {len(nonce)} octets; 1 to {MAX_NONCE} are allowed (RFC 9654)")
    return nonce


def issuer_ids(name: bytes, key: bytes) -> list[tuple[str, bytes, bytes]]:
    """Every way in which a request may name this issuer. `name`: DER of its subject; `key`: content of the BIT STRING of its key, without unused bits."""
    return [(kind, hashlib.new(kind, name, usedforsecurity=False).digest(), hashlib.new(kind, key, usedforsecurity=False).digest()) for kind in HASHES.values()]


def encode_request(ids: list[bytes], nonce: bytes | None = None) -> bytes:
    """A request for these CertIDs (DER)."""
    extensions = explicit(2, seq(seq(oid(NONCE), octets(octets(nonce))))) if nonce is not None else b""
    return seq(seq(seq(*(seq(one) for one in ids)), extensions))


def encode_id(issuer: tuple[str, bytes, bytes], serial: int) -> bytes:
    """A CertID."""
    kind = next(dotted for dotted, name in HASHES.items() if name == issuer[0])
    return seq(seq(oid(kind), null()), octets(issuer[1]), octets(issuer[2]), integer(serial))


GOOD, UNKNOWN = implicit(0, b""), implicit(2, b"")


def revoked(at: int, reason: str | None) -> bytes:
    """CertStatus of a revoked certificate. A reason that says nothing is left out."""
    return explicit(1, generalized(at), explicit(0, enumerated(REASONS[reason])) if reason and reason != "unspecified" else b"")


def single(cert_id: bytes, status: bytes, times: bytes) -> bytes:
    """A SingleResponse. `times`: of `update`."""
    return seq(cert_id, status, times)


def update(this_update: int, next_update: int) -> bytes:
    """ThisUpdate and nextUpdate."""
    return generalized(this_update) + explicit(0, generalized(next_update))


def encode_answered(responder: bytes, produced_at: bytes, singles: list[bytes]) -> bytes:
    """What stands in ResponseData before its extensions. `responder`: of `responder_id`; `produced_at`: GeneralizedTime in DER."""
    return responder + produced_at + seq(*singles)


def encode_data(answered: bytes, nonce: bytes | None) -> bytes:
    """ResponseData, which is signed. `answered`: of `encode_answered`."""
    if nonce is None:
        return header(SEQUENCE, len(answered)) + answered
    head = _nonce_head(len(nonce))
    return b"".join((header(SEQUENCE, len(answered) + len(head) + len(nonce)), answered, head, nonce))


@functools.cache
def _nonce_head(size: int) -> bytes:
    """The extensions of an answer up to the octets of the nonce: 128 of them at most."""
    return explicit(1, seq(seq(oid(NONCE), octets(octets(bytes(size))))))[:-size]


def responder_id(key: bytes) -> bytes:
    """ResponderID by key: SHA-1 of the BIT STRING's content (RFC 6960 4.2.1), which says who it is and protects nothing."""
    return explicit(2, octets(hashlib.sha1(key, usedforsecurity=False).digest()))


_BASIC = oid(BASIC)


def encode_response(data: bytes, algorithm: bytes, signature: bytes, certificates: bytes) -> bytes:
    """A whole successful OCSPResponse. `certificates`: of `with_certificates`. One join: this is what an answer costs beside its signature."""
    bits = header(BIT_STRING, len(signature) + 1)
    size = len(data) + len(algorithm) + len(bits) + 1 + len(signature) + len(certificates)
    basic = header(SEQUENCE, size)
    string = header(OCTET_STRING, len(basic) + size)
    size += len(basic) + len(string) + len(_BASIC)
    typed = header(SEQUENCE, size)
    size += len(typed)
    tagged = header(0xA0, size)
    outer = header(SEQUENCE, 3 + len(tagged) + size)
    return b"".join((outer, b"\x0a\x01\x00", tagged, typed, _BASIC, string, basic, data, algorithm, bits, b"\x00", signature, certificates))


def with_certificates(*ders: bytes) -> bytes:
    """The certificates that go with every answer."""
    return explicit(0, seq(*ders))


def encode_error(status: int) -> bytes:
    """An OCSPResponse that answers nothing."""
    return seq(enumerated(status))

