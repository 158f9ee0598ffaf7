"""What the writers write, run by the real servers: the good get in under their own name, everybody else is refused and the app is not even asked."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gatekey.model import headers
from gatekey.webserver import nginx
from gatekey.webserver.answer import ANSWERED, Answer
from gatekey.webserver.knock import Budget, Identity, Line, connect
from gatekey.webserver.running import read_files
from kit import servers
from kit.backend import MARK, Backend, backend
from kit.doors import HOST, Door, door, identity
from kit.pki import SERVER, Leaf, make_pki, new_key, self_signed
from kit.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SERVERS = ("nginx", "apache", "haproxy", "caddy")
#: Who tells the app the certificate in which header.
CERTIFICATE_HEADER = {"nginx": headers.CERT, "apache": headers.CERT, "haproxy": headers.CLIENT_CERT, "caddy": headers.CLIENT_CERT}


@pytest.fixture(scope="module", params=SERVERS)
def shut(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A running site that no test changes."""
    with door(request.param, tmp_path_factory.mktemp(request.param)) as d:
        yield d


def assert_refused(d: Door, answer: Answer, asked: int) -> None:
    """Refused, whatever face that has; not one byte of the app, and the app was not asked."""
    assert len(d.app.seen) == asked, f"the app was asked: {d.app.last}"
    assert answer.kind != ANSWERED or answer.status >= 400, answer.face
    assert MARK.encode() not in answer.body
    assert not answer.header("set-cookie")


def refused(d: Door, who: Leaf | Identity | None, **changes: Any) -> Answer:
    asked = len(d.app.seen)
    answer = d.visit(who, **changes)
    assert_refused(d, answer, asked)
    return answer


def test_the_servers_own_checker_finds_nothing(shut: Door) -> None:
    checked = shut.server.check()
    assert checked.returncode == 0, checked.stderr
    said = checked.stdout + checked.stderr
    assert "[warn]" not in said, said
    assert "[WARNING]" not in said, said


def test_the_good_get_in_under_their_own_name(shut: Door) -> None:
    answer = shut.visit(shut.ann, path="/some/page?x=1")
    assert answer.status == 200
    assert MARK.encode() in answer.body
    seen = shut.app.last
    assert seen.path == "/some/page?x=1"
    assert seen.get(headers.USER) == "ann"
    assert seen.get(headers.GROUPS) == "staff,all%20hands%2C%20on%20deck"
    assert seen.get(headers.EMAIL) == "ann+%24x@example.com"
    assert seen.get(headers.NAME) == "%C3%84nn%20O%27Reilly%3B%20%22A%22%20%24x"
    assert seen.get(headers.DEVICE) == "ann%27s%20laptop"
    assert seen.get(headers.VERIFY) == "SUCCESS"
    assert seen.get(headers.ISSUER) == "CN=kitty-ca people"
    assert seen.get(headers.SERIAL) == (None if shut.kind == "caddy" else shut.ann.serial)
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert seen.get("X-Forwarded-Proto") == "https"
    assert seen.get("Host") == f"{HOST}:{shut.port}"


def test_the_certificate_reaches_the_app_whole(shut: Door) -> None:
    import base64
    from urllib.parse import unquote

    shut.visit(shut.ann)
    value = shut.app.last.get(CERTIFICATE_HEADER[shut.kind]) or ""
    if CERTIFICATE_HEADER[shut.kind] == headers.CLIENT_CERT:
        assert value[0] == value[-1] == ":"
        assert base64.b64decode(value[1:-1], validate=True) == shut.ann.der
    else:
        assert x509.load_pem_x509_certificate(unquote(value).encode()) == shut.ann.certificate


def test_a_certificate_younger_than_the_list_has_its_login_and_no_groups(shut: Door) -> None:
    assert shut.visit(shut.carl).status == 200
    assert shut.app.last.get(headers.USER) == "carl"
    assert not shut.app.last.get(headers.GROUPS)
    assert not shut.app.last.get(headers.EMAIL)


