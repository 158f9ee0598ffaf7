"""Configuration for HAProxy 2.6 and later: a frontend of its own for the site, which asks for a certificate and looks it up again at every request."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import Refused
from ..model import headers
from . import page as refused
from .site import LAST_WORDS, Configuration, Site, address, bracketed, checked, decision, upstream

#: Beside its own file; it is told by name.
PLACE = "/etc/haproxy"
RELOAD = ("systemctl", "reload", "haproxy")

#: X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED, _REVOKED: these three may come as far as the page that says so, and no further.
_TOLD = ("9", "10", "23")


def configuration(site: Site) -> Configuration:
    """The file for one site; HAProxy takes several with `-f`. Raises Refused for a site that cannot be written."""
    site = checked(site)
    folder = site.place or PLACE
    file = f"{folder}/gatekey-{site.host}.cfg"
    notes = [f"HAProxy must be told to read it: `haproxy -f /etc/haproxy/haproxy.cfg -f {file}` (Debian: EXTRAOPTS in /etc/default/haproxy)"]
    if site.key not in (site.certificate, f"{site.certificate}.key"):
        notes.append(f"HAProxy looks for the key beside the certificate: ln -s {site.key} {site.certificate}.key")
    programs = {}
    if site.decision:
        if decision(site).scheme != "unix":
            hint = "let the service listen on a Unix socket of this host (proxy.listen), or bring one here: ssh -L, socat or stunnel"
            raise Refused("server-cannot", "HAProxy's HTTP client has no client certificate, so it cannot prove itself over HTTPS", hint=hint)
        programs[_script(site)] = Path(__file__).with_name("decision.lua").read_text()
        notes.append(f"the script that asks must stand beside it: gatekey webserver haproxy --script > {_script(site)}")
        notes.append("a WebSocket that is open when its owner is revoked stays open until HAProxy is reloaded: it was one request")
    elif not site.crl_at_handshake:
        notes.append(f"{site.revoked} certificates are revoked: the CRL is left out of the handshake, the lock by issuer and serial carries revocation alone")
    check = ("haproxy", "-c", "-f", file)
    return Configuration("haproxy", file, _text(site), {}, tuple(notes), RELOAD, check, programs)


def _text(site: Site) -> str:
    name = site.host
    label = f"gatekey_{site.label}"
    crl = f" crl-file {site.bundle}/all.crl.pem" if site.crl_at_handshake else ""
    binds = "".join(
        f"    bind {bracketed(address(entry)[0])}:{address(entry)[1]}{' v6only' if address(entry)[0] == '::' else ''} ssl crt {site.certificate} strict-sni"
        f" ssl-min-ver TLSv1.2 no-tls-tickets ca-file {site.bundle}/people-chain.pem{crl} verify optional crt-ignore-err {','.join(_TOLD)}\n"
        for entry in site.listen
    )
    return f"""\
# Gatekey: {name}, for people with a certificate only.

global
    # {LAST_WORDS} s after a reload the old process ends, and with it every connection and WebSocket that began under the old lists.
    hard-stop-after {LAST_WORDS}s
    # No resumption: with no-tls-tickets below, neither TLS 1.2 nor 1.3 keeps a session that could outlive a revocation.
    tune.ssl.cachesize 0
    # Room for the certificate that is added to the request as a header.
    tune.bufsize 32768
    tune.maxrewrite 8192
{_load(site)}
frontend {label}
    mode http
    timeout client 60s
    timeout http-request 15s
    timeout http-keep-alive 15s
    # The first lock. Root and issuing authority: their names are sent to browsers, which offer certificates of these only.
{_crl_comment(site)}\
    # "optional" brings people without a certificate as far as the page below, crt-ignore-err those with an old or revoked one; nobody gets any further.
    # strict-sni: who asks for no name, or for an unknown one, gets no handshake.
{binds}
    # What HAProxy does not check by itself: the name in the handshake and the one in the request must both be this site's.
    http-request deny deny_status 421 if !{{ ssl_fc_sni,lower -m str {name} }}
    http-request deny deny_status 421 if !{{ req.hdr(host),lower,regsub(:[0-9]+$,) -m str {name} }}
    http-request deny deny_status 400 if {{ req.hdr_cnt(host) gt 1 }}

    # Everything goes that a client may have sent as an identity, also under names with underscores that many apps take for it.
{_taken()}
{_options(site)}\
{_who(site)}
    # Whoever is refused gets a page and no byte of the app.
{_refuse(site, refused.NO_CERTIFICATE, "!{ ssl_c_used }")}
{_refuse(site, refused.WITHDRAWN, "{ ssl_c_verify 23 }")}
{_refuse(site, refused.EXPIRED, "{ ssl_c_verify 9 10 }")}
{_refuse(site, refused.STRANGER, "!{ ssl_c_verify 0 } || !{ ssl_c_err 0 } || !{ ssl_c_ca_err 0 }")}
{_second_lock(site)}\

    # Who is there, for the app. All but X-Client-User are percent-encoded UTF-8; Client-Cert is that of RFC 9440.
    http-request set-header {headers.USER} %[var(txn.gatekey_user)]
{_fields(site)}
    http-request set-header {headers.SERIAL} %[ssl_c_serial,hex]
    http-request set-header {headers.ISSUER} %[var(txn.gatekey_issuer)]
    http-request set-header {headers.VERIFY} SUCCESS
    http-request set-header {headers.CLIENT_CERT} :%[ssl_c_der,base64]:
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request del-header Forwarded
    default_backend {label}

