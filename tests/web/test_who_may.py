"""Every route of every listener against everybody, over real connections: who may is said here once more, so that a new route fails until somebody has thought.

What somebody is called in a header, or in a trailer of a chunked request, never counts: not on any route, not under any name.
"""

from __future__ import annotations

import base64
import contextlib
import io
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from gatekey import app, config
from gatekey.api import Authority
from gatekey.authority import access
from gatekey.model import headers as known
from gatekey.model.access import ROLES, SCOPES
from gatekey.protocols.api import table
from gatekey.protocols.api.asking import Route as ApiRoute
from gatekey.testing import CA
from gatekey.web import limits, logs, metrics, seats
from gatekey.web.api import application
from gatekey.web.routes import LISTENERS, apps, routes
from gatekey.x509 import pem
from kit.desk import CAST, JSON
from kit.front import Front, front
from kit.servers import free_port, wait_until
from kit.service import client_context

pytestmark = pytest.mark.slow

#: Who may: anybody; whoever opens the Unix socket (its mode says who); a certificate whose holder may `decide`; that, or a token that may; whoever may `read`;
#: or as the table of the API says.
ANYBODY, SOCKET, API = "anybody", "socket", "api"
DECIDE, DECIDE_OR_TOKEN, READ_OR_TOKEN = "decide", "decide, also by token", "read, also by token"
RULES = {
    **{(listener, "GET", path): ANYBODY for listener in ("public", "enrol", "private", "proxy") for path in ("/healthz", "/readyz")},
    ("public", "GET", "/metrics"): ANYBODY,  # where the operator says so
    ("private", "GET", "/metrics"): READ_OR_TOKEN,
    **{(listener, "GET", path): ANYBODY for listener in ("public", "private") for path in ("/ca/", "/crl/")},
    **{("public", method, path): ANYBODY for method, path in (("POST", "/ocsp"), ("POST", "/ocsp/"), ("GET", "/ocsp/"))},
    ("proxy", "GET", "/decision"): SOCKET,
    ("private", "GET", "/decision"): DECIDE,
    ("private", "GET", "/agent/bundle"): DECIDE_OR_TOKEN,
    ("private", "POST", "/agent/report"): DECIDE_OR_TOKEN,
    ("private", "POST", "/agent/renew"): DECIDE_OR_TOKEN,
    **{("private", method, "/v1/"): API for method in ("GET", "POST", "PUT", "PATCH", "DELETE")},
}
#: What FastAPI answers beside the API itself: the description, for anybody.
DESCRIBED = {"/openapi.json"}

#: Certificates that TLS believes and that count for nothing: two of them belonged to administrators.
OUT = ("revoked", "held", "left")
#: Certificates that end the handshake: another authority's under the same names, and one of our servers' side.
FOREIGN = ("foreign", "server")
EVERYBODY = ("", *CAST, *OUT, *FOREIGN, *(f"token {scope}" for scope in SCOPES))

#: Where proxies, frameworks and attackers have put identities, beside what `model.headers` knows.
NAMES = tuple(dict.fromkeys(name.lower() for name in (
    *known.STRIPPED, "X-SSL-Cert", "X-SSL-Client", "X-SSL-Client-CN", "X-SSL-Client-DN", "X-SSL-Issuer", "X-SSL-Subject", "X-SSL-Client-Fingerprint",
    "SSL-Client", "X-Client-Dn", "X-Client-Fingerprint", "X-Client-Certificate", "X-Client-Role", "X-Client-Roles", "X-Forwarded-For", "X-Real-IP",
    "Forwarded", "X-User", "X-User-Id", "X-Username", "X-Email", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Auth-User", "X-Auth-Request-Email",
    "X-Authenticated-User", "X-Authenticated-Userid", "X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Leaf", "X-Arr-Clientcert",
    "X-MS-Client-Principal-Name", "X-Goog-Authenticated-User-Email", "Cf-Access-Jwt-Assertion", "X-Gatekey-User", "X-Gatekey-Serial", "X-Gatekey-Issuer",
    "X-Gatekey-Groups", "X-Gatekey-Why", "X-Tls-Client-Cert", "Tls-Client-Cert", "X-Peer-Certificate", "remote_user", "x_client_user", "x_client_cert",
    "client_cert", "ssl_client_cert", "http_x_client_cert",
)))  # fmt: skip


