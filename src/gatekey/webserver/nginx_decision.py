"""Configuration for nginx that asks the decision endpoint at every request (`auth_request`): who may enter, and who it is, is the service's answer.

No list is read and no reload needed. What a list-reading site and this one share stands in files of different names: both may live in one nginx.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..model import headers
from . import page as refused
from .nginx import CHECK, DEFAULT_FILE, PLACE, RELOAD, catch_all, file_word, listen_words, main_note, options, proxy, redirect
from .site import DECISION_IDLE, DECISION_PATIENCE, Configuration, Site, address, decision, indent

if TYPE_CHECKING:
    from .running import Running

#: What is taken over from the answer: our variable -> header.
_TAKEN = {"user": headers.USER, "name": headers.NAME, "email": headers.EMAIL, "groups": headers.GROUPS, "device": headers.DEVICE}


def configuration(site: Site, running: Running | None) -> Configuration:
    """The files for one checked site that asks."""
    folder = site.place or PLACE
    identity = f"{site.folder}/identity-decision.conf"
    includes = {f"{folder}/00-gatekey-decision.conf": _shared(site)}
    notes = [] if running and running.shutdown_timeout else [main_note(running)]
    for entry in site.listen:
        where = address(entry)
        default = running.default_server(where) if running else None
        if default is None or default.replaceable:
            includes[f"{folder}/{DEFAULT_FILE}{file_word(where)}.conf"] = catch_all(where)
        notes += default.advice(where) if default else ()
    includes[identity] = _identity()
    notes.append("a WebSocket that is open when its owner is revoked stays open until nginx is reloaded: it was one request")
    return Configuration("nginx", f"{folder}/gatekey-{site.host}.conf", _site(site, identity), includes, tuple(notes), RELOAD, CHECK)


def _shared(site: Site) -> str:
    endpoint = decision(site)
    server = f"unix:{endpoint.host}" if endpoint.scheme == "unix" else endpoint.dial
    sentences = "".join(f'    "SUCCESS/{word}" "{sentence}";\n' for word, sentence in refused.SENTENCES.items())
    return f"""\
# Gatekey: what all sites of this nginx share that ask the decision endpoint. Belongs at http level.

upstream gatekey_decision {{
    server {server};
    keepalive 64;
    # The service closes a connection that is idle for longer; a request must never meet that.
    keepalive_timeout {DECISION_IDLE}s;
    keepalive_requests 100000;
}}

# The sentence on the page for those who are refused.
map "$ssl_client_verify/$gatekey_decided_why" $gatekey_decided_sentence {{
    default "{refused.STRANGER}";
    "~^NONE/" "{refused.NO_CERTIFICATE}";
    "~^FAILED:certificate revoked/" "{refused.WITHDRAWN}";
    "~^FAILED:certificate (has expired|is not yet valid)/" "{refused.EXPIRED}";
{sentences}\
}}

# "Connection: upgrade" goes on to the app only for a WebSocket, and never with a body: some app servers take it for the next request, unchecked.
map "$server_protocol/$http_upgrade/$http_content_length/$http_transfer_encoding" $gatekey_decided_connection {{
    default "";
    "~*^HTTP/1.1/websocket/0?/$" upgrade;
}}
map $server_port $gatekey_decided_port {{
    default ":$server_port";
    443 "";
}}
"""


def _site(site: Site, identity: str) -> str:
    name = re.escape(site.host)
    taken = "".join(f"    auth_request_set $gatekey_decided_{ours} $upstream_http_{header.lower().replace('-', '_')};\n" for ours, header in _TAKEN.items())
    return f"""\
# Gatekey: {site.host}, for people with a certificate only; the decision endpoint is asked at every request. Belongs at http level, beside
# what all private sites share.

