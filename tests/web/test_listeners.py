"""The listeners that are off by default: enrol, HTTPS for strangers, and the private one on a Unix socket behind a web server that ends TLS itself."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gatekey.api import Authority
from gatekey.protocols.api import table
from gatekey.webserver.ear import Heard
from gatekey.x509 import pem
from gatekey.x509.certificate import Certificate, read_certificate
from kit.front import Front, Unix, front
from kit.servers import free_port, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def enrol() -> int:
    return free_port()


@pytest.fixture(scope="module")
def house(enrol: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Enrol on a port, and the private listener on a Unix socket whose mode is the proof of the web server."""
    folder = tmp_path_factory.mktemp("listeners")
    tables: dict[str, dict[str, Any]] = {
        "enrol": {"listen": f"127.0.0.1:{enrol}"},
        "private": {"listen": f"unix:{folder / 'p'}", "behind-proxy": ["unix"]},
        "service": {"hosts": ["pki.example", "127.0.0.1"]},
    }
    with front(folder, tables=tables) as f:
        yield f


@pytest.fixture(autouse=True)
def nothing_stays_open(house: Front) -> Iterator[None]:
    yield
    house.hang_up()


# Enrol


def greeted(port: int, context: ssl.SSLContext, name: str) -> tuple[Certificate, Heard]:
    """The certificate that a handshake shows, and what else was said in it."""
    heard = Heard()
    heard.listen(context)
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain, server_hostname=name) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in sock.recv(65536)
        der = sock.getpeercert(binary_form=True)
    assert der
    return read_certificate(der), heard


