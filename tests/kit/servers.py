"""Real web servers on loopback: nginx, Apache, HAProxy and Caddy, each with a given configuration, until the block ends.

    port = free_port()
    with nginx(f"server {{ listen 127.0.0.1:{port}; return 204; }}", tmp_path, [port]) as server:
        ...
        server.write("server { ... }"); server.reload()

The text for nginx stands at http level and that for Apache at server level (modules are loaded); HAProxy and Caddy get a whole file.
They run in the foreground in a process group of their own, die with the test process and are never left over.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

#: How long a server may take to start, to reload or to stop. Two cores and several workers: generous, and never waited for in full.
PATIENCE = 30.0
PORTS = range(20_000, 32_000)  # below the kernel's ephemeral range, so that no outgoing connection takes one
APACHE_MODULES = Path("/usr/lib/apache2/modules")

S = TypeVar("S", bound="Server")
_claims: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on loopback that nobody else gets as long as this process lives, also not a test in another process."""
    start = os.getpid() * 97 % len(PORTS)
    for i in range(len(PORTS)):
        port = PORTS[(start + i) % len(PORTS)]
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0gatekey-test-port-{port}")  # an abstract name: unique on the machine, gone with the process
        except OSError:
            claim.close()
            continue
        if all(_bindable(family, host, port) for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))):
            _claims.append(claim)
            return port
        claim.close()
    raise RuntimeError("no free port")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@atexit.register
