"""Flask: the client of the current request, in views and templates.

    Identity(app, trust="unix", bundle="/etc/gatekey")

    @app.get("/")
    def home() -> str:
        return f"Hello {client.display}"

    @app.get("/books")
    @require("accounting")
    def books() -> str: ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, Unpack

from flask import Flask, abort, request
from werkzeug.local import LocalProxy

from . import wsgi
from .client import Client
from .doorman import Doorman, Options

P = ParamSpec("P")
R = TypeVar("R")


class Identity:
    """Puts the WSGI middleware around an app and `client` into its templates. Takes the options of Doorman, or one that is ready."""

    def __init__(self, app: Flask, doorman: Doorman | None = None, **options: Unpack[Options]) -> None:
        app.wsgi_app = wsgi.IdentityMiddleware(app.wsgi_app, doorman, **options)  # type: ignore[method-assign]  # the place that Flask's docs name for it
        app.context_processor(lambda: {"client": client_of()})


def client_of() -> Client:
    """The client of the current request. Raises Misconfigured("identity-absent") without the middleware."""
    return wsgi.client_of(request.environ)


#: The client of the current request, as Flask's own `request` is.
client: Client = LocalProxy(client_of)  # type: ignore[assignment]  # stands for it in every respect


def require(*groups: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for views: 403 to everybody who is not verified, and, if groups are named, not in any of them."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            who = client_of()
            if not who.verified or (groups and not who.in_group(*groups)):
                abort(403)
            return view(*args, **kwargs)

        return checked

    return decorate
