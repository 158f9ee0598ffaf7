"""`gatekey agent`: once, its status, its unit and example; what it says and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from gatekey.cli import run
from gatekey.webserver.agent_server import KINDS
from kit.host import Host
from kit.published import DAY


class Ran:
    """How a command line ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Web:
    """A host and the command line on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.host = Host(folder)
        self.file = folder / "agent.toml"
        self.file.write_text(self.host.text)
        self._capsys = capsys

    def __call__(self, *words: str, config: bool = True) -> Ran:
        code = run(["agent", *(["--config", str(self.file)] if config else []), *words])
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)


@pytest.fixture
def web(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Web:
    return Web(tmp_path, capsys)


def test_once(web: Web) -> None:
    new = web.host.town.publish()
    done = web("--once")
    assert (done.code, done.out) == (0, "")
    assert "gatekey agent: first use: the root CN=kitty-ca people root is believed from now on" in done.err
    assert "gatekey agent: revocation 0 is in force" in done.err
    assert web.host.files == new
    again = web("--once")
    assert (again.code, again.out, again.err) == (0, "", "gatekey agent: revocation 0 is in force, nothing new\n")
    quiet = web("--once", "--quiet", "--json")
    assert (quiet.code, json.loads(quiet.out)["health"], quiet.err) == (0, "ok", "")


def test_once_finds_a_command_that_cannot_be_run(web: Web) -> None:
    """Before it is needed, though there is nothing new."""
    web.host.town.publish()
    assert web("--once").code == 0
    right = web.file.read_text()
    for key in ("check", "reload"):
        web.file.write_text(re.sub(rf"(?m)^{key} = .*$", f'{key} = ["/nowhere/nginx", "-t"]', right))
        wrong = web("--once")
        assert (wrong.code, "there is no program /nowhere/nginx on this machine" in wrong.err, "nothing new" in wrong.err) == (4, True, False)
        assert web("status").code == 1
    web.file.write_text(right)
    assert "all is well again" not in web("--once").err
    assert web("status").code == 0


def test_quiet_and_json(web: Web) -> None:
    web.host.town.publish()
    done = web("--once", "--quiet", "--json")
    assert done.code == 0
    assert "in force" not in done.err
    said = json.loads(done.out)
    assert (said["health"], said["serving"]["number"], said["service"]) == ("ok", 0, False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_how_the_service_is_ended(web: Web, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    """Ctrl-C ends it as it ends every verb; what systemd says is no trouble."""
    web.host.town.publish()
    monkeypatch.setattr("gatekey.cli.agent._notify", lambda text: os.kill(os.getpid(), number) if text.startswith("READY") else None)
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert web().code == code
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def test_exit_codes(web: Web) -> None:
    nothing = web("--once")
    assert (nothing.code, "there is no" in nothing.err) == (4, True)
    web.host.town.publish(crls=web.host.town.pki.crls(issuing="expired"))
    refused = web("--once")
    assert refused.code == 1
    assert "gatekey agent: the CRL of CN=kitty-ca people ran out at" in refused.err
    assert web.host.files == {}
    web.file.write_text("sorce = 1")
    wrong = web("--once")
    assert wrong.code == 3
    assert "sorce: is not a known key; did you mean source?" in wrong.err
    assert "target: is missing" in wrong.err
    missing = run(["agent", "--config", "/nonexistent/agent.toml", "--once"])
    assert missing == 3


def test_a_crl_that_is_about_to_run_out_is_an_exit_code(web: Web) -> None:
    web.file.write_text(web.host.text + 'warn = "60d"\n')
    web.host.town.publish()
    done = web("--once")
    assert done.code == 1
    assert "gatekey agent: a CRL runs out at" in done.err
    assert "then nginx refuses everybody" in done.err


def test_what_a_person_allows(web: Web) -> None:
    web.host.town.revoke(web.host.town.bob)
    old = web.host.town.publish()
    assert web("--once").code == 0
    web.host.town.revoke(web.host.town.carl)
    web.host.town.publish()
    assert web("--once").code == 0
    web.host.town.publish(old)
    refused = web("--once")
    assert refused.code == 1
    assert "gatekey agent --once --accept-older" in refused.err
    assert web("--once", "--accept-older").code == 0
    assert web.host.files == old
    bad = web("--once", "--accept-root", "xy")
    assert (bad.code, "'xy' is no SHA-256 fingerprint" in bad.err) == (1, True)


@pytest.mark.parametrize(
    "words", [("--accept-older",), ("--accept-root", "AB"), ("--once", "status"), ("--accept-older", "unit"), ("nothing",), ("example", "iis")]
)
def test_usage(web: Web, words: tuple[str, ...]) -> None:
    assert web(*words).code == 2


def test_status(web: Web) -> None:
    none = web("status")
    assert none.code == 1
    assert "no agent has written" in none.err
    assert "gatekey agent --once" in none.err
    web.host.town.revoke(web.host.town.bob)
    web.host.town.publish()
    web("--once")
    fine = web("status")
    assert (fine.code, fine.err) == (0, "")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in fine.out.splitlines() if not line.startswith("CRL"))
    assert lines["health"] == "ok"
    assert lines["in force"].startswith("revocation 1 since 20")
    assert re.search(r"^CRL +CN=kitty-ca people: number \d+, 1 revoked, good until 20", fine.out, re.MULTILINE)
    assert lines["source"] == str(web.host.town.folder)
    # Before and after the word, and as JSON.
    for done in (web("status", "--json"), web("--json", "status", config=True)):
        assert json.loads(done.out)["serving"]["number"] == 1
    assert run(["agent", "status", "--config", str(web.file)]) == 0


def test_status_of_what_is_wrong(web: Web) -> None:
    web.host.town.publish()
    web("--once")
    web.host.fails("reload")
    web.host.town.revoke(web.host.town.bob)
    web.host.town.publish()
    assert web("--once").code == 4
    wrong = web("status")
    assert wrong.code == 1
    assert "waiting     revocation 1 is in place, and the server has not read it" in wrong.out
    assert re.search(r"^wrong +.*failed \(exit 3\).*\(since 20", wrong.out, re.MULTILINE)
    assert "is the server running?" in wrong.out
    assert json.loads(web("status", "--json").out)["error"]["code"] == "server-reload"


def test_status_of_an_agent_that_is_gone(web: Web) -> None:
    web.host.service = True
    web.host.town.publish()
    assert web.host.another().settle() is None
    assert web("status").code == 0
    path = web.host.config.status
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    gone = web("status")
    assert gone.code == 1
    assert "the agent has not been heard of for 60 minutes" in gone.out
    assert json.loads(web("status", "--json").out)["silent_for"] >= 3600


def test_status_knows_what_time_it_is(web: Web) -> None:
    """An agent that ended can no longer write that a CRL has run out."""
    web.host.town.publish()
    web("--once")
    said = json.loads(web.host.config.status.read_text())
    said["installed"]["fresh_until"] = "2020-01-01T00:00:00Z"
    web.host.config.status.write_text(json.dumps(said))
    done = web("status")
    assert done.code == 1
    assert "a CRL that is in force has run out: nginx refuses everybody" in done.out


def test_unit(web: Web) -> None:
    done = web("unit")
    assert done.code == 0
    assert f"agent --config {web.file}" in done.out
    assert "ProtectSystem=strict" in done.out
    assert run(["agent", "unit", "--config", "/nonexistent"]) == 3


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_example(web: Web, kind: str) -> None:
    done = web("example", kind, config=False)
    assert done.code == 0
    web.file.write_text(done.out)
    assert web("unit").code == 0


def test_help_names_everything(web: Web) -> None:
    done = web("--help", config=False)
    assert done.code == 0
    for word in ("--once", "--accept-older", "--accept-root", "status", "unit", "example"):
        assert word in done.out


def test_the_default_configuration(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gatekey.webserver import agent_config

    monkeypatch.setattr(agent_config, "DEFAULT", tmp_path / "agent.toml")
    assert run(["agent"]) == 3
    assert f"there is no {tmp_path}/agent.toml" in capsys.readouterr().err


def test_days_are_days(web: Web) -> None:
    assert web.host.config.warn == 10 * DAY
