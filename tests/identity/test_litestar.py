from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, get
from litestar.di import NamedDependency, Provide
from litestar.middleware import DefineMiddleware

from gatekey.identity import Client
from gatekey.identity.litestar import IdentityMiddleware, client_of, require
from kit.asking import Answer, asgi_scope, ask_asgi
from kit.house import House, nginx_says


@get("/")
async def home(client: NamedDependency[Client], request: Request[Any, Any, Any]) -> dict[str, Any]:
    assert request.state.client is client
    return {"login": client.login, "headers": sorted(request.headers)}


@get("/staff", guards=[require("staff")])
async def staff(client: NamedDependency[Client]) -> str:
    return client.display


@get("/anybody", guards=[require()])
async def anybody() -> str:
    return "in"


def ask(house: House, said: dict[str, str], path: str = "/", **options: Any) -> Answer:
    middleware = DefineMiddleware(IdentityMiddleware, **{"trust": "unix", "bundle": house.bundle, **options})
    app = Litestar([home, staff, anybody], middleware=[middleware], dependencies={"client": Provide(client_of, sync_to_thread=False)}, openapi_config=None)
    return ask_asgi(app, asgi_scope(said.items(), unix=True) | {"path": path, "raw_path": path.encode()})


def test_litestar_knows_who_is_there(house: House) -> None:
    answer = ask(house, {**nginx_says(house.ann), "Remote-User": "root"})
    assert answer.saw["login"] == "ann"
    assert "remote-user" not in answer.saw["headers"]
    assert ask(house, {}).status == 403
    assert ask(house, {**nginx_says(house.ann), "X_Client_User": "admin"}).status == 400


def test_guards_ask_for_groups(house: House) -> None:
    ann, bob = nginx_says(house.ann), nginx_says(house.bob)
    assert ask(house, ann, "/staff").body.decode() == "Änn Öberg"
    assert [ask(house, said, "/staff", anonymous=True).status for said in (bob, {})] == [403, 403]
    assert [ask(house, said, "/anybody", anonymous=True).status for said in (ann, bob, {})] == [200, 200, 403]
