r"""TLS itself as the source: uvicorn protocols that tell the app the client's certificate, and who really connected.

    uvicorn app:app --http gatekey.identity.uvicorn:Http --ws gatekey.identity.uvicorn:WebSocket \
        --ssl-certfile site.crt --ssl-keyfile site.key --ssl-ca-certs people-chain.pem --ssl-cert-reqs 2

Released uvicorn says nothing about the client's certificate. These protocols add the TLS extension of the ASGI specification to every scope (as
`scope["extensions"]["tls"]`), and the peer as the socket knows it, before --proxy-headers rewrites it.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any

from .asgi import PEER, App, Receive, Scope, Send
from .trust import Peer

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class Telling:
    """Mixin for a uvicorn protocol (HTTP or WebSocket): reads the connection once, when it is made, and tells every request on it."""

    app: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]  # the protocol that this is mixed into
        self.app = _Told(self.app, extensions(transport))


class _Framed:
    """Mixin for uvicorn's httptools protocol, which takes what comes after a chunked body (trailers) for headers, and some bodies for the next question.

    A web server in front sets and deletes headers, and passes trailers and bodies on: whoever writes `X-Client-User` there must not be believed (RFC 9110
    6.5.1). Beside the wish for another protocol (7.8) a body is left to that, which nobody speaks here: such a question is refused. Not that for a WebSocket,
    where uvicorn speaks it: what follows is no HTTP any more.
    """

    _in_head = True

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()  # type: ignore[misc]  # the protocol that this is mixed into

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)  # type: ignore[misc]  # as above

    def on_headers_complete(self) -> None:
        self._in_head = False
        uvicorn: Any = self
        if uvicorn.parser.should_upgrade() and not uvicorn._should_upgrade():  # noqa: SLF001  what it asks itself
            announced = {name: value.strip(b"0 \t") for name, value in uvicorn.headers if name in (b"content-length", b"transfer-encoding")}
            if any(announced.values()):
                raise ValueError("a body beside the wish for another protocol")  # answered with 400, and the connection ends
        super().on_headers_complete()  # type: ignore[misc]  # as above


class _Told:
    """The app, with the connection's extensions put into each scope."""

    def __init__(self, app: App, found: dict[str, Any]) -> None:
        self.app = app
        self.found = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**(scope.get("extensions") or {}), **self.found}
        await self.app(scope, receive, send)


def extensions(transport: Any) -> dict[str, Any]:
    """What an asyncio transport tells about the other end: the peer, and the TLS extension of ASGI where there is TLS."""
    found: dict[str, Any] = {PEER: _peer(transport.get_extra_info("socket"))}
    connection = transport.get_extra_info("ssl_object")
    if connection is not None:
        found["tls"] = tls_extension(connection)
    return found


def tls_extension(connection: ssl.SSLObject) -> dict[str, Any]:
    """The ASGI TLS extension. The chain has the client's own certificate only, and that only if the handshake verified it."""
    verified = connection.context.verify_mode != ssl.CERT_NONE
    certificate = connection.getpeercert(binary_form=True) if verified else None
    return {
        "server_cert": None,  # CPython does not tell which certificate it showed
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate)] if certificate else [],
        "client_cert_name": None,  # the form of a name is nobody's business; the certificate has it
        "client_cert_error": None,  # a certificate that is not good ends the handshake
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": None,
    }


def _peer(connection: Any) -> Peer:
    if connection is None:
        return Peer()
    import socket

    try:
        if connection.family == socket.AF_UNIX:
            return Peer(unix=True, proven=True)
        return Peer(str(connection.getpeername()[0]), proven=True)
    except OSError:  # already gone
        return Peer()


def server_context(certificate: str, key: str, people: str, *, optional: bool = False) -> ssl.SSLContext:
    """A server's SSLContext for the files `certificate`, `key` and `people` (people-chain.pem): it ends the handshake of whoever has no good certificate.

    TLS 1.3 without resumption. `optional` lets clients without a certificate in (never with a bad one); the middleware then decides. For uvicorn:
    `ssl_context_factory=lambda config, default: server_context(...)`. Revocation is the middleware's business: it asks the deny list at each request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # TLS 1.2 resumes sessions by their number, which CPython cannot switch off; a resumed session asks for no certificate.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(people)
    context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    return context


def _http() -> type:
    """The faster of uvicorn's HTTP protocols that is installed, telling."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol  # the slower one; it keeps trailers apart by itself

        return type("Http", (Telling, H11Protocol), {"__module__": __name__})
    return type("Http", (Telling, _Framed, HttpToolsProtocol), {"__module__": __name__})


def _websocket() -> type:
    """The WebSocket protocol that uvicorn would choose itself, telling."""
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

    if AutoWebSocketsProtocol is None:
        raise ImportError("uvicorn has no WebSocket library: pip install websockets")
    return type("WebSocket", (Telling, AutoWebSocketsProtocol), {"__module__": __name__})  # type: ignore[arg-type]  # a class, whatever it says


def __getattr__(name: str) -> type:
    """`Http` and `WebSocket` are made when they are asked for, so that this module can be read without uvicorn's parsers (PEP 562)."""
    makers = {"Http": _http, "WebSocket": _websocket}
    if name not in makers:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = makers[name]()
    setattr(sys.modules[__name__], name, made)
    return made
