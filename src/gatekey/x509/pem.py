"""PEM (RFC 7468): DER in base64 between lines that name it."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from ..errors import Malformed

#: Budgets: bytes of text, blocks in it.
MAX_BYTES = 192 * 1024 * 1024
MAX_BLOCKS = 10_000

_BEGIN = re.compile(rb"^[ \t]*-----BEGIN ([^\r\n]{0,80}?)-----[ \t]*(?:\r?\n|\r)", re.MULTILINE)
_LABEL = re.compile(rb"[A-Z0-9]+(?:[ -][A-Z0-9]+)*")
_LINE = re.compile(rb"\r\n?|\n")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_WHITE = b" \t\r\n\x0b\x0c"


class Block(NamedTuple):
    """One block: its label, the lines of RFC 1421 headers above the base64 (old encrypted keys have them), its content, and its text with both marks."""

    label: str
    headers: tuple[str, ...]
    der: bytes
    text: bytes


def encode(label: str, der: bytes) -> bytes:
    """The block in the strict form of RFC 7468 3: lines of 64 characters, each ended by a line feed."""
    text = binascii.b2a_base64(der, newline=False)
    name = label.encode("ascii")
    if len(text) < 64 * 1024:
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return b"\n".join((b"-----BEGIN " + name + b"-----", *lines, b"-----END " + name + b"-----\n"))
    full = len(text) // 64
    wrapped = bytearray(65 * full)
    for column in range(64):  # a CRL may have megabytes: 64 strided copies instead of a line each
        wrapped[column::65] = text[column : 64 * full : 64]
    wrapped[64::65] = b"\n" * full
    tail = text[64 * full :]
    del text
    return b"".join((b"-----BEGIN " + name + b"-----\n", wrapped, tail + b"\n" if tail else b"", b"-----END " + name + b"-----\n"))


def decode(data: bytes) -> list[tuple[str, bytes]]:
    """Label and content of every block, in order; text around and between blocks is passed over. Raises Malformed("bad-pem")."""
    return [(block.label, block.der) for block in blocks(data)]


def blocks(data: bytes) -> list[Block]:
    """Every block with its headers, in order. Lines may have any length; what is not base64 is refused. Raises Malformed("bad-pem")."""
    if len(data) > MAX_BYTES:
        raise _bad(f"it has {len(data)} bytes, more than the {MAX_BYTES} that are read")
    found: list[Block] = []
    at = 0
    while (begin := _BEGIN.search(data, at)) is not None:
        _nothing_begins(data[at : begin.start()])
        if len(found) == MAX_BLOCKS:
            raise _bad(f"it has more than {MAX_BLOCKS} blocks")
        block, at = _block(data, begin)
        found.append(block)
    _nothing_begins(data[at:])
    return found


def _nothing_begins(between: bytes) -> None:
    """Text around blocks may say anything, but a block that is overlooked there would be a surprise."""
    if b"-----BEGIN" in between:
        raise Malformed(
            "bad-pem", "this is not PEM that can be read: a BEGIN line is not alone on its line, or is cut", hint="look whether line breaks were lost"
        )


def _block(data: bytes, begin: re.Match[bytes]) -> tuple[Block, int]:
    """The block that begins here, and where it ends."""
    name = begin[1]
    if not _LABEL.fullmatch(name):
        raise _bad(f"the label {name.decode('latin-1')!r} is not made of capital letters")
    label = name.decode("ascii")
    end = data.find(b"-----END ", begin.end())
    mark = b"-----END " + name + b"-----"
    if end < 0:
        raise _bad(f"the block {label} has no END line; the file may be cut")
    if data[end : end + len(mark)] != mark:
        other = data[end + 9 : end + 60].split(b"-----")[0].decode("latin-1")
        raise _bad(f"the block begins as {label} and ends as {other!r}")
    body = data[begin.end() : end]
    if b"-----BEGIN" in body:
        raise _bad(f"the block {label} has no END line before the next begins")
    headers: tuple[str, ...] = ()
    if b":" in body:
        top, _, body = _LINE.sub(b"\n", body).partition(b"\n\n")
        headers = tuple(top.decode("latin-1").split("\n"))
    return Block(label, headers, _base64(body, label), data[begin.start() : end + len(mark)]), end + len(mark)


def _base64(body: bytes, label: str) -> bytes:
    text = body.translate(None, _WHITE)
    if not _BASE64.fullmatch(text) or len(text) % 4:
        raise _bad(f"the block {label} is not base64; characters are missing or damaged")
    if not text:
        raise _bad(f"the block {label} is empty")
    der = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(der, newline=False) != text:
        raise _bad(f"the block {label} ends in bits that are not zero; it was damaged or altered")
    return der


def _bad(why: str) -> Malformed:
    return Malformed("bad-pem", f"this is not PEM that can be read: {why}")
