"""Who is slow, who sends too much, and who sends a great deal that is allowed. The limits of time are seconds here; the sizes are those of every service."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gatekey.web import limits, reading
from kit.front import Front, front
from kit.servers import wait_until

pytestmark = pytest.mark.slow

HEAD, BODY, READ, IDLE = 1, 1, 2, 3
#: A sweep looks once a second; a machine with other things to do may be late.
SLACK = 4
OCSP_BYTES, BODY_BYTES = 64 * 1024, 256 * 1024


#: The kernel keeps little of what is written, so that what is seen is what the service itself keeps.
BEFORE = f"""
import socket
from gatekey.web import limits, supervisor
limits.HEAD_SECONDS, limits.BODY_SECONDS, limits.READ_SECONDS, limits.IDLE_SECONDS = {HEAD}, {BODY}, {READ}, {IDLE}
plain = supervisor.bind
def bind(listen, mode=0o660):
    made = plain(listen, mode)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    return made
supervisor.bind = bind
"""


@pytest.fixture(scope="module")
def f(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(tmp_path_factory.mktemp("slow"), before=BEFORE) as made:
        yield made


@pytest.fixture(autouse=True)
def everybody_else_is_served(f: Front) -> Iterator[None]:
    yield
    f.hang_up()
    assert f.ask(f.public(), "GET", "/healthz").status == 200
    assert f.ask(f.private("boss"), "GET", "/v1/me").status == 200
    f.hang_up()


class Said(NamedTuple):
    """What came back until the other side closed, and after how many seconds that was."""

    data: bytes
    seconds: float

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"^HTTP/1.1 (\d{3}) ", self.data, re.MULTILINE)]


@contextlib.contextmanager
def line(f: Front, listener: str, *, buffer: int = 0) -> Iterator[socket.socket]:
    """A connection without a client in between. `buffer`: bytes that our kernel keeps for us."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.socket())
        plain.settimeout(30)
        if buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.connect(("127.0.0.1", f.service.private if listener == "private" else f.service.public))
        yield stack.enter_context(f.contexts["boss"].wrap_socket(plain, server_hostname="localhost")) if listener == "private" else plain


def hear(sock: socket.socket, since: float) -> Said:
    """Reads to the end."""
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while part := sock.recv(65536):
            data += part
    return Said(data, time.monotonic() - since)


