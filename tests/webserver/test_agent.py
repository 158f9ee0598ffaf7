"""The agent's one step: what is brought, tested, taken back, reloaded, remembered and said. The commands are scripts that write down that they were called."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from gatekey.errors import GatekeyError, Misconfigured, Refused, Unavailable
from gatekey.webserver import agent as agents
from gatekey.webserver import agent_server as server
from gatekey.webserver import agent_status as statuses
from gatekey.webserver.agent import Allowed
from kit.host import Host
from kit.pki import Ca, Pki
from kit.published import DAY, Published, changed

SRC = Path(__file__).parent.parent.parent / "src"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def running(host: Host) -> Host:
    """Revocation 0 is in force, and what was said and called for it is forgotten."""
    host.published()
    host.clear()
    return host


def fingerprint(ca: Ca) -> str:
    return ca.certificate.fingerprint(hashes.SHA256()).hex().upper()


def problem_of(host: Host, allowed: Allowed = agents.NOTHING) -> GatekeyError:
    problem = host.settle(allowed)
    assert problem is not None
    return problem


# What it brings


def test_the_first_bundle(host: Host) -> None:
    host.published()
    assert host.calls == ["check", "reload"]
    (level, first), (_, second) = host.said
    root = fingerprint(host.town.pki.root)
    assert level == "warning"
    assert first.startswith("first use: the root CN=kitty-ca people root is believed from now on, and no other")
    assert first.endswith(root)
    assert second.startswith("revocation 0 is in force: 0 revoked certificates, CRLs good until 20")
    assert second.endswith("; nginx was reloaded")
    said = host.status
    assert (said["health"], said["serving"]["number"], said["installed"]["number"], said["roots"]) == ("ok", 0, 0, [root])
    assert said["serving"]["since"] == said["installed"]["since"] == said["installed"]["made_at"]
    assert said["error"] is said["warning"] is None


def test_nothing_new_is_nothing_to_do(running: Host) -> None:
    status = running.folder / "web" / "bundle.agent.json"
    before = (status.stat().st_ino, os.readlink(running.target / ".current"))
    for agent in (running.agent, running.another()):
        assert agent.settle() is None
    assert (running.calls, running.said) == ([], [])
    assert (status.stat().st_ino, os.readlink(running.target / ".current")) == before


def test_a_revocation(running: Host) -> None:
    running.town.revoke(running.town.bob)
    running.now += 5
    running.published()
    assert running.calls == ["check", "reload"]
    assert running.town.bob.serial.encode() in running.read_by_server
    assert [sentence.split(",")[0] for _, sentence in running.said] == ["revocation 1 is in force: 1 revoked certificates"]
    assert running.status["serving"]["number"] == 1
    assert running.status["installed"]["revoked"] == 1


@pytest.mark.parametrize(
    ("kind", "reload"), [("nginx", True), ("apache", False), ("haproxy", True), ("other", True)], ids=["nginx", "apache", "haproxy", "other"]
)
def test_only_a_change_that_the_server_does_not_read_by_itself_is_a_reload(tmp_path: Path, kind: str, reload: bool) -> None:
    """A person more is a change of the lists; Apache reads them again by itself. The CRL is the same."""
    host = Host(tmp_path, server=kind)
    crls = host.town.pki.crls()
    host.town.publish(crls=crls)
    assert host.settle() is None
    host.clear()
    host.town.carl = host.town.pki.client("dora")
    host.town.publish(crls=crls)
    assert host.settle() is None
    assert host.calls == (["check", "reload"] if reload else [])
    assert b"dora" in host.files["people.map"]


def test_what_apps_read_is_no_reload(running: Host) -> None:
    """people.json says when it was made."""
    contents = running.files
    later = running.town.made_at + 60
    running.town.made_at = later
    running.town.publish({**running.town.contents(crls=contents["all.crl.pem"])})
    assert running.settle() is None
    assert running.calls == []
    assert running.files["people.json"] != contents["people.json"]
    assert running.status["installed"]["made_at"] != running.status["serving"]["since"]


def test_other_files_for_the_reload(tmp_path: Path) -> None:
    host = Host(tmp_path, reload_on=["people.json"])
    host.published()
    host.clear()
    host.town.revoke(host.town.bob)
    host.published()
    assert host.calls == ["check", "reload"]  # people.json has one less
    host.clear()
    host.town.publish(host.town.contents(crls=host.town.pki.crls()))
    assert host.settle() is None
    assert host.calls == []


# What it refuses. Every case of what is wrong with a bundle stands in test_agent_bundle.py; here: that nothing of it reaches the server.


def _mallory(town: Published) -> dict[str, bytes]:
    return Published(Path("unused"), town.pki.foreign()).contents(number=9)


def _delta(pki: Pki) -> bytes:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    now = dt.datetime.fromtimestamp(pki.now - 60, dt.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(pki.issuing.certificate.subject).last_update(now).next_update(now + dt.timedelta(days=9))
    builder = builder.add_extension(x509.CRLNumber(99), critical=False).add_extension(x509.DeltaCRLIndicator(98), critical=True)
    return builder.sign(pki.issuing.key, hashes.SHA256()).public_bytes(Encoding.PEM)


REFUSED: dict[str, tuple[Callable[[Published], dict[str, bytes]], str]] = {
    "expired": (lambda town: town.contents(crls=town.pki.crls(issuing="expired")), "ran out at"),
    "not yet valid": (lambda town: town.contents(crls=town.pki.crls(issuing="not-yet")), "is not valid before"),
    "wrong signature": (lambda town: town.contents(crls=town.pki.crls(issuing="bad-signature")), "the signature of the CRL of CN=kitty-ca people does not"),
    "foreign CRL": (lambda town: town.contents(crls=town.pki.crls(issuing="foreign")), "who is none of the authorities"),
    "missing": (lambda town: town.contents(crls=town.pki.crls(issuing="missing")), "has no CRL of CN=kitty-ca people"),
    "missing, the root's": (lambda town: town.contents(crls=town.pki.crls(root="missing")), "has no CRL of CN=kitty-ca people root"),
    "delta": (lambda town: town.contents(crls=town.pki.crl("root") + _delta(town.pki)), "is a delta"),
    "truncated": (lambda town: town.contents(crls=town.pki.crls()[:-200]), "the file may be cut"),
    "truncated on the way": (lambda town: {**town.contents(), "all.crl.pem": town.pki.crls()[:-200]}, "it is cut, or still being copied"),
    "without the root": (lambda town: town.contents(chain=town.pki.issuing.pem), "does not lead to a self-signed root"),
    "another authority with the same names": (_mallory, "another authority's bundle"),
    "an older one": (lambda town: town.contents(number=0), "somebody plays back an old one"),
    "a deny list that is configuration": (
        lambda town: changed(town.contents(), revoked_map=town.contents()["revoked.map"] + b"default 0; } server { listen 1; } map $a $b {\n"),
        "is none that can stand there",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_wrong_reaches_the_server(host: Host, what: str) -> None:
    make, sentence = REFUSED[what]
    host.town.revoke(host.town.bob)
    good = host.published()
    host.clear()
    wrong = make(host.town)
    host.town.publish(wrong)
    for _ in range(3):
        problem = problem_of(host)
        assert sentence in problem.message
        assert problem.exit_code == 1
    assert host.files == good
    assert host.calls == []
    assert [level for level, _ in host.said] == ["error"], "said once"
    assert sentence in host.said[0][1]
    assert host.status["health"] == "error"
    assert host.status["error"]["message"] == problem.message
    assert host.status["serving"]["number"] == 1
    # What is right again goes through, and is said.
    host.town.revoke(host.town.carl)
    host.published()
    assert host.calls == ["check", "reload"]
    assert host.said[-1] == ("info", "all is well again")
    assert (host.status["health"], host.status["error"], host.status["serving"]["number"]) == ("ok", None, 2)


@pytest.mark.parametrize("what", [what for what in REFUSED if what not in ("another authority with the same names", "an older one")])
def test_nothing_wrong_comes_first_either(host: Host, what: str) -> None:
    host.town.revoke(host.town.bob)
    host.town.publish(REFUSED[what][0](host.town))
    assert REFUSED[what][1] in problem_of(host).message
    assert host.files == {}
    assert host.calls == []
    assert host.status["health"] == "error"
    assert host.status["serving"]["number"] is None


def test_a_problem_has_a_beginning(running: Host) -> None:
    running.town.publish(crls=running.town.pki.crls(issuing="expired"))
    problem_of(running)
    since = running.status["error"]["since"]
    running.now += 500
    problem_of(running)
    assert running.status["error"]["since"] == since


def test_nothing_published_yet(host: Host) -> None:
    problem = problem_of(host)
    assert (problem.code, problem.exit_code) == ("bundle-missing", 4)
    assert problem.message == f"there is no {host.town.folder}"
    assert host.calls == []
    host.published()
    assert host.calls == ["check", "reload"]


def test_the_source_goes_away(running: Host) -> None:
    shutil.rmtree(running.town.folder)
    good = running.files
    assert problem_of(running).code == "bundle-missing"
    assert running.files == good


# Roots and numbers


def test_the_root_in_the_configuration(host: Host) -> None:
    mallory = Published(host.town.folder, host.town.pki.foreign())
    host.another(root=fingerprint(host.town.pki.root))
    mallory.publish()
    assert problem_of(host).code == "bundle-foreign"
    assert host.files == {}
    host.published()
    assert [level for level, _ in host.said if level == "warning"] == [], "nobody needs to compare it"


def test_another_root_must_be_told(running: Host) -> None:
    heir = Published(running.town.folder, running.town.pki.foreign())
    heir.publish(number=1)
    problem = problem_of(running)
    new = fingerprint(heir.pki.root)
    assert f"gatekey agent --once --accept-root {new}" in problem.hint
    assert problem_of(running, Allowed(root="00" * 32)).code == "bundle-foreign"
    assert running.settle(Allowed(root=new)) is None
    assert running.settle() is None
    assert set(running.status["roots"]) == {fingerprint(running.town.pki.root), new}
    # Also after the agent was started again.
    heir.revoke(heir.bob)
    heir.publish(number=2)
    running.another()
    assert running.settle() is None


def test_the_first_root_may_be_told(host: Host) -> None:
    host.town.publish()
    assert problem_of(host, Allowed(root="00" * 32)).code == "bundle-foreign"
    assert host.settle(Allowed(root=fingerprint(host.town.pki.root))) is None


def test_the_configuration_has_the_last_word_on_roots(host: Host) -> None:
    host.another(root=fingerprint(host.town.pki.root))
    heir = Published(host.town.folder, host.town.pki.foreign())
    heir.publish()
    problem = problem_of(host, Allowed(root=fingerprint(heir.pki.root)))
    assert isinstance(problem, Misconfigured)
    assert "names the roots that are believed" in problem.message
    host.another(root=[fingerprint(host.town.pki.root), fingerprint(heir.pki.root)])
    assert host.settle() is None


@pytest.mark.parametrize("lost", ["status", "target", "damaged target", "nothing"])
def test_neither_loss_makes_it_forget(running: Host, lost: str) -> None:
    """Root and numbers are known from the target and from the status."""
    old = running.files
    running.town.revoke(running.town.bob)
    new = running.published()
    if lost == "status":
        (running.folder / "web" / "bundle.agent.json").unlink()
    elif lost == "target":
        shutil.rmtree(running.target)
    elif lost == "damaged target":
        (running.target / "all.crl.pem").write_bytes(b"")
    running.another()
    running.town.publish(old)
    assert problem_of(running).code == "bundle-older"
    running.town.publish(_mallory(running.town))
    assert problem_of(running).code == "bundle-foreign"
    running.town.publish(new)
    assert running.settle() is None
    assert running.files == new


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 2}', b"\xff", b"null"])
def test_a_damaged_status_is_written_again(running: Host, junk: bytes) -> None:
    (running.folder / "web" / "bundle.agent.json").write_bytes(junk)
    running.another()
    assert running.settle() is None
    assert running.status["health"] == "ok"
    assert running.calls == ["check", "reload"], "what the server has read is not known, so it is told once more"


def test_an_older_bundle_when_told(running: Host) -> None:
    old = running.files
    running.town.revoke(running.town.bob)
    running.published()
    running.town.publish(old)
    assert problem_of(running).code == "bundle-older"
    # A person's command beside the service, which then goes on from there.
    service = running.agent
    assert running.another().settle(Allowed(older=True)) is None
    assert running.files == old
    running.clear()
    assert service.settle() is None
    assert (running.files, running.calls) == (old, [])
    running.town.revoke(running.town.carl)
    running.published()


def test_a_damaged_target_is_mended(running: Host) -> None:
    good = running.files
    damages: tuple[Callable[[], Any], ...] = (
        (running.target / "revoked.map").unlink,
        (running.target / ".current").unlink,
        lambda: shutil.rmtree(running.target / os.readlink(running.target / ".current")),
        lambda: (running.target / ".current" / "people-chain.pem").write_bytes(b"x"),
    )
    for damage in damages:
        damage()
        running.another()
        assert running.settle() is None
        assert running.files == good


def test_files_that_were_there_before_the_agent_become_links_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody copied them there. At no moment does a server find some of those and some of the new ones."""
    host.town.revoke(host.town.bob)
    old = host.town.publish()
    host.target.mkdir(parents=True)
    for name, data in old.items():
        (host.target / name).write_bytes(data)
    (host.target / "site.key").write_bytes(b"not ours")
    host.town.revoke(host.town.carl)
    new = host.town.publish()
    seen = []
    real = os.replace

    def replace(source: Any, place: Any) -> None:
        real(source, place)
        seen.append({name: data for name, data in host.files.items() if name in new})

    monkeypatch.setattr(os, "replace", replace)
    assert host.settle() is None
    assert all(files in (old, new) for files in seen)
    assert {**new, "site.key": b"not ours"} == host.files
    assert [level for level, _ in host.said] == ["info"], "their root is known"