def test_over_ipv6(shut: Door) -> None:
    assert shut.visit(shut.ann, address="::1", port=shut.port6, host=HOST).status == 200
    refused(shut, None, address="::1", port=shut.port6, host=HOST)


def _strangers(d: Door) -> dict[str, Leaf | Identity | None]:
    pki = d.pki
    mallory = pki.foreign()
    from_root = _leaf_of_the_root(d)
    return {
        "nobody": None,
        "another CA with the same names": mallory.client("ann"),
        "another CA with other names": make_pki("somebody else").client("ann"),
        "self-signed": self_signed("ann"),
        "past its date": pki.client("ann", expired=True),
        "not valid yet": pki.client("ann", not_yet=True),
        "a server's certificate": d.site_leaf,
        "our own, but for servers": pki.server("ann", usage=(SERVER,)),
        "the issuing CA itself": pki.authority_as_leaf(),
        "the root itself": Leaf("root", pki.root.certificate, pki.root.key, ()),
        "signed by the root, not by the issuing CA": from_root,
        "no login in its name": pki.client("a;b"),
    }


def _leaf_of_the_root(d: Door) -> Leaf:
    """Trusted by the chain, but the root signs no people: the pin on the issuer must hold."""
    template, key = d.pki.client("ann").certificate, new_key()
    builder = x509.CertificateBuilder(d.pki.root.certificate.subject, template.subject, key.public_key(), 77)
    builder = builder.not_valid_before(template.not_valid_before_utc).not_valid_after(template.not_valid_after_utc)
    for extension in template.extensions:
        if extension.oid not in (x509.OID_SUBJECT_KEY_IDENTIFIER, x509.OID_AUTHORITY_KEY_IDENTIFIER):
            builder = builder.add_extension(extension.value, extension.critical)
    return Leaf("ann", builder.sign(d.pki.root.key, hashes.SHA256()), key, ())


def test_everybody_else_is_refused(shut: Door) -> None:
    for what, who in _strangers(shut).items():
        for version in ("1.2", "1.3"):
            answer = refused(shut, who, tls=version)
            if what == "nobody":
                assert answer.status == 403, (what, answer.face)
                assert b"Why was I not asked?" in answer.body, (what, answer.face)
                assert answer.header("content-type").startswith("text/html")
                assert "no-store" in answer.header("cache-control")
    assert shut.visit(shut.ann).status == 200


def test_the_names_in_handshake_and_request_must_be_the_sites(shut: Door) -> None:
    for who in (None, shut.ann, shut.pki.foreign().client("ann")):
        for sni, host in (("", HOST), ("other.example", HOST), (HOST, "other.example"), ("", "127.0.0.1"), (HOST, "localhost"), ("x." + HOST, HOST)):
            answer = refused(shut, who, sni=sni, host=host)
            assert answer.status != 200
    for odd in (f"{HOST}.evil.example", f"evil{HOST}", "app-example", "appxexample"):
        refused(shut, shut.ann, host=odd)


def test_odd_forms_of_the_host_open_nothing_for_nobody(shut: Door) -> None:
    for host in (HOST.upper(), f"{HOST}.", f"{HOST}:443", f"{HOST}:{shut.port}", "", f" {HOST}", f"{HOST}\t"):
        refused(shut, None, host=host)
    refused(shut, None, path=f"https://{HOST}/")
    refused(shut, None, path="https://other.example/")
    refused(shut, None, headers=(("Host", HOST),))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_method_is_forgotten(shut: Door, method: str) -> None:
    for path in ("/", "/static/x.css", "/.well-known/x", "/a/../b", "//", "/%2e%2e/", "/index.php/x", "/ws"):
        refused(shut, None, method=method, path=path)


def test_an_upgrade_needs_a_certificate_too(shut: Door) -> None:
    refused(shut, None, path="/ws", headers=WEBSOCKET)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("wish", ["other", "websocket"])
