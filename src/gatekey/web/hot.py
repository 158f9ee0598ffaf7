"""The plain ASGI callable in front of everything: scope -> Call -> route -> Answer -> bytes, with the limits of size, time and rate. No framework here."""

from __future__ import annotations

import asyncio
import functools
import http
import itertools
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, NamedTuple

from ..authority import access
from ..errors import GatekeyError, NotFound, Refused
from ..protocols.message import Answer, Call, Peer, problem
from . import refusals
from .keymaking import ending
from .limits import BODY_SECONDS, FROM_ADDRESS, STRANGERS
from .routes import Route

if TYPE_CHECKING:
    from .house import House

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Bytes of path and body of a question that is answered in the event loop: larger ones ask for more, and everybody else would wait for their answers.
AT_ONCE = 768

#: How one signs in where that is done by HTTP, and not by TLS.
CHALLENGE = 'Bearer realm="gatekey"'

_TOO_MANY = Refused("too-many-requests", "too many requests from this address", hint="ask again in a second")
_CLOSE = ("connection", "close")
_UNKNOWN = 2**63
_NO_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


class TooLarge(Exception):
    """The body is larger than is read."""


class Gone(Exception):
    """Nobody is there any more to answer."""


#: Writes a whole answer at once: the cycle of a uvicorn connection, status line and headers, body.
Whole = Callable[[Any, bytes, bytes], Awaitable[None]]

_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@functools.lru_cache(maxsize=4096)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Status line and headers as they go out. The same few come again and again. Raises ValueError for a value that would break out of its line."""
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"]
    for name, value in headers:
        if _BREAKS.search(name) or _BREAKS.search(value):
            raise ValueError(f"the header {name!r} has a value that is not one line")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1", "replace")


@functools.lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    """What the Date header says (RFC 9110 6.6.1)."""
    return formatdate(second, usegmt=True).encode()


@functools.lru_cache(maxsize=4096)
def _encoded(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them. The same few sets come again and again."""
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def at_once(route: Route, size: int) -> bool:
    """Whether a question of this many bytes of path and body is answered in the event loop."""
    return route.how == "inline" and size <= AT_ONCE


class Quick(NamedTuple):
    """A request that a route answers without ASGI in between: its body is announced, and small enough to be read. `body`: what has come of it."""

    route: Route
    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytearray


class Table:
    """The routes of one listener."""

    def __init__(self, routes: list[Route]) -> None:
        self._exact: dict[tuple[str, str], Route] = {}
        self._below: list[tuple[str, str, Route]] = []
        for route in routes:
            for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
                if route.path.endswith("/"):
                    self._below.append((method, route.path, route))
                else:
                    self._exact[method, route.path] = route
        self._below.sort(key=lambda row: -len(row[1]))

    def find(self, method: str, path: str) -> Route | None:
        if route := self._exact.get((method, path)):
            return route
        for wanted, below, route in self._below:
            if wanted == method and path.startswith(below):
                return route
        return None

    def methods(self, path: str) -> list[str]:
        """What a path may be asked with."""
        found = {method for method, exact in self._exact if exact == path}
        for method, below, route in self._below:
            if path.startswith(below):
                found |= {method} if route.knows is None else set(route.knows(path))
        return sorted(found)