# The server says no


def test_what_the_server_does_not_take_is_taken_back(running: Host) -> None:
    old = running.files
    running.refuses(running.town.bob)
    running.town.revoke(running.town.bob)
    new = running.town.publish()
    problem = problem_of(running)
    assert (problem.code, problem.exit_code) == ("server-refuses", 1)
    assert "check does not take the configuration with these files: line 7 of revoked.map" in problem.message
    assert problem.hint == "the files of before are back, the server runs on with them, and it is tried again"
    assert running.files == old
    assert running.calls == ["check", "check"], "never reloaded; the second time with the files of before"
    assert running.status["serving"]["number"] == running.status["installed"]["number"] == 0
    # Tried again, also by an agent that has just been started; then the configuration is mended.
    for agent in (running.agent, running.another()):
        assert isinstance(agent.settle(), Refused)
        assert running.files == old
    (running.folder / "refused").unlink()
    running.clear()
    assert running.settle() is None
    assert running.files == new
    assert running.calls == ["check", "reload"]


def test_a_configuration_that_is_wrong_anyway(running: Host) -> None:
    old = running.files
    running.fails("check")
    running.town.revoke(running.town.bob)
    running.town.publish()
    problem = problem_of(running)
    assert "check: the configuration is wrong" in problem.message
    assert "it does not take the files of before either, so the mistake is not in the bundle" in problem.hint
    assert running.files == old


