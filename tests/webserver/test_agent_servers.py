"""The agent beside real web servers: a revocation reaches the door, and nothing that is wrong does. The service as its own process, signals and all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.errors import GatekeyError
from gatekey.webserver import agent_server as server
from gatekey.webserver.agent import Agent
from gatekey.webserver.agent_config import parse
from gatekey.webserver.agent_source import Folder
from gatekey.webserver.answer import ANSWERED, Answer
from gatekey.webserver.knock import Line
from kit.doors import Door, door
from kit.pki import Leaf
from kit.published import Published, current
from kit.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SRC = Path(__file__).parent.parent.parent / "src"
SERVERS = ("nginx", "apache", "haproxy", "caddy")

#: How a running server of the kit is told: what systemd does elsewhere.
SIGNALS = {"nginx": "-HUP", "apache": "-HUP", "haproxy": "-USR2"}

#: The kit runs Caddy from JSON with an admin port of its own; this is `caddy reload` for that.
CADDY_RELOAD = """
import json, subprocess, sys, urllib.request
caddy, file, admin = sys.argv[1:]
made = json.loads(subprocess.run([caddy, "adapt", "--config", file, "--adapter", "caddyfile"], capture_output=True, check=True).stdout)
made["admin"] = {"listen": f"127.0.0.1:{admin}"}
request = urllib.request.Request(f"http://127.0.0.1:{admin}/load", json.dumps(made).encode(), {"Content-Type": "application/json"})
urllib.request.urlopen(request, timeout=30).close()
"""


class Guarded:
    """A door, the folder that its authority publishes, and an agent between them."""

    def __init__(self, d: Door, **toml: Any) -> None:
        self.door = d
        self.town = Published(d.folder / "published", d.pki)
        self.town.ann, self.town.bob, self.town.carl = d.ann, d.bob, d.carl
        reload = [sys.executable, "-c", CADDY_RELOAD, *d.server.command()[:1], str(d.server.file), str(getattr(d.server, "admin", ""))]
        if d.kind in SIGNALS:
            reload = ["/bin/kill", SIGNALS[d.kind], str(d.server.process.pid)]
        self.toml: dict[str, Any] = {"source": str(self.town.folder), "target": str(d.bundle), "server": d.kind}
        self.toml |= {"check": d.server.check_command(), "reload": reload, **toml}
        self.file = d.folder / "agent.toml"
        self.file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self.toml.items()))
        self.said: list[str] = []
        config = parse(self.file.read_text(), self.file)
        self.agent = Agent(config, Folder(self.town.folder, watched=False), lambda: int(time.time()), lambda _, sentence: self.said.append(sentence))

    def settle(self) -> GatekeyError | None:
        return self.agent.settle()

    def served(self, leaf: Leaf) -> bool:
        """Whether this certificate gets to the app now, over a connection of its own."""
        answer = self.door.visit(leaf)
        if answer.kind == ANSWERED and answer.status == 200:
            return True
        assert refused(answer), answer.face
        return False

    def becomes_refused(self, leaf: Leaf) -> None:
        """And stays so: for 100 ms after a reload nginx's old workers accept beside the new ones, so the first refusal is not yet the last word."""
        last = [time.monotonic()]

        def for_a_while() -> bool:
            if self.served(leaf):
                last[0] = time.monotonic()
            return time.monotonic() - last[0] > 0.4

        wait_until(for_a_while, f"{leaf.name} is refused by {self.door.kind}")


def refused(answer: Answer) -> bool:
    return answer.kind != ANSWERED or answer.status in (400, 403, 421)


@contextlib.contextmanager
def guarded(kind: str, folder: Path, **options: Any) -> Iterator[Guarded]:
    """With the first bundle in place and read by the server."""
    toml = options.pop("toml", {})
    with door(kind, folder, **options) as d:
        made = Guarded(d, **toml)
        made.town.publish()
        if kind == "haproxy":  # just after its start it may lose a signal, which `reload` gives until it is heard
            d.server.reload()
        mark = len(d.server.log())
        problem = made.settle()
        assert problem is None, problem.message
        if kind == "apache":  # a restart drops the connections of the moment in which it comes
            wait_until(lambda: "resuming normal operations" in d.server.log()[mark:], "Apache has restarted")
        wait_until(lambda: made.served(d.ann), "Ann gets in")
        yield made


