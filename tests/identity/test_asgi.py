from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Misconfigured
from gatekey.identity import Doorman, IdentityMiddleware, Secret
from gatekey.identity.asgi import client_of
from gatekey.identity.trust import Peer
from kit.asking import ORDINARY, Answer, asgi_scope, ask_asgi, echo_asgi
from kit.house import House, nginx_says

FORGED = (("X-Client-User", "admin"), ("X-Client-Verify", "SUCCESS"), ("Remote-User", "root"), ("X-Forwarded-User", "root"), ("Client-Cert", ":QUJD:"))


def ask(scope: dict[str, Any], **options: Any) -> Answer:
    return ask_asgi(IdentityMiddleware(echo_asgi, **{"trust": "unix", **options}), scope)


def names(answer: Answer) -> set[str]:
    return {name for name, _ in answer.saw["headers"]} - {name for name, _ in ORDINARY}


def test_the_app_learns_who_is_there(house: House) -> None:
    scope = asgi_scope(nginx_says(house.ann).items(), unix=True)
    answer = ask(scope, bundle=house.bundle)
    assert answer.status == 200
    assert answer.saw["client"] == {
        "login": "ann", "name": "Änn Öberg", "email": "ann@example.com", "groups": ["staff", "büro 2"], "serial": house.ann.serial,
        "issuer": "CN=kitty-ca people", "device": "laptop", "verified": True,
    }  # fmt: skip
    assert names(answer) == {"x-client-verify", "x-client-serial", "x-client-issuer", "x-client-cert"}
    assert scope["state"]["client"].login == "ann"


def test_a_strangers_claims_are_removed_or_refused(house: House) -> None:
    said = (*nginx_says(house.ann).items(), *FORGED)
    said = tuple({name.lower(): (name, value) for name, value in said}.values())
    answer = ask(asgi_scope(said), anonymous=True)
    assert answer.saw["client"]["verified"] is False
    assert names(answer) == set()
    strict = ask(asgi_scope(said))
    assert (strict.status, strict.headers["cache-control"]) == (403, "no-store")
    assert b"no client certificate" in strict.body


def test_what_the_web_server_did_not_set_is_removed_too(house: House) -> None:
    alien = (("Remote-User", "root"), ("X-Forwarded-User", "root"), ("X-Forwarded-Client-Cert", "By=x"), ("X-WEBAUTH-USER", "root"))
    said = (*nginx_says(house.ann).items(), *alien)
    assert names(ask(asgi_scope(said, unix=True))) == {"x-client-verify", "x-client-serial", "x-client-issuer", "x-client-cert"}
    assert "x-forwarded-user" in names(ask(asgi_scope(said, unix=True), keep=["X-Forwarded-User"]))


def test_the_secret_never_reaches_the_app(house: House) -> None:
    said = (*nginx_says(house.ann).items(), ("X-Gatekey-Secret", "correct-horse-battery"))
    answer = ask(asgi_scope(said), trust=Secret("correct-horse-battery"))
    assert answer.saw["client"]["login"] == "ann"
    assert "x-gatekey-secret" not in names(answer)
    assert "x-gatekey-secret" not in names(ask(asgi_scope(said), anonymous=True))


@pytest.mark.parametrize("name", ["X_Client_User", "x-client_user", "_X-Client-User", "X-Client-User_", "remote_user", "REMOTE_USER"])
@pytest.mark.parametrize("unix", [True, False])
def test_look_alikes_and_doubled_headers_get_400_from_anybody(house: House, name: str, unix: bool) -> None:
    said = (*nginx_says(house.ann).items(), ("X-Client-User", "ann"))
    for more in ((name, "admin"), ("X-Client-User", "admin"), ("x-client-user", "ann")):
        answer = ask(asgi_scope((*said, more), unix=unix), anonymous=True)
        assert answer.status == 400
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["content-length"] == str(len(answer.body))


def test_malformed_input_is_400_and_contradictions_too(house: House) -> None:
    for more in ({"X-Client-Cert": "rubbish"}, {"X-Client-User": "bob"}, {"X-Client-Name": "\xff"}, {"X-Client-Cert": "A" * 70_000}):
        assert ask(asgi_scope({**nginx_says(house.ann), **more}.items(), unix=True)).status == 400


def test_a_revoked_client_gets_403(house: House) -> None:
    house.revoke(house.ann)
    answer = ask(asgi_scope(nginx_says(house.ann).items(), unix=True), bundle=house.bundle)
    assert answer.status == 403
    assert b"was taken back" in answer.body


@pytest.mark.parametrize(
    ("server", "expected"),
    [(("/run/app.sock", None), True), (("", None), True), (("127.0.0.1", 8000), False), (None, False), (("unix", 0), False)],
)
def test_only_what_the_server_calls_a_unix_socket_is_one(house: House, server: Any, expected: bool) -> None:
    scope = asgi_scope(nginx_says(house.ann).items()) | {"server": server, "client": None}
    assert ask(scope, anonymous=True).saw["client"]["verified"] is expected