class Door:
    """One listener. `connected` makes the application of one connection, which knows who is at its other end."""

    def __init__(self, house: House, listener: str, routes: list[Route], app: Any = None) -> None:
        self.house = house
        self.listener = listener
        self.table = Table([route for route in routes if route.listener == listener])
        self.app = app
        self.limits = house.limits if listener in ("public", "enrol") else None
        self.from_address: Counter[tuple[int, int]] = Counter()
        self._now = house.authority.clock.now
        self._ids = itertools.count(1)
        self._prefix = house.authority.entropy.bytes(6).hex()

    def connected(self, peer: Peer, whole: Whole | None = None) -> Connection:
        return Connection(self, peer, whole)

    def place_of(self, address: str) -> tuple[int, int] | None:
        """Where an address is counted (`Limits.place`); None where addresses are not limited."""
        return self.limits.place(address) if self.limits is not None and address != "unix" else None

    def count(self, why: str) -> None:
        """A connection was refused, or ended before its time."""
        self.house.meter.counts["gatekey_refused_connections", self.listener, why] += 1

    def date(self) -> bytes:
        """What the Date header of an answer says that goes out now: by the clock by which it was made, so that nothing in it is later (RFC 9110 8.8.2.1)."""
        return _date(self._now())

    def last_words(self, why: str) -> tuple[bytes, bytes]:
        """Head and body for a connection that is refused before there is a request."""
        answer = refusals.answer(why)
        return b"%sdate: %s\r\ncontent-length: %d\r\n" % (_head(answer.status, answer.headers), self.date(), len(answer.body)), answer.body

    def next_id(self) -> str:
        return f"{self._prefix}-{next(self._ids):x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For servers and tests that do not know connections: nobody is known at the other end but the address that the server tells."""
        client = scope.get("client")
        await Connection(self, Peer(client[0] if client else "unix"))(scope, receive, send)

    def begin(self, route: Route, call: Call) -> Answer | asyncio.Future[Answer]:
        """The answer of a route, or the problem it has; where it has to be waited for, what `end` takes it out of when it is done."""
        try:
            if at_once(route, len(call.path) + len(call.body)):
                return route.handler(call)  # type: ignore[return-value]  # it is none of those that are awaited
            if route.how == "async":
                return asyncio.ensure_future(route.handler(call))  # type: ignore[arg-type]  # it is one of those
            return asyncio.get_running_loop().run_in_executor(None, route.handler, call)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001  sorted out there
            return self._wrong(error, call)

    async def ask(self, route: Route, call: Call) -> Answer:
        """The answer of a route, or the problem it has."""
        begun = self.begin(route, call)
        try:
            return begun if isinstance(begun, Answer) else await begun
        except Exception as error:  # noqa: BLE001  sorted out there
            return self._wrong(error, call)

    def end(self, begun: asyncio.Future[Answer], call: Call) -> Answer:
        """The answer that something begun has come to, or the problem it has. What is not done when the process ends was cancelled."""
        try:
            return begun.result()
        except asyncio.CancelledError:  # uvicorn does that with what takes too long when the process ends: no fault of anybody's
            return self.refused(ending(), call, ("retry-after", "1"))
        except Exception as error:  # noqa: BLE001  sorted out there
            return self._wrong(error, call)

    def _wrong(self, error: BaseException, call: Call) -> Answer:
        if isinstance(error, GatekeyError):
            return self.refused(error, call)
        # Whatever it was: its text is for the log, not for the stranger.
        written = self.house.log.failure("internal", error, id=call.id, listener=self.listener, path=call.path)
        return _problem(Refused("internal", "something went wrong here", hint="the service's log has it"), call.id if written else "")

    def refused(self, error: GatekeyError, call: Call, *headers: tuple[str, str]) -> Answer:
        """The problem, with an `instance` if that leads to a line in the log."""
        instance = call.id if self.house.log.refusal(error, call) else ""
        if error.code == "sign-in":  # RFC 9110 15.5.2; what the gate answers has it already. No browser shows a dialogue for it
            headers = (*headers, ("www-authenticate", CHALLENGE))
        return _problem(error, instance, *headers)


def _problem(error: GatekeyError, instance: str, *headers: tuple[str, str]) -> Answer:
    answer = problem(error, instance=instance)
    return answer._replace(headers=(*answer.headers, *headers))


