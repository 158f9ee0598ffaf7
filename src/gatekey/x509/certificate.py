"""Certificates: to-be-signed bytes out of a Plan, quickly; and strict reading of anybody's (RFC 5280 4). Long because the two must say the same."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import Malformed
from ..model.plan import NameConstraints, Plan
from . import names, oids, spki
from .der import (
    BOOLEAN,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    Reader,
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
    tlv,
    whole,
)
from .names import GeneralNames

#: Budgets of what is read: bytes of one certificate, extensions in one object, bytes of a serial number (RFC 5280 4.1.2.2 allows 20).
MAX_BYTES = 256 * 1024
MAX_EXTENSIONS = 64
MAX_SERIAL_BYTES = 64
#: Distribution points, access descriptions and extended key usages in one extension.
MAX_PARTS = 128


class Issuer(NamedTuple):
    """Who will sign: subject name of the CA (DER), its key identifier, and the AlgorithmIdentifier of its signatures (DER)."""

    name: bytes
    key_id: bytes
    algorithm: bytes


class Extension(NamedTuple):
    """`value` is the content of extnValue."""

    oid: str
    critical: bool
    value: bytes


class DistributionPoint(NamedTuple):
    """One place to fetch a CRL from (RFC 5280 4.2.1.13). `relative` is the DER of a RelativeDistinguishedName; `reasons` are bit numbers, None for all."""

    full: GeneralNames | None
    relative: bytes | None
    reasons: tuple[int, ...] | None
    issuer: GeneralNames | None


class Constraints(NamedTuple):
    """Name constraints (RFC 5280 4.2.1.10); addresses in both sides carry their prefix."""

    permitted: GeneralNames
    excluded: GeneralNames


class Certificate(NamedTuple):
    """What a certificate says.

    `serial` is at least 32 upper-case hex digits. Times are POSIX seconds. `issuer`, `validity`, `subject`, `spki` and `algorithm` are DER.
    `key_usage` and `extended` are None where the extension is missing; unknown extended usages stand there as dotted numbers.
    """

    der: bytes
    tbs: bytes
    version: int
    serial: str
    serial_number: int
    issuer: bytes
    subject: bytes
    validity: bytes
    not_before: int
    not_after: int
    spki: bytes
    algorithm: bytes
    signature: bytes
    extensions: tuple[Extension, ...]
    common_name: str
    names: GeneralNames = GeneralNames()
    ca: bool = False
    path_length: int | None = None
    key_usage: tuple[str, ...] | None = None
    extended: tuple[str, ...] | None = None
    key_id: bytes | None = None
    authority_key_id: bytes | None = None
    crl_points: tuple[DistributionPoint, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    constraints: Constraints | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole certificate, upper-case hex."""
        return hashlib.sha256(self.der).hexdigest().upper()

    @property
    def crl_urls(self) -> tuple[str, ...]:
        return tuple(uri for point in self.crl_points if point.full for uri in point.full.uris)

    @property
    def self_issued(self) -> bool:
        return self.issuer == self.subject or names.canonical(self.issuer) == names.canonical(self.subject)

    def extension(self, wanted: str) -> Extension | None:
        """The extension with this dotted identifier, or None."""
        for extension in self.extensions:
            if extension.oid == wanted:
                return extension
        return None


# Writing


def serial_hex(number: int) -> str:
    """A serial number as it is written everywhere: upper-case hex, at least 32 digits, a minus sign in front of a (forbidden) negative one."""
    return f"{number:032X}"


_VERSION_3 = explicit(0, integer(2))
_SAN, _SAN_CRITICAL = oid(oids.SUBJECT_ALT_NAME), oid(oids.SUBJECT_ALT_NAME) + boolean(True)
_SKI = oid(oids.SUBJECT_KEY_ID)