def test_no_body_goes_on_beside_the_wish_for_another_protocol(shut: Door, wish: str, chunked: bool) -> None:
    """Uvicorn with httptools, for one, would take it for the next request, with headers that nobody has stripped."""
    asked = len(shut.app.seen)
    framed = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "6")
    body = "2\r\nab\r\n0" if chunked else "ab"
    answer = shut.visit(shut.ann, headers=(("Connection", "Upgrade"), ("Upgrade", wish), framed, ("X-End", f"1\r\n\r\n{body}")))
    if shut.kind == "caddy" and chunked and wish == "websocket":  # which sees it when the head has gone on; one byte of the body is none that could do harm
        assert (answer.status, [told.get("Upgrade") for told in shut.app.seen[asked:]]) in ((413, []), (413, ["websocket"])), answer
        return
    for told in shut.app.seen[asked:]:
        assert not told.get("Upgrade") or "upgrade" not in (told.get("Connection") or "").lower(), told


def test_the_certificate_asked_for_names_root_and_issuing(shut: Door) -> None:
    answer = shut.visit(shut.ann, tls="1.2")
    assert answer.heard is not None
    names = {shut.pki.root.certificate.subject.public_bytes(), shut.pki.issuing.certificate.subject.public_bytes()}
    assert set(answer.heard.authorities or ()) == names


FORGED = [
    *headers.STRIPPED,
    *(name.replace("-", "_") for name in headers.OURS),
    *(f"{name[:8]}_{name[9:]}" for name in headers.OURS if name.startswith("X-Client-")),
    *(name.lower() for name in headers.OURS),
    *(name.upper() for name in headers.OURS),
]


@pytest.mark.parametrize("leaf", ["ann", "carl"])
def test_nobody_brings_an_identity_along(shut: Door, leaf: str) -> None:
    """For a certificate that is in the list, and for one that is not, where most of our headers have no value."""
    for doubled in (1, 2):
        sent = tuple((name, "root-of-all") for name in FORGED for _ in range(doubled))
        answer = shut.visit(getattr(shut, leaf), headers=sent)
        if answer.status >= 400:  # a server may refuse so much of it altogether
            assert doubled == 2 or shut.kind == "none", answer.face
            continue
        told = shut.app.last
        assert told.get(headers.USER) == leaf
        assert not [(name, value) for name, value in told.headers if "root-of-all" in value]


def test_hop_by_hop_tricks_do_not_take_our_headers_away(shut: Door) -> None:
    """`Connection: X-Client-User` asks a proxy to drop that header before it passes the request on (RFC 9110 7.6.1)."""
    names = f"close, {headers.USER}, {headers.VERIFY}, {headers.GROUPS}"
    shut.visit(shut.ann, headers=(("Connection", names),))
    assert shut.app.last.get(headers.USER) == "ann"
    assert shut.app.last.get(headers.VERIFY) == "SUCCESS"


def test_no_session_is_resumed(shut: Door) -> None:
    for version in ("1.2", "1.3"):
        first = shut.open(shut.ann, tls=version)
        assert first.ask(shut.knock(shut.ann, keep=True)).status == 200
        second = shut.open(shut.ann, tls=version, resume=first)
        answer = second.ask(shut.knock(shut.ann, keep=True))
        first.close()
        second.close()
        # Caddy has no word against it in a Caddyfile; that it does no harm is shown below.
        assert answer.status == 200, version
        assert shut.kind == "caddy" or not answer.resumed, version


def test_only_tls_1_2_and_later(shut: Door) -> None:
    import socket

    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", shut.port), 10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(raw, server_hostname=HOST).close()


def test_plain_http_redirects_and_nothing_else(shut: Door) -> None:
    answer = refused_or_redirect(shut, HOST)
    assert answer.status == 301
    assert answer.header("location") == f"https://{HOST}:{shut.port}/a/b?c=d"
    other = refused_or_redirect(shut, "other.example")
    assert "other.example" not in other.header("location")
    # TLS port, plain HTTP
    asked = len(shut.app.seen)
    answer = shut.visit(None, plain=True)
    assert len(shut.app.seen) == asked
    assert MARK.encode() not in answer.body


def refused_or_redirect(d: Door, host: str) -> Answer:
    asked = len(d.app.seen)
    answer = d.visit(None, plain=True, port=d.plain, host=host, path="/a/b?c=d")
    assert len(d.app.seen) == asked
    assert MARK.encode() not in answer.body
    return answer


WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


def with_old_session(d: Door, line: Line, version: str) -> Answer:
    """A new connection of Bob's that offers the session of an old one."""
    again = connect(d.knock(d.bob, keep=True, tls=version), Budget(1, 30, 15), resume=line)
    if isinstance(again, Answer):
        return again
    try:
        return again.ask(d.knock(d.bob, keep=True, tls=version))
    finally:
        again.close()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("lock", ["both", "serial alone"])
def test_the_revoked_are_shut_out_and_the_others_are_not(kind: str, lock: str, tmp_path: Path) -> None:
    """A full handshake, an old session, an open connection and a WebSocket of Bob's; by CRL and list, and by the list alone beside an old CRL."""
    with door(kind, tmp_path, last_words=1) as d:
        sessions = {version: d.open(d.bob, tls=version) for version in ("1.2", "1.3")}
        for version, line in sessions.items():
            assert line.ask(d.knock(d.bob, keep=True, tls=version)).status == 200
        talk = d.open(d.bob)
        assert talk.ask(d.knock(d.bob, path="/ws", headers=WEBSOCKET, keep=True)).status == 101
        hers = d.open(d.ann)
        assert hers.ask(d.knock(d.ann, keep=True)).status == 200

        d.publish(revoked=(d.bob,), crl=lock == "both")
        d.reload()
        # Old processes may take one more connection while they hear of the reload.
        wait_until(lambda: d.visit(d.bob).status != 200, "Bob is refused", 5)
        answer = refused(d, d.bob)
        if lock == "serial alone":
            assert answer.status == 403
            assert kind == "apache" or b"has been withdrawn" in answer.body
        for version, line in sessions.items():
            asked = len(d.app.seen)
            assert_refused(d, with_old_session(d, line, version), asked)
            kept = line.ask(d.knock(d.bob, keep=True))
            if kept.status == 200:
                # HAProxy's old process answers what is already on its way, once, and closes.
                assert kind == "haproxy"
                assert line.ends_within(3)
            line.close()
        assert talk.ends_within(8), "the WebSocket outlives the reload"
        talk.close()
        hers.close()
        assert d.visit(d.ann).status == 200
        assert d.visit(d.carl).status == 200


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_nginx_beside_a_careless_default_server(version: str, tmp_path: Path) -> None:
    """certbot's session lines and another CA in the default server of the socket: sessions do come back, and the lock by issuer + serial holds."""
    d = Door("nginx", tmp_path, {})
    mallory = make_pki("mallory")
    (tmp_path / "mallory.pem").write_bytes(mallory.chain_pem)
    careless = (
        f"server {{ listen 127.0.0.1:{d.port} ssl default_server; server_name public.example; ssl_certificate {d.files.chain}; "
        f"ssl_certificate_key {d.files.key}; ssl_session_cache shared:careless:1m; ssl_session_tickets off; ssl_protocols TLSv1.2 TLSv1.3; "
        f"ssl_client_certificate {tmp_path}/mallory.pem; ssl_verify_client optional; return 200 public; }}\n"
    )
    with backend() as d.app:
        d.publish()
        written = nginx.configuration(d.site(), read_files("/nginx.conf", {"/nginx.conf": f"http {{ {careless} }}"}))
        assert any("public.example) is the default server" in note and "ssl_session_cache off;" in note for note in written.notes)
        with servers.nginx(careless + written.whole, tmp_path, [d.port]) as d.server:
            # Mallory's certificate passes the default server's CA, and the site by its Host header: the hole without a name in the handshake.
            assert refused(d, mallory.client("ann"), sni="").status == 421
            assert refused(d, None, sni="").status == 403
            line = d.open(d.bob, tls=version)
            assert line.ask(d.knock(d.bob, keep=True)).status == 200
            line.close()
            d.publish(revoked=(d.bob,))
            d.reload()
            asked = len(d.app.seen)
            answer = with_old_session(d, line, version)
            assert_refused(d, answer, asked)
            if version == "1.3":  # under TLS 1.2 the site's own word counts
                assert answer.resumed
                assert answer.status == 403
                assert b"has been withdrawn" in answer.body


