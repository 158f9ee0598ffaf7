"""Django, under WSGI and ASGI: `request.client`. Sign-in to Django's own users is in `django_auth`, for projects that have them.

    MIDDLEWARE = ["gatekey.identity.django.IdentityMiddleware", ...]      # first
    GATEKEY = {"trust": "unix", "bundle": "/etc/gatekey"}                 # the options of Doorman
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from ..errors import GatekeyError, Misconfigured
from . import asgi, wsgi
from .client import Client
from .doorman import Doorman

Get = Callable[[HttpRequest], Any]


class IdentityMiddleware:
    """Puts a Client into `request.client`, and takes out of the request every identity header that nobody vouches for. Stands first in MIDDLEWARE.

    Its options are the dict `GATEKEY` in the settings (see Doorman). A request that lies about identity gets 400, one without a client 403.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Get, doorman: Doorman | None = None) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        try:
            self.doorman = doorman or Doorman(**getattr(settings, "GATEKEY", {}))
        except Misconfigured as problem:
            raise ImproperlyConfigured(f"GATEKEY in the settings: {problem.message}. {problem.hint}") from None

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._later(request)
        response: HttpResponseBase = self._refused(request) or self.get_response(request)
        return response

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self._refused(request) or await self.get_response(request)
        return response

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        try:
            request.client = identify(self.doorman, request)
        except GatekeyError as problem:
            status, headers, body = asgi.refusal(problem)
            return HttpResponse(body, status=status, headers=dict(headers))
        return None


def client_of(request: HttpRequest) -> Client:
    """The client that the middleware found. Raises ImproperlyConfigured if it is not there: no default lets anybody in."""
    client = getattr(request, "client", None)
    if not isinstance(client, Client):
        raise ImproperlyConfigured("gatekey.identity.django.IdentityMiddleware is not in MIDDLEWARE")
    return client


def require(*groups: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for views, sync and async: 403 to everybody who is not verified, and, if groups are named, not in any of them."""

    def check(request: HttpRequest) -> None:
        client = client_of(request)
        if not client.verified or (groups and not client.in_group(*groups)):
            raise PermissionDenied("this page is for others")

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def later(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                check(request)
                return await view(request, *args, **kwargs)

            return later

        @functools.wraps(view)
        def now(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            check(request)
            return view(request, *args, **kwargs)

        return now

    return decorate


def identify(doorman: Doorman, request: HttpRequest) -> Client:
    """The client of a Django request, from which the identity headers that the app must not see are taken."""
    scope = getattr(request, "scope", None)
    if scope is None:
        client = wsgi.identify(doorman, request.META)
    else:
        # The scope still has the names as they were sent; META has lost the difference between - and _.
        client, scope["headers"] = asgi.identify(doorman, scope)
        left = {doorman.names[header] for header, _ in scope["headers"]}
        for key in [key for key in request.META if (name := doorman.names.of_environ[key]) is not None and name not in left]:
            del request.META[key]
    request.__dict__.pop("headers", None)  # a cached view of META, if somebody before us has looked
    return client