def test_the_first_files_stay_whatever_the_server_says(host: Host) -> None:
    """Without them its configuration cannot even be read."""
    host.fails("check")
    new = host.town.publish()
    assert "there are no earlier files to go back to" in problem_of(host).hint
    assert host.files == new
    assert "reload" not in host.calls
    host.fails("check", no_longer=True)
    assert host.settle() is None
    assert host.calls[-2:] == ["check", "reload"]


def test_a_reload_that_fails_is_tried_again(running: Host) -> None:
    running.fails("reload")
    running.town.revoke(running.town.bob)
    new = running.town.publish()
    problem = problem_of(running)
    assert isinstance(problem, Unavailable)
    assert "failed (exit 3): reload: the configuration is wrong" in problem.message
    assert running.files == new, "they passed every test"
    assert (running.status["serving"]["number"], running.status["installed"]["number"]) == (0, 1)
    running.clear()
    running.another()
    assert problem_of(running).code == "server-reload"
    running.fails("reload", no_longer=True)
    running.clear()
    assert running.settle() is None
    assert running.calls == ["check", "reload"]
    assert running.status["serving"]["number"] == 1


def test_refused_while_the_reload_still_waits(running: Host) -> None:
    """The server has never read the files of before; they were good, and so they are what is gone back to."""
    running.fails("reload")
    running.town.revoke(running.town.bob)
    before = running.town.publish()
    problem_of(running)
    running.refuses(running.town.carl)
    running.town.revoke(running.town.carl)
    running.town.publish()
    assert problem_of(running).code == "server-refuses"
    assert running.files == before


