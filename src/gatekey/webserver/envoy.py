"""Configuration for Envoy 1.29 and later, by its documentation and its schema: it was not run here, only its Lua was.

The CRL is the first lock and is read again by itself when the bundle changes; a Lua filter asks the lists of the bundle at every request.
"""

from __future__ import annotations

from ..errors import Refused
from ..model import headers
from . import page as refused
from .site import Configuration, Site, address, checked, upstream

PLACE = "/etc/envoy"
RELOAD = ("systemctl", "restart", "envoy")


def configuration(site: Site) -> Configuration:
    """The bootstrap file for one site, its trust as a file that Envoy watches, and the Lua of the second lock.

    Raises Refused for a site that cannot be written, and for OPTIONS without a certificate.
    """
    site = checked(site)
    if site.decision:
        hint = "leave out --decision: its Lua asks the lists of the bundle at every request; or take nginx, Apache, HAProxy or Caddy"
        raise Refused("server-cannot", "this configuration of Envoy cannot ask the decision endpoint", hint=hint)
    if site.static_options:
        hint = "take nginx, Apache, HAProxy or Caddy, or serve the API under the same host as the pages"
        raise Refused("server-cannot", "this configuration of Envoy cannot answer OPTIONS without a certificate and ask for one otherwise", hint=hint)
    folder = site.place or PLACE
    file = f"{folder}/gatekey-{site.host}.yaml"
    notes = [
        "this configuration was written by Envoy's documentation and schema and not run: knock at the site with `gatekey check` before you rely on it",
        "Envoy reads chain, CRLs and lists again by itself; an open WebSocket of a revoked person goes on until Envoy is restarted",
        "the page for people without a certificate is missing: Envoy ends the handshake, and the browser shows an error of its own",
    ]
    if not site.crl_at_handshake:
        notes.append(f"{site.revoked} certificates are revoked: the CRL is left out of the handshake, the lock by issuer and serial carries revocation alone")
    includes = {f"{site.folder}/people.sds.yaml": _trust(site), f"{site.folder}/lock.lua": lua(site)}
    return Configuration("envoy", file, _text(site), includes, tuple(notes), RELOAD, ("envoy", "--mode", "validate", "-c", file))


def _text(site: Site) -> str:
    app = upstream(site)
    names = ", ".join(f'"{name}"' for name in dict.fromkeys((site.host, *(f"{site.host}:{port}" for port in (443, *site.ports)))))
    plain_names = ", ".join(f'"{name}"' for name in dict.fromkeys((site.host, *(f"{site.host}:{address(entry)[1]}" for entry in site.plain))))
    listeners = "".join(_listener(site, number, *address(entry), names) for number, entry in enumerate(site.listen))
    listeners += "".join(_plain(site, number, *address(entry), plain_names) for number, entry in enumerate(site.plain))
    target = f"pipe: {{path: {app.host}}}" if app.scheme == "unix" else f'socket_address: {{address: "{app.host}", port_value: {app.port}}}'
    secure = ""
    if app.scheme == "https":
        secure = f"""\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: "{app.host}"
          common_tls_context:
            validation_context:
              trusted_ca: {{filename: /etc/ssl/certs/ca-certificates.crt}}
              match_typed_subject_alt_names:
                - {{san_type: DNS, matcher: {{exact: "{app.host}"}}}}
"""
    return f"""\
# Gatekey: {site.host}, for people with a certificate only.
# Written by Envoy's documentation and schema and NOT RUN by Gatekey's tests: knock at the site with `gatekey check` before you rely on it.
static_resources:
  listeners:
{listeners}\
  clusters:
    - name: app
      type: {"STATIC" if app.scheme == "unix" else "STRICT_DNS"}
      connect_timeout: 5s
{secure}\
      load_assignment:
        cluster_name: app
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    {target}
"""


def _listener(site: Site, number: int, host: str, port: int, names: str) -> str:
    return f"""\
    - name: gatekey_{number}
      address: {{socket_address: {{address: "{host}", port_value: {port}}}}}
      listener_filters:
        - name: envoy.filters.listener.tls_inspector
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
      filter_chains:
        # Who asks for no name, or for an unknown one, finds no filter chain, and the connection is closed.
        - filter_chain_match: {{server_names: ["{site.host}"]}}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              require_client_certificate: true
              # A resumed session would outlive a revocation: Envoy looks at no CRL then.
              disable_stateless_session_resumption: true
              disable_stateful_session_resumption: true
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {{tls_minimum_protocol_version: TLSv1_2}}
                tls_certificates:
                  - certificate_chain: {{filename: "{site.certificate}"}}
                    private_key: {{filename: "{site.key}"}}
                validation_context_sds_secret_config:
                  name: gatekey_people
                  sds_config:
                    resource_api_version: V3
                    path_config_source: {{path: "{site.folder}/people.sds.yaml"}}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: gatekey
                # The visitor's address counts, not what a header says of it.
                use_remote_address: true
                # Headers with an underscore would reach some apps under the names that the filter sets.
                common_http_protocol_options: {{headers_with_underscores_action: REJECT_REQUEST}}
                normalize_path: true
                merge_slashes: true
                path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT
                # What a client sends as X-Forwarded-Client-Cert is thrown away; the app gets the one of this connection.
                forward_client_cert_details: SANITIZE_SET
                set_current_client_cert_details: {{cert: true, subject: true}}
                upgrade_configs:
                  - upgrade_type: websocket
                http_filters:
                  - name: envoy.filters.http.lua
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
                      default_source_code: {{filename: "{site.folder}/lock.lua"}}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    # Any other Host finds no virtual host: 404, and nothing of the app.
                    - name: site
                      domains: [{names}]
                      routes:
                        - match: {{prefix: "/"}}
                          route: {{cluster: app, timeout: 0s}}
"""