def test_an_address_is_believed_unless_it_may_come_from_a_header(house: House) -> None:
    said = nginx_says(house.ann)
    assert ask(asgi_scope(said.items(), client="10.0.0.5"), trust="10.0.0.0/8").saw["client"]["login"] == "ann"
    assert ask(asgi_scope(said.items(), client="11.0.0.5"), trust="10.0.0.0/8").status == 403
    for name in ("X-Forwarded-For", "Forwarded"):
        scope = asgi_scope((*said.items(), (name, "10.0.0.5")), client="10.0.0.5")
        assert ask(scope, trust="10.0.0.0/8").status == 403
        # Our own uvicorn protocol has seen the socket.
        scope = scope | {"extensions": {"gatekey.peer": Peer("10.0.0.5", proven=True)}}
        assert ask(scope, trust="10.0.0.0/8").status == 200
        assert ask(scope | {"extensions": {"gatekey.peer": Peer("192.0.2.1", proven=True)}}, trust="10.0.0.0/8").status == 403


def test_the_tls_extension(house: House) -> None:
    pem = house.ann.certificate_pem.decode()
    options: dict[str, Any] = {"trust": (), "source": "tls", "bundle": house.bundle}
    said = (*nginx_says(house.bob).items(), *FORGED[2:])
    for tls, status in (
        ({"client_cert_chain": [pem], "client_cert_error": None}, 200),
        ({"client_cert_chain": iter([pem, "never looked at"])}, 200),
        ({"client_cert_chain": [pem], "client_cert_error": "expired"}, 403),
        ({"client_cert_chain": []}, 403),
        ({}, 403),
        (None, 403),
        ({"client_cert_chain": ["rubbish"]}, 400),
    ):
        answer = ask(asgi_scope(said) | {"extensions": {"tls": tls}}, **options)
        assert answer.status == status
        if status == 200:
            assert answer.saw["client"]["login"] == "ann"
            assert names(answer) == set()
    assert ask(asgi_scope(said), **options).status == 403
    assert ask(asgi_scope() | {"extensions": {"tls": {"client_cert_chain": [pem]}}}).status == 403  # not the source that was chosen


def test_headers_may_be_any_iterable(house: House) -> None:
    scope = asgi_scope((*nginx_says(house.ann).items(), ("Remote-User", "root")), unix=True)
    answer = ask(scope | {"headers": iter(scope["headers"])})
    assert answer.saw["client"]["login"] == "ann"
    assert "remote-user" not in names(answer)


def test_lifespan_passes() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(IdentityMiddleware(app, trust="unix")({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_without_the_middleware_nobody_is_let_in() -> None:
    with pytest.raises(Misconfigured, match="no IdentityMiddleware"):
        client_of({})
    with pytest.raises(Misconfigured, match="WSGI"):
        IdentityMiddleware(echo_asgi, source="mod_wsgi")


def test_one_doorman_can_serve_several_apps(house: House) -> None:
    doorman = Doorman(trust="unix")
    for _ in range(2):
        assert ask_asgi(IdentityMiddleware(echo_asgi, doorman), asgi_scope(nginx_says(house.ann).items(), unix=True)).status == 200


class Socket:
    """A WebSocket whose client has said some things; collects what the app sends."""

    def __init__(self, *said: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self.coming = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in said)]

    async def receive(self) -> dict[str, Any]:
        return self.coming.pop(0) if self.coming else {"type": "websocket.disconnect", "code": 1000}

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))


def test_a_websocket_is_refused_like_a_request(house: House) -> None:
    response: dict[str, Any] = {"websocket.http.response": {}}
    for extensions, expected in (({}, ["websocket.close"]), (response, ["websocket.http.response.start", "websocket.http.response.body"])):
        socket = Socket()
        scope = asgi_scope(FORGED) | {"type": "websocket", "extensions": extensions}
        asyncio.run(IdentityMiddleware(echo_asgi, trust="unix")(scope, socket.receive, socket.send))
        assert [message["type"] for message in socket.sent] == expected
        assert socket.sent[0].get("code", socket.sent[0].get("status")) in (1008, 403)


def test_an_open_websocket_ends_when_its_client_is_denied(house: House) -> None:
    middleware_options: dict[str, Any] = {"trust": "unix", "bundle": house.bundle}
    scope = asgi_scope(nginx_says(house.ann).items(), unix=True) | {"type": "websocket"}
    heard: list[Any] = []

    async def talking(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard.append(await receive())
        house.revoke(house.ann)
        heard.append(await receive())
        with pytest.raises(OSError, match="taken back"):
            await send({"type": "websocket.send", "text": "secret"})

    socket = Socket("one", "two")
    asyncio.run(IdentityMiddleware(talking, **middleware_options)(scope, socket.receive, socket.send))
    assert [message["type"] for message in heard] == ["websocket.receive", "websocket.disconnect"]
    assert [message["type"] for message in socket.sent][:2] == ["websocket.accept", "websocket.close"]
    assert socket.sent[1]["code"] == 1008
    assert "secret" not in str(socket.sent)


SOME = st.sampled_from(["x-client-user", "x-client-cert", "x_client_user", "remote-user", "x-client-verify", "host"])


@given(st.lists(st.tuples(SOME, st.binary(max_size=30)), max_size=8))
def test_whatever_comes_gets_an_answer(pairs: list[tuple[str, bytes]]) -> None:
    scope = asgi_scope(unix=True) | {"headers": [(name.encode(), value) for name, value in pairs]}
    answer = ask(scope, anonymous=True)
    assert answer.status in (200, 400)
    if answer.status == 200 and answer.saw["client"]["verified"]:
        assert (b"x-client-verify", b"SUCCESS") in scope["headers"]