def test_apache_reads_the_list_again_without_a_reload(tmp_path: Path) -> None:
    with door("apache", tmp_path) as d:
        line = d.open(d.bob)
        assert line.ask(d.knock(d.bob, keep=True)).status == 200
        d.publish(revoked=(d.bob,), crl=False)
        start = time.monotonic()
        asked = len(d.app.seen)
        assert_refused(d, line.ask(d.knock(d.bob, keep=True)), asked)
        line.close()
        refused(d, d.bob)
        assert time.monotonic() - start < 5
        d.denied.clear()
        d.publish(crl=False)
        assert d.visit(d.bob).status == 200


@pytest.mark.parametrize("file", ["revoked.txt", "issuers.txt"])
def test_apache_lets_nobody_in_without_its_lists(file: str, tmp_path: Path) -> None:
    """It reads them at requests; a missing file must not pass for an empty one. Without the list of people there are logins, and no groups."""
    with door("apache", tmp_path) as d:
        assert d.visit(d.ann).status == 200
        (d.bundle / file).unlink()
        refused(d, d.ann)
        d.publish()
        assert d.visit(d.ann).status == 200
        (d.bundle / "people.txt").unlink()
        assert d.visit(d.ann).status == 200
        assert not d.app.last.get(headers.GROUPS)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("upstream", ["https://backend.example:8443", "http://[::1]:3000", "unix:/run/app.sock"])
def test_the_checkers_take_every_kind_of_address(kind: str, upstream: str, tmp_path: Path) -> None:
    d = Door(kind, tmp_path, {})
    d.app = Backend("http://127.0.0.1:1", ("127.0.0.1", 1))
    d.options = {"upstream": upstream, "listen": (f"{d.port}", f"[::]:{d.port}"), "plain": (f"{d.plain}", f"[::]:{d.plain}")}
    if upstream.startswith("https"):
        upstream_host_resolves = kind in ("apache", "caddy")  # the other two ask for its address when they start
        d.options["upstream"] = upstream if upstream_host_resolves else "https://localhost:8443"
    d.publish()
    kinds = {"nginx": servers.Nginx, "apache": servers.Apache, "haproxy": servers.HAProxy, "caddy": servers.Caddy}
    checked = kinds[kind](d.configuration().whole, tmp_path, [d.port]).check()
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("kind", SERVERS)
def test_groups_are_asked_of_the_bundle(kind: str, tmp_path: Path) -> None:
    with door(kind, tmp_path, groups=("all hands, on deck", "boss (acting) [x]|.*")) as d:
        assert d.visit(d.ann).status == 200
        answer = refused(d, d.bob)  # staff only
        assert answer.status == 403
        if kind != "apache":
            assert b"not open to the groups" in answer.body
        refused(d, d.carl)  # not in the list yet
        # Promoted, and after the next reload he is in.
        d.people = [p._replace(groups=("x", "boss (acting) [x]|.*")) if p.leaf is d.bob else p for p in d.people]
        d.people = [p._replace(groups=("all hands",)) if p.leaf is d.ann else p for p in d.people]
        d.publish()
        d.reload()
        wait_until(lambda: d.visit(d.bob).status == 200, "Bob is let in", 5)
        refused(d, d.ann)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_part_of_a_groups_name_is_not_the_group(kind: str, tmp_path: Path) -> None:
    with door(kind, tmp_path, groups=("sta",)) as d:
        refused(d, d.ann)
        refused(d, d.bob)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("origins", [(), ("https://www.example", "https://x.example:8443")])
