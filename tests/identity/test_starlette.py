from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request, WebSocket

from gatekey.errors import Misconfigured
from gatekey.identity import Client, IdentityMiddleware
from gatekey.identity.starlette import client_of, require
from kit.asking import Answer, asgi_scope, ask_asgi
from kit.house import House, nginx_says

HERE = "10.0.0.5"


def app(house: House, **options: Any) -> FastAPI:
    made = FastAPI()
    made.add_middleware(IdentityMiddleware, **{"trust": HERE, "bundle": house.bundle, **options})

    @made.get("/")
    def home(client: Annotated[Client, Depends(client_of)], request: Request) -> dict[str, Any]:
        assert request.state.client is client
        return {"login": client.login, "headers": sorted(request.headers)}

    @made.get("/staff")
    def staff(client: Annotated[Client, Depends(require("staff"))]) -> str:
        return client.display

    @made.get("/anybody", dependencies=[Depends(require())])
    def anybody() -> str:
        return "in"

    @made.websocket("/ws")
    async def talk(socket: WebSocket, client: Annotated[Client, Depends(client_of)]) -> None:
        await socket.accept()
        await socket.send_text(client.login)
        await socket.close()

    return made


def get(made: FastAPI, said: dict[str, str], path: str = "/", client: str = HERE) -> Answer:
    return ask_asgi(made, asgi_scope(said.items(), client=client) | {"path": path, "raw_path": path.encode()})


def test_fastapi_knows_who_is_there(house: House) -> None:
    made = app(house)
    answer = get(made, {**nginx_says(house.ann), "Remote-User": "root"})
    assert answer.saw["login"] == "ann"
    assert "remote-user" not in answer.saw["headers"]
    assert get(made, {**nginx_says(house.ann), "x_client_user": "admin"}).status == 400
    assert get(made, {}).status == 403
    assert get(made, nginx_says(house.ann), client="192.0.2.1").status == 403


def test_dependencies_ask_for_groups(house: House) -> None:
    made = app(house, anonymous=True)
    ann, bob = nginx_says(house.ann), nginx_says(house.bob)
    assert get(made, ann, "/staff").saw == "Änn Öberg"
    assert [get(made, said, "/staff").status for said in (bob, {}, nginx_says(house.pki.client("eve")))] == [403, 403, 403]
    assert [get(made, said, "/anybody").status for said in (ann, bob, {})] == [200, 200, 403]
    assert get(made, {}).saw["login"] == ""


def test_websockets_know_too(house: House) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = asgi_scope(nginx_says(house.ann).items(), client=HERE) | {"type": "websocket", "path": "/ws", "scheme": "ws", "subprotocols": []}
    asyncio.run(app(house)(scope, receive, send))
    assert [(message["type"], message.get("text")) for message in sent[:2]] == [("websocket.accept", None), ("websocket.send", "ann")]


def test_without_the_middleware_nobody_is_let_in(house: House) -> None:
    bare = FastAPI()

    @bare.get("/", dependencies=[Depends(require())])
    def home() -> str:
        return "never"

    with pytest.raises(Misconfigured):
        get(bare, {})
