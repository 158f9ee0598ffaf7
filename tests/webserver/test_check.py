"""The check as a whole: what it takes, how it is bounded, what it says when it cannot tell; before a little server that says what a test wants."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Unavailable
from gatekey.ports import SystemEntropy
from gatekey.webserver import check, checks_names, door, page, revocation
from gatekey.webserver.check import CHECKS, OPEN, PASS, SHUT, UNSURE, Identities, Identity, Report, Target, chosen, parse_target
from gatekey.webserver.check_table import BY_NAME, BY_NUMBER
from gatekey.webserver.ear import Heard
from gatekey.webserver.knock import Budget, Knock
from gatekey.webserver.site import Site
from kit.listening import listening
from kit.little import Answering, Request, little
from kit.pki import Leaf, Pki, make_pki

HOST = "app.example"
REFUSED: tuple[int, dict[str, str], bytes] = (403, {}, b"<h1>You need a certificate</h1> Ask the administrator for one, and come back with it.")


def identity(leaf: Leaf, label: str = "the good certificate") -> Identity:
    return Identity(leaf.chain_pem, leaf.key_pem, label)


def good_app(request: Request) -> tuple[int, dict[str, str], bytes]:
    """A door and its app in one: refuses without a certificate and under any other name."""
    if not request.person or request.sni != HOST or request.headers.get("host", "").split(":")[0] != HOST:
        return REFUSED
    return 200, {"Set-Cookie": "session=1"}, f"<h1>Kittens</h1> You are {request.person}, and here are pictures of all our kittens.".encode()


def run(port: int, identities: Identities | None = None, *, only: tuple[str, ...] = (), skip: tuple[str, ...] = (), **more: Any) -> Report:
    settings = {key: more.pop(key) for key in list(more) if key in Target._fields}
    plain: dict[str, Any] = {"address": "127.0.0.1", "http_port": 0, "app_ports": (), "tls_ports": (), "patience": 10.0}
    target = Target(HOST, port, **{**plain, **settings})
    return check.run(target, identities or Identities(), only=only, skip=skip, now=int(time.time()), entropy=SystemEntropy(), **more)


def verdicts(
    app: Answering, *only: int, pki: Pki | None = None, people: bool = True, tls: dict[str, Any] | None = None, **more: Any
) -> list[tuple[int, str, str]]:
    """Number, verdict and sentence of the checks `only`."""
    authority = pki or make_pki()
    with little(app, authority, **(tls or {})) as port:
        identities = Identities(good=identity(authority.client("ann"))) if people else Identities()
        report = run(port, identities, only=tuple(map(str, only)), **more)
    return [(outcome.number, outcome.verdict, outcome.said) for outcome in report.outcomes]


def verdict(app: Answering, number: int, **more: Any) -> tuple[str, str]:
    ((_, found, said),) = verdicts(app, number, **more)
    return found, said


# The table


def test_the_table_is_whole() -> None:
    assert [row.number for row in CHECKS] == list(range(1, 37))
    assert len(BY_NAME) == len(BY_NUMBER) == 36
    assert {*check._PLAIN, *check._PLAYED, 32} == set(BY_NUMBER)
    for row in CHECKS:
        assert row.title
        assert row.must
        assert row.looks
        assert row.name == row.name.lower().replace(" ", "-")
        assert {"nginx", "apache"} <= set(row.fixes) or "any" in row.fixes, row.name
        assert set(row.fixes) <= {"nginx", "apache", "haproxy", "caddy", "traefik", "envoy", "any"}
        assert all(number < row.number and number in BY_NUMBER for number in row.after)


def test_choosing() -> None:
    assert [row.number for row in chosen(("7", "no-certificate"))] == [1, 7]
    assert [row.number for row in chosen(skip=[str(number) for number in range(3, 37)])] == [1, 2]
    assert chosen(("1",), ("1",)) == ()
    for word, hint in (("99", "number"), ("no-certificat", "no-certificate?"), ("²", "number"), ("", "number")):
        with pytest.raises(Malformed) as caught:
            chosen((word,))
        assert caught.value.code == "unknown-check"
        assert hint in caught.value.hint


# The report


def test_the_report_in_json() -> None:
    pki = make_pki()
    with little(good_app, pki) as port:
        report = run(port, Identities(good=identity(pki.client("ann"))), only=("1", "2", "5", "25"))
    told = json.loads(json.dumps(report.as_json()))
    assert told["site"] == f"https://{HOST}:{port}/"
    assert (told["open"], told["cannot_tell"]) == ([25], [5])
    assert [row["verdict"] for row in told["checks"]] == [PASS, PASS, UNSURE, OPEN]
    assert told["checks"][0]["request"].startswith(f"127.0.0.1:{port}, TLS, SNI {HOST}, no certificate: GET /")
    assert told["checks"][0]["answer"] == "HTTP 403 X"
    assert told["checks"][2]["hint"]
    assert told["checks"][3]["fixes"]["nginx"].startswith("ssl_client_certificate")
    assert report.exit_code == 1
    assert report.outcomes[3].fix("apache").startswith("SSLCACertificateFile")
    assert "nginx: " in report.outcomes[3]._replace(fixes=(("nginx", "a"), ("apache", "b"))).fix("iis")
    assert pki.client("ann").key_pem.decode().splitlines()[1] not in json.dumps(told)


def test_progress_tells_each_title_and_the_end() -> None:
    told: list[tuple[int, int, str]] = []
    with little(good_app) as port:
        run(port, only=("1", "4"), progress=lambda *step: told.append(step))
    assert told == [(0, 2, BY_NUMBER[1].title), (1, 2, BY_NUMBER[4].title), (2, 2, "")]


# What it takes


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://app.example", HOST, 443, "/"),
        ("https://APP.example.:8443/x?y=1#z", HOST, 8443, "/x?y=1"),
        ("app.example:8443", HOST, 8443, "/"),
        ("https://[::1]:8443/", "::1", 8443, "/"),
        ("https://127.0.0.1", "127.0.0.1", 443, "/"),
        ("https://intranet/", "intranet", 443, "/"),
    ],
)
def test_urls(url: str, host: str, port: int, path: str) -> None:
    target = parse_target(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert parse_target(target.url) == target


@pytest.mark.parametrize("url", ["", "http://app.example", "ftp://x", "https://", "https://a b", "https://u:p@app.example", "https://app.example:x", "https://[::1"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_target(url)
    assert caught.value.code == "bad-url"
    assert caught.value.hint


@given(st.text(max_size=40) | st.text("htps:/[]@.%?#0a \r\n", max_size=40))
def test_any_url_is_read_or_refused(text: str) -> None:
    try:
        target = parse_target(text)
    except GatekeyError as error:
        assert error.code == "bad-url"
    else:
        request = Knock("::1", target.port, host=target.host, path=target.path).request()
        assert request.count(b"\r\n") == 6


def test_an_identity_that_cannot_be_used_is_refused_before_anything_is_sent() -> None:
    ann, bob = make_pki().client("ann"), make_pki().client("bob")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Malformed) as caught:
        run(silent.getsockname()[1], Identities(good=Identity(ann.chain_pem, bob.key_pem, "the good certificate")))
    assert caught.value.code == "bad-identity"


def test_a_site_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        run(port)
    assert caught.value.code == "site-unreachable"


def test_a_site_without_tls() -> None:
    with little(good_app, plain=True) as port, pytest.raises(Unavailable) as caught:
        run(port, patience=5)
    assert caught.value.code == "site-without-tls"


def waiting(answer: bytes) -> Callable[[socket.socket], None]:
    """A server that says `answer` to HTTP, and to a ClientHello nothing: it waits for the end of the header."""

    def serve(peer: socket.socket) -> None:
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            more = peer.recv(4096)
            if not more:
                return
            got += more
        peer.sendall(answer)

    return serve


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "site-without-tls"),
        (b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\nContent-Length: 0\r\n\r\n", "site-unreachable"),
        (b"", "site-unreachable"),
    ],
    ids=["plain HTTP", "TLS that is slow", "something else"],
)
def test_a_server_that_does_not_answer_a_hello(answer: bytes, code: str) -> None:
    with listening(waiting(answer)) as port, pytest.raises(Unavailable) as caught:
        run(port, patience=1)
    assert caught.value.code == code


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "resolve", lambda *_: ())
    with pytest.raises(Unavailable) as caught:
        run(443, address="")
    assert caught.value.code == "site-unreachable"


def test_dns_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(10) and [])
    began = time.monotonic()
    assert door.resolve("slow.example", 0.1) == ()
    over.set()
    assert time.monotonic() - began < 5


# Bounds


def test_a_spent_budget_ends_in_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_CONNECTIONS", 5)
    with little(good_app) as port:
        report = run(port, only=("1", "14", "19", "20"))
    assert report.connections == 5
    assert report.outcomes[0].verdict == PASS
    assert {outcome.verdict for outcome in report.outcomes[2:]} == {UNSURE}
    assert "a check is bounded" in report.outcomes[3].said


def test_all_of_it_stays_small() -> None:
    """A nightly check must not look like an attack: connections, bytes, and what they could change."""
    pki = make_pki()
    seen: list[Request] = []

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        seen.append(request)
        return good_app(request)

    with little(app, pki) as port:
        report = run(port, Identities(good=identity(pki.client("ann"))))
    assert report.connections < 130
    assert report.seconds < 15
    assert {request.headers["user-agent"] for request in seen} == {"gatekey-check"}
    changing = [request for request in seen if request.method not in ("GET", "HEAD", "OPTIONS")]
    assert {request.method for request in changing} == {"POST", "PUT", "TRACE", "GATEKEY"}
    assert all(request.path.startswith("/gatekey-probe-") and not request.person for request in changing)
    assert {request.headers.get("content-length", "0") for request in seen} == {"0"}


def test_a_door_that_says_nothing_is_no_door_that_is_shut() -> None:
    def app(_: Request) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.6)
        return REFUSED

    with little(app) as port:
        report = run(port, only=("1", "4", "20"), patience=0.2)
    assert [outcome.verdict for outcome in report.outcomes] == [UNSURE] * 3


# What is said of answers that no real server of the other tests gives


def app_with(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answering:
    """The good app, whose refusal is this one."""
    return lambda request: good_app(request) if request.person else (status, headers or {}, body)


def test_redirects_without_a_certificate() -> None:
    def to_a_page(request: Request) -> tuple[int, dict[str, str], bytes]:
        if request.person:
            return good_app(request)
        return (200, {}, b"How to get a certificate") if request.path == "/help" else (302, {"Location": "/help"}, b"")

    def to_a_refusal(request: Request) -> tuple[int, dict[str, str], bytes]:
        if request.person:
            return good_app(request)
        return REFUSED if request.path == "/help" else (302, {"Location": f"https://{request.headers['host']}/help"}, b"")

    assert verdict(to_a_page, 1) == (OPEN, "a redirect to /help, and there: answered with HTTP 200 X")
    assert verdict(to_a_refusal, 1)[0] == PASS
    found, said = verdict(app_with(302, {"Location": "https://help.example/"}), 1)
    assert (found, "https://help.example/" in said) == (UNSURE, True)
    assert verdict(app_with(302, {"Location": "/again"}), 1)[0] == UNSURE
    assert verdict(app_with(302, {"Location": "http://[bad"}), 1)[0] == UNSURE


@given(st.text(max_size=40) | st.text("htps:/[]@.%?#0a \r\n", max_size=40))
def test_no_redirect_leads_off_the_site(location: str) -> None:
    here = door.Door(Target(HOST, 8443, address="127.0.0.1"), Identities(), Budget(0, 1, 1), SystemEntropy(), 0)
    path = here._same_host(location, "/a/b")
    assert path == "" or (path.startswith("/") and path.isascii() and path.isprintable() and " " not in path)
    assert here._same_host(f"https://{HOST}:8443/x", "/") == "/x"
    assert here._same_host(f"https://{HOST}.evil.example:8443/x", "/") == here._same_host(f"https://a@{HOST}:8443/x", "/") == ""


def test_a_login_page_of_the_app_is_no_door() -> None:
    def app(_: Request) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": "/login"}, b""

    assert verdict(app, 1)[0] == OPEN


def test_the_app_is_down() -> None:
    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (502, {}, b"Bad gateway, try again") if request.person else REFUSED

    assert verdict(app, 2)[0] == UNSURE


@pytest.mark.parametrize(
    ("server", "answer", "found", "piece", "mend"),
    [
        ("nginx", (503, page.UNSURE), OPEN, "cannot be asked, so nobody gets in", "is `gatekey serve` running"),
        ("Apache", (503, page.UNSURE), UNSURE, "or the app behind is down", "is `gatekey serve` running"),
        ("nginx", (403, page.NOT_A_PROXY), OPEN, "may not ask the decision service", "--role proxy"),
        ("nginx", (403, page.NOT_FOR_YOU), OPEN, "none of the groups", "--group"),
        ("nginx", (403, page.EXPIRED), OPEN, "nobody gets in, or", "ssl_client_certificate"),
        ("traefik", (503, "stale"), OPEN, "cannot be asked, so nobody gets in", "is `gatekey serve` running"),
    ],
)
def test_our_own_page_is_no_app(server: str, answer: tuple[int, str], found: str, piece: str, mend: str) -> None:
    """What stands on the page says what is wrong, and the other checks do not take it for the app."""
    status, reason = answer
    site = Site(HOST)

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        if not request.person:
            return 403, {"Server": server}, page.page(site, page.NO_CERTIFICATE).encode()
        return (status, {"X-Gatekey-Why": reason}, b"") if server == "traefik" else (status, {"Server": server}, page.page(site, reason).encode())

    pki = make_pki()
    with little(app, pki) as port:
        report = run(port, Identities(good=identity(pki.client("ann"))), only=("2", "4"))
    good, forged = report.outcomes
    assert (good.verdict, forged.verdict) == (SHUT if found == OPEN else found, UNSURE)
    assert piece in good.said
    assert mend in (good.fix("nginx") if found == OPEN else good.hint)
    assert (report.opened, report.shut, report.exit_code) == (((), (2,), 1) if found == OPEN else ((), (), 0))


@pytest.mark.parametrize(("refusals", "found"), [(2, PASS), (99, SHUT)])
def test_a_certificate_that_a_door_has_not_heard_of_yet_is_shown_again(refusals: int, found: str) -> None:
    """As it is where the web server asks a service whose workers learn of a new certificate a moment later."""
    shown = itertools.count()

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        refused = not request.person or next(shown) < refusals
        return (403, {}, page.page(Site(HOST), page.NOT_LET_IN if request.person else page.NO_CERTIFICATE).encode()) if refused else (200, {}, b"kittens")

    pki = make_pki()
    with little(app, pki) as port:
        good, *_ = run(port, Identities(good=identity(pki.client("ann"))), only=("2", "4", "5", "6", "19")).outcomes
    assert good.verdict == found
    assert refusals == 2 or next(shown) <= 12, "once for all checks that need to know"


def test_the_apps_own_refusals_are_told_apart() -> None:
    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        if request.path.startswith("/api/") and not request.person:
            return 401, {"Set-Cookie": "session=2"}, b'{"error": "sign in first"}'
        return good_app(request)

    found, said = verdict(app, 19)
    assert (found, "401" in said) == (UNSURE, True)
    assert verdict(app, 19, allowed=("/api/",))[0] == PASS


def test_the_refusal_page_must_be_static() -> None:
    assert verdict(app_with(403, {"Set-Cookie": "a=1"}, b"no"), 24)[0] == OPEN
    assert verdict(app_with(403, {"X-Powered-By": "PHP"}, b"no"), 24)[0] == OPEN
    assert verdict(app_with(403, {}, b"no"), 24)[0] == PASS
    assert verdict(app_with(403, {}, b"<h1>Kittens</h1> You are nobody, and here are pictures of all our kittens."), 24)[0] == OPEN


def test_paths_that_the_site_names_itself() -> None:
    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        if request.path == "/robots.txt" and request.person:
            return 200, {}, b"User-agent: *\nDisallow: /secret/\nDisallow: /*.pdf$\nAllow: bad path\n"
        if request.path == "/secret/":
            return 200, {}, b"secrets"
        return good_app(request)

    found, said = verdict(app, 19)
    assert (found, said) == (OPEN, "answered with HTTP 200 X")
    assert verdict(app, 19, people=False)[0] != OPEN
    assert verdict(app, 19, people=False, paths=("/secret/",))[0] == OPEN


def test_options_may_be_an_empty_answer() -> None:
    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (204, {}, b"") if request.method == "OPTIONS" else good_app(request)

    def with_a_cookie(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (204, {"Set-Cookie": "a=1"}, b"") if request.method == "OPTIONS" else good_app(request)

    assert verdict(app, 20)[0] == PASS
    assert verdict(with_a_cookie, 20)[0] == OPEN


def test_head_alone_let_through() -> None:
    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"") if request.method == "HEAD" else good_app(request)

    assert verdict(app, 20)[0] == OPEN


def test_made_up_headers() -> None:
    def believes(request: Request) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = good_app(request)
        return status, headers, body.replace(b"ann", request.headers.get("remote-user", "ann").encode())

    def sets_a_cookie(request: Request) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = good_app(request)
        return status, {**headers, "X-Seen-As": request.headers.get("x_client_user", "ann")}, body

    def refuses_some(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (400, {}, b"doubled header") if "x_client_user" in request.headers else believes(request)

    def refuses_all(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (400, {}, b"made up") if any(name.startswith(("x", "remote", "client")) for name in request.headers) else good_app(request)

    def silent(request: Request) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"hello") if request.person else REFUSED

    assert verdict(believes, 22)[0] == OPEN
    assert "Remote-User" in verdict(believes, 22)[1]
    assert "X_Client_User" in verdict(sets_a_cookie, 22)[1]
    assert verdict(refuses_some, 22)[0] == OPEN
    assert verdict(refuses_all, 22)[0] == PASS
    assert verdict(good_app, 22)[0] == PASS
    assert verdict(silent, 22) == (UNSURE, "no page says who is there, so a false name could not be seen")
    assert verdict(good_app, 22, people=False)[0] == UNSURE


def test_other_sites_on_the_same_server() -> None:
    public = b"<h1>Everybody may see this</h1> It is the public site of the company."

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return good_app(request) if request.sni == HOST else (200, {}, public)

    def by_host(request: Request) -> tuple[int, dict[str, str], bytes]:
        host = request.headers["host"].split(":")[0].lower()
        if host != HOST:
            return (404, {}, b"no such site") if request.sni != HOST else REFUSED
        return (200, {}, b"<h1>Kittens</h1> You are , and here are pictures of all our kittens.") if request.sni != HOST else good_app(request)

    assert [found for _, found, _ in verdicts(app, 10, 11, 12, 13, siblings=("public.example",))] == [PASS] * 4
    assert [found for _, found, _ in verdicts(by_host, 10, 11, 12, siblings=("public.example",))] == [OPEN] * 3
    # Without a good certificate a page that is the same for any name may be anybody's.
    assert [found for _, found, _ in verdicts(app, 11, 12, people=False)] == [UNSURE] * 2
    assert [found for _, found, _ in verdicts(by_host, 11, 12, people=False)] == [OPEN] * 2
    assert verdict(app, 10)[0] == UNSURE


def test_siblings_out_of_the_servers_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_names, "resolve", lambda host, *_: ("127.0.0.1",) if host == "www.example" else ("192.0.2.1",))
    leaf = make_pki("servers").server(HOST, "www.example", "far.example")
    tried: list[str] = []

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        tried.append(request.sni)
        return good_app(request)

    assert verdict(app, 10, tls={"leaf": leaf})[0] == PASS
    assert set(tried) == {HOST, "www.example"}
    assert verdict(app, 31, tls={"leaf": leaf, "alpn": ("h2",)})[0] == OPEN
    assert verdict(app, 31, tls={"leaf": leaf, "alpn": ("http/1.1",)})[0] == PASS
    assert verdict(app, 31, tls={"alpn": ("h2",)})[0] == PASS


def test_plain_http() -> None:
    def redirecting(where: str) -> Answering:
        return lambda _: (301, {"Location": where}, b"")

    cases: list[tuple[Answering, str]] = [
        (redirecting(f"https://{HOST}/"), PASS),
        (redirecting("https://other.example/"), OPEN),
        (redirecting(f"http://{HOST}/login"), OPEN),
        (redirecting("/login"), OPEN),
        (lambda _: REFUSED, PASS),
        (lambda request: good_app(request._replace(person="ann", sni=HOST)), OPEN),
        (lambda _: (200, {}, b"Welcome to the web server of this machine"), PASS),
    ]
    for app, expected in cases:
        with little(app, plain=True) as port:
            assert verdict(good_app, 15, http_port=port)[0] == expected
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert verdict(good_app, 15, http_port=port)[0] == PASS
    assert verdict(good_app, 15)[0] == UNSURE


def test_other_ports() -> None:
    with little(lambda request: good_app(request._replace(person="ann", sni=HOST)), plain=True) as port:
        assert verdict(good_app, 16, app_ports=(port,))[0] == OPEN
        assert verdict(good_app, 16, app_ports=(port,), people=False)[0] == UNSURE
    with little(lambda _: (200, {}, b"something else altogether"), plain=True) as port:
        assert verdict(good_app, 16, app_ports=(port,))[0] == PASS
    with little(good_app) as port:
        assert verdict(good_app, 18, tls_ports=(port,))[0] == PASS
    assert verdict(good_app, 16)[0] == verdict(good_app, 18)[0] == UNSURE


def test_http3_is_not_spoken_here() -> None:
    found, said = verdict(app_with(403, {"Alt-Svc": 'h3=":443"; ma=86400'}, b"no"), 18)
    assert (found, "QUIC" in said) == (UNSURE, True)


def test_cdns_and_caches() -> None:
    def cdn(request: Request) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = good_app(request)
        return status, {**headers, "CF-Ray": "1"}, body

    kept: set[str] = set()

    def cache(request: Request) -> tuple[int, dict[str, str], bytes]:
        if not request.person and request.path not in kept:
            return REFUSED
        hit = request.path in kept
        kept.add(request.path)
        return 200, {"X-Cache": "HIT" if hit else "MISS"}, b"<h1>Kittens</h1> for everybody who comes second"

    assert verdict(cdn, 35)[0] == UNSURE
    assert verdict(good_app, 35)[0] == PASS
    assert verdict(cdn, 35, origin="127.0.0.1")[0] == PASS
    assert verdict(cache, 36) == (OPEN, "answered with HTTP 200 X")
    assert verdict(good_app, 36)[0] == PASS


def test_ipv6_comes_from_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "resolve", lambda *_: ("127.0.0.1",))
    monkeypatch.setattr(checks_names, "resolve", lambda *_: ())
    assert verdict(good_app, 17, address="") == (PASS, "the name has no IPv6 address")
    assert verdict(good_app, 17)[0] == UNSURE
    assert verdict(good_app, 17, address6="::1")[0] == PASS  # the little server listens on IPv4 alone


def test_a_deaf_python_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heard, "listen", lambda *_: None)
    with little(good_app, make_pki(), required=True) as port:
        report = run(port, only=("1", "25", "26", "30"))
    assert [outcome.verdict for outcome in report.outcomes] == [PASS, UNSURE, UNSURE, UNSURE]
    assert report.outcomes[0].answer == "TLS alert 116 certificate required"


def test_authorities_that_are_unknown_here() -> None:
    found, said = verdict(good_app, 26)
    assert (found, "not known here" in said) == (UNSURE, True)
    leaf = make_pki("servers").server(HOST, usage=())
    assert "serverAuth" in verdict(good_app, 26, tls={"leaf": leaf})[1]


def test_one_authority_for_people_and_servers() -> None:
    """Then a web server's certificate is one for servers only from the people's authority, and check 28 has somebody to knock with."""

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return good_app(request) if request.person == "ann" else REFUSED

    for flat, expected in ((True, PASS), (False, UNSURE)):
        pki, others = make_pki(flat=flat), make_pki("kitty-ca servers")
        server = (pki if flat else others).server("other.example")
        with little(app, pki) as port:
            identities = Identities(good=identity(pki.client("ann")), server=identity(server, "a web server's certificate"))
            report = run(port, identities, only=("27", "28"))
        assert [outcome.verdict for outcome in report.outcomes] == [PASS, expected]


def test_a_canary_that_cannot_be_revoked() -> None:
    pki = make_pki()

    def revoke() -> None:
        raise Unavailable("locked", "the ledger is locked")

    with little(good_app, pki) as port:
        identities = Identities(good=identity(pki.client("ann")), canary=identity(pki.client("gatekey-probe")))
        report = run(port, identities, only=("7", "33", "34"), revoke=revoke)
    assert [outcome.verdict for outcome in report.outcomes] == [PASS, UNSURE, UNSURE]
    assert "the ledger is locked" in report.outcomes[1].said


def test_a_canary_stands_in_for_a_revoked_certificate() -> None:
    pki = make_pki()
    gone: set[str] = set()

    def app(request: Request) -> tuple[int, dict[str, str], bytes]:
        return REFUSED if request.person in gone else good_app(request)

    with little(app, pki) as port:
        identities = Identities(good=identity(pki.client("ann")), canary=identity(pki.client("gatekey-probe")))
        report = run(port, identities, only=("6", "7", "33", "34"), revoke=lambda: gone.add("gatekey-probe"))
    assert [outcome.verdict for outcome in report.outcomes] == [PASS] * 4
    assert "s after the revocation began" in report.outcomes[2].said


@pytest.mark.parametrize(("known", "said", "fix"), [
    (False, "nothing reloaded the web server, or it reads no CRL", "after every revocation: systemctl reload nginx"),
    (True, "it reads the CRLs that are published, but nothing reloaded", "gatekey bundle --out DIR && systemctl reload nginx"),
])  # fmt: skip
def test_nothing_reloads_the_server(known: bool, said: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation that stands in the folder and is not felt: most of all nobody told the server, and then that is the line to type."""
    monkeypatch.setattr(revocation, "MOST_SECONDS", 0.2)
    pki = make_pki()
    with little(good_app, pki) as port:
        identities = Identities(good=identity(pki.client("ann")), canary=identity(pki.client("gatekey-probe")))
        report = run(port, identities, only=("6", "33"), revoke=lambda: None, reads_crl=known)
    assert report.opened == (6, 33)
    for outcome in report.outcomes:
        assert said in outcome.said
        assert fix in outcome.fix("nginx")