#: What the decision endpoint reads as a question.
ASKED = ("client-cert", "x-client-cert", "x-forwarded-tls-client-cert", "x-gatekey-serial", "x-gatekey-issuer", "x-gatekey-groups")


class Probe(NamedTuple):
    """One thing that is asked. `path` is concrete."""

    listener: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def web_probe(w: Ways, key: tuple[str, str, str]) -> Probe:
    f = w.f
    listener, method, path = key
    exact = {"/ca/": "/ca/people.crt", "/crl/": "/crl/people.crl", "/agent/bundle": "/agent/bundle?wait=0"}.get(path, path)
    question = f.question("0" * 32)
    if path == "/ocsp/" and method == "GET":
        exact += quote(base64.b64encode(question).decode(), safe="")
    headers = tuple(f.named(w.serials["ann"]).items()) if path == "/decision" else ()
    body = question if path.startswith("/ocsp") and method == "POST" else b'{"number": 0, "at": 0}' if path == "/agent/report" else None
    return Probe(listener, method, exact, headers, body)


def api_probe(route: ApiRoute) -> Probe:
    """As `tests/protocols/test_api_access.py`: what is let in is stopped by its body, or by a path to nothing."""
    path = route.path
    for word in ("ref", "login", "id", "name", "file"):
        path = path.replace(f"{{{word}}}", "no-such-thing")
    return Probe("private", route.method, path, JSON, b"[]" if route.body else None)


class Ways(NamedTuple):
    """A front with more people before it, and an open connection for each. `enrol`: the port of that listener."""

    f: Front
    enrol: int
    serials: dict[str, str]
    lines: dict[tuple[str, str], HTTPConnection]

    def ask(self, who: str, probe: Probe, *more: tuple[str, str]) -> tuple[int, str]:
        """Status and problem code; status 0 when there was no handshake."""
        token = who.removeprefix("token ") if who.startswith("token ") else ""
        said = {**dict(probe.headers), **dict(more)}
        if token:
            said["authorization"] = f"Bearer {self.f.tokens[token]}"
        certificate = "" if token else who
        try:
            told = self.f.ask(self.line(probe.listener, certificate), probe.method, probe.path, probe.body, headers=said)
        except (ssl.SSLError, ConnectionError, HTTPException):
            self.lines.pop((probe.listener, certificate)).close()
            if certificate in FOREIGN:
                return 0, ""
            raise
        if told.headers.get("connection") == "close":
            self.lines.pop((probe.listener, certificate)).close()
        problem = told.headers.get("content-type") == "application/problem+json"
        return told.status, told.code if problem and told.body else ""

    def line(self, listener: str, certificate: str) -> HTTPConnection:
        key = (listener, certificate)
        if key not in self.lines:
            if listener == "enrol":
                self.lines[key] = HTTPSConnection("localhost", self.enrol, context=self.f.contexts[certificate], timeout=30)
            else:
                self.lines[key] = self.f.public() if listener == "public" else self.f.proxy() if listener == "proxy" else self.f.private(certificate)
        return self.lines[key]

    def hang_up(self) -> None:
        """The next question comes on new connections: idle ones are closed after a while."""
        for line in self.lines.values():
            line.close()
        self.lines.clear()


@contextlib.contextmanager
def ways(folder: Path, **private: Any) -> Iterator[Ways]:
    enrol, serials = free_port(), {}
    tables: dict[str, dict[str, Any]] = {"enrol": {"listen": f"127.0.0.1:{enrol}"}, "public": {"metrics": True}, "private": private, "service": {"workers": 1}}
    with front(folder, tables=tables) as f, Authority.open(f.service.home) as authority, CA("Kitty CA") as other:
        for name in (*OUT, "ann"):
            issued = authority.issue_client(name)
            serials[name] = issued.serial
            f.introduce(authority, name, pem.decode(issued.certificate)[0][1], issued.key)
            if name in OUT:
                access.set_roles(authority._core, name, add=["administrator", "proxy"])
        authority.revoke("revoked")
        authority.hold("held")
        authority.leave("left")
        for name, issued in (("foreign", other.person("boss")), ("server", authority.issue_server("boss.example"))):
            f.contexts[name] = client_context(authority, folder, issued.chain, issued.key)
        made = Ways(f, enrol, serials, {})
        wait_until(lambda: f.ask(f.proxy(), "GET", "/decision", headers=f.named(serials["ann"])).status == 200, "ann is known")
        yield made
        made.hang_up()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    with ways(tmp_path_factory.mktemp("door")) as made:
        yield made


