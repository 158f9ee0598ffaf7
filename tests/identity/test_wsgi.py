from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Misconfigured
from gatekey.identity import Secret
from gatekey.identity.wsgi import IdentityMiddleware, client_of
from kit.asking import Answer, ask_wsgi, echo_wsgi, wsgi_environ
from kit.house import ISSUER, House, nginx_says

PROXY = "10.0.0.5"


def ask(environ: dict[str, Any], **options: Any) -> Answer:
    return ask_wsgi(IdentityMiddleware(echo_wsgi, **{"trust": PROXY, **options}), environ)


def ours(answer: Answer) -> set[str]:
    return {key for key in answer.saw["headers"] if "CLIENT" in key or ("USER" in key and key != "HTTP_USER_AGENT") or "SECRET" in key}


def test_the_app_learns_who_is_there(house: House) -> None:
    answer = ask(wsgi_environ(nginx_says(house.ann).items(), client=PROXY), bundle=house.bundle)
    assert answer.saw["client"]["name"] == "Änn Öberg"
    assert ours(answer) == {"HTTP_X_CLIENT_VERIFY", "HTTP_X_CLIENT_SERIAL", "HTTP_X_CLIENT_ISSUER", "HTTP_X_CLIENT_CERT"}


def test_a_strangers_claims_are_removed_or_refused(house: House) -> None:
    said = (*nginx_says(house.ann).items(), ("X-Client-User", "ann"), ("Remote-User", "root"))
    answer = ask(wsgi_environ(said), anonymous=True)
    assert answer.saw["client"]["verified"] is False
    assert ours(answer) == set()
    assert ask(wsgi_environ(said)).status == 403


def test_joined_headers_get_400(house: House) -> None:
    # A WSGI server joins doubled headers, and some take X_Client_User for the same header.
    said = {**nginx_says(house.ann), "X-Client-User": "ann", "X-Client-Email": "ann@example.com"}
    doubles = (("X-Client-User", "ann"), ("X_Client_User", "admin"), ("X-Client-Serial", house.ann.serial), ("X-Client-Cert", "x"), ("X-Client-Email", "x@y.z"))
    for more in doubles:
        assert ask(wsgi_environ((*said.items(), more), client=PROXY)).status == 400
    # Groups are a list with commas: joined ones cannot be told apart, so what people.json says wins.
    doubled = (*said.items(), ("X-Client-Groups", "staff"), ("X-Client-Groups", "admin"))
    assert ask(wsgi_environ(doubled, client=PROXY), bundle=house.bundle).saw["client"]["groups"] == ["staff", "büro 2"]


def test_look_alikes_get_400(house: House) -> None:
    for key in ("HTTP_X_CLIENT_USER_", "HTTP__X_CLIENT_USER", "HTTP_X_CLIENT__USER", "HTTP_REMOTE_USER_"):
        answer = ask(wsgi_environ(nginx_says(house.ann).items(), client=PROXY) | {key: "admin"})
        assert answer.status == 400
        assert b"looks like" in answer.body


def test_an_address_that_may_come_from_a_header_is_no_proof(house: House) -> None:
    for name in ("X-Forwarded-For", "Forwarded"):
        said = (*nginx_says(house.ann).items(), (name, f"192.0.2.1, {PROXY}"))
        assert ask(wsgi_environ(said, client=PROXY)).status == 403


