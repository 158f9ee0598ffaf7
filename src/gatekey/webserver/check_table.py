"""The checks as a table, long because each row is all that people read: what is tried, what must happen, how it looks when open, and the line that mends it."""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """One row. `fixes`: server -> line; `any` stands for every server. `after`: checks whose failure explains this one too."""

    number: int
    name: str
    title: str
    must: str
    looks: str
    fixes: dict[str, str]
    after: tuple[int, ...] = ()


_REQUIRE = {
    "nginx": "ssl_verify_client on;",
    "apache": "SSLVerifyClient require  # in the VirtualHost, never in a Location",
    "haproxy": "bind ... verify required  # or optional with: http-request deny if !{ ssl_c_used } or !{ ssl_c_verify 0 }",
    "caddy": "client_auth { mode require_and_verify }",
    "traefik": "clientAuth.clientAuthType: RequireAndVerifyClientCert",
    "envoy": "require_client_certificate: true",
}
_TRUST = {
    "nginx": "ssl_verify_client on; ssl_client_certificate people-chain.pem;  # never optional_no_ca",
    "apache": "SSLVerifyClient require and SSLCACertificateFile people-chain.pem  # never optional_no_ca",
    "haproxy": "bind ... ca-file people-chain.pem verify required  # without ca-ignore-err and crt-ignore-err",
    "caddy": "client_auth { mode require_and_verify; trusted_ca_cert_file people-chain.pem }  # never request or require_any",
    "traefik": "clientAuthType: RequireAndVerifyClientCert with caFiles: [people-chain.pem]",
    "envoy": "validation_context: trusted_ca people-chain.pem, no trust_chain_verification: ACCEPT_UNTRUSTED",
}
_CRL = {
    "nginx": "ssl_crl all.crl.pem; and after every revocation: systemctl reload nginx  # gatekey agent does it by itself",
    "apache": "SSLCARevocationFile all.crl.pem and SSLCARevocationCheck chain  # without the second line the first does nothing",
    "haproxy": "bind ... crl-file all.crl.pem, without crt-ignore-err",
    "caddy": "has no CRL: lock by issuer and serial, or ask the decision endpoint with forward_auth",
    "traefik": "has no CRL: ask the decision endpoint with forwardAuth",
    "envoy": "validation_context: crl: all.crl.pem",
}
_NO_SESSIONS = {
    "nginx": "ssl_session_cache off; ssl_session_tickets off;  # also in the default_server of the same socket; no ssl_session_ticket_key",
    "apache": "SSLSessionCache none and SSLSessionTickets off; no SSLSessionTicketKeyFile",
    "haproxy": "global: tune.ssl.cachesize 0 and ssl-default-bind-options no-tls-tickets; no tls-ticket-keys",
    "caddy": "lock by issuer and serial at each request; in JSON: apps.tls.session_tickets.disabled",
    "traefik": "disableSessionTickets: true in the TLS options",
    "envoy": "disable_stateless_session_resumption: true and disable_stateful_session_resumption: true",
}
_BY_NAME = {
    "nginx": "server { listen 443 ssl default_server; ssl_reject_handshake on; }  # on every listen socket",
    "apache": "SSLStrictSNIVHostCheck on, and the first VirtualHost of the address denies all",
    "haproxy": "bind ... strict-sni and: http-request deny deny_status 421 if !{ ssl_fc_sni,lower -m str SITE }",
    "caddy": "servers { strict_sni_host on }",
    "traefik": "sniStrict: true, and clientAuth in the options called default",
    "envoy": "filter_chain_match: server_names [SITE], and no default_filter_chain",
}
_EVERYWHERE = {
    "nginx": "put the rule into server { }, not into a location: if ($ssl_client_verify != SUCCESS) { return 403; }",
    "apache": "put SSLVerifyClient and Require into the VirtualHost, not into a Location or Directory",
    "haproxy": "http-request deny before every use_backend, without a path or method in its condition",
    "caddy": "client_auth belongs to the site, not to a handle or route",
    "traefik": "put the TLS options on the router of the whole host",
    "envoy": "require_client_certificate in the filter chain, not in a route",
}
_HEADERS = {
    "nginx": "all proxy_set_header lines of gatekey webserver nginx, in every location that has one of its own; underscores_in_headers off;",
    "apache": "RequestHeader unset NAME early for each identity header and its look-alikes with _, then set",
    "haproxy": "http-request del-header NAME for each identity header and its look-alikes with _, then set-header, unconditionally",
    "caddy": "request_header -NAME for each identity header and its look-alikes with _, then set",
    "traefik": "headers middleware with customRequestHeaders: NAME: '' in front of passTLSClientCert",
    "envoy": "forward_client_cert_details: SANITIZE_SET and request_headers_to_remove",
}
_END_OLD = {
    "nginx": "worker_shutdown_timeout 10s;",
    "apache": "apache2ctl -k restart after a revocation: a graceful restart leaves open WebSockets and downloads alone",
    "haproxy": "global: hard-stop-after 10s",
    "caddy": "grace_period 10s",
    "traefik": "transport.lifeCycle.graceTimeOut: 10s",
    "envoy": "drain_timeout: 10s and max_connection_duration",
}
_LOOPBACK = {"any": "let the app listen on 127.0.0.1 or a Unix socket, and close its port in the firewall"}