backend {label}
    mode http
    timeout connect 5s
    timeout server 60s
    timeout tunnel 1h
    server app {_server(site)}
{_redirect(site)}"""


def _script(site: Site) -> str:
    return f"{site.folder}/decision.lua"


def _load(site: Site) -> str:
    return f"    # Asks the decision endpoint; every thread for itself.\n    lua-load-per-thread {_script(site)}\n" if site.decision else ""


def _who(site: Site) -> str:
    if site.decision:
        return """\
    # Who is there: serial and issuer, as the decision endpoint is asked.
    http-request set-var(txn.gatekey_issuer) ssl_c_i_dn(,0,rfc2253)
    http-request set-var(txn.gatekey_serial) ssl_c_serial,hex
"""
    return f"""\
    # Who is there: serial and issuer, in the form of the bundle's lists.
    http-request set-var(txn.gatekey_issuer) ssl_c_i_dn(,0,rfc2253)
    http-request set-var(txn.gatekey_key) ssl_c_serial,hex,concat(" ",txn.gatekey_issuer),url_enc
    http-request set-var(txn.gatekey_person) var(txn.gatekey_key),map_str({site.bundle}/people.lst)
    # "login;groups;email;name;device". A certificate younger than the list has its login in the common name, and belongs to no group.
    http-request set-var(txn.gatekey_user) var(txn.gatekey_person),field(1,;),url_dec if {{ var(txn.gatekey_person) -m found }}
    http-request set-var(txn.gatekey_dn) ssl_c_s_dn(,0,rfc2253)
    http-request set-var(txn.gatekey_user) ssl_c_s_dn(cn) if !{{ var(txn.gatekey_person) -m found }} {{ var(txn.gatekey_dn) -m reg '^CN=[A-Za-z0-9._@ -]+$' }}
"""


def _second_lock(site: Site) -> str:
    if site.decision:
        groups = ",".join(map(headers.encode, site.groups)) or "-"
        no = "var(txn.gatekey_decision) -m str"
        told = {sentence: " ".join(word for word, its in refused.SENTENCES.items() if its == sentence) for sentence in refused.SENTENCES.values()}
        known = "\n".join(_refuse(site, sentence, f"{{ {no} {words} }}") for sentence, words in told.items() if sentence != refused.UNSURE)
        return f"""\
    # The second lock, at every request: also on resumed sessions and open connections. No answer, or a strange one, is a no.
    http-request lua.gatekey_decide unix@{decision(site).host} {site.host} {groups}
{known}
{_refuse(site, refused.UNSURE, f"!{{ {no} allow }}", status=503)}
{_refuse(site, refused.STRANGER, "!{ var(txn.gatekey_user) -m len gt 0 }")}
"""
    return f"""\
    # Whose certificates are let in. The trust chain has more authorities than these: a root signs others, too.
{_refuse(site, refused.STRANGER, f"!{{ var(txn.gatekey_issuer),url_enc -m str -f {site.bundle}/issuers.lst }}")}
    # The second lock: certificates that are not let in, by serial and issuer. `add acl` on the stats socket changes it at once, without a reload.
{_refuse(site, refused.WITHDRAWN, f"{{ var(txn.gatekey_key) -m str -f {site.bundle}/revoked.lst }}")}
{_refuse(site, refused.STRANGER, "!{ var(txn.gatekey_user) -m len gt 0 }")}
{_groups(site)}"""


def _crl_comment(site: Site) -> str:
    if site.decision and not site.crl_at_handshake:
        return "    # No crl-file: it would count from the next reload only, and shut out everybody when it is past its date.\n"
    if site.crl_at_handshake:
        return "    # crl-file: complete CRLs of every authority in the chain. One that is missing or past its date shuts out everybody.\n"
    return f"""\
    # {site.revoked} certificates are revoked. OpenSSL would walk a CRL of that length at every handshake, so it is not used here: the lock by serial and
    # issuer below (revoked.lst) carries revocation alone. It is a tree lookup at any length.
