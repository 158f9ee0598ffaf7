"""What the documentation tells people to type works as it is printed: getting-started.md with a real nginx, the walk-through to its last command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.backend import backend
from kit.servers import Nginx, free_port, nginx

pytestmark = [pytest.mark.slow, pytest.mark.interop]

ROOT = Path(__file__).parent.parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return found


class Administrator:
    """Types what stands in the documentation, with /etc/gatekey moved to a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        passphrase = folder / "passphrase"
        passphrase.write_text("a passphrase for the test\n")
        passphrase.chmod(0o600)
        self.environment = {**os.environ, "GATEKEY_HOME": str(folder / "home"), "GATEKEY_PASSPHRASE_FILE": str(passphrase), "PYTHONPATH": str(ROOT / "src")}

    def moved(self, text: str) -> str:
        return text.replace("/etc/gatekey", str(self.folder / "etc")).replace("/etc/nginx/conf.d", str(self.folder))

    def types(self, line: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(self.moved(line), comments=True)
        assert words[0] == "gatekey"
        into = Path(words.pop()) if words[-2:-1] == [">"] else None
        if into:
            words.pop()
        command = [sys.executable, "-c", "from gatekey.cli import main; main()", *words[1:]]
        answer = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert answer.returncode == 0, f"{line}\n{answer.stderr}"
        if into:
            into.write_text(answer.stdout)
        return answer

    def types_all(self, block: str) -> None:
        for line in block.splitlines():
            if line.startswith("gatekey "):
                self.types(line)


@pytest.fixture
def administrator(tmp_path: Path) -> Administrator:
    return Administrator(tmp_path)


def get(site: int, folder: Path, curl: str, *more: str) -> tuple[int, str]:
    """Status and body of the site's front page. 0: no answer at all."""
    where = ["--resolve", f"pictures.example:{site}:127.0.0.1", f"https://pictures.example:{site}/"]
    answer = subprocess.run([curl, "-sk", "-w", "\n%{http_code}", *more, *where], cwd=folder, capture_output=True, text=True)
    body, _, status = answer.stdout.rpartition("\n")
    return int(status), body


def with_certificate(name: str) -> list[str]:
    return ["--cert", f"{name}.chain.crt", "--key", f"{name}.key"]


@pytest.fixture
def running(administrator: Administrator, tmp_path: Path) -> Iterator[tuple[Nginx, int]]:
    """nginx after the five commands, with the configuration of getting-started.md."""
    administrator.types_all(next(block for block in blocks("getting-started.md", "sh") if "gatekey init" in block))
    administrator.types("gatekey issue client bob --device laptop")
    administrator.types("gatekey bundle --out /etc/gatekey/bundle")
    site, plain = free_port(), free_port()
    with backend() as app:
        text = re.sub(r"^\s*listen \[::\].*\n", "", administrator.moved((tmp_path / "pictures.conf").read_text()), flags=re.MULTILINE)
        text = text.replace("listen 0.0.0.0:443", f"listen 127.0.0.1:{site}").replace("listen 0.0.0.0:80", f"listen 127.0.0.1:{plain}")
        text = re.sub(r"^\s*server \{\s*\}\n", "", text.replace("http://127.0.0.1:8000", app.url), flags=re.MULTILINE)
        with nginx(text, tmp_path, [site]) as server:
            yield server, site


def test_getting_started(administrator: Administrator, running: tuple[Nginx, int], tmp_path: Path, program: Callable[[str], str]) -> None:
    server, site = running
    curl = program("curl")
    status, body = get(site, tmp_path, curl)
    assert (status, "APP-WAS-HERE" in body) == (403, False)
    status, body = get(site, tmp_path, curl, *with_certificate("ann"))
    assert status == 200
    assert [value for name, value in json.loads(body)["headers"] if name.lower() == "x-client-user"] == ["ann"]
    assert get(site, tmp_path, curl, *with_certificate("ann"), "-H", "X-Client-User: admin")[1].count("admin") == 0
    assert get(site, tmp_path, curl, "--cert", "etc/pictures.example.chain.crt", "--key", "etc/pictures.example.key")[0] == 403

    administrator.types_all(next(block for block in blocks("getting-started.md", "sh") if "gatekey revoke" in block))
    server.reload()
    assert get(site, tmp_path, curl, *with_certificate("ann"))[0] in (400, 403)
    assert get(site, tmp_path, curl, *with_certificate("bob"))[0] == 200


def test_a_visitor_who_names_no_site_is_not_served(running: tuple[Nginx, int], tmp_path: Path, program: Callable[[str], str]) -> None:
    _, site = running
    answer = subprocess.run([program("curl"), "-sk", *with_certificate("ann"), f"https://127.0.0.1:{site}/"], cwd=tmp_path, capture_output=True, text=True)
    assert (answer.returncode != 0, answer.stdout) == (True, "")


def test_the_walk_through(administrator: Administrator) -> None:
    for block in blocks("walk-through.md", "sh"):
        administrator.types_all(block)
    server = {"kitty-ca.crt", "picture-server.key", "picture-server.csr", "picture-server.crt"}
    client = {"eager-client.key", "eager-client.csr", "eager-client.crt", "eager-client.p12", "lazy-client.p12"}
    assert server | client <= {path.name for path in administrator.folder.iterdir()}
