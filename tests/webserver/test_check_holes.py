"""Every hole of the field, left open on purpose in a real server, and exactly what the check says of it.

Each case is a good site with one thing changed. The set of what is open, and the set of what cannot be told, are compared for equality: a hole that is
overlooked fails, and so does an alarm too many. What nobody can tell without a certificate that may be revoked is in `NO_CANARY`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatekey.webserver.report import OPEN, SHUT
from kit.broken import APACHE, HAPROXY, HOST, NGINX, Site, Text, site
from kit.pki import Leaf, make_pki

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: What stays untold when nothing is revoked during the check: a WebSocket, the time, an open connection.
NO_CANARY = {21, 33, 34}
#: What is open as well when anybody gets in without a certificate.
ANYBODY = {1, 14, 19, 20, 21, 23, 24, 36}
#: What cannot be told when the good certificate is refused, too.
LOCKED_OUT = {3, 4, 5, 6, 7, 8, 21, 22, 27, 28, 33, 34, 36}

_TLS = "ssl_certificate @certificate@; ssl_certificate_key @key@;"
_SIBLING_TLS = "ssl_certificate @sibling_certificate@; ssl_certificate_key @sibling_key@;"
_BOTH = "listen 127.0.0.1:@port@ ssl default_server; listen [::1]:@port@ ssl default_server;"
_NO_DEFAULT = {"default": "", "sibling": ""}


def _haproxy_bind(options: str) -> str:
    return "\n    ".join(f"bind {address}:@port@ ssl crt @combined@ ca-file @chain@ crl-file @crl@ strict-sni {options}" for address in ("127.0.0.1", "[::1]"))


def _crt_list(site: Site) -> None:
    """HAProxy's own way to ask for certificates under one name and not under another."""
    facts = site.facts()
    rules = f"[verify required ca-file {facts['chain']} crl-file {facts['crl']}]"
    (site.folder / "crt-list").write_text(f"{facts['sibling_combined']}\n{facts['combined']} {rules} {facts['host']}\n")


_CRT_LIST = "\n    ".join(f"bind {address}:@port@ ssl crt-list @folder@/crt-list strict-sni" for address in ("127.0.0.1", "[::1]"))
_PUBLIC_PAGE = "http-request return status 200 content-type text/html string '<h1>Everybody may see this</h1> Nothing of it.' if { ssl_fc_sni @sibling@ }"


def _ticket_key(size: int) -> Callable[[Site], None]:
    def write(site: Site) -> None:
        (site.folder / "ticket.key").write_bytes(os.urandom(size))

    return write


def _ticket_keys(site: Site) -> None:
    (site.folder / "tickets").write_text("".join(base64.b64encode(os.urandom(48)).decode() + "\n" for _ in range(3)))


def _leaf(site: Site, leaf: Leaf) -> None:
    site.leaf = leaf


def _strangers(site: Site) -> None:
    (site.folder / "foreign-chain.pem").write_bytes(make_pki("somebody else").chain_pem)


def _many(site: Site) -> None:
    (site.folder / "many.pem").write_bytes(site.pki.chain_pem + make_pki("somebody else").chain_pem)


class Hole(NamedTuple):
    """A broken site. `opened`, `untold`: numbers of checks. `said`: words that must stand in what is said of a check. `prepare`: further files."""

    text: Text
    parts: dict[str, str]
    opened: set[int]
    untold: set[int] = NO_CANARY
    states: dict[str, str] | None = None
    revoke: bool = False
    prepare: Callable[[Site], None] | None = None
    target: Callable[[Site], dict[str, Any]] = lambda _: {}
    said: tuple[tuple[int, str], ...] = ()
    only: tuple[str, ...] = ()


