"""Somebody who types what stands on a page of the documentation, on a machine whose addresses and folders are those of the test.

    section = sections("service.md")["Behind nginx"]
    with machine(tmp_path) as m, m.serving(section.take("toml")):
        m.types(section.take("sh"))
    assert section.left == []          # every block of the section was taken
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gatekey.api import Authority
from kit.servers import Nginx, free_ports, nginx, program
from kit.service import Service, started

ROOT = Path(__file__).parent.parent.parent

#: Before the commands of the machine: gatekey as it is here. The configurations and units that it prints are moved, too, before anybody reads them.
GATEKEY = f"""#!{sys.executable}
import json, subprocess, sys
words = sys.argv[1:]
prints = (words[:1] == ["webserver"] and "--script" not in words) or "--unit" in words
done = subprocess.run([sys.executable, "-c", "from gatekey.cli import main; main()", *words], stdout=subprocess.PIPE if prints else None, text=True)
if prints:
    sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT / "tests")!r}]
    from kit.typist import moved
    sys.stdout.write(moved(done.stdout, json.load(open(sys.argv[0] + ".json"))))
sys.exit(done.returncode)
"""

#: systemctl as far as the pages need it: a reload is over when there is a new worker. Whatever else is asked of it is noted.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {folder}/systemctl.log
[ "$*" = "reload nginx" ] || exit 0
main=$(cat {folder}/nginx-*/nginx.pid)
before=$(pgrep -P "$main" | sort)
kill -HUP "$main"
for _ in $(seq 3000); do
    for worker in $(pgrep -P "$main"); do
        echo "$before" | grep -qx "$worker" || exit 0
    done
    sleep 0.01
done
exit 1
"""


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    text: str


