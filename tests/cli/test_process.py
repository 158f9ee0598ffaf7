"""The command as a process: exit codes, signals, closed pipes, disks that are full or read-only, users who may not; never a traceback, never half a thing."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.cli import say
from kit import administrator
from kit.administrator import COMMAND, PASSPHRASE, Administrator
from kit.servers import wait_until

ROOT = os.geteuid() == 0


@pytest.fixture
def in_private(tmp_path: Path) -> Callable[[str, Path], list[str]]:
    """`in_private("mount ...", folder)`: the start of a command line that runs in mounts of its own."""

    def wrapped(mounting: str, folder: Path) -> list[str]:
        unshare = ["unshare", "--mount"] if ROOT else ["unshare", "--map-root-user", "--mount"]
        return [*unshare, "sh", "-c", f"{mounting.format(folder=folder)} && exec \"$@\"", "sh"]

    return wrapped


def run_in(admin: Administrator, prefix: list[str], *words: str, cwd: Path | None = None) -> administrator.Answer:
    done = subprocess.run([*prefix, *COMMAND, *words], capture_output=True, cwd=cwd or admin.folder, env=admin.environment(), stdin=subprocess.DEVNULL)
    return administrator.Answer(done.returncode, done.stdout, done.stderr.decode())


READ_ONLY = "mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"


def test_exit_codes(admin: Administrator) -> None:
    admin.process("issue", "client", "ann")
    assert admin.process("list").code == 0
    admin.process("revoke", "ann")
    assert "ann.crt: no" in admin.process("verify", "ann.crt", code=1).out
    admin.process("show", "nobody", code=1)
    admin.process("frobnicate", code=2)
    admin.process("list", "--home", "/nowhere", code=3)
    admin.sql("UPDATE certificate SET common_name = 'eve' WHERE holder = 'ann'")
    assert "found: " in admin.process("store", "check", code=1).out


def test_results_go_to_stdout_and_talk_to_stderr(admin: Administrator) -> None:
    answer = admin.process("issue", "server", "app.example")
    assert answer.lines == ["app.example.key", "app.example.crt", "app.example.chain.crt"]
    assert answer.err.startswith("issued ")
    assert "\033" not in answer.out + answer.err


def test_a_fault_of_ours_is_a_sentence(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatekey.cli import listing  # noqa: F401  read before it is broken

    monkeypatch.delenv("GATEKEY_DEBUG")
    monkeypatch.setattr("gatekey.store.reads.Reads.certificates", lambda *_, **__: 1 / 0)
    answer = admin("list", code=1)
    assert answer.err.startswith("gatekey: this is a fault in Gatekey itself: ZeroDivisionError")
    assert "Traceback" not in answer.err
    monkeypatch.setenv("GATEKEY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        admin("list")


def test_whoever_reads_us_may_stop_reading(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    with subprocess.Popen(
        [*COMMAND, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**admin.environment(), "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        heard = process.stderr.read()
    assert (process.returncode, heard) == (0, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(admin: Administrator, closed: str) -> None:
    """What goes to one of them goes nowhere: a password for stderr never to stdout."""
    words = " ".join(shlex.quote(word) for word in (*COMMAND, "issue", "client", "ann"))
    done = subprocess.run(["sh", "-c", f"exec {words} {closed}"], cwd=admin.folder, env=admin.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "password of" not in done.stdout
    assert ("password of" in done.stderr) is ("2>&-" not in closed)
    assert "fault" not in done.stderr
    assert len(list(admin.folder.iterdir())) == 4
    assert admin("store", "check").lines == ["the ledger is whole"]


def test_results_that_find_no_room(admin: Administrator) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "people", "list", "--json"], stdout=full, stderr=subprocess.PIPE, env=admin.environment(), text=True)
    assert done.returncode == 4
    assert "no room is left" in done.stderr


def test_ctrl_c_when_all_is_done_and_said(admin: Administrator) -> None:
    """While Python tidies up: the exit code says how the verb has ended."""
    late = "import atexit, os, signal; atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); from gatekey.cli import main; main()"
    for words, code in ((["people", "add", "ann"], 0), (["show", "nobody"], 1)):
        done = subprocess.run([sys.executable, "-c", late, *words], capture_output=True, env=admin.environment(), text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_ctrl_c_after_the_last_file(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(say, "result", stops)
        late = admin("issue", "server", "app.example", code=130).err
    serial = admin.serial("app.example")
    assert late.strip() == f"gatekey: the certificate {serial} is issued, and its files are written; it was interrupted too late to stop that"


def test_ctrl_c_ends_with_130(admin: Administrator) -> None:
    """While another holds the ledger, so that it surely waits."""
    before = admin.print()
    with contextlib.closing(sqlite3.connect(admin.home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with subprocess.Popen(
            [*COMMAND, "issue", "client", "ann"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=admin.environment(), cwd=admin.folder
        ) as process:
            wait_until(lambda: any(b"-----END" in file.read_bytes() for file in admin.folder.iterdir()), "the key is written and the ledger is waited for")
            process.send_signal(signal.SIGINT)
            # SQLite waits in C; Python hears the signal when that ends.
            other.execute("ROLLBACK")
            out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err.decode().strip()) == (b"", "gatekey: stopped")
    assert not list(admin.folder.iterdir())
    assert admin("store", "check").lines == ["the ledger is whole"]
    assert admin.print().keys() == before.keys()


def test_a_locked_ledger_is_4(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekey.store.dialect.SQLite.patience", 0.05)
    before = admin.print()
    with contextlib.closing(sqlite3.connect(admin.home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = admin("issue", "client", "ann", code=4)
        assert "another process holds the ledger" in answer.err
        assert "try again in a moment" in answer.err
        assert admin("list").code == 0  # reading is not writing
        other.execute("ROLLBACK")
    assert admin.print() == before


@pytest.mark.interop
def test_a_read_only_home_is_3_and_can_still_be_read(admin: Administrator, in_private: Callable[[str, Path], list[str]]) -> None:
    admin("issue", "client", "ann", "--out", "ann")
    prefix = in_private(READ_ONLY, admin.home)
    for words in (["issue", "client", "bob"], ["revoke", "ann"], ["people", "add", "gus"], ["crl"]):
        before = admin.print()
        answer = run_in(admin, prefix, *words)
        assert answer.code == 3, (words, answer)
        assert "cannot be written" in answer.err, answer
        assert "Traceback" not in answer.err
        assert admin.print() == before, words
    assert "ann" in run_in(admin, prefix, "list").out
    assert run_in(admin, prefix, "bundle", "--out", "bundle").code == 0  # the CRLs are fresh, so nothing is to be written


@pytest.mark.interop
@pytest.mark.parametrize(
    "words",
    [
        ["issue", "client", "ann", "--out", "{place}"],
        ["issue", "client", "ann", "--out", "{place}/deeper"],
        ["issue", "client", "ann", "--password-file", "{place}/pw"],
        ["issue", "server", "app.example", "--out", "{place}"],
        ["request", "ann", "--out", "{place}"],
        ["bundle", "--out", "{place}"],
        ["crl", "--out", "{place}/people.crl"],
        ["authority", "export", "--out", "{place}/all.pem"],
    ],
    ids=" ".join,
)
def test_a_read_only_folder_is_refused_first(admin: Administrator, in_private: Callable[[str, Path], list[str]], words: list[str]) -> None:
    place = admin.folder / "place"
    place.mkdir()
    before = admin.print()
    answer = run_in(admin, in_private(READ_ONLY, place), *(word.format(place=place) for word in words))
    assert answer.code == 3, answer
    assert f"{place} cannot be written or read: Read-only file system" in answer.err
    assert admin.print() == before


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that others may walk into: pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="gatekey-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


#: Runs a command line once as it is, so that all of Python is read, and then as somebody else, who may not read what belongs to root.
AS_NOBODY = """
import os, sys
from gatekey import cli
home, good, place, words = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
os.chdir(good)
cli.run(["--home", good + "/home", *words])
os.chdir(place)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print("----", file=sys.stderr, flush=True)
sys.exit(cli.run(["--home", home, *words]))
"""


@pytest.fixture
def as_nobody(reachable: Path, template: Path) -> Callable[..., administrator.Answer]:
    """`as_nobody(home, place, words)`: types in `place`, as a user who is not us."""
    (reachable / "good").mkdir()
    administrator.copied(template, reachable / "good" / "home")

    def run(home: Path, place: Path, *words: str) -> administrator.Answer:
        line = [sys.executable, "-c", AS_NOBODY, str(home), str(reachable / "good"), str(place), *words]
        done = subprocess.run(line, capture_output=True, env={**os.environ, "PYTHONPATH": str(administrator.SRC)}, stdin=subprocess.DEVNULL)
        return administrator.Answer(done.returncode, done.stdout, done.stderr.decode().split("----\n")[-1])

    return run


@pytest.mark.parametrize("words", [["issue", "client", "ann"], ["issue", "client", "ann", "--out", "deeper"], ["request", "ann"], ["bundle", "--out", "."]])
def test_a_folder_of_somebody_else(template: Path, reachable: Path, as_nobody: Callable[..., administrator.Answer], words: list[str]) -> None:
    home, place = administrator.copied(template, reachable / "home"), reachable / "work"
    place.mkdir(mode=0o555)
    if ROOT:
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534)
    admin = Administrator(home, place)
    before = admin.print()
    answer = as_nobody(home, place, *words)
    assert answer.code == 3, answer
    assert "cannot be written or read: Permission denied" in answer.err
    assert "mend the permissions or choose another place" in answer.err
    assert admin.print() == before


@pytest.mark.parametrize("words", [["list"], ["issue", "client", "ann"], ["init", "X", "--unencrypted-keys"]])
def test_a_home_of_somebody_else(template: Path, reachable: Path, as_nobody: Callable[..., administrator.Answer], words: list[str]) -> None:
    home = administrator.copied(template, reachable / "home")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    if not ROOT:
        home.chmod(0)
    answer = as_nobody(home, reachable, *words)
    assert answer.code == 3, answer
    assert ("cannot be read: this user may not" if words[0] != "init" else "Permission denied") in answer.err


@pytest.mark.interop
def test_a_full_disk_is_4_and_nothing_is_half_made(template: Path, tmp_path: Path, in_private: Callable[[str, Path], list[str]]) -> None:
    """A home on a disk of 400 kB that fills up: each issuance is whole or did not happen, and the ledger says the same when there is room again."""
    place, kept = tmp_path / "disk", tmp_path / "kept"
    place.mkdir()
    script = f"""
        cp -r {template} {place}/home || exit 99
        export GATEKEY_HOME={place}/home
        for n in $(seq 200); do
            {sys.executable} -c 'from gatekey.cli import main; main()' people add "p$n" --group "$(printf 'g%.0s' $(seq 60))" >/dev/null 2>{tmp_path}/err
            code=$?
            [ $code = 0 ] || break
            dd if=/dev/zero of={place}/ballast.$n bs=8k count=1 2>/dev/null
        done
        echo $code
        {sys.executable} -c 'from gatekey.cli import main; main()' issue client ann --out {tmp_path}/ann 2>>{tmp_path}/err
        echo $?
        rm {place}/ballast.*
        {sys.executable} -c 'from gatekey.cli import main; main()' store check
        echo $?
        cp -r {place}/home {kept}
    """
    environment = {**os.environ, "PYTHONPATH": str(administrator.SRC)}
    done = subprocess.run(
        [*in_private("mount -t tmpfs -o size=400k tmpfs {folder}", place), "sh", "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["4", "4"], done
    assert done.stdout.split("\n")[2:4] == ["the ledger is whole", "0"], done
    said = (tmp_path / "err").read_text()
    assert said.count("no room is left") == 2
    assert "make room and try again" in said
    assert not (tmp_path / "ann").exists()
    assert Administrator(kept, tmp_path)("issue", "client", "ann", "--out", tmp_path / "now").code == 0


def test_several_processes_at_once(admin: Administrator) -> None:
    """Ten people at ten keyboards: every certificate is recorded once, every revocation is in the newest CRL, and the audit chain holds."""
    answers: list[administrator.Answer] = []

    def work(number: int) -> None:
        answers.append(admin.process("issue", "client", f"p{number}", "--out", f"out{number}", code=None))
        answers.append(admin.process("revoke", f"p{number}", code=None))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.err for answer in answers if answer.code] == []
    assert admin("crl", "--json").json["entries"] == 6
    assert admin("store", "check").lines == ["the ledger is whole"]


def test_two_who_want_the_same_name_at_once(admin: Administrator) -> None:
    """The same person and device from several processes: one certificate, the others are told so."""
    answers: list[administrator.Answer] = []

    def work(number: int) -> None:
        answers.append(admin.process("issue", "client", "ann", "--out", f"out{number}", code=None))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.code]
    assert len(refused) == 3
    words = "ann has a live certificate already|ann got a certificate for this device a moment ago|another process is making a certificate for ann"
    assert all(re.search(words, answer.err) for answer in refused), refused
    assert len(admin("list", "--json").json) == 1
    assert len(list(admin.folder.iterdir())) == 1


class TestSecrets:
    """Nothing secret in arguments, in --json, in the ledger or in what is said."""

    @pytest.mark.interop
    def test_no_process_has_a_secret_in_its_arguments(self, tmp_path: Path) -> None:
        """Watches /proc while an authority is made and people are given certificates."""
        secret = tmp_path / "passphrase"
        secret.write_text(PASSPHRASE + "\n")
        secret.chmod(0o600)
        admin = Administrator(tmp_path / "home", tmp_path)
        seen: set[bytes] = set()
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                for entry in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):
                        seen.add(entry.read_bytes())
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            environment = {"GATEKEY_PASSPHRASE_FILE": str(secret)}
            admin.process("init", "Kitty CA", env=environment)
            answer = admin.process("issue", "client", "ann", env=environment)
            admin.process("issue", "client", "bob", "--password-file", "bob.pw", env=environment)
            admin.process("p12", "ann.crt", "--key", "ann.key", "--out", "again.p12", env=environment)
        finally:
            done.set()
            watcher.join()
        shown = re.search(r"password of ann.p12:  (\S+)", answer.err)
        assert shown
        ours = [line for line in seen if b"gatekey" in line]
        assert len(ours) >= 3
        for word in (PASSPHRASE, shown[1], (tmp_path / "bob.pw").read_text().strip()):
            assert not any(word.encode() in line for line in seen)
        kept = b"".join(path.read_bytes() for path in admin.home.rglob("*") if path.is_file())
        for word in (PASSPHRASE, shown[1], (tmp_path / "bob.pw").read_text().strip()):
            assert word.encode() not in kept  # neither the ledger nor a log remembers it
