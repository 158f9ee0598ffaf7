"""The app behind the web servers of a test. It answers in JSON with what it was told, and remembers it, so that a test can say "the app was not asked"."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn, UnixStreamServer
from typing import Any, NamedTuple

#: Stands in every answer of the app and in no answer of a web server.
MARK = "APP-WAS-HERE"


class Seen(NamedTuple):
    """A request as the app saw it; header names as they were written, doubled ones twice."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of every header called `name`, upper and lower case alike."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the one header called `name`, or None. Raises AssertionError when it stands twice."""
        found = self.all(name)
        assert len(found) < 2, f"{name} stands {len(found)} times: {found}"
        return found[0] if found else None


class Backend:
    """A running app. `url` is what a web server's configuration takes as its upstream."""

    def __init__(self, url: str, address: tuple[str, int] | str) -> None:
        self.url = url
        self.address = address
        self.seen: list[Seen] = []
        self.stopping = threading.Event()

    @property
    def last(self) -> Seen:
        return self.seen[-1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any
    timeout = 30

    def setup(self) -> None:
        super().setup()
        self.server.open_sockets.add(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.server.open_sockets.discard(self.connection)

    def answer(self) -> None:
        seen = Seen(self.command, self.path, tuple(self.headers.items()))
        self.server.backend.seen.append(seen)
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            self.rfile.read(length)
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.web_socket()
            return
        body = json.dumps({"mark": MARK, "method": seen.method, "path": seen.path, "headers": seen.headers}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Set-Cookie", f"app={MARK}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = answer  # noqa: N815  http.server's names

    def web_socket(self) -> None:
        """Accepts and says "tick" every 50 ms until the other side is gone (RFC 6455)."""
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while not self.server.backend.stopping.wait(0.05):
                self.wfile.write(b"\x81\x04tick")
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class _Mixin(ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is no error."""


class _TCP(_Mixin, TCPServer):
    pass


class _Unix(_Mixin, UnixStreamServer):
    def get_request(self) -> tuple[socket.socket, Any]:
        request, _ = super().get_request()
        return request, ("unix", 0)


@contextlib.contextmanager
def backend(unix: Path | None = None) -> Iterator[Backend]:
    """The app on a free loopback port, or on the Unix socket `unix` (whose path must be short: the kernel takes 107 bytes)."""
    server: Any = _Unix(str(unix), _Handler) if unix else _TCP(("127.0.0.1", 0), _Handler)
    if unix:
        unix.chmod(0o666)
    app = Backend(f"unix:{unix}" if unix else f"http://127.0.0.1:{server.server_address[1]}", str(unix) if unix else server.server_address)
    server.backend, server.open_sockets = app, set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield app
    finally:
        app.stopping.set()
        server.shutdown()
        server.server_close()
        for connection in list(server.open_sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