@pytest.fixture(scope="module")
def believing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """The same where a web server at this very address may hand on certificates, if it proves itself."""
    with ways(tmp_path_factory.mktemp("believing"), **{"behind-proxy": ["127.0.0.1", "unix"]}) as made:
        yield made


@pytest.fixture(autouse=True)
def new_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("door", "believing"):
        if name in request.fixturenames:
            request.getfixturevalue(name).hang_up()


WEB = [key for key, rule in RULES.items() if rule != API]
WEB_IDS = [f"{listener} {method} {path}" for listener, method, path in WEB]


def test_every_route_has_a_rule_and_every_rule_a_route(door: Ways) -> None:
    """Of the routes as a worker composes them for this very configuration, and of what FastAPI takes beside them."""
    places = 2
    memory = limits.shared_memory
    shared = app._Shared(memory(limits.Limits.size), b"s" * 16, memory(metrics.AREA * places), memory(seats.Seats.size(places)), 0, places)
    _, house = app._house(config.load(door.f.service.home), None, shared, logs.Log("error", io.StringIO()))
    try:
        assert sorted((route.listener, route.method, route.path) for route in routes(house)) == sorted(RULES)
        assert {listener for listener, _, _ in RULES} == set(LISTENERS)
        assert set(apps(house)) == {"private"}
        assert house.api
        found = {getattr(route, "path", "?") for route in application(house.api).routes}
        assert found == {route.path for route in table.ROUTES} | DESCRIBED
    finally:
        house.authority.close()
    assert door.ask("", Probe("private", "GET", "/openapi.json"))[0] == 200
    for path in ("/docs", "/redoc", "/v1", "/", "/static/x"):
        assert door.ask("boss", Probe("private", "GET", path))[0] == 404, path


def may(who: str, rule: str) -> bool:
    """Whether the rule of a route of the web lets somebody in."""
    roles = ROLES.get(CAST.get(who, ""), ())
    if rule == DECIDE:
        return "decide" in roles
    if rule == DECIDE_OR_TOKEN:
        return "decide" in roles or who == "token decide"
    if rule == READ_OR_TOKEN:
        return "read" in roles or who == "token read"
    return True  # anybody; and whoever has opened the socket


@pytest.mark.parametrize("key", WEB, ids=WEB_IDS)
def test_only_who_may_gets_in(door: Ways, key: tuple[str, str, str]) -> None:
    listener, method, _ = key
    probe = web_probe(door, key)
    for who in EVERYBODY if listener in ("private", "enrol") else ("", *(who for who in EVERYBODY if who.startswith("token "))):
        status, code = door.ask(who, probe)
        if listener == "private" and who in FOREIGN:
            assert status == 0, who
        elif may(who, RULES[key]):
            assert status in (200, 204, 422), (who, status, code)
        else:
            nobody = who in ("", *OUT) and probe.path != "/decision"  # that one says to all alike that only web servers are answered
            assert status == (401 if nobody else 403), (who, code)
        if method == "GET":
            assert door.ask(who, probe._replace(method="HEAD"))[0] == status, who


@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: str(route.name))
def test_only_who_may_gets_in_to_the_api(door: Ways, route: ApiRoute) -> None:
    """Over TLS; the rules themselves are said once more in tests/protocols/test_api_access.py."""
    probe = api_probe(route)
    for who in EVERYBODY:
        status, code = door.ask(who, probe)
        scopes = (who.removeprefix("token "),) if who.startswith("token ") else ROLES.get(CAST.get(who, ""), ())
        if who in FOREIGN:
            assert status == 0, who
        elif who in ("", *OUT):
            assert (status, code) == (401, "sign-in"), who
        elif not route.scopes or set(scopes) & set(route.scopes):
            assert status not in (0, 401, 403), (who, code)
            assert status < 500, (who, code)
        else:
            assert (status, code) == (403, "forbidden"), who
        if route.method != "GET":
            continue
        for listener in ("public", "enrol", "proxy"):  # and nowhere else
            assert door.ask("", probe._replace(listener=listener))[0] == 404


# What is said about oneself


