"""Configuration for Apache 2.4.47 and later: the virtual host asks for the certificate in the handshake, and it is looked up again at every request.

Certificates asked for by directory or location need a second handshake, which no browser does under TLS 1.3 and nobody under HTTP/2.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from ..model import headers
from . import page as refused
from .site import ANY, ANY6, LAST_WORDS, Configuration, Site, address, bracketed, checked, decision, upstream

#: Where it reads site files, on Debian and its kin.
PLACE = "/etc/apache2/sites-enabled"
#: Not "graceful": that leaves WebSockets of the old configuration alone for ever (GracefulShutdownTimeout is for graceful-stop only). The listening sockets
#: stay open, so nobody is turned away.
RELOAD = ("apache2ctl", "-k", "restart")
CHECK = ("apache2ctl", "configtest")

_GRACEFUL = (
    "a graceful restart (`systemctl reload apache2`) ends no WebSocket, so a revoked person would keep one; `apache2ctl -k restart` ends all connections "
    "at once. The lists of the bundle need neither: Apache reads them again when they change"
)
#: The authorities that the public trusts (Debian, Ubuntu, Alpine).
_PUBLIC = "/etc/ssl/certs/ca-certificates.crt"

MODULES = ("ssl", "headers", "rewrite", "proxy", "proxy_http", "proxy_wstunnel")


def configuration(site: Site) -> Configuration:
    """The files for one site: `000-gatekey.conf`, which must be read before every other virtual host, and the site's own.

    Raises Refused for a site that cannot be written.
    """
    site = checked(site)
    folder = site.place or PLACE
    notes = [
        f"Apache needs the modules {', '.join(MODULES)}: a2enmod {' '.join(MODULES)}",
        f"the user that Apache runs as must be able to read {site.bundle}/*.txt: they are read at requests, not at the start",
        _GRACEFUL,
        "take SSLSessionTicketKeyFile out wherever it stands: with it, neither a reload nor a restart ends a revoked person's session",
    ]
    if site.decision:
        notes[1] = "a program asks the decision endpoint, one question at a time; if it is killed, the site is shut until Apache is restarted"
    elif not site.crl_at_handshake:
        notes.append(f"{site.revoked} certificates are revoked: the CRL is left out of the handshake, the lock by issuer and serial carries revocation alone")
    includes = {f"{folder}/000-0-gatekey.conf": _shared()}
    programs = {}
    if site.decision:
        programs[_program(site)] = Path(__file__).with_name("apache_decision.py").read_text()
        notes.append(f"the program that asks must stand there, writable by root alone: gatekey webserver apache --script > {_program(site)}")
    for where in _addresses(site.listen):
        includes[f"{folder}/000-0-gatekey-default-{re.sub(r'[^0-9A-Za-z.]+', '-', where.replace('*', 'all')).strip('-')}.conf"] = _catch_all(site, where)
    return Configuration("apache", f"{folder}/gatekey-{site.host}.conf", _site(site), includes, tuple(notes), RELOAD, CHECK, programs)


def _shared() -> str:
    return f"""\
# Gatekey: what all private sites of this Apache share.

# After a change of the CRL or of this file: apache2ctl -k restart. A graceful restart would leave WebSockets of the old configuration open for ever.
# When Apache is stopped gracefully, they end after {LAST_WORDS} s.
GracefulShutdownTimeout {LAST_WORDS}
# A resumed session would outlive a revocation. Take SSLSessionTicketKeyFile out wherever it stands: with it, even a restart ends no session.
SSLSessionCache none
SSLSessionTickets off
"""


def _catch_all(site: Site, where: str) -> str:
    return f"""\
# Gatekey: who asks {where} for no name, or for an unknown one, ends here. Must be read before every other virtual host of this address.
<VirtualHost {where}>
    ServerName gatekey.invalid
    SSLEngine on
    SSLCertificateFile "{site.certificate}"
    SSLCertificateKeyFile "{site.key}"
    SSLProtocol -all +TLSv1.2 +TLSv1.3
    SSLSessionTickets off
    RewriteEngine on
    RewriteRule "^" "-" [R=421,L]
</VirtualHost>
"""


def _site(site: Site) -> str:
    name = re.escape(site.host)
    return f"""\
