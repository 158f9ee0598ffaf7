"""A rolling restart under load: whatever is asked of whichever listener meanwhile, on kept connections and on new ones, gets its proper answer."""

from __future__ import annotations

import base64
import contextlib
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as judge

from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate
from kit.desk import Told, csr
from kit.front import front
from kit.servers import wait_until

pytestmark = pytest.mark.slow

#: A client that has been silent for longer opens a new connection, as HTTP clients do: a server that ends may close one that is idle.
STALE = 0.4
#: Ten clients ask so often that each worker always has something to do, and leave it the time to do it in.
PAUSE = 0.01
RESTARTS = 3

Connect = Callable[[], HTTPConnection]
Ask = Callable[[HTTPConnection, int], Told]
Proper = Callable[[Told], bool]


class Load(threading.Thread):
    """Asks again and again. `found`: how often what came of it; whatever is not "good" is a request that was dropped, or answered wrongly."""

    def __init__(self, name: str, connect: Connect, ask: Ask, proper: Proper, *, fresh: bool) -> None:
        super().__init__(name=f"{name}, {'new connections' if fresh else 'one connection'}", daemon=True)
        self.connect, self.ask, self.proper, self.fresh = connect, ask, proper, fresh
        self.ended = threading.Event()
        self.found: Counter[str] = Counter()

    def run(self) -> None:
        connection, answered, number = self.connect(), time.monotonic(), 0
        while not self.ended.wait(PAUSE):
            number += 1
            if self.fresh or time.monotonic() - answered > STALE:
                connection.close()
            try:
                told = self.ask(connection, number)
                good = self.proper(told)
                self.found["good" if good else f"{told.status} {told.body[:200]!r}"] += 1
                if told.headers.get("connection") == "close":
                    connection.close()
            except Exception as error:  # noqa: BLE001  each is a dropped request
                self.found[repr(error)] += 1
                connection.close()
            answered = time.monotonic()
        connection.close()


def test_a_rolling_restart_under_load_drops_no_request(tmp_path: Path) -> None:
    with front(tmp_path, workers=2) as f:
        with f.service.authority() as authority:
            serial = authority.issue_client("ann").serial
        key = x509.load_der_x509_certificate(f.issuer.der).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        question, named = f.question(serial), f.named(serial)
        as_text = quote(base64.b64encode(question).decode(), safe="")
        wait_until(lambda: f.ask(f.proxy(), "GET", "/decision", headers=named).status == 200, "ann is known")

        def issue(connection: HTTPConnection, number: int) -> Told:
            login = f"{threading.get_ident()}-{number}"
            return f.ask(connection, "POST", "/v1/certificates/sign", {"csr": csr(login), "profile": "client"})

        def issued(told: Told) -> bool:
            return told.status == 201 and read_certificate(pem.decode(told.json["pem"].encode())[0][1]).serial == told.json["serial"]

        def good(told: Told) -> bool:
            return told.status == 200 and judge.load_der_ocsp_response(told.body).certificate_status is judge.OCSPCertStatus.GOOD

        def signed(told: Told) -> bool:
            return told.status == 200 and x509.load_der_x509_crl(told.body).is_signature_valid(key)

        kinds: dict[str, tuple[Connect, Ask, Proper]] = {
            "issuing over TLS": (lambda: f.private("boss"), issue, issued),
            "decision over the Unix socket": (
                f.proxy, lambda c, _: f.ask(c, "GET", "/decision", headers=named), lambda told: told.status == 200 and told.headers["x-client-user"] == "ann",
            ),
            "OCSP by POST": (f.public, lambda c, _: f.ask(c, "POST", "/ocsp", question), good),
            "OCSP by GET": (f.public, lambda c, _: f.ask(c, "GET", f"/ocsp/{as_text}"), good),
            "CRL": (f.public, lambda c, _: f.ask(c, "GET", "/crl/people.crl"), signed),
        }  # fmt: skip
        loads = [Load(name, *kind, fresh=fresh) for name, kind in kinds.items() for fresh in (False, True)]
        for load in loads:
            load.start()

        def everybody_goes_on() -> None:
            before = [load.found.total() for load in loads]
            wait_until(lambda: all(load.found.total() > count + 2 for load, count in zip(loads, before, strict=True)), "a few more answers for everybody")

        try:
            everybody_goes_on()
            for _ in range(RESTARTS):
                f.reload()
                everybody_goes_on()
        finally:
            for load in loads:
                load.ended.set()
            for load in loads:
                load.join(60)
        assert {load.name: dict(load.found) for load in loads if set(load.found) != {"good"}} == {}
        assert min(load.found["good"] for load in loads) > 2 * (RESTARTS + 1)
        assert f.events("reloaded") == RESTARTS
        ids = sum(load.found["good"] for load in loads if load.name.startswith("issuing"))
        with f.service.authority() as authority:
            live = authority._core.reads.certificates("c.profile = 'client' AND c.state = 'released'")
            assert len(live) == ids + len(f.people) + 1, "as many certificates as answers: none was issued for nobody"


def test_a_handshake_that_is_under_way_when_its_worker_ends_is_still_served(tmp_path: Path) -> None:
    """Whoever was accepted is not left standing: the handshake is finished, and the request that follows it answered."""
    with front(tmp_path, workers=1) as f, socket.create_connection(("127.0.0.1", f.service.private), 30) as sock:
        (old,) = f.service.workers()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = f.contexts["boss"].wrap_bio(incoming, outgoing, server_hostname="localhost")

        def exchange() -> None:
            """What we have to say, and what comes back."""
            sock.sendall(outgoing.read())
            if not (told := sock.recv(65536)):
                raise ConnectionResetError("closed in the middle of a handshake")
            incoming.write(told)

        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        exchange()  # the old worker has accepted us, and speaks
        f.service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f.events("ending"), "the old worker is told to end")
        with contextlib.suppress(AssertionError):  # it must not, as long as we are at it
            wait_until(lambda: old not in f.service.workers(), "the end of the old worker", 1.5)
        tls.do_handshake()
        tls.write(b"GET /v1/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        found = b""
        while b"200 OK" not in found:
            exchange()
            with contextlib.suppress(ssl.SSLWantReadError):
                found += tls.read(65536)
