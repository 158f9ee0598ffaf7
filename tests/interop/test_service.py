"""The service before programs that we did not write: openssl, GnuTLS, curl, pkilint, nginx and Apache asking OCSP, nginx in front of the private listener."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.api import Authority, Issued
from gatekey.x509.certificate import read_certificate
from gatekey.x509.pem import decode
from kit import servers
from kit.servers import free_port, wait_until
from kit.service import Service, client_context, configure, serving
from kit.typist import moved, sections

pytestmark = [pytest.mark.interop, pytest.mark.slow]


class House:
    """A service, Ann who is welcome, Bob whose certificate was revoked, and everything about them as files."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        with service.authority() as authority:
            self.ann, self.bob, self.cy = (authority.issue_client(name) for name in ("ann", "bob", "cy"))
            authority.revoke("bob", "key-compromise")
            authority.hold("cy")
            authority.crl("people")
        for name, issued in (("ann", self.ann), ("bob", self.bob), ("cy", self.cy)):
            self.write(f"{name}.crt", issued.certificate)
            self.write(f"{name}.pem", issued.key + issued.chain)
        for name in ("people", "people-root", "servers", "servers-root"):
            self.write(f"{name}.pem", service.get(f"/ca/{name}.pem")[2])
        self.write("chain.pem", self.path("people.pem").read_bytes() + self.path("people-root.pem").read_bytes())

    def path(self, name: str) -> Path:
        return self.folder / name

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        return path

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("interop")
    with serving(folder) as service:
        yield House(service, folder)


STATUS = {"ann": "good", "bob": "revoked", "cy": "revoked"}
REASON = {"bob": "keyCompromise", "cy": "certificateHold"}


@pytest.mark.parametrize("who", STATUS)
@pytest.mark.parametrize("options", [[], ["-no_nonce"], ["-sha256"], ["-sha256", "-no_nonce"], ["-sha512"]], ids=" ".join)
def test_openssl_ocsp(house: House, program: Callable[[str], str], who: str, options: list[str]) -> None:
    url = f"{house.service.url}/ocsp"
    digest = [one for one in options if one.startswith("-sha")]
    rest = [one for one in options if one not in digest]
    words = [program("openssl"), "ocsp", *digest, "-issuer", "people.pem", "-cert", f"{who}.crt", "-url", url, "-CAfile", "people-root.pem", *rest]
    said = house.run(*words)
    assert "Response verify OK" in said
    assert f"{who}.crt: {STATUS[who]}" in said
    assert "WARNING" not in said
    if who in REASON:
        assert REASON[who] in said


def test_openssl_asks_for_all_at_once(house: House, program: Callable[[str], str]) -> None:
    certificates = [word for who in STATUS for word in ("-cert", f"{who}.crt")]
    words = [program("openssl"), "ocsp", "-issuer", "people.pem", *certificates, "-serial", "0x1234", "-url", f"{house.service.url}/ocsp"]
    said = house.run(*words, "-CAfile", "people-root.pem")
    assert re.findall(r": (good|revoked|unknown)", said) == ["good", "revoked", "revoked", "unknown"]


def test_openssl_verifies_against_the_crls_as_they_are_served(house: House, program: Callable[[str], str]) -> None:
    for name in ("people", "people-root"):
        house.write(f"{name}.crl", house.service.get(f"/crl/{name}.crl")[2])
        text = house.run(program("openssl"), "crl", "-inform", "DER", "-in", f"{name}.crl", "-noout", "-text", "-CAfile", f"{name}.pem")
        assert "verify OK" in text
        house.write(f"{name}.crl.pem", house.service.get(f"/crl/{name}.pem")[2])
    house.write("all.crl.pem", house.path("people.crl.pem").read_bytes() + house.path("people-root.crl.pem").read_bytes())
    words = [program("openssl"), "verify", "-x509_strict", "-crl_check_all"]
    words += ["-CRLfile", "all.crl.pem", "-CAfile", "people-root.pem", "-untrusted", "people.pem"]
    assert "ann.crt: OK" in house.run(*words, "ann.crt")
    for who in ("bob", "cy"):
        assert "certificate revoked" in house.run(*words, f"{who}.crt", code=2)


