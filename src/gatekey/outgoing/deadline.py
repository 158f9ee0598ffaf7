"""A limit of time for a whole exchange: whoever sends one byte every few seconds keeps each single read alive, and the job behind it for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Deadline:
    """Shuts down the connection that it watches when `seconds` are over; `over` then says so, since an end may look like a whole answer."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            for sock in self._watched:
                sock.close()
            self._watched.clear()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            for sock in self._watched:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def connect(self, host: str, port: int, step: float) -> socket.socket:
        """A watched connection to a name or address; each read or write may last `step` seconds. Raises OSError, or UnicodeError for what is no name."""
        problem = OSError("there is no address")
        for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            try:
                sock = socket.create_connection((str(entry[4][0]), port), min(step, left))
            except OSError as error:
                problem = error
                continue
            sock.settimeout(step)
            with self._lock:
                if self.over:
                    sock.close()
                    raise TimeoutError("timed out")
                # A second handle on the same connection: TLS takes the first one over, and would be shut down by halves.
                self._watched.append(sock.dup())
            return sock
        raise problem