HOLES = {
    "nginx: shared session cache in the site": Hole(
        NGINX, {**_NO_DEFAULT, "sessions": "ssl_session_cache shared:a:1m; ssl_session_tickets off;"}, {7, 8}, set(), revoke=True,
        said=((7, "TLS 1.2: a session"), (7, "TLS 1.3: a session"), (8, "TLS 1.2")),
    ),
    "nginx: shared session cache in the default server": Hole(
        NGINX,
        {
            "default": f"server {{ {_BOTH} server_name @sibling@; {_SIBLING_TLS} return 200 'Public.';"
            "ssl_session_cache shared:a:1m; ssl_session_tickets off; }",
            "sibling": "",
        },
        {7, 8}, set(), revoke=True, said=((7, "TLS 1.3: a session"), (8, "TLS 1.3")),
    ),
    "nginx: a ticket key in a file": Hole(
        NGINX, {**_NO_DEFAULT, "sessions": "ssl_session_cache off; ssl_session_ticket_key @folder@/ticket.key;"}, {7, 8}, set(), revoke=True,
        prepare=_ticket_key(80), said=((7, "TLS 1.2: a session"), (7, "TLS 1.3: a session")),
    ),
    "Apache: a ticket key in a file": Hole(
        APACHE, {"sessions": "SSLSessionTicketKeyFile @folder@/ticket.key"}, {7, 8}, set(), revoke=True, prepare=_ticket_key(48), only=("7", "8"),
        said=((7, "TLS 1.2: a session"), (7, "TLS 1.3: a session")),
    ),
    "Apache: Debian's session cache, which a reload empties": Hole(
        APACHE, {"sessions": "", "cache": "SSLSessionCache shmcb:@folder@/cache(512000)"}, set(), {8}, revoke=True, only=("7", "8"),
    ),
    "HAProxy: sessions as they come, which a reload empties": Hole(HAPROXY, {"sessions": ""}, set(), {8}, revoke=True),
    "HAProxy: ticket keys in a file": Hole(
        HAPROXY, {"sessions": "", "bind": _haproxy_bind("verify required tls-ticket-keys @folder@/tickets")}, {7, 8}, set(), revoke=True, prepare=_ticket_keys,
    ),
    "nginx: no SNI, and the default server trusts others": Hole(
        NGINX,
        {
            "default": f"server {{ {_BOTH} server_name b.example; {_SIBLING_TLS} return 200 'Theirs.';"
            "ssl_client_certificate @foreign@; ssl_verify_client on; }",
        },
        {11, 12, 13}, said=((11, "the site itself answers"),),
    ),
    "HAProxy: SNI of the public site, Host of the private one": Hole(HAPROXY, {"bind": _CRT_LIST, "rule": ""}, {10}, prepare=_crt_list),
    "HAProxy: the same, mended": Hole(
        HAPROXY,
        {
            "bind": _CRT_LIST,
            "rule": "http-request deny deny_status 421 if !{ ssl_fc_sni,lower -m str @host@ } { req.hdr(host),host_only,lower -m str @host@ }\n    "
            "http-request deny deny_status 403 if !{ ssl_fc_sni,lower -m str @host@ } !{ req.hdr(host),host_only,lower -m str @sibling@ }\n    " + _PUBLIC_PAGE,
        },
        set(), prepare=_crt_list,
    ),
    "HAProxy: the same, mended for one way of writing the Host": Hole(
        HAPROXY,
        {
            "bind": _CRT_LIST,
            "rule": "http-request deny deny_status 421 if !{ ssl_fc_sni,lower -m str @host@ } { hdr(host) -m str @host@:@port@ }\n    "
            + _PUBLIC_PAGE.replace("{ ssl_fc_sni @sibling@ }", "{ hdr(host) @sibling@:@port@ }"),
        },
        {10}, prepare=_crt_list,
    ),
    "nginx: asked in one location only": Hole(
        NGINX,
        {
            "verify": "ssl_verify_client optional;",
            "locations": "location / { if ($ssl_client_verify != SUCCESS) { return 403; } proxy_pass @app@; } location /api/ { proxy_pass @app@; }",
        },
        {19}, said=((19, "HTTP 200"),),
    ),
    "nginx: one method let through": Hole(
        NGINX,
        {
            "verify": "ssl_verify_client optional;",
            "rule": "set $refuse $ssl_client_verify; if ($request_method = POST) { set $refuse SUCCESS; } if ($refuse != SUCCESS) { return 403; }",
        },
        {20}, said=((20, "POST"),),
    ),
    "nginx: if FAILED": Hole(
        NGINX, {"verify": "ssl_verify_client optional;", "rule": "if ($ssl_client_verify = FAILED) { return 403; }"}, ANYBODY | {9, 17}, {33, 34},
    ),
    "nginx: optional_no_ca": Hole(NGINX, {"verify": "ssl_verify_client optional_no_ca;", "crl": ""}, ANYBODY | {3, 4, 6, 9, 17}, {33, 34}),
    "HAProxy: optional, and nobody looks": Hole(HAPROXY, {"bind": _haproxy_bind("verify optional")}, ANYBODY | {17}, {33, 34}),
    "nginx: error_page =200 to the app": Hole(
        NGINX, {"errors": "error_page 495 496 =200 /welcome;"}, (ANYBODY - {21}) | {3, 4, 5, 6, 9, 17, 27, 28}, NO_CANARY,
        target=lambda _: {"patience": 2.0},
    ),
    "nginx: a CRL that has ended": Hole(
        NGINX, {}, {2, 32}, LOCKED_OUT, states={"issuing": "expired"}, revoke=True, said=((32, "ended on"), (2, "nobody gets in")),
    ),
    "nginx: the root's CRL is missing": Hole(NGINX, {}, {2, 32}, LOCKED_OUT, states={"root": "missing"}, revoke=True, said=((32, "there is no CRL"),)),
    "Apache: a CRL of another authority": Hole(APACHE, {}, {2, 32}, LOCKED_OUT, states={"issuing": "foreign"}, said=((32, "there is no CRL"),)),
    "HAProxy: a CRL with a bad signature": Hole(HAPROXY, {}, {2, 32}, LOCKED_OUT, states={"issuing": "bad-signature"}, said=((32, "not signed by it"),)),
    "HAProxy: a CRL from the future": Hole(HAPROXY, {}, {2, 32}, LOCKED_OUT, states={"root": "not-yet"}, said=((32, "a clock is wrong"),)),
    "Apache: revocation is not checked": Hole(APACHE, {"crl": ""}, {6}),
    "Apache: revocation is not checked, seen by a canary": Hole(
        APACHE, {"crl": ""}, {6, 33}, {7}, revoke=True, only=("6", "7", "33"), said=((33, "still let in"),),
    ),
    "Apache: the certificate is asked for in a Location": Hole(
        APACHE, {"verify": "", "rule": "<Location />\nSSLVerifyClient require\n</Location>"}, {2, 25, 30}, LOCKED_OUT,
    ),
    "HAProxy: errors are ignored": Hole(
        HAPROXY, {"bind": _haproxy_bind("verify required ca-ignore-err all crt-ignore-err all")}, {3, 4, 5, 6, 17, 24, 27, 28},
    ),
    "nginx: plain HTTP is open": Hole(NGINX, {"plain": "server { listen 127.0.0.1:@plain@; server_name @host@; location / { proxy_pass @app@; } }"}, {15}),
    "nginx: plain HTTP leads elsewhere": Hole(NGINX, {"plain": "server { listen 127.0.0.1:@plain@; return 301 https://old.example/; }"}, {15}),
    "nginx: the app's own port is open": Hole(NGINX, {}, {16}, target=lambda s: {"app_ports": (s.app.address[1],)} if s.app else {}),
    "nginx: another TLS port is open": Hole(
        NGINX, {"sibling": f"server {{ listen 127.0.0.1:@other@ ssl; server_name @host@; {_TLS} location / {{ proxy_pass @app@; }} }}"}, {18},
        target=lambda _: {"app_ports": (1,)},
    ),
    "nginx: IPv6 is open": Hole(
        NGINX,
        {
            "ipv6": "", "sibling": "",
            "default": "server { listen 127.0.0.1:@port@ ssl default_server; ssl_reject_handshake on; ssl_session_cache off; ssl_session_tickets off; } "
            f"server {{ listen [::1]:@port@ ssl; server_name @host@; {_TLS} location / {{ proxy_pass @app@; }} }}",
        },
        {17},
    ),
    "nginx: made-up headers come through in one location": Hole(
        NGINX, {"locations": "location / { proxy_pass @app@; } location /api/ { proxy_set_header X-Thing 1; proxy_pass @app@; }"}, {22},
        said=((22, "/api/: X-Client-User"),),
    ),
    "HAProxy: a look-alike header comes through": Hole(HAPROXY, {"lookalike": ""}, {22}, said=((22, "/: X_Client_User from"),)),
    "nginx: a WebSocket survives the reload": Hole(NGINX, {"main": ""}, {21}, set(), revoke=True, target=lambda _: {"closing": 2.0}),
    "Apache: a WebSocket survives a graceful restart": Hole(APACHE, {}, {21}, set(), revoke=True, target=lambda _: {"closing": 2.0}),
    "nginx: no names of authorities": Hole(
        NGINX,
        {
            "trust": "ssl_trusted_certificate @chain@;",
            "verify": "ssl_verify_client optional_no_ca;",
            "rule": "if ($ssl_client_verify != SUCCESS) { return 403; }",
        },
        {25}, said=((25, "every certificate they have"),),
    ),
    "Apache: names of others only": Hole(
        APACHE, {"rule": "SSLCADNRequestFile @foreign@"}, {25}, prepare=_strangers, said=((25, "is not named"),),
    ),
    "nginx: names of others, too": Hole(
        NGINX, {"trust": "ssl_client_certificate @folder@/many.pem;"}, {25}, prepare=_many, said=((25, "somebody else"),),
    ),
    "nginx: a certificate for another name": Hole(
        NGINX, {}, {26}, prepare=lambda s: _leaf(s, s.servers_pki.server("www.example")), said=((26, "it is not for app.example, only for www.example"),),
    ),
    "nginx: a certificate that ends soon": Hole(
        NGINX, {}, {26}, prepare=lambda s: _leaf(s, s.servers_pki.server(HOST, days=6)), said=((26, "it ends on"),),
    ),
    "nginx: a certificate that has ended": Hole(
        NGINX, {}, {26}, prepare=lambda s: _leaf(s, s.servers_pki.server(HOST, expired=True)), said=((26, "it ended on"),),
    ),
    "nginx: a certificate for ten years": Hole(
        NGINX, {}, {26}, prepare=lambda s: _leaf(s, s.servers_pki.server(HOST, days=3650)), said=((26, "browsers take at most 825"),),
    ),
    "nginx: a certificate without its issuer": Hole(
        NGINX, {}, {26}, prepare=lambda s: _leaf(s, s.leaf._replace(issuers=())), said=((26, "the chain does not hold"),),
    ),
    "nginx: HTTP/2 under a wildcard": Hole(
        NGINX, {"default": f"server {{ {_BOTH.replace('ssl', 'ssl http2')} ssl_reject_handshake on; ssl_session_cache off; ssl_session_tickets off; }}"}, {31},
        prepare=lambda s: _leaf(s, s.servers_pki.server(HOST, "*.example")), said=((31, "*.example"),),
    ),
    "nginx: a cache keeps private pages": Hole(
        NGINX,
        {
            "http": "ssl_protocols TLSv1.2 TLSv1.3; proxy_cache_path @folder@/cache keys_zone=kept:1m;",
            "locations": "location / { proxy_pass @app@; proxy_cache kept; proxy_cache_valid 200 1m; proxy_ignore_headers Set-Cookie Vary; "
            "add_header X-Cache-Status $upstream_cache_status; }",
        },
        {36}, {33, 34}, said=((36, "x-cache-status: HIT"),),
    ),
    "nginx: 0-RTT": Hole(
        NGINX, {"http": "ssl_protocols TLSv1.2 TLSv1.3; ssl_early_data on;", **_NO_DEFAULT, "sessions": ""}, {8, 29}, NO_CANARY | {7},
        said=((29, "0-RTT"),),
    ),
    "nginx: no TLS 1.3": Hole(NGINX, {"http": "ssl_protocols TLSv1.2;"}, {29}, said=((29, "TLS 1.3 is not spoken"),)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    hole = HOLES[name]
    with site(hole.text, tmp_path, states=hole.states, prepare=hole.prepare, **hole.parts) as s:
        report = s.check(revoke=hole.revoke, only=hole.only, **hole.target(s))
    words = "\n".join(f"{o.number} {o.verdict}: {o.said} <- {o.request}" for o in report.outcomes if o.verdict != "pass")
    assert {*report.opened, *report.shut} == hole.opened, words
    assert report.shut == tuple({2} & hole.opened), words
    assert set(report.unsure) == hole.untold, words
    assert report.exit_code == (1 if hole.opened else 0)
    assert report.seconds < 15
    by_number = {outcome.number: outcome for outcome in report.outcomes}
    for number, piece in hole.said:
        assert piece in by_number[number].said, words
    for outcome in report.outcomes:
        assert bool(outcome.fixes) == (outcome.verdict in (OPEN, SHUT))
        if outcome.fixes:
            assert outcome.fix(report.server), outcome
            assert not outcome.follows or outcome.follows in hole.opened
