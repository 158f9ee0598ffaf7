"""Configuration for Caddy 2.6 and later. Caddy cannot read CRLs, so revocation hangs on the lock by issuer + serial alone: a `map` over the bundle's list.

Caddy looks up its maps one line after the other and builds them anew at every reload: right for some thousand revoked certificates, not for a million.
"""

from __future__ import annotations

import re
import shlex

from ..model import headers
from . import page as refused
from .apache import look_alikes
from .site import DECISION_IDLE, DECISION_PATIENCE, LAST_WORDS, Configuration, Site, address, bracketed, checked, decision, upstream

#: Beside the Caddyfile, which imports it.
PLACE = "/etc/caddy"
RELOAD = ("systemctl", "reload", "caddy")

#: Lines that Caddy walks at each request without being noticed (0.1 ms).
LINES_MOST = 10_000


def configuration(site: Site) -> Configuration:
    """The files for one site: the global options, which must come first in the Caddyfile, and the site. Raises Refused for a site that cannot be written."""
    site = checked(site)
    folder = site.place or PLACE
    file = f"{folder}/gatekey-{site.host}.caddy"
    lock = f"Caddy cannot read CRLs: a revoked certificate is refused by its serial and issuer; reload at every change of {site.bundle}"
    if site.decision:
        lock = "a WebSocket that is open when its owner is revoked stays open until Caddy is reloaded: it was one request"
    asked = "the decision endpoint is" if site.decision else "the lists are"
    notes = [
        lock,
        f"Caddy resumes TLS sessions and a Caddyfile has no word against it: that lets nobody in, because {asked} asked at every request",
        f"the first line of the Caddyfile must be `import {folder}/gatekey-global.caddy` (or have its options), then `import {file}`",
        f"the user that Caddy runs as must be able to read {site.key}: chgrp caddy {shlex.quote(site.key)} && chmod 640 {shlex.quote(site.key)}",
    ]
    if not site.decision and max(site.revoked, site.people) > LINES_MOST:
        notes.append(
            f"the lists have {max(site.revoked, site.people)} lines, and Caddy walks them at every request: beyond {LINES_MOST} take nginx, Apache or HAProxy"
        )
    check = ("caddy", "validate", "--adapter", "caddyfile", "--config", "/etc/caddy/Caddyfile")
    return Configuration("caddy", file, _text(site), {f"{folder}/gatekey-global.caddy": _global()}, tuple(notes), RELOAD, check)


def _global() -> str:
    return f"""\
# Gatekey: global options. Must be the first block that Caddy reads.
{{
	# {LAST_WORDS} s after a reload whatever began under the old lists is cut.
	grace_period {LAST_WORDS}s
	# The redirect from HTTP is written out for each site.
	auto_https disable_redirects
	servers {{
		# No QUIC: one way in is enough to watch.
		protocols h1 h2
		# The name in the handshake and the one in the request must be the same (421).
		strict_sni_host on
	}}
}}
"""


def _text(site: Site) -> str:
    snippet = f"gatekey_{site.label}"
    ports: dict[int, list[str]] = {}
    for host, port in map(address, site.listen):
        ports.setdefault(port, []).append(bracketed(host))
    blocks = "".join(f"\nhttps://{site.host}:{port} {{\n\tbind {' '.join(hosts)}\n\timport {snippet}\n}}\n" for port, hosts in ports.items())
    return f"""\
# Gatekey: {site.host}, for people with a certificate only.

({snippet}) {{
	tls {site.certificate} {site.key} {{
		protocols tls1.2 tls1.3
		client_auth {{
			# Brings people without a certificate as far as the page below; a wrong certificate ends the handshake.
			mode verify_if_given
			# Root and issuing authority: their names are sent to browsers, which offer certificates of these only.
			import {site.bundle}/trust.caddy
		}}
	}}

	# "route" keeps the order in which things stand here.
	route {{
{_options(site)}\
		map {{tls_client_serial}} {{gatekey_shown}} {{
			~^[0-9]+$ 1
			default 0
		}}
{_second_lock(site)}\
		reverse_proxy {_proxy(site)}
	}}
}}
{blocks}{_redirect(site)}"""


