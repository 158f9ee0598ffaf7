"""Strangers who send as much as they can, on one connection or on a thousand: it costs little memory, and everybody else is served meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.front import Front, front
from kit.servers import free_port, wait_until

pytestmark = pytest.mark.slow

#: Megabytes that a worker may grow by, and seconds that somebody else's question may take on a machine with other work.
MEGABYTES, SECONDS = 40, 2.0
FLOOD_SECONDS = 2.0


#: Handshakes under way at once, in all and from one address.
SHAKING, FROM = 100, 20
#: Few open files, as a shell gives them to what it starts: the service takes as many as it may have.
BEFORE = f"""
import resource
from gatekey.web import limits
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
limits.HANDSHAKES, limits.HANDSHAKES_FROM = {SHAKING}, {FROM}
"""


@pytest.fixture(scope="module")
def enrol() -> int:
    return free_port()


@pytest.fixture(scope="module")
def f(tmp_path_factory: pytest.TempPathFactory, enrol: int) -> Iterator[Front]:
    tables: dict[str, dict[str, Any]] = {"enrol": {"listen": f"127.0.0.1:{enrol}"}, "limits": {"requests-per-second": 200}}
    with front(tmp_path_factory.mktemp("flood"), tables=tables, before=BEFORE) as made:
        for connection in made.to_each_worker(made.proxy, 2):  # what is loaded at the first question is no growth
            made.ask(connection, "GET", "/decision")
        yield made


def memory(f: Front) -> dict[int, float]:
    """Megabytes of each worker."""
    found = {}
    for pid in f.service.workers():
        text = Path(f"/proc/{pid}/status").read_text()
        found[pid] = int(text.partition("VmRSS:")[2].split()[0]) / 1024
    return found


def files(f: Front) -> int:
    return max(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in f.service.workers())


@contextlib.contextmanager
def flooded(sock: socket.socket, data: bytes) -> Iterator[list[bytes]]:
    """Sends `data` over and over, and reads what comes back, until the block ends."""
    ended = threading.Event()
    heard: list[bytes] = []
    sock.setblocking(False)

    def work() -> None:
        left = data
        while not ended.is_set():
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                left = left[sock.send(left) :] or data
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while got := sock.recv(1 << 16):
                    heard.append(got)
            select.select([sock], [sock], [], 0.1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield heard
    finally:
        ended.set()
        thread.join(10)


REQUESTS = {
    "answered at once": b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    "by a task each": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "by the API": b"GET /v1/me HTTP/1.1\r\nhost: a\r\n\r\n",
    "with bodies": b"POST /ocsp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxx",
}


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("listener", ["public", "private"])
def test_requests_without_end_on_one_connection(f: Front, listener: str, what: str) -> None:
    before, slowest = memory(f), 0.0
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", f.service.private if listener == "private" else f.service.public), 10))
        sock = stack.enter_context(f.contexts[""].wrap_socket(plain, server_hostname="localhost")) if listener == "private" else plain
        others = f.to_each_worker(f.proxy, 2)
        heard = stack.enter_context(flooded(sock, REQUESTS[what] * 1000))
        wait_until(lambda: heard, "the first answers")
        until = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < until:
            for connection in others:
                since = time.monotonic()
                assert f.ask(connection, "GET", "/decision").status == 403
                slowest = max(slowest, time.monotonic() - since)
        grown = {pid: round(now - before[pid]) for pid, now in memory(f).items()}
    assert b"".join(heard).count(b"HTTP/1.1 ") > 100
    assert max(grown.values()) < MEGABYTES, grown
    assert slowest < SECONDS


@pytest.mark.parametrize("listener", ["enrol", "private"])
def test_connections_that_never_shake_hands(f: Front, enrol: int, listener: str) -> None:
    """On `enrol` one address has few of them; on `private` they make room for each other, and for those who do shake hands."""
    port = f.service.private if listener == "private" else enrol
    most = SHAKING if listener == "private" else FROM
    with contextlib.ExitStack() as stack:
        for _ in range(5 * SHAKING):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        wait_until(lambda: files(f) < most + 80, "the rest was closed")
        assert f.ask(f.private("boss"), "GET", "/v1/me").status == 200
    wait_until(lambda: f'{{listener="{listener}",why="too-many"}}' in f.ask(f.private("boss"), "GET", "/metrics").body.decode(), "they are counted")
    for pid in f.service.workers():
        (line,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files")]
        assert line.split()[3] == line.split()[4]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"content-length: 262000", b"401"),
        (b"content-length: 4097", b"401"),
        (b"transfer-encoding: chunked", b"401"),
        (b"content-length: 4096", b""),
        (b"authorization: Bearer gkt_x\r\ncontent-length: 262000", b""),
    ],
)
def test_bodies_of_those_who_have_nothing_to_sign_in_with_are_not_kept(f: Front, head: bytes, status: bytes) -> None:
    """They hear it before they have sent any; who may be somebody is listened to."""
    with socket.create_connection(("127.0.0.1", f.service.private), 10) as plain, f.contexts[""].wrap_socket(plain, server_hostname="localhost") as sock:
        sock.settimeout(10 if status else 0.3)
        sock.sendall(b"POST /v1/people HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n" + head + b"\r\n\r\n")
        if not status:
            with pytest.raises(TimeoutError):
                sock.recv(1000)
            return
        found = b""
        while part := sock.recv(65536):
            found += part
    assert found.startswith(b"HTTP/1.1 " + status)
    assert b"www-authenticate: Bearer" in found
    assert b'"code":"sign-in"' in found
