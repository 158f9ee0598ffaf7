"""A listener on a real socket, in this process, whose answers have to be waited for: what is asked of it while they are, and what becomes of it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatekey.ports import SystemClock, SystemEntropy
from gatekey.protocols.message import Answer, Call
from gatekey.web import hot, server
from gatekey.web.api import Clerk
from gatekey.web.hot import Door
from gatekey.web.house import House
from gatekey.web.limits import Limits, shared_memory
from gatekey.web.routes import Route
from gatekey.web.seats import Seats
from kit.pki import make_pki

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HOST = b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n"
LARGEST, PATIENCE = 256 * 1024, 30


class Gate:
    """Answers with what was asked, when it is `open`. `batches`: what was asked together."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.batches: list[list[bytes]] = []

    def answer_many(self, calls: list[Call]) -> list[Answer]:
        self.batches.append([call.body for call in calls])
        self.open.wait(PATIENCE)
        return [self.said(call) for call in calls]

    def answer(self, call: Call) -> Answer:
        return self.said(call)

    def late(self, call: Call) -> Answer:
        self.open.wait(PATIENCE)
        return self.said(call)

    def said(self, call: Call) -> Answer:
        return Answer(201, (("x-who", call.peer.address), ("x-said", call.header("x-say"))), b"%d %s" % (len(call.body), call.body[:40]))


class Behind:
    """A web server that speaks for others, whoever it is."""

    def concerns(self, call: Call) -> bool:
        return call.path.startswith("/v1/")

    def see(self, call: Call) -> Call:
        return call._replace(peer=call.peer._replace(address=call.header("x-for")))


class Line:
    """`listener` and what it has counted; `asgi`: paths that took the long way."""

    def __init__(self, gate: Gate, *, behind: Behind | None = None, speaks: ssl.SSLContext | None = None) -> None:
        self.gate, self.asgi, self.failures = gate, list[str](), list[BaseException]()
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.speaks = speaks
        self.ended = asyncio.Event()
        quiet = dict.fromkeys(("info", "warning", "refusal"), lambda *_, **__: None)
        log = SimpleNamespace(**quiet, failure=lambda _, error, **__: self.failures.append(error))
        self.house = SimpleNamespace(
            limits=Limits(shared_memory(Limits.size), b"s" * 16, 0, LARGEST),
            authority=SimpleNamespace(entropy=SystemEntropy(), clock=SystemClock()),
            behind=behind,
            meter=SimpleNamespace(counts=self.counts),
            log=log,
            seats=Seats(shared_memory(Seats.size(1)), 0, 1),
            leaving=[],
        )
        clerk = Clerk(gate)  # type: ignore[arg-type]
        routes = [
            *(Route("private", method, "/v1/", clerk.answer, "async") for method in ("GET", "POST")),
            Route("private", "GET", "/now", lambda _: Answer(200, (), b"now"), "inline"),
            Route("private", "GET", "/thread", lambda _: Answer(200, (), b"in a thread")),
            Route("private", "POST", "/ocsp", gate.late, "inline"),
            Route("private", "POST", "/broken", self._broken),
            Route("private", "POST", "/header", lambda _: Answer(200, (("x", "a\r\nb: c"),))),
        ]
        self.door = Door(cast("House", self.house), "private", routes)
        self.listener = server.Listener(self.door, [self.socket], cast("Any", SimpleNamespace(context=speaks) if speaks else None), self.house.seats)

    def _broken(self, _: Call) -> Answer:
        raise OSError("geheim")

    @property
    def connections(self) -> set[server.Protocol]:
        return cast("set[server.Protocol]", self.listener.server_state.connections)

    async def connect(self) -> Pair:
        trusting = None
        if self.speaks is not None:
            trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        return await asyncio.open_connection(*self.socket.getsockname(), ssl=trusting)

    async def ask(self, data: bytes) -> bytes:
        """All that comes back until the other side closes."""
        reader, writer = await self.connect()
        writer.write(data)
        said = await reader.read()
        writer.close()
        return said


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    site = make_pki().server("localhost")
    file = tmp_path_factory.mktemp("lane") / "site.pem"
    file.touch(0o600)
    file.write_bytes(site.key_pem + site.chain_pem)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(Path(file))
    return made


Story = Callable[[Line], Awaitable[None]]
Tell = Callable[..., Line]