def encode_tbs(plan: Plan, serial: str, issuer: Issuer) -> bytes:
    """The TBSCertificate that says what `plan` says, with this serial (hex) under this issuer (RFC 5280 4.1).

    Everything that certificates of one issuer and one kind of plan share is encoded once and kept.
    """
    key_id = spki.key_identifier(plan.spki)
    parts = [
        _fixed(
            (plan.ca, plan.path_length, plan.key_usage, plan.extended),
            (plan.crl_urls, plan.issuer_urls, plan.ocsp_urls),
            plan.constraints,
            plan.no_check,
            plan.no_revocation,
            issuer.key_id,
        ),
        seq(_SKI, octets(octets(key_id))),
    ]
    if plan.names.dns or plan.names.emails or plan.names.ips:
        parts.append(seq(_SAN_CRITICAL if plan.san_critical else _SAN, octets(names.encode_general_names(plan.names))))
    return seq(
        _VERSION_3,
        integer(int(serial, 16)),
        issuer.algorithm,
        issuer.name,
        seq(instant(plan.not_before), instant(plan.not_after)),
        names.encode_name(plan.names.common_name),
        plan.spki,
        explicit(3, seq(*parts)),
    )


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """One Extension, DER; `critical` is left out when false, as DER wants defaults (X.690 11.5)."""
    return seq(oid(dotted), boolean(True) if critical else b"", octets(value))


def authority_key_id(key_id: bytes) -> bytes:
    """The AuthorityKeyIdentifier extension, which names the key only (RFC 5280 4.2.1.1)."""
    return extension(oids.AUTHORITY_KEY_ID, seq(implicit(0, key_id)))


@functools.lru_cache(maxsize=256)
def _fixed(
    shape: tuple[bool, int | None, tuple[str, ...], tuple[str, ...]],
    urls: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
    constraints: NameConstraints | None,
    no_check: bool,
    no_revocation: bool,
    authority: bytes,
) -> bytes:
    """All extensions but the subject's key identifier and names."""
    ca, path_length, key_usage, extended = shape
    crl_urls, issuer_urls, ocsp_urls = urls
    basic = seq(boolean(True), integer(path_length) if path_length is not None else b"") if ca else seq()
    parts = [extension(oids.BASIC_CONSTRAINTS, basic, critical=True)]
    if key_usage:
        parts.append(extension(oids.KEY_USAGE, named_bits([oids.KEY_USAGES.index(usage) for usage in key_usage]), critical=True))
    if extended:
        parts.append(extension(oids.EXTENDED_KEY_USAGE, seq(*(oid(oids.EXTENDED.get(usage, usage)) for usage in extended))))
    parts.append(authority_key_id(authority))
    if constraints is not None and any(constraints):
        parts.append(extension(oids.NAME_CONSTRAINTS, names.encode_constraints(constraints), critical=True))
    if crl_urls:
        parts.append(extension(oids.CRL_DISTRIBUTION_POINTS, seq(seq(explicit(0, explicit(0, names.encode_uris(crl_urls)))))))
    if issuer_urls or ocsp_urls:
        methods = [(oids.AD_OCSP, url) for url in ocsp_urls] + [(oids.AD_CA_ISSUERS, url) for url in issuer_urls]
        parts.append(extension(oids.AUTHORITY_INFO_ACCESS, seq(*(seq(oid(method), names.encode_uris((url,))) for method, url in methods))))
    if no_check:
        parts.append(extension(oids.OCSP_NOCHECK, null()))
    if no_revocation:
        parts.append(extension(oids.NO_REV_AVAIL, null()))
    return b"".join(parts)


def assemble(tbs: bytes, signature: bytes) -> bytes:
    """The signed object, certificate or CRL: `tbs`, the signature algorithm that stands inside `tbs`, and the signature. Raises Malformed("bad-der")."""
    reader = whole(tbs)
    while reader.peek() in (0xA0, INTEGER):
        reader.raw()
    return seq(tbs, reader.raw(SEQUENCE), bits(signature))


# Reading