def send(sock: socket.socket, data: bytes, piece: int = 0) -> None:
    """All at once, or in pieces; whoever has been refused may have closed."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for start in range(0, len(data), piece or len(data)):
            sock.sendall(data[start : start + (piece or len(data))])


def target(listener: str) -> bytes:
    """A route with a body: one that is answered from memory, and one that takes the long way over TLS."""
    return b"POST /ocsp HTTP/1.1\r\nhost: x\r\n" if listener == "public" else b"POST /v1/people HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


#: Half a minute without a change there is taken for a reader who does not read, while hundreds of KiB go out below it.
LISTENERS = pytest.mark.parametrize("listener", ["public", "private"])
FRAMES = (b"content-length: 1000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n3e8\r\n")


# Time


def test_bodies_that_never_come_and_bodies_that_drip(f: Front) -> None:
    """On both listeners, announced and chunked, not begun and begun, silent and with a byte now and then: the time is that of the whole body."""
    with contextlib.ExitStack() as stack:
        waiting: dict[tuple[str, bytes, bytes, bool], tuple[socket.socket, float]] = {}
        for listener, frame, begun, drips in itertools.product(("public", "private"), FRAMES, (b"", b"x"), (False, True)):
            sock = stack.enter_context(line(f, listener))
            waiting[listener, frame, begun, drips] = sock, time.monotonic()
            send(sock, target(listener) + frame + begun)
            sock.settimeout(0.01)
        said: dict[tuple[str, bytes, bytes, bool], Said] = {}

        def looked() -> bool:
            for case, (sock, since) in waiting.items():
                if case not in said:
                    with contextlib.suppress(TimeoutError):
                        said[case] = Said(sock.recv(65536), time.monotonic() - since)
                    if case[3]:
                        send(sock, b"x")
            return len(said) == len(waiting)

        wait_until(looked, "the end of all of them", HEAD + BODY + SLACK)
    for case, one in said.items():
        assert one.statuses == [408], (case, one)
        assert BODY <= one.seconds < HEAD + BODY + SLACK, (case, one)


@LISTENERS
def test_a_body_that_takes_its_time_and_comes(f: Front, listener: str) -> None:
    body = f.question("0" * 32) if listener == "public" else b'{"login": "slow"}'
    with line(f, listener) as sock:
        send(sock, target(listener) + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
        since = time.monotonic()
        for number, start in enumerate(range(0, len(body), 10)):
            wait_until(lambda number=number: time.monotonic() >= since + number * 0.5 * BODY / len(body) * 10, "the next piece")  # type: ignore[misc]
            send(sock, body[start : start + 10])
        said = hear(sock, since)
    assert said.statuses == [200 if listener == "public" else 201], said


@LISTENERS
def test_a_reader_who_does_not_read(f: Front, listener: str) -> None:
    """Asks for far more than all buffers hold, and never looks: the connection is ended, and what it was counted as says why."""
    path = b"GET /ca/people.pem HTTP/1.1\r\nhost: x\r\n\r\n"
    before = refused(f, listener, "slow-reader")
    with line(f, listener, buffer=4096) as sock:
        sock.settimeout(0.2)
        since = time.monotonic()
        ended = False
        while not ended and time.monotonic() < since + READ + 3 * SLACK:
            try:
                sock.send(path * 100)
            except (TimeoutError, ssl.SSLWantWriteError):
                continue
            except (ConnectionError, ssl.SSLError):
                ended = True
    assert ended, "it may fill buffers for ever"
    wait_until(lambda: refused(f, listener, "slow-reader") > before, "the count")


def refused(f: Front, listener: str, why: str) -> float:
    text = f.ask(f.private("aud"), "GET", "/metrics").body.decode()
    found = re.search(rf'^gatekey_refused_connections_total{{listener="{listener}",why="{why}"}} ([0-9.]+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


@LISTENERS
def test_a_reader_who_is_slow_and_steady_gets_everything(f: Front, listener: str) -> None:
    """For much longer than anybody may be silent; no byte is missing in the end."""
    count = 600
    with line(f, listener, buffer=4096) as sock:
        request = b"GET /ca/people.pem HTTP/1.1\r\nhost: x\r\n"
        send(sock, (request + b"\r\n") * (count - 1) + request + b"connection: close\r\n\r\n")
        since = time.monotonic()
        data = b""
        for number in itertools.count():
            wait_until(lambda number=number: time.monotonic() >= since + number * 0.02, "the next piece")  # type: ignore[misc]
            part = sock.recv(4096)
            data += part
            if not part:
                break
    assert time.monotonic() - since > 1.5 * READ
    assert Said(data, 0).statuses == [200] * count
    assert data.count(b"-----END CERTIFICATE-----\n") == count


# Size


def padded(shape: str, size: int, *, last: bool = True) -> bytes:
    """A head of so many bytes: one long field, many short ones, or a long address."""
    first, rest = b"GET /healthz%s HTTP/1.1\r\nhost: x\r\n", b"connection: close\r\n\r\n" if last else b"\r\n"
    room = size - len(first) + 2 - len(rest)
    if shape == "address":
        return first % (b"?" + b"a" * (room - 1)) + rest
    if shape == "one field":
        return first % b"" + b"x: " + b"y" * (room - 5) + b"\r\n" + rest
    fields = b"".join(b"x-%04d: %s\r\n" % (number, b"y" * 54) for number in range(room // 64))
    return first % b"" + fields + b"z: " + b"y" * (room - len(fields) - 5) + b"\r\n" + rest


@pytest.mark.parametrize("piece", [0, 1000, 16384], ids=["one write", "small pieces", "large pieces"])
@pytest.mark.parametrize("shape", ["one field", "many fields", "address"])
@pytest.mark.parametrize("listener", ["public", "private"])
def test_heads_around_the_limit(f: Front, listener: str, shape: str, piece: int) -> None:
    most = limits.HEAD_BYTES
    assert len(padded(shape, most)) == most
    with line(f, listener) as sock:  # two on one connection: each is counted for itself
        send(sock, padded(shape, most - 100, last=False) + padded(shape, most - 100), piece)
        assert hear(sock, 0).statuses == [200, 200]
    with line(f, listener) as sock:
        send(sock, padded(shape, most + 100), piece)
        assert sock.recv(65536).startswith(b"HTTP/1.1 431 ")


@LISTENERS
def test_many_requests_in_one_write_are_answered_in_their_order(f: Front, listener: str) -> None:
    """Together far more than a head may have, each of them small."""
    body = f.question("0" * 32)
    cycle = [
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"ok\n"),
        (b"GET /ca/people.crt HTTP/1.1\r\nhost: x\r\n\r\n", f.issuer.der),
        (b"GET /crl/nothing HTTP/1.1\r\nhost: x\r\n\r\n", b'"no-page"'),
    ]
    if listener == "public":
        cycle.append((b"POST /ocsp HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body), b"\x30"))
    else:
        cycle += [
            (b"GET /v1/me HTTP/1.1\r\nhost: x\r\n\r\n", b'"boss"'),
            (b"POST /v1/people HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]", b'"bad-request"'),
        ]
    rounds = 300
    asked = [one for _ in range(rounds) for one in cycle]
    data = b"".join(request for request, _ in asked) + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert len(data) > 1.5 * limits.HEAD_BYTES
    with line(f, listener) as sock:
        send(sock, data)
        answers = list(answers_of(hear(sock, 0).data))
    assert len(answers) == len(asked) + 1
    for place, ((_, wanted), answer) in enumerate(zip(asked, answers, strict=False)):
        assert wanted in answer, (place, wanted, answer[:200])


def answers_of(data: bytes) -> Iterator[bytes]:
    """The bodies one behind the other."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        yield data[: int(length[1])]
        data = data[int(length[1]) :]


