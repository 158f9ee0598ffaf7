"""Strict DER (X.690), both ways: small functions that write, and one Reader that refuses everything that is not DER."""

from __future__ import annotations

import functools
import time

from ..errors import Malformed
from ..model.instants import posix

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, ENUMERATED = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A
UTF8, PRINTABLE, T61, IA5, UTC_TIME, GENERALIZED_TIME, BMP, UNIVERSAL = 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1E, 0x1C
SEQUENCE, SET = 0x30, 0x31

#: Longest object that is read at all: a CRL of two million entries fits, a memory bomb does not.
MAX_BYTES = 128 * 1024 * 1024




@functools.lru_cache(maxsize=1024)
def header(tag: int, size: int) -> bytes:
    """Tag and definite length of an element whose content has `size` bytes. Kept: certificates are full of the same few."""
    if size < 0x80:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


def tlv(tag: int, *parts: bytes) -> bytes:
    """Tag, definite length and the joined parts."""
    body = b"".join(parts)
    return header(tag, len(body)) + body


def seq(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """SET OF: the encodings sorted (X.690 11.6)."""
    return tlv(SET, *sorted(parts))


def integer(value: int) -> bytes:
    size = (value + (value < 0)).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, "big", signed=True))


def enumerated(value: int) -> bytes:
    return tlv(ENUMERATED, bytes((value,)))


def boolean(value: bool) -> bytes:
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def null() -> bytes:
    return b"\x05\x00"


def octets(*parts: bytes) -> bytes:
    return tlv(OCTET_STRING, *parts)


def bits(data: bytes, unused: int = 0) -> bytes:
    return tlv(BIT_STRING, bytes((unused,)), data)