def _second_lock(site: Site) -> str:
    if site.decision:
        return _asked(site)
    key = '"{tls_client_serial} {tls_client_issuer}"'
    return f"""\
		# Whose certificates are let in. The trust chain has more authorities than these: a root signs others, too.
		map {{tls_client_issuer}} {{gatekey_issuer}} {{
			import {site.bundle}/issuers.caddy
			default 0
		}}
		# The lock: certificates that are not let in, by serial and issuer.
		map {key} {{gatekey_revoked}} {{
			import {site.bundle}/revoked.caddy
			default 0
		}}
		# Who is who. A certificate younger than the list has its login in the common name, and belongs to no group.
		map {key} {{gatekey_login}} {{gatekey_groups}} {{gatekey_email}} {{gatekey_name}} {{gatekey_device}} {{
			import {site.bundle}/people.caddy
			default "" "" "" "" ""
		}}
		map {{tls_client_subject}} {{gatekey_common_name}} {{
			"~^CN=([A-Za-z0-9._@ -]+)$" "${{1}}"
			default ""
		}}
		map "{{gatekey_login}}/{{gatekey_common_name}}" {{gatekey_user}} {{
			"~^([^/]+)/" "${{1}}"
			"~^/([^/]+)$" "${{1}}"
			default ""
		}}
{_groups(site)}\

		# Whoever is refused gets a page and no byte of the app.
{_refuse(site, refused.NO_CERTIFICATE, "none", "{gatekey_shown}", "1")}
{_refuse(site, refused.STRANGER, "stranger", "{gatekey_issuer}", "1")}
{_refuse(site, refused.WITHDRAWN, "withdrawn", "{gatekey_revoked}", "0")}
{_refuse_nameless(site)}
{_refuse(site, refused.NOT_FOR_YOU, "outside", "{gatekey_inside}", "1") if site.groups else ""}
		# Everything goes that a client may have sent as an identity, also under names with underscores that many apps take for it.
{_taken()}
		# "Connection: X-Client-User" would ask the proxy to leave that header out (RFC 9110 7.6.1).
		@gatekey_hops not header_regexp Connection "(?i)^(close|upgrade|keep-alive|keep-alive, *upgrade)$"
		request_header @gatekey_hops -Connection
{_WISHES}
		# Who is there, for the app. All but X-Client-User are percent-encoded UTF-8; Client-Cert is that of RFC 9440.
{_identity()}
"""


#: What is done with a wish for another protocol.
_WISHES = """\
		# It goes on for a WebSocket only, never with a body: some app servers take that for the next request, which nobody has checked.
		@gatekey_wishes not {
			protocol http/1.1
			method GET
			header_regexp Upgrade (?i)^websocket$
			header !Content-Length
		}
		request_header @gatekey_wishes -Upgrade
		# A chunked body has no header here that could be looked for. Of such a one a single byte goes on, and the connection ends.
		@gatekey_websocket header Upgrade *
		request_body @gatekey_websocket {
			max_size 1
		}"""

#: Headers of the client that the decision endpoint is not told.
_KEPT = ("Cookie", "Authorization", "Referer", "Upgrade", "Connection", "Sec-*", "Content-*", "If-*", "Range", "Expect", "X-Forwarded-*")
#: Headers in which the decision endpoint is asked: never taken from a client.
_QUESTION = ("X-Gatekey-Serial", "X-Gatekey-Issuer", "X-Gatekey-Site", "X-Gatekey-Groups")


def _asked(site: Site) -> str:
    """`forward_auth`, written out: its short form has no word for the page of a refusal."""
    question = "\n".join(f"\t\trequest_header -{name}" for name in _QUESTION)
    endpoint = decision(site)
    place, secure = f"unix/{endpoint.host}", ""
    if endpoint.scheme != "unix":
        place = endpoint.url
        secure = f"""\
				# Proves that we are a web server: a certificate of ours whose holder has the role "proxy".
				tls_client_auth {site.decision_certificate} {site.decision_key}
				tls_trusted_ca_certs {site.decision_trust}
				tls_server_name {endpoint.host}
"""
    groups = f'\t\t\theader_up X-Gatekey-Groups "{",".join(map(headers.encode, site.groups))}"\n' if site.groups else ""
    answer = "{http.reverse_proxy.header."
    taken = {name: f"{answer}{name}}}" for name in (headers.USER, headers.NAME, headers.EMAIL, headers.GROUPS, headers.DEVICE, headers.SERIAL, headers.ISSUER)}
    values = {**taken, headers.VERIFY: "SUCCESS", headers.CLIENT_CERT: ":{tls_client_certificate_der_base64}:"}
    told = {sentence: [word for word, its in refused.SENTENCES.items() if its == sentence] for sentence in refused.SENTENCES.values()}
    pages = "".join(
        f"\t\t\t@gatekey_{word.replace('-', '_')} {{\n\t\t\t\tstatus 403\n\t\t\t\theader X-Gatekey-Why {word}\n\t\t\t}}\n"
        f"\t\t\thandle_response @gatekey_{word.replace('-', '_')} {{\n{_answer(site, sentence, 403)}\t\t\t}}\n"
        for sentence, words in told.items() if sentence != refused.UNSURE for word in words
    )
    return f"""\
		# Whoever is refused gets a page and no byte of the app.
{_refuse(site, refused.NO_CERTIFICATE, "none", "{gatekey_shown}", "1")}
		# Everything goes that a client may have sent as an identity, also under names with underscores that many apps take for it.
{_taken()}
{question}
		# "Connection: X-Client-User" would ask the proxy to leave that header out (RFC 9110 7.6.1).
		@gatekey_hops not header_regexp Connection "(?i)^(close|upgrade|keep-alive|keep-alive, *upgrade)$"
		request_header @gatekey_hops -Connection
{_WISHES}

		# The second lock, at every request: also on resumed sessions and open connections. No answer, or a strange one, is a no.
		# This is `forward_auth`, written out for the sake of the pages.
		reverse_proxy {place} {{
			method GET
			rewrite /decision
			# What is no business of the service's, and may be long, or would make it another kind of request.
{chr(10).join(f"			header_up -{name}" for name in _KEPT)}
			header_up Host gatekey
			header_up Client-Cert ":{{tls_client_certificate_der_base64}}:"
			header_up X-Gatekey-Site {site.host}
{groups}\
			transport http {{
				dial_timeout {DECISION_PATIENCE}s
				response_header_timeout {DECISION_PATIENCE}s
				keepalive {DECISION_IDLE}s
				keepalive_idle_conns_per_host 64
				compression off
{secure}\
			}}
			@gatekey_allowed {{
				status 200
				header X-Client-User *
			}}
			handle_response @gatekey_allowed {{
				# Who is there, for the app. All but X-Client-User are percent-encoded UTF-8; Client-Cert is that of RFC 9440.
{chr(10).join(f'				request_header {name} "{value}"' for name, value in values.items())}
			}}
{pages}\
			handle_response {{
{_answer(site, refused.UNSURE, 503)}\
			}}
		}}
"""


