"""Certificate revocation lists (RFC 5280 5): joined out of encoded entries, and read with the entries left where they are, so that a million fit."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Malformed
from ..model.status import REASONS, reason_word
from . import names, oids
from .certificate import (
    DistributionPoint,
    Extension,
    Issuer,
    authority_key_id,
    extension,
    extension_list,
    point_name,
    read_extensions,
    read_points,
    read_serial,
    serial_hex,
)
from .der import ENUMERATED, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, Reader, enumerated, explicit, header, instant, integer, seq, whole
from .names import GeneralNames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: cRLNumber may have 20 bytes (RFC 5280 5.2.3).
MAX_NUMBER_BYTES = 20
#: Extensions that `read_crl` takes into account; a critical one beyond these stands in `Crl.unknown_critical`.
_KNOWN = (
    oids.AUTHORITY_KEY_ID,
    oids.ISSUER_ALT_NAME,
    oids.CRL_NUMBER,
    oids.DELTA_CRL_INDICATOR,
    oids.ISSUING_DISTRIBUTION_POINT,
    oids.FRESHEST_CRL,
    oids.AUTHORITY_INFO_ACCESS,
)
_REASONS = REASONS | {"remove-from-crl": 8}
_WORDS = {code: word for word, code in _REASONS.items()}


class Revoked(NamedTuple):
    """One entry. `serial` as in Certificate; `at` POSIX seconds; `reason` a word of `model.status`; `issuer`: DER name, where an indirect CRL gives one."""

    serial: str
    at: int
    reason: str
    issuer: bytes | None = None


class Scope(NamedTuple):
    """What a CRL is about, out of its issuing distribution point (RFC 5280 5.2.5). `only_reasons` are bit numbers; None means all."""

    full: GeneralNames | None = None
    relative: bytes | None = None
    only_user: bool = False
    only_ca: bool = False
    only_attribute: bool = False
    only_reasons: tuple[int, ...] | None = None
    indirect: bool = False


class Crl:
    """What a CRL says. Entries stay encoded inside `der`: `find` and `entries` read them there.

    `number` and `base_number` are None where the extension is missing; `is_delta`: it only tells changes since `base_number`.
    `scope` is None for a CRL about everything of its issuer. `next_update` is None where it is missing, which RFC 5280 forbids.
    `unknown_critical` names critical extensions that nobody here understands: such a CRL must not be used (RFC 5280 5.2).
    """

    __slots__ = (
        "_entries",
        "_tbs",
        "algorithm",
        "authority_key_id",
        "base_number",
        "count",
        "der",
        "extensions",
        "freshest",
        "issuer",
        "next_update",
        "number",
        "scope",
        "signature",
        "this_update",
        "unknown_critical",
        "version",
    )

    def __init__(self, der: bytes, tbs: tuple[int, int]) -> None:
        self.der, self._tbs = der, tbs
        self.signature = b""
        self.extensions: tuple[Extension, ...] = ()
        self.number: int | None = None
        self.base_number: int | None = None
        self.authority_key_id: bytes | None = None
        self.scope: Scope | None = None
        self.freshest: tuple[DistributionPoint, ...] = ()
        self._read(Reader(der, *tbs).inside())

    @property
    def tbs(self) -> bytes:
        """The to-be-signed bytes, copied out of `der`."""
        return self.der[slice(*self._tbs)]

    @property
    def is_delta(self) -> bool:
        return self.base_number is not None

    @property
    def indirect(self) -> bool:
        return self.scope is not None and self.scope.indirect

    def entries(self) -> Iterator[Revoked]:
        """Every entry in the order of the list. In an indirect CRL an entry without an issuer has that of the one before it (RFC 5280 5.3.3)."""
        issuer, data = None, self.der
        for start, stop, reason, slow in _walk(data, *self._entries):
            if slow is None:
                serial = serial_hex(int.from_bytes(data[start:stop], "big", signed=True))
                yield Revoked(serial, _usual_instant(data, stop + 2), _WORDS[reason], issuer)
            else:
                issuer = slow.revoked.issuer or issuer
                yield slow.revoked._replace(issuer=issuer)

    def find(self, serial: int, issuer: bytes | None = None) -> Revoked | None:
        """The entry for this serial number, or None. `issuer`: who issued the certificate (DER name), if it need not be the CRL's own issuer."""
        needle = integer(serial)
        if self.der.find(needle, *self._entries) < 0:  # at the speed of memory: most certificates are not revoked
            return None
        own, wanted = names.canonical(self.issuer), names.canonical(issuer or self.issuer)
        if self.indirect:
            hexed = serial_hex(serial)
            return next((one for one in self.entries() if one.serial == hexed and wanted == (own if one.issuer is None else names.canonical(one.issuer))), None)
        return self._entry(needle[2:]) if wanted == own else None

    def _entry(self, serial: bytes) -> Revoked | None:
        """The entry of a serial number given as the content of its INTEGER."""
        for start, stop, reason, slow in _walk(self.der, *self._entries):
            if slow is not None:
                if slow.serial == serial:
                    return slow.revoked
            elif self.der[start:stop] == serial:
                return Revoked(serial_hex(int.from_bytes(serial, "big", signed=True)), _usual_instant(self.der, stop + 2), _WORDS[reason])
        return None

    def _read(self, reader: Reader) -> None:
        """Takes the TBSCertList apart (RFC 5280 5.1.2) and walks over the entries once."""
        self.version = 1
        if reader.peek() == INTEGER:
            self.version = reader.integer() + 1
            if self.version != 2:
                raise _bad(f"its version is {self.version}, and only 1 and 2 exist")
        self.algorithm, self.issuer = reader.raw(SEQUENCE), reader.raw(SEQUENCE)
        names.read_name(self.issuer)
        self.this_update = reader.instant()
        self.next_update = reader.instant() if reader.peek() in (UTC_TIME, GENERALIZED_TIME) else None
        self._entries = (reader.pos, reader.pos)
        unknown: set[str] = set()
        self.count = 0
        if (listed := reader.optional(SEQUENCE)) is not None:
            if not listed:
                raise _bad("its list of entries is empty, where it must be left out")
            self._entries = (listed.pos, listed.end)
            for _, _, reason, slow in _walk(self.der, *self._entries):
                self.count += 1
                if slow is not None:
                    unknown.update(slow.unknown_critical)
                if self.version == 1 and (reason or (slow is not None and slow.extended)):
                    raise _bad("an entry has extensions, which version 1 does not know")
        if self.version == 2 and (given := reader.optional(0xA0)) is not None:
            self.extensions = read_extensions(given)
        reader.finish()
        unknown.update(one.oid for one in self.extensions if one.critical and one.oid not in _KNOWN)
        self.unknown_critical = tuple(sorted(unknown))
        for one in self.extensions:
            try:
                self._extension(one)
            except Malformed as error:
                raise Malformed(error.code, f"the extension {oids.name(one.oid)}: {error.message}") from None

    def _extension(self, one: Extension) -> None:
        if one.oid == oids.CRL_NUMBER:
            self.number = _number(one.value)
        elif one.oid == oids.DELTA_CRL_INDICATOR:
            self.base_number = _number(one.value)
        elif one.oid == oids.AUTHORITY_KEY_ID:
            self.authority_key_id = _authority(one.value)
        elif one.oid == oids.ISSUING_DISTRIBUTION_POINT:
            self.scope = _scope(one.value)
        elif one.oid == oids.FRESHEST_CRL:
            self.freshest = read_points(one.value)


