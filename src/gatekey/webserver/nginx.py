"""Configuration for nginx 1.19.4 and later: the certificate is asked for in the handshake and looked up again at every request.

What stands where was found by experiment (docs/webservers.md): under TLS 1.3 the default server of a socket decides about session resumption and protocol
versions for all its siblings, so it gets a file of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..model import headers
from . import page as refused
from .site import LAST_WORDS, Configuration, Site, address, bracketed, checked, indent, upstream

if TYPE_CHECKING:
    from .running import Running

#: How the files begin that hold our default servers.
DEFAULT_FILE = "00-gatekey-default-"
#: Where it reads site files, on Debian and its kin.
PLACE = "/etc/nginx/conf.d"
RELOAD = ("systemctl", "reload", "nginx")
CHECK = ("nginx", "-t")

#: Longest key of a map: 32 digits, a space and an issuer's name. nginx's own 64 bytes are too short for most names.
_BUCKET = 512
#: How many buckets nginx may try: room for the lists to grow. A million entries (2,097,152) load in 8 s and take 350 MB.
_BUCKETS = 131_072


def configuration(site: Site, running: Running | None = None) -> Configuration:
    """The files for one site. `running`: what nginx runs with now, so that what it has already is neither doubled nor contradicted.

    The site's file and `00-gatekey*.conf` belong at http level. Raises Refused for a site that cannot be written.
    """
    site = checked(site)
    if site.decision:
        from .nginx_decision import configuration as asking

        return asking(site, running)
    folder = site.place or PLACE
    identity = f"{site.folder}/identity.conf"
    includes = {f"{folder}/00-gatekey.conf": _shared(site, running)}
    notes = [main_note(running)] if running is None or not running.shutdown_timeout else []
    for entry in site.listen:
        where = address(entry)
        default = running.default_server(where) if running else None
        if default is None or default.replaceable:
            includes[f"{folder}/{DEFAULT_FILE}{file_word(where)}.conf"] = catch_all(where)
        notes += default.advice(where) if default else ()
    includes[identity] = _identity()
    notes.append(_crl_note(site))
    return Configuration("nginx", f"{folder}/gatekey-{site.host}.conf", _site(site, identity), includes, tuple(filter(None, notes)), RELOAD, CHECK)


_KEYS = "# The keys below are a serial and an issuer's name; the 64 bytes that nginx gives a key by itself are too few.\n"


def _shared(site: Site, running: Running | None) -> str:
    has = running.http_directives if running else {}
    entries = max(site.revoked, site.people)
    sizes = []
    if "map_hash_bucket_size" not in has:
        sizes.append(f"map_hash_bucket_size {_BUCKET};\n")
    if "map_hash_max_size" not in has:
        sizes.append(f"map_hash_max_size {max(_BUCKETS, 2 << entries.bit_length())};\n")
    key = '"$ssl_client_serial $ssl_client_i_dn"'
    return f"""\
# Gatekey: what all private sites of this nginx share. Belongs at http level.

{_KEYS + "".join(sizes) if sizes else ""}
# The second lock: certificates that are not let in. Asked at every request, so it also counts on open connections and resumed TLS sessions.
map {key} $gatekey_revoked {{
    default 0;
    include {site.bundle}/revoked.map;
}}

# Whose certificates are let in. The trust chain has more authorities than these: a root signs others, too.
map $ssl_client_i_dn $gatekey_issuer {{
    default 0;
    include {site.bundle}/issuers.map;
}}

# Who is who: "login;groups;email;name;device".
map {key} $gatekey_person {{
    default "";
    include {site.bundle}/people.map;
}}
# A certificate younger than the list has its login in the common name. The whole name must be that and nothing else.
map $ssl_client_s_dn $gatekey_common_name {{
    default "";
    "~^CN=(?<gatekey_cn>[A-Za-z0-9._@ -]+)$" $gatekey_cn;
}}
map $gatekey_person $gatekey_user {{
    default "";
    "" $gatekey_common_name;
    "~^(?<gatekey_field_1>[^;]*);" $gatekey_field_1;
}}
map $gatekey_person $gatekey_groups {{
    default "";
    "~^[^;]*;(?<gatekey_field_2>[^;]*);" $gatekey_field_2;
}}
map $gatekey_person $gatekey_email {{
    default "";
    "~^([^;]*;){{2}}(?<gatekey_field_3>[^;]*);" $gatekey_field_3;
}}
map $gatekey_person $gatekey_name {{
    default "";
    "~^([^;]*;){{3}}(?<gatekey_field_4>[^;]*);" $gatekey_field_4;
}}
map $gatekey_person $gatekey_device {{
    default "";
    "~^([^;]*;){{4}}(?<gatekey_field_5>[^;]*)$" $gatekey_field_5;
}}