"""


def _taken() -> str:
    exact = [name for name in headers.STRIPPED if not name.lower().startswith("x-client-")]
    patterns = ["^x[-_]client[-_]", *(f"^{re.sub('-', '[-_]', name.lower())}$" for name in exact)]
    return "\n".join(f"    http-request del-header {pattern} -m reg" for pattern in patterns)


def _options(site: Site) -> str:
    if not site.static_options:
        return ""
    about = "    # Before a request from another site (CORS) browsers ask with OPTIONS, and show no certificate. The app is never asked.\n"
    plain = "    http-request return status 204 if METH_OPTIONS\n"
    if not site.origins:
        return about + plain
    cors = (
        ("Access-Control-Allow-Origin", "%[req.hdr(origin)]"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Methods", '"GET, HEAD, POST, PUT, PATCH, DELETE"'),
        ("Access-Control-Allow-Headers", "%[req.hdr(access-control-request-headers)]"),
        ("Access-Control-Max-Age", "600"),
        ("Vary", "Origin"),
    )
    sent = " ".join(f"hdr {name} {value}" for name, value in cors)
    return f"{about}    http-request return status 204 {sent} if METH_OPTIONS {{ req.hdr(origin) -m str {' '.join(site.origins)} }}\n{plain}"


def _refuse(site: Site, reason: str, condition: str, status: int = 403) -> str:
    page = refused.page(site, reason).replace("\n", " ").strip()
    return f"    http-request return status {status} content-type \"text/html; charset=utf-8\" hdr Cache-Control no-store string '{page}' if {condition}"


def _groups(site: Site) -> str:
    if not site.groups:
        return ""
    return f"""\
    # Only for: {", ".join(headers.encode(group) for group in site.groups)}.
    http-request set-var(txn.gatekey_groups) var(txn.gatekey_person),field(2,;)
{_refuse(site, refused.NOT_FOR_YOU, f"!{{ var(txn.gatekey_groups) -m reg '{site.group_pattern}' }}")}
"""


def _fields(site: Site) -> str:
    names = (headers.GROUPS, headers.EMAIL, headers.NAME, headers.DEVICE)
    if site.decision:
        return "\n".join(f"    http-request set-header {name} %[var(txn.gatekey_{name.lower().rpartition('-')[2]})]" for name in names)
    # Always, also where nothing is known of the person: a field that is missing could be written by the client in a trailer, which HAProxy passes on.
    return "\n".join(f"    http-request set-header {name} %[var(txn.gatekey_person),field({number},;)]" for number, name in enumerate(names, 2))


def _server(site: Site) -> str:
    app = upstream(site)
    if app.scheme == "unix":
        return f"unix@{app.host}"
    return f"{app.dial} ssl verify required ca-file @system-ca sni str({app.host}) verifyhost {app.host}" if app.scheme == "https" else app.dial


def _redirect(site: Site) -> str:
    if not site.plain:
        return ""
    binds = "".join(f"    bind {bracketed(host)}:{port}{' v6only' if host == '::' else ''}\n" for host, port in map(address, site.plain))
    return f"""
# Plain HTTP: a redirect and nothing else.
frontend {f"gatekey_{site.label}"}_plain
    mode http
    timeout client 15s
    timeout http-request 15s
{binds}\
    http-request redirect code 301 location https://{site.public_host}%[pathq] if {{ req.hdr(host),lower,regsub(:[0-9]+$,) -m str {site.host} }}
    http-request deny deny_status 421
"""
