"""A bundle as one body for the wire: a plain tar (POSIX.1-1988 ustar) with the manifest first, the same bytes for the same files whoever packs it.

Reading is strict: each header must be exactly the one that `pack` would have written, so nothing that other readers of tar see differently gets through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import Malformed

FIRST = "manifest.json"
MEDIA_TYPE = "application/x-tar"
_BLOCK = 512
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OCTAL = re.compile(rb"[0-7]{11}\0")


def pack(contents: Mapping[str, bytes]) -> bytes:
    """All files in one body: the manifest, then the others by name. Names are plain file names of at most 100 characters; files are below 8 GiB."""
    parts = []
    for name in sorted(contents, key=lambda name: (name != FIRST, name)):
        data = contents[name]
        parts += [_header(name.encode("ascii"), len(data)), data, b"\0" * (-len(data) % _BLOCK)]
    return b"".join((*parts, b"\0" * 2 * _BLOCK))


def unpack(body: bytes, most_files: int) -> dict[str, bytes]:
    """The files of a body. Raises Malformed("bundle-damaged") unless it is exactly what `pack` makes of them."""
    found: dict[str, bytes] = {}
    place, last = 0, (False, b"")
    while (header := body[place : place + _BLOCK]) != b"\0" * _BLOCK:
        name, size = header[:100].rstrip(b"\0"), header[124:136]
        if not (_NAME.fullmatch(name) and _OCTAL.fullmatch(size) and header == _header(name, int(size[:11], 8))):
            raise _damaged("has something in it that is no plain file as we pack it")
        order, length = (name != FIRST.encode(), name), int(size[:11], 8)
        if (found and order <= last) or len(found) >= most_files:
            raise _damaged("has its files in a strange order" if len(found) < most_files else f"has more than {most_files} files")
        data = body[place + _BLOCK : place + _BLOCK + length]
        end = place + _BLOCK + length + -length % _BLOCK
        if len(data) != length or body[place + _BLOCK + length : end].strip(b"\0") or len(body) < end:
            raise _damaged("is cut")
        found[name.decode("ascii")] = data
        place, last = end, order
    if body[place:] != b"\0" * 2 * _BLOCK:
        raise _damaged("is cut, or goes on after its end")
    return found


def _header(name: bytes, size: int) -> bytes:
    """One header: mode 0644, of nobody, of no time."""
    # name, mode, uid, gid, size, mtime, checksum (eight spaces while it is counted), kind, link, magic and version, user, group, device numbers, prefix
    fields = (
        name.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0, b" " * 8, b"0", b"\0" * 100, b"ustar\x0000",
        b"\0" * 32, b"\0" * 32, b"0000000\0", b"0000000\0", b"\0" * 155, b"\0" * 12,
    )  # fmt: skip
    raw = b"".join(fields)
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def _damaged(what: str) -> Malformed:
    return Malformed("bundle-damaged", f"the package of the bundle {what}", hint="is what answers there really the service, of the same version?")