@pytest.mark.parametrize("who", STATUS)
def test_gnutls_ocsptool(house: House, program: Callable[[str], str], who: str) -> None:
    words = [program("ocsptool"), f"--ask={house.service.url}/ocsp", "--load-cert", f"{who}.crt", "--load-issuer", "people.pem", "--load-trust", "chain.pem"]
    said = house.run(*words)  # 0 for every answer that verifies
    assert "Verifying OCSP Response: Success" in said
    assert f"Certificate Status: {STATUS[who]}" in said


def test_curl_asks_conditionally(house: House, program: Callable[[str], str]) -> None:
    """--etag-save and --etag-compare, -z, HEAD, and a GET of OCSP."""
    curl = [program("curl"), "-s", "-w", "%{http_code}"]
    url = f"{house.service.url}/crl/servers.crl"  # of which no test here revokes anything
    assert house.run(*curl, "--etag-save", "etag", "-R", "-o", "kept.crl", url) == "200"
    assert house.run(*curl, "--etag-compare", "etag", "-o", "again.crl", url) == "304"
    signed = house.path("kept.crl").stat().st_mtime  # -R: what Last-Modified said

    def since(seconds: int, *more: str) -> tuple[str, str]:
        """What curl says with a copy of that age, and the status line itself: told 200, curl alone would make a 304 of a file that is no newer than its own."""
        os.utime(house.path("kept.crl"), (signed + seconds, signed + seconds))
        said = house.run(*curl, "-z", "kept.crl", "-D", "head", "-o", "again.crl", *more, url)
        return said, house.path("head").read_text().split()[1]

    assert since(0) == since(1) == ("304", "304")
    assert since(-1) == ("200", "200")
    assert house.path("again.crl").read_bytes() == house.path("kept.crl").read_bytes()
    assert since(0, "-H", 'if-none-match: "another"')[1] == "200", "If-None-Match goes before a date"
    assert "content-length" in house.run(*curl, "-I", url)
    issuer = read_certificate(house.service.get("/ca/people.crt")[2])
    from gatekey.x509 import ocsp
    from gatekey.x509.spki import key_bits

    one = ocsp.encode_id(ocsp.issuer_ids(issuer.subject, key_bits(issuer.spki))[0], int(house.ann.serial, 16))
    text = base64.b64encode(ocsp.encode_request([one])).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    assert house.run(*curl, "--etag-save", "etag2", "-o", "got.ocsp", f"{house.service.url}/ocsp/{text}") == "200"
    again = [*curl, "--etag-compare", "etag2", "-o", "again.ocsp", f"{house.service.url}/ocsp/{text}"]
    wait_until(lambda: house.run(*again) == "304", "304")  # each worker keeps the answer that it has signed itself
    said = house.run(program("openssl"), "ocsp", "-respin", "got.ocsp", "-issuer", "people.pem", "-cert", "ann.crt", "-CAfile", "people-root.pem")
    assert "ann.crt: good" in said


@pytest.mark.parametrize("who", STATUS)
@pytest.mark.parametrize("nonce", [True, False])
def test_pkilint_finds_nothing_in_answers(house: House, program: Callable[[str], str], who: str, nonce: bool) -> None:
    words = [program("openssl"), "ocsp", "-sha256", "-issuer", "people.pem", "-cert", f"{who}.crt", "-url", f"{house.service.url}/ocsp", "-noverify"]
    house.run(*words, *([] if nonce else ["-no_nonce"]), "-respout", f"{who}-{nonce}.der")
    lint = Path(sys.executable).parent / "lint_ocsp_response"
    assert house.run(str(lint), "lint", "-s", "NOTICE", f"{who}-{nonce}.der").strip() == ""


