"""New connections spread over the workers: they share the listening sockets, and each leaves a connection to those that have fewer.

Without this whichever worker wakes first takes all that come together, and a web server that keeps a dozen connections open keeps one processor busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import socket
import struct
import time
from collections.abc import Callable

_SEAT = struct.Struct("<dI")
#: A worker that has said nothing for so long is not waited for (seconds). It speaks once a second.
_SILENT = 3.0
#: How often a connection is left to others, and for how long each time (seconds): what it costs when they do not come for it.
_PASSES, _PAUSE = 4, 0.001
#: Seconds until more is accepted when the process has no file left for it.
_NO_FILES = 1.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Seats:
    """How many connections each worker has, in shared memory. `place`: this worker's, of so many `places`."""

    def __init__(self, memory: mmap.mmap, place: int, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._place = place
        self._places = places
        self._clock = clock
        self.taken = 0
        self._closed = False
        self.tell()

    @staticmethod
    def size(places: int) -> int:
        """Bytes of shared memory for so many workers."""
        return places * _SEAT.size

    def take(self) -> None:
        """One connection more."""
        self.taken += 1
        self.tell()

    def leave(self) -> None:
        """One connection less."""
        self.taken -= 1
        self.tell()

    def tell(self) -> None:
        """Says that this worker is there, and how many connections it has."""
        _SEAT.pack_into(self._memory, self._place * _SEAT.size, 0.0 if self._closed else self._clock(), self.taken)

    def close(self) -> None:
        """This worker takes no more: nobody is to wait for it."""
        self._closed = True
        self.tell()

    def crowded(self) -> bool:
        """Whether another worker has clearly fewer connections."""
        since = self._clock() - _SILENT
        seats = (_SEAT.unpack_from(self._memory, place * _SEAT.size) for place in range(self._places) if place != self._place)
        return any(taken + 1 < self.taken for told, taken in seats if told > since)


class Acceptor:
    """Accepts on one listening socket, one connection at a time. `connect` takes over what was accepted. Has what uvicorn expects of an asyncio server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, seats: Seats, connect: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._seats = seats
        self._connect = connect
        self._passed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._resume()

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._timer = self._loop.call_later(seconds, self._resume)

    def _readable(self) -> None:
        if self._passed < _PASSES and self._seats.crowded():
            self._passed += 1
            self._pause(_PAUSE)
            return
        self._passed = 0
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was first, or the client has thought better of it
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._pause(_NO_FILES)
            return
        connection.setblocking(False)
        self._seats.take()
        self._connect(connection)

    def close(self) -> None:
        """Accepts no more; the socket itself is shared, and stays open."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_reader(self._sock.fileno())

    async def wait_closed(self) -> None:
        """Nothing is left to wait for: connections are the listener's."""