# Gatekey: {site.host}, for people with a certificate only.
{_listen(site)}
<VirtualHost {' '.join(_addresses(site.listen))}>
    ServerName {site.host}

    SSLEngine on
    # A certificate of its own, without a wildcard: otherwise browsers carry requests for this site over connections to its siblings (421).
    SSLCertificateFile "{site.certificate}"
    SSLCertificateKeyFile "{site.key}"
    SSLProtocol -all +TLSv1.2 +TLSv1.3
    SSLSessionTickets off
    SSLStrictSNIVHostCheck on

    # The first lock. Root and issuing authority: their names are sent to browsers, which offer certificates of these only.
    SSLCACertificateFile "{site.bundle}/people-chain.pem"
{_crl(site)}\
    # "optional" only brings people without a certificate as far as the page below; a wrong certificate ends the handshake.
    SSLVerifyClient optional
    SSLVerifyDepth 2

    TraceEnable off

{_maps(site)}
    # These rules stand in the virtual host and not in a Location, so that no Location can be forgotten or can allow again.
    # No name in the handshake, or another one than is asked for.
    RewriteCond "%{{SSL:SSL_TLS_SNI}}" "!^{name}$" [NC]
    RewriteRule "^" "-" [R=421,L]
{_options(site)}\
    RewriteCond "%{{SSL:SSL_CLIENT_VERIFY}}" "!=SUCCESS"
    RewriteRule "^" "-" [F,L]
{_second_lock(site)}
    # Whoever is refused gets this page and no byte of the app.
    ErrorDocument 403 '{_page(site, refused.ANY_REASON)}'
    Header always set Cache-Control "no-store" "expr=%{{REQUEST_STATUS}} -eq 403"

    # Who is there, for the app. First everything goes that a client may have sent, then ours is set; both count for every URL of this host.
    # All but X-Client-User are percent-encoded UTF-8; X-Client-Cert is the certificate in PEM, percent-encoded.
{_identity()}
    ProxyRequests off
    ProxyPreserveHost on
    ProxyAddHeaders off
{_proxy(site)}\
</VirtualHost>
{_redirect(site)}"""


def _program(site: Site) -> str:
    return f"{site.folder}/decision.py"


def _page(site: Site, reason: str) -> str:
    return refused.page(site, reason).replace("\n", " ").strip()


def _maps(site: Site) -> str:
    if not site.decision:
        return f"""\
    # Lists of the bundle. Apache reads them again when they change, without a restart.
    RewriteEngine on
    RewriteMap gatekey-escape int:escape
    RewriteMap gatekey-unescape int:unescape
    RewriteMap gatekey-revoked "txt:{site.bundle}/revoked.txt"
    RewriteMap gatekey-issuers "txt:{site.bundle}/issuers.txt"
    RewriteMap gatekey-people "txt:{site.bundle}/people.txt"
"""
    words = [site.decision, site.host]
    if site.groups:
        words = ["--groups", ",".join(map(headers.encode, site.groups)), *words]
    if decision(site).scheme != "unix":
        words = ["--certificate", site.decision_certificate, "--key", site.decision_key, "--trust", site.decision_trust, *words]
    return f"""\
    # Asks the decision endpoint. Started with Apache, as root; it gives that up before its first question.
    RewriteEngine on
    RewriteMap gatekey-escape int:escape
    RewriteMap gatekey-unescape int:unescape
    RewriteMap gatekey-decision "prg:/usr/bin/python3 -I {_program(site)} {' '.join(words)}"
"""


def _second_lock(site: Site) -> str:
    person = '"^([^;!]+);([^;]*);([^;]*);([^;]*);([^;]*)$"'
    take = "E=gatekey_user:${gatekey-unescape:%1},E=gatekey_groups:%2,E=gatekey_email:%3,E=gatekey_name:%4,E=gatekey_device:%5"
    if site.decision:
        return f"""\
    # The second lock, at every request: also on resumed sessions and open connections. No answer, or a strange one, is a no.
    RewriteRule "^" "-" [E=gatekey_said:${{gatekey-decision:%{{SSL:SSL_CLIENT_M_SERIAL}}_${{gatekey-escape:%{{SSL:SSL_CLIENT_I_DN}}}}|!stale}}]
    RewriteCond "%{{ENV:gatekey_said}}" {person}
    RewriteRule "^" "-" [{take}]
    RewriteCond "%{{ENV:gatekey_user}}" "^$"
    RewriteCond "%{{ENV:gatekey_said}}" "^(!stale)?$"
    RewriteRule "^" "-" [R=503,L]
    RewriteCond "%{{ENV:gatekey_user}}" "^$"
    RewriteRule "^" "-" [F,L]
    ErrorDocument 503 '{_page(site, refused.UNSURE)}'
