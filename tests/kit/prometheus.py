"""A real Prometheus on loopback, which scrapes and judges its rules each second."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kit.servers import Server, free_port, program, wait_until


class Prometheus(Server):
    name = "prometheus"

    def whole(self, text: str) -> str:
        return f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{self.folder}/rules.yml]\n{text}"

    def command(self) -> list[str]:
        data = f"--storage.tsdb.path={self.folder}/data"
        return [program("prometheus"), f"--config.file={self.file}", data, f"--web.listen-address=127.0.0.1:{self.port}"]

    def check_command(self) -> list[str]:
        return [program("promtool"), "check", "config", str(self.file)]

    def start(self) -> None:
        super().start()
        wait_until(self._ready, "Prometheus has read its past, of which there is none")

    def _ready(self) -> bool:
        self._alive()
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10):
            return True
        return False

    def _asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """The one value of an expression now; None when there is none."""
        found = self._asked(f"query?query={urllib.parse.quote(expression)}")["result"]
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def alerts(self) -> set[str]:
        """The names of the alerts that wait for their time (`for`) or fire."""
        return {alert["labels"]["alertname"] for alert in self._asked("alerts")["alerts"]}


@contextlib.contextmanager
def prometheus(scraping: str, rules: str, folder: Path) -> Iterator[Prometheus]:
    """Runs until the block ends. `scraping`: the `scrape_configs` of its configuration; `rules`: a file of rules."""
    made = Prometheus(scraping, folder, [free_port()])
    (made.folder / "rules.yml").write_text(rules)
    checked = made.check()
    assert checked.returncode == 0, checked.stdout + checked.stderr
    made.start()
    try:
        yield made
    finally:
        made.stop()
