"""ASGI middleware: `scope["gatekey.client"]` and `request.state.client` for every HTTP request and WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Unpack

from ..errors import GatekeyError, Malformed, Misconfigured
from .certificates import one
from .client import NOBODY, Client
from .doorman import Doorman, Options
from .headers import sort_out
from .sources import Claim
from .trust import Peer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Each framework has its own types for the three; any of them will do.
App = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

#: Where the client stands in the scope, and where our uvicorn protocol puts the peer that it saw on the socket.
CLIENT = "gatekey.client"
PEER = "gatekey.peer"

#: Policy violation (RFC 6455 7.4.1): how a WebSocket ends whose client was revoked.
POLICY = 1008


class IdentityMiddleware:
    """Puts a Client into the scope, and takes out of it every identity header that nobody vouches for.

        app = IdentityMiddleware(app, trust="unix", bundle="/etc/gatekey")

    Takes the options of Doorman, or one that is ready. A request that lies about identity gets 400, one without a client 403 (unless `anonymous=True`).
    A WebSocket ends (1008) at the first message after its client was put on the deny list.
    """

    def __init__(self, app: App, doorman: Doorman | None = None, **options: Unpack[Options]) -> None:
        self.app = app
        self.doorman = doorman or Doorman(**options)
        if self.doorman.source.inside == "environ":
            raise Misconfigured("identity-source", "mod_wsgi speaks WSGI; an ASGI app cannot have it in front", hint='use source="mod_ssl" with trust')

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            client, headers = identify(self.doorman, scope)
        except GatekeyError as problem:
            await _refuse(problem, scope, receive, send)
            return
        state = scope.get("state")
        if state is None:
            state = {}
        state["client"] = client
        inner = {**scope, "headers": headers, "state": state, CLIENT: client}
        if scope["type"] == "websocket":
            receive, send = _watched(self.doorman, client, receive, send)
        await self.app(inner, receive, send)


def client_of(scope: Scope) -> Client:
    """The client that the middleware found. Raises Misconfigured("identity-absent") if the middleware is not there: no default lets anybody in."""
    try:
        client = scope[CLIENT]
    except KeyError:
        raise Misconfigured("identity-absent", "no IdentityMiddleware stands in front of this app", hint="wrap the app in it") from None
    return client if isinstance(client, Client) else NOBODY


def identify(doorman: Doorman, scope: Scope) -> tuple[Client, Headers]:
    """The client of a scope and the headers that the app may see. Raises Malformed (400) and Refused (403)."""
    headers = scope["headers"]
    if not isinstance(headers, list | tuple):  # ASGI: any iterable, and it is read more than once
        headers = list(headers)
    said = sort_out(headers, doorman.names)
    extensions = scope.get("extensions") or {}
    peer: Peer = extensions.get(PEER) or _peer(scope)
    inside = _tls(extensions.get("tls")) if doorman.source.inside else None
    forwarded = None
    if said and peer.host and not peer.proven:
        forwarded = ",".join(value.decode("latin-1") for name, value in headers if name in (b"x-forwarded-for", b"forwarded")) or None
    client = doorman.identify(said, peer, inside=inside, forwarded=forwarded)
    if removed := doorman.removed(said, client):
        names = doorman.names
        headers = [pair for pair in headers if names[pair[0]] not in removed]
    return client, headers


def _peer(scope: Scope) -> Peer:
    # ASGI 3.0: `server` is (host, port), or (path, None) for a Unix socket. A server that says nothing is not believed to be one.
    server = scope.get("server")
    if server is not None and server[1] is None:
        return Peer(unix=True)
    client = scope.get("client")
    return Peer(host=str(client[0])) if client else Peer()


def _tls(extension: Any) -> Claim | None:
    """The claim of the ASGI TLS extension: the first certificate of `client_cert_chain`, if the server verified it without an error."""
    if not extension or extension.get("client_cert_error"):
        return None
    for certificate in extension.get("client_cert_chain") or ():
        return Claim("of the TLS connection", certificate=one("of the TLS connection", certificate))
    return None


def _watched(doorman: Doorman, client: Client, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """`receive` and `send` of a WebSocket that look at the deny list with each message."""

    async def end() -> None:
        await send({"type": "websocket.close", "code": POLICY, "reason": "the client certificate was taken back"})

    async def watched_receive() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive" and not doorman.still_welcome(client):
            await end()
            return {"type": "websocket.disconnect", "code": POLICY}
        return message

    async def watched_send(message: Message) -> None:
        if message["type"] == "websocket.send" and not doorman.still_welcome(client):
            await end()
            raise ConnectionAbortedError("the client certificate was taken back")  # ASGI: OSError says that the connection is gone
        await send(message)

    return watched_receive, watched_send


async def _refuse(problem: GatekeyError, scope: Scope, receive: Receive, send: Send) -> None:
    status, headers, body = refusal(problem)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
    kind = "http"
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": POLICY})
            return
        kind = "websocket.http"
    await send({"type": f"{kind}.response.start", "status": status, "headers": pairs})
    await send({"type": f"{kind}.response.body", "body": body})


def refusal(problem: GatekeyError) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of the answer to a request that was refused: 400 for Malformed, 403 for everything else."""
    text = problem.message + (f"\n{problem.hint}" if problem.hint else "")
    body = f"{text}\n".encode("utf-8", "replace")
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return (400 if isinstance(problem, Malformed) else 403), headers, body