# The sentence on the page for those who are refused.
map "$ssl_client_verify/$gatekey_revoked/$gatekey_issuer" $gatekey_why {{
    default "{refused.STRANGER}";
    "~^NONE/" "{refused.NO_CERTIFICATE}";
    "~^FAILED:certificate revoked/" "{refused.WITHDRAWN}";
    "~^FAILED:certificate (has expired|is not yet valid)/" "{refused.EXPIRED}";
    "~^SUCCESS/1/" "{refused.WITHDRAWN}";
    "~^SUCCESS/0/1$" "{refused.NOT_FOR_YOU}";
}}

# "Connection: upgrade" goes on to the app only for a WebSocket, and never with a body: some app servers take it for the next request, unchecked.
map "$server_protocol/$http_upgrade/$http_content_length/$http_transfer_encoding" $gatekey_connection {{
    default "";
    "~*^HTTP/1.1/websocket/0?/$" upgrade;
}}
map $server_port $gatekey_port {{
    default ":$server_port";
    443 "";
}}
"""


def catch_all(where: tuple[str, int]) -> str:
    """The default server of a socket: it refuses every handshake without a known name."""
    return f"""\
# Gatekey: who asks {listen_words(where)} for no name or for an unknown one gets no handshake. This server decides for all its siblings on this socket about
# session resumption and protocol versions: the three lines must stand here, and no server of this socket may have an ssl_session_ticket_key.
server {{
    listen {listen_words(where)} ssl default_server;
    server_name _;
    ssl_reject_handshake on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache off;
    ssl_session_tickets off;
    return 421;
}}
"""


def _site(site: Site, identity: str) -> str:
    name = re.escape(site.host)
    return f"""\
# Gatekey: {site.host}, for people with a certificate only. Belongs at http level, beside what all private sites share.