def _plain(site: Site, number: int, host: str, port: int, names: str) -> str:
    return f"""\
    # Plain HTTP: a redirect and nothing else.
    - name: gatekey_plain_{number}
      address: {{socket_address: {{address: "{host}", port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: gatekey_plain
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: redirect
                      domains: [{names}]
                      routes:
                        - match: {{prefix: "/"}}
                          redirect: {{https_redirect: true, port_redirect: {site.ports[0]}}}
"""


def _trust(site: Site) -> str:
    crl = f'      crl: {{filename: "{site.bundle}/all.crl.pem"}}\n' if site.crl_at_handshake else ""
    return f"""\
# Gatekey: whose certificates are trusted, and the complete CRLs of every authority in the chain. Envoy watches these files.
resources:
  - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
    name: gatekey_people
    validation_context:
      trusted_ca: {{filename: "{site.bundle}/people-chain.pem"}}
{crl}"""


def lua(site: Site) -> str:
    """The second lock and the identity headers, for Envoy's Lua filter. The lists are those of HAProxy, read again when the manifest changes."""
    removed = "\n".join(f'  "{name.lower()}",' for name in headers.STRIPPED if name != "X-Forwarded-Client-Cert")
    groups = ", ".join(f'["{headers.encode(group)}"] = true' for group in site.groups)
    pages = {
        "withdrawn": refused.WITHDRAWN,
        "stranger": refused.STRANGER,
        "not_for_you": refused.NOT_FOR_YOU,
    }
    texts = "".join(f"pages.{name} = [==[\n{refused.page(site, reason)}]==]\n" for name, reason in pages.items())
    return f"""\
-- Gatekey: {site.host}. Who is not let in, and who is there.
local folder = "{site.bundle}"
local groups = {{ {groups} }}
local anybody = {"false" if site.groups else "true"}
-- Everything goes that a client may have sent as an identity. x-forwarded-client-cert is Envoy's own business (SANITIZE_SET).
local taken = {{
{removed}
}}
local pages = {{}}
{texts}
local function read(name)
  local file = io.open(folder .. "/" .. name, "r")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function lines(text)
  local found = {{}}
  for line in text:gmatch("[^\\n]+") do
    if line:sub(1, 1) ~= "#" then
      local key, value = line:match("^(%S+) ?(.*)$")
      found[key] = value
    end
  end
  return found
end

local lists, manifest, looked_at = nil, nil, 0

-- The manifest is looked at once a second; when it has changed, so have the lists. Without readable lists nobody is let in.
local function current()
  local now = os.time()
  if now ~= looked_at then
    looked_at = now
    local text = read("manifest.json")
    if text and text ~= manifest then
      local revoked, issuers, people = read("revoked.lst"), read("issuers.lst"), read("people.lst")
      if revoked and issuers and people then
        lists = {{ revoked = lines(revoked), issuers = lines(issuers), people = lines(people) }}
        manifest = text
      end
    end
  end
  return lists
end

local function encode(text)
  return (text:gsub("[^A-Za-z0-9._~-]", function(char) return string.format("%%%02X", char:byte()) end))
end

local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function refuse(handle, status, page)
  handle:respond({{ [":status"] = status, ["content-type"] = "text/html; charset=utf-8", ["cache-control"] = "no-store" }}, page)
end

local function allowed(theirs)
  if anybody then return true end
  for group in theirs:gmatch("[^,]+") do
    if groups[group] then return true end
  end
  return false
end

function envoy_on_request(handle)
  local wanted = handle:headers()
  for _, name in ipairs(taken) do wanted:remove(name) end

  local ssl = handle:streamInfo():downstreamSslConnection()
  if ssl == nil or not ssl:peerCertificatePresented() or not ssl:peerCertificateValidated() then
    return refuse(handle, "403", pages.stranger)
  end
  local known = current()
  if known == nil then
    return refuse(handle, "503", pages.stranger)
  end
  local issuer = ssl:issuerPeerCertificate()
  local serial = ssl:serialNumberPeerCertificate():upper()
  local key = encode(serial .. " " .. issuer)
  if known.issuers[encode(issuer)] == nil then
    return refuse(handle, "403", pages.stranger)
  end
  if known.revoked[key] ~= nil then
    return refuse(handle, "403", pages.withdrawn)
  end

  local login, theirs, email, name, device = "", "", "", "", ""
  local person = known.people[key]
  if person ~= nil then
    login, theirs, email, name, device = person:match("^([^;]*);([^;]*);([^;]*);([^;]*);([^;]*)$")
    login = login and decode(login) or ""
  else
    -- Younger than the list: the login is the common name, and there are no groups.
    login = ssl:subjectPeerCertificate():match("^CN=([A-Za-z0-9._@ -]+)$") or ""
  end
  if login == "" then
    return refuse(handle, "403", pages.stranger)
  end
  if not allowed(theirs) then
    return refuse(handle, "403", pages.not_for_you)
  end

  local told = {{
    ["{headers.USER.lower()}"] = login,
    ["{headers.GROUPS.lower()}"] = theirs,
    ["{headers.EMAIL.lower()}"] = email,
    ["{headers.NAME.lower()}"] = name,
    ["{headers.DEVICE.lower()}"] = device,
    ["{headers.SERIAL.lower()}"] = serial,
    ["{headers.ISSUER.lower()}"] = issuer,
    ["{headers.VERIFY.lower()}"] = "SUCCESS",
    ["{headers.CERT.lower()}"] = ssl:urlEncodedPemEncodedPeerCertificate(),
  }}
  for header, value in pairs(told) do
    if value ~= "" then wanted:add(header, value) end
  end
end
"""