def asked(port: int, context: ssl.SSLContext, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    try:
        connection.request(method, path, body=b"" if method in ("POST", "PUT", "PATCH") else None, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_enrol_speaks_https_under_the_authoritys_own_certificate_and_asks_for_none(house: Front, enrol: int) -> None:
    for name in ("pki.example", "127.0.0.1"):
        shown, heard = greeted(enrol, house.contexts[""], name)
        assert "pki.example" in shown.names.dns
        assert heard.works
        assert not heard.asked
        assert not heard.asked_later
    with house.service.authority() as authority:
        (record,) = authority._core.reads.by_serial(shown.serial)
        assert (record.profile, record.issuer) == ("server", "servers")
    with socket.create_connection(("127.0.0.1", enrol), 10) as plain:  # and plain HTTP is not spoken here
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := plain.recv(4096):
                found += part
        assert b"HTTP" not in found


def test_enrol_tells_how_it_is_and_nothing_else(house: Front, enrol: int) -> None:
    context = house.contexts[""]
    assert asked(enrol, context, "GET", "/healthz")[::2] == (200, b"ok\n")
    status, _, body = asked(enrol, context, "GET", "/readyz")
    assert (status, json.loads(body)["ready"]) == (200, True)
    assert asked(enrol, context, "POST", "/healthz")[0] == 405
    # A client certificate that is there but was not asked for, a token, and what a web server would hand on: none of them opens a door that is not there.
    boss, der = house.contexts["boss"], house.people["boss"][1]
    headers = {"authorization": f"Bearer {house.tokens['manage']}", "client-cert": f":{base64.b64encode(der).decode()}:"}
    paths = [(route.method, route.path.replace("{", "").replace("}", "")) for route in table.ROUTES]
    paths += [("GET", "/metrics"), ("GET", "/decision"), ("GET", "/agent/bundle"), ("POST", "/agent/report"), ("POST", "/agent/renew")]
    paths += [("GET", "/openapi.json"), ("POST", "/ocsp"), ("GET", "/crl/people.crl"), ("GET", "/ca/people.crt"), ("GET", "/v1/"), ("GET", "/")]
    for method, path in paths:
        status, said, body = asked(enrol, boss, method, path, headers)
        assert (status, said["content-type"]) == (404, "application/problem+json"), path
        assert json.loads(body)["code"] == "no-page", path


def test_enrol_under_given_files(tmp_path: Path) -> None:
    """Files of the operator count for this listener, too, and are read again when they change."""
    port = free_port()

    def write(authority: Authority, name: str) -> str:
        issued = authority.issue_server(name, "127.0.0.1")
        (tmp_path / "site.key").touch(0o600)
        (tmp_path / "site.key").write_bytes(issued.key)
        (tmp_path / "site.crt").write_bytes(issued.chain)
        return issued.serial

    first = ""

    def prepare(authority: Authority) -> None:
        nonlocal first
        first = write(authority, "one.example")

    tables: dict[str, dict[str, Any]] = {
        "enrol": {"listen": f"127.0.0.1:{port}"},
        "private": {"listen": ""},
        "service": {"certificate": str(tmp_path / "site.crt"), "key": str(tmp_path / "site.key"), "workers": 1},
    }
    with front(tmp_path, tables=tables, prepare=prepare) as f:
        assert greeted(port, f.contexts[""], "one.example")[0].serial == first
        with f.service.authority() as authority:
            second = write(authority, "two.example")

        def shown() -> str:
            with socket.create_connection(("127.0.0.1", port), 10) as plain, f.contexts[""].wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                return read_certificate(sock.getpeercert(binary_form=True) or b"").serial

        wait_until(lambda: shown() == second, "the new certificate")


# The private listener on a Unix socket


def by_socket(f: Front, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = Unix(f.folder / "p")
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def rfc9440(der: bytes) -> str:
    return f":{base64.b64encode(der).decode()}:"


def escaped(der: bytes) -> str:
    """As nginx's $ssl_client_escaped_cert prints it."""
    return quote(pem.encode("CERTIFICATE", der).decode(), safe="-")


def test_who_may_open_the_socket_speaks_for_others(house: Front) -> None:
    boss, nobody = house.people["boss"][1], house.people["nobody"][1]
    assert oct((house.folder / "p").stat().st_mode & 0o777) == "0o660"
    for headers in ({"client_cert": rfc9440(boss)}, {"x_client_cert": escaped(boss)}):
        status, body = by_socket(house, "GET", "/v1/me", **headers)
        assert (status, json.loads(body)["login"], json.loads(body)["roles"]) == (200, "boss", ["administrator"])
        assert by_socket(house, "GET", "/v1/people", **headers)[0] == 200
    assert by_socket(house, "GET", "/v1/people", client_cert=rfc9440(nobody))[0] == 403
    assert by_socket(house, "GET", "/v1/me")[0] == 401, "a visitor without a certificate is nobody"
    assert by_socket(house, "GET", "/v1/me", client_cert="", x_client_cert="")[0] == 401, "nor is one whose header is empty"
    assert by_socket(house, "GET", "/v1/me", client_cert=rfc9440(boss), x_client_cert=escaped(nobody))[0] == 400
    assert by_socket(house, "GET", "/v1/me", authorization=f"Bearer {house.tokens['read']}")[0] == 200
    assert by_socket(house, "GET", "/healthz")[0] == 200
    assert by_socket(house, "GET", "/metrics")[0] == 401
    assert by_socket(house, "GET", "/metrics", client_cert=rfc9440(boss))[0] == 200


def test_what_is_handed_on_over_the_socket_is_looked_at(house: Front, tmp_path: Path) -> None:
    with Authority.create(tmp_path / "other", "Kitty CA", unencrypted_keys=True) as other:
        foreign = pem.decode(other.issue_client("boss").certificate)[0][1]
    with house.service.authority() as authority:
        gone = pem.decode(authority.issue_client(f"gone-{os.urandom(2).hex()}").certificate)[0][1]
    assert by_socket(house, "GET", "/v1/me", client_cert=rfc9440(gone))[0] == 200
    with house.service.authority() as authority:
        authority.revoke(read_certificate(gone).serial)
    wait_until(lambda: by_socket(house, "GET", "/v1/me", client_cert=rfc9440(gone))[0] == 401, "the refusal", 1)
    assert by_socket(house, "GET", "/v1/me", client_cert=rfc9440(foreign))[0] == 401
    assert by_socket(house, "GET", "/v1/me", client_cert=":AAAA:")[0] == 400
    web, boss = house.people["web"][1], house.people["boss"][1]
    assert by_socket(house, "GET", "/decision", client_cert=rfc9440(boss))[0] == 403, "an administrator is no web server"
    assert by_socket(house, "GET", "/agent/bundle?wait=0", client_cert=rfc9440(web))[0] == 200
    assert by_socket(house, "GET", "/agent/bundle?wait=0", client_cert=rfc9440(boss))[0] == 403


def test_without_the_word_unix_the_socket_proves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "p"
    with front(tmp_path, tables={"private": {"listen": f"unix:{place}", "behind-proxy": ["192.0.2.1"]}, "service": {"workers": 1}}) as f:
        boss = f.people["boss"][1]
        assert by_socket(f, "GET", "/v1/me", client_cert=rfc9440(boss))[0] == 401
        assert by_socket(f, "GET", "/v1/me", x_client_cert=escaped(boss))[0] == 401
        assert by_socket(f, "GET", "/v1/me", authorization=f"Bearer {f.tokens['read']}")[0] == 200
