"""The agent's TOML: what it says, all its mistakes at once, and the texts that are printed for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Misconfigured
from gatekey.webserver import apache, caddy, nginx
from gatekey.webserver.agent_config import KEYS, Config, fingerprint, load, parse
from gatekey.webserver.agent_server import KINDS
from gatekey.webserver.agent_unit import example, unit

PLACE = Path("/etc/gatekey/agent.toml")
GOOD = {"source": "/srv/gatekey/published", "target": "/etc/gatekey/bundle", "server": "nginx"}
PRINT = "AB" * 32


def toml(**said: Any) -> str:
    """The good configuration with these keys (`reload_on` for reload-on) said otherwise, or left out with None."""
    values = {**GOOD, **{key.replace("_", "-"): value for key, value in said.items()}}
    return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in values.items() if value is not None)


def config(**said: Any) -> Config:
    return parse(toml(**said), PLACE)


def mistakes(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        parse(text, PLACE)
    assert caught.value.exit_code == 3
    found: list[str] = caught.value.facts["mistakes"]
    assert all(one in caught.value.message for one in found)
    return found


def test_three_keys_are_enough() -> None:
    made = config()
    assert (made.source, made.target, made.server) == (Path("/srv/gatekey/published"), Path("/etc/gatekey/bundle"), "nginx")
    assert made.check == ("nginx", "-t")
    assert made.reload == ("systemctl", "reload", "nginx")
    assert made.reload_on == ("people-chain.pem", "all.crl.pem", "revoked.map", "issuers.map", "people.map")
    assert (made.roots, made.warn, made.timeout, made.runtime) == (frozenset(), 864000, 60, None)
    assert made.status == Path("/etc/gatekey/bundle.agent.json")


def test_every_key_counts() -> None:
    made = config(
        server="haproxy", check=["a", "b c"], reload=["d"], reload_on=["all.crl.pem"], root=[PRINT, "cd" * 32], warn="3d", timeout="5s", status="/run/x.json",
        runtime="/run/haproxy/admin.sock",
    )  # fmt: skip
    assert (made.check, made.reload, made.reload_on) == (("a", "b c"), ("d",), ("all.crl.pem",))
    assert (made.roots, made.warn, made.timeout) == (frozenset([PRINT, "CD" * 32]), 3 * 86400, 5)
    assert (made.status, made.runtime) == (Path("/run/x.json"), Path("/run/haproxy/admin.sock"))


def test_the_usual_commands_are_those_of_the_configurations() -> None:
    assert KINDS["nginx"].check == nginx.CHECK
    assert KINDS["nginx"].reload == nginx.RELOAD
    assert KINDS["apache"].check == apache.CHECK
    assert KINDS["caddy"].reload == caddy.RELOAD
    # SIGHUP is what `apache2ctl -k restart` sends; but that would start an Apache that is stopped, inside the agent's unit.
    assert apache.RELOAD == ("apache2ctl", "-k", "restart")
    assert KINDS["apache"].reload == ("systemctl", "kill", "--kill-who=main", "--signal=HUP", "apache2")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sorce": "/x"}, "sorce: is not a known key; did you mean source?"),
    ({"colour": "red"}, "colour: is not a known key; known are source, target, server"),
    ({"source": None}, "source: is missing; the folder that the authority publishes"),
    ({"source": ""}, "source: must be text in quotes"),
    ({"source": 7}, "source: must be text in quotes"),
    ({"source": "published"}, "source: must be an absolute path, and is 'published'"),
    ({"target": "/"}, "target: must be an absolute path"),
    ({"target": "/etc/.."}, "target: must be an absolute path"),
    ({"target": "/srv/gatekey/published"}, "target: must be another folder than source"),
    ({"target": "/srv/gatekey/published/x"}, "neither may lie in the other"),
    ({"target": "/srv"}, "neither may lie in the other"),
    ({"server": "iis"}, "server: is 'iis'; known are nginx, apache, haproxy, caddy, other"),
    ({"check": "nginx -t"}, 'check: must be a list of words, such as ["systemctl", "reload", "nginx"]; there is no shell in between'),
    ({"check": ["nginx", 1]}, "check: must be a list of words"),
    ({"check": []}, "check: is empty; leave it out and nginx is tested in the usual way"),
    ({"reload": [""]}, "reload: must be a list of words"),
    ({"reload": ["a\0"]}, "reload: must be a list of words"),
    ({"reload": []}, "reload: is empty; leave it out and nginx is reloaded in the usual way"),
    ({"server": "other"}, "reload: is missing; for another server it must be said"),
    ({"reload_on": []}, "reload-on: must be a list of files of the bundle"),
    ({"reload_on": ["../x"]}, "reload-on: must be a list of files of the bundle"),
    ({"root": 5}, "root: must be a fingerprint in quotes, or a list of them"),
    ({"root": []}, "root: must be a fingerprint in quotes, or a list of them"),
    ({"root": "AB:CD"}, "root: 'AB:CD' is no SHA-256 fingerprint of 64 hex digits"),
    ({"root": [PRINT, "x"]}, "root: 'x' is no SHA-256 fingerprint"),
    ({"warn": "ten days"}, "warn: 'ten days' is not a span of time"),
    ({"warn": 10}, "warn: must be text in quotes"),
    ({"timeout": "0s"}, "timeout: '0s' is not a span of time"),
    ({"status": "/etc/gatekey/bundle/status.json"}, "status: must not lie in the target, which is switched as a whole"),
    ({"runtime": "/run/x"}, "runtime: is for haproxy only"),
]


@pytest.mark.parametrize(("said", "sentence"), MISTAKES, ids=[sentence[:40] for _, sentence in MISTAKES])
def test_mistakes_in_words(said: dict[str, Any], sentence: str) -> None:
    found = mistakes(toml(**said))
    assert len(found) == 1
    assert sentence in found[0]


def test_all_mistakes_at_once() -> None:
    found = mistakes(toml(source=None, sorce="/x", server="iis", warn="x", check="x", root="x"))
    assert [one.split(":")[0] for one in found] == ["server", "sorce", "warn", "check", "root", "source"]


def test_what_is_no_toml() -> None:
    for text in ("source = ", "[[", "a" * 9, "x = " + "[" * 5000):
        with pytest.raises(Misconfigured, match="is not TOML") as caught:
            parse(text, PLACE)
        assert caught.value.code == "config-toml"


def test_files(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path / "none.toml")
    assert caught.value.code == "no-agent-config"
    assert "gatekey agent example" in caught.value.hint
    (tmp_path / "a.toml").write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(toml())
    assert load(tmp_path / "b.toml").file == tmp_path / "b.toml"


@given(st.dictionaries(st.sampled_from([*KEYS, "sorce"]), st.text(max_size=20) | st.integers() | st.booleans() | st.lists(st.text(max_size=8), max_size=3)))
def test_whatever_is_said_ends_in_words(said: dict[str, Any]) -> None:
    text = "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in {**GOOD, **said}.items())
    try:
        made = parse(text, PLACE)
    except GatekeyError as refused:
        assert refused.code in ("config-mistake", "config-toml")
    else:
        assert made.target.is_absolute()


@pytest.mark.parametrize("form", [PRINT, PRINT.lower(), ":".join(["ab"] * 32), f"sha256:{PRINT.lower()}", " ".join(["AB"] * 32)])
def test_forms_of_a_fingerprint(form: str) -> None:
    assert fingerprint(form) == PRINT


@pytest.mark.parametrize("form", ["", "AB", "G" * 64, PRINT + "00", "sha1:" + "AB" * 20])
def test_what_is_no_fingerprint(form: str) -> None:
    with pytest.raises(Malformed, match="no SHA-256 fingerprint"):
        fingerprint(form)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_example_is_right_also_with_every_line_in_force(kind: str) -> None:
    text = example(kind)
    said = tomllib.loads(text)
    assert parse(text, PLACE).server == kind
    whole = re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.MULTILINE)
    if kind == "other":
        whole = whole.replace("check = []", 'check = ["true"]')
    made = parse(whole, PLACE)
    assert set(tomllib.loads(whole)) == {key for key in KEYS if key != "runtime" or kind == "haproxy"}
    # What stands behind # is what is in force without it.
    plain = parse(text, PLACE)
    assert (made.warn, made.timeout, made.status, made.reload) == (plain.warn, plain.timeout, plain.status, plain.reload)
    assert all(len(line) <= 165 for line in text.splitlines())
    assert {"source", "target", "server"} <= set(said)


@pytest.mark.interop
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_systemd_takes_the_unit(kind: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    made = config(server=kind, source=str(tmp_path / "a b"), target="/etc/gatekey/the bundle", **({"reload": ["true"]} if kind == "other" else {}))
    text = unit(made, ("/bin/true", "it's 100%"))
    file = tmp_path / "gatekey-agent.service"
    file.write_text(text)
    done = subprocess.run([program("systemd-analyze"), "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "gatekey-agent" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.interop
def test_the_unit_is_hardened(tmp_path: Path, program: Callable[[str], str]) -> None:
    """By systemd's own count: 9.6 is a unit without any of it."""
    file = tmp_path / "gatekey-agent.service"
    for kind in ("nginx", "apache", "haproxy", "caddy"):
        file.write_text(unit(config(server=kind), ("/bin/true",)))
        done = subprocess.run([program("systemd-analyze"), "security", "--offline=yes", "--no-pager", str(file)], capture_output=True, text=True, check=False)
        level = re.search(r"Overall exposure level for gatekey-agent.service: ([0-9.]+)", done.stdout)
        assert level, done.stdout + done.stderr
        assert float(level[1]) < 3, done.stdout