server {{
{indent("".join(f"listen {listen_words(address(entry))} ssl;{chr(10)}" for entry in site.listen), "    ")}\
    server_name {site.host};

    # A certificate of its own, without a wildcard: otherwise browsers carry requests for this site over connections to its siblings (421).
    ssl_certificate {site.certificate};
    ssl_certificate_key {site.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    # A resumed session would outlive a revocation. The default server of the socket must say the same.
    ssl_session_cache off;
    ssl_session_tickets off;
    ssl_early_data off;

    # The first lock. Root and issuing authority: their names are sent to browsers, which offer certificates of these only.
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
    # All of these stand here and in no location, so that no location can be forgotten.
    if ($ssl_client_verify != SUCCESS) {{
        return 403;
    }}
    if ($gatekey_issuer = 0) {{
        return 403;
    }}
    if ($gatekey_revoked) {{
        return 403;
    }}
    if ($gatekey_user = "") {{
        return 403;
    }}
{_groups(site)}\
    # Found out here once, so that no location's $1 is lost to it.
    set $gatekey_all "$gatekey_groups$gatekey_email$gatekey_name$gatekey_device";

    # Never "=200", never proxied: whoever is refused gets no byte of the app.
    error_page 403 495 496 = @gatekey_refused;
    location @gatekey_refused {{
        default_type "text/html; charset=utf-8";
        add_header Cache-Control "no-store" always;
        return 403 '{refused.page(site, "$gatekey_why")}';
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
    # Complete CRLs of every authority in the chain. One that is missing or past its date shuts out everybody.
    ssl_crl {site.bundle}/all.crl.pem;
"""
    return f"""\
    # {site.revoked} certificates are revoked. OpenSSL would walk a CRL of that length at every handshake, so it is not used here: the lock by serial and
    # issuer below ($gatekey_revoked) carries revocation alone. It is a hash lookup at any length.
"""


def options(site: Site) -> str:
    """The answer to OPTIONS where nobody asks for a certificate."""
    if not site.static_options:
        return ""
    origins = "|".join(re.escape(origin) for origin in site.origins)
    origin = "" if not origins else f"""\
    set $gatekey_origin "";
    if ($http_origin ~ "^({origins})$") {{
        set $gatekey_origin $http_origin;
    }}
"""
    cors = "" if not origins else """\
        add_header Access-Control-Allow-Origin $gatekey_origin;
        add_header Access-Control-Allow-Credentials true;
        add_header Access-Control-Allow-Methods "GET, HEAD, POST, PUT, PATCH, DELETE";
        add_header Access-Control-Allow-Headers $http_access_control_request_headers;
        add_header Access-Control-Max-Age 600;
        add_header Vary Origin;
"""
    return f"""\
    # Before a request from another site (CORS) browsers ask with OPTIONS, and show no certificate. The answer comes from here and never from the app.
{origin}\
    if ($request_method = OPTIONS) {{
        return 418;
    }}
    error_page 418 = @gatekey_options;
    location @gatekey_options {{
{cors}\
        return 204;
    }}
"""


def _groups(site: Site) -> str:
    if not site.groups:
        return ""
    return f"""\
    # Only for: {", ".join(headers.encode(group) for group in site.groups)}. A certificate that is younger than people.map belongs to no group.
    if ($gatekey_groups !~ "{site.group_pattern}") {{
        return 403;
    }}
"""


def proxy(site: Site) -> str:
    """How requests go on to the app."""
    app = upstream(site)
    if app.scheme == "unix":
        return f"proxy_pass http://unix:{app.host};\n"
    if app.scheme == "http":
        return f"proxy_pass {app.url};\n"
    return f"""\
proxy_pass {app.url};
proxy_ssl_verify on;
proxy_ssl_verify_depth 4;
proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
proxy_ssl_server_name on;
proxy_ssl_name {app.host};
"""


def redirect(site: Site) -> str:
    """The server for plain HTTP."""
    if not site.plain:
        return ""
    return f"""\
# Plain HTTP: a redirect and nothing else.
server {{
{indent("".join(f"listen {listen_words(address(entry))};{chr(10)}" for entry in site.plain), "    ")}\
    server_name {site.host};
    server_tokens off;
    return 301 https://{site.public_host}$request_uri;
}}
"""


def _identity() -> str:
    values = {
        headers.USER: "$gatekey_user",
        headers.NAME: "$gatekey_name",
        headers.EMAIL: "$gatekey_email",
        headers.GROUPS: "$gatekey_groups",
        headers.DEVICE: "$gatekey_device",
        headers.SERIAL: "$ssl_client_serial",
        headers.ISSUER: "$ssl_client_i_dn",
        headers.VERIFY: "$ssl_client_verify",
        headers.CERT: "$ssl_client_escaped_cert",
    }
    lines = [f"proxy_set_header {name} {values.get(name) or chr(34) * 2};" for name in headers.STRIPPED]
    return f"""\
# Gatekey: who is there, for the app. EVERY location that passes requests on needs all of these lines. A header that is set here replaces what the
# client sent; one that is set to "" is taken away. All but X-Client-User are percent-encoded UTF-8; X-Client-Cert is the certificate in PEM, percent-encoded.
{chr(10).join(lines)}
proxy_set_header Host $host$gatekey_port;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $host$gatekey_port;
proxy_set_header Forwarded "";
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $gatekey_connection;
"""


def main_level() -> str:
    """What must stand at the top of nginx.conf, beside `http {}`."""
    return (
        f"# Gatekey: {LAST_WORDS} s after a reload the old workers end, and with them every connection and WebSocket that began under the old lists.\n"
        f"worker_shutdown_timeout {LAST_WORDS}s;\n"
    )


def main_note(running: Running | None) -> str:
    """What the administrator is told about worker_shutdown_timeout."""
    where = f" {running.main_file}" if running else " /etc/nginx/nginx.conf"
    return (
        f"put `worker_shutdown_timeout {LAST_WORDS}s;` at the top of{where}, outside of http {{}}: without it a WebSocket outlives every reload, "
        "and a revoked person keeps it"
    )


def _crl_note(site: Site) -> str:
    if site.crl_at_handshake:
        return ""
    return f"{site.revoked} certificates are revoked: the CRL is left out of the handshake, the lock by issuer and serial carries revocation alone"


def listen_words(where: tuple[str, int]) -> str:
    """An address as `listen` takes it."""
    return f"{bracketed(where[0])}:{where[1]}"


def file_word(where: tuple[str, int]) -> str:
    """An address as part of a file's name."""
    return re.sub(r"[^0-9A-Za-z.]", "-", f"{where[0]}_{where[1]}").replace("_", "-")