@pytest.mark.parametrize(("beside", "hint"), [(True, "--bundle DIR"), (False, "beside the authority")])
def test_how_a_revocation_could_be_tried(beside: bool, hint: str) -> None:
    pki = make_pki()
    with little(good_app, pki) as port:
        expired = identity(pki.client("eve")) if beside else None  # only an authority makes one
        report = run(port, Identities(good=identity(pki.client("ann")), expired=expired), only=("6", "33", "34"))
    assert report.unsure == (6, 33, 34)
    assert all(hint in outcome.hint for outcome in report.outcomes)


# Freshness of the lists


STATES: list[tuple[dict[str, str], str, str]] = [
    ({}, PASS, "is good until"),
    ({"issuing": "expired"}, OPEN, "ended on"),
    ({"root": "expired"}, OPEN, "ended on"),
    ({"issuing": "not-yet"}, OPEN, "a clock is wrong"),
    ({"issuing": "missing"}, OPEN, "there is no CRL of CN=kitty-ca people:"),
    ({"root": "foreign"}, OPEN, "there is no CRL of CN=kitty-ca people root:"),
    ({"issuing": "bad-signature"}, OPEN, "not signed by it"),
]


@pytest.mark.parametrize(("states", "expected", "said"), STATES)
def test_the_folder_of_the_web_server(states: dict[str, str], expected: str, said: str, tmp_path: Path) -> None:
    pki = make_pki()
    (tmp_path / "people-chain.pem").write_bytes(pki.chain_pem)
    (tmp_path / "all.crl.pem").write_bytes(pki.crls(**states))
    found, words = verdict(good_app, 32, pki=pki, bundle=tmp_path)
    assert found == expected
    assert said in words