"""
    return f"""\
    # Whose certificates are let in. The trust chain has more authorities than these: a root signs others, too.
    RewriteCond "${{gatekey-issuers:${{gatekey-escape:%{{SSL:SSL_CLIENT_I_DN}}}}|0}}" "!=1"
    RewriteRule "^" "-" [F,L]
    # The second lock: certificates that are not let in, by serial and issuer. A list that cannot be read would pass for an empty one.
    RewriteCond "${{gatekey-revoked:present|1}}" "!=0"
    RewriteRule "^" "-" [F,L]
    RewriteCond "${{gatekey-revoked:%{{SSL:SSL_CLIENT_M_SERIAL}}_${{gatekey-escape:%{{SSL:SSL_CLIENT_I_DN}}}}|0}}" "!=0"
    RewriteRule "^" "-" [F,L]
    # Who is who: "login;groups;email;name;device". A certificate younger than the list has its login in the common name, and belongs to no group.
    RewriteCond "%{{SSL:SSL_CLIENT_S_DN}}" "^CN=([A-Za-z0-9._@ -]+)$"
    RewriteRule "^" "-" [E=gatekey_user:%1]
    RewriteCond "${{gatekey-people:%{{SSL:SSL_CLIENT_M_SERIAL}}_${{gatekey-escape:%{{SSL:SSL_CLIENT_I_DN}}}}|}}" {person.replace("!", "")}
    RewriteRule "^" "-" [{take}]
    RewriteCond "%{{ENV:gatekey_user}}" "^$"
    RewriteRule "^" "-" [F,L]
{_groups(site)}"""


def _listen(site: Site) -> str:
    def line(entry: str, usual: int) -> str:
        host, port = address(entry)
        word = str(port) if host in (ANY, ANY6) else f"{bracketed(host)}:{port}"
        return f"# Listen {word}\n" if port == usual else f"Listen {word}\n"

    lines = dict.fromkeys([*(line(entry, 443) for entry in site.listen), *(line(entry, 80) for entry in site.plain)])
    return f"# ports.conf has these already where they are commented out.\n{''.join(lines)}"


def _addresses(entries: tuple[str, ...]) -> tuple[str, ...]:
    words = []
    for entry in entries:
        host, port = address(entry)
        words.append(f"*:{port}" if host in (ANY, ANY6) else f"{bracketed(host)}:{port}")
    return tuple(dict.fromkeys(words))


def _crl(site: Site) -> str:
    if site.crl_at_handshake:
        return f"""\
    # Complete CRLs of every authority in the chain. One that is missing or past its date shuts out everybody. "chain": without it the file does nothing.
    SSLCARevocationFile "{site.bundle}/all.crl.pem"
    SSLCARevocationCheck chain
"""
    if site.decision:
        return "    # No CRL: it would count from the next restart only, and shut out everybody when it is past its date.\n"
    return f"""\
    # {site.revoked} certificates are revoked. OpenSSL would walk a CRL of that length at every handshake, so it is not used here: the lock by serial and
    # issuer below (gatekey-revoked) carries revocation alone. For lists of this length make it a DBM file: httxt2dbm -i revoked.txt -o revoked.dbm.
"""


def _options(site: Site) -> str:
    if not site.static_options:
        return ""
    cors = ""
    if site.origins:
        origins = "|".join(re.escape(origin) for origin in site.origins)
        cors = f"""\
    SetEnvIf Origin "^({origins})$" gatekey_origin=$1
    <If "%{{REQUEST_METHOD}} == 'OPTIONS'">
        Header always set Access-Control-Allow-Origin "expr=%{{reqenv:gatekey_origin}}" env=gatekey_origin
        Header always set Access-Control-Allow-Credentials true env=gatekey_origin
        Header always set Access-Control-Allow-Methods "GET, HEAD, POST, PUT, PATCH, DELETE" env=gatekey_origin
        Header always set Access-Control-Allow-Headers "expr=%{{req:Access-Control-Request-Headers}}" env=gatekey_origin
        Header always set Access-Control-Max-Age 600 env=gatekey_origin
        Header always set Vary Origin
    </If>
