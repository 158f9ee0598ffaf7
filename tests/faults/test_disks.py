"""A full disk, a read-only folder and a ledger that somebody else holds: a sentence, the right exit code, nothing lost, nothing half written."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.store.dialect import SQLite
from kit import administrator, disks, faults
from kit.administrator import Administrator

CHANGES = (
    "issue client bob --out bob",
    "issue server app.kitty.example --out app",
    "renew ann --out ann2",
    "revoke ann",
    "hold ann",
    "leave ann --yes",
    "people add zoe",
    "people set ann --group staff",
    "crl --out people.crl",
    "bundle --out bundle",
)
LOOKS = ("list", "show ann", "people list", "authority list", "verify ann.crt")


def place(template: Path, root: Path) -> Administrator:
    """A home and a folder on the same disk, and Ann's certificate in it."""
    (root / "work").mkdir()
    admin = Administrator(administrator.copied(template, root / "home"), root / "work")
    admin.process("issue", "client", "ann", "--password-file", "ann.password")
    return admin


def whole(admin: Administrator, *, files: int) -> None:
    """Nothing is half written, nothing is unknown, and the ledger is whole at once and after the next verb."""
    assert faults.torn(admin.home.parent) == []
    assert faults.known(admin.home, admin.folder) == []
    assert [path.name for path in admin.folder.rglob("*") if path.name.endswith(".new")] == []
    assert len([path for path in admin.folder.rglob("*") if path.is_file() and path.suffix == ".crt"]) >= files
    faults.heal(admin.home)
    assert admin.process("store", "check").out == "the ledger is whole\n"


