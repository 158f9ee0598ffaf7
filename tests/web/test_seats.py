"""New connections are spread over the workers, and nobody is left standing at the door."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekey.web import seats as module
from gatekey.web.limits import shared_memory
from gatekey.web.seats import Acceptor, Seats
from kit.servers import wait_until
from kit.service import serving


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def three(clock: Clock) -> list[Seats]:
    memory = shared_memory(Seats.size(3))
    return [Seats(memory, place, 3, clock) for place in range(3)]


def test_who_has_more_leaves_it_to_those_who_have_fewer() -> None:
    one, two, three_ = three(Clock())
    assert not one.crowded(), "all are empty"
    one.take()
    assert not one.crowded(), "one more than another is nothing"
    one.take()
    assert one.crowded()
    assert not two.crowded()
    two.take()
    assert one.crowded(), "the third has none"
    three_.take()
    assert not one.crowded()
    one.leave()
    assert one.taken == 1


def test_nobody_waits_for_a_worker_that_is_silent_or_leaving() -> None:
    clock = Clock()
    one, two, three_ = three(clock)
    for _ in range(5):
        one.take()
    two.close()
    three_.close()
    two.tell()  # a sweep after its end changes nothing
    assert not one.crowded()
    again = Seats(one._memory, 1, 3, clock)  # whoever has its place now
    assert one.crowded()
    clock.now += 10
    one.tell()
    assert not one.crowded(), "it has said nothing for ten seconds"
    again.tell()
    assert one.crowded()


def accepted(sock: Any, seats: Seats, connect: Callable[[socket.socket], None], *, address: tuple[str, int]) -> int:
    """Connects once while an acceptor runs; how often the acceptor was asked whether it is crowded."""
    asked = 0

    def crowded() -> bool:
        nonlocal asked
        asked += 1
        return True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        seats.crowded = crowded  # type: ignore[method-assign]

        def take(connection: socket.socket) -> None:
            connect(connection)
            connection.close()
            done.set_result(None)

        acceptor = Acceptor(loop, sock, seats, take)
        try:
            with socket.create_connection(address):
                await asyncio.wait_for(done, 10)
        finally:
            acceptor.close()
            acceptor.close()  # twice does no harm
            await acceptor.wait_closed()

    asyncio.run(run())
    return asked


def test_a_connection_for_which_nobody_comes_is_taken_all_the_same() -> None:
    seats = three(Clock())[0]
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        asked = accepted(sock, seats, taken.append, address=sock.getsockname())
    assert asked == module._PASSES
    assert len(taken) == seats.taken == 1


def test_a_process_without_files_accepts_again_when_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NO_FILES", 0.01)
    failures = iter([errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EAGAIN])

    class Sock:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def fileno(self) -> int:
            return self._sock.fileno()

        def accept(self) -> tuple[socket.socket, object]:
            if number := next(failures, 0):
                raise OSError(number, os.strerror(number))
            return self._sock.accept()

    seats = three(Clock())[0]
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        accepted(Sock(sock), seats, taken.append, address=sock.getsockname())
    assert len(taken) == 1


def open_sockets(pid: int) -> int:
    """How many sockets a process has."""
    found = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(fd).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


@pytest.mark.slow
def test_connections_that_come_together_are_shared(tmp_path: Path) -> None:
    """Twelve connections at the same moment to three workers: four each, one more or less."""
    with serving(tmp_path, {"service": {"workers": 3}}) as service:
        before = {pid: open_sockets(pid) for pid in service.workers()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = [socket.create_connection(("127.0.0.1", service.private), 10) for _ in range(12)]
        shaken = [context.wrap_socket(sock, do_handshake_on_connect=False) for sock in plain]
        try:
            for sock in shaken:
                sock.do_handshake()
            counts = {pid: open_sockets(pid) - before[pid] for pid in before}
            assert sum(counts.values()) == 12
            assert max(counts.values()) - min(counts.values()) <= 2, counts
        finally:
            for sock in shaken:
                sock.close()
        wait_until(lambda: {pid: open_sockets(pid) for pid in before} == before, "all connections are over")
