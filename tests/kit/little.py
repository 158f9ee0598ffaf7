"""A little HTTPS server in this very process that says whatever a test wants: for what no real server can be talked into.

    def app(request): return 200, {}, b"hello" if request.person else ...
    with little(app, pki) as port: ...
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kit.listening import listening
from kit.pki import Leaf, Pki, make_pki


class Request(NamedTuple):
    """What came. `person`: common name of the client's certificate, "" without one; `sni`: "" without one; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    person: str
    sni: str
    plain: bool


Answering = Callable[[Request], tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def little(
    app: Answering, trust: Pki | None = None, *, leaf: Leaf | None = None, required: bool = False, alpn: tuple[str, ...] = (), plain: bool = False
) -> Iterator[int]:
    """The port of a server with `app` behind it. `trust`: whose certificates are asked for; `plain`: without TLS."""
    context = None if plain else _context(trust, leaf, required=required, alpn=alpn)
    with listening(lambda peer: _serve(peer, context, app)) as port:
        yield port


def _context(trust: Pki | None, leaf: Leaf | None, *, required: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    with tempfile.TemporaryDirectory() as folder:
        files = (leaf or make_pki("kitty-ca servers").server("app.example")).write(Path(folder), "server")
        context.load_cert_chain(files.chain, files.key)
    if trust:
        context.load_verify_locations(cadata=trust.chain_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    if alpn:
        context.set_alpn_protocols(list(alpn))

    def name(connection: ssl.SSLObject, sni: str | None, _: ssl.SSLContext) -> None:
        connection.sni_seen = sni or ""  # type: ignore[attr-defined]

    context.sni_callback = name
    return context


def _serve(peer: socket.socket, context: ssl.SSLContext | None, app: Answering) -> None:
    with contextlib.suppress(ValueError):
        if context is None:
            _talk(peer, app, "", "", plain=True)
            return
        with context.wrap_socket(peer, server_side=True) as tls:
            shown = tls.getpeercert() or {}
            subject = dict(pair for rdn in shown.get("subject", ()) for pair in rdn)  # type: ignore[misc]
            _talk(tls, app, str(subject.get("commonName", "")), getattr(tls, "sni_seen", ""), plain=False)


def _talk(peer: socket.socket, app: Answering, person: str, sni: str, *, plain: bool) -> None:
    with peer.makefile("rb") as lines:
        first = re.fullmatch(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n", lines.readline())
        if first is None:  # a ClientHello, mostly
            peer.sendall(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        method, path = (word.decode("latin-1") for word in first.groups())
        headers: dict[str, str] = {}
        while line := lines.readline().decode("latin-1").strip():
            key, _, value = line.partition(":")
            headers.setdefault(key.lower(), value.strip())
        status, extra, body = app(Request(method, path, headers, person, sni, plain))
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n" + "".join(f"{key}: {value}\r\n" for key, value in extra.items())
        peer.sendall(head.encode("latin-1") + b"\r\n" + (b"" if method == "HEAD" else body))