class Connection:
    """The ASGI application of one connection."""

    __slots__ = ("_door", "_place", "_whole", "peer")

    def __init__(self, door: Door, peer: Peer, whole: Whole | None = None) -> None:
        self._door = door
        self._whole = whole
        self.peer = peer
        self._place = door.place_of(peer.address)

    def arrives(self) -> bool:
        """Counts the connection to its address; whether that may have one more."""
        if self._place is None:
            return True
        self._door.from_address[self._place] += 1
        return not self._door.house.limits.rate or self._door.from_address[self._place] <= FROM_ADDRESS

    def leaves(self) -> None:
        """The connection is over."""
        if self._place is not None:
            self._door.from_address[self._place] -= 1
            if self._door.from_address[self._place] <= 0:
                del self._door.from_address[self._place]

    def route(self, method: str, path: str) -> Route | None:
        """The route, if there is one and nobody speaks for others here: then `answer` has its answer."""
        door = self._door
        return door.table.find(method, path) if door.house.behind is None or door.listener != "private" else None

    def largest(self, route: Route) -> int:
        """Bytes of a body that this route reads."""
        body = self._door.house.limits.body
        return body if route.largest is None else min(route.largest, body)

    def a_stranger(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether whoever asks has nothing to sign in with, where nobody is answered otherwise: his body need not be kept to find that out."""
        mine = self._door.listener == "private" and self._door.house.behind is None
        return mine and not self.peer.certificate and all(name != b"authorization" for name, _ in headers)

    def answer(self, asked: Quick, tell: Callable[[bytes, bytes], None]) -> asyncio.Future[Answer] | None:
        """Hands head and body of the answer to `tell`, in any case: now, or when what comes back is done. Without a scope, messages and mostly a task."""
        call = self._call(asked.method, asked.path, asked.query, asked.headers, bytes(asked.body) if asked.body else b"")
        begun = self._limited() or self._door.begin(asked.route, call)
        if isinstance(begun, Answer):
            tell(*self._told(begun, asked.route, asked.method))
            return None
        begun.add_done_callback(lambda done: tell(*self._told(self._door.end(done, call), asked.route, asked.method)))
        return begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._door
        method, path = scope["method"], scope["path"]
        route = door.table.find(method, path)
        answer = self._limited()
        if answer is None and route is None:
            if door.app is not None and not door.table.methods(path):
                # A framework sees nobody behind a web server that speaks for others: only routes of ours do.
                speaks = door.house.behind is not None and door.house.behind.concerns(Call(door.listener, method, path, peer=self.peer))
                peer = self.peer._replace(certificate=b"") if speaks else self.peer
                scope["state"] = {**scope.get("state", {}), "peer": peer, "request_id": door.next_id()}
                await door.app(scope, functools.partial(_limited, receive, [door.house.limits.body]), send)
                return
            answer = self._nothing(self._call(method, path))
        if answer is None and route is not None:
            try:
                answer = await self._answer(route, scope, receive, method, path)
            except Gone:
                return
        assert answer is not None  # noqa: S101  one of the three has made one
        if self._whole is not None:
            await self._whole(send.__self__, *self._told(answer, route, method))  # type: ignore[attr-defined]  # it is a method of uvicorn's cycle
            return
        _, body = self._told(answer, route, method)
        headers = _encoded(answer.headers)
        if answer.status not in (204, 304):
            headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _limited(self) -> Answer | None:
        """The refusal of somebody who asks too often. Counted and not logged: it is what floods are told."""
        if self._place is None or self._door.limits.allows(self._place):  # type: ignore[union-attr]  # there is a place only where there are limits
            return None
        return _problem(_TOO_MANY, "", ("retry-after", "1"))

    def _told(self, answer: Answer, route: Route | None, method: str) -> tuple[bytes, bytes]:
        """Counts an answer; its head and body as they go out."""
        try:
            head = _head(answer.status, answer.headers)
        except ValueError as error:  # of ours, and whoever asked is owed an answer all the same
            call = Call(self._door.listener, method, route.path if route else "", id=self._door.next_id())
            return self._told(self._door._wrong(error, call), route, method)  # noqa: SLF001  the same house
        self._door.house.meter.counts["gatekey_requests", self._door.listener, route.name if route else "", str(answer.status)] += 1
        if answer.status in (204, 304):
            return b"%sdate: %s\r\n" % (head, self._door.date()), b""
        return b"%sdate: %s\r\ncontent-length: %d\r\n" % (head, self._door.date(), len(answer.body)), b"" if method == "HEAD" else answer.body

    def _call(self, method: str, path: str, query: bytes = b"", headers: Headers | tuple[()] = (), body: bytes = b"") -> Call:
        said = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
        return Call(self._door.listener, method, path, query.decode("latin-1"), said, body, self.peer, self._door.next_id())

    def _nothing(self, call: Call) -> Answer:
        if known := ", ".join(self._door.table.methods(call.path)):
            return self._door.refused(Refused("method-not-allowed", f"{call.method} is not answered here; {known} is"), call, ("allow", known))
        return self._door.refused(NotFound("no-page", "there is nothing at this address"), call)

    async def _answer(self, route: Route, scope: Scope, receive: Receive, method: str, path: str) -> Answer:
        door = self._door
        body = b""
        largest = self.largest(route)
        if method not in _NO_BODY or any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
            if _announces(scope["headers"]) > STRANGERS and self.a_stranger(scope["headers"]):
                return door.refused(access.nobody(), self._call(method, path), _CLOSE)
            try:
                body = await _body(scope, receive, largest)
            except TooLarge:
                error = Refused("too-large", f"the body is larger than the {largest} bytes that are read")
                return door.refused(error, self._call(method, path), _CLOSE)
            except TimeoutError:
                error = Refused("too-slow", f"the body was not there within {BODY_SECONDS} seconds")
                return door.refused(error, self._call(method, path), _CLOSE)
        call = self._call(method, path, scope["query_string"], scope["headers"], body)
        if door.house.behind is not None and door.listener == "private":
            try:
                call = await asyncio.to_thread(door.house.behind.see, call) if door.house.behind.concerns(call) else call
            except GatekeyError as error:
                return door.refused(error, call)
        return await door.ask(route, call)


def _announces(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes that a body has by its own words; more than anybody may send where it comes in chunks."""
    said = dict(headers)
    return _UNKNOWN if b"transfer-encoding" in said else int(said.get(b"content-length", 0))


async def _body(scope: Scope, receive: Receive, largest: int) -> bytes:
    """The whole body. Raises TooLarge, TimeoutError or Gone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > largest:
            raise TooLarge
    message = await _in_time(receive)
    body = message["body"]
    if not message.get("more_body"):
        if len(body) > largest:
            raise TooLarge
        return bytes(body)
    parts = [body]
    size = len(body)
    async with asyncio.timeout(BODY_SECONDS):
        while message.get("more_body"):
            message = await _in_time(receive)
            size += len(message["body"])
            if size > largest:
                raise TooLarge
            parts.append(message["body"])
    return b"".join(parts)


async def _in_time(receive: Receive) -> MutableMapping[str, Any]:
    """One message. The time for the first one is kept by the sweep of the server, which costs a request nothing."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    return message


async def _limited(receive: Receive, left: list[int]) -> MutableMapping[str, Any]:
    """A body for a framework, cut off where ours would be: it sees a client that went away."""
    message = await receive()
    if message["type"] == "http.request":
        left[0] -= len(message.get("body", b""))
        if left[0] < 0:
            return {"type": "http.disconnect"}
    return message
