"""Private sites written by hand, as people write them: one good form for each server, and what must be changed to leave each hole open.

    with site(NGINX, tmp_path) as s:
        report = s.check()

The words between << and >> in a text can be replaced by name: `site(NGINX, tmp_path, sessions="ssl_session_cache shared:a:1m;")`.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gatekey.ports import SystemEntropy
from gatekey.webserver import check
from gatekey.webserver.check import Identities, Identity, Report, Target
from kit import servers
from kit.backend import Backend, backend
from kit.pki import Leaf, Pki, make_pki

HOST = "app.example"
SIBLING = "public.example"

_IDENTITY_HEADERS = (
    "X-Client-User", "X-Client-Groups", "X-SSL-Client-Verify", "X-WEBAUTH-USER", "Remote-User", "X-Forwarded-User", "Client-Cert", "X-Forwarded-Client-Cert",
)  # fmt: skip


class Text(NamedTuple):
    """A server's configuration with named parts. `main`: what nginx wants beside `http {}`."""

    kind: str
    text: str
    main: str = ""

    def filled(self, parts: dict[str, str], facts: dict[str, Any]) -> str:
        named = re.findall(r"<<(\w+):", self.text)
        assert parts.keys() <= {*named, "main"}, f"no such part: {parts.keys() - set(named)}"
        whole = re.sub(r"<<(\w+):(.*?)>>", lambda found: parts.get(found[1], found[2]), self.text, flags=re.DOTALL)
        return re.sub(r"@(\w+)@", lambda found: str(facts[found[1]]), whole)


NGINX = Text(
    "nginx",
    """
    <<http:ssl_protocols TLSv1.2 TLSv1.3;>>
    map $http_upgrade $upgrade { default upgrade; '' close; }
    <<default:server {
        listen 127.0.0.1:@port@ ssl default_server; listen [::1]:@port@ ssl default_server;
        ssl_reject_handshake on; ssl_session_cache off; ssl_session_tickets off;
    }>>
    <<sibling:server {
        listen 127.0.0.1:@port@ ssl; listen [::1]:@port@ ssl; server_name @sibling@;
        ssl_certificate @sibling_certificate@; ssl_certificate_key @sibling_key@;
        location / { default_type text/html; return 200 "<h1>Everybody may see this</h1> Nothing of it is private."; }
    }>>
    <<plain:server { listen 127.0.0.1:@plain@; server_name @host@; return 301 https://$host$request_uri; }>>
    server {
        listen 127.0.0.1:@port@ ssl; <<ipv6:listen [::1]:@port@ ssl;>> <<ports:>>
        server_name @host@;
        ssl_certificate @certificate@; ssl_certificate_key @key@;
        <<trust:ssl_client_certificate @chain@;>>
        <<crl:ssl_crl @crl@;>>
        <<verify:ssl_verify_client on;>> ssl_verify_depth 2;
        <<sessions:ssl_session_cache off; ssl_session_tickets off;>>
        <<rule:>>
        <<errors:error_page 495 496 = @nocert;
        location @nocert { default_type text/html; return 403 "<h1>You need a certificate</h1> Ask your administrator for one."; }>>
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $upgrade;
        """
    + "\n        ".join(f'proxy_set_header {name} "{"$ssl_client_s_dn" if name == "X-Client-User" else ""}";' for name in _IDENTITY_HEADERS)
    + """
        <<locations:location / { proxy_pass @app@; }>>
    }
    """,
    main="worker_shutdown_timeout 1s;",
)

APACHE = Text(
    "apache",
    """
    Listen 127.0.0.1:@port@ https
    Listen [::1]:@port@ https
    Listen 127.0.0.1:@plain@ http
    GracefulShutdownTimeout 1
    SSLProtocol -all +TLSv1.2 +TLSv1.3
    <<cache:SSLSessionCache none>>
    SSLStrictSNIVHostCheck on
    TraceEnable off
    <VirtualHost *:@plain@>
        ServerName @host@
        Redirect permanent / https://@host@:@port@/
    </VirtualHost>
    <VirtualHost *:@port@>
        ServerName @host@
        SSLEngine on
        SSLCertificateFile @certificate@
        SSLCertificateKeyFile @key@
        SSLCACertificateFile @chain@
        SSLCARevocationFile @crl@
        <<crl:SSLCARevocationCheck chain>>
        <<verify:SSLVerifyClient require>>
        SSLVerifyDepth 2
        <<sessions:SSLSessionTickets off>>
        """
    + "\n        ".join(f"RequestHeader unset {name} early" for name in (*_IDENTITY_HEADERS, "X_Client_User"))
    + """
        RequestHeader set X-Client-User "expr=%{SSL_CLIENT_S_DN_CN}"
        <<rule:>>
        ProxyPass / @app@/ upgrade=websocket
    </VirtualHost>
    <VirtualHost *:@port@>
        ServerName @sibling@
        SSLEngine on
        SSLCertificateFile @sibling_certificate@
        SSLCertificateKeyFile @sibling_key@
        SSLSessionTickets off
        Redirect 404 /
        ErrorDocument 404 "<h1>Everybody may see this</h1> Nothing of it is private."
    </VirtualHost>
    """,
)