def test_a_reload_is_owed_also_while_the_source_is_away(running: Host) -> None:
    running.fails("reload")
    running.town.revoke(running.town.bob)
    running.town.publish()
    problem_of(running)
    shutil.rmtree(running.town.folder)
    running.fails("reload", no_longer=True)
    running.clear()
    assert problem_of(running).code == "bundle-missing"
    assert running.calls == ["check", "reload"]
    assert running.status["serving"]["number"] == 1


def test_commands_that_are_none(running: Host) -> None:
    running.town.revoke(running.town.bob)
    running.town.publish()
    old = running.files
    folder = running.folder
    (folder / "plain").write_text("no program")
    (folder / "slow").write_text("#!/bin/sh\nsleep 300 &\nwait\n")
    (folder / "slow").chmod(0o755)
    for words, sentence in (
        (["gatekey-no-such-program"], "there is no program gatekey-no-such-program on this machine"),
        ([str(folder / "plain")], f"there is no program {folder}/plain on this machine"),
        ([str(folder / "slow")], "did not end within 1 s"),
    ):
        running.another(check=words, timeout="1s")
        problem = problem_of(running)
        assert (problem.code, sentence in problem.message) == ("server-command", True), problem.message
        assert running.files == old


def test_there_is_no_shell(running: Host) -> None:
    running.town.revoke(running.town.bob)
    running.town.publish()
    odd = ["/bin/sh", "-c", 'test "$1" = "a  b;c"', "-", "a  b;c"]
    running.another(check=["/bin/echo", "$(touch x)", ";", "touch", f"{running.folder}/x", "`id`"], reload=odd)
    assert running.settle() is None
    assert not (running.folder / "x").exists()