def test_options_may_be_answered_without_the_app(kind: str, origins: tuple[str, ...], tmp_path: Path) -> None:
    with door(kind, tmp_path, static_options=True, origins=origins) as d:
        asked = len(d.app.seen)
        for origin in ("https://www.example", "https://evil.example", "https://www.example.evil.example", "https://wwwxexample"):
            for who in (None, d.ann):
                answer = d.visit(who, method="OPTIONS", headers=(("Origin", origin), ("Access-Control-Request-Headers", "x-one")))
                assert answer.status == 204, answer.face
                assert not answer.body, answer.face
                allowed = origin in origins
                assert answer.header("access-control-allow-origin") == (origin if allowed else ""), (origin, answer.headers)
                assert answer.header("access-control-allow-headers") == ("x-one" if allowed else "") or kind == "nginx"
        assert len(d.app.seen) == asked
        assert refused(d, None).status == 403
        refused(d, d.pki.foreign().client("ann"))
        refused(d, None, method="POST")
        assert d.visit(d.ann).status == 200
        refused(d, None, method="OPTIONS", sni="")


@pytest.mark.parametrize("kind", SERVERS)
def test_an_app_on_a_unix_socket(kind: str, tmp_path: Path) -> None:
    with door(kind, tmp_path, unix=True) as d:
        assert d.visit(d.ann, path="/x").status == 200
        assert d.app.last.get(headers.USER) == "ann"
        line = d.open(d.ann)
        assert line.ask(d.knock(d.ann, path="/ws", headers=WEBSOCKET, keep=True)).status == 101
        line.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_long_lists_lean_on_the_serial(kind: str, tmp_path: Path) -> None:
    """Beyond some thousand revoked certificates the CRL stays out of the handshake; the list alone shuts out Bob."""
    with door(kind, tmp_path, revoked=20_000, people=20_000) as d:
        text = d.configuration().whole
        assert "all.crl.pem" not in text
        assert kind == "caddy" or any("20000 certificates are revoked" in note for note in d.configuration().notes)
        assert kind != "caddy" or any("20000 lines" in note for note in d.configuration().notes)
        assert d.visit(d.bob).status == 200
        d.publish(revoked=(d.bob,))
        d.reload()
        wait_until(lambda: d.visit(d.bob).status == 403, "Bob is refused", 5)
        assert d.visit(d.ann).status == 200


ODD_NAMES = [
    "kitty-ca people",
    'Käse, "Söhne" & <Töchter>; #1+1=2 \\ $x {y} ~z | 100% \'q\'',
    "#kitty",
    "猫 CA/O=Evil, Inc.",
]


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_issuers_name_is_found_again(kind: str, name: str, tmp_path: Path) -> None:
    """Issuer + serial as the server prints them are the keys of the lists, whatever the name and however short the serial."""
    pki = make_pki(name)
    with contextlib.ExitStack() as stack:
        d = stack.enter_context(door(kind, tmp_path, pki=pki, groups=("staff",)))
        readable = kind != "caddy" or "{" not in name
        assert (d.visit(d.ann).status == 200) == readable  # in the list of people, under that key
        short = [_with_serial(d, login, serial) for login, serial in (("dora", 0x0A), ("emil", 0x0100), ("fred", 0xFF00FF))]
        d.people += [d.people[0]._replace(leaf=leaf) for leaf in short]
        d.publish()
        d.reload()
        if readable:
            for leaf in short:
                wait_until(lambda leaf=leaf: d.visit(leaf).status == 200, f"{leaf.name} is let in", 5)  # type: ignore[misc]
                assert d.app.last.get(headers.USER) == leaf.name
        d.publish(crl=False, revoked=(short[0], d.bob))
        d.reload()
        wait_until(lambda: d.visit(short[0]).status != 200, "dora is refused", 5)
        refused(d, d.bob)
        assert (d.visit(short[1]).status == 200) == readable


def _with_serial(d: Door, login: str, serial: int) -> Leaf:
    leaf = d.pki.client(login)
    made = leaf.certificate
    builder = x509.CertificateBuilder(made.issuer, made.subject, leaf.key.public_key(), serial)
    builder = builder.not_valid_before(made.not_valid_before_utc).not_valid_after(made.not_valid_after_utc)
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return leaf._replace(certificate=builder.sign(d.pki.issuing.key, hashes.SHA256()))


def test_identity_of_the_kit() -> None:
    leaf = make_pki().client("ann")
    assert identity(leaf).label == "ann"