@contextlib.contextmanager
def little_room(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, or a folder where the kernel refuses larger files if nothing may be mounted here."""
    root = tmp_path / "disk"
    if disks.may_mount():
        with disks.small(root):
            yield root
    else:
        root.mkdir()
        yield root


def no_room(admin: Administrator) -> Callable[[], None]:
    """Takes the room away; what is given back gives it back."""
    if disks.may_mount():
        return disks.ballast(admin.home.parent).unlink
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_disk_of_one_mebibyte_fills_up(flat_template: Path, tmp_path: Path) -> None:
    with little_room(tmp_path) as root:
        admin = place(flat_template, root)
        give_back = no_room(admin) if not disks.may_mount() else lambda: shutil.rmtree(root / "work" / "out")
        issued = 0
        for number in range(400):
            answer = admin.process("issue", "client", f"p{number}", "--out", "out", "--json", code=None)
            if answer.code:
                break
            issued += 1
        assert answer.code == 4, answer.err
        assert "no room is left" in answer.err
        assert "make room and try again" in answer.err or "was issued" in answer.err
        assert faults.known(admin.home, admin.folder) == []
        assert faults.torn(root) == []
        with faults.opened(admin.home) as authority:
            assert len(authority.reads.certificates("c.state = 'released' AND h.kind = 'person'")) >= issued + 1
        give_back()
        whole(admin, files=2)
        admin.process("issue", "client", "later", "--out", "later")


@pytest.mark.slow
def test_no_room_at_all(flat_template: Path, tmp_path: Path) -> None:
    with little_room(tmp_path) as root:
        admin = place(flat_template, root)
        give_back = no_room(admin)
        before = admin.sql("SELECT count(*) FROM audit") if not disks.may_mount() else None
        for words in CHANGES:
            answer = admin.process(*words.split(), code=None)
            assert (answer.code, "no room is left" in answer.err) == (4, True), f"{words}: {answer.code} {answer.err}"
            assert "Traceback" not in answer.err
        for words in LOOKS:
            answer = admin.process(*words.split(), code=None)
            assert answer.code == 0 or (answer.code, "no room is left" in answer.err) == (4, True), f"{words}: {answer.err}"
        give_back()
        assert before in (None, admin.sql("SELECT count(*) FROM audit"))
        whole(admin, files=2)
        for words in CHANGES:
            if not words.startswith(("hold", "leave", "people set")):
                admin.process(*words.split())


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 20_000, 100_000])
def test_files_may_not_grow(size: int, flat_template: Path, tmp_path: Path) -> None:
    """The same everywhere, without a disk of its own: the kernel refuses every byte beyond `size` in any file."""
    admin = place(flat_template, tmp_path)
    for words in CHANGES:
        line = [*administrator.COMMAND, *words.split()]
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); " + line[2]
        done = subprocess.run([sys.executable, "-c", limit, *line[3:]], capture_output=True, text=True, cwd=admin.folder, env=admin.environment(), check=False)
        assert done.returncode in (0, 1, 4), f"{words}: {done.stderr}"
        assert done.returncode != 4 or "no room is left" in done.stderr
        assert size or done.returncode == 4, f"{words}: {done.stderr}"
        assert "Traceback" not in done.stderr
    assert faults.torn(tmp_path) == []
    assert faults.known(admin.home, admin.folder) == []
    faults.heal(admin.home)


@pytest.mark.slow
def test_a_read_only_folder(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    admin = place(template, root)
    before = admin.print()
    (tmp_path / "elsewhere").mkdir()
    if disks.may_mount():
        with disks.read_only(root):
            _refused(admin, tmp_path)
    else:
        for folder in (admin.home, admin.folder):
            folder.chmod(0o500)
        try:
            _refused(admin, tmp_path)
        finally:
            for folder in (admin.home, admin.folder):
                folder.chmod(0o700)
    assert admin.print() == before
    whole(admin, files=2)


def _refused(admin: Administrator, tmp_path: Path) -> None:
    somewhere_else = Administrator(admin.home, tmp_path / "elsewhere")
    for typed in (admin, somewhere_else):
        for words in CHANGES:
            answer = typed.process(*words.split(), code=None)
            assert answer.code == 3, f"{words}: {answer.code} {answer.err}"
            assert "cannot be written" in answer.err
            assert "Traceback" not in answer.err
    for words in LOOKS:
        answer = admin.process(*words.split(), code=None)
        assert answer.code == 0 or (answer.code, "cannot be written" in answer.err) == (3, True), f"{words}: {answer.err}"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert admin.process("init", "Another", "--home", str(admin.folder / "new"), "--unencrypted-keys", code=None).code == 3


_HOLD = """
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1], isolation_level=None)
ledger.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(ledger: Path) -> Iterator[threading.Event]:
    """Another process holds the ledger until the event is set."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(ledger)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    free = threading.Event()

    def wait() -> None:
        free.wait()
        holder.communicate()

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield free
    finally:
        free.set()
        waiting.join()


def test_a_ledger_that_is_held(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    admin("issue", "client", "ann")
    before = admin.print()
    monkeypatch.setattr(SQLite, "patience", 0.1)
    with held(admin.home / "ledger.db"):
        for words in CHANGES[:-1]:
            answer = admin(*words.split(), code=4)
            assert "another process holds the ledger" in answer.err
            assert "try again" in answer.err
        for words in (*LOOKS, "bundle --out bundle"):  # the CRLs are fresh, so that a bundle only reads
            admin(*words.split())
    shutil.rmtree(admin.folder / "bundle")
    assert admin.print() == before
    whole(admin, files=2)
    admin("issue", "client", "bob")


def test_who_waits_is_served(admin: Administrator) -> None:
    """A process that finds the ledger held waits for its turn, and says so only after ten seconds."""
    assert SQLite.patience == 10
    with held(admin.home / "ledger.db") as free:
        threading.Timer(0.5, free.set).start()
        admin("issue", "client", "ann")
    whole(admin, files=2)


def test_a_ledger_in_exclusive_mode(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that keeps the ledger to itself (PRAGMA locking_mode=EXCLUSIVE) stops readers too."""
    monkeypatch.setattr(SQLite, "patience", 0.1)
    with contextlib.closing(sqlite3.connect(admin.home / "ledger.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("COMMIT")
        for words in ("list", "people add zoe"):
            done = subprocess.run(
                [sys.executable, "-c", "from gatekey.store.dialect import SQLite; SQLite.patience = 0.1; from gatekey.cli import main; main()", *words.split()],
                capture_output=True, text=True, cwd=admin.folder, env=admin.environment(), check=False,
            )  # fmt: skip
            assert (done.returncode, "another process holds the ledger" in done.stderr) == (4, True), done.stderr
    admin("people", "add", "zoe")


def test_the_ledger_is_gone(admin: Administrator) -> None:
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            (admin.home / name).unlink()
    assert "there is no ledger" in admin("list", code=3).err
    (admin.home / "ledger.db").write_bytes(os.urandom(8192))
    assert "damaged" in admin("list", code=3).err