def knock(port: int, house: House, who: str | None) -> int:
    """The status that a site answers, or 0 when the handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if who:
        context.load_cert_chain(house.path(f"{who}.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def site(house: House) -> tuple[Path, Path]:
    with house.service.authority() as authority:
        issued = authority.issue_server(f"site-{os.urandom(3).hex()}.example", "127.0.0.1")
    return house.write("site.crt", issued.chain), house.write("site.key", issued.key)


def someone(house: House, name: str) -> Issued:
    with house.service.authority() as authority:
        issued = authority.issue_client(name)
    house.write(f"{name}.pem", issued.key + issued.chain)
    return issued


def test_nginx_asks_ocsp_about_clients(house: House, tmp_path: Path) -> None:
    crt, key = site(house)
    port = free_port()
    text = f"""
    resolver 127.0.0.1:9;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {crt}; ssl_certificate_key {key};
        ssl_client_certificate {house.path("chain.pem")}; ssl_verify_client on; ssl_verify_depth 2;
        ssl_ocsp leaf; ssl_ocsp_responder http://127.0.0.1:{house.service.public}/ocsp;
        location / {{ return 200 "in\\n"; }}
    }}"""
    someone(house, "nina")
    with servers.nginx(text, tmp_path, [port]):
        assert knock(port, house, "nina") == 200
        assert knock(port, house, "bob") in (0, 400)
        assert knock(port, house, "cy") in (0, 400)
        house.service.gatekey("revoke", "nina")
        wait_until(lambda: knock(port, house, "nina") != 200, "the refusal", 2)


def test_apache_asks_ocsp_about_clients(house: House, tmp_path: Path) -> None:
    crt, key = site(house)
    port = free_port()
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("in")
    text = f"""
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  ServerName 127.0.0.1
  DocumentRoot {tmp_path / "www"}
  <Directory {tmp_path / "www"}>
    Require all granted
  </Directory>
  SSLEngine on
  SSLCertificateFile {crt}
  SSLCertificateKeyFile {key}
  SSLCACertificateFile {house.path("chain.pem")}
  SSLVerifyClient require
  SSLVerifyDepth 2
  SSLOCSPEnable leaf
  SSLOCSPDefaultResponder http://127.0.0.1:{house.service.public}/ocsp
  SSLOCSPOverrideResponder on
  SSLOCSPUseRequestNonce on