@pytest.fixture(params=SERVERS)
def guard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    with guarded(request.param, tmp_path, last_words=2) as made:
        yield made


def asks(line: Line, guard: Guarded) -> Answer:
    return line.ask(guard.door.knock(keep=True))


def test_a_revocation_reaches_the_door(guard: Guarded) -> None:
    d = guard.door
    assert guard.served(d.bob)
    with contextlib.closing(d.open(d.bob)) as opened, contextlib.closing(d.open(d.ann)) as ann:
        assert asks(opened, guard).status == asks(ann, guard).status == 200
        guard.town.revoke(d.bob)
        guard.town.publish()
        assert guard.settle() is None
        guard.becomes_refused(d.bob)
        # The connection that was open: refused, or ended; never again the app.
        wait_until(lambda: refused(asks(opened, guard)), "the open connection is refused or ended")
        asked = len(d.app.seen)
        assert refused(asks(opened, guard))
        # The session that he still has.
        if opened.session is not None:
            with contextlib.closing(d.open(resume=opened)) as again:
                answer = asks(again, guard)
                assert refused(answer), (answer.face, again.resumed, d.app.last)
        assert len(d.app.seen) == asked
    assert guard.served(d.ann)
    assert guard.served(d.carl)


def test_held_and_given_back(guard: Guarded) -> None:
    d = guard.door
    guard.town.revoke(d.bob)
    guard.town.publish()
    assert guard.settle() is None
    guard.becomes_refused(d.bob)
    guard.town.denied.clear()
    guard.town.pki.revoked.clear()
    guard.town.number += 1
    guard.town.publish()
    assert guard.settle() is None
    wait_until(lambda: guard.served(d.bob), "Bob is back")


def test_nothing_wrong_reaches_the_door(guard: Guarded) -> None:
    d, town = guard.door, guard.town
    town.revoke(d.bob)
    good = town.publish()
    assert guard.settle() is None
    guard.becomes_refused(d.bob)
    mallory = Published(town.folder, town.pki.foreign())
    wrong = {
        "crl-expired": town.contents(crls=town.pki.crls(issuing="expired"), number=2),
        "crl-not-yet": town.contents(crls=town.pki.crls(root="not-yet"), number=2),
        "crl-signature": town.contents(crls=town.pki.crls(issuing="bad-signature"), number=2),
        "crl-missing": town.contents(crls=town.pki.crls(root="missing"), number=2),
        "crl-foreign": town.contents(crls=town.pki.crls(issuing="foreign"), number=2),
        "bad-pem": town.contents(crls=town.pki.crls()[:-100], number=2),
        "bundle-foreign": mallory.contents(number=2),
        "bundle-older": town.contents(number=0),
    }
    for code, contents in wrong.items():
        town.publish(contents)
        problem = guard.settle()
        assert problem is not None
        assert problem.code == code, problem.message
        assert {name: data for name, data in current(d.bundle).items() if name in good} == good
        assert guard.served(d.ann), code
        assert not guard.served(d.bob), code
        assert not guard.served(mallory.ann), code


def test_a_configuration_that_does_not_parse_is_left_alone(guard: Guarded) -> None:
    d = guard.door
    before = current(d.bundle)
    fine = d.server.text
    d.server.write(fine + "\nthis is no line of a configuration {{{\n")
    guard.town.revoke(d.bob)
    new = guard.town.publish()
    problem = guard.settle()
    assert problem is not None
    assert problem.code == "server-refuses", problem.message
    assert "so the mistake is not in the bundle" in problem.hint
    assert current(d.bundle) == before
    assert guard.served(d.ann)
    d.server.write(fine)
    assert guard.settle() is None
    assert current(d.bundle) == new
    guard.becomes_refused(d.bob)
    assert guard.served(d.ann)


