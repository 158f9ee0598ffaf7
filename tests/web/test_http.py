"""What HTTP asks of every answer, whatever it is about (RFC 9110, 9112, 9457), over the sockets of a real service."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from gatekey.x509.certificate import read_certificate
from kit.desk import Told
from kit.front import Front, front
from kit.servers import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(tmp_path_factory.mktemp("http"), workers=1) as f:
        yield f


@pytest.fixture(autouse=True)
def nothing_stays_open(house: Front) -> Iterator[None]:
    yield
    house.hang_up()


@pytest.mark.parametrize("path", ["/v1/me", "/metrics", "/agent/bundle?wait=0", "/v1/me?x"])
def test_who_must_sign_in_hears_how(house: Front, path: str) -> None:
    """RFC 9110 15.5.2: a 401 carries a challenge."""
    for headers in ({}, {"authorization": "Bearer gkt_x"}):
        told = house.ask(house.private(), "GET", path, headers=headers)
        assert (told.status, told.headers.get("www-authenticate")) == (401, 'Bearer realm="gatekey"')


def test_a_visitor_without_a_certificate_is_no_case_for_a_password(house: Front) -> None:
    """The challenge of a 401 would be handed on to browsers."""
    for connection in (house.proxy(), house.private("web")):
        told = house.ask(connection, "GET", "/decision")
        assert (told.status, told.headers["x-gatekey-why"]) == (403, "no-certificate")


def at(told: Told, name: str) -> int:
    """A date of an answer in POSIX seconds; 0 where there is none."""
    return int(parsedate_to_datetime(told.headers[name]).timestamp()) if name in told.headers else 0


def test_an_answer_is_dated_when_it_is_written(house: Front) -> None:
    """Otherwise nothing in it could be compared with its date."""
    connections = [house.public(), house.proxy(), house.private("boss")]
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        for connection in connections:
            for path in ("/healthz", "/nothing"):
                before = int(time.time())
                assert before <= at(house.ask(connection, "GET", path), "date") <= time.time()


def test_nothing_was_changed_after_the_date_of_the_answer(house: Front) -> None:
    """RFC 9110 8.8.2.1, in the moments after a revocation: the newest CRL, and what OCSP says."""
    with house.service.authority() as authority:
        serials = [authority.issue_client(f"gone-{number}").serial for number in range(3)]
    boss, stranger = house.private("boss"), house.public()
    seen = set()
    for serial in serials:
        asked = house.question(serial)
        assert house.ask(boss, "POST", f"/v1/certificates/{serial}/revoke", {}).status == 200
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            for told in (house.ask(stranger, "GET", "/crl/people.crl"), house.ask(stranger, "POST", "/ocsp", asked)):
                assert at(told, "last-modified") <= at(told, "date")
                seen.add(told.headers.get("last-modified"))
    assert len(seen) > 1


@pytest.mark.parametrize("conditions", [{"if-match": '"zzz"'}, {"if-unmodified-since": "Mon, 01 Jan 1996 00:00:00 GMT"}])
def test_whoever_wants_another_file_gets_none(house: Front, conditions: dict[str, str]) -> None:
    """RFC 9110 13.1.1, 13.1.4."""
    question = "/ocsp/" + base64.b64encode(house.question(read_certificate(house.people["boss"][1]).serial)).decode()
    for path in ("/crl/people.crl", "/ca/people.pem", question):
        for method in ("GET", "HEAD"):
            assert house.ask(house.public(), method, path).status == 200
            told = house.ask(house.public(), method, path, headers=conditions)
            assert (told.status, told.headers["content-type"]) == (412, "application/problem+json"), path
    told = house.ask(house.private("boss"), "GET", "/v1/bundle", headers=conditions)
    assert told.status == (412 if "if-match" in conditions else 200), "a bundle has no date"


def line_of(house: Front, told: Told) -> dict[str, Any] | None:
    return next((line for line in house.service.log() if line.get("id") == told.json["instance"]), None)


def test_every_refusal_leads_to_its_line(house: Front) -> None:
    asked: list[tuple[HTTPConnection, str, str, bytes | None, int]] = [
        (house.public(), "GET", "/nothing", None, 404),
        (house.public(), "GET", "/crl/nobody.crl", None, 404),
        (house.public(), "POST", "/healthz", None, 405),
        (house.public(), "POST", "/ocsp", b"x" * (64 * 1024 + 1), 413),
        (house.private("boss"), "POST", "/v1/people", b"x" * (256 * 1024 + 1), 413),
        (house.private("boss"), "POST", "/metrics", None, 405),
        (house.private("boss"), "GET", "/v1/certificates/who-is-this", None, 404),
        (house.private(), "GET", "/metrics", None, 401),
        (house.proxy(), "GET", "/nothing", None, 404),
    ]
    for connection, method, path, body, status in asked:
        told = house.ask(connection, method, path, body)
        assert told.status == status, path
        line = wait_until(lambda told=told: line_of(house, told), f"the line of {path}")  # type: ignore[misc]
        assert (line["event"], line["code"], line["path"], line["method"]) == ("refused", told.json["code"], path, method)


GET = b"GET /healthz HTTP/1.1\r\n"
NO_REQUESTS = {
    "no host": (GET + b"\r\n", 400, "not-http", "Host"),
    "two hosts": (GET + b"host: a\r\nhost: a\r\n\r\n", 400, "not-http", "Host"),
    "a large head": (GET + b"host: a\r\nx: " + b"y" * 33_000 + b"\r\n\r\n", 431, "large-head", "32768"),
    "an endless field": (GET + b"host: a\r\nx: " + b"y" * 50_000, 431, "large-head", "32768"),
    "an unknown method": (b"BREW /pot HTTP/1.1\r\nhost: a\r\n\r\n", 501, "not-implemented", "method"),
    "small letters": (b"get / HTTP/1.1\r\nhost: a\r\n\r\n", 501, "not-implemented", "method"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400, "not-http", "HTTP/1.1"),
    "no version": (b"hello\r\n\r\n", 400, "not-http", "HTTP/1.1"),
    "two lengths": (b"POST /ocsp HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "not-http", "HTTP/1.1"),
    "bytes in the path": (b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n", 400, "not-http", "ASCII"),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "not-http", "URL"),
    "a coding": (b"POST /ocsp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501, "not-implemented", "coding"),
    "upgrade": (b"POST /ocsp HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 1\r\n\r\nx", 501, "not-implemented", "protocol"),
}


def said_to(house: Front, data: bytes) -> tuple[HTTPResponse, bytes]:
    """The one answer, and nothing behind it until the other side closes."""
    with socket.create_connection(("127.0.0.1", house.service.public), 10) as sock:
        sock.sendall(data)
        answer = HTTPResponse(sock, method="HEAD" if data.startswith(b"HEAD") else "GET")
        answer.begin()
        body = answer.read()
        assert sock.recv(100) == b""
    return answer, body


@pytest.mark.parametrize("case", NO_REQUESTS)
def test_what_is_no_request_is_told_why(house: Front, case: str) -> None:
    data, status, code, word = NO_REQUESTS[case]
    answer, body = said_to(house, data)
    told = json.loads(body)
    assert (answer.status, told["status"], told["code"], answer.headers["content-type"]) == (status, status, code, "application/problem+json")
    assert word in str(told)
    assert "instance" not in told, "it has no line"
    assert answer.headers["connection"] == "close"
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 3


def test_head_hears_no_body(house: Front) -> None:
    answer, body = said_to(house, b"HEAD /healthz HTTP/1.1\r\n\r\n")
    assert (answer.status, body) == (400, b"")
    assert int(answer.headers["content-length"]) > 0