def read_certificate(der: bytes) -> Certificate:
    """Reads a certificate strictly (RFC 5280 4.1, versions 1 to 3). Raises Malformed("bad-certificate") in a sentence."""
    if len(der) > MAX_BYTES:
        raise _bad(f"it has {len(der)} bytes, more than the {MAX_BYTES} that are read")
    try:
        outer = whole(der)
        tbs, algorithm, signature = outer.raw(SEQUENCE), outer.raw(SEQUENCE), outer.whole_bits()
        outer.finish()
        found = _tbs(tbs)
        if found.algorithm != algorithm:
            raise _bad("its two signature algorithms differ")
    except Malformed as error:
        raise _bad(error.message) if error.code != "bad-certificate" else error from None
    return found._replace(der=der, signature=signature)


def read_tbs(tbs: bytes) -> Certificate:
    """Reads a TBSCertificate alone, as lint does; `der` and `signature` stay empty. Raises Malformed("bad-certificate")."""
    if len(tbs) > MAX_BYTES:
        raise _bad(f"it has {len(tbs)} bytes, more than the {MAX_BYTES} that are read")
    try:
        return _tbs(tbs)
    except Malformed as error:
        raise _bad(error.message) if error.code != "bad-certificate" else error from None


def _bad(why: str) -> Malformed:
    return Malformed("bad-certificate", f"this is not a certificate that can be read: {why}")


def _tbs(tbs: bytes) -> Certificate:
    reader = whole(tbs)
    version = 1
    if (given := reader.optional(0xA0)) is not None:
        version = given.integer() + 1
        given.finish()
        if version not in (2, 3):
            raise _bad(f"its version is {version}, and only 1 to 3 exist")
    serial = read_serial(reader)
    algorithm, issuer = reader.raw(SEQUENCE), reader.raw(SEQUENCE)
    at = reader.pos
    dates = reader.inside()
    not_before, not_after = dates.instant(), dates.instant()
    dates.finish()
    validity = tbs[at : reader.pos]
    subject, key = reader.raw(SEQUENCE), reader.raw(SEQUENCE)
    names.read_name(issuer)
    for tag in (0x81, 0x82):  # unique identifiers, which nobody uses (RFC 5280 4.1.2.8)
        if version > 1 and reader.peek() == tag:
            reader.raw()
    extensions: tuple[Extension, ...] = ()
    if version == 3 and (given := reader.optional(0xA3)) is not None:
        extensions = read_extensions(given)
    reader.finish()
    return Certificate(
        b"",
        tbs,
        version,
        serial_hex(serial),
        serial,
        issuer,
        subject,
        validity,
        not_before,
        not_after,
        key,
        algorithm,
        b"",
        extensions,
        names.common_name(subject),
        **_parsed(extensions),
    )


def read_serial(reader: Reader) -> int:
    """The next INTEGER as a serial number, which may be negative or zero in old certificates."""
    at = reader.pos
    if len(reader.content(INTEGER)) > MAX_SERIAL_BYTES:
        raise Malformed("bad-der", f"a serial number of more than {MAX_SERIAL_BYTES} bytes")
    reader.pos = at
    return reader.integer()


def read_extensions(explicit_reader: Reader) -> tuple[Extension, ...]:
    """Reads Extensions out of its explicit tag: at least one, none twice, within the budget. Raises Malformed("bad-der")."""
    listed = explicit_reader.inside()
    explicit_reader.finish()
    return extension_list(listed)