def test_a_server_that_is_started_again_in_between_has_a_complete_set(tmp_path: Path) -> None:
    """The agent is killed behind the switch; nginx starts with what is there; the next agent reloads it."""
    with guarded("nginx", tmp_path) as guard:
        d = guard.door
        guard.town.revoke(d.bob)
        guard.town.publish()
        child = os.fork()
        if not child:
            from gatekey.webserver import agent_server

            agent_server.check = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            guard.settle()
            os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert guard.served(d.bob), "nobody told nginx yet"
        d.server.reload()
        guard.becomes_refused(d.bob)
        assert guard.served(d.ann)
        assert guard.settle() is None
        assert guard.agent.status.serving_number == 1


def test_haproxys_running_list(tmp_path: Path) -> None:
    """Without any reload: on a connection that stays open, and for whoever comes."""
    with tempfile.TemporaryDirectory(prefix="gk-") as short:
        place = f"{short}/stats"
        stats = f"\nglobal\n    stats socket {place} mode 600 level admin\n"
        with guarded("haproxy", tmp_path, beside=lambda _: stats, toml={"runtime": place, "reload": ["true"]}) as guard:
            d = guard.door
            with contextlib.closing(d.open(d.bob)) as opened:
                assert asks(opened, guard).status == 200
                guard.town.revoke(d.bob)
                guard.town.publish()
                assert guard.settle() is None
                assert not any("running list" in sentence for sentence in guard.said), guard.said
                answer = asks(opened, guard)
                assert (answer.kind, answer.status) == (ANSWERED, 403)
            assert not guard.served(d.bob)
            assert guard.served(d.ann)
            guard.town.denied.clear()
            guard.town.number += 1
            guard.town.publish()
            assert guard.settle() is None
            assert guard.served(d.bob)


# The service


class Service:
    """`gatekey agent --config F` as systemd starts it."""

    def __init__(self, guard: Guarded, folder: Path) -> None:
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._short = tempfile.TemporaryDirectory(prefix="gk-")
        self._notified.bind(f"{self._short.name}/notify")
        self._notified.settimeout(30)
        self.output = folder / "service.log"
        environment = {**os.environ, "PYTHONPATH": str(SRC), "NOTIFY_SOCKET": f"{self._short.name}/notify", "JOURNAL_STREAM": "8:1"}
        with self.output.open("wb") as output:
            command = [sys.executable, "-c", "from gatekey.cli import main; main()", "agent", "--config", str(guard.file)]
            self.process = subprocess.Popen(command, env=environment, stderr=output, stdout=output)

    def notified(self) -> str:
        return self._notified.recv(4096).decode()

    def log(self) -> str:
        return self.output.read_text()

    def spent(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._notified.close()
        self._short.cleanup()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Guarded, Service]]:
    with guarded("nginx", tmp_path) as guard:
        service = Service(guard, tmp_path)
        try:
            yield guard, service
        finally:
            service.close()


def test_the_service_from_start_to_end(watched: tuple[Guarded, Service]) -> None:
    guard, service = watched
    d = guard.door
    assert "READY=1" in service.notified()
    # A revocation, without anybody doing more than publishing it.
    guard.town.revoke(d.bob)
    guard.town.publish()
    guard.becomes_refused(d.bob)
    assert guard.served(d.ann)
    wait_until(lambda: "revocation 1 is in force" in service.log(), "it says so")
    assert "<6>gatekey agent: revocation 1 is in force: 1 revoked certificates" in service.log()
    # Something wrong: said once, and the door stays as it is.
    guard.town.publish(crls=guard.town.pki.crls(issuing="expired"), number=5)
    wait_until(lambda: "<3>gatekey agent: the CRL of CN=kitty-ca people ran out" in service.log(), "it says what is wrong")
    assert guard.served(d.ann)
    # SIGHUP looks at once; a second revocation mends it all.
    service.process.send_signal(signal.SIGHUP)
    guard.town.revoke(d.carl)
    guard.town.publish()
    guard.becomes_refused(d.carl)
    wait_until(lambda: "all is well again" in service.log(), "it is well again")
    assert service.log().count("ran out") == 1
    # Doing nothing costs nothing.
    before = service.spent()
    time.sleep(2)
    assert service.spent() - before < 0.1
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert "Traceback" not in service.log()


