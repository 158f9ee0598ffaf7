"""The decision endpoint of a real `gatekey serve`: from revocation to refusal, requests per second beside a hello world, and a million revoked certificates.

    PYTHONPATH=src:tests python bench/decision.py [refusal] [rate] [million]

refusal: nginx asks at every request; from the call of `revoke` until the last time that its owner was let in, on an open connection and with a resumed session;
medians of 20, at most 50 ms. rate: at least 0.8 of a hello world on the same uvicorn, parser, workers and connections (wrk, three rounds in turns, the best of
each). million: the ledger is filled by SQL with revoked certificates; a worker takes at most 250 MB, is ready within 10 s, and its p99 is at most twice that
of an empty set (the median of three rounds each).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROUNDS, SECONDS, CONNECTIONS, WORKERS = 3, 4, 32, 2
REFUSALS, MILLION = 20, 1_000_000
MOST_MS, LEAST_RATE, MOST_MB, MOST_READY, MOST_P99 = 50.0, 0.8, 250.0, 10.0, 2.0
DN = "CN=Kitty CA people"


def hello(listen: int) -> None:
    """The peer: answers a short text and nothing else."""
    import socket

    import uvicorn

    async def app(_: object, __: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", listen))
    sock.listen(2048)
    for _ in range(WORKERS - 1):
        if os.fork() == 0:
            break
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", interface="asgi3", access_log=False, log_level="critical", backlog=8)
    asyncio.run(uvicorn.Server(config).serve([sock]))


class Load:
    """What wrk said: requests per second, and the 99th percentile in ms."""

    def __init__(self, url: str, *headers: str) -> None:
        words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", *(word for header in headers for word in ("-H", header)), url]
        out = subprocess.run(words, check=True, capture_output=True, text=True, timeout=SECONDS + 30).stdout
        if "Non-2xx" in out or "Socket errors" in out:
            raise SystemExit(out)
        self.rate = float(re.search(r"Requests/sec:\s*([\d.]+)", out)[1])  # type: ignore[index]
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
        self.p99 = float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


class Bridge:
    """A port for wrk, which knows no Unix sockets: the service listens for web servers on TCP as if systemd had opened it (proxy, LISTEN_FDNAMES).

    It would refuse that, since whoever reaches the port speaks for a web server; here its word against it is set aside.
    """

    def __init__(self, service: Any) -> None:
        import socket

        self.service = service
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(2048)
        self.port = int(self.sock.getsockname()[1])

    def start(self) -> float:
        """Starts the service with this socket as its listener `proxy`; seconds until it is ready."""
        place = self.service.admin.home / "gatekey.toml"
        text = place.read_text()
        place.write_text(text.replace(f'listen = "unix:{self.service.socket}"', 'listen = ""'))
        began = time.monotonic()
        program = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'proxy'};"
            "from gatekey import app; app._need_unix = lambda unix: None; sys.argv = ['gatekey', 'serve']; from gatekey.cli import main; main()"
        )
        with self.service.log.open("ab") as log:
            self.service.process = subprocess.Popen(
                [sys.executable, "-c", program, str(self.sock.fileno())], pass_fds=[self.sock.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.service.admin.environment(), start_new_session=True,
            )  # fmt: skip
        while not self._ready():
            if self.service.process.poll() is not None:
                raise SystemExit(self.service.log.read_text()[-2000:])
            time.sleep(0.02)
        return time.monotonic() - began

    def _ready(self) -> bool:
        import urllib.request

        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.service.public}/readyz", timeout=60) as answer:
                return bool(json.load(answer)["ready"])
        except OSError:
            return False

    def load(self, serial: str) -> Load:
        return Load(f"http://127.0.0.1:{self.port}/decision", f"X-Gatekey-Serial: {serial}", f"X-Gatekey-Issuer: {DN}", "X-Gatekey-Site: app.example")

    def memory(self) -> list[tuple[float, float]]:
        """MB of each worker: now, and at most."""
        found = []
        for pid in Path(f"/proc/{self.service.process.pid}/task/{self.service.process.pid}/children").read_text().split():
            status = Path(f"/proc/{pid}/status").read_text()
            found.append(tuple(int(re.search(rf"{name}:\s*(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM")))  # type: ignore[index]
        return found  # type: ignore[return-value]


def refusal(folder: Path) -> bool:
    """Medians in ms, nginx before it."""
    from gatekey.authority import requests, revoke
    from gatekey.authority.issue import issue
    from gatekey.keys import material
    from gatekey.webserver.knock import Identity
    from gatekey.x509 import pem
    from kit import asked
    from kit.doors import STARTERS

    took: dict[str, list[float]] = {"open connection": [], "resumed session": [], "both, until the call returns": []}
    original = STARTERS["nginx"]

    def resuming(text: str, *more: Any, **options: Any) -> Any:  # our configuration resumes nothing: here it must, to be tried
        return original(text.replace("ssl_session_cache off;", "ssl_session_cache shared:bench:1m;"), *more, **options)

    STARTERS["nginx"] = resuming
    with asked.service(folder, workers=WORKERS) as s, s.admin.open() as authority:

        def person(login: str) -> tuple[Any, Identity]:
            key = material.make("p256")
            released = issue(authority, *requests.client(authority, login, key.spki))
            chain = b"".join(pem.encode("CERTIFICATE", der) for der in (released.der, authority.issuing("people").certificate.der))
            return released.id, Identity(chain, pem.encode("PRIVATE KEY", key.pkcs8()), login)

        ann = person("ann")[1]
        with asked.asking("nginx", folder, s, (ann, ann)) as d:
            for number in range(REFUSALS):
                for way in ("open connection", "resumed session"):
                    who, identity = person(f"{way[0]}{number}")
                    while d.visit(identity).status != 200:
                        time.sleep(0.01)
                    line = d.open(identity, tls="1.2")
                    assert line.ask(d.knock(keep=True)).status == 200
                    spans: list[float] = []

                    def take(who: Any = who, spans: list[float] = spans) -> None:
                        spans.append(time.monotonic())
                        revoke.revoke(authority, who, "superseded")
                        spans.append(time.monotonic())

                    thread = threading.Thread(target=take)
                    thread.start()
                    last, refusals = time.monotonic(), 0
                    while refusals < 6 or len(spans) < 2:
                        asks, before = line, time.monotonic()
                        if way == "resumed session":
                            asks = d.open(identity, tls="1.2", resume=line)
                            assert asks.resumed
                        let_in = asks.ask(d.knock(keep=True)).status == 200
                        refusals, last = (0, before) if let_in else (refusals + 1, last)
                        if asks is not line:
                            asks.close()
                    thread.join()
                    line.close()
                    took[way].append(1000 * max(0.0, last - spans[0]))
                    took["both, until the call returns"].append(1000 * (spans[1] - spans[0]))
    fine = True
    for way, all_of_them in took.items():
        middle = statistics.median(all_of_them)
        fine &= middle <= MOST_MS or way.startswith("both")
        print(f"revoke to refused, {way:29} median {middle:6.1f} ms   worst {max(all_of_them):6.1f} ms   (limit {MOST_MS:.0f})")
    return fine


def rate(folder: Path) -> bool:
    from kit import asked
    from kit.servers import free_port

    s = asked.Service(folder, workers=WORKERS, more="[limits]\nrequests-per-second = 1000000\n")
    s.person("ann", "--group", "staff")
    bridge, port = Bridge(s), free_port()
    peer: subprocess.Popen[bytes] | None = None
    best = {"hello": 0.0, "decision": 0.0}
    try:
        bridge.start()
        peer = subprocess.Popen([sys.executable, __file__, "hello", str(port)], start_new_session=True)
        time.sleep(1.5)
        serial = s.admin.serial("ann")
        for _ in range(ROUNDS):
            best["hello"] = max(best["hello"], Load(f"http://127.0.0.1:{port}/").rate)
            best["decision"] = max(best["decision"], bridge.load(serial).rate)
    finally:
        s.stop()
        if peer is not None:
            os.killpg(peer.pid, signal.SIGKILL)
            peer.wait(5)
    part = best["decision"] / best["hello"]
    said = f"hello world {best['hello']:8.0f}/s   decision {best['decision']:8.0f}/s   {part:.2f} of it (at least {LEAST_RATE})"
    print(f"{said}   {WORKERS} workers, {CONNECTIONS} connections")
    return part >= LEAST_RATE


def fill(ledger: Path, count: int) -> None:
    """So many revoked certificates, as copies of the newest one under other serials; and their entries in the log of revocations."""
    from gatekey.x509.crl import encode_entry

    with sqlite3.connect(ledger) as db:
        db.execute("PRAGMA synchronous=OFF")
        cursor = db.execute("SELECT * FROM certificate WHERE issuer = 'people' AND revoked_at IS NOT NULL ORDER BY recorded_at DESC LIMIT 1")
        names, row = [column[0] for column in cursor.description], cursor.fetchone()
        place = {name: number for number, name in enumerate(names)}
        number, now = db.execute("SELECT max(number) FROM revocation_log").fetchone()[0], int(time.time())

        def copies() -> Any:
            for i in range(1, count + 1):
                copy = list(row)
                serial = f"40{i:030X}"
                copy[place["serial"]], copy[place["fingerprint"]], copy[place["idempotency"]] = serial, f"{i:064X}", None
                copy[place["lineage"]], copy[place["device"]], copy[place["spki_sha256"]] = serial, f"d{i}", f"{i:064x}"
                copy[place["entry"]], copy[place["revocation"]] = encode_entry(serial, now, "superseded"), number + i
                yield copy

        db.executemany(f"INSERT INTO certificate ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", copies())
        log = ((number + i, "people", f"40{i:030X}", "revoke", "superseded", now, "bench") for i in range(1, count + 1))
        db.executemany("INSERT INTO revocation_log (number, issuer, serial, move, reason, at, actor) VALUES (?, ?, ?, ?, ?, ?, ?)", log)
    db.close()


def million(folder: Path) -> bool:
    from kit import asked

    s = asked.Service(folder, workers=WORKERS, more="[limits]\nrequests-per-second = 1000000\n")
    s.person("ann", "--group", "staff")
    s.person("bob")
    s.admin.process("revoke", "bob", "--yes")
    serial = s.admin.serial("ann")

    def measure() -> tuple[float, list[tuple[float, float]], float]:
        bridge = Bridge(s)
        try:
            ready = bridge.start()
            p99 = statistics.median(bridge.load(serial).p99 for _ in range(ROUNDS))
            return ready, bridge.memory(), p99
        finally:
            s.stop()

    empty = measure()
    began = time.monotonic()
    fill(s.admin.home / "ledger.db", MILLION)
    filled = time.monotonic() - began
    began = time.monotonic()
    s.admin.process("crl", "--authority", "people", "--out", folder / "people.crl")
    print(f"(ledger filled in {filled:.0f} s, {(s.admin.home / 'ledger.db').stat().st_size >> 20} MB; CRL signed in {time.monotonic() - began:.1f} s)")
    full = measure()
    for what, (ready, memory, p99) in (("1 revoked", empty), (f"{MILLION:,} revoked", full)):
        now, most = max(one for one, _ in memory), max(one for _, one in memory)
        print(f"{what:18} ready in {ready:5.1f} s   a worker {now:5.0f} MB (at most {most:.0f})   p99 {p99:6.2f} ms")
    return full[0] <= MOST_READY and max(one for one, _ in full[1]) <= MOST_MB and full[2] <= MOST_P99 * empty[2]


def main() -> int:
    if sys.argv[1:2] == ["hello"]:
        hello(int(sys.argv[2]))
        return 0
    parts = {"refusal": refusal, "rate": rate, "million": million}
    fine = True
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
            os.chmod(folder, 0o755)
            fine &= parts[name](Path(folder))
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