CHECKS: tuple[Check, ...] = (
    Check(
        1,
        "no-certificate",
        "without a certificate",
        must="an alert, or a refusal that is not the app's",
        looks="the page comes",
        fixes=_REQUIRE,
    ),
    Check(
        2,
        "good-certificate",
        "with a good certificate",
        must="the app answers",
        looks="everybody is refused: a CRL is missing or has ended, or the chain is not complete",
        fixes={
            "nginx": "root and issuing authority in ssl_client_certificate, a fresh CRL of both in ssl_crl; then reload",
            "apache": "root and issuing authority in SSLCACertificateFile, a fresh CRL of both in SSLCARevocationFile; then graceful",
            "haproxy": "root and issuing authority in ca-file, a fresh CRL of both in crl-file; then reload",
            "caddy": "root and issuing authority in trusted_ca_cert_file",
            "traefik": "root and issuing authority in clientAuth.caFiles",
            "envoy": "root and issuing authority in trusted_ca, a fresh CRL of both in crl",
        },
    ),
    Check(
        3,
        "foreign-authority",
        "with another authority's certificate, same names",
        must="refused",
        looks="a certificate of anybody's making gets in",
        fixes=_TRUST,
    ),
    Check(
        4,
        "self-signed",
        "with a self-signed certificate",
        must="refused",
        looks="a certificate of anybody's making gets in",
        fixes=_TRUST,
    ),
    Check(
        5,
        "expired",
        "with an expired certificate",
        must="refused",
        looks="an old certificate gets in for ever",
        fixes=_TRUST,
    ),
    Check(
        6,
        "revoked",
        "with a revoked certificate",
        must="refused",
        looks="a lost laptop gets in",
        fixes=_CRL,
    ),
    Check(
        7,
        "revoked-resumed",
        "with a TLS session from before the revocation",
        must="refused",
        looks="a revoked person stays in as long as the session lasts, maybe for ever",
        fixes=_NO_SESSIONS,
    ),
    Check(
        8,
        "resumption",
        "resuming a TLS session",
        must="a full handshake each time",
        looks="the certificate is not looked at again when a session is resumed",
        fixes=_NO_SESSIONS,
    ),
    Check(
        9,
        "other-session",
        "with a TLS session of another site on this server",
        must="refused, or a full handshake",
        looks="who is known next door is let in here",
        fixes={
            "nginx": "nginx 1.27.4 or a distribution's patched one; ssl_session_tickets off;",
            "apache": "httpd 2.4.64 or later",
            "any": "switch session resumption off on every site of the server",
        },
        after=(1,),
    ),
    Check(
        10,
        "other-sni",
        "SNI of another site on this server, Host of this one",
        must="421 or another refusal",
        looks="the other site's handshake asks for no certificate, and then this site answers",
        fixes=_BY_NAME,
        after=(1,),
    ),
    Check(
        11,
        "no-sni",
        "no SNI",
        must="the handshake is refused",
        looks="the default site's rules count instead of this one's",
        fixes=_BY_NAME,
        after=(1,),
    ),
    Check(
        12,
        "unknown-sni",
        "SNI of a name that nobody has",
        must="the handshake is refused",
        looks="the default site's rules count instead of this one's",
        fixes=_BY_NAME,
        after=(1, 11),
    ),
    Check(
        13,
        "bare-address",
        "by the bare IP address",
        must="refused",
        looks="the default site's rules count instead of this one's",
        fixes=_BY_NAME,
        after=(1, 11),
    ),
    Check(
        14,
        "odd-host",
        "Host in odd forms",
        must="refused, or 400",
        looks="a rule that compares the name as text is walked around",
        fixes=_EVERYWHERE,
        after=(1,),
    ),
    Check(
        15,
        "plain-http",
        "over plain HTTP",
        must="a redirect to https on the same host, or nothing",
        looks="the app answers without TLS",
        fixes={
            "nginx": "server { listen 80; server_name SITE; return 301 https://$host$request_uri; }",
            "apache": "<VirtualHost *:80> Redirect permanent / https://SITE/",
            "haproxy": "http-request redirect scheme https code 301 unless { ssl_fc }",
            "caddy": "leave http:// to Caddy: it redirects by itself",
            "traefik": "entryPoints.web.http.redirections.entryPoint.to: websecure",
            "envoy": "https_redirect: true in the virtual host of port 80",
        },
    ),
    Check(
        16,
        "app-port",
        "the app's own port",
        must="closed from outside",
        looks="the app answers whoever knows its port, with any identity header",
        fixes=_LOOPBACK,
    ),
    Check(
        17,
        "ipv6",
        "over IPv6",
        must="the same as over IPv4",
        looks="the IPv6 socket belongs to another server block",
        fixes={
            "nginx": "listen [::]:443 ssl; in the same server block",
            "apache": "Listen [::]:443 and <VirtualHost *:443>",
            "haproxy": "bind :::443 v4v6 ssl ... with the same options",
            "any": "the same rules for the IPv6 address, or no AAAA record",
        },
        after=(1, 3),
    ),
    Check(
        18,
        "other-port",
        "other TLS ports and HTTP/3",
        must="the same, or closed",
        looks="another port has other rules",
        fixes={"any": "the same server block for every port, or close the port; HTTP/3 off"},
        after=(1,),
    ),
    Check(
        19,
        "paths",
        "every path without a certificate",
        must="refused, but for what is open on purpose",
        looks="one path was forgotten",
        fixes=_EVERYWHERE,
        after=(1,),
    ),
    Check(
        20,
        "methods",
        "every method without a certificate",
        must="refused; OPTIONS may be an empty 204",
        looks="one method was forgotten",
        fixes=_EVERYWHERE,
        after=(1,),
    ),
    Check(
        21,
        "websocket",
        "a WebSocket without a certificate, and one open at a revocation",
        must="refused; ended within seconds",
        looks="a revoked person keeps the connection",
        fixes=_END_OLD,
        after=(1,),
    ),
    Check(
        22,
        "header-spoofing",
        "identity headers made up by a visitor",
        must="the own name wins everywhere",
        looks="a visitor is whoever he says he is",
        fixes=_HEADERS,
    ),
    Check(
        23,
        "spoofing-without-certificate",
        "made-up identity headers without a certificate",
        must="refused",
        looks="anybody is whoever he says he is",
        fixes={
            **_REQUIRE,
            "nginx": "if ($ssl_client_verify != SUCCESS) { return 403; }  # in server { }",
        },
        after=(1,),
    ),
    Check(
        24,
        "refusal-page",
        "the page of the refusal",
        must="static, no cookies",
        looks="the app answers those who are refused",
        fixes={
            "nginx": "error_page 495 496 = @nocert; with a static answer of 403  # never =200, never proxied",
            "apache": "ErrorDocument 403 with a static file outside of the proxied paths",
            "haproxy": "http-request return status 403 file nocert.html",
            "any": "a static page with status 403",
        },
        after=(1, 3, 5),
    ),
    Check(
        25,
        "authority-names",
        "names of authorities that the server sends",
        must="exactly yours: root and issuing",
        looks="browsers offer no certificate, or any",
        fixes={
            "nginx": "ssl_client_certificate people-chain.pem;  # not ssl_trusted_certificate, which sends no names",
            "apache": "SSLCACertificateFile people-chain.pem, or SSLCADNRequestFile",
            "haproxy": "bind ... ca-file people-chain.pem",
            "any": "trust exactly root and issuing authority of your people",
        },
    ),
    Check(
        26,
        "server-certificate",
        "the server's own certificate",
        must="its name, not too long, for servers, with its chain, more than 14 days left",
        looks="browsers warn, and people learn to click",
        fixes={
            "nginx": "ssl_certificate with the full chain, renewed at two thirds of its life",
            "apache": "SSLCertificateFile with the full chain, renewed at two thirds of its life",
            "any": "the full chain without the root, renewed at two thirds of its life",
        },
    ),
    Check(
        27,
        "server-as-client",
        "a web server's certificate as a client",
        must="refused",
        looks="who breaks into one server walks into all",
        fixes={"any": "trust only the people's authority; certificates with the usage clientAuth only"},
    ),
    Check(
        28,
        "wrong-usage",
        "a certificate for servers only, from the people's authority",
        must="refused",
        looks="the usage in the certificate is not looked at",
        fixes={
            **_TRUST,
            "any": "two issuing authorities, people and servers",
        },
    ),
    Check(
        29,
        "tls-versions",
        "TLS versions and 0-RTT",
        must="1.0 and 1.1 off, 1.3 on, 0-RTT off",
        looks="old ciphers, or requests that can be replayed",
        fixes={
            "nginx": "ssl_protocols TLSv1.2 TLSv1.3; ssl_early_data off;  # at http level: the default server's value counts",
            "apache": "SSLProtocol -all +TLSv1.2 +TLSv1.3",
            "haproxy": "ssl-default-bind-options ssl-min-ver TLSv1.2, without allow-0rtt",
            "caddy": "protocols tls1.2 tls1.3",
            "traefik": "minVersion: VersionTLS12",
            "envoy": "tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3",
        },
    ),
    Check(
        30,
        "per-path",
        "when the certificate is asked for",
        must="once, in the handshake",
        looks="no browser answers a question that comes later",
        fixes=_EVERYWHERE,
    ),
    Check(
        31,
        "coalescing",
        "other names in the server's certificate",
        must="none that share the address, or no HTTP/2",
        looks="browsers send requests over the wrong connection",
        fixes={"any": "a certificate of its own for this site, no wildcard; or HTTP/2 off here"},
    ),
    Check(
        32,
        "crl-freshness",
        "how fresh the revocation lists are",
        must="those of every authority, signed, more than 10 days left",
        looks="when a list ends everybody is refused",
        fixes={"any": "run gatekey bundle daily, and reload"},
    ),
    Check(
        33,
        "time-to-refusal",
        "from the revocation to the first refusal",
        must="at most 5 seconds",
        looks="a lost laptop stays in",
        fixes={
            **_CRL,
            "any": "let gatekey agent watch the published folder and reload",
        },
        after=(6,),
    ),
    Check(
        34,
        "keep-alive",
        "a connection that was open at the revocation",
        must="refused or closed within 5 seconds",
        looks="who is connected stays in",
        fixes=_END_OLD,
        after=(6, 33),
    ),
    Check(
        35,
        "origin",
        "past the CDN, at the origin's address",
        must="refused",
        looks="the CDN's rules are walked around",
        fixes={"any": "client certificates at the origin too, or a firewall that takes the CDN only"},
    ),
    Check(
        36,
        "cache",
        "the same page with and without a certificate",
        must="never kept by a shared cache",
        looks="a cache gives the page to anybody",
        fixes={"any": "Cache-Control: private, no-store; no cache in front"},
        after=(1,),
    ),
)

BY_NUMBER = {check.number: check for check in CHECKS}
BY_NAME = {check.name: check for check in CHECKS}