"""
    return f"""\
    # Before a request from another site (CORS) browsers ask with OPTIONS, and show no certificate. The answer comes from here and never from the app.
{cors}\
    RewriteCond "%{{REQUEST_METHOD}}" "=OPTIONS"
    RewriteRule "^" "-" [R=204,L]
"""


def _groups(site: Site) -> str:
    if not site.groups:
        return ""
    return f"""\
    # Only for: {", ".join(headers.encode(group) for group in site.groups)}.
    RewriteCond "%{{ENV:gatekey_groups}}" "!{site.group_pattern}"
    RewriteRule "^" "-" [F,L]
"""


def _identity() -> str:
    taken = [name for stripped in headers.STRIPPED for name in look_alikes(stripped)]
    values = {
        headers.USER: "expr=%{reqenv:gatekey_user}",
        headers.NAME: "expr=%{reqenv:gatekey_name}",
        headers.EMAIL: "expr=%{reqenv:gatekey_email}",
        headers.GROUPS: "expr=%{reqenv:gatekey_groups}",
        headers.DEVICE: "expr=%{reqenv:gatekey_device}",
        headers.SERIAL: "expr=%{SSL_CLIENT_M_SERIAL}",
        headers.ISSUER: "expr=%{SSL_CLIENT_I_DN}",
        headers.VERIFY: "expr=%{SSL_CLIENT_VERIFY}",
        headers.CERT: "expr=%{escape:%{SSL_CLIENT_CERT}}",
        "X-Real-IP": "expr=%{CONN_REMOTE_ADDR}",
        "X-Forwarded-For": "expr=%{CONN_REMOTE_ADDR}",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "expr=%{HTTP_HOST}",
    }
    lines = [f"    RequestHeader unset {name} early" for name in taken]
    lines += [f'    RequestHeader set {name} "{value}"' for name, value in values.items()]
    return "\n".join(lines) + """
    RequestHeader unset Forwarded
    RequestHeader unset Proxy early
    # "Connection: X-Client-User" would ask the proxy to leave that header out (RFC 9110 7.6.1).
    RequestHeader set Connection close "expr=-n %{req:Connection} && ! %{req:Connection} =~ /^(close|upgrade|keep-alive|keep-alive, *upgrade)$/i"
    # A wish for another protocol goes on for a WebSocket only, never with a body: some app servers take that for the next request, which nobody has checked.
    RequestHeader unset Upgrade "expr=%{SERVER_PROTOCOL} != 'HTTP/1.1' || %{REQUEST_METHOD} != 'GET' || -n %{req:Content-Length} || -n %{req:Transfer-Encoding}"
"""


def look_alikes(name: str) -> list[str]:
    """`name` and the names with underscores that many apps take for it; Apache hands them on and has no pattern for them."""
    first, *rest = name.split("-")
    return ["".join([first, *(f"{sign}{part}" for sign, part in zip(signs, rest, strict=True))]) for signs in product("-_", repeat=len(rest))]


def _proxy(site: Site) -> str:
    app = upstream(site)
    target = f"unix:{app.host}|http://{site.host}" if app.scheme == "unix" else app.url
    secure = ""
    if app.scheme == "https":
        secure = f"    SSLProxyEngine on\n    SSLProxyVerify require\n    SSLProxyCheckPeerName on\n    SSLProxyCACertificateFile {_PUBLIC}\n"
    if app.scheme == "unix":
        # "upgrade=" came with 2.4.47 and also does WebSockets over a Unix socket.
        return f'    ProxyPass "/" "{target}/" upgrade=websocket\n    ProxyPassReverse "/" "http://{site.host}/"\n'
    return f'{secure}    ProxyPass "/" "{target}/" upgrade=websocket\n    ProxyPassReverse "/" "{target}/"\n'


def _redirect(site: Site) -> str:
    if not site.plain:
        return ""
    return f"""
# Plain HTTP: a redirect and nothing else.
<VirtualHost {' '.join(_addresses(site.plain))}>
    ServerName {site.host}
    RewriteEngine on
    RewriteRule "^" "https://{site.public_host}%{{REQUEST_URI}}" [R=301,L,NE]
</VirtualHost>
"""
