"""docs/agent-network.md typed as it stands there: an agent, a real service and a real nginx, to the revocation clock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kit.backend import Backend, backend
from kit.servers import Nginx, wait_until
from kit.typist import Machine, Section, sections, typed_whole

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PAGE = sections("agent-network.md")
SETTING_UP, CLOCK = "Setting it up", "The revocation clock"


def setting_it_up(section: Section, m: Machine) -> None:
    """After the last block nginx lets in who is in the bundle, and after a round of the agent nobody who was revoked."""
    with m.serving(section.take("toml")), m.nginx() as server:
        agent_set_up(section, m)
        assert m.log("systemctl")[-2:] == ["daemon-reload", "enable --now gatekey-agent.service"]
        assert "ExecStart=" in m.file("/etc/systemd/system/gatekey-agent.service").read_text()
        with_site(m, server)
        m.types("gatekey issue client ann --out .")
        assert m.visit("ann")[0] == 200
        m.types("gatekey revoke ann")
        assert m.visit("ann")[0] == 200, "nginx reads its lists when it is reloaded"
        m.types("gatekey agent --once")
        wait_until(lambda: m.visit("ann")[0] in (400, 403), "ann is refused", 10)


def the_revocation_clock(section: Section, m: Machine) -> None:
    """The very lines of the page, but for the times: two agents, of which one has not told of this revocation yet, a published folder, and a site that asks."""
    before = sections("agent-network.md")[SETTING_UP]
    block = section.take("console")
    with m.serving(f'publish = "{m.folder / "published"}"', before.take("toml")), m.nginx():
        m.types("gatekey issue client ann --out .\ngatekey issue client bob --out .\ngatekey issue client eve --out .\ngatekey revoke eve")
        agent_set_up(before, m)
        another_agent(m, "web2")
        asks(m, "ann")
        m.types("gatekey revoke ann --reason key-compromise")
        m.types("gatekey agent --once")
        asks(m, "ann", 403)
        wait_until(lambda: site_has_told(m, "bob", "ann"), "the site has told", 20)
        said, shown = m.session(block)
    lines = said.splitlines()
    status, clock = ([line for line in lines if line.startswith(word)] for word in ("status", "clock"))
    assert [parts(line) for line in (*status, *clock)] == [parts(line) for line in shown]


STEPS: dict[str, Callable[[Section, Machine], None]] = {SETTING_UP: setting_it_up, CLOCK: the_revocation_clock}


def agent_set_up(section: Section, m: Machine) -> None:
    """The blocks of the page in their order; the fingerprint, which the page cuts short, is what the command before it has printed last."""
    printed = m.types(section.take("sh"))
    m.types(section.take("sh"), m.folder / "web1")
    label, fingerprint = printed.splitlines()[-1].split()
    assert label == "SHA-256"
    toml = section.take("toml")
    m.table[found(r'"([0-9A-F]+\.\.\.)"', toml)] = fingerprint
    m.file("/etc/gatekey/agent.toml").write_text(m.moved(toml))
    m.types(section.take("sh"))


def another_agent(m: Machine, login: str) -> None:
    """On a machine of its own, which does nothing with what it fetches."""
    m.types(f"gatekey issue client {login} --for pem --out {login}\ngatekey people set {login} --role proxy")
    text = m.file("/etc/gatekey/agent.toml").read_text()
    for name in ("agent.crt", "agent.key"):
        text = text.replace(f"{m.etc}/gatekey/{name}", f"{m.folder}/{login}/{name.replace('agent', login)}")
    text = text.replace(f'"{m.etc}/gatekey/bundle"', f'"{m.folder}/{login}/bundle"').replace('"nginx"', '"other"\nreload = []')
    (m.folder / login / "agent.toml").write_text(text)
    m.types(f"gatekey -q agent --config {login}/agent.toml --once")  # -q, so that the first one's configuration is not meant


def asks(m: Machine, who: str, status: int = 200) -> None:
    """What a web server does that asks at every request: with the agent's certificate, about somebody else's."""
    own = "--cert /etc/gatekey/agent.crt --key /etc/gatekey/agent.key --cacert /etc/gatekey/servers-root.crt"
    der = f"$(openssl x509 -in {who}.crt -outform DER | base64 -w 0)"
    line = f'curl -s -o /dev/null -w "%{{http_code}}" {own} -H "X-Gatekey-Site: app.example" -H "Client-Cert: :{der}:" https://pki.example.com:8443/decision'
    wait_until(lambda: m.types(line) == str(status), f"the answer about {who} is {status}", 10)


def site_has_told(m: Machine, other: str, who: str) -> bool:
    """Somebody else is let in; whether it is known that the site has refused `who` since, and let him in before: each worker writes for itself."""
    asks(m, other)
    clock = json.loads(m.types(f"gatekey show {who} --json"))["clock"]
    return clock["last_let_in"] is not None and "site app.example" in [tick["place"] for tick in clock["taken_over"]]


def with_site(m: Machine, server: Nginx) -> None:
    """nginx reads the agent's bundle, as docs/webservers.md says."""
    m.types("gatekey issue server app.example --out /etc/gatekey\ngatekey webserver nginx --site app.example > /etc/nginx/conf.d/app.example.conf")
    server.reload()


def parts(line: str) -> list[str]:
    """What a line tells, without times and in any order: what happens within a second is sorted by name."""
    return sorted(re.split("; |  +", re.sub(r"(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\dZ?", "TIME", line)))


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match[1]


@pytest.fixture
def app() -> Iterator[Backend]:
    with backend() as running:
        yield running


def test_every_section_with_a_block_is_typed() -> None:
    assert list(PAGE) == list(STEPS)


@pytest.mark.parametrize("title", STEPS)
def test_what_the_page_says_works(title: str, tmp_path: Path, app: Backend) -> None:
    typed_whole(sections("agent-network.md")[title], STEPS[title], tmp_path, app.url)