def named_bits(positions: list[int]) -> bytes:
    """A named bit list: bit 0 is the most significant, trailing zero bits left out (X.690 11.2.2)."""
    if not positions:
        return bits(b"")
    size = max(positions) // 8 + 1
    value = bytearray(size)
    for position in positions:
        value[position // 8] |= 0x80 >> (position % 8)
    return bits(bytes(value), 7 - max(positions) % 8)


@functools.cache
def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body.extend(reversed(groups))
    return tlv(OID, bytes(body))


def utf8(text: str) -> bytes:
    return tlv(UTF8, text.encode())


def printable(text: str) -> bytes:
    return tlv(PRINTABLE, text.encode("ascii"))


@functools.lru_cache(maxsize=256)
def instant(at: int) -> bytes:
    """UTCTime through the year 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5)."""
    t = time.gmtime(at)
    if t.tm_year < 2050:
        return tlv(UTC_TIME, time.strftime("%y%m%d%H%M%SZ", t).encode())
    return generalized(at)


def generalized(at: int) -> bytes:
    t = time.gmtime(at)
    return tlv(GENERALIZED_TIME, f"{t.tm_year:04d}{t.tm_mon:02d}{t.tm_mday:02d}{t.tm_hour:02d}{t.tm_min:02d}{t.tm_sec:02d}Z".encode())


def explicit(number: int, *parts: bytes) -> bytes:
    """[number] EXPLICIT, or [number] IMPLICIT of something constructed."""
    return tlv(0xA0 | number, *parts)


def implicit(number: int, data: bytes) -> bytes:
    """[number] IMPLICIT of something primitive."""
    return tlv(0x80 | number, data)




def _bad(what: str, offset: int) -> Malformed:
    return Malformed("bad-der", f"not DER: {what} at byte {offset}", offset=offset)


class Reader:
    """Walks over the elements of one DER value, strictly: definite minimal lengths, single-byte tags, nothing left over.

    Raises Malformed("bad-der") with the offset at the first byte that is wrong.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        if end is None:
            end = len(data)
            if end > MAX_BYTES:
                raise Malformed("bad-der", f"{end} bytes are more than the {MAX_BYTES} that are read", size=end)
        self.data = data
        self.pos = start
        self.end = end

    def __bool__(self) -> bool:
        """Whether something is left to read."""
        return self.pos < self.end

    def peek(self) -> int:
        """The next tag, or -1 at the end."""
        return self.data[self.pos] if self.pos < self.end else -1

    def _header(self) -> tuple[int, int, int]:
        """Tag, start and end of the next element's content."""
        data, at = self.data, self.pos
        if at + 2 > self.end:
            raise _bad("the value ends where an element should begin", at)
        tag, size, body = data[at], data[at + 1], at + 2
        if tag & 0x1F == 0x1F:
            raise _bad("a tag of more than one byte", at)
        if size & 0x80:
            count = size & 0x7F
            if count == 0 or count > 4 or body + count > self.end:
                raise _bad("an indefinite, oversized or cut length", at + 1)
            size = int.from_bytes(data[body : body + count], "big")
            if size < 0x80 or size >> (8 * (count - 1)) == 0:
                raise _bad("a length that is not minimal", at + 1)
            body += count
        stop = body + size
        if stop > self.end:
            raise _bad("an element longer than what holds it", at)
        return tag, body, stop

    def _expect(self, wanted: int) -> tuple[int, int]:
        """Start and end of the next element's content; it must have this tag. Nine of ten elements are short: those are read here, the rest by `_header`."""
        at, data = self.pos, self.data
        if at + 2 <= self.end and data[at] == wanted and (size := data[at + 1]) < 0x80 and (stop := at + 2 + size) <= self.end:
            self.pos = stop
            return at + 2, stop
        tag, start, stop = self._header()
        if tag != wanted:
            raise _bad(f"tag 0x{tag:02X} where 0x{wanted:02X} is needed", at)
        self.pos = stop
        return start, stop

    def any(self) -> tuple[int, bytes]:
        """Tag and content of the next element."""
        tag, start, stop = self._header()
        self.pos = stop
        return tag, self.data[start:stop]

    def raw(self, wanted: int | None = None) -> bytes:
        """The next element with its header, exactly as it stands there."""
        at = self.pos
        if wanted is None:
            _, _, self.pos = self._header()
        else:
            self._expect(wanted)
        return self.data[at : self.pos]

    def content(self, wanted: int) -> bytes:
        """The content of the next element, which must have this tag."""
        start, stop = self._expect(wanted)
        return self.data[start:stop]

    def inside(self, wanted: int = SEQUENCE) -> Reader:
        """A Reader over the content of the next element."""
        start, stop = self._expect(wanted)
        return Reader(self.data, start, stop)

    def optional(self, wanted: int) -> Reader | None:
        """A Reader over the next element if it has this tag, otherwise None."""
        return self.inside(wanted) if self.peek() == wanted else None

    def finish(self) -> None:
        """Refuses anything that is left over."""
        if self.pos != self.end:
            raise _bad("bytes left over", self.pos)

    def integer(self, wanted: int = INTEGER) -> int:
        start, stop = self._expect(wanted)
        data = self.data
        if stop == start:
            raise _bad("an empty INTEGER", start)
        if stop - start > 1 and (data[start], data[start + 1] >= 0x80) in ((0, False), (0xFF, True)):
            raise _bad("an INTEGER that is not minimal", start)
        return int.from_bytes(data[start:stop], "big", signed=True)

    def boolean(self) -> bool:
        at = self.pos
        value = self.content(BOOLEAN)
        if value not in (b"\x00", b"\xff"):
            raise _bad("a BOOLEAN that is neither 00 nor FF", at)
        return value == b"\xff"

    def null(self) -> None:
        at = self.pos
        if self.content(NULL):
            raise _bad("a NULL with content", at)

    def oid(self) -> str:
        at = self.pos
        start, stop = self._expect(OID)
        return dotted(self.data[start:stop], at)

    def octets(self) -> bytes:
        return self.content(OCTET_STRING)

    def bits(self) -> tuple[bytes, int]:
        """The bytes of a BIT STRING and the number of unused bits in the last."""
        at = self.pos
        value = self.content(BIT_STRING)
        unused = value[0] if value else 8
        if unused > 7 or (unused and (len(value) == 1 or value[-1] & ((1 << unused) - 1))):
            raise _bad("a BIT STRING with wrong padding", at)
        return value[1:], unused

    def whole_bits(self) -> bytes:
        """A BIT STRING that is a whole number of bytes."""
        at = self.pos
        value, unused = self.bits()
        if unused:
            raise _bad("a BIT STRING that is not a whole number of bytes", at)
        return value

    def named_bits(self, wanted: int = BIT_STRING) -> list[int]:
        """The positions that are set in a named bit list (X.690 11.2.2)."""
        at = self.pos
        start, stop = self._expect(wanted)
        value = self.data[start:stop]
        if not value or value[0] > 7 or (len(value) == 1 and value[0]) or (len(value) > 1 and value[-1] & ((1 << value[0]) - 1)):
            raise _bad("a BIT STRING with wrong padding", at)
        found = [8 * i + b for i, byte in enumerate(value[1:]) for b in range(8) if byte & (0x80 >> b)]
        if len(value) > 1 and (not found or found[-1] != 8 * (len(value) - 1) - value[0] - 1):
            raise _bad("a named bit list with trailing zero bits", at)
        return found

    def instant(self) -> int:
        """UTCTime or GeneralizedTime in the form of RFC 5280 4.1.2.5: seconds, Z, no fraction. As POSIX seconds."""
        at = self.pos
        try:
            return _posix(*self.any())
        except ValueError as wrong:
            raise _bad(str(wrong), at) from None

    def text(self) -> str:
        """A character string of any of the kinds that X.509 uses."""
        at = self.pos
        return string(*self.any(), at)


def string(tag: int, content: bytes, at: int = 0) -> str:
    """What a character string of this tag and content says; it begins at byte `at`."""
    try:
        if tag == UTF8:
            return content.decode()
        if tag in (PRINTABLE, IA5, 0x12, 0x1A):
            return content.decode("ascii")
        if tag == T61:
            return content.decode("latin-1")
        if tag == BMP:
            return content.decode("utf-16-be")
        if tag == UNIVERSAL:
            return content.decode("utf-32-be")
    except UnicodeDecodeError:
        raise _bad("text that its own type does not allow", at) from None
    raise _bad(f"tag 0x{tag:02X} where a character string is needed", at)


@functools.lru_cache(maxsize=256)
def _posix(tag: int, value: bytes) -> int:
    """What `Reader.instant` reads. Raises ValueError with what is wrong. Kept: certificates that are issued together have their dates in common."""
    text = value.decode("ascii", "replace")
    if tag == UTC_TIME and len(text) == 13:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME or len(text) != 15:
        raise ValueError("a time that is neither YYMMDDHHMMSSZ nor YYYYMMDDHHMMSSZ")
    if text[14] != "Z" or not text[:14].isdigit() or not text.isascii():
        raise ValueError("a time with wrong characters")
    year, month, day, hour, minute, second = int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]), int(text[12:14])
    last = 31 if month in (1, 3, 5, 7, 8, 10, 12) else 30 if month != 2 else 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    if not (year and 1 <= month <= 12 and 1 <= day <= last and hour < 24 and minute < 60 and second < 60):
        raise ValueError("a time that is not in the calendar")
    return posix(year, month, day, hour, minute, second)


def dotted(body: bytes, at: int = 0) -> str:
    """The dotted form of an OBJECT IDENTIFIER's content."""
    if not body or len(body) > 64 or not (text := _dotted(body)):
        raise _bad("an empty, cut, oversized or not minimal OBJECT IDENTIFIER", at)
    return text


@functools.lru_cache(maxsize=1024)
def _dotted(body: bytes) -> str:
    """Empty when `body` is no minimal encoding (X.690 8.19)."""
    arcs: list[int] = []
    value, fresh = 0, True
    for byte in body:
        if fresh and byte == 0x80:
            return ""
        value = value << 7 | byte & 0x7F
        fresh = not byte & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    if not fresh:
        return ""
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def whole(data: bytes, wanted: int = SEQUENCE) -> Reader:
    """A Reader over the content of the one element that `data` consists of; bytes after it are refused."""
    reader = Reader(data)
    start, stop = reader._expect(wanted)  # noqa: SLF001  the same file
    if stop != reader.end:
        raise _bad("bytes left over", stop)
    reader.pos, reader.end = start, stop
    return reader