def _answer(site: Site, sentence: str, status: int) -> str:
    return f"""\
				header Content-Type "text/html; charset=utf-8"
				header Cache-Control no-store
				respond `{refused.page(site, sentence)}` {status}
"""


def _options(site: Site) -> str:
    if not site.static_options:
        return ""
    cors = ""
    if site.origins:
        names = "|".join(re.escape(origin) for origin in site.origins)
        cors = f"""\
		@gatekey_preflight {{
			method OPTIONS
			header_regexp Origin "^({names})$"
		}}
		handle @gatekey_preflight {{
			header Access-Control-Allow-Origin "{{header.Origin}}"
			header Access-Control-Allow-Credentials true
			header Access-Control-Allow-Methods "GET, HEAD, POST, PUT, PATCH, DELETE"
			header Access-Control-Allow-Headers "{{header.Access-Control-Request-Headers}}"
			header Access-Control-Max-Age 600
			header Vary Origin
			respond 204
		}}
"""
    return f"""\
		# Before a request from another site (CORS) browsers ask with OPTIONS, and show no certificate. The answer comes from here and never from the app.
{cors}\
		@gatekey_options method OPTIONS
		respond @gatekey_options 204
"""


def _groups(site: Site) -> str:
    if not site.groups:
        return ""
    return f"""\
		# Only for: {", ".join(headers.encode(group) for group in site.groups)}.
		map {{gatekey_groups}} {{gatekey_inside}} {{
			"~{site.group_pattern}" 1
			default 0
		}}
"""


def _refuse(site: Site, reason: str, label: str, variable: str, unless: str) -> str:
    return f"""\
		@gatekey_{label} not vars {variable} {unless}
		handle @gatekey_{label} {{
			header Content-Type "text/html; charset=utf-8"
			header Cache-Control no-store
			respond `{refused.page(site, reason)}` 403
		}}"""


def _refuse_nameless(site: Site) -> str:
    return f"""\
		map {{gatekey_user}} {{gatekey_named}} {{
			~^. 1
			default 0
		}}
{_refuse(site, refused.STRANGER, "nameless", "{gatekey_named}", "1")}"""


def _taken() -> str:
    return "\n".join(f"\t\trequest_header -{name}" for stripped in headers.STRIPPED for name in look_alikes(stripped))


def _identity() -> str:
    values = {
        headers.USER: "{gatekey_user}",
        headers.NAME: "{gatekey_name}",
        headers.EMAIL: "{gatekey_email}",
        headers.GROUPS: "{gatekey_groups}",
        headers.DEVICE: "{gatekey_device}",
        headers.ISSUER: "{tls_client_issuer}",
        headers.VERIFY: "SUCCESS",
        headers.CLIENT_CERT: ":{tls_client_certificate_der_base64}:",
    }
    return "\n".join(f'\t\trequest_header {name} "{value}"' for name, value in values.items())


def _proxy(site: Site) -> str:
    app = upstream(site)
    if app.scheme == "unix":
        return f"unix/{app.host}"
    return f"{app.url} {{\n\t\t\ttransport http {{\n\t\t\t\ttls_server_name {app.host}\n\t\t\t}}\n\t\t}}" if app.scheme == "https" else app.dial


def _redirect(site: Site) -> str:
    ports: dict[int, list[str]] = {}
    for host, port in map(address, site.plain):
        ports.setdefault(port, []).append(bracketed(host))
    return "".join(
        f"\n# Plain HTTP: a redirect and nothing else.\nhttp://{site.host}:{port} {{\n\tbind {' '.join(hosts)}\n"
        f"\tredir https://{site.public_host}{{uri}} 301\n}}\n"
        for port, hosts in ports.items()
    )
