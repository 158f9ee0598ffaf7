"""Limits of what one address may ask for, and of what anybody may send; counted over all workers in memory that they share."""

from __future__ import annotations

import ipaddress
import mmap
import struct
import time
from hashlib import blake2b

#: Seconds until the head of a request must be there, and then its body; seconds that a client may not read what is sent to it.
HEAD_SECONDS, BODY_SECONDS, READ_SECONDS = 10, 30, 30
#: Bytes of a request's head; seconds of an idle connection; connections of one worker, and those of them that one address may have where it is limited.
HEAD_BYTES, IDLE_SECONDS, CONNECTIONS, FROM_ADDRESS = 32 * 1024, 15, 4096, 512
#: Bytes of a body that are kept of somebody who has shown nothing to sign in with, where that is needed.
STRANGERS = 4096
#: TLS handshakes that are under way at once in one worker and listener, and those of them that one address may have where it is limited.
HANDSHAKES, HANDSHAKES_FROM = 512, 64

_SLOTS = 1 << 15
_SLOT = struct.Struct("<QII")


def shared_memory(size: int) -> mmap.mmap:
    """Memory that every process has that is forked from this one."""
    return mmap.mmap(-1, size)


class Limits:
    """Requests of each address in each second, over all workers. `rate`: how many are answered; 0 for no limit. `body`: bytes of a request's body.

    Two workers that count at the same instant may lose one of the two: a limit, not an account.
    """

    size = _SLOTS * _SLOT.size

    def __init__(self, memory: mmap.mmap, secret: bytes, rate: int, body: int) -> None:
        self._memory = memory
        self._secret = secret
        self.rate = rate
        self.body = body

    def place(self, address: str) -> tuple[int, int]:
        """Where an address is counted: offset and tag. A keyed hash, so that nobody can choose his neighbours. IPv6 counts by /64, what one customer has."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
            packed = ip.packed[:8] if ip.version == 6 and ip.ipv4_mapped is None else (ip.ipv4_mapped or ip).packed if ip.version == 6 else ip.packed
        except ValueError:
            packed = address.encode("utf-8", "surrogateescape")
        digest = blake2b(packed, key=self._secret, digest_size=16).digest()
        return int.from_bytes(digest[:8], "little") % _SLOTS * _SLOT.size, int.from_bytes(digest[8:], "little")

    def allows(self, place: tuple[int, int]) -> bool:
        """Counts one request and says whether it may be answered."""
        if not self.rate:
            return True
        offset, tag = place
        second = int(time.monotonic())
        known, window, count = _SLOT.unpack_from(self._memory, offset)
        count = count + 1 if known == tag and window == second & 0xFFFFFFFF else 1
        _SLOT.pack_into(self._memory, offset, tag, second & 0xFFFFFFFF, count)
        return count <= self.rate