def _give_back() -> None:
    for claim in _claims:
        claim.close()


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The first true value of `condition()`, asked every 10 ms. Raises AssertionError that names `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.01)
    return value


def program(name: str) -> str:
    """The path of a program, also where only root's PATH looks."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    assert path, f"{name} is not installed, and this test needs it: apt install {name}"
    return path


class Server:
    """A running server. `text` is its configuration, `file` where that stands, `folder` where it lives."""

    name = ""

    def __init__(self, text: str, folder: Path, ports: Sequence[int], host: str = "127.0.0.1") -> None:
        self.folder = folder / f"{self.name}-{free_port()}"
        self.folder.mkdir(parents=True)
        self.ports = tuple(ports)
        self.host = host
        self.output = self.folder / "output.log"
        self.write(text)

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.conf"

    def write(self, text: str) -> None:
        """A new configuration, which counts from the next `reload` on."""
        self.text = text
        fresh = self.file.with_name(f"{self.file.name}.new")  # an agent may reload at any moment: never half a file
        fresh.write_text(self.whole(text))
        fresh.replace(self.file)

    def whole(self, text: str) -> str:
        return text

    def command(self) -> list[str]:
        raise NotImplementedError

    def check_command(self) -> list[str]:
        raise NotImplementedError

    def check(self) -> subprocess.CompletedProcess[str]:
        """What the server's own checker says of the configuration."""
        return subprocess.run(self.check_command(), capture_output=True, text=True, env=self.environment(), cwd=self.folder, timeout=PATIENCE, check=False)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}

    def start(self) -> None:
        # setpriv: the server is told to end when this process ends, however that happens.
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [program("setpriv"), "--pdeathsig", "TERM", *self.privileges(), *self.command()],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment(), cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self._wait_for_ports()

    def _wait_for_ports(self) -> None:
        wait_until(lambda: all(map(self._answers, self.ports)), f"{self.name} on {self.host}, ports {self.ports}")

    def privileges(self) -> list[str]:
        return []

    def _alive(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended by itself (exit {self.process.returncode}):\n{self.log()[-4000:]}")

    def _answers(self, port: int) -> bool:
        self._alive()
        try:
            socket.create_connection((self.host, port), 1).close()
        except OSError:
            return False
        return True

    def reload(self) -> None:
        """What an administrator does after a change; returns when the new configuration answers. Raises AssertionError if it is refused."""
        raise NotImplementedError

    def log(self) -> str:
        """All that the server has written, on its output and into its log files."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """Ends the server and all its children; twice is harmless."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
        wait_until(lambda: not group_members(self.process.pid), f"the children of {self.name} are gone", 5)

    def _after(self, mark: int, pattern: str) -> re.Match[str] | None:
        self._alive()
        return re.search(pattern, self.log()[mark:])


class Nginx(Server):
    name = "nginx"

    def whole(self, text: str) -> str:
        paths = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;\n" if os.geteuid() == 0 else ""
        return (
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log {self.folder}/error.log info;\n"
            f"events {{ worker_connections 256; }}\n{self.main}\nhttp {{\naccess_log {self.folder}/access.log;\n{paths}\n{text}\n}}\n"
        )

    def __init__(self, text: str, folder: Path, ports: Sequence[int], host: str = "127.0.0.1", main: str = "") -> None:
        self.main = main  # what stands beside `http {}`, at the top of the file
        super().__init__(text, folder, ports, host)

    def command(self) -> list[str]:
        return [program("nginx"), "-p", str(self.folder), "-c", str(self.file)]

    def check_command(self) -> list[str]:
        return [*self.command(), "-t"]

    def reload(self) -> None:
        log = self.folder / "error.log"
        mark = len(log.read_text(errors="replace"))
        before = set(self._workers())
        self.process.send_signal(signal.SIGHUP)

        def changed() -> bool:
            failed = re.search(r"\[emerg\].*", log.read_text(errors="replace")[mark:])
            assert not failed, f"nginx kept its old configuration: {failed[0]}"
            now = self._workers()
            return bool(set(now) - before) and all("shutting down" in title for pid, title in now.items() if pid in before)

        wait_until(changed, "nginx takes over the new configuration")

    def _workers(self) -> dict[int, str]:
        """Process id -> title of every worker."""
        found = {}
        for pid in _children(self.process.pid):
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "worker process" in title:
                    found[pid] = title
        return found


class Apache(Server):
    name = "apache2"

    #: What Debian enables, and what Gatekey's configuration asks for.
    modules = (
        "mpm_event", "authz_core", "alias", "dir", "env", "expires", "headers", "http2", "mime", "proxy", "proxy_http", "proxy_wstunnel", "rewrite",
        "setenvif", "socache_shmcb", "ssl", "unique_id",
    )  # fmt: skip

    def whole(self, text: str) -> str:
        loads = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in self.modules if (APACHE_MODULES / f"mod_{name}.so").exists())
        return (
            f"ServerRoot {self.folder}\nPidFile {self.folder}/apache2.pid\nDefaultRuntimeDir {self.folder}\nErrorLog {self.folder}/error.log\n"
            f"ServerName localhost\nDocumentRoot {self.folder}\nStartServers 1\nServerLimit 4\nThreadsPerChild 16\nMaxRequestWorkers 64\n{loads}\n"
            f"TypesConfig /etc/mime.types\nMutex file:{self.folder} default\n{text}\n"
        )

    def command(self) -> list[str]:
        return [program("apache2"), "-D", "FOREGROUND", "-d", str(self.folder), "-f", str(self.file)]

    def privileges(self) -> list[str]:
        # Apache will not serve as root. An ordinary user who may read everything can use pytest's folders, which are root's alone.
        nobody = ("--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override")
        return list(nobody) if os.geteuid() == 0 else []

    def check_command(self) -> list[str]:
        return [program("apache2"), "-t", "-d", str(self.folder), "-f", str(self.file)]

    def start(self) -> None:
        super().start()  # its ports answer for a moment when it reads its configuration for the first time
        wait_until(lambda: self._after(0, "resuming normal operations"), "Apache is up")
        self._wait_for_ports()

    def reload(self) -> None:
        """A graceful restart: open connections go on under the old configuration until they end by themselves."""
        self._restart(signal.SIGUSR1)

    def restart(self) -> None:
        """`apache2ctl -k restart`: all connections end, the listening sockets stay open."""
        self._restart(signal.SIGHUP)

    def _restart(self, how: signal.Signals) -> None:
        checked = self.check()  # a restart with a bad configuration ends Apache
        assert checked.returncode == 0, f"apache2 -t: {checked.stderr}"
        mark = len(self.log())
        self.process.send_signal(how)
        wait_until(lambda: self._after(mark, "resuming normal operations"), "Apache takes over the new configuration")


class HAProxy(Server):
    name = "haproxy"

    def command(self) -> list[str]:
        return [program("haproxy"), "-W", "-db", "-f", str(self.file)]

    def check_command(self) -> list[str]:
        return [program("haproxy"), "-c", "-f", str(self.file)]

    def start(self) -> None:
        super().start()
        wait_until(lambda: self._after(0, "Loading success"), "HAProxy's master is ready for signals")

    def reload(self) -> None:
        mark = len(self.log())

        def heard() -> bool:
            self.process.send_signal(signal.SIGUSR2)
            with contextlib.suppress(AssertionError):
                return bool(wait_until(lambda: self._after(mark, "Reloading HAProxy"), "HAProxy hears the signal", 1))
            return False

        def changed() -> bool:
            failed = self._after(mark, r"\[ALERT\].*")
            assert not failed, f"HAProxy kept its old configuration: {self.log()[mark:]}"
            return bool(self._after(mark, "Loading success"))

        wait_until(heard, "HAProxy hears the signal")  # just after its start it may lose one
        wait_until(changed, "HAProxy takes over the new configuration")


class Caddy(Server):
    """Caddy with a Caddyfile. Its admin API gets a port of its own, which the Caddyfile need not know."""

    name = "caddy"

    def __init__(self, text: str, folder: Path, ports: Sequence[int], host: str = "127.0.0.1") -> None:
        self.admin = free_port()
        super().__init__(text, folder, ports, host)

    @property
    def file(self) -> Path:
        return self.folder / "Caddyfile"

    @property
    def json(self) -> Path:
        return self.folder / "caddy.json"

    def check_command(self) -> list[str]:
        return [program("caddy"), "validate", "--config", str(self.file), "--adapter", "caddyfile"]

    def command(self) -> list[str]:
        return [program("caddy"), "run", "--config", str(self.json)]

    def start(self) -> None:
        self._adapt()
        super().start()

    def reload(self) -> None:
        self._adapt()
        body = self.json.read_bytes()
        headers = {"Content-Type": "application/json", "Cache-Control": "must-revalidate"}  # reload --force, as its unit does
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/load", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass

    def _adapt(self) -> None:
        made = subprocess.run(
            [program("caddy"), "adapt", "--config", str(self.file), "--adapter", "caddyfile"],
            capture_output=True, text=True, env=self.environment(), cwd=self.folder, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert made.returncode == 0, f"caddy adapt: {made.stderr}"
        config = json.loads(made.stdout)
        config["admin"] = {"listen": f"127.0.0.1:{self.admin}"}
        self.json.write_text(json.dumps(config))


@contextlib.contextmanager
def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        if hasattr(server, "process"):
            server.stop()


def nginx(http: str, folder: Path, ports: Sequence[int], *, host: str = "127.0.0.1", main: str = "") -> contextlib.AbstractContextManager[Nginx]:
    """nginx with `http` as the body of its `http {}` and `main` beside it; one worker. `ports`: what must answer before the block begins."""
    return _running(Nginx(http, folder, ports, host, main))


def apache(text: str, folder: Path, ports: Sequence[int], *, host: str = "127.0.0.1") -> contextlib.AbstractContextManager[Apache]:
    """Apache with the event MPM; `text` holds `Listen` lines and virtual hosts."""
    return _running(Apache(text, folder, ports, host))


def haproxy(text: str, folder: Path, ports: Sequence[int], *, host: str = "127.0.0.1") -> contextlib.AbstractContextManager[HAProxy]:
    """HAProxy as master and worker, with `text` as its whole file."""
    return _running(HAProxy(text, folder, ports, host))


def caddy(text: str, folder: Path, ports: Sequence[int], *, host: str = "127.0.0.1") -> contextlib.AbstractContextManager[Caddy]:
    """Caddy with `text` as its Caddyfile."""
    return _running(Caddy(text, folder, ports, host))


def _bindable(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return family is socket.AF_INET6 and error.errno != 98  # EADDRINUSE; anything else: no IPv6 here
    return True


def group_members(group: int) -> list[int]:
    """The processes of a process group that still run (the dead that init has not yet buried do not)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