def test_output_without_end_is_cut(tmp_path: Path) -> None:
    script = tmp_path / "loud"
    script.write_text("#!/bin/sh\nyes 'it is wrong \xff' | head -c 300000\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(Refused) as caught:
        server.check((str(script),), 30)
    assert len(caught.value.message) < server.MOST_WORDS + 200


# Time


def test_a_crl_that_runs_out_is_said_every_day(running: Host) -> None:
    end = running.town.pki.now + 30 * DAY
    running.now = end - 10 * DAY - 1
    assert running.settle() is None
    assert running.said == []
    running.now = end - 10 * DAY + 1
    for _ in range(3):
        assert running.settle() is None
    assert [level for level, _ in running.said] == ["warning"]
    assert ", in 9 days: then nginx refuses everybody; gatekey bundle at the authority signs a new one" in running.said[0][1]
    assert (running.status["health"], running.status["warning"]) == ("warning", running.said[0][1])
    running.now += DAY
    running.settle()
    assert len(running.said) == 2
    running.now = end - 5 * 3600
    running.settle()
    assert ", in 5 hours: then" in running.said[-1][1]
    running.now = end
    running.settle()
    running.now = end + DAY
    running.settle()
    assert "ran out at" in running.said[-1][1]
    assert "nginx refuses everybody" in running.status["warning"]
    # A fresh one ends it.
    running.town.pki.now = running.town.made_at = running.now
    running.published()
    assert (running.status["health"], running.status["warning"]) == ("ok", None)


def test_how_long_before_is_a_setting(tmp_path: Path) -> None:
    host = Host(tmp_path, warn="40d")
    host.published()
    assert "in 29 days" in host.status["warning"] or "in 30 days" in host.status["warning"]


def test_a_crl_from_the_future_is_taken_when_its_time_has_come(running: Host) -> None:
    running.town.publish(crls=running.town.pki.crls(issuing="not-yet"))
    assert problem_of(running).code == "crl-not-yet"
    running.now += 2 * DAY
    assert running.settle() is None


def test_a_service_writes_that_it_is_alive(tmp_path: Path) -> None:
    host = Host(tmp_path, service=True)
    host.published()
    status = host.folder / "web" / "bundle.agent.json"
    os.utime(status, (host.now, host.now))
    before = status.stat()
    host.now += statuses.ALIVE
    assert host.settle() is None
    assert (status.stat().st_ino, int(status.stat().st_mtime)) == (before.st_ino, host.now)


def test_what_passes_by_itself_is_not_talked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, service=True)
    host.published()
    host.clear()
    host.town.folder.rename(tmp_path / "away")
    assert problem_of(host).code == "bundle-missing"
    assert host.said == []
    assert host.status["health"] == "ok"
    monkeypatch.setattr(agents, "GRACE", 0.0)
    problem_of(host)
    assert [level for level, _ in host.said] == ["error"]
    assert host.status["health"] == "error"
    (tmp_path / "away").rename(host.town.folder)
    assert host.settle() is None
    assert host.said[-1] == ("info", "all is well again")