# Writing


def encode_entry(serial: str, at: int, reason: str | None) -> bytes:
    """One entry of revokedCertificates, DER. `reason` is a word of `model.status.REASONS`; unspecified is left out (RFC 5280 5.3.1)."""
    return seq(integer(int(serial, 16)), instant(at), _reason(reason))


@functools.cache
def _reason(word: str | None) -> bytes:
    """The extensions of an entry."""
    code = _REASONS[word] if word else 0
    return seq(extension(oids.CRL_REASON, enumerated(code))) if code else b""


def encode_tbs_crl(issuer: Issuer, number: int, this_update: int, next_update: int, entries: Sequence[bytes]) -> bytes:
    """The TBSCertList, version 2 with authority key identifier and CRL number (RFC 5280 5.1), around entries that are encoded already: one join, no copies."""
    front = [integer(1), issuer.algorithm, issuer.name, instant(this_update), instant(next_update)]
    if entries:
        front.append(header(SEQUENCE, sum(map(len, entries))))
    back = explicit(0, seq(authority_key_id(issuer.key_id), extension(oids.CRL_NUMBER, integer(number))))
    size = sum(map(len, front)) + sum(map(len, entries)) + len(back)
    return b"".join([header(SEQUENCE, size), *front, *entries, back])


# Reading


def read_crl(der: bytes) -> Crl:
    """Reads a CRL strictly (RFC 5280 5.1, versions 1 and 2); each entry is checked, none is kept. Raises Malformed("bad-crl") in a sentence."""
    try:
        outer = whole(der)
        start = outer.pos
        outer.inside()
        crl = Crl(der, (start, outer.pos))
        algorithm = outer.raw(SEQUENCE)
        crl.signature = outer.whole_bits()
        outer.finish()
        if crl.algorithm != algorithm:
            raise _bad("its two signature algorithms differ")
    except Malformed as error:
        raise _bad(error.message) if error.code != "bad-crl" else error from None
    return crl


def read_tbs_crl(tbs: bytes) -> Crl:
    """Reads a TBSCertList alone, as lint does; `der` holds it, and `signature` stays empty. Raises Malformed("bad-crl")."""
    try:
        whole(tbs)
        return Crl(tbs, (0, len(tbs)))
    except Malformed as error:
        raise _bad(error.message) if error.code != "bad-crl" else error from None