</VirtualHost>
"""
    someone(house, "ada")
    with servers.apache(text, tmp_path, [port]):
        assert knock(port, house, "ada") == 200
        assert knock(port, house, "bob") in (0, 403)
        assert knock(port, house, "cy") in (0, 403)
        house.service.gatekey("revoke", "ada")
        wait_until(lambda: knock(port, house, "ada") != 200, "the refusal", 2)


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, int]]:
    """nginx in front of the private listener as docs/service.md has it, with the role `proxy`; beside it a second server without the role."""
    folder = tmp_path_factory.mktemp("fronted")
    with serving(folder, {"private": {"behind-proxy": ["127.0.0.1"]}}) as service:
        house = House(service, folder)
        service.gatekey("people", "set", "ann", "--role", "auditor")
        service.gatekey("issue", "client", "front", "--out", str(folder), "--quiet")
        service.gatekey("people", "set", "front", "--role", "proxy")
        service.gatekey("issue", "client", "stranger", "--out", str(folder), "--quiet")
        crt, key = site(house)
        ports = [free_port(), free_port()]
        lines, text = sections("service.md")["Behind nginx"].take("nginx"), ""
        for port, name in zip(ports, ("front", "stranger"), strict=True):
            here = {
                "/etc/gatekey/bundle/people-chain.pem": str(house.path("chain.pem")),
                "/etc/nginx/gatekey/servers-root.crt": str(house.path("servers-root.pem")),
                "/etc/nginx/gatekey/front.": str(folder / f"{name}."),
                "127.0.0.1:8443": f"127.0.0.1:{service.private}",
            }
            text += f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {crt}; ssl_certificate_key {key};\n{moved(lines, here)}}}\n"
        with servers.nginx(text, folder / "nginx", ports):
            yield house, ports[0]


def who_am_i(port: int, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    try:
        connection.request("GET", "/v1/me", headers=headers or {})
        answer = connection.getresponse()
        body = answer.read().decode()
        return answer.status, json.loads(body).get("login", "") if answer.status == 200 else body
    finally:
        connection.close()


def trusting(house: House, who: Issued | None = None, file: str = "") -> ssl.SSLContext:
    with Authority.open(house.service.home) as authority:
        context = client_context(authority, house.folder, who.chain if who else b"", who.key if who else b"")
    context.check_hostname = False
    if file:
        context.load_cert_chain(house.path(f"{file}.chain.crt"), house.path(f"{file}.key"))
    return context


def test_behind_nginx_the_visitor_is_who_he_is(fronted: tuple[House, int]) -> None:
    house, port = fronted
    assert who_am_i(port, trusting(house, house.ann)) == (200, "ann")
    assert who_am_i(port, trusting(house))[0] == 401, "a visitor without a certificate never passes for the web server"
    assert who_am_i(port, trusting(house, house.bob))[0] in (401, 403), "revoked"
    forged = {"X-Client-Cert": "forged", "Client-Cert": ":" + base64.b64encode(decode(house.ann.certificate)[0][1]).decode() + ":"}
    assert who_am_i(port, trusting(house), forged)[0] == 401, "nginx deletes what strangers send"


def test_who_has_not_proved_himself_speaks_for_himself(fronted: tuple[House, int]) -> None:
    """Straight to the private listener, from the address of the proxy: a header is nothing without the role."""
    house, _ = fronted
    as_ann = {"Client-Cert": ":" + base64.b64encode(decode(house.ann.certificate)[0][1]).decode() + ":"}
    private = house.service.private
    assert who_am_i(private, trusting(house), as_ann)[0] == 401
    assert who_am_i(private, trusting(house, file="stranger"), as_ann) == (200, "stranger")
    assert who_am_i(private, trusting(house, file="front"), as_ann) == (200, "ann")
    assert who_am_i(private, trusting(house, file="front"))[0] == 401, "the web server itself is nobody here"


def test_what_a_proxy_hands_on_is_looked_at(fronted: tuple[House, int], tmp_path: Path) -> None:
    house, _ = fronted
    with Authority.create(tmp_path / "other", "Kitty CA", unencrypted_keys=True) as other:
        foreign = decode(other.issue_client("ann").certificate)[0][1]
    good = decode(house.ann.certificate)[0][1]
    damaged = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
    front = trusting(house, file="front")
    for value, wanted in (
        (":" + base64.b64encode(foreign).decode() + ":", 401),
        (":" + base64.b64encode(damaged).decode() + ":", 401),
        ("::", 400),
        (":!!!:", 400),
        ("x" * 100, 400),
        (":" + "A" * 20_000 + ":", 400),
        (":" + base64.b64encode(b"no certificate").decode() + ":", 400),
    ):
        assert who_am_i(house.service.private, front, {"Client-Cert": value})[0] == wanted, value[:40]
    for beside in ("x", ""):
        both = {"Client-Cert": ":" + base64.b64encode(good).decode() + ":", "X-Client-Cert": beside}
        assert who_am_i(house.service.private, front, both)[0] == 400, beside


def test_systemd_takes_the_unit(program: Callable[[str], str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    Authority.create(home, "Unit %n\"'", unencrypted_keys=True).close()
    configure(home, {"public": {"listen": "127.0.0.1:80"}, "proxy": {"listen": "unix:/run/gatekey/proxy.sock"}})
    from kit.service import run

    unit = run("--home", str(home), "serve", "--unit").replace("/usr/bin/gatekey", "/bin/true")
    (tmp_path / "gatekey.service").write_text(unit)
    done = subprocess.run([program("systemd-analyze"), "verify", str(tmp_path / "gatekey.service")], capture_output=True, text=True, timeout=60)
    assert not [line for line in done.stderr.splitlines() if "gatekey.service" in line], done.stderr
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit
    words = [program("systemd-analyze"), "security", "--offline=true", str(tmp_path / "gatekey.service")]
    judged = subprocess.run(words, capture_output=True, text=True, timeout=60)
    exposure = re.search(r"exposure level for gatekey.service: ([\d.]+)", judged.stdout)
    assert exposure
    assert float(exposure.group(1)) < 2.5, judged.stdout
    for part in run("--home", str(home), "serve", "--unit", "--sockets").split("# /etc/systemd/system/")[1:]:
        name, _, text = part.partition("\n")
        (tmp_path / name).write_text(text)
        done = subprocess.run([program("systemd-analyze"), "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=60)
        assert not [line for line in done.stderr.splitlines() if name in line], done.stderr
