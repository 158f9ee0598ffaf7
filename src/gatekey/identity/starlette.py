"""Starlette and FastAPI: the client as a dependency. The middleware itself is gatekey.identity.IdentityMiddleware.

    app.add_middleware(IdentityMiddleware, trust="unix", bundle="/etc/gatekey")

    @app.get("/")
    def home(client: Annotated[Client, Depends(client_of)]) -> str:
        return f"Hello {client.display}"

    @app.get("/books", dependencies=[Depends(require("accounting"))])

`request.client` is Starlette's own word for the address of the peer; the Client is `request.state.client` there.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from . import asgi
from .asgi import IdentityMiddleware
from .client import Client

__all__ = ["IdentityMiddleware", "client_of", "require"]


def client_of(connection: HTTPConnection) -> Client:
    """The client of a request or WebSocket. Raises Misconfigured("identity-absent") without the middleware."""
    return asgi.client_of(connection.scope)


def require(*groups: str) -> Callable[[HTTPConnection], Client]:
    """A dependency that answers 403 to everybody who is not verified, and, if groups are named, not in any of them."""

    def check(connection: HTTPConnection) -> Client:
        client = client_of(connection)
        if not client.verified or (groups and not client.in_group(*groups)):
            raise HTTPException(403, "this page is for others")
        return client

    return check
