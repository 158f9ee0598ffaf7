from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.test import Client as DjangoBrowser
from django.test.utils import override_settings
from django.urls import path

from gatekey.identity.django import IdentityMiddleware, client_of, require
from kit.asking import Answer, asgi_scope, ask_wsgi, wsgi_environ
from kit.house import House, nginx_says

PROXY = "10.0.0.5"
OURS = "gatekey.identity.django.IdentityMiddleware"
SESSIONS = ["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"]
SIGN_IN = [OURS, *SESSIONS, "gatekey.identity.django_auth.SignInMiddleware"]
KINDS = ("wsgi", "asgi")


def home(request: HttpRequest) -> JsonResponse:
    user = request.user.get_username() if hasattr(request, "user") else None
    meta = sorted(key for key in request.META if key.startswith("HTTP_"))
    return JsonResponse({"login": request.client.login, "user": user, "meta": meta, "headers": sorted(request.headers)})


async def slow_home(request: HttpRequest) -> JsonResponse:
    return await sync_to_async(home)(request)


@require("staff")
def staff(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"display": client_of(request).display})


@require()
async def anybody(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"display": client_of(request).display})


if not settings.configured:
    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(path("", home), path("slow", slow_home), path("staff", staff), path("anybody", anybody)),
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:gatekey-identity?mode=memory&cache=shared", "OPTIONS": {"uri": True}}},
        USE_TZ=True,
    )
    django.setup()


@pytest.fixture(scope="module")
def tables() -> Iterator[None]:
    from django.core.management import call_command

    connection.ensure_connection()  # keeps the database in memory alive
    call_command("migrate", verbosity=0)
    yield
    connection.close()


def ask(kind: str, said: dict[str, str], *, where: str = "/", client: str = PROXY, middleware: Any = (OURS,), **options: Any) -> Answer:
    with override_settings(MIDDLEWARE=list(middleware), GATEKEY={"trust": PROXY, **options}):
        if kind == "wsgi":
            return ask_wsgi(WSGIHandler(), wsgi_environ(said.items(), client=client) | {"PATH_INFO": where, "wsgi.input": io.BytesIO()})
        return _ask_asgi(ASGIHandler(), asgi_scope(said.items(), client=client) | {"path": where, "raw_path": where.encode()})


def _ask_asgi(app: Any, scope: dict[str, Any]) -> Answer:
    # Django's handler listens for a disconnect beside the view: the request must come once and then nothing.
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        coming: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if coming:
                return coming.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)

    asyncio.run(run())
    body = b"".join(message.get("body", b"") for message in sent)
    return Answer(sent[0]["status"], {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}, body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["/", "/slow"])
def test_django_knows_who_is_there(house: House, kind: str, where: str) -> None:
    answer = ask(kind, {**nginx_says(house.ann), "Remote-User": "root", "X-Forwarded-User": "root"}, where=where, bundle=house.bundle)
    assert answer.saw["login"] == "ann"
    seen = {key for key in answer.saw["meta"] if "CLIENT" in key or key.endswith("_USER")}
    assert seen == {"HTTP_X_CLIENT_VERIFY", "HTTP_X_CLIENT_SERIAL", "HTTP_X_CLIENT_ISSUER", "HTTP_X_CLIENT_CERT"}
    assert "Remote-User" not in answer.saw["headers"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_claims_are_removed_or_refused(house: House, kind: str) -> None:
    said = {**nginx_says(house.ann), "X-Client-User": "ann", "Remote-User": "root"}
    assert ask(kind, said, client="192.0.2.1").status == 403
    answer = ask(kind, said, client="192.0.2.1", anonymous=True)
    assert (answer.status, answer.saw["login"]) == (200, "")
    assert not [key for key in answer.saw["meta"] if "CLIENT" in key or key.endswith("_USER")]


@pytest.mark.parametrize("kind", KINDS)
def test_lies_get_400(house: House, kind: str) -> None:
    for more in ({"X-Client-Serial": "rubbish"}, {"X-Client-User": "bob"}, {"X-Client-User_": "admin"}):
        assert ask(kind, {**nginx_says(house.ann), **more}).status == 400
    assert ask("asgi", {**nginx_says(house.ann), "X_Client_User": "admin"}).status == 400


@pytest.mark.parametrize("kind", KINDS)
def test_decorators_ask_for_groups(house: House, kind: str) -> None:
    options: dict[str, Any] = {"bundle": house.bundle, "anonymous": True}
    assert ask(kind, nginx_says(house.ann), where="/staff", **options).saw["display"] == "Änn Öberg"
    assert [ask(kind, said, where="/staff", **options).status for said in (nginx_says(house.bob), {})] == [403, 403]
    assert [ask(kind, said, where="/anybody", **options).status for said in (nginx_says(house.bob), {})] == [200, 403]


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_is_signed_in_as_a_user(house: House, tables: None, kind: str) -> None:
    answer = ask(kind, nginx_says(house.ann), middleware=SIGN_IN)
    assert answer.saw["user"] == "ann"
    cookie = answer.headers["set-cookie"].split(";")[0]
    # Without a client the session ends, and another client is not the person of the cookie.
    assert ask(kind, {"Cookie": cookie}, middleware=SIGN_IN, anonymous=True).saw["user"] == ""
    assert ask(kind, {**nginx_says(house.bob), "Cookie": cookie}, middleware=SIGN_IN).saw["user"] == "bob"
    assert ask(kind, {**nginx_says(house.ann), "Cookie": cookie}, middleware=SIGN_IN).saw["user"] == "ann"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Gatekey-Login", "GATEKEY_LOGIN", "Remote-User"])
def test_no_header_signs_anybody_in(house: House, tables: None, kind: str, name: str) -> None:
    assert ask(kind, {name: "admin"}, middleware=SIGN_IN, anonymous=True).saw["user"] == ""
    assert ask(kind, {**nginx_says(house.ann), name: "admin"}, middleware=SIGN_IN).saw["user"] == "ann"


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_middleware_nobody_is_let_in(kind: str) -> None:
    assert ask(kind, {}, where="/staff", middleware=()).status == 500


def test_djangos_own_test_client() -> None:
    with override_settings(MIDDLEWARE=[OURS], GATEKEY={"trust": "10.0.0.1"}):
        ann = {"X-Client-Verify": "SUCCESS", "X-Client-User": "ann"}
        assert DjangoBrowser(REMOTE_ADDR="10.0.0.1", headers=ann).get("/").json()["login"] == "ann"
        assert DjangoBrowser(REMOTE_ADDR="10.0.0.2", headers=ann).get("/").status_code == 403


def test_wrong_settings_are_said_at_the_start() -> None:
    with override_settings(GATEKEY={}), pytest.raises(ImproperlyConfigured, match="GATEKEY in the settings: nobody is named"):
        IdentityMiddleware(home)


def test_headers_that_somebody_looked_at_before_are_forgotten(house: House, tmp_path: Path) -> None:
    def early(get_response: Any) -> Any:
        def look(request: HttpRequest) -> Any:
            assert "X-Client-User" in request.headers
            return get_response(request)

        return look

    with override_settings(GATEKEY={"trust": PROXY, "anonymous": True}):
        from django.core.handlers.wsgi import WSGIRequest

        request = WSGIRequest(wsgi_environ([("X-Client-User", "admin")]) | {"wsgi.input": io.BytesIO()})
        answer = early(IdentityMiddleware(home))(request)
    assert b"X-Client-User" not in answer.content
