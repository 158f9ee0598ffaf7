"""A real `gatekey serve` with somebody for each role before it, and ways to every one of its listeners and workers.

    with front(tmp_path, workers=3) as f:
        f.ask(f.private("boss"), "POST", "/v1/certificates/ann/revoke", {})
        for connection in f.to_each_worker(f.proxy):      # the Unix socket; each connection ends at another worker
            f.ask(connection, "GET", "/decision", headers=...)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from gatekey.api import Authority
from gatekey.keys.material import PrivateKey
from gatekey.ports import Clock
from gatekey.x509 import ocsp, pem
from gatekey.x509.certificate import Certificate
from gatekey.x509.names import rfc2253
from gatekey.x509.spki import key_bits
from kit.desk import JSON, Told
from kit.remote import Remote
from kit.servers import free_port, wait_until
from kit.service import COMMAND, QUIET, ROOT, Service, client_context, configure

#: Requests that nobody is allowed on any listener, and whose refusal has the worker's own prefix in its id.
_WHO = ("POST", "/healthz")


class Unix(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path | str) -> None:
        super().__init__("gatekey", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Front:
    """`people`: login -> key and certificate (DER), the cast of `kit.desk`; `tokens`: one with each scope."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.short = Path(tempfile.mkdtemp(prefix="gk-"))  # the kernel takes 107 bytes of a path
        self.socket = self.short / "proxy.sock"
        self.people: dict[str, tuple[PrivateKey, bytes]] = {}
        self.tokens: dict[str, str] = {}
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.command = COMMAND
        self.issuer: Certificate
        self.service: Service
        self._open: list[HTTPConnection] = []

    def prepare(self, authority: Authority) -> None:
        remote = Remote(self.folder)
        remote.prepare(authority)
        self.people, self.tokens, self.contexts = remote.people, remote.tokens, remote.contexts
        self.issuer = authority._core.issuing("people").certificate

    def introduce(self, authority: Authority, name: str, der: bytes, key: bytes) -> None:
        """Whoever is called `name` here shows this certificate from now on. `key` in PEM."""
        chain = pem.encode("CERTIFICATE", der) + pem.encode("CERTIFICATE", self.issuer.der)
        self.contexts[name] = client_context(authority, self.folder, chain, key)

    # Ways in

    def public(self) -> HTTPConnection:
        return self._kept(HTTPConnection("127.0.0.1", self.service.public, timeout=30))

    def private(self, who: str = "") -> HTTPConnection:
        return self._kept(HTTPSConnection("localhost", self.service.private, context=self.contexts[who], timeout=30))

    def proxy(self) -> HTTPConnection:
        return self._kept(Unix(self.socket))

    def _kept(self, connection: HTTPConnection) -> HTTPConnection:
        self._open.append(connection)
        return connection

    def hang_up(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()

    def ask(self, connection: HTTPConnection, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Told:
        """One question on one connection. A body that is not bytes goes as JSON."""
        said = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            said, body = {**dict(JSON), **said}, json.dumps(body).encode()
        connection.request(method, path, body=body, headers=said)
        answer = connection.getresponse()
        return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def worker(self, connection: HTTPConnection) -> str:
        """A word for the worker at the other end: its prefix of request ids on this listener."""
        instance: list[str] = []

        def found() -> bool:
            told = self.ask(connection, *_WHO)
            assert told.status == 405, told
            instance.extend([told.json["instance"]] if "instance" in told.json else [])
            return bool(instance)

        wait_until(found, "a refusal that is not one too many for the log")
        return instance[0].rpartition("-")[0]

    def to_each_worker(self, connect: Callable[[], HTTPConnection], count: int) -> list[HTTPConnection]:
        """Open connections, one to each of so many workers."""
        found: dict[str, HTTPConnection] = {}

        def another() -> bool:
            connection = connect()
            if found.setdefault(self.worker(connection), connection) is not connection:
                connection.close()
            return len(found) >= count

        wait_until(another, f"a connection to each of {count} workers")
        assert len(found) == count
        return list(found.values())

    # What is asked

    def named(self, serial: str) -> dict[str, str]:
        """The headers in which a web server names a certificate to the decision endpoint."""
        return {"x-gatekey-serial": serial, "x-gatekey-issuer": rfc2253(self.issuer.subject), "x-gatekey-site": "app.example"}

    def question(self, serial: str) -> bytes:
        """An OCSP request about one certificate."""
        return ocsp.encode_request([ocsp.encode_id(ocsp.issuer_ids(self.issuer.subject, key_bits(self.issuer.spki))[0], int(serial, 16))])

    # What is done to it

    def events(self, event: str) -> int:
        return sum(line["event"] == event for line in self.service.log())

    def reload(self) -> None:
        """HUP, until every worker is a new one."""
        before, done = set(self.service.workers()), self.events("reloaded")
        self.service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.events("reloaded") > done, "the reload", 60)
        wait_until(lambda: not before & set(self.service.workers()), "the end of the old workers", 60)

    def start(self, public: int, private: int) -> None:
        """Starts the service, or starts it again, with a log of its own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "LISTEN_"))} | {"PYTHONPATH": str(ROOT / "src")}
        home, log = self.folder / "home", self.folder / f"log-{os.urandom(3).hex()}"
        with log.open("wb") as out:
            words = [*self.command, "--home", str(home), "serve"]
            process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        self.service = Service(home, process, log, public, private)
        wait_until(lambda: '"ready"' in log.read_text() or process.poll() is not None, "the service", 60)
        assert process.poll() is None, log.read_text()

    def stop(self) -> None:
        """TERM, and the end that a service should have."""
        self.service.process.send_signal(signal.SIGTERM)
        assert self.service.process.wait(60) == 0, self.service.log_file.read_text()

    def end(self) -> None:
        """Whatever it takes."""
        self.hang_up()
        if hasattr(self, "service"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.service.process.pid, signal.SIGKILL)
            self.service.process.wait(10)
        shutil.rmtree(self.short, ignore_errors=True)

    def kill_supervisor(self) -> None:
        """SIGKILL to the supervisor alone; back when its workers are gone, too."""
        workers = self.service.workers()
        self.service.process.kill()
        self.service.process.wait(10)
        wait_until(lambda: not any(runs(pid) for pid in workers), "the end of the workers", 60)


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@contextlib.contextmanager
def front(
    folder: Path, *, workers: int = 2, tables: Mapping[str, Mapping[str, Any]] | None = None, prepare: Callable[[Authority], None] | None = None,
    clock: Clock | None = None, before: str = "",
) -> Iterator[Front]:  # fmt: skip
    """A service with a cast, until the block ends; it must end well unless its supervisor was killed.

    `tables` go over the defaults; `prepare` comes after the cast; `clock`: what time it is for both, before the service starts.
    `before`: Python that runs in the service's process before it starts: limits in seconds where they are minutes.
    """
    f = Front(folder)
    if before:
        f.command = [sys.executable, "-c", f"{before}\nfrom gatekey.cli import main\nmain()"]
    public, private = free_port(), free_port()
    wanted: dict[str, dict[str, Any]] = {
        "service": {"workers": workers},
        "public": {"listen": f"127.0.0.1:{public}"},
        "private": {"listen": f"127.0.0.1:{private}"},
        "proxy": {"listen": f"unix:{f.socket}", "mode": "0600"},
        **QUIET,
    }
    for table, values in (tables or {}).items():
        wanted[table] = {**wanted.get(table, {}), **values}
    try:
        with Authority.create(folder / "home", "Kitty CA", unencrypted_keys=True, url=f"http://127.0.0.1:{public}", clock=clock) as authority:
            configure(folder / "home", wanted)
            f.prepare(authority)
            if prepare:
                prepare(authority)
        f.start(public, private)
        yield f
        f.hang_up()
        f.stop()
    finally:
        f.end()


__all__ = ["Front", "Unix", "front", "runs"]
