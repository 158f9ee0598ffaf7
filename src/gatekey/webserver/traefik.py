"""Configuration for Traefik 3, by its documentation: it was not run here. Traefik knows no CRL and cannot look up a serial, so a revoked certificate is let in.

That has to be caught behind it: by the app (gatekey.identity with the bundle), or by another server in front.
"""

from __future__ import annotations

from ..errors import Refused
from ..model import headers
from .apache import look_alikes
from .site import Configuration, Site, address, bracketed, checked, decision, upstream

#: The folder that its file provider usually watches.
PLACE = "/etc/traefik/dynamic"
#: Traefik watches its folder by itself and has no checker.
RELOAD: tuple[str, ...] = ()
CHECK: tuple[str, ...] = ()

_LETS_IN = "Traefik LETS REVOKED CERTIFICATES IN: it has neither CRLs nor a list of serials. Only an app that asks gatekey.identity refuses them"


_ASKS = "The decision endpoint is asked at every request (ForwardAuth); whatever it does not answer with 200 is a no"


def configuration(site: Site) -> Configuration:
    """The dynamic configuration for one site, for a folder that Traefik's file provider watches.

    Raises Refused for a site that cannot be written, and for what Traefik cannot hold: groups, and OPTIONS without a certificate.
    """
    site = checked(site)
    hint = "take nginx, Apache, HAProxy or Caddy, or let the app decide with gatekey.identity"
    if site.decision and decision(site).scheme != "https":
        way = "--decision https://HOST:8443, with a client certificate whose holder has the role proxy"
        raise Refused("server-cannot", "Traefik asks by https only", hint=way)
    if site.groups and not site.decision:
        raise Refused("server-cannot", "Traefik cannot tell one certificate from another, so it cannot keep a site for some groups", hint=hint)
    if site.static_options:
        raise Refused("server-cannot", "Traefik cannot answer OPTIONS without a certificate and ask for one otherwise", hint=hint)
    folder = site.place or PLACE
    notes = (
        *(() if site.decision else (_LETS_IN,)),
        "this configuration was written by Traefik's documentation and not run: knock at the site with `gatekey check` before you rely on it",
        "Traefik reads the folder again by itself; an old connection or WebSocket goes on, and so does a TLS session where disableSessionTickets is unknown",
        "tls.options.default counts for every router without options of its own: give public sites `options: gatekey-public`",
        "the page for people without a certificate is missing: Traefik ends the handshake, and the browser shows an error of its own",
    )
    return Configuration("traefik", f"{folder}/gatekey-{site.host}.yml", _text(site), {}, notes, RELOAD, CHECK)


def _text(site: Site) -> str:
    label = f"gatekey-{site.label.replace('_', '-')}"
    taken = "".join(f'          {name}: ""\n' for stripped in headers.STRIPPED for name in look_alikes(stripped))
    return f"""\
# Gatekey: {site.host}, for people with a certificate only. For a folder that Traefik's file provider watches.
#
# {_ASKS if site.decision else _LETS_IN}.
# Written by Traefik's documentation and NOT RUN by Gatekey's tests: knock at the site with `gatekey check` before you rely on it.
#
# The static configuration needs, beside `providers: {{file: {{directory: ..., watch: true}}}}`:
#   entryPoints:
{_entry_points(site)}
http:
  routers:
    {label}:
      rule: "Host(`{site.host}`)"
      entryPoints: [gatekey]
      middlewares: [{label}-strip, {label}-certificate{f', {label}-decision' if site.decision else ''}]
      service: {label}
      tls:
        options: gatekey
    {label}-plain:
      rule: "Host(`{site.host}`)"
      entryPoints: [gatekey-plain]
      middlewares: [{label}-redirect]
      service: {label}

  middlewares:
    # Everything goes that a client may have sent as an identity. An empty value takes a header away. This must come first.
    {label}-strip:
      headers:
        customRequestHeaders:
{taken}\
    # Then the certificate itself, as X-Forwarded-Tls-Client-Cert.
    {label}-certificate:
      passTLSClientCert:
        pem: true
{_decision(site, label)}\
    {label}-redirect:
      redirectScheme:
        scheme: https
        port: "{site.ports[0]}"
        permanent: true

  services:
    {label}:
      loadBalancer:
        servers:
          - url: "{_url(site)}"

tls:
  certificates:
    - certFile: "{site.certificate}"
      keyFile: "{site.key}"
  options:
    # Who asks for no name, or for an unknown one, is judged by "default": it must be as strict as the site.
    default: &gatekey
      minVersion: VersionTLS12
      sniStrict: true
      disableSessionTickets: true
      clientAuth:
        clientAuthType: RequireAndVerifyClientCert
        caFiles:
          - "{site.bundle}/people-chain.pem"
    gatekey: *gatekey
    # For routers of public sites on the same Traefik.
    gatekey-public:
      minVersion: VersionTLS12
      sniStrict: true
"""


def _decision(site: Site, label: str) -> str:
    if not site.decision:
        return ""
    groups = f'          X-Gatekey-Groups: "{",".join(map(headers.encode, site.groups))}"\n' if site.groups else ""
    taken = (headers.USER, headers.NAME, headers.EMAIL, headers.GROUPS, headers.DEVICE, headers.SERIAL, headers.ISSUER, headers.VERIFY)
    answered = "".join(f"          - {name}\n" for name in taken)
    return f"""\
    # Then the question: the certificate above, and which site it is. Both are ours: what the client sent under these names was taken away first.
    {label}-decision:
      chain:
        middlewares: [{label}-question, {label}-ask]
    {label}-question:
      headers:
        customRequestHeaders:
          X-Gatekey-Serial: ""
          X-Gatekey-Issuer: ""
          X-Gatekey-Site: "{site.host}"
{groups}\
    {label}-ask:
      forwardAuth:
        address: "{decision(site).url}/decision"
        trustForwardHeader: false
        authResponseHeaders:
{answered}\
        tls:
          ca: "{site.decision_trust}"
          cert: "{site.decision_certificate}"
          key: "{site.decision_key}"
"""


def _entry_points(site: Site) -> str:
    def lines(name: str, entries: tuple[str, ...]) -> str:
        host, port = address(entries[0])
        return f'#     {name}: {{address: "{bracketed(host)}:{port}"}}\n'

    return lines("gatekey", site.listen) + (lines("gatekey-plain", site.plain) if site.plain else "")


def _url(site: Site) -> str:
    app = upstream(site)
    if app.scheme == "unix":
        raise Refused("server-cannot", "Traefik passes requests to addresses, not to Unix sockets", hint="let the app listen on 127.0.0.1 and give --upstream http://...")
    return app.url
