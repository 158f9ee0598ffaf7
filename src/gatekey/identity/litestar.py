"""Litestar: the client as a dependency, and a guard for groups.

    app = Litestar(
        [home, books],
        middleware=[DefineMiddleware(IdentityMiddleware, trust="unix", bundle="/etc/gatekey")],
        dependencies={"client": Provide(client_of, sync_to_thread=False)},
    )

    @get("/books", guards=[require("accounting")])
    async def books(client: NamedDependency[Client]) -> str: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from . import asgi
from .asgi import IdentityMiddleware
from .client import Client

__all__ = ["IdentityMiddleware", "client_of", "require"]


def client_of(request: Request[Any, Any, Any]) -> Client:
    """The client of a request. Raises Misconfigured("identity-absent") without the middleware."""
    return asgi.client_of(dict(request.scope))


def require(*groups: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """A guard that answers 403 to everybody who is not verified, and, if groups are named, not in any of them."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        client = asgi.client_of(dict(connection.scope))
        if not client.verified or (groups and not client.in_group(*groups)):
            raise PermissionDeniedException("this page is for others")

    return check