def extension_list(listed: Reader) -> tuple[Extension, ...]:
    """Reads the extensions that `listed` holds; see `read_extensions`."""
    found: dict[str, Extension] = {}
    while listed:
        at = listed.pos
        raw = listed.raw(SEQUENCE)
        try:
            one = _short_extension(raw) if len(raw) <= _SHORT else _extension(Reader(raw))
        except Malformed:
            one = _extension(Reader(listed.data, at, listed.pos))  # again, to say at which byte of the whole
        if one.oid in found:
            raise Malformed("bad-der", f"the extension {oids.name(one.oid)} stands there twice")
        if len(found) == MAX_EXTENSIONS:
            raise Malformed("bad-der", f"there are more than {MAX_EXTENSIONS} extensions")
        found[one.oid] = one
    if not found:
        raise Malformed("bad-der", "the list of extensions is empty")
    return tuple(found.values())


#: Extensions of so many bytes and fewer are remembered with what they say: those of one issuer and profile are the same in every certificate but two.
_SHORT = 512


@functools.lru_cache(maxsize=1024)
def _short_extension(raw: bytes) -> Extension:
    return _extension(Reader(raw))


def _extension(reader: Reader) -> Extension:
    one = reader.inside()
    read = Extension(one.oid(), _true(one), one.content(OCTET_STRING))
    one.finish()
    return read


def _true(reader: Reader) -> bool:
    """A BOOLEAN DEFAULT FALSE: present only when true (X.690 11.5)."""
    if reader.peek() != BOOLEAN:
        return False
    if not reader.boolean():
        raise Malformed("bad-der", "a default of FALSE that is written out, which DER forbids")
    return True


def _parsed(extensions: tuple[Extension, ...]) -> dict[str, Any]:
    """The fields of Certificate that known extensions give another value than where they are missing."""
    fields: dict[str, Any] = {}
    for kind, _, value in extensions:
        if (read := _READERS.get(kind)) is not None:
            try:
                fields.update(_short_value(kind, value) if len(value) <= _SHORT else read(value))
            except Malformed as error:
                raise Malformed(error.code, f"the extension {oids.name(kind)}: {error.message}") from None
    return fields


@functools.lru_cache(maxsize=1024)
def _short_value(kind: str, value: bytes) -> dict[str, Any]:
    return _READERS[kind](value)


def _basic(value: bytes) -> dict[str, Any]:
    reader = whole(value)
    ca = _true(reader)
    length = reader.integer() if reader.peek() == INTEGER else None
    reader.finish()
    if length is not None and not 0 <= length < 2**31:
        raise Malformed("bad-der", "a path length that is negative or absurd")
    if length is not None and not ca:
        raise Malformed("bad-der", "a path length for something that is not a CA")
    return {"ca": ca, "path_length": length}


def read_key_usage(value: bytes) -> tuple[str, ...]:
    """KeyUsage's value as names, in the order of the bits (RFC 5280 4.2.1.3). Raises Malformed("bad-der")."""
    reader = Reader(value)
    positions = reader.named_bits()
    reader.finish()
    if positions and positions[-1] >= len(oids.KEY_USAGES):
        raise Malformed("bad-der", f"bit {positions[-1]}, which means nothing")
    return tuple(oids.KEY_USAGES[position] for position in positions)


def read_extended(value: bytes) -> tuple[str, ...]:
    """ExtKeyUsageSyntax's value as names, or dotted numbers (RFC 5280 4.2.1.12). Raises Malformed("bad-der")."""
    reader, found = whole(value), list[str]()
    while reader and len(found) < MAX_PARTS:
        found.append(_USAGE_NAMES.get(dotted := reader.oid(), dotted))
    reader.finish()
    if not found:
        raise Malformed("bad-der", "it is empty")
    return tuple(found)


_USAGE_NAMES = {dotted: name for name, dotted in oids.EXTENDED.items()}


def _authority(value: bytes) -> dict[str, Any]:
    reader = whole(value)
    key_id = reader.content(0x80) if reader.peek() == 0x80 else None
    if (issuer := reader.optional(0xA1)) is not None:
        names.general_names(issuer)
    if reader.peek() == 0x82:
        reader.integer(0x82)
    reader.finish()
    return {"authority_key_id": key_id}


