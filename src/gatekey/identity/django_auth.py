"""Django's own users: signs the client in as the user of the same name. Apart from `django`, because it needs django.contrib.auth installed.

    MIDDLEWARE = [
        "gatekey.identity.django.IdentityMiddleware",
        ...
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "gatekey.identity.django_auth.SignInMiddleware",
    ]
    AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
"""

from __future__ import annotations

from django.contrib.auth.middleware import RemoteUserMiddleware
from django.http import HttpRequest

from .django import client_of


class SignInMiddleware(RemoteUserMiddleware):  # type: ignore[misc]  # Django has no types
    """Signs the client in as the Django user of the same name; RemoteUserBackend makes users that are not there yet (its `create_unknown_user`).

    Reads `request.client` and never a header: Django's own middleware reads a header under ASGI, and a header can be sent by anybody.
    """

    header = "GATEKEY_LOGIN"

    def process_request(self, request: HttpRequest) -> None:
        self._tell(request)
        super().process_request(request)

    async def aprocess_request(self, request: HttpRequest) -> None:
        self._tell(request)
        await super().aprocess_request(request)

    def _tell(self, request: HttpRequest) -> None:
        client = client_of(request)
        # With and without HTTP_: Django asks for the one under WSGI and for the other under ASGI. Whatever a client sent there is overwritten.
        for key in (self.header, f"HTTP_{self.header}"):
            request.META.pop(key, None)
            if client.verified:
                request.META[key] = client.login
