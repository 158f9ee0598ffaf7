"""A TCP server on loopback in this very process, with a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None], *, patience: float = 10) -> Iterator[int]:
    """Its port. `serve` has each connection, with `patience` as its timeout, until it returns; a connection that breaks is nothing to talk about."""
    threads: list[threading.Thread] = []

    def one(peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            peer.settimeout(patience)
            serve(peer)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=one, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()