def values(w: Ways) -> tuple[str, ...]:
    """An administrator, in every form in which somebody could be named."""
    der = w.f.people["boss"][1]
    text = pem.encode("CERTIFICATE", der).decode()
    return quote(text), f":{base64.b64encode(der).decode()}:", base64.b64encode(der).decode(), "boss", "CN=boss", "SUCCESS", "administrator"


def said_at_once(w: Ways, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], ...]]:
    """All names with all values, as many together as fit into a head."""
    for value in values(w):
        together = max(1, 24_000 // (len(value) + 40))
        for start in range(0, len(names), together):
            yield tuple((name, value) for name in names[start : start + together])


PROBES = [*WEB_IDS, *(route.name for route in table.ROUTES)]


@pytest.mark.parametrize("place", range(len(PROBES)), ids=PROBES)
def test_no_header_says_who_somebody_is(believing: Ways, place: int) -> None:
    """Nobody stays nobody, and somebody without a role somebody without a role: also where a web server at the same address would be believed."""
    probe = web_probe(believing, WEB[place]) if place < len(WEB) else api_probe(table.ROUTES[place - len(WEB)])
    names = NAMES
    if (probe.listener, probe.path) == ("proxy", "/decision"):  # there the certificate is the question, and the web server has proved itself by the socket
        probe, names = probe._replace(headers=()), tuple(name for name in NAMES if name not in ASKED)
    for who in ("", "nobody") if probe.listener == "private" else ("",):
        plain = believing.ask(who, probe)
        for said in said_at_once(believing, names):
            assert believing.ask(who, probe, *said) == plain, (who, said[0])


@pytest.mark.parametrize("path", ["/v1/people", "/agent/bundle?wait=0", "/decision"])
def test_no_single_header_does_either(believing: Ways, path: str) -> None:
    """One at a time: two at once could be in each other's way. The web server itself is nobody where it says of nobody that he is there."""
    probe = Probe("private", "GET", path)
    for who in ("", "nobody"):
        plain = believing.ask(who, probe)
        for name in NAMES:
            for value in values(believing):
                assert believing.ask(who, probe, (name, value)) == plain, (who, name, value[:40])
    if path == "/v1/people":
        assert believing.ask("web", probe)[0] == 401
        for name in NAMES:
            status, _ = believing.ask("web", probe, (name, values(believing)[0]))
            assert (status == 200) == (name == "x-client-cert"), name


def chunked(w: Ways, who: str, method: str, path: str, body: bytes, *trailers: tuple[str, str], listener: str = "private") -> bytes:
    """The answer to a chunked request with trailers, and to a plain one behind it on the same connection."""
    line = w.line(listener, who)
    line.connect()
    names = ", ".join(name for name, _ in trailers)
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: {names}\r\n\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    second = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    line.sock.sendall(head.encode() + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, fields.encode()) + second.encode() + body)
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := line.sock.recv(65536):
            found += part
    w.hang_up()
    return found


@pytest.mark.parametrize("who", ["", "nobody", "web"])
def test_no_trailer_says_who_somebody_is(believing: Ways, who: str) -> None:
    """RFC 9110 6.5.1: what comes after the body is no header, whoever sends it, and it says nothing about the request behind it, either."""
    status = b"403" if who == "nobody" else b"401"
    bearer = ("authorization", f"Bearer {believing.f.tokens['people']}")
    some = [((name, value),) for name in ("client-cert", "x-client-cert", "remote-user", "x-client-user") for value in values(believing)[:2]]
    every = [tuple((name, "boss") for name in NAMES), (("Client-Cert", values(believing)[1]), bearer)]
    for trailers in [*some, *every, (bearer,)]:
        found = chunked(believing, who, "POST", "/v1/people", b'{"login": "mallory"}', *trailers)
        assert found.count(b"HTTP/1.1 ") == found.count(b"HTTP/1.1 " + status) == 2, (trailers[0][0], found[:400])
    with believing.f.service.authority() as authority:
        assert "mallory" not in {person.login for person in authority._core.reads.holders()}


def test_no_trailer_is_a_question(believing: Ways) -> None:
    """Nor does one name a certificate to the decision endpoint."""
    named = tuple(believing.f.named(believing.serials["ann"]).items())
    found = chunked(believing, "", "GET", "/decision", b"x", *named, listener="proxy")
    assert found.startswith(b"HTTP/1.1 403"), found[:300]
    assert b"x-client-user" not in found.lower()