class Section:
    """The code blocks below a heading. `left`: those that nobody has taken yet, by language and first line."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def take(self, language: str) -> str:
        """The next block in this language."""
        found = next((block for block in self.blocks if block.language == language), None)
        assert found, f"there is no further {language} block here"
        self.blocks.remove(found)
        return found.text

    @property
    def left(self) -> list[tuple[str, str]]:
        return [(block.language, block.text.partition("\n")[0]) for block in self.blocks]


def sections(page: str) -> dict[str, Section]:
    """The sections of a page in docs/ that have code blocks, by their headings."""
    found: dict[str, Section] = {}
    title, language, lines = "", "", [""]
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        if language and line == "```":
            found.setdefault(title, Section()).blocks.append(Block(language, "".join(f"{one}\n" for one in lines)))
            language = ""
        elif language:
            lines.append(line)
        elif line.startswith("```"):
            language, lines = line[3:], []
            assert language, f"{page}: a block below {title!r} does not say its language"
        elif line.startswith("#"):
            title = line.lstrip("# ")
    return found


def moved(text: str, table: Mapping[str, str]) -> str:
    """Every key of the table replaced by its value, the longest first, and nothing replaced twice."""
    return re.sub("|".join(re.escape(key) for key in sorted(table, key=len, reverse=True)), lambda found: table[found[0]], text)


class Machine:
    """Where the pages are followed. `public`, `private`: the service's ports; `site`, `plain`: the web server's; `app`: where the app behind it listens."""

    def __init__(self, folder: Path, app: str = "") -> None:
        self.folder, self.home, self.etc = folder, folder / "home", folder / "etc"
        self.short = Path(tempfile.mkdtemp(prefix="gk-"))  # the kernel takes 107 bytes of a socket's path
        self.short.chmod(0o755)
        self.public, self.private, self.site, self.plain, self.idle = free_ports(5)
        self.service: Service
        #: What stands on the pages -> what it is here.
        self.table = {
            "/etc/": f"{self.etc}/",
            "/run/gatekey/": f"{self.short}/",
            "/var/lib/gatekey": str(self.home),
            "http://pki.example.com": f"http://127.0.0.1:{self.public}",
            "pki.example.com:8443": f"localhost:{self.private}",
            "pki.example.com": "localhost",
            "ca.internal:8443": f"localhost:{self.private}",
            "ca.internal": "localhost",
            "10.1.0.5:8443": f"127.0.0.1:{self.private}",
            "127.0.0.1:8443": f"127.0.0.1:{self.private}",
            "10.1.0.5": "127.0.0.1",
            '"0.0.0.0:80"': f'"127.0.0.1:{self.public}"',
            "gatekey agent": f"gatekey agent --config {self.etc}/gatekey/agent.toml",
            # 16 and 18 knock at other ports of the machine, where other people's programs may listen.
            "gatekey check https://app.example": f"gatekey check https://app.example:{self.site} --address 127.0.0.1 --http-port {self.plain}"
            " --skip 16 --skip 18",
        }
        #: The same for configurations that `gatekey` prints.
        self.printed = {
            **self.table,
            **{f"{every}:443": f"{here}:{self.site}" for every, here in (("0.0.0.0", "127.0.0.1"), ("*", "127.0.0.1"), ("[::]", "[::1]"))},
            **{f"{every}:80": f"{here}:{self.plain}" for every, here in (("0.0.0.0", "127.0.0.1"), ("*", "127.0.0.1"), ("[::]", "[::1]"))},
            "# Listen 443": f"Listen 127.0.0.1:{self.site}",
            "# Listen 80": f"Listen 127.0.0.1:{self.plain}",
            "127.0.0.1:8000": app.removeprefix("http://") or "127.0.0.1:9",
        }
        for name in ("bin", "etc/gatekey", "etc/nginx/conf.d", "etc/haproxy", "etc/apache2/sites-enabled", "etc/prometheus", "etc/systemd/system"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.command("gatekey", GATEKEY)
        (folder / "bin" / "gatekey.json").write_text(json.dumps(self.printed))
        self.command("systemctl", SYSTEMCTL.format(folder=folder))
        self.environment = {
            **os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
            "GATEKEY_HOME": str(self.home), "PYTHONPATH": str(ROOT / "src"),
        }  # fmt: skip

    def command(self, name: str, script: str) -> None:
        """A command that takes the place of the machine's."""
        path = self.folder / "bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def noted(self, name: str) -> None:
        """A command that would change the machine: its words are written into NAME.log, and nothing happens."""
        self.command(name, f'#!/bin/sh\necho "$*" >> {self.folder}/{name}.log\n')

    def log(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text().splitlines()

    def moved(self, text: str) -> str:
        return moved(text, self.table)

    def types(self, block: str, where: Path | None = None) -> str:
        """Types a block; every command must end well. Answers with what was printed."""
        script = f"set -eu -o pipefail\n{self.moved(block)}"
        done = subprocess.run(["bash", "-c", script], cwd=where or self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def session(self, block: str) -> tuple[str, list[str]]:
        """Types the `$` line of a console block. Answers with what was printed, and with the lines that the page shows."""
        first, *shown = block.splitlines()
        assert first.startswith("$ "), first
        return self.types(first[2:]).replace("\r\n", "\n"), shown

    def file(self, path: str) -> Path:
        """A file of the page."""
        return Path(self.moved(path))

    def found(self) -> None:
        """The authority, with keys that need no passphrase."""
        Authority.create(self.home, "Kitty CA", unencrypted_keys=True, url=f"http://127.0.0.1:{self.public}").close()

    @contextlib.contextmanager
    def serving(self, *blocks: str) -> Iterator[Service]:
        """`gatekey serve` with these blocks in its gatekey.toml, on the ports of the test where they name none."""
        if not self.home.exists():
            self.found()
        text = self.moved("\n".join(blocks))
        for table, line in (
            ("public", f'listen = "127.0.0.1:{self.public}"'),
            ("private", f'listen = "127.0.0.1:{self.private}"'),
            ("service", "workers = 1"),
            ("limits", "requests-per-second = 0"),
        ):
            text += "" if f"[{table}]" in text else f"\n[{table}]\n{line}\n"
        toml = self.home / "gatekey.toml"
        before = toml.read_text()
        toml.write_text(before + text)
        with started(self.home, self.folder / f"serve-{free_ports(1)[0]}.log", self.public, self.private) as self.service:
            yield self.service
        toml.write_text(before)

    @contextlib.contextmanager
    def nginx(self) -> Iterator[Nginx]:
        """A running nginx that reads conf.d; the commands `nginx` and `systemctl` mean it from then on."""
        text = f"include {self.etc}/nginx/conf.d/*.conf;\nserver {{ listen 127.0.0.1:{self.idle}; return 204; }}\n"
        with nginx(text, self.folder, [self.idle], main="worker_shutdown_timeout 10s;") as server:
            self.command("nginx", f'#!/bin/sh\nexec {program("nginx")} -p {server.folder} -c {server.file} "$@"\n')
            yield server

    def visit(self, who: str = "", path: str = "/") -> tuple[int, str]:
        """Status and body of a page of app.example, for somebody whose files lie in the folder. 0: no answer at all."""
        shown = ["--cert", f"{who}.chain.crt", "--key", f"{who}.key"] if who else []
        where = ["--resolve", f"app.example:{self.site}:127.0.0.1", f"https://app.example:{self.site}{path}"]
        done = subprocess.run(["curl", "-sk", "-w", "\n%{http_code}", *shown, *where], cwd=self.folder, capture_output=True, text=True, timeout=60)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body


@contextlib.contextmanager
def machine(folder: Path, app: str = "") -> Iterator[Machine]:
    """A machine until the block ends."""
    made = Machine(folder, app)
    try:
        yield made
    finally:
        shutil.rmtree(made.short, ignore_errors=True)


__all__ = ["Block", "Machine", "Section", "machine", "moved", "sections"]


def typed_whole(section: Section, step: Callable[[Section, Machine], None], folder: Path, app: str) -> None:
    """Takes one section of a page through its step, on a machine with an authority of its own; every block of it must have been used. `app`: its URL."""
    with machine(folder, app) as m:
        m.found()
        step(section, m)
    assert section.left == [], "blocks that nobody has typed"
