"""From `gatekey revoke` to the first refusal, with an agent on the web server's host: nginx, Apache and HAProxy as Gatekey configures them. The limit is 0.5 s.

    PYTHONPATH=src:tests [chrt --rr 1] python bench/revocation.py [SERVER ...] [--rounds N]

The clock starts before the process of the command does (interpreter, passphrase, ledger, CRL, publishing), and stops when the revoked person is refused for the
first time: at a fresh handshake, with a resumed session, on a connection that was open all the time. Medians of 20. "last let in" is the last time that a
request of his was served: nginx lets old workers accept for 100 ms more beside the new ones. The command alone stands beside it.
On a machine that has other work `chrt` keeps that away from the processors, though not from the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 0.5
SERVERS = ("nginx", "apache", "haproxy")
MODES = ("fresh handshake", "resumed session", "open connection")
SIGNALS = {"nginx": "-HUP", "apache": "-HUP", "haproxy": "-USR2"}
#: Between two attempts of the client, who shares the two cores with everything else.
PAUSE = 0.008
COMMAND = [sys.executable, "-c", "from gatekey.cli import main; main()"]

#: Our configurations resume no session. To be tried with one, they must.
RESUMING = {
    "nginx": (("ssl_session_cache off;", "ssl_session_cache shared:bench:1m;"),),
    "apache": (("SSLSessionCache none", "SSLSessionCache shmcb:bench(512000)"), ("SSLSessionTickets off", "SSLSessionTickets on")),
    "haproxy": (("tune.ssl.cachesize 0", ""), (" no-tls-tickets", "")),
}


class Took(NamedTuple):
    """Seconds from the start of the command."""

    refused: float
    last_served: float
    command: float


class Town:
    """An authority with a passphrase that publishes, and certificates to take away."""

    def __init__(self, folder: Path) -> None:
        from gatekey.api import Authority

        self.home, self.published = folder / "home", folder / "published"
        password = folder / "passphrase"
        password.touch(0o600)
        password.write_text("a passphrase for the bench\n")
        self.environment = {**os.environ, "GATEKEY_PASSPHRASE_FILE": str(password), "PYTHONPATH": os.pathsep.join(sys.path[:3])}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        Authority.create(self.home, "Kitty CA", passphrase="a passphrase for the bench").close()
        toml = self.home / "gatekey.toml"
        toml.write_text(toml.read_text().replace('# publish = ""', f'publish = "{self.published}"'))
        self.authority = Authority.open(self.home, passphrase="a passphrase for the bench")
        self.authority.bundle(self.published)
        self.count = 0

    def person(self) -> tuple[str, Any]:
        from gatekey.webserver.knock import Identity

        self.count += 1
        login = f"p{self.count}"
        issued = self.authority.issue_client(login)
        return login, Identity(issued.chain, issued.key, login)

    def revoke(self, login: str) -> subprocess.Popen[bytes]:
        command = [*COMMAND, "--home", str(self.home), "revoke", login]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def guarded(kind: str, folder: Path, town: Town, *, resuming: bool) -> Iterator[Any]:
    """A door with the agent's process beside it, ready."""
    import json

    from kit import doors
    from kit.servers import wait_until

    starter = doors.STARTERS[kind]

    def changed(text: str, *more: Any, **options: Any) -> Any:
        for old, new in RESUMING[kind] if resuming else ():
            assert old in text, old
            text = text.replace(old, new)
        return starter(text, *more, **options)

    doors.STARTERS[kind] = changed
    folder.mkdir()
    try:
        with doors.door(kind, folder, last_words=2) as d:
            said = {
                "source": str(town.published), "target": str(d.bundle), "server": kind, "check": d.server.check_command(),
                "reload": ["/bin/kill", SIGNALS[kind], str(d.server.process.pid)],
            }  # fmt: skip
            (folder / "agent.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
            with (folder / "agent.log").open("wb") as log:
                agent = subprocess.Popen([*COMMAND, "agent", "--config", str(folder / "agent.toml")], env=town.environment, stderr=log)
            try:
                _, ann = town.person()
                wait_until(lambda: served(d.visit(ann)), "the door opens for those of this authority")
                yield d
                print((folder / "agent.log").read_text()[-300:] if agent.poll() is not None else "", end="")
            finally:
                agent.terminate()
                agent.wait()
    finally:
        doors.STARTERS[kind] = starter


def served(answer: Any) -> bool:
    return bool(answer.status == 200)


def fresh(d: Any, who: Any) -> Callable[[], bool]:
    return lambda: served(d.visit(who))


def resumed(d: Any, who: Any) -> Callable[[], bool]:
    """Each connection offers the session of the last one that was let in."""
    last: list[Any] = [None]

    def attempt() -> bool:
        line = d.open(who, resume=last[0]) if last[0] else d.open(who)
        try:
            answer = line.ask(d.knock(who, keep=True))
        finally:
            line.close()
        if served(answer):
            attempt.resumed = line.resumed  # type: ignore[attr-defined]  # told to whoever asks
            last[0] = line if line.session else last[0]
        return served(answer)

    def safely() -> bool:
        try:
            return attempt()
        except AssertionError:  # no handshake: that is a refusal, too
            return False

    safely.told = lambda: getattr(attempt, "resumed", False)  # type: ignore[attr-defined]  # told to whoever asks
    return safely


def opened(d: Any, who: Any) -> Callable[[], bool]:
    """One connection, and only when the server ends it another one."""
    line = [d.open(who)]

    def attempt() -> bool:
        answer = line[0].ask(d.knock(who, keep=True))
        if answer.kind == "answered":
            return served(answer)
        line[0].close()
        return served(d.visit(who))

    return attempt


WAYS = dict(zip(MODES, (fresh, resumed, opened), strict=True))


def one(d: Any, town: Town, mode: str) -> Took:
    from kit.servers import wait_until

    login, who = town.person()
    attempt = WAYS[mode](d, who)
    wait_until(lambda: attempt() and attempt(), "he gets in, and again")
    if mode == "resumed session":
        wait_until(lambda: attempt() and attempt.told(), "his session is resumed")  # type: ignore[attr-defined]  # see there
    seen: dict[str, float] = {}
    refused = threading.Event()

    def knock() -> None:
        while True:
            asked = time.monotonic()
            if attempt():
                seen["served"] = asked
            else:
                seen.setdefault("refused", time.monotonic())
                refused.set()
                if time.monotonic() - seen["refused"] > 0.4 or mode == "open connection":
                    return
            time.sleep(PAUSE)

    client = threading.Thread(target=knock, daemon=True)
    client.start()
    time.sleep(0.05)
    began = time.monotonic()
    command = town.revoke(login)
    ended = [0.0]

    def wait() -> None:
        command.wait()
        ended[0] = time.monotonic()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    if not refused.wait(30):
        raise SystemExit("he was let in for 30 s")
    client.join()
    waiting.join()
    assert command.returncode == 0
    return Took(seen["refused"] - began, max(seen["served"] - began, 0.0), ended[0] - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="*", metavar="SERVER", default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="gk-") as name:
        folder = Path(name)
        town = Town(folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ms, medians of {asked.rounds} (slowest)")
        print(f"{'':8}{'':17}{'first refusal':>17}{'last let in':>17}{'the command alone':>20}")
        for kind in asked.servers:
            for resuming in (False, True):
                with guarded(kind, folder / f"{kind}-{resuming}", town, resuming=resuming) as d:
                    for mode in [m for m in MODES if (m == "resumed session") == resuming]:
                        took = [one(d, town, mode) for _ in range(asked.rounds)]
                        cells = [_cell([getattr(each, field) for each in took]) for field in Took._fields]
                        worst = max(worst, statistics.median(each.refused for each in took))
                        print(f"{kind:8}{mode:17}{cells[0]:>17}{cells[1]:>17}{cells[2]:>20}", flush=True)
        town.authority.close()
    print(f"the slowest median is {worst * 1000:.0f} ms, {worst / LIMIT:.2f} of the limit of {LIMIT * 1000:.0f} ms")
    return worst > LIMIT


def _cell(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ({max(seconds) * 1000:.0f})"


if __name__ == "__main__":
    sys.exit(main())