def test_an_expired_list_beside_a_fresh_one_does_no_harm(tmp_path: Path) -> None:
    pki = make_pki()
    (tmp_path / "people-chain.pem").write_bytes(pki.chain_pem)
    (tmp_path / "all.crl.pem").write_bytes(pki.crls(issuing="expired") + pki.crls())
    assert verdict(good_app, 32, pki=pki, bundle=tmp_path)[0] == PASS


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert verdict(good_app, 32, bundle=tmp_path / "nowhere")[0] == UNSURE
    (tmp_path / "people-chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "all.crl.pem").write_bytes(b"")
    assert verdict(good_app, 32, bundle=tmp_path)[0] == OPEN
    (tmp_path / "people-chain.pem").write_bytes(b"")
    assert verdict(good_app, 32, bundle=tmp_path)[0] == OPEN


def served(data: bytes, status: int = 200) -> Answering:
    return lambda _: (status, {}, data)


@pytest.mark.parametrize(
    ("state", "expected", "said"),
    [
        ("fresh", PASS, "is good until"),
        ("expired", OPEN, "ended on"),
        ("bad-signature", OPEN, "not signed"),
        ("foreign", OPEN, "is not that of"),
        ("missing", UNSURE, "cannot be had"),
    ],
)
def test_distribution_points(state: str, expected: str, said: str) -> None:
    pki = make_pki()
    with little(served(pki.crl("issuing", state)), plain=True) as crl_port:
        leaf = pki.client("ann", crl=f"http://127.0.0.1:{crl_port}/people.crl")
        with little(good_app, pki) as port:
            report = run(port, Identities(good=identity(leaf)), only=("32",))
    assert report.outcomes[0].verdict == expected, report.outcomes[0].said
    assert said in report.outcomes[0].said


def test_a_distribution_point_that_is_not_there() -> None:
    pki = make_pki()
    for app in (served(b"", 404), served(b"<html>not a list</html>")):
        with little(app, plain=True) as crl_port, little(good_app, pki) as port:
            leaf = pki.client("ann", crl=f"http://127.0.0.1:{crl_port}/people.crl")
            assert run(port, Identities(good=identity(leaf)), only=("32",)).outcomes[0].verdict == UNSURE
    with little(good_app, pki) as port:
        leaf = pki.client("ann", crl="ldap://127.0.0.1/people.crl")
        assert run(port, Identities(good=identity(leaf)), only=("32",)).outcomes[0].verdict == UNSURE