@pytest.fixture(params=["plain", "TLS"])
def tell(request: pytest.FixtureRequest, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Runs a story with a listener, which must end by itself and leave nothing behind."""
    plain = hot.Connection.__call__
    monkeypatch.setattr(server, "LINGER", 0.3)

    @contextlib.asynccontextmanager
    async def serving(line: Line) -> AsyncIterator[None]:
        task = asyncio.create_task(server.serve(cast("House", line.house), [line.listener], lambda: None, line.ended))
        await until(lambda: line.listener.started)
        try:
            yield
        finally:
            line.gate.open.set()
            line.ended.set()
            await asyncio.wait_for(task, PATIENCE)
            line.socket.close()

    def told(story: Story, **more: Any) -> Line:
        async def run() -> Line:
            line = Line(Gate(), speaks=context if request.param == "TLS" else None, **more)

            async def counted(self: hot.Connection, scope: Any, receive: Any, send: Any) -> None:
                line.asgi.append(scope["path"])
                await plain(self, scope, receive, send)

            monkeypatch.setattr(hot.Connection, "__call__", counted)
            async with serving(line):
                await story(line)
            await until(lambda: not line.connections)
            assert not line.listener.server_state.tasks
            assert line.house.seats.taken == 0
            return line

        return asyncio.run(run())

    return told


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  threads and the other side change it
            await asyncio.sleep(0.01)


def sign(body: bytes, *headers: bytes, last: bool = False) -> bytes:
    body = b'{"csr": "%s"}' % body
    said = [b"content-length: %d" % len(body), *headers, *([b"connection: close"] if last else [])]
    return b"POST /v1/certificates/sign" + HOST + b"".join(line + b"\r\n" for line in said) + b"\r\n" + body


def get(path: bytes, *, last: bool = False) -> bytes:
    return b"GET " + path + HOST + (b"connection: close\r\n\r\n" if last else b"\r\n")


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", data)]


def bodies(data: bytes) -> list[bytes]:
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.findall(rb"content-length: (\d+)", head)[0])
        found.append(data[:length])
        data = data[length:]
    return found


def test_answers_come_in_the_order_of_the_questions(tell: Tell) -> None:
    """All in one piece, in pieces of any size, and one behind the other: what is answered at once waits for what is not."""
    asked = [sign(b"one"), get(b"/now"), sign(b"two"), sign(b"three"), get(b"/thread"), get(b"/nothing"), get(b"/v1/me"), sign(b"4"), get(b"/now", last=True)]
    wanted = [b'14 {"csr": "one"}', b"now", b'14 {"csr": "two"}', b'16 {"csr": "three"}', b"in a thread", None, b"0 ", b'12 {"csr": "4"}', b"now"]

    async def story(line: Line) -> None:
        data = b"".join(asked)
        for piece in (len(data), 1000, 100, 7):
            reader, writer = await line.connect()
            for start in range(0, len(data), piece):
                writer.write(data[start : start + piece])
                await asyncio.sleep(0.001)
            found = bodies(await reader.read())
            writer.close()
            assert [one for one, other in zip(found, wanted, strict=True) if other not in (None, one)] == []

    tell(story)


def test_many_in_one_piece(tell: Tell) -> None:
    """More than is parsed at once: the rest is kept as bytes until it has its turn."""

    async def story(line: Line) -> None:
        line.gate.open.clear()
        reader, writer = await line.connect()
        writer.write(b"".join(sign(b"n%d" % number) for number in range(300)) + sign(b"last", last=True))
        await until(lambda: line.gate.batches)
        await until(lambda: any(one.unread for one in line.connections))
        assert max(len(one.pipeline) for one in line.connections) < 30
        line.gate.open.set()
        found = bodies(await reader.read())
        writer.close()
        assert [one.partition(b'"csr": ')[2] for one in found] == [b'"n%d"}' % number for number in range(300)] + [b'"last"}']

    tell(story)


def test_who_asks_together_is_answered_together_without_asgi(tell: Tell) -> None:
    async def story(line: Line) -> None:
        line.gate.open.clear()
        first = asyncio.create_task(line.ask(sign(b"first", last=True)))
        await until(lambda: line.gate.batches)
        rest = [asyncio.create_task(line.ask(sign(b"n%d" % number, b"x-say: n%d" % number, last=True))) for number in range(8)]
        await until(lambda: len(line.listener.server_state.tasks) == 9)
        line.gate.open.set()
        for number, said in enumerate(await asyncio.gather(*rest)):
            assert said.startswith(b"HTTP/1.1 201 Created\r\n")
            assert b"x-said: n%d\r\n" % number in said
            assert said.count(b"connection: close\r\n") == 1
        assert statuses(await first) == [201]
        assert [len(batch) for batch in line.gate.batches] == [1, 8]

    line = tell(story)
    assert line.asgi == []
    assert line.counts["gatekey_requests", "private", "/v1/*", "201"] == 9


def test_whoever_leaves_holds_nobody_up(tell: Tell) -> None:
    """The question is answered all the same, for nobody; with it waits the end of the service."""

    async def story(line: Line) -> None:
        line.gate.open.clear()
        for _ in range(3):
            _, writer = await line.connect()
            writer.write(sign(b"gone"))
            await until(lambda: line.gate.batches)
            writer.transport.abort()
        await until(lambda: not line.connections)
        assert line.listener.server_state.tasks
        staying = asyncio.create_task(line.ask(sign(b"stays", last=True)))
        await until(lambda: line.connections)
        line.ended.set()
        await asyncio.sleep(0.3)
        line.gate.open.set()
        assert statuses(await staying) == [201]

    line = tell(story)
    assert line.counts["gatekey_requests", "private", "/v1/*", "201"] == 4
    assert line.failures == []


def test_what_is_being_written_at_the_end_is_answered(tell: Tell) -> None:
    """Each connection hears with its last answer that it was the last; what is there already behind a question is answered, too, if it is whole."""

    async def story(line: Line) -> None:
        line.gate.open.clear()
        alone, two, later, half = [await line.connect() for _ in range(4)]
        for _, writer in (alone, later, half):
            writer.write(sign(b"one"))
        two[1].write(sign(b"one") + sign(b"two"))
        await until(lambda: len(line.listener.server_state.tasks) == 4)
        later[1].write(sign(b"two"))
        half[1].write(b"GET /now")
        await until(lambda: sum(bool(one.unread) for one in line.connections) == 2)
        line.ended.set()
        await until(lambda: all(one.ending for one in line.connections))
        await asyncio.sleep(1.5 * server.LINGER)
        line.gate.open.set()
        said = await alone[0].read()
        assert statuses(said) == [201]
        assert b"connection: close\r\n" in said
        for reader, _ in (two, later):
            said = await reader.read()
            assert statuses(said) == [201, 201]
            assert said.count(b"connection: close\r\n") == 1
            assert b"connection: close\r\n" not in said.partition(b"\r\n\r\n")[0]
        assert statuses(await half[0].read()) == [201]
        for _, writer in (alone, two, later, half):
            writer.close()

    tell(story)


def test_the_end_does_not_wait_for_ever(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 1)

    async def story(line: Line) -> None:
        line.gate.open.clear()
        asking = asyncio.create_task(line.ask(sign(b"late")))
        await until(lambda: line.gate.batches)
        line.ended.set()
        assert statuses(await asking) == [503]

    assert tell(story).failures == []


@pytest.mark.parametrize("piece", [1000, 40000])
def test_a_body_in_pieces(tell: Tell, piece: int) -> None:
    async def story(line: Line) -> None:
        body = b"x" * (LARGEST - len(b'{"csr": ""}'))
        data = sign(body, last=True)
        reader, writer = await line.connect()
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
            await writer.drain()
        assert bodies(await reader.read())[0].startswith(b"%d " % LARGEST)
        writer.close()

    assert tell(story).asgi == []


def test_a_body_that_is_too_large(tell: Tell) -> None:
    async def story(line: Line) -> None:
        said = await line.ask(b"POST /v1/certificates/sign" + HOST + b"content-length: %d\r\n\r\n" % (LARGEST + 1))
        assert statuses(said) == [413]
        assert b"connection: close\r\n" in said

    assert tell(story).gate.batches == []


def test_whoever_is_refused_in_the_middle_of_a_body_hears_it(tell: Tell) -> None:
    """He goes on sending; a reset of the connection would take the answer away from him."""

    async def story(line: Line) -> None:
        reader, writer = await line.connect()
        writer.write(b"POST /v1/certificates/sign" + HOST + b"content-length: %d\r\n\r\n" % (32 * LARGEST))
        for _ in range(32):
            writer.write(b"x" * LARGEST)
            await writer.drain()
        said = await reader.read()
        assert statuses(said) == [413]
        assert b"connection: close\r\n" in said
        writer.close()

    assert tell(story).gate.batches == []


def test_a_body_that_never_comes(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)

    async def story(line: Line) -> None:
        since = time.monotonic()
        said = await line.ask(sign(b"x" * 100)[:-1])
        assert statuses(said) == [408]
        assert b"connection: close\r\n" in said
        assert time.monotonic() - since > 0.5

    line = tell(story)
    assert line.gate.batches == []
    assert line.counts["gatekey_refused_connections", "private", "slow-body"] == 1


def test_what_takes_the_long_way(tell: Tell) -> None:
    """Bodies that nobody has announced, who asks whether to send one, and what no route knows."""

    async def story(line: Line) -> None:
        chunked = b"POST /v1/a" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        said = await line.ask(chunked + get(b"/nothing") + sign(b"one", last=True))
        assert statuses(said) == [201, 404, 201]
        assert bodies(said)[0] == b"5 abcde"
        reader, writer = await line.connect()
        writer.write(b"POST /v1/b" + HOST + b"expect: 100-continue\r\nconnection: close\r\ncontent-length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert bodies(await reader.read()) == [b"2 ab"]
        writer.close()

    assert tell(story).asgi == ["/v1/a", "/nothing", "/v1/certificates/sign", "/v1/b"]


def test_http_1_0_and_head(tell: Tell) -> None:
    async def story(line: Line) -> None:
        said = await line.ask(b"POST /v1/old HTTP/1.0\r\ncontent-length: 1\r\n\r\nx")
        assert bodies(said) == [b"1 x"]
        assert b"connection: close\r\n" in said
        said = await line.ask(b"HEAD /v1/me" + HOST + b"connection: close\r\n\r\n")
        assert statuses(said) == [201]
        assert b"content-length: 2\r\n" in said
        assert said.endswith(b"\r\n\r\n")

    assert tell(story).asgi == []


def test_who_speaks_for_others_is_looked_at(tell: Tell) -> None:
    async def story(line: Line) -> None:
        said = await line.ask(sign(b"one", b"x-for: 192.0.2.7", last=True))
        assert b"x-who: 192.0.2.7\r\n" in said

    assert tell(story, behind=Behind()).asgi == ["/v1/certificates/sign"]


def test_the_answer_that_is_owed_comes_before_the_end(tell: Tell) -> None:
    """Behind a question stands what is none, or the last one was already: nothing more is answered, and the first one is."""

    async def story(line: Line) -> None:
        twice = b"content-length: 1\r\ncontent-length: 2\r\n\r\nx"
        hosts = b"GET /now HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"
        large = b"GET /now" + HOST + b"x: " + b"y" * 40000 + b"\r\n\r\n"
        chunked = b"POST /v1/a" + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n"
        for rest in (hosts, b"GET /now" + HOST + twice, b"CONNECT a:1" + HOST + b"\r\n", b"?\r\n\r\n", chunked, large):
            assert statuses(await line.ask(sign(b"one") + rest + get(b"/now"))) in ([201], [201, 431])
        assert statuses(await line.ask(sign(b"one", last=True) + get(b"/now") + sign(b"two"))) == [201]

    tell(story)


def test_no_body_is_taken_for_a_question(tell: Tell, caplog: pytest.LogCaptureFixture) -> None:
    """Beside the wish for another protocol the parser leaves a body alone; and whatever follows such a wish is not answered, but the connection ends."""

    async def story(line: Line) -> None:
        wish = b"connection: upgrade\r\nupgrade: h2c\r\n"
        for announced in (b"content-length: 37\r\n", b"transfer-encoding: chunked\r\n"):
            reader, writer = await line.connect()
            writer.write(b"POST /v1/a" + HOST + wish + announced + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(get(b"/thread"))
            assert statuses(await reader.read()) == [501]
            writer.close()
        said = await line.ask(b"GET /now" + HOST + b"content-length: 0\r\n" + wish + b"\r\n" + get(b"/now"))
        assert statuses(said) == [200]
        assert b"connection: close\r\n" in said
        assert statuses(await line.ask(sign(b"one", b"upgrade: h2c", last=True))) == [201], "without `connection: upgrade` it is no wish"

    line = tell(story)
    assert line.counts["gatekey_refused_connections", "private", "upgrade"] == 2
    assert not [record for record in caplog.records if "WebSocket" in record.getMessage()], "nobody is advised to install anything"
    assert line.asgi == ["/now", "/v1/certificates/sign"]


def test_whoever_asks_and_goes_has_a_limit(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the route is one that is answered at once, and the question too large for that."""
    monkeypatch.setattr(server, "CONNECTIONS", 4)

    async def story(line: Line) -> None:
        line.gate.open.clear()
        for _ in range(8):
            _, writer = await line.connect()
            writer.write(b"POST /ocsp" + HOST + b"content-length: 1000\r\n\r\n" + b"x" * 1000)
            await until(lambda: line.connections)
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await until(lambda: not line.connections)
        assert len(line.listener.server_state.tasks) == 4
        assert statuses(await line.ask(get(b"/now", last=True))) == [200], "what is in memory is told all the same"
        line.gate.open.set()

    tell(story)


def test_what_goes_wrong_is_told(tell: Tell) -> None:
    """A fault of ours ends neither the connection nor the wait for its answer, and its words are for the log."""

    async def story(line: Line) -> None:
        said = await line.ask(b"POST /broken" + HOST + b"\r\n" + b"POST /header" + HOST + b"\r\n" + get(b"/now", last=True))
        assert statuses(said) == [500, 500, 200]
        assert b"geheim" not in said
        assert b"\r\nb: c" not in said

    line = tell(story)
    assert [type(one) for one in line.failures] == [OSError, ValueError]
    assert line.counts["gatekey_requests", "private", "/header", "500"] == 1
    assert line.counts["gatekey_requests", "private", "/header", "200"] == 0