def test_the_service_outlives_its_source(watched: tuple[Guarded, Service], tmp_path: Path) -> None:
    guard, service = watched
    d = guard.door
    assert "READY=1" in service.notified()
    guard.town.folder.rename(tmp_path / "away")
    wait_until(lambda: f"there is no {guard.town.folder}" in service.log(), "it says that the folder is gone")
    assert guard.served(d.ann)
    (tmp_path / "away").rename(guard.town.folder)
    wait_until(lambda: "all is well again" in service.log(), "it has found it again")
    guard.town.revoke(d.bob)
    guard.town.publish()
    guard.becomes_refused(d.bob)


def test_killed_and_started_again(watched: tuple[Guarded, Service], tmp_path: Path) -> None:
    guard, service = watched
    d = guard.door
    assert "READY=1" in service.notified()
    service.process.kill()
    service.process.wait()
    guard.town.revoke(d.bob)
    guard.town.publish()
    assert guard.served(d.bob)
    another = Service(guard, tmp_path)
    try:
        guard.becomes_refused(d.bob)
    finally:
        another.close()


def test_an_nginx_that_reads_another_folder_is_named(tmp_path: Path) -> None:
    """Its checker is content and it is reloaded, and nobody is refused: that must not look like health."""
    with door("nginx", tmp_path) as d:
        target = tmp_path / "target"
        made = Guarded(d, target=str(target))
        made.town.publish()
        for _ in range(2):
            assert made.settle() is None
        said = [sentence for sentence in made.said if "reads its lists" in sentence]
        assert len(said) == 1
        assert f"nginx reads its lists in {d.bundle} and not in {target}" in said[0]
        assert (made.agent.status.health, made.agent.status.warning) == ("warning", said[0])
        # Mended: the configuration reads the target by another name.
        shutil.rmtree(d.bundle)
        d.bundle.symlink_to(target)
        assert made.settle() is None
        assert (made.agent.status.health, made.agent.status.warning) == ("ok", "")


@pytest.mark.parametrize(
    ("dump", "found"),
    [
        ("include @target@/people.map;", ""),
        ("http { map $a $b { include '@target@/*.map'; } }", ""),
        ("ssl_crl etc/bundle/all.crl.pem;\nssl_client_certificate @target@/people-chain.pem;", ""),
        ("# ssl_crl @target@/all.crl.pem;\nssl_crl bundle/all.crl.pem;", "/etc/nginx/bundle"),
        ('ssl_crl\t"/srv/a b/all.crl.pem" ;', "/srv/a b"),
        ("ssl_crl /srv/mine.pem; include conf.d/*.conf;", None),
        ("", None),
    ],
)
def test_what_a_dump_names(dump: str, found: str | None, tmp_path: Path) -> None:
    nginx = tmp_path / "nginx"
    (tmp_path / "dump").write_text(f"# configuration file /etc/nginx/nginx.conf:\n{dump.replace('@target@', str(tmp_path / 'bundle'))}\n")
    nginx.write_text(f'#!/bin/sh\n[ "$*" = "-q -T" ] && cat {tmp_path}/dump\n')
    nginx.chmod(0o755)
    assert server.elsewhere((str(nginx), "-q", "-t"), tmp_path / "bundle", 10) == found
    assert server.elsewhere(("docker", "exec", "web", "nginx", "-t"), tmp_path / "bundle", 10) is None
    nginx.write_text(f"#!/bin/sh\ncat {tmp_path}/dump\nexit 1\n")
    assert server.elsewhere((str(nginx), "-q", "-t"), tmp_path / "bundle", 10) == (found if found == "" else None)
