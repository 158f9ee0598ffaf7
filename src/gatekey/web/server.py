"""One uvicorn for each listener, in one process: a protocol that tells who is there, limits of time and size, and an end that drops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ..protocols.message import Answer, Peer
from .hot import Door, Quick, at_once
from .limits import BODY_SECONDS, CONNECTIONS, HANDSHAKES, HANDSHAKES_FROM, HEAD_BYTES, HEAD_SECONDS, IDLE_SECONDS, READ_SECONDS, STRANGERS
from .reading import READ_BYTES, SLICE, Flow
from .seats import Acceptor, Seats
from .wire import on_its_way, wire, write_whole

if TYPE_CHECKING:
    from .house import House
    from .tls import Tls

#: Connections that wait in the kernel's queue; seconds for a TLS handshake, and for one that is under way when we are to end.
_QUEUE, _HANDSHAKE, _SHAKING = 2048, 10, 5
#: Seconds that a client has for the end of TLS after the last byte has arrived; until then the sweep looks whether it reads, and asyncio must not cut it off.
_FAREWELL, _FLUSHING = 5, 24 * 3600
#: Headers of requests that take the long way.
_LONG = (b"transfer-encoding", b"upgrade", b"expect")
#: Seconds that an idle connection may still bring a request after we were told to end, and that running requests have.
LINGER, GRACE = 1.0, 30


class Protocol(HttpToolsProtocol):
    """One connection. Reads of uvicorn's insides what stands in 0.54: `app`, `cycle`, `flow`, `transport`, `parser`, `pipeline`, `connections`, `server_state`.

    What a route of ours answers is begun here, between two reads, and told when it is there, without ASGI's scope, task and messages: half of what it costs.
    A sweep once a second looks at all connections; a request pays nothing for its limits of time.
    """

    connected = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.connected = True
        transport.max_size = READ_BYTES  # of a plain one
        self.flow: Flow = Flow(transport)
        self.unread = b""
        self.turn: asyncio.Handle | None = None
        self.running: RequestResponseCycle | None = None
        self.app = self.config.loaded_app.connected(peer_of(transport), write_whole)
        self.since = self.moved = time.monotonic()
        self.in_head = True
        self.head = self.silent = self.steps = 0
        self.unsent: tuple[int, ...] = ()
        self.ending = False
        self.refused = False
        self.quick: Quick | None = None
        self.url = b""
        self.owed: asyncio.Future[Answer] | None = None
        self.keep = True
        if not self.app.arrives():
            self.refuse("too-many")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.app.leaves()
        self.config.loaded_app.house.seats.leave()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        if len(data) <= SLICE and not self.unread and not self.pipeline and self.owed is None:
            self._parse(data)
            return
        self.unread += data
        if not self.flow.held:
            self.flow.hold(True)
            self._go_on()

    def _go_on(self) -> None:
        """Parses what waits, a slice at each turn, and none while requests wait for their turn: bytes take less room than requests."""
        self.turn = None
        if self.refused or self.transport.is_closing():
            self.unread = b""
        elif self.unread and not self.waits:
            data, self.unread = self.unread[:SLICE], self.unread[SLICE:]
            self._parse(data)
        if self.refused:  # who has refused has said whether the rest is read
            return
        if not self.unread:
            self.flow.hold(False)
        elif not self.waits and self.turn is None:
            self.turn = self.loop.call_soon(self._go_on)

    @property
    def waits(self) -> bool:
        """Whether what comes now has to wait for answers that are owed."""
        return self.owed is not None or bool(self.pipeline)

    def _parse(self, data: bytes) -> None:
        if self.refused:
            return
        before = self.steps
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            self.refuse("unknown-method" if b" HTTP/1." in data else "bad-request")
        except httptools.HttpParserInvalidURLError:
            self.refuse("bad-path")
        except httptools.HttpParserError:
            self.refuse("bad-request")
        except httptools.HttpParserUpgrade:
            pass  # the wish for another protocol is not followed
        # A field that never ends is kept by the parser, which says nothing of it until it does.
        self.silent = 0 if self.steps != before else self.silent + len(data)
        if self.silent > HEAD_BYTES:
            self.refuse("large-head")

    def on_message_begin(self) -> None:
        """Leaves the making of ASGI's scope to `_the_long_way`."""
        self.steps += 1
        self.in_head, self.head = True, 1
        self.since = time.monotonic()
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. What comes after the body (trailers) counts too, and is nobody's: it is no header, whatever it is called (RFC 9110 6.5.1)."""
        self.steps += 1
        self.head += len(name) + len(value) + 4
        if self.head > HEAD_BYTES:
            self._count(0)
        if self.in_head and not self.refused:
            self.headers.append((name.lower(), value))

    def _count(self, size: int) -> None:
        self.steps += 1
        self.head += size
        if self.head > HEAD_BYTES and not self.refused:
            self.refuse("large-head")

    def on_headers_complete(self) -> None:
        self.steps += 1
        self.in_head = False
        if self.refused or self.transport.is_closing():  # whatever follows an answer that was the last
            self.refused = True
            return
        try:
            if wrong := self._wrong():
                self.refuse(wrong)
                return
            self.quick = self._quickly()
            if self.quick is None:
                self._the_long_way()
        except (UnicodeDecodeError, httptools.HttpParserInvalidURLError):  # nothing that uvicorn answers
            self.refuse("bad-path")
            return
        if self.quick is None and (self.ending or self.parser.should_upgrade()):
            self.cycle.keep_alive = False

    def _wrong(self) -> str:
        """What HTTP/1.1 forbids and the parser lets pass: no host or several (RFC 9112 3.2), and a coding of the message that we do not know (6.1).

        And a body beside the wish for another protocol (RFC 9110 7.8): the parser leaves it to that, so that we would take it for the next question.
        """
        hosts, body, other = 0, False, False
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                body = value.strip(b"0 \t") != b""
            elif name == b"transfer-encoding":
                body = True
                if value.strip().lower() != b"chunked":
                    return "unknown-coding"
            elif name == b"upgrade":
                other = True
        if body and other and self.parser.should_upgrade():
            return "upgrade"
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            return "bad-host"
        return ""

    def _quickly(self) -> Quick | None:
        """The request, if a route of ours answers it, its body is announced and not too large, and nothing before it is still being answered."""
        if self.busy or self.pipeline or self.flow.write_paused or len(self.connections) >= CONNECTIONS:
            return None
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        method = self.parser.get_method().decode("ascii")
        route = self.app.route(method, path)
        if route is None:
            return None
        size = len(path)
        for name, value in self.headers:
            if name in _LONG:
                return None
            if name == b"content-length":
                length = int(value)
                if length > self.app.largest(route) or (length > STRANGERS and self.app.a_stranger(self.headers)):
                    return None
                size += length
        if len(self.tasks) >= CONNECTIONS and not at_once(route, size):  # those who asked and went, too, are still worked for
            return None
        return Quick(route, method, path, url.query or b"", self.headers, bytearray())

    def _the_long_way(self) -> None:
        """As uvicorn does it: a scope, a cycle, a task."""
        if len(self.connections) >= CONNECTIONS:  # uvicorn answers 503
            self.count("too-many")
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        self.server_state.default_headers = [(b"date", self.config.loaded_app.date())]  # of what FastAPI answers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.steps += 1
        if self.quick is not None:
            self.quick.body.extend(body)
        elif not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        quick, self.quick = self.quick, None
        if quick is not None:
            self._answer(quick)
        elif not self.refused:
            super().on_message_complete()

    def _answer(self, quick: Quick) -> None:
        self.keep = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self.owed = self.app.answer(quick, self._tell)
        if self.owed is not None:
            self.tasks.add(self.owed)  # type: ignore[arg-type]  # at the end uvicorn waits for what is in there, and cancels what takes too long

    def _tell(self, head: bytes, body: bytes) -> None:
        """The answer is there, and perhaps nobody any more who waits for it."""
        if self.owed is not None:
            self.tasks.discard(self.owed)
            self.owed = None
            if self.transport.is_closing():
                return
        last = self.ending and not (self.pipeline or self.unread)
        data, keep = wire(head, body, keep=self.keep and not last)
        self.transport.write(data)
        self.since = time.monotonic()
        self.server_state.total_requests += 1
        if not keep:
            self.transport.close()
            return
        if self.ending:  # what waits here may be half a request
            self.loop.call_later(LINGER, self._close_if_idle)
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self.unread:
            self._wake()

    def refuse(self, why: str) -> None:
        """Ends a connection with a word, and counts it. Without the word where the answer to an earlier request is still owed: answers come in order."""
        if self.refused:  # what is left of these bytes may be wrong as well
            return
        self.count(why)
        self.refused, self.quick = True, None
        self.pipeline.clear()
        if self.owes:
            self.keep = False
            if self.running is not None:
                self.running.keep_alive = False
            self.flow.hold(True)
        elif not self.transport.is_closing():
            head, body = self.config.loaded_app.last_words(why)
            alone = bool(self.url) and self.parser.get_method() == b"HEAD"
            self.transport.write(wire(head, b"" if alone else body, keep=False)[0])
            # Closed at once, the kernel would answer what still comes with a reset, and the word above would be lost.
            self.loop.call_later(LINGER, self.transport.close)

    @property
    def owes(self) -> bool:
        """Whether somebody has asked all of a question and waits for its answer."""
        return self.owed is not None or (self.running is not None and not self.running.response_complete and not self.running.more_body)

    @property
    def busy(self) -> bool:
        """Whether an answer is owed, or a question is under way that has taken the long way."""
        return self.owed is not None or (bool(self.cycle) and not self.cycle.response_complete)

    def sweep(self, now: float) -> None:
        """Closes a connection that takes too long with its head, its body, its reading or its silence."""
        unsent = on_its_way(self.transport)
        if unsent != self.unsent:
            self.unsent, self.moved = unsent, now
        if unsent:
            if now - self.moved > READ_SECONDS:
                self.count("slow-reader")
                self.transport.abort()
        elif self.quick is not None or (bool(self.cycle) and self.cycle.more_body and not self.cycle.response_started):
            if now - self.since > BODY_SECONDS + HEAD_SECONDS:
                self.refuse("slow-body")
        elif self.busy:
            return
        elif self.transport.is_closing():
            if now - max(self.since, self.moved) > _FAREWELL:  # everything has arrived, and the other side does not say that it is over
                self.transport.abort()
        elif self.in_head and self.head and now - self.since > HEAD_SECONDS:
            self.refuse("slow-head")
        elif now - self.since > max(IDLE_SECONDS, HEAD_SECONDS) and self.timeout_keep_alive_task is None:
            self.count("idle")
            self.transport.close()

    def count(self, why: str) -> None:
        self.config.loaded_app.count(why)

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()
        if self.running is not None and self.running.more_body and not self.running.keep_alive:
            # Refused in the middle of a body. The rest is thrown away for a moment: closed at once, a reset would take the answer from whoever still sends.
            self.refused, self.unread = True, b""
            self.flow.hold(False)
            self.loop.call_later(LINGER, self.transport.close)
        elif self.unread:
            self._wake()

    def _wake(self) -> None:
        if not self.waits and self.turn is None:
            self.turn = self.loop.call_soon(self._go_on)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.owed is not None:  # came in one piece with the question before it: answers come in order
            self.flow.pause_reading()
            self.pipeline.append((cycle, app))
            return
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        """We are to end: what runs is finished, and an idle client may still have sent something; it is answered, with `connection: close`."""
        self.ending = True
        if self.busy:
            if self.cycle is not None:
                self.cycle.keep_alive = False
        elif self.quick is None:
            self.loop.call_later(LINGER, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self.busy and self.quick is None and not self.transport.is_closing():
            self.transport.close()


def _address(sock: socket.socket) -> str:
    """The address of the other end: an IP address, `unix`, or "" when it has gone already."""
    if sock.family == socket.AF_UNIX:
        return "unix"
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""


def peer_of(transport: Any) -> Peer:
    """Who is at the other end: the address, or `unix`; and the certificate that the handshake has verified."""
    connection = transport.get_extra_info("ssl_object")
    certificate = b""
    if connection is not None and connection.context.verify_mode != ssl.CERT_NONE:
        certificate = connection.getpeercert(binary_form=True) or b""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return Peer("unix", certificate)
    name = transport.get_extra_info("peername")
    return Peer(str(name[0]) if name else "", certificate)


class Listener(uvicorn.Server):
    """One listener on sockets that are open already."""

    def __init__(self, door: Door, sockets: list[socket.socket], speaks: Tls | None, seats: Seats) -> None:
        super().__init__(
            uvicorn.Config(
                door,
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                loop="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # whoever speaks for others proves himself to us, not to uvicorn
                server_header=False,
                date_header=False,  # it would be up to two seconds old
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._sockets = sockets
        self._tls = speaks
        self._seats = seats
        self._door = door
        # Where each one comes from, if that is limited. Asyncio itself forgets tasks that nobody holds.
        self._connecting: dict[asyncio.Task[None], tuple[int, int] | None] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  uvicorn's own signature
        """In place of uvicorn's: connections are shared with the other workers, and a handshake has a limit."""
        loop = asyncio.get_running_loop()
        self.servers = []
        for sock in self._sockets:
            sock.listen(_QUEUE)
            self.servers.append(Acceptor(loop, sock, self._seats, self._connect))  # type: ignore[arg-type]  # uvicorn closes it and waits for it, no more
        self.started = True

    def _connect(self, sock: socket.socket) -> None:
        """Takes over a connection. Nobody has said anything yet, so that strangers cost least here, and are counted here."""
        place = self._door.place_of(_address(sock))
        from_there = sum(other == place for other in self._connecting.values()) if place and self._door.house.limits.rate else 0
        if from_there >= HANDSHAKES_FROM or len(self.server_state.connections) >= CONNECTIONS + HANDSHAKES:
            self._door.count("too-many")
            self._seats.leave()
            sock.close()
            return
        if len(self._connecting) >= HANDSHAKES:  # whoever has taken longest makes room: an honest handshake takes milliseconds
            oldest = next(iter(self._connecting))
            del self._connecting[oldest]
            oldest.cancel()
            self._door.count("too-many")
        task = asyncio.get_running_loop().create_task(self._connected(sock))
        self._connecting[task] = place
        task.add_done_callback(lambda done: self._connecting.pop(done, None))

    async def _connected(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        protocol = Protocol(config=self.config, server_state=self.server_state, app_state={}, _loop=loop)
        extra: dict[str, Any] = {"ssl": self._tls.context, "ssl_handshake_timeout": _HANDSHAKE, "ssl_shutdown_timeout": _FLUSHING} if self._tls else {}
        try:
            await loop.connect_accepted_socket(lambda: protocol, sock, **extra)
        except OSError:  # a handshake that failed, or took too long: what strangers do all day
            sock.close()
        finally:
            if not protocol.connected:
                self._seats.leave()
        if self.should_exit and protocol.connected:  # its handshake was under way when we were told to end
            protocol.shutdown()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No more connections; those whose handshake is under way still get an answer, and then uvicorn ends the rest."""
        for acceptor in self.servers:
            acceptor.close()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=_SHAKING)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the worker's business: there are several servers in it."""
        yield

    async def sweeping(self) -> None:
        """Looks after all connections once a second."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            self._seats.tell()
            for connection in list(self.server_state.connections):
                connection.sweep(now)  # type: ignore[union-attr]  # they are ours


async def serve(house: House, listeners: list[Listener], ready: Any, ended: asyncio.Event) -> None:
    """Runs until `ended`, then finishes what was begun. `ready()` is called when every listener listens."""
    running = [asyncio.create_task(listener.serve()) for listener in listeners]
    sweeps = [asyncio.create_task(listener.sweeping()) for listener in listeners]
    while not all(listener.started for listener in listeners):
        await asyncio.sleep(0.01)
        for task in running:
            if task.done():
                task.result()
    ready()
    await ended.wait()
    house.log.info("ending", connections=sum(len(listener.server_state.connections) for listener in listeners))
    for listener in listeners:
        listener.should_exit = True
    for leave in house.leaving:
        leave()
    await asyncio.gather(*running)
    for sweep in sweeps:
        sweep.cancel()