def _bad(why: str) -> Malformed:
    return Malformed("bad-crl", f"this is not a CRL that can be read: {why}")


class _Slow(NamedTuple):
    """An entry that was read in full, as it is not of the usual form."""

    revoked: Revoked
    serial: bytes
    extended: bool
    unknown_critical: tuple[str, ...]


#: Date and reason of the usual entry; 29 February and all other forms take the slow way.
_USUAL = re.compile(
    rb"\x17\x0d[0-9]{2}(?:(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)|02(?:0[1-9]|1[0-9]|2[0-8]))"
    rb"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]Z"
    rb"(?:0\x0c0\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01([\x01-\x06\x08-\x0a]))?",
    re.DOTALL,
)


def _walk(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, _Slow | None]]:
    """Each entry as: where its serial begins and ends (there its date begins), and its reason code; or, for one of an unusual form, its contents.

    The usual form (a short serial, UTCTime, at most a reason) is recognised in place, in less than a microsecond.
    """
    match = _USUAL.match
    while at < end:
        usual = None
        if at + 20 <= end and data[at] == SEQUENCE and (size := data[at + 1]) < 0x80 and data[at + 2] == INTEGER:
            stop, start = at + 2 + size, at + 4
            when = start + data[at + 3]
            minimal = when - start == 1 or (1 < when - start <= 24 and (data[start], data[start + 1] >= 0x80) not in ((0, False), (0xFF, True)))
            if stop <= end and when <= stop and minimal:
                usual = match(data, when, stop)
        if usual is not None and usual.end() == stop:
            yield start, when, 0 if usual.end(1) < 0 else data[stop - 1], None
            at = stop
        else:
            reader = Reader(data, at, end)
            yield 0, 0, 0, _slow(reader.inside())
            at = reader.pos


def _usual_instant(data: bytes, at: int) -> int:
    """The UTCTime of an entry of the usual form, of which the characters have been checked."""
    clock = int(data[at + 6 : at + 12])
    return _midnight(data[at : at + 6]) + clock // 10000 * 3600 + clock // 100 % 100 * 60 + clock % 100


@functools.lru_cache(maxsize=4096)
def _midnight(date: bytes) -> int:
    return Reader(b"\x17\x0d" + date + b"000000Z").instant()


def _slow(entry: Reader) -> _Slow:
    serial, at = read_serial(entry), entry.instant()
    reason, issuer, unknown = 0, None, list[str]()
    listed = entry.optional(SEQUENCE)
    entry.finish()
    for kind, critical, value in extension_list(listed) if listed is not None else ():
        reader = Reader(value)
        if kind == oids.CRL_REASON:
            reason = reader.integer(ENUMERATED)
            reader.finish()
        elif kind == oids.CERTIFICATE_ISSUER:
            given = names.read_general_names(value)
            if len(given.directory) != 1:
                raise Malformed("bad-der", "an entry whose certificate issuer is not one distinguished name")
            issuer = given.directory[0]
        elif kind == oids.INVALIDITY_DATE:
            reader.instant()
            reader.finish()
        elif critical:
            unknown.append(kind)
    return _Slow(Revoked(serial_hex(serial), at, reason_word(reason), issuer), integer(serial)[2:], listed is not None, tuple(unknown))


def _number(value: bytes) -> int:
    reader = Reader(value)
    if len(value) > MAX_NUMBER_BYTES + 2:
        raise Malformed("bad-der", f"a number of more than {MAX_NUMBER_BYTES} bytes")
    number = reader.integer()
    reader.finish()
    if number < 0:
        raise Malformed("bad-der", "a number below zero")
    return number


def _authority(value: bytes) -> bytes | None:
    reader = whole(value)
    key_id = reader.content(0x80) if reader.peek() == 0x80 else None
    if (issuer := reader.optional(0xA1)) is not None:
        names.general_names(issuer)
    if reader.peek() == 0x82:
        reader.integer(0x82)
    reader.finish()
    return key_id


def _scope(value: bytes) -> Scope:
    reader = whole(value)
    full, relative = point_name(reader.inside(0xA0)) if reader.peek() == 0xA0 else (None, None)
    only_user, only_ca = _flag(reader, 0x81), _flag(reader, 0x82)
    only_reasons = tuple(reader.named_bits(0x83)) if reader.peek() == 0x83 else None
    indirect, only_attribute = _flag(reader, 0x84), _flag(reader, 0x85)
    reader.finish()
    if only_user + only_ca + only_attribute > 1:
        raise Malformed("bad-der", "it is limited to two kinds of certificates at once")
    return Scope(full, relative, only_user, only_ca, only_attribute, only_reasons, indirect)


def _flag(reader: Reader, tag: int) -> bool:
    """A tagged BOOLEAN DEFAULT FALSE: present only when true (X.690 11.5)."""
    if reader.peek() != tag:
        return False
    if reader.content(tag) != b"\xff":
        raise Malformed("bad-der", "a flag that is not TRUE, which DER leaves out")
    return True
