"""A real `gatekey serve` on loopback for tests: its own home, free ports, waited for until it is ready, ended for certain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from gatekey.api import Authority
from kit.servers import free_port, wait_until

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-c", "from gatekey.cli import main; main()"]
#: Rate limits would count all tests as one address.
QUIET = {"limits": {"requests-per-second": 0}}


class Service:
    """A running service. `public` and `private` are ports; `home` is where it lives."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes], log: Path, public: int, private: int) -> None:
        self.home, self.process, self.log_file, self.public, self.private = home, process, log, public, private
        self._connections: list[HTTPConnection] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.public}"

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body from the public listener."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()

    def connect(self) -> HTTPConnection:
        """A connection that `hang_up` closes."""
        connection = HTTPConnection("127.0.0.1", self.public, timeout=10)
        self._connections.append(connection)
        return connection

    def hang_up(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def gatekey(self, *words: str) -> str:
        """A verb from the command line, in a process of its own."""
        return run("--home", str(self.home), *words)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    def workers(self) -> list[int]:
        """The worker processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def authority(self) -> Authority:
        return Authority.open(self.home)


def run(*words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([*COMMAND, *words], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def configure(home: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds tables to gatekey.toml."""
    lines = []
    for table, values in tables.items():
        lines.append(f"\n[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    with (home / "gatekey.toml").open("a") as file:
        file.write("\n".join(lines) + "\n")


@contextlib.contextmanager
def serving(folder: Path, tables: Mapping[str, Mapping[str, Any]] | None = None, *, prepare: Callable[[Authority], None] | None = None) -> Iterator[Service]:
    """A service with a new authority in `folder`; `tables` go over the defaults. It is ended in the end, and must end well."""
    public, private = free_port(), free_port()
    home = folder / "home"
    with Authority.create(home, "Kitty CA", unencrypted_keys=True, url=f"http://127.0.0.1:{public}") as authority:
        if prepare:
            prepare(authority)
    wanted: dict[str, dict[str, Any]] = {"public": {"listen": f"127.0.0.1:{public}"}, "private": {"listen": f"127.0.0.1:{private}"}}
    for table, values in {**QUIET, **(tables or {})}.items():
        wanted[table] = {**wanted.get(table, {}), **values}
    configure(home, wanted)
    with started(home, folder / "log", public, private) as service:
        yield service


@contextlib.contextmanager
def started(home: Path, log: Path, public: int, private: int) -> Iterator[Service]:
    """Starts a service in a home that is there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "LISTEN_"))} | {"PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--home", str(home), "serve"], env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    service = Service(home, process, log, public, private)
    try:
        wait_until(lambda: '"ready"' in log.read_text() or process.poll() is not None, "the service", 60)
        assert process.poll() is None, log.read_text()
        yield service
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def client_context(authority: Authority, folder: Path, certificate: bytes = b"", key: bytes = b"") -> ssl.SSLContext:
    """A TLS client that trusts our servers' root and shows this certificate (PEM chain), if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.servers_root.decode())
    if certificate:
        file = folder / f"client-{os.urandom(4).hex()}.pem"
        file.touch(0o600)
        file.write_bytes(key + certificate)
        context.load_cert_chain(file)
    return context


__all__ = ["HTTPResponse", "Service", "client_context", "configure", "run", "serving", "started"]