def pair(folder: Path, *, unix: bool) -> tuple[socket.socket, socket.socket]:
    if unix:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "s"))
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = socket.socket(listener.family)
    client.connect(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    return server, client


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_the_socket_itself_is_the_best_evidence(house: House, tmp_path: Path, key: str) -> None:
    said = (*nginx_says(house.ann).items(), ("X-Forwarded-For", "127.0.0.1"))
    server, client = pair(tmp_path, unix=True)
    with server, client:
        for address in ("", "10.9.9.9"):
            environ = wsgi_environ(said, client=address) | {key: server}
            assert ask(environ, trust="unix").saw["client"]["login"] == "ann"
            assert ask(environ, trust="10.9.9.9").status == 403
    server, client = pair(tmp_path, unix=False)
    with server, client:
        environ = wsgi_environ(said, client="10.9.9.9") | {key: server}
        assert ask(dict(environ), trust="127.0.0.1").saw["client"]["login"] == "ann"
        assert ask(dict(environ), trust="10.9.9.9").status == 403
        assert ask(dict(environ), trust="unix").status == 403
    assert ask(dict(environ), trust=["127.0.0.1", "10.9.9.9", "unix"]).status == 403  # closed: it tells nothing any more


def test_waitress_on_a_unix_socket(house: House) -> None:
    said = nginx_says(house.ann).items()
    waitress: dict[str, Any] = {"client": "localhost", "REMOTE_PORT": "None"}
    assert ask(wsgi_environ(said, **waitress), trust="unix").status == 200
    assert ask(wsgi_environ(said, client="localhost", REMOTE_PORT="4711"), trust="unix").status == 403
    assert ask(wsgi_environ((*said, ("X-Forwarded-For", "localhost:None")), **waitress), trust="unix").status == 403
    for address in ("", "unix:", "<local>"):
        assert ask(wsgi_environ(said, client=address), trust="unix").status == 403


def test_the_secret_never_reaches_the_app(house: House) -> None:
    said = (*nginx_says(house.ann).items(), ("X-Gatekey-Secret", "correct-horse-battery"))
    answer = ask(wsgi_environ(said), trust=Secret("correct-horse-battery"))
    assert answer.saw["client"]["login"] == "ann"
    assert "HTTP_X_GATEKEY_SECRET" not in ours(answer)


def test_mod_wsgi_tells_without_headers(house: House) -> None:
    said = {
        "SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_CERT": house.ann.certificate_pem.decode(), "SSL_CLIENT_M_SERIAL": house.ann.serial,
        "SSL_CLIENT_I_DN": ISSUER, "SSL_CLIENT_S_DN_CN": "ann",
    }  # fmt: skip
    options: dict[str, Any] = {"trust": (), "source": "mod_wsgi"}
    assert ask(wsgi_environ() | said, **options).saw["client"]["login"] == "ann"
    assert ask(wsgi_environ(said.items()), **options).status == 403  # as headers they are anybody's
    assert ask(wsgi_environ((("X-Client-User", "x"), ("Ssl-Client-Cert", "x"))) | said, **options).saw["client"]["login"] == "ann"
    assert ask(wsgi_environ() | said | {"SSL_CLIENT_VERIFY": "FAILED:x"}, **options).status == 403
    assert ask(wsgi_environ() | said | {"SSL_CLIENT_M_SERIAL": house.bob.serial}, **options).status == 400
    assert ask(wsgi_environ() | said | {"SSL_CLIENT_CERT": "x" * 70_000}, **options).status == 400


def test_tls_of_the_app_server_itself(house: House) -> None:
    class Connection:
        family = socket.AF_INET
        certificate: bytes | None = house.ann.der

        def getpeername(self) -> tuple[str, int]:
            return ("192.0.2.1", 4711)

        def getpeercert(self, binary_form: bool) -> bytes | None:
            assert binary_form
            return self.certificate

    options: dict[str, Any] = {"trust": (), "source": "tls", "bundle": house.bundle}
    connection = Connection()
    environ = wsgi_environ(nginx_says(house.bob).items()) | {"gunicorn.socket": connection}
    assert ask(dict(environ), **options).saw["client"]["login"] == "ann"
    connection.certificate = None
    assert ask(dict(environ), **options).status == 403
    assert ask(wsgi_environ(), **options).status == 403


def test_without_the_middleware_nobody_is_let_in() -> None:
    with pytest.raises(Misconfigured, match="no IdentityMiddleware"):
        client_of({})


SOME = st.sampled_from(["HTTP_X_CLIENT_USER", "HTTP_X_CLIENT_CERT", "HTTP_X_CLIENT_USER_", "HTTP_REMOTE_USER", "HTTP_X_CLIENT_VERIFY"])


@given(st.dictionaries(SOME, st.text(max_size=30)))
def test_whatever_comes_gets_an_answer(environ: dict[str, str]) -> None:
    assert ask(wsgi_environ(client=PROXY) | environ, anonymous=True).status in (200, 400)