server {{
{indent("".join(f"listen {listen_words(address(entry))} ssl;{chr(10)}" for entry in site.listen), "    ")}\
    server_name {site.host};

    # A certificate of its own, without a wildcard: otherwise browsers carry requests for this site over connections to its siblings (421).
    ssl_certificate {site.certificate};
    ssl_certificate_key {site.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    # A resumed session skips the checks of the handshake. The default server of the socket must say the same.
    ssl_session_cache off;
    ssl_session_tickets off;
    ssl_early_data off;

    # The first lock: the certificate comes from us. Root and issuing authority: their names are sent to browsers, which offer certificates of these only.
    ssl_client_certificate {site.bundle}/people-chain.pem;
{_crl(site)}\
    ssl_verify_client {"optional" if site.static_options else "on"};
    ssl_verify_depth 2;

    # Headers with an underscore or a dot would reach some apps under the names that are set below.
    underscores_in_headers off;
    ignore_invalid_headers on;
    server_tokens off;

    # No name in the handshake, or another one than is asked for: then the certificate was judged by another server's rules.
    if ($ssl_server_name !~* "^{name}$") {{
        return 421;
    }}
{options(site)}\
    # This stands here and in no location, so that no location can be forgotten.
    if ($ssl_client_verify != SUCCESS) {{
        return 403;
    }}

    # The second lock, at every request and in every location: also on resumed sessions and open connections. No answer, or a strange one, is a no.
    # A location with an auth_request or auth_request_set of its own loses these lines and must repeat them; "satisfy any" would undo them.
    auth_request /.gatekey/decision;
    satisfy all;
{taken}\
    auth_request_set $gatekey_decided_why $upstream_http_x_gatekey_why;

    location = /.gatekey/decision {{
        internal;
        auth_request off;
        access_log off;
        # Nothing of what the client sent goes there.
        proxy_pass_request_headers off;
        proxy_pass_request_body off;
        proxy_method GET;
        proxy_http_version 1.1;
        proxy_set_header Host gatekey;
        proxy_set_header Connection "";
        proxy_set_header Content-Length "";
        proxy_set_header X-Gatekey-Serial $ssl_client_serial;
        proxy_set_header X-Gatekey-Issuer $ssl_client_i_dn;
        proxy_set_header X-Gatekey-Site {site.host};
{_groups(site)}\
        proxy_connect_timeout {DECISION_PATIENCE}s;
        proxy_send_timeout {DECISION_PATIENCE}s;
        proxy_read_timeout {DECISION_PATIENCE}s;
        proxy_buffer_size 16k;
        proxy_buffers 4 16k;
        proxy_cache off;
{indent(_endpoint(site), "        ")}\
    }}

    # Never "=200", never proxied: whoever is refused gets no byte of the app.
    error_page 403 495 496 = @gatekey_refused;
    location @gatekey_refused {{
        auth_request off;
        default_type "text/html; charset=utf-8";
        add_header Cache-Control "no-store" always;
        return 403 '{refused.page(site, "$gatekey_decided_sentence")}';
    }}
    # auth_request says 500 when there was no decision.
    error_page 500 = @gatekey_unsure;
    location @gatekey_unsure {{
        auth_request off;
        default_type "text/html; charset=utf-8";
        add_header Cache-Control "no-store" always;
        add_header Retry-After 5 always;
        return 503 '{refused.page(site, refused.UNSURE)}';
    }}

    # Every location that passes requests on needs all that this one has: with one proxy_set_header of its own, it inherits none from outside.
    location / {{
        include {identity};
{indent(proxy(site), "        ")}\
    }}
}}

{redirect(site)}"""


def _crl(site: Site) -> str:
    if site.crl_at_handshake:
        return f"""\
    # Complete CRLs of every authority in the chain, read at a reload. One that is missing or past its date shuts out everybody.
    ssl_crl {site.bundle}/all.crl.pem;
"""
    return """\
    # No CRL: it would count from the next reload only, keep out who is let in again until then, and shut out everybody when it is past its date.
"""


def _groups(site: Site) -> str:
    if not site.groups:
        return ""
    return f'        proxy_set_header X-Gatekey-Groups "{",".join(map(headers.encode, site.groups))}";\n'


def _endpoint(site: Site) -> str:
    endpoint = decision(site)
    if endpoint.scheme == "unix":
        return "proxy_pass http://gatekey_decision/decision;\n"
    return f"""\
proxy_pass https://gatekey_decision/decision;
# Proves that we are a web server: a certificate of ours whose holder has the role "proxy".
proxy_ssl_certificate {site.decision_certificate};
proxy_ssl_certificate_key {site.decision_key};
proxy_ssl_trusted_certificate {site.decision_trust};
proxy_ssl_verify on;
proxy_ssl_verify_depth 2;
proxy_ssl_server_name on;
proxy_ssl_name {endpoint.host};
proxy_ssl_protocols TLSv1.2 TLSv1.3;
"""


def _identity() -> str:
    values = {header: f"$gatekey_decided_{ours}" for ours, header in _TAKEN.items()}
    values |= {
        headers.SERIAL: "$ssl_client_serial",
        headers.ISSUER: "$ssl_client_i_dn",
        headers.VERIFY: "$ssl_client_verify",
        headers.CERT: "$ssl_client_escaped_cert",
    }
    lines = [f"proxy_set_header {name} {values.get(name) or chr(34) * 2};" for name in headers.STRIPPED]
    return f"""\
# Gatekey: who is there, for the app, as the decision endpoint said it. EVERY location that passes requests on needs all of these lines. A header that is
# set here replaces what the client sent; one that is set to "" is taken away. All but X-Client-User are percent-encoded UTF-8.
{chr(10).join(lines)}
proxy_set_header Host $host$gatekey_decided_port;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $host$gatekey_decided_port;
proxy_set_header Forwarded "";
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $gatekey_decided_connection;
"""