@pytest.mark.parametrize(("listener", "most"), [("public", OCSP_BYTES), ("private", BODY_BYTES)])
def test_what_is_announced_is_enough(f: Front, listener: str, most: int) -> None:
    """Not a byte of it is waited for; a number that no machine can count to is no number."""
    for size in (most + 1, 2**31, 2**32 + 1, 2**63 - 1):
        with line(f, listener) as sock:
            since = time.monotonic()
            send(sock, target(listener) + b"content-length: %d\r\n\r\n" % size)
            said = hear(sock, since)
        assert said.statuses == [413], (size, said)
        assert said.seconds < SLACK
    for text in (b"1" * 40, b"-1", b"1, 2", b"0x10", b"", b"+5"):
        with line(f, listener) as sock:
            send(sock, target(listener) + b"content-length: %s\r\n\r\n" % text)
            assert hear(sock, 0).statuses in ([400], [413]), text


@pytest.mark.parametrize(("listener", "most"), [("public", OCSP_BYTES), ("private", BODY_BYTES)])
@pytest.mark.parametrize("chunk", [16 * 1024, 500])
def test_chunks_beyond_the_limit(f: Front, listener: str, most: int, chunk: int) -> None:
    """Up to the limit they are read, and the route says what it thinks of them; beyond it nobody reads on."""
    whole, last = divmod(most, chunk)
    sizes = [chunk] * whole + ([last] if last else [])
    fits = b"".join(b"%x\r\n%s\r\n" % (size, b"x" * size) for size in sizes)
    with line(f, listener) as sock:
        send(sock, target(listener) + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + fits + b"0\r\n\r\n")
        said = hear(sock, 0)
        assert said.statuses == [200 if listener == "public" else 400], said.data[:300]
    with line(f, listener) as sock:
        send(sock, target(listener) + b"transfer-encoding: chunked\r\n\r\n" + fits + b"1\r\nx\r\n0\r\n\r\n")
        assert hear(sock, 0).statuses == [413]


@LISTENERS
def test_what_stands_beside_a_chunk_is_limited_like_a_head(f: Front, listener: str) -> None:
    """An extension of a chunk (RFC 9112 7.1.1), or trailers, as long as somebody likes to write."""
    for tail in (b"5;x=" + b"y" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n"):
        with line(f, listener) as sock:
            send(sock, target(listener) + b"transfer-encoding: chunked\r\n\r\n" + tail)
            said = hear(sock, 0)
        assert [status for status in said.statuses if status < 400] == [], said.data[:200]
        assert said.data.count(b"HTTP/1.1 431") == 1, said.data[:200]


def test_the_limits_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "service.md").read_text()
    assert f"| head of a request | {limits.HEAD_BYTES // 1024} KiB, within {limits.HEAD_SECONDS} seconds" in text
    assert f"| body | within {limits.HEAD_SECONDS + limits.BODY_SECONDS} seconds of the beginning" in text
    assert f"| answer that is not read | {limits.READ_SECONDS} seconds without a byte" in text
    assert f"| idle connection | {limits.IDLE_SECONDS} seconds |" in text
    assert f"{limits.HANDSHAKES} at once in a worker and listener, of which one address may have {limits.HANDSHAKES_FROM} on `enrol`" in text
    assert f"are kept as bytes, {reading.READ_BYTES // 1024} KiB of them" in text
    assert f"(256 KiB); OCSP {OCSP_BYTES // 1024} KiB |" in text
