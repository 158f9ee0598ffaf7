"""A real `gatekey serve` with a home of its own, and private sites before it that ask it at every request.

    with service(tmp_path) as s, asking("nginx", tmp_path, s) as d:
        assert d.visit(d.ann).status == 200
        s.admin("revoke", "ann", "--yes")
        d.refused_within(1.0, d.ann)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from gatekey.webserver import nginx
from gatekey.webserver.answer import ANSWERED
from gatekey.webserver.knock import Identity, Line
from gatekey.webserver.site import LAST_WORDS, Site
from kit import servers
from kit.administrator import COMMAND, NAME, Administrator, found
from kit.backend import backend
from kit.doors import HOST, STARTERS, Door
from kit.pki import make_pki
from kit.servers import program, wait_until

#: What gatekey.toml says of the test's sites; the site HOST is open to everybody with a certificate.
SITES = '\n[site."staff.example"]\ngroups = ["staff"]\n'


class _Unix(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("gatekey", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Service:
    """A running service. `admin`: who types beside it; `socket`: where web servers ask; `private`: the port of its HTTPS listener."""

    def __init__(self, folder: Path, *, workers: int = 2, more: str = "", hosts: tuple[str, ...] = ()) -> None:
        self.folder = folder / "authority"
        self.folder.mkdir(parents=True)
        self.short = Path(tempfile.mkdtemp(prefix="gk-"))  # the kernel takes 107 bytes of a path
        self.short.chmod(0o755)
        self.socket = self.short / "proxy.sock"
        self.admin = Administrator(self.folder / "home", self.folder)
        found(self.admin.home)
        self.public, self.private = servers.free_ports(2)
        with (self.admin.home / "gatekey.toml").open("a") as file:
            file.write(
                f'\n[service]\nworkers = {workers}\n{f"hosts = {list(hosts)}{chr(10)}" if hosts else ""}[public]\nlisten = "127.0.0.1:{self.public}"\n'
                f'[private]\nlisten = "127.0.0.1:{self.private}"\n'
                f'[proxy]\nlisten = "unix:{self.socket}"\nmode = "0666"\n{SITES}{more}'
            )
        self.log = self.folder / "serve.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "TERM", *COMMAND, "serve"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.admin.environment(), cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        wait_until(self._ready, "the service is ready")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """A question over the Unix socket."""
        connection = _Unix(self.socket)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def signal(self, what: signal.Signals) -> None:
        """To the supervisor and all its workers."""
        os.killpg(self.process.pid, what)

    def stop(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait(5)

    def person(self, login: str, *words: str) -> Identity:
        """A new person with a certificate."""
        self.admin.process("issue", "client", login, "--out", self.folder, *words)
        return Identity((self.folder / f"{login}.chain.crt").read_bytes(), (self.folder / f"{login}.key").read_bytes(), login)

    def show(self, ref: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self.admin.process("show", ref, "--json").stdout)
        return shown


@contextlib.contextmanager
def service(folder: Path, *, workers: int = 2, more: str = "", hosts: tuple[str, ...] = ()) -> Iterator[Service]:
    """`gatekey serve` until the block ends."""
    made = Service(folder, workers=workers, more=more, hosts=hosts)
    try:
        made.start()
        yield made
    finally:
        if hasattr(made, "process"):
            made.stop()
        shutil.rmtree(made.short, ignore_errors=True)


class AskingDoor(Door):
    """A site that asks. `ann` (staff) and `bob` (sales) have certificates of the service's authority."""

    def __init__(self, kind: str, folder: Path, asked: Service, people: tuple[Identity, Identity], options: dict[str, Any]) -> None:
        self.kind = kind
        self.folder = folder
        self.asked = asked
        self.ann: Any
        self.bob: Any
        self.ann, self.bob = people  # a door takes identities wherever it takes leaves
        self.servers_pki = make_pki("kitty-ca servers")
        self.bundle = folder / "bundle"
        self.host = options.get("host", HOST)
        self.site_leaf = self.servers_pki.server(self.host)
        self.files = self.site_leaf.write(folder, self.host)
        self.files.chain.with_name(self.files.chain.name + ".key").symlink_to(self.files.key)
        self.port, self.port6, self.plain = servers.free_ports(3)
        if options.pop("same_port", False):
            self.port6 = self.port
        self.options = {"decision": f"unix:{asked.socket}", **options}
        self.server: Any = None
        self.app: Any = None

    def publish(self, **_: Any) -> None:
        """The bundle, of which these configurations read the trust chain only."""
        self.asked.admin.process("bundle", "--out", self.bundle)

    def site(self) -> Site:
        return super().site()._replace(host=self.host)

    def knock(self, leaf: Any = None, **changes: Any) -> Any:
        return super().knock(leaf, **{"sni": self.host, "host": f"{self.host}:{self.port}", **changes})

    def refused_within(self, seconds: float, who: Identity | Line, streak: int = 8, **changes: Any) -> float:
        """Asks until it is refused so many times in a row, by whichever worker, on new connections or on one that is open.

        Answers with the seconds until the last time it was let in. Raises AssertionError when that takes longer.
        """
        began = last = time.monotonic()
        refusals = 0
        while refusals < streak:
            answer = who.ask(self.knock(keep=True, **changes)) if isinstance(who, Line) else self.visit(who, **changes)
            refusals = 0 if answer.status == 200 else refusals + 1
            last = time.monotonic() if answer.status == 200 else last
            assert last - began < seconds, f"let in after {last - began:.2f} s"
            if answer.status != 200 and isinstance(who, Line) and answer.kind != ANSWERED:
                break  # the connection was closed
        return last - began

    def sent(self, who: Identity, method: str, path: str, body: bytes) -> int:
        """A request with a body; its status."""
        from gatekey.webserver import knock

        connection = HTTPSConnection("127.0.0.1", self.port, timeout=20, context=knock._context(self.knock(who)))
        try:
            connection.sock = connection._context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), 20), server_hostname=self.host)  # type: ignore[attr-defined]
            connection.request(method, path, body, {"Host": f"{self.host}:{self.port}"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@contextlib.contextmanager
def asking(kind: str, folder: Path, asked: Service, people: tuple[Identity, Identity], **options: Any) -> Iterator[AskingDoor]:
    """A running site of the web server `kind` that asks `asked`. `options`: fields of Site, `same_port`, `last_words`, `beside`."""
    last_words, beside = options.pop("last_words", LAST_WORDS), options.pop("beside", lambda _: "")
    d = AskingDoor(kind, folder, asked, people, options)
    with backend() as app:
        d.app = app
        d.publish()
        written = d.configuration()
        for path, program_text in written.programs.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(program_text)
        main = {"main": nginx.main_level().replace(f"{LAST_WORDS}s", f"{last_words}s")} if kind == "nginx" else {}
        text = written.whole + beside(d)
        for said in ("hard-stop-after {}s", "grace_period {}s", "GracefulShutdownTimeout {}"):
            text = text.replace(said.format(LAST_WORDS), said.format(last_words))
        with STARTERS[kind](text, folder, [d.port, d.plain], **main) as d.server:
            yield d


__all__ = ["HOST", "NAME", "AskingDoor", "Service", "asking", "service"]
