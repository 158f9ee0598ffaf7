"""Web servers whose agent fetches over the network: a real site before a real service, and a host before a service that lies.

with service(tmp_path / "s") as s, site(tmp_path / "w", s) as d:       # gatekey serve, gatekey agent, nginx
    s.admin("revoke", "ann"); d.refused_within(1, d.ann)

with Liar(tmp_path) as liar, far(tmp_path, liar) as host:
    liar.says(pack(...)); host.settle()
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

from gatekey.webserver import nginx
from gatekey.webserver.agent import Agent
from gatekey.webserver.agent_network import Service as Source
from gatekey.webserver.knock import Identity, Line
from kit import servers
from kit.administrator import COMMAND
from kit.asked import Service
from kit.backend import backend
from kit.doors import HOST, STARTERS, Door
from kit.host import Host
from kit.pki import make_pki
from kit.servers import program, wait_until


class FarDoor(Door):
    """A site whose bundle an agent fetches from `asked`. `ann` and `bob` have certificates of the service's authority."""

    def __init__(self, kind: str, folder: Path, asked: Service, options: dict[str, Any]) -> None:
        self.kind, self.folder, self.asked, self.options = kind, folder, asked, options
        folder.mkdir(parents=True, exist_ok=True)
        self.ann: Any
        self.bob: Any
        self.ann, self.bob = asked.person("ann"), asked.person("bob")  # a door takes identities wherever it takes leaves
        self.bundle = folder / "bundle"
        self.site_leaf = make_pki("kitty-ca servers").server(HOST)
        self.files = self.site_leaf.write(folder, HOST)
        self.files.chain.with_name(self.files.chain.name + ".key").symlink_to(self.files.key)
        self.port, self.port6, self.plain = servers.free_ports(3)
        self.server: Any = None
        self.app: Any = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.log = folder / "agent.log"
        proxy(asked, "web1")

    def configure(self, **toml: Any) -> None:
        """Writes the agent's configuration."""
        said = {**remote(self.asked, "web1"), "target": str(self.bundle), "server": "other", "reload": [], **toml}
        (self.folder / "agent.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))

    def command(self, *words: str) -> list[str]:
        return [*COMMAND, "agent", "--config", str(self.folder / "agent.toml"), *words]

    def publish(self, **_: Any) -> None:
        """The first bundle, fetched by `agent --once`."""
        self.configure()
        done = subprocess.run(self.command("--once"), env=self.asked.admin.environment(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """The agent as a service."""
        with self.log.open("ab") as log:
            words = [program("setpriv"), "--pdeathsig", "TERM", *self.command()]
            self.agent = subprocess.Popen(words, env=self.asked.admin.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.status.get("service"), "the agent watches")

    def stop(self) -> None:
        if self.agent:
            self.agent.terminate()
            self.agent.wait(20)
            self.agent = None

    @property
    def status(self) -> dict[str, Any]:
        place = self.folder / "bundle.agent.json"
        said: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
        return said

    def refused_within(self, seconds: float, who: Identity | Line, streak: int = 8) -> float:
        """Asks until it is refused so many times in a row (a worker of nginx that is about to end may still take a connection), or an open one is closed.

        Answers with the seconds until it was let in for the last time. Raises AssertionError when that takes longer.
        """
        began = last = time.monotonic()
        refusals = 0
        while refusals < streak:
            answer = who.ask(self.knock(keep=True)) if isinstance(who, Line) else self.visit(who)
            refusals = 0 if answer.status == 200 else refusals + 1
            last = time.monotonic() if answer.status == 200 else last
            assert last - began < seconds, f"let in after {last - began:.2f} s"
            if answer.status != 200 and isinstance(who, Line):
                break
        return last - began


def proxy(asked: Service, login: str) -> None:
    """A certificate for an agent, and the role."""
    asked.admin.process("issue", "client", login, "--for", "pem", "--out", asked.folder)
    asked.admin.process("people", "set", login, "--role", "proxy")
    root = asked.folder / "servers-root.crt"
    if not root.exists():
        asked.admin.process("authority", "export", "servers-root", "--out", root)


def remote(asked: Service, login: str) -> dict[str, Any]:
    """What an agent's TOML says of the service."""
    files = {"certificate": f"{login}.crt", "key": f"{login}.key", "roots": "servers-root.crt"}
    return {"source": f"https://127.0.0.1:{asked.private}", **{key: str(asked.folder / name) for key, name in files.items()}}


@contextlib.contextmanager
def site(folder: Path, asked: Service, kind: str = "nginx", **options: Any) -> Iterator[FarDoor]:
    """A running site of nginx with its agent."""
    d = FarDoor(kind, folder, asked, options)
    with backend() as app:
        d.app = app
        d.publish()
        with STARTERS[kind](d.configuration().whole, folder, [d.port, d.plain], main=nginx.main_level()) as d.server:
            words = [program("nginx"), "-p", str(d.server.folder), "-c", str(d.server.file)]
            d.configure(server="nginx", check=[*words, "-t"], reload=[*words, "-s", "reload"])
            d.start()
            try:
                yield d
            finally:
                d.stop()


class Answered(NamedTuple):
    """What a liar says: status, headers and body; or it does something else with the connection."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    act: Callable[[Any], None] | None = None


class Liar:
    """A service that may say anything, with a certificate that agents believe. `asked`: (method, path, headers, body) of each question."""

    def __init__(self, folder: Path, name: str = "127.0.0.1") -> None:
        self.folder = folder / "liar"
        self.folder.mkdir(parents=True)
        self.pki, self.people = make_pki("kitty-ca servers"), make_pki()
        self.said = Answered(500)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        files = self.pki.server(name).write(self.folder, "liar")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.leaf = self.people.client("web1")
        self.own = self.leaf.write(self.folder, "web1")
        self.own.key.chmod(0o600)
        (self.folder / "roots.pem").write_bytes(self.pki.chain_pem)

    def says(self, body: bytes = b"", status: int = 200, *headers: tuple[str, str], act: Callable[[Any], None] | None = None) -> None:
        """From now on, to every question for a bundle."""
        self.said = Answered(status, body, headers, act)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    @property
    def toml(self) -> dict[str, Any]:
        return {"source": self.url, "certificate": str(self.own.chain), "key": str(self.own.key), "roots": str(self.folder / "roots.pem")}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                liar.asked.append((self.command, self.path, dict(self.headers), body))
                said = liar.said if self.command == "GET" else Answered(204)
                if said.act:
                    said.act(self)
                    return
                self.send_response(said.status)
                for name, value in said.headers:
                    self.send_header(name, value)
                if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in said.headers) and said.status != 304:
                    self.send_header("Content-Length", str(len(said.body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(said.body)

            do_GET = do_POST = _answer  # noqa: N815  named by the standard library

        return Handler

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class FarHost(Host):
    """A host whose agent asks a liar. `source`: its source."""

    source: Source

    def __init__(self, folder: Path, liar: Liar, **toml: Any) -> None:
        self.liar = liar
        super().__init__(folder, **{**liar.toml, **toml})

    def another(self, **toml: Any) -> Agent:
        if hasattr(self, "source"):
            self.source.close()
        self.toml |= toml
        config = self.config
        assert not isinstance(config.source, Path)
        say = lambda level, sentence: self.said.append((level, sentence))  # noqa: E731
        self.source = Source(config.source, lambda: self.now, lambda count: b"\0" * count, say)
        self.agent = Agent(config, self.source, lambda: self.now, say, service=self.service)
        return self.agent


@contextlib.contextmanager
def far(folder: Path, liar: Liar, **toml: Any) -> Iterator[FarHost]:
    """A host with its agent, until the block ends."""
    host = FarHost(folder / "host", liar, **toml)
    try:
        yield host
    finally:
        host.source.close()
