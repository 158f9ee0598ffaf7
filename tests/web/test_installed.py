"""An authority that is installed while the service runs: `gatekey authority install` in another process, and every worker knows it within a moment."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp as judge

from gatekey import app
from gatekey.authority import access, people
from gatekey.model.holder import Holder
from gatekey.x509 import ocsp
from gatekey.x509.certificate import read_certificate
from gatekey.x509.names import rfc2253
from gatekey.x509.spki import key_bits
from kit.corp import Corp
from kit.pki import make_pki
from kit.servers import free_port, program, wait_until
from kit.service import QUIET, Service, configure, started

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: Seconds in which every worker must know what another process has installed.
SOON = 2.0


class Waiting:
    """A service whose authorities wait for their certificates; its own certificate is somebody else's. `signed` holds what the company's root has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.signed = folder, folder / "home", folder / "signed"
        self.corp = Corp(folder / "corp", program("openssl"))
        self.signed.mkdir()
        authority = app.create_authority(self.home, app.Founding("Kitty CA", unencrypted_keys=True, root_elsewhere=True))
        people.add(authority, Holder("boss", "service"))
        access.set_roles(authority, "boss", add=["administrator"])
        self.token = access.make_token(authority, "boss", ["read", "issue", "manage"])[1]
        authority.close()
        self.corp.certify(self.home / "authorities", self.signed)
        pki = make_pki("somebody else")
        self.files = pki.server("localhost").write(folder, "localhost")
        self.trust = pki.chain_pem
        self.service: Service

    @contextlib.contextmanager
    def serving(self) -> Iterator[Service]:
        public, private = free_port(), free_port()
        own = {"workers": 2, "certificate": str(self.files.chain), "key": str(self.files.key)}
        proxy = {"listen": f"unix:{self.folder}/proxy.sock"}
        listen = {"public": {"listen": f"127.0.0.1:{public}"}, "private": {"listen": f"127.0.0.1:{private}"}, "proxy": proxy}
        configure(self.home, {**QUIET, **listen, "service": own})
        with started(self.home, self.folder / "log", public, private) as self.service:
            yield self.service

    def install(self, *names: str) -> float:
        """In a process of its own; answers with the moment at which that was done."""
        self.service.gatekey("authority", "install", *(str(self.signed / name) for name in names))
        return time.monotonic()

    def everywhere(self, true: Callable[[], bool], since: float, what: str) -> None:
        """Twenty new connections in a row, which reach both workers, soon see it."""
        wait_until(lambda: all(true() for _ in range(20)), what, 20)
        assert time.monotonic() - since < SOON + 1.0, f"{what} took {time.monotonic() - since:.1f} s"

    def api(self, method: str, path: str, body: Any = None, *, certificate: Path | None = None) -> tuple[int, Any]:
        """A question to the API: with the token, or with a client certificate on a connection of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.trust.decode())
        if certificate:
            context.load_cert_chain(certificate, certificate.with_name(certificate.name.replace(".chain.crt", ".key")))
        headers = {"content-type": "application/json", **({} if certificate else {"authorization": f"Bearer {self.token}"})}
        with contextlib.closing(http.client.HTTPSConnection("localhost", self.service.private, context=context, timeout=10)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def decision(self, certificate: bytes) -> int:
        """What a web server is told of a certificate."""
        read = read_certificate(certificate)
        lines = f"GET /decision HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-gatekey-serial: {read.serial}\r\nx-gatekey-issuer: {rfc2253(read.issuer)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(f"{self.folder}/proxy.sock")
            sock.sendall(lines.encode())
            return int(sock.recv(65536).split(b" ")[1])

    def ocsp(self, certificate: bytes, issuer: bytes) -> str:
        above = read_certificate(issuer)
        body = ocsp.encode_request([ocsp.encode_id(ocsp.issuer_ids(above.subject, key_bits(above.spki))[0], int(read_certificate(certificate).serial, 16))])
        told = judge.load_der_ocsp_response(self.service.get("/ocsp", method="POST", body=body)[2])
        return told.certificate_status.name if told.response_status.name == "SUCCESSFUL" else told.response_status.name


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")


def test_every_worker_takes_up_what_another_process_installs(tmp_path: Path) -> None:
    """The list of authorities, CA certificate, CRL, TLS, API, decision, OCSP; first the people's side, later the servers'."""
    house = Waiting(tmp_path)
    with house.serving() as service:
        assert service.get("/ca/people.crt")[0] == 404
        assert house.api("GET", "/v1/authorities") == (200, {"items": [], "waiting": ["people", "servers"]})

        since = house.install("people.crt", "root.crt", "root.crl")
        house.everywhere(lambda: service.get("/ca/people.crt")[0] == 200, since, "the certificate of the people's authority")
        house.everywhere(lambda: all(service.get(f"/crl/{name}.crl")[0] == 200 for name in ("root", "people")), since, "its CRL, and that of its root")
        names = [one["name"] for one in house.api("GET", "/v1/authorities")[1]["items"]]
        assert names == ["root", "people"]

        service.gatekey("issue", "client", "ann", "--for", "pem", "--out", str(tmp_path))
        ann, issued = tmp_path / "ann.chain.crt", time.monotonic()
        house.everywhere(lambda: house.api("GET", "/v1/me", certificate=ann)[1].get("login") == "ann", issued, "a person's certificate at the TLS listener")
        house.everywhere(lambda: house.decision(der(ann)) == 200, issued, "a yes of the decision endpoint")
        issuer = service.get("/ca/people.crt")[2]
        house.everywhere(lambda: house.ocsp(der(ann), issuer) == "GOOD", issued, "OCSP")

        since = house.install("servers.crt", "root.crl")
        house.everywhere(lambda: service.get("/crl/servers.crl")[0] == 200, since, "the servers' side")
        assert [house.api("POST", "/v1/certificates/server", {"hosts": [f"app{n}.example"]})[0] for n in range(6)] == [201] * 6

        service.gatekey("revoke", "ann")
        revoked = time.monotonic()
        house.everywhere(lambda: house.decision(der(ann)) == 403, revoked, "a no of the decision endpoint")
        house.everywhere(lambda: house.ocsp(der(ann), issuer) == "REVOKED", revoked, "OCSP's answer after the revocation")
        house.everywhere(lambda: house.api("GET", "/v1/me", certificate=ann)[0] == 401, revoked, "the API's no")


def test_one_worker_installs_and_the_other_knows(tmp_path: Path) -> None:
    """Through the API: the worker that was asked, too, goes on with what it has installed."""
    house = Waiting(tmp_path)
    files = "".join((house.signed / name).read_text() for name in ("people.crt", "servers.crt", "root.crt", "root.crl"))
    with house.serving() as service:
        status, told = house.api("POST", "/v1/authorities/install", {"files": files})
        since = time.monotonic()
        assert status == 200, told
        assert any(line.startswith("installed people") for line in told["done"])
        house.everywhere(lambda: len(house.api("GET", "/v1/authorities")[1]["items"]) == 3, since, "the list of authorities")
        house.everywhere(lambda: service.get("/crl/people.crl")[0] == 200, since, "the CRL")
        assert house.api("POST", "/v1/certificates/client", {"login": "ann", "for": "pem"})[0] == 201
        wait_until(lambda: json.loads(service.get("/readyz")[2])["ready"], "readiness", 15)


def test_a_newer_crl_of_the_root_is_given_at_once(tmp_path: Path) -> None:
    house = Waiting(tmp_path)
    with house.serving() as service:
        house.install("people.crt", "servers.crt", "root.crt", "root.crl")
        wait_until(lambda: service.get("/crl/root.crl")[0] == 200, "the first CRL")
        words = ["ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "root.key", "-cert", "root.crt", "-out", str(house.signed / "newer.crl")]
        subprocess.run([program("openssl"), *words], cwd=tmp_path / "corp", check=True, capture_output=True)
        newer = ssl_crl(house.signed / "newer.crl")
        since = house.install("newer.crl")
        house.everywhere(lambda: service.get("/crl/root.crl")[2] == newer, since, "the newer CRL")


def ssl_crl(path: Path) -> bytes:
    from gatekey.x509 import pem

    return pem.decode(path.read_bytes())[0][1]
