"""docs/decision.md typed as it stands there: nginx, HAProxy and Apache ask a real service at every request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.backend import MARK, Backend, backend
from kit.servers import apache, haproxy, wait_until
from kit.typist import Machine, Section, sections, typed_whole

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PAGE = sections("decision.md")
HERE, ELSEWHERE, ASKED = "On the same machine", "On another machine", "What is asked and answered"


def on_the_same_machine(section: Section, m: Machine) -> None:
    """nginx, as far as `gatekey check`; then HAProxy and Apache with what is printed for them."""
    m.noted("usermod")
    with m.serving(section.take("toml")):
        with m.nginx():
            assert " 2  pass         with a good certificate" in m.types(section.take("sh"))
            assert m.log("usermod") == ["-aG gatekey www-data"]
            comes_and_goes(m, "ann")
        m.types(section.take("sh"))
        with haproxy(m.file("/etc/haproxy/gatekey-app.example.cfg").read_text(), m.folder, [m.site, m.plain]):
            comes_and_goes(m, "bob")
        with apache(m.file("/etc/apache2/sites-enabled/app.example.conf").read_text(), m.folder, [m.site, m.plain]):
            comes_and_goes(m, "cy")


def on_another_machine(section: Section, m: Machine) -> None:
    """Both are this one; what is brought over lies in the folder `web1`."""
    with m.serving(section.take("toml")), m.nginx():
        m.types(section.take("sh"))
        m.types(section.take("sh"), m.folder / "web1")
        assert m.file("/etc/gatekey/proxy.key").stat().st_mode & 0o777 == 0o600
        comes_and_goes(m, "ann")


def what_is_asked(section: Section, m: Machine) -> None:
    with m.serving(sections("decision.md")[HERE].take("toml")):
        m.types("gatekey issue client ann --group staff --out .")
        m.table["5A1B..."] = json.loads(m.types("gatekey show ann --json"))["serial"]
        said, shown = m.session(section.take("console"))
        assert [line for line in shown if line not in said.splitlines()] == [], said


STEPS: dict[str, Callable[[Section, Machine], None]] = {HERE: on_the_same_machine, ELSEWHERE: on_another_machine, ASKED: what_is_asked}


def comes_and_goes(m: Machine, login: str) -> None:
    """Somebody new is let in, and the app is told who it is; after a revocation nobody reloads anything, and the door is shut."""
    m.types(f"gatekey issue client {login} --out .")
    wait_until(lambda: m.visit(login)[0] == 200, f"{login} is let in", 10)
    told = {name.lower(): value for name, value in json.loads(m.visit(login)[1])["headers"]}
    assert told["x-client-user"] == login
    status, body = m.visit()
    assert (status in (400, 403), MARK in body) == (True, False)
    m.types(f"gatekey revoke {login}")
    wait_until(lambda: m.visit(login)[0] == 403, f"{login} is refused", 10)


@pytest.fixture
def app() -> Iterator[Backend]:
    with backend() as running:
        yield running


def test_every_section_with_a_block_is_typed() -> None:
    assert list(PAGE) == list(STEPS)


@pytest.mark.parametrize("title", STEPS)
def test_what_the_page_says_works(title: str, tmp_path: Path, app: Backend) -> None:
    typed_whole(sections("decision.md")[title], STEPS[title], tmp_path, app.url)