def _subject_key(value: bytes) -> dict[str, Any]:
    reader = Reader(value)
    key_id = reader.octets()
    reader.finish()
    return {"key_id": key_id}


def _issuer_names(value: bytes) -> dict[str, Any]:
    """Nobody uses them; they must be readable all the same."""
    names.read_general_names(value)
    return {}


def read_points(value: bytes) -> tuple[DistributionPoint, ...]:
    """CRLDistributionPoints' value, also that of freshestCRL (RFC 5280 4.2.1.13). Raises Malformed("bad-der") or ("bad-name")."""
    reader, found = whole(value), list[DistributionPoint]()
    while reader and len(found) < MAX_PARTS:
        point = reader.inside()
        full, relative = point_name(point.inside(0xA0)) if point.peek() == 0xA0 else (None, None)
        reasons = tuple(point.named_bits(0x81)) if point.peek() == 0x81 else None
        issuer = names.general_names(point.inside(0xA2)) if point.peek() == 0xA2 else None
        point.finish()
        found.append(DistributionPoint(full, relative, reasons, issuer))
    reader.finish()
    if not found:
        raise Malformed("bad-der", "it is empty")
    return tuple(found)


def point_name(reader: Reader) -> tuple[GeneralNames | None, bytes | None]:
    """DistributionPointName: full names, or the DER of a name relative to the CRL issuer."""
    if reader.peek() == 0xA0:
        full, relative = names.general_names(reader.inside(0xA0)), None
    else:
        full, relative = None, tlv(0x31, reader.content(0xA1))
        names.read_name(seq(relative))
    reader.finish()
    return full, relative


def _access(value: bytes) -> dict[str, Any]:
    reader = whole(value)
    urls: dict[str, list[str]] = {oids.AD_OCSP: [], oids.AD_CA_ISSUERS: []}
    collected = 0
    while reader and collected < MAX_PARTS:
        collected += 1
        one = reader.inside()
        method = one.oid()
        place = names.general_names(one)
        if method in urls:
            urls[method].extend(place.uris)
    reader.finish()
    if not collected:
        raise Malformed("bad-der", "it is empty")
    return {"ocsp_urls": tuple(urls[oids.AD_OCSP]), "issuer_urls": tuple(urls[oids.AD_CA_ISSUERS])}


def read_constraints(value: bytes) -> Constraints:
    """NameConstraints' value (RFC 5280 4.2.1.10): minimum must be 0 and maximum absent. Raises Malformed("bad-der") or ("bad-name")."""
    reader = whole(value)
    sides = []
    for tag in (0xA0, 0xA1):
        collected = names.Collector(subtrees=True)
        if (side := reader.optional(tag)) is not None:
            while side:
                subtree = side.inside()
                collected.take(subtree)
                if subtree:
                    raise Malformed("bad-der", "a subtree with a minimum or maximum, which RFC 5280 does not allow")
            if not collected.count:
                raise Malformed("bad-der", "an empty list of subtrees")
        sides.append(collected.result())
    reader.finish()
    if not any(side.total for side in sides):
        raise Malformed("bad-der", "it is empty")
    return Constraints(sides[0], sides[1])


_READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    oids.BASIC_CONSTRAINTS: _basic,
    oids.KEY_USAGE: lambda value: {"key_usage": read_key_usage(value)},
    oids.EXTENDED_KEY_USAGE: lambda value: {"extended": read_extended(value)},
    oids.SUBJECT_KEY_ID: _subject_key,
    oids.AUTHORITY_KEY_ID: _authority,
    oids.SUBJECT_ALT_NAME: lambda value: {"names": names.read_general_names(value)},
    oids.ISSUER_ALT_NAME: _issuer_names,
    oids.CRL_DISTRIBUTION_POINTS: lambda value: {"crl_points": read_points(value)},
    oids.AUTHORITY_INFO_ACCESS: _access,
    oids.NAME_CONSTRAINTS: lambda value: {"constraints": read_constraints(value)},
}