def test_what_the_unit_allows() -> None:
    text = unit(config(), ("/usr/bin/gatekey",))
    assert "ExecStart=/usr/bin/gatekey agent --config /etc/gatekey/agent.toml\n" in text
    assert "Type=notify\n" in text
    assert "ReadWritePaths=/etc/gatekey -/run -/var/log/nginx -/var/lib/nginx\n" in text
    assert "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_BIND_SERVICE\n" in text
    assert "Before=nginx.service\n" in text
    assert "ProtectHome=yes\n" in text
    assert "ProtectHome=read-only\n" in unit(config(source="/home/ca/published"), ("/usr/bin/gatekey",))
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "RestrictNamespaces=yes", "SystemCallFilter=@system-service", "User=root"):
        assert f"{line}\n" in text
    assert "WatchdogSec=300\n" in text
    assert "WatchdogSec=600\n" in unit(config(timeout="2m"), ("/usr/bin/gatekey",))


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["nginx", "apache", "haproxy", "caddy"])
def test_the_checker_runs_with_the_powers_of_the_unit(kind: str, program: Callable[[str], str]) -> None:
    """Debian's own configuration of each server, tested as root with no more capabilities than the unit leaves."""
    import os

    if os.geteuid() or not shutil.which("setpriv"):
        pytest.fail("this test takes powers away from root, so it must run as root with setpriv (util-linux)")
    powers = ",".join(["-all", *(f"+{one.removeprefix('CAP_').lower()}" for one in KINDS[kind].capabilities)])
    command = [program(KINDS[kind].check[0]), *KINDS[kind].check[1:]]
    limits = ["setpriv", "--no-new-privs", "--bounding-set", powers, "--inh-caps", "-all"]
    done = subprocess.run([*limits, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
