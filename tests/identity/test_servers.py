"""What real web servers say, read by the doorman: with the configurations that Gatekey writes, and with others that people have."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gatekey.errors import Malformed, Refused
from gatekey.identity import Client, Doorman, certificate_header
from gatekey.identity.headers import SECRET, sort_out
from gatekey.identity.trust import Peer
from gatekey.model import headers as model
from kit import servers
from kit.backend import Seen, backend
from kit.doors import Door, door
from kit.house import House
from kit.pki import Leaf, make_pki

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PROXY = Peer("127.0.0.1")


def asked(doorman: Doorman, seen: Seen) -> Client:
    """What the doorman says of a request as it arrived at the app."""
    return doorman.identify(sort_out([(name.encode("latin-1"), value.encode("latin-1")) for name, value in seen.headers], doorman.names), PROXY)


# The configurations that Gatekey writes


@pytest.fixture(scope="module", params=["nginx", "apache", "haproxy", "caddy"])
def shut(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(request.param, tmp_path_factory.mktemp(request.param)) as d:
        yield d


@pytest.mark.parametrize("source", ["gatekey", "its own"])
def test_our_configurations_say_who_is_there(shut: Door, source: str) -> None:
    word = "gatekey" if source == "gatekey" else shut.kind
    knowing, plain = Doorman(trust="127.0.0.1", source=word, bundle=shut.bundle), Doorman(trust="127.0.0.1", source=word)
    assert shut.visit(shut.ann).status == 200
    known = Client(
        "ann", "Änn O'Reilly; \"A\" $x", "ann+$x@example.com", ("staff", "all hands, on deck"), shut.ann.serial, "CN=kitty-ca people", "ann's laptop", True
    )
    # With people.json and without: the server's own map says the same.
    assert asked(knowing, shut.app.last) == known
    assert asked(plain, shut.app.last) == known


def test_a_certificate_younger_than_the_bundle_has_its_login(shut: Door) -> None:
    assert shut.visit(shut.carl).status == 200
    for doorman in (Doorman(trust="127.0.0.1", bundle=shut.bundle), Doorman(trust="127.0.0.1", source=shut.kind)):
        assert asked(doorman, shut.app.last) == Client("carl", "", "carl@example.com", None, shut.carl.serial, "CN=kitty-ca people", "", True)


SPELLINGS = ("{}", "{}_", "_{}", "_", ".")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_nobody_talks_himself_into_another_name(shut: Door, spelling: str) -> None:
    """Every identity header there is, forged in every spelling: the app hears the truth, or the request is refused; never the forged name."""
    doorman = Doorman(trust="127.0.0.1", bundle=shut.bundle)
    forged = {model.VERIFY: "SUCCESS", model.SERIAL: shut.ann.serial, model.CERT: "rubbish", model.CLIENT_CERT: ":QUJD:", model.GROUPS: "admin"}
    spelled = {name: spelling.format(name) if "{}" in spelling else name.replace("-", spelling) for name in (*model.STRIPPED, SECRET)}
    said = tuple((spelled[name], forged.get(name, "admin")) for name in spelled)
    before = len(shut.app.seen)
    answer = shut.visit(shut.bob, headers=said)
    if len(shut.app.seen) == before:
        assert answer.status != 200
        return
    try:
        client = asked(doorman, shut.app.last)
    except Malformed as refused:
        assert refused.code == "identity-look-alike"
        return
    assert (client.login, client.groups, client.serial) == ("bob", ("staff",), shut.bob.serial)


def test_a_revoked_client_is_refused_by_the_app_too(tmp_path: Path) -> None:
    """Between the bundle and the web server's reload the app is the only lock."""
    with door("nginx", tmp_path) as d:
        doorman = Doorman(trust="127.0.0.1", bundle=d.bundle)
        assert d.visit(d.bob).status == 200
        seen = d.app.last
        assert asked(doorman, seen).login == "bob"
        d.publish(revoked=(d.bob,))
        with pytest.raises(Refused) as refused:
            asked(doorman, seen)
        assert refused.value.code == "identity-denied"


# Other configurations that people have

NGINX = """server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {site.chain}; ssl_certificate_key {site.key};
    ssl_client_certificate {people}; ssl_verify_client optional; ssl_verify_depth 2;
    location / {{ proxy_pass {app}; proxy_set_header ssl-client-cert $ssl_client_escaped_cert; proxy_set_header ssl-client-verify $ssl_client_verify; }} }}"""