HAPROXY = Text(
    "haproxy",
    """
global
    tune.ssl.cachesize 0
    ssl-default-bind-options ssl-min-ver TLSv1.2 <<sessions:no-tls-tickets>>
    hard-stop-after 1s
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 5s
    timeout tunnel 1m
    option http-keep-alive
frontend plain
    bind 127.0.0.1:@plain@
    http-request redirect location https://@host@:@port@%[capture.req.uri] code 301
frontend private
    <<bind:bind 127.0.0.1:@port@ ssl crt @combined@ ca-file @chain@ crl-file @crl@ verify required strict-sni
    bind [::1]:@port@ ssl crt @combined@ ca-file @chain@ crl-file @crl@ verify required strict-sni>>
    <<rule:http-request deny deny_status 421 if !{ ssl_fc_sni,lower -m str @host@ }>>
"""
    + "\n".join(f"    http-request del-header {name}" for name in _IDENTITY_HEADERS)
    + """
    <<lookalike:http-request del-header X_Client_User>>
    http-request set-header X-Client-User %[ssl_c_s_dn(cn)]
    default_backend app
backend app
    server app @bare@
""",
)

STARTERS = {"nginx": servers.Nginx, "apache": servers.Apache, "haproxy": servers.HAProxy}


class Site:
    """A running site with everybody who may knock at it."""

    def __init__(self, text: Text, folder: Path, parts: dict[str, str]) -> None:
        self.text, self.folder, self.parts = text, folder, parts
        self.pki: Pki = make_pki()
        self.servers_pki: Pki = make_pki("kitty-ca servers")
        self.foreign_pki = self.pki.foreign()
        self.leaf = self.servers_pki.server(HOST)
        self.ann, self.bob, self.canary = (self.pki.client(login) for login in ("ann", "bob", "gatekey-probe"))
        self.foreign = self.foreign_pki.client("ann")
        self.pki.revoke(self.bob)
        self.port, self.plain, self.other = servers.free_ports(3)
        self.app: Backend | None = None
        self.server: Any = None
        (folder / "people-chain.pem").write_bytes(self.pki.chain_pem)
        (folder / "foreign-chain.pem").write_bytes(self.foreign_pki.chain_pem)
        self.publish()

    def publish(self, *, root: str = "fresh", issuing: str = "fresh") -> None:
        """Writes the CRLs, each in one of the states of `kit.pki.CRL_STATES`."""
        (self.folder / "all.crl.pem").write_bytes(self.pki.crls(root=root, issuing=issuing))

    def revoke(self) -> None:
        """Takes the canary away the way an administrator does: CRL, reload."""
        self.pki.revoke(self.canary)
        self.publish()
        self.server.reload()

    def facts(self) -> dict[str, Any]:
        assert self.app is not None
        files = self.leaf.write(self.folder, HOST)
        public = self.servers_pki.server(SIBLING).write(self.folder, SIBLING)
        return {
            "host": HOST, "sibling": SIBLING, "port": self.port, "plain": self.plain, "other": self.other, "app": self.app.url,
            "bare": self.app.url.removeprefix("http://"), "certificate": files.chain, "key": files.key, "combined": files.combined,
            "chain": self.folder / "people-chain.pem", "foreign": self.folder / "foreign-chain.pem", "crl": self.folder / "all.crl.pem",
            "folder": self.folder, "sibling_certificate": public.chain, "sibling_key": public.key, "sibling_combined": public.combined, "nocert": "@nocert",
        }  # fmt: skip

    @property
    def identities(self) -> Identities:
        return Identities(
            good=identity(self.ann, "the good certificate"),
            expired=identity(self.pki.client("eve", expired=True), "an expired certificate"),
            revoked=identity(self.bob, "a revoked certificate"),
            server=identity(self.servers_pki.server("other.example"), "a web server's certificate"),
            wrong_usage=identity(self.pki.server("other.example"), "a certificate for servers only"),
            foreign=identity(self.foreign, "another authority's certificate"),
            canary=identity(self.canary, "the certificate that is revoked"),
        )

    @property
    def target(self) -> Target:
        """Every port and address of this site and no others: other tests run on the same machine."""
        return Target(
            HOST, self.port, address="127.0.0.1", address6="::1", http_port=self.plain, app_ports=(self.other,), tls_ports=(self.other,),
            siblings=(SIBLING,), roots=self.servers_pki.root.pem, closing=4.0, patience=15.0,
        )  # fmt: skip

    def check(self, *, only: Sequence[str] = (), revoke: bool = False, **changes: Any) -> Report:
        """The report on this site; `changes` are fields of Target. `revoke`: the canary is really taken away."""
        target = self.target._replace(**changes)
        entropy = SystemEntropy()
        return check.run(
            target, self.identities, only=only, now=int(time.time()), entropy=entropy, revoke=self.revoke if revoke else None, bundle=self.folder
        )


@contextlib.contextmanager
def site(
    text: Text, folder: Path, *, states: dict[str, str] | None = None, prepare: Callable[[Site], None] | None = None, **parts: str
) -> Iterator[Site]:
    """A running site. `states`: those of the CRLs that it starts with (`root`, `issuing`); `parts`: what stands in the text instead of its good form.

    `prepare` writes further files that the text names.
    """
    s = Site(text, folder, parts)
    s.publish(**(states or {}))
    with backend() as app:
        s.app = app
        if prepare:
            prepare(s)
        filled = text.filled({key: value for key, value in parts.items() if key != "main"}, s.facts())
        server: Any = STARTERS[text.kind](filled, folder, [s.port, s.plain])
        server.main = parts.get("main", text.main)
        server.write(filled)
        s.server = server
        try:
            server.start()
            yield s
        finally:
            if hasattr(server, "process"):
                server.stop()


def identity(leaf: Leaf, label: str) -> Identity:
    return Identity(leaf.chain_pem, leaf.key_pem, label)