# Crashes and faults

#: Everything by which a process changes a disk.
WRITES = ("open", "write", "fsync", "mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "utime", "fchmod", "link")


class Counted:
    """Counts what changes the disk, and lets something happen at the N-th time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, happen: Callable[[], None], *, after: bool = False) -> None:
        self.done = 0
        for name in WRITES:
            real = getattr(os, name)

            def counted(*args: Any, real: Callable[..., Any] = real, name: str = name, **more: Any) -> Any:
                if name == "open" and not (args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)):
                    return real(*args, **more)
                self.done += 1
                if self.done == at and not after:
                    happen()
                answer = real(*args, **more)
                if self.done == at and after:
                    if name == "open":
                        os.close(answer)
                    happen()
                return answer

            monkeypatch.setattr(os, name, counted)


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: what is killed is a process and not a machine, so no disk needs to be waited for."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        yield Path(name)


class Laid:
    """A host with the next revocation published and not yet brought, laid out afresh as often as it is wanted. Its commands need no process of their own."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool = False, refused: bool = False) -> None:
        self.host = Host(place / "host")
        if not first:
            self.host.published()
            self.host.clear()
        self.old = self.host.files
        if refused:
            self.host.refuses(self.host.town.bob)
        self.host.town.revoke(self.host.town.bob)
        self.new = self.host.town.publish()
        self._kept = place / "kept"
        shutil.copytree(place / "host", self._kept, symlinks=True)
        monkeypatch.setattr(server, "ran", self._ran)

    def again(self) -> Host:
        shutil.rmtree(self.host.folder)
        shutil.copytree(self._kept, self.host.folder, symlinks=True)
        self.host.said.clear()
        self.host.another()
        return self.host

    def _ran(self, words: tuple[str, ...], timeout: float) -> tuple[int, str]:
        """What the script does, with two places more at which to die: before it and after it."""
        host, word = self.host, words[1]
        os.utime(host.town.folder)
        with host.log.open("a") as log:
            log.write(f"{word}\n")
        seen, wrong = (host.target / "revoked.map").read_bytes(), host.folder / "refused"
        if word == "reload":
            (host.folder / "read-by-server").write_bytes(seen)
        no = word == "check" and wrong.exists() and wrong.read_bytes() in seen
        os.utime(host.town.folder)
        return (1, "line 7 of revoked.map") if no else (0, "")


def _killed_at(host: Host, at: int) -> bool:
    """Settles in a process of its own, which is killed -9 at its N-th write. False when it came to its end before."""
    child = os.fork()
    if child:
        _, how = os.waitpid(child, 0)
        assert os.WIFSIGNALED(how) or os.WEXITSTATUS(how) == 0, how
        return os.WIFSIGNALED(how)
    try:
        Counted(pytest.MonkeyPatch(), at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        host.settle()
        os._exit(0)
    finally:
        os._exit(9)


@pytest.mark.slow
def test_killed_at_each_write_there_is_a_complete_set(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one or the new one; and the normal path, run again, is the repair."""
    laid = Laid(quick, monkeypatch)
    for at in range(1, 500):
        host = laid.again()
        killed = _killed_at(host, at)
        assert host.files in (laid.old, laid.new), at
        if "reload" in host.calls:
            assert host.read_by_server == laid.new["revoked.map"], at
        host.another()
        assert host.settle() is None
        assert host.files == laid.new
        assert host.read_by_server == laid.new["revoked.map"]
        assert host.status["serving"]["number"] == 1
        if not killed:
            break
    assert at > 60, "there are as many writes as that"


@pytest.mark.slow
def test_killed_at_each_write_of_the_first_set(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no old one: files come one by one, each of them whole, and a server that misses one does not start."""
    laid = Laid(quick, monkeypatch, first=True)
    for at in range(1, 500):
        host = laid.again()
        killed = _killed_at(host, at)
        assert all(laid.new[name] == data for name, data in host.files.items()), at
        host.another()
        assert host.settle() is None
        assert host.files == laid.new
        assert host.read_by_server == laid.new["revoked.map"]
        if not killed:
            break
    assert at > 60


@pytest.mark.slow
def test_killed_at_each_write_of_a_set_that_the_server_does_not_take(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between switch and test, where the new set is in place: the next start tests before it reloads, and goes back."""
    laid = Laid(quick, monkeypatch, refused=True)
    seen_untested = False
    for at in range(1, 500):
        host = laid.again()
        killed = _killed_at(host, at)
        assert host.files in (laid.old, laid.new), at
        seen_untested |= host.files == laid.new
        problem = host.another().settle()
        assert problem is not None
        assert problem.code == "server-refuses"
        assert host.files == laid.old
        assert "reload" not in host.calls
        if not killed:
            break
    assert at > 60
    assert seen_untested


@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True], ids=["it did not happen", "it happened and the answer was lost"])
def test_each_write_fails_once(quick: Path, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    laid = Laid(quick, monkeypatch)

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a file")

    for at in range(1, 500):
        host = laid.again()
        with pytest.MonkeyPatch.context() as patch:
            count = Counted(patch, at, fail, after=lost)
            problem = host.settle()
        assert host.files in (laid.old, laid.new), at
        assert problem is None or problem.code == "disk-full", problem.message
        for agent in (host.agent, host.another()):
            assert agent.settle() is None
            assert host.files == laid.new
        assert host.read_by_server == laid.new["revoked.map"]
        if count.done < at:
            break
    assert at > 60


def test_a_full_disk_is_no_reason_to_reload_again_and_again(running: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, status: Any) -> None:
        raise Unavailable("disk-full", f"no room is left for {path}")

    running.town.revoke(running.town.bob)
    running.town.publish()
    monkeypatch.setattr(statuses, "write", full)
    for _ in range(3):
        assert problem_of(running).code == "disk-full"
    assert running.calls == ["check", "reload"]
    assert [level for level, _ in running.said if level == "error"] == ["error"]


def test_two_at_once_take_turns(running: Host) -> None:
    """Processes of their own, as a person's command beside the service."""
    running.town.revoke(running.town.bob)
    new = running.town.publish()
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            os._exit(0 if running.another().settle() is None else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert running.files == new
    assert running.calls == ["check", "reload"], "the first one did it"


def test_a_target_that_cannot_be_written(running: Host) -> None:
    old = running.files
    running.town.revoke(running.town.bob)
    running.town.publish()
    running.toml["status"] = str(running.folder / "s.json")
    (running.folder / "file").write_text("")
    running.another(target=str(running.folder / "file" / "bundle"))
    assert problem_of(running).code in ("not-a-folder", "file-exists", "disk-error")
    assert running.files == old


# HAProxy's running list


class Stats:
    """HAProxy's stats socket, as far as lists go."""

    def __init__(self, path: Path, answer: str = "\n") -> None:
        self.asked: list[str] = []
        self.answer = answer
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listening.accept()
                with line:
                    self.asked += line.makefile().readline().strip().split(";")
                    line.sendall(self.answer.encode())

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def stats(tmp_path: Path) -> Iterator[Stats]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gk-") as short:
        made = Stats(Path(short) / "s")
        made.path = Path(short) / "s"  # type: ignore[attr-defined]  # where it is
        yield made
        made.close()


def _haproxy(tmp_path: Path, stats: Any) -> Host:
    host = Host(tmp_path, server="haproxy", runtime=str(stats.path))
    host.published()
    return host


def test_haproxy_is_told_before_it_reads(tmp_path: Path, stats: Stats) -> None:
    host = _haproxy(tmp_path, stats)
    assert stats.asked == [], "it was reloaded with all of it"
    host.town.revoke(host.town.bob)
    host.published()
    key = f"{host.town.bob.serial}%20CN%3Dkitty-ca%20people"
    assert stats.asked == [f"add acl {host.target}/revoked.lst {key}"]
    host.another()
    host.town.denied.remove(host.town.bob)
    host.town.number += 1
    host.published()
    assert stats.asked[1:] == [f"del acl {host.target}/revoked.lst {key}"]


def test_haproxys_no_is_said_and_the_reload_does_it(tmp_path: Path, stats: Stats) -> None:
    host = _haproxy(tmp_path, stats)
    stats.answer = "Unknown ACL identifier. Please use #<id> or <file>.\n"
    host.town.revoke(host.town.bob)
    host.published()
    (warned,) = [sentence for level, sentence in host.said if level == "warning" and "running list" in sentence]
    assert warned == "HAProxy does not change its running list: Unknown ACL identifier. Please use #<id> or <file>.; the reload will tell it"
    stats.close()
    host.town.revoke(host.town.carl)
    host.toml["runtime"] = "/nonexistent/socket"
    host.another()
    host.published()
    assert any("HAProxy does not answer on /nonexistent/socket" in sentence for _, sentence in host.said)
    assert host.status["health"] == "ok"


def test_many_changes_are_left_to_the_reload(stats: Any) -> None:
    lines = "".join(f"{number:032X}%20CN%3Dx\n" for number in range(server.MOST_LIVE + 1))
    assert server.tell_haproxy(stats.path, Path("/x"), b"# h\n", f"# h\n{lines}".encode()) == 0
    assert stats.asked == []
    some = "".join(lines.splitlines(keepends=True)[:120])
    assert server.tell_haproxy(stats.path, Path("/x"), b"# h\n", f"# h\n{some}".encode()) == 120
    assert len(stats.asked) == 120


@pytest.mark.parametrize("line", ["a b", "a;shutdown sessions server x/y", "", "a\\", "<<"])
def test_no_command_hides_in_a_list(stats: Any, line: str) -> None:
    with pytest.raises(GatekeyError):
        server.tell_haproxy(stats.path, Path("/x"), b"# h\n", f"# h\n{line}\nok\n".encode())
    assert stats.asked == []


# The cost of having it


def test_it_is_light_to_import() -> None:
    heavy = ("cryptography", "click", "asyncio", "rich", "ssl", "subprocess", "tempfile", "socket", "sqlite3")
    code = f"import sys, gatekey.webserver.agent; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SRC)})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_status_reads_back(running: Host) -> None:
    assert statuses.read(running.config.status) == running.agent.status
    assert json.loads(json.dumps(running.agent.status.as_dict())) == running.status
