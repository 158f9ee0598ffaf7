"""Requests to ASGI and WSGI apps without a socket, exactly as a server would hand them over, and apps that answer with what they were told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

#: What a browser sends anyway.
ORDINARY = (("host", "app.test"), ("user-agent", "Mozilla/5.0"), ("accept", "*/*"), ("cookie", "a=b"), ("x-requested-with", "test"))

Pairs = Iterable[tuple[str, str]]


class Answer(NamedTuple):
    """Status, headers (lower-case names) and body; `saw` is the JSON of an echo app."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def saw(self) -> Any:
        return json.loads(self.body)


def asgi_scope(headers: Pairs = (), *, unix: bool = False, client: str = "192.0.2.7", **more: Any) -> dict[str, Any]:
    """The scope of a GET as uvicorn makes it: header names in lower case, a Unix socket as `server`'s (path, None)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "server": ("/run/app.sock", None) if unix else ("127.0.0.1", 8000),
        "client": None if unix else (client, 40000),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (*ORDINARY, *headers)],
        "state": {},
        **more,
    }


def ask_asgi(app: Any, scope: dict[str, Any]) -> Answer:
    """The answer of an ASGI app to one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answer(start["status"], {name.decode().lower(): value.decode() for name, value in start["headers"]}, body)


async def echo_asgi(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that answers with the client and the headers it got."""
    client = scope["gatekey.client"]
    seen = {"client": client._asdict(), "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


def wsgi_environ(headers: Pairs = (), *, client: str = "192.0.2.7", **more: Any) -> dict[str, Any]:
    """The environ of a GET; doubled headers joined with a comma, as WSGI servers do it."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "app.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": client,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
    for name, value in (*ORDINARY, *headers):
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return {**environ, **more}


def ask_wsgi(app: Any, environ: dict[str, Any]) -> Answer:
    """The answer of a WSGI app to one request."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        started[:] = [status, headers]

    body = b"".join(app(environ, start_response))
    return Answer(int(started[0].split()[0]), {name.lower(): value for name, value in started[1]}, body)


def echo_wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI app that answers with the client and the headers it got."""
    seen = {"client": environ["gatekey.client"]._asdict(), "headers": {key: value for key, value in environ.items() if key.startswith("HTTP_")}}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
