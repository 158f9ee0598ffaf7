"""A Django project in one file that knows who is there, and signs people in as Django users of the same name.

    python django_app.py migrate                                        once, for the table of users
    gunicorn django_app:application --bind unix:/run/hello/app.sock     or: uvicorn django_app:asgi --uds /run/hello/app.sock

The web server in front of it asks for the certificate: gatekey webserver nginx --site hello.example.com --upstream unix:/run/hello/app.sock
GATEKEY_BUNDLE names the bundle folder of that web server; it says who is in which group, and who was sent away.
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from gatekey.identity.django import require


def home(request: HttpRequest) -> JsonResponse:
    """Everything that is known of the caller, and the Django user."""
    return JsonResponse({**request.client._asdict(), "user": request.user.get_username()})


@require("staff")
def staff(request: HttpRequest) -> HttpResponse:
    """Only for the group staff."""
    return HttpResponse(f"The staff page, for {request.client.display}.", content_type="text/plain; charset=utf-8")


settings.configure(
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "") or os.urandom(32).hex(),
    ALLOWED_HOSTS=["*"],  # the web server knows its host names and refuses all others
    ROOT_URLCONF=(path("", home), path("staff", staff)),
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    MIDDLEWARE=[
        "gatekey.identity.django.IdentityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "gatekey.identity.django_auth.SignInMiddleware",
    ],
    GATEKEY={"trust": "unix", "bundle": os.environ.get("GATEKEY_BUNDLE", "/etc/gatekey/bundle")},
    AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SESSION_COOKIE_SECURE=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DJANGO_DATABASE", "hello.db")}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()
application = get_wsgi_application()
asgi = get_asgi_application()

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
