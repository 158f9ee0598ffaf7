from __future__ import annotations

import asyncio
import contextlib
import copy
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gatekey.identity import IdentityMiddleware
from gatekey.identity import uvicorn as ours
from kit.asking import echo_asgi
from kit.house import House, nginx_says
from kit.pki import Leaf, make_pki
from kit.servers import free_port, wait_until

pytestmark = pytest.mark.slow


class H11(ours.Telling, H11Protocol):  # the parser without httptools
    pass


class Place(NamedTuple):
    """A site with a server certificate, and the files that a server needs."""

    house: House
    folder: Path
    certificate: str
    key: str
    people: str


@pytest.fixture
def place(house: House, tmp_path: Path) -> Place:
    site = make_pki("kitty-ca servers").server("localhost", "127.0.0.1").write(tmp_path, "site")
    people = tmp_path / "people-chain.pem"
    people.write_bytes(house.pki.chain_pem)
    return Place(house, tmp_path, str(site.chain), str(site.key), str(people))


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[int]:
    """uvicorn with `app` on a free port, or on the Unix socket `uds`, until the block ends."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning", ws=ours.WebSocket, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "uvicorn is up")
        yield port
    finally:
        server.should_exit = True
        thread.join()


def tls(place: Place, **options: Any) -> dict[str, Any]:
    return {"ssl_context_factory": lambda *_: ours.server_context(place.certificate, place.key, place.people, **options)}


def browser(place: Place, who: Leaf | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if who:
        files = who.write(place.folder)
        context.load_cert_chain(files.chain, files.key)
    return context


def get(port: int, context: ssl.SSLContext | None = None, headers: dict[str, str] | None = None, uds: Path | None = None) -> tuple[int, Any]:
    made = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10) if context else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if uds:
        made.sock = socket.socket(socket.AF_UNIX)
        made.sock.connect(str(uds))
    try:
        made.request("GET", "/", headers=headers or {})
        answer = made.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else body
    finally:
        made.close()


@pytest.mark.parametrize("protocol", ["gatekey.identity.uvicorn:Http", H11])
def test_tls_itself_says_who_is_there(place: Place, protocol: Any) -> None:
    house = place.house
    app = IdentityMiddleware(echo_asgi, source="tls", bundle=house.bundle)
    with serving(app, http=protocol, **tls(place)) as port:
        status, saw = get(port, browser(place, house.ann), {**nginx_says(house.bob), "X-Forwarded-For": "127.0.0.1"})
        assert (status, saw["client"]["name"], saw["client"]["serial"]) == (200, "Änn Öberg", house.ann.serial)
        assert not [name for name, _ in saw["headers"] if "client" in name]
        pki = house.pki
        for stranger in (None, pki.foreign().client("ann"), pki.client("late", expired=True), pki.server("localhost"), pki.authority_as_leaf()):
            with pytest.raises((ssl.SSLError, OSError)):
                get(port, browser(place, stranger))
        # What else the root has signed is trusted in the handshake, and is no person.
        sibling = copy.copy(house.pki)
        sibling.issuing = sibling.root
        status, why = get(port, browser(place, sibling.client("ann")))
        assert (status, b"does not sign people" in why) == (403, True)
        house.revoke(house.ann)
        assert get(port, browser(place, house.ann))[0] == 403
        assert get(port, browser(place, house.bob))[0] == 200


def test_optional_certificates(place: Place) -> None:
    app = IdentityMiddleware(echo_asgi, source="tls", bundle=place.house.bundle, anonymous=True)
    with serving(app, http=ours.Http, **tls(place, optional=True)) as port:
        status, saw = get(port, browser(place), {"X-Client-User": "admin", "X-Client-Verify": "SUCCESS"})
        assert (status, saw["client"]["verified"]) == (200, False)
        assert get(port, browser(place, place.house.ann))[1]["client"]["login"] == "ann"
        with pytest.raises((ssl.SSLError, OSError)):
            get(port, browser(place, place.house.pki.foreign().client("ann")))


def test_the_plain_options_of_uvicorn_do_too(place: Place) -> None:
    app = IdentityMiddleware(echo_asgi, source="tls", bundle=place.house.bundle)
    options = {"ssl_certfile": place.certificate, "ssl_keyfile": place.key, "ssl_ca_certs": place.people, "ssl_cert_reqs": int(ssl.CERT_REQUIRED)}
    with serving(app, http=ours.Http, **options) as port:
        assert get(port, browser(place, place.house.ann))[1]["client"]["login"] == "ann"


def test_a_connection_is_never_resumed_and_always_1_3(place: Place) -> None:
    app = IdentityMiddleware(echo_asgi, source="tls", bundle=place.house.bundle)
    with serving(app, http=ours.Http, **tls(place)) as port:
        context = browser(place, place.house.ann)
        sessions: list[ssl.SSLSession] = []
        for session in (None, True):
            with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, session=sessions[0] if session else None) as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while secure.recv(65536):
                    pass
                assert secure.version() == "TLSv1.3"
                assert not secure.session_reused
                assert secure.session is not None
                assert not secure.session.has_ticket
                sessions.append(secure.session)


def test_without_the_protocol_tls_says_nothing(place: Place) -> None:
    app = IdentityMiddleware(echo_asgi, source="tls", bundle=place.house.bundle)
    with serving(app, http="httptools", **tls(place)) as port:
        assert get(port, browser(place, place.house.ann))[0] == 403


def test_websockets_over_tls_end_when_their_client_is_denied(place: Place) -> None:
    house = place.house

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": scope["gatekey.client"].login})

    async def client(port: int) -> None:
        async with connect(f"wss://127.0.0.1:{port}/", ssl=browser(place, house.ann), proxy=None) as open_socket:
            await open_socket.send("who am I?")
            assert await open_socket.recv() == "ann"
            house.revoke(house.ann)
            await open_socket.send("and now?")
            with pytest.raises(ConnectionClosed) as ended:
                await open_socket.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1008

    with serving(IdentityMiddleware(talk, source="tls", bundle=house.bundle), http=ours.Http, **tls(place)) as port:
        asyncio.run(client(port))


@pytest.mark.parametrize("protocol", ["h11", "httptools", "gatekey.identity.uvicorn:Http"])
def test_a_unix_socket_is_known_by_every_protocol(place: Place, protocol: str) -> None:
    uds = place.folder / "s"
    said = {**nginx_says(place.house.ann), "X-Forwarded-For": "127.0.0.1"}
    for allow in ("127.0.0.1", "*"):
        with serving(IdentityMiddleware(echo_asgi, trust="unix"), http=protocol, uds=str(uds), forwarded_allow_ips=allow) as port:
            assert get(port, headers=said, uds=uds)[1]["client"]["login"] == "ann"


@pytest.mark.parametrize("protocol", ["h11", "httptools", "gatekey.identity.uvicorn:Http"])
def test_x_forwarded_for_makes_nobody_trusted(place: Place, protocol: str) -> None:
    # A stranger on 127.0.0.1 says that he is 10.0.0.5, and uvicorn believes everybody's X-Forwarded-For.
    said = nginx_says(place.house.ann)
    with serving(IdentityMiddleware(echo_asgi, trust="10.0.0.5"), http=protocol, forwarded_allow_ips="*") as port:
        for forged in ("10.0.0.5", "10.0.0.5:443", "10.0.0.5, 192.0.2.1"):
            assert get(port, headers={**said, "X-Forwarded-For": forged})[0] == 403
    # The web server is really on 127.0.0.1, and uvicorn puts its client's address in its place: only our protocol still knows.
    with serving(IdentityMiddleware(echo_asgi, trust="127.0.0.1"), http=protocol) as port:
        assert get(port, headers=said)[0] == 200
        assert get(port, headers={**said, "X-Forwarded-For": "192.0.2.1"})[0] == (200 if "gatekey" in protocol else 403)
        assert get(port, headers={**said, "X_Client_User": "admin"})[0] == 400


@pytest.mark.parametrize("protocol", ["h11", "gatekey.identity.uvicorn:Http"])
def test_a_trailer_is_no_header(place: Place, protocol: str) -> None:
    """HAProxy passes on what a client writes after a chunked body; httptools takes it for headers, and our protocol does not."""
    said = "".join(f"{name}: {value}\r\n" for name, value in nginx_says(place.house.ann).items() if name != "X-Client-Groups")
    with serving(IdentityMiddleware(echo_asgi, trust="127.0.0.1"), http=protocol) as port:
        for head, trailer in ((said, "X-Client-Groups: admins\r\n"), ("", f"{said}X-Client-Groups: admins\r\n")):
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(f"POST / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n{head}transfer-encoding: chunked\r\n\r\n0\r\n{trailer}\r\n".encode())
                answer = http.client.HTTPResponse(sock)
                answer.begin()
                seen = json.loads(answer.read() or b"{}") if answer.status == 200 else {"client": {"login": "", "groups": []}}
            assert (answer.status == 200) == bool(head)
            assert not seen["client"]["groups"]


@pytest.mark.parametrize("protocol", ["h11", "gatekey.identity.uvicorn:Http"])
@pytest.mark.parametrize("announced", ["content-length: {}", "transfer-encoding: chunked"])
def test_a_body_is_no_question(place: Place, protocol: str, announced: str) -> None:
    """HAProxy passes on the wish for another protocol; httptools then takes the body, which nobody in front has looked at, for the next question."""
    said = "".join(f"{name}: {value}\r\n" for name, value in nginx_says(place.house.ann).items())
    body = f"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n{said}\r\n".encode()
    head = f"POST / HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: other\r\n{announced.format(len(body))}\r\n\r\n".encode()
    with serving(IdentityMiddleware(echo_asgi, trust="127.0.0.1"), http=protocol) as port:
        for pause in (0, 0.3):  # in one read with the head, and in another
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.settimeout(1)
                sock.sendall(head)
                time.sleep(pause)
                answers = b""
                with contextlib.suppress(OSError):
                    sock.sendall(body)
                    while part := sock.recv(65536):
                        answers += part
            assert b"HTTP/1.1 200" not in answers
            assert answers.count(b"HTTP/1.1 ") <= 1
        assert get(port, headers={**nginx_says(place.house.ann), "connection": "upgrade", "upgrade": "other"})[0] == 200


def test_what_uvicorns_protocols_must_have() -> None:
    """The contract with uvicorn's insides, so that a new version that changes them is seen here first."""
    for made in (ours.Http, ours.WebSocket):
        assert issubclass(made, ours.Telling)
        assert issubclass(made, asyncio.Protocol)
        assert any("connection_made" in vars(base) for base in made.__mro__[2:])
        assert made is getattr(ours, made.__name__)  # made once
    with pytest.raises(AttributeError):
        ours.Htpp  # noqa: B018


def test_a_certificate_that_nobody_asked_to_verify_is_not_passed_on(place: Place) -> None:
    class Connection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def getpeercert(self, binary_form: bool) -> bytes:
            return place.house.ann.der

        def version(self) -> str:
            return "TLSv1.3"

    Connection.context.verify_mode = ssl.CERT_NONE
    assert ours.tls_extension(Connection())["client_cert_chain"] == []  # type: ignore[arg-type]  # as much of an SSLObject as is looked at
    Connection.context.verify_mode = ssl.CERT_REQUIRED
    found = ours.tls_extension(Connection())  # type: ignore[arg-type]  # the same
    assert (found["client_cert_chain"], found["tls_version"]) == ([place.house.ann.certificate_pem.decode()], 0x0304)
