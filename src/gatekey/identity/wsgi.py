"""WSGI middleware: `environ["gatekey.client"]` for every request."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, Unpack

from ..errors import GatekeyError, Misconfigured
from .asgi import CLIENT, refusal
from .client import NOBODY, Client
from .doorman import Doorman, Options
from .headers import MAX_VALUE, environ_key, sort_out_environ, too_long
from .sources import Claim
from .trust import Peer

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_STATUS = {400: "400 Bad Request", 403: "403 Forbidden"}


class IdentityMiddleware:
    """Puts a Client into the environ, and takes out of it every identity header that nobody vouches for.

        application = IdentityMiddleware(application, trust="unix", bundle="/etc/gatekey")

    Takes the options of Doorman, or one that is ready. A request that lies about identity gets 400, one without a client 403 (unless `anonymous=True`).
    """

    def __init__(self, app: App, doorman: Doorman | None = None, **options: Unpack[Options]) -> None:
        self.app = app
        self.doorman = doorman or Doorman(**options)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            environ[CLIENT] = identify(self.doorman, environ)
        except GatekeyError as problem:
            status, headers, body = refusal(problem)
            start_response(_STATUS[status], headers)
            return [body]
        return self.app(environ, start_response)


def client_of(environ: Environ) -> Client:
    """The client that the middleware found. Raises Misconfigured("identity-absent") if the middleware is not there: no default lets anybody in."""
    try:
        client = environ[CLIENT]
    except KeyError:
        raise Misconfigured("identity-absent", "no IdentityMiddleware stands in front of this app", hint="wrap the app in it") from None
    return client if isinstance(client, Client) else NOBODY


def identify(doorman: Doorman, environ: Environ) -> Client:
    """The client of an environ, from which the identity headers that the app must not see are taken. Raises Malformed (400) and Refused (403)."""
    said = sort_out_environ(environ.items(), doorman.names)
    peer = _peer(environ)
    inside = _inside(doorman, environ) if doorman.source.inside else None
    forwarded = None
    if said and peer.host and not peer.proven:
        forwarded = f"{environ.get('HTTP_X_FORWARDED_FOR', '')},{environ.get('HTTP_FORWARDED', '')}"
    client = doorman.identify(said, peer, inside=inside, forwarded=forwarded)
    for name in doorman.removed(said, client):
        del environ[environ_key(name)]
    return client


def _peer(environ: Environ) -> Peer:
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if connection is not None:
        # The socket itself is better evidence than REMOTE_ADDR, which middleware and the PROXY protocol rewrite.
        try:
            if connection.family == socket.AF_UNIX:
                return Peer(unix=True, proven=True)
            return Peer(str(connection.getpeername()[0]), proven=True)
        except (OSError, AttributeError):
            return Peer()
    host = str(environ.get("REMOTE_ADDR", ""))
    # waitress says so of a Unix socket; of TCP it says an address and a number.
    return Peer(host, unix=host == "localhost" and environ.get("REMOTE_PORT") == "None")


def _inside(doorman: Doorman, environ: Environ) -> Claim | None:
    """What the app server knows itself: mod_wsgi's SSL_CLIENT_* (no request header can have such a key), or the TLS socket of gunicorn."""
    if doorman.source.inside == "environ":
        said = {name: str(environ[name.upper()]) for name in doorman.source.names if name.upper() in environ}
        for name, value in said.items():
            if len(value) > MAX_VALUE:
                raise too_long(name, len(value))
        return doorman.source.read(said)
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    certificate = connection.getpeercert(True) if connection is not None and hasattr(connection, "getpeercert") else None
    return Claim("of the TLS connection", certificate=certificate) if certificate else None