APACHE = """Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
SSLEngine on
SSLCertificateFile {site.chain}
SSLCertificateKeyFile {site.key}
SSLCACertificateFile {people}
SSLVerifyClient optional
SSLVerifyDepth 2
SSLOptions +ExportCertData +StdEnvVars
RequestHeader set SSL_CLIENT_VERIFY "%{{SSL_CLIENT_VERIFY}}s"
RequestHeader set SSL_CLIENT_CERT "%{{SSL_CLIENT_CERT}}s"
RequestHeader set SSL_CLIENT_M_SERIAL "%{{SSL_CLIENT_M_SERIAL}}s"
RequestHeader set SSL_CLIENT_I_DN "%{{SSL_CLIENT_I_DN}}s"
RequestHeader set SSL_CLIENT_S_DN_CN "%{{SSL_CLIENT_S_DN_CN}}s"
ProxyPass / {app}/
</VirtualHost>"""

APACHE_WITHOUT_CERTIFICATE = "\n".join(line for line in APACHE.splitlines() if "set SSL_CLIENT_CERT" not in line)

HAPROXY = """defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:{port} ssl crt {site.combined} ca-file {people} verify optional
  http-request set-header {header}
  default_backend b
backend b
  server s {address}
"""

CADDY = """{{
  auto_https off
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {site.chain} {site.key} {{
    client_auth {{
      mode verify_if_given
      trusted_ca_cert_file {people}
    }}
  }}
  reverse_proxy {app} {{
    header_up {header}
  }}
}}
"""

DER, CADDY_DER = "%[ssl_c_der,base64]", "{http.request.tls.client.certificate_der_base64}"

#: How the server is started, its configuration, the header that it sets, and the source that reads it.
OTHERS: dict[str, tuple[Any, str, str, Any]] = {
    "nginx as ingress-nginx": (servers.nginx, NGINX, "", "ingress-nginx"),
    "nginx, a header of one's own": (servers.nginx, NGINX, "", certificate_header("SSL-Client-Cert", "SSL-Client-Verify")),
    "Apache, SSL_CLIENT_*": (servers.apache, APACHE, "", "mod_ssl"),
    "Apache, SSL_CLIENT_* without the certificate": (servers.apache, APACHE_WITHOUT_CERTIFICATE, "", "mod_ssl"),
    "HAProxy, RFC 9440": (servers.haproxy, HAPROXY, f'Client-Cert ":{DER}:"', "rfc9440"),
    "HAProxy, base64": (servers.haproxy, HAPROXY, f"X-SSL-Client-Cert {DER}", certificate_header("X-SSL-Client-Cert")),
    "Caddy, RFC 9440": (servers.caddy, CADDY, f'Client-Cert ":{CADDY_DER}:"', "rfc9440"),
    "Caddy, base64": (servers.caddy, CADDY, f"X-Client-Cert {CADDY_DER}", certificate_header("X-Client-Cert")),
}


def get(port: int, who: Leaf | None, folder: Path, headers: dict[str, str]) -> int:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if who:
        files = who.write(folder)
        context.load_cert_chain(files.chain, files.key)
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=15)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


@pytest.mark.parametrize("other", OTHERS)
def test_other_configurations_are_read_too(house: House, tmp_path: Path, other: str) -> None:
    start, text, header, source = OTHERS[other]
    site = make_pki("kitty-ca servers").server("localhost", "127.0.0.1").write(tmp_path, "site")
    people = tmp_path / "people-chain.pem"
    people.write_bytes(house.pki.chain_pem)
    knowing = Doorman(trust="127.0.0.1", source=source, bundle=house.bundle)
    strict = Doorman(trust="127.0.0.1", source=source)
    port = servers.free_port()
    with backend() as app:
        config = text.format(port=port, site=site, people=people, app=app.url, address=app.url.removeprefix("http://"), header=header)
        running: AbstractContextManager[Any] = start(config, tmp_path, [port])
        with running:
            assert get(port, house.ann, tmp_path, {}) == 200
            assert asked(knowing, app.last).name == "Änn Öberg"
            assert asked(strict, app.last) == Client("ann", "", asked(strict, app.last).email, None, house.ann.serial, "CN=kitty-ca people", "", True)
            # Without a certificate there is nobody, in the words of each server.
            assert get(port, None, tmp_path, {}) == 200
            with pytest.raises(Refused) as refused:
                asked(strict, app.last)
            assert refused.value.code == "identity-nobody"
            # A header of the visitor's, under the name that the server sets and under others: replaced, refused or not believed.
            for name in ("SSL_CLIENT_CERT", "Ssl-Client-Cert", "Client-Cert", "X-SSL-Client-Cert", "X-Client-Cert", "X_Client_Cert", "Client_Cert"):
                for who in (house.bob, None):
                    assert get(port, who, tmp_path, {name: house.ann.certificate_pem.decode().replace("\n", " ")}) == 200
                    try:
                        client = asked(strict, app.last)
                    except (Malformed, Refused):
                        continue
                    assert who is not None
                    assert client.serial == house.bob.serial
