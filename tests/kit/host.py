"""A web server's host without a web server: a published folder, an agent for it, and commands that write down when they were called and what they saw.

    host = Host(tmp_path)
    host.settle()                       # the problem, or None
    host.calls                          # ["check", "reload"]; host.clear() forgets them
    host.refuses(leaf)                  # from now on the server's checker says no to a deny list with this serial in it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gatekey.errors import GatekeyError
from gatekey.webserver.agent import NOTHING, Agent, Allowed
from gatekey.webserver.agent_config import Config, parse
from gatekey.webserver.agent_source import Folder
from kit.pki import Leaf
from kit.published import Published, current

SCRIPT = """#!/bin/sh
echo "$1" >> {log}
if [ "$1" = reload ]; then cp {target}/revoked.map {folder}/read-by-server; fi
if [ -e {folder}/{word}-fails ]; then echo "{word}: the configuration"; echo "  is wrong" >&2; exit 3; fi
if [ -e {folder}/refused ] && grep -q -f {folder}/refused {target}/revoked.map; then echo "line 7 of revoked.map"; exit 1; fi
"""


class Host:
    """`toml` are further keys of the agent's configuration."""

    def __init__(self, folder: Path, *, service: bool = False, **toml: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.town = Published(folder / "published")
        self.target = folder / "web" / "bundle"
        self.log = folder / "calls"
        self.said: list[tuple[str, str]] = []
        self.now = self.town.made_at
        self.service = service
        for word in ("check", "reload"):
            script = folder / word
            script.write_text(SCRIPT.format(log=self.log, folder=folder, target=self.target, word=word))
            script.chmod(0o755)
        self.toml: dict[str, Any] = {"source": str(self.town.folder), "target": str(self.target), "server": "nginx"}
        self.toml |= {word: [str(folder / word), word] for word in ("check", "reload")}
        self.toml |= {key.replace("_", "-"): value for key, value in toml.items()}
        self.agent = self.another()

    @property
    def config(self) -> Config:
        return parse(self.text, self.folder / "agent.toml")

    @property
    def text(self) -> str:
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.toml.items())

    def another(self, **toml: Any) -> Agent:
        """An agent that has just been started."""
        self.toml |= toml
        source = Folder(self.town.folder, watched=False)
        self.agent = Agent(self.config, source, lambda: self.now, lambda level, sentence: self.said.append((level, sentence)), service=self.service)
        return self.agent

    def settle(self, allowed: Allowed = NOTHING) -> GatekeyError | None:
        return self.agent.settle(allowed)

    def published(self) -> dict[str, bytes]:
        """Publishes what is so now, and brings it. Answers with the files."""
        made = self.town.publish()
        problem = self.settle()
        assert problem is None, problem.message
        assert self.files == made
        return made

    @property
    def files(self) -> dict[str, bytes]:
        """What a web server would read in the target."""
        return current(self.target)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    @property
    def read_by_server(self) -> bytes:
        """The deny list at the last reload."""
        return (self.folder / "read-by-server").read_bytes()

    @property
    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self.folder / "web" / "bundle.agent.json").read_text())
        return said

    def clear(self) -> None:
        self.log.unlink(missing_ok=True)
        self.said.clear()

    def refuses(self, leaf: Leaf) -> None:
        (self.folder / "refused").write_text(leaf.serial)

    def fails(self, word: str, *, no_longer: bool = False) -> None:
        """`check` or `reload` ends with an error, whatever it sees."""
        flag = self.folder / f"{word}-fails"
        flag.unlink() if no_longer else flag.touch()
