"""A full disk, a read-only folder and a ledger that somebody else holds: a sentence, the right exit code, nothing lost, nothing half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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


class Ground(NamedTuple):
    """Where there is little room. `short`: how a process is started so that it feels it."""

    admin: Administrator
    short: dict[str, Any]
    give_back: Callable[[], None]


#: A disk of 1 MiB where this process may mount one; a limit on the size of files, which the kernel keeps everywhere.
MOUNTED = ["mount"] if disks.may_mount() else []
SMALL = pytest.mark.parametrize("way", [*MOUNTED, "limit"])


@contextlib.contextmanager
def little_room(template: Path, tmp_path: Path, way: str) -> Iterator[Ground]:
    """A disk that fills up after some certificates."""
    root = tmp_path / "disk"
    root.mkdir()
    with disks.small(root) if way == "mount" else contextlib.nullcontext():
        admin = place(template, root)
        if way == "mount":
            yield Ground(admin, {}, lambda: shutil.rmtree(admin.folder / "out"))
        else:
            yield Ground(admin, {"preexec_fn": disks.files_end_at((admin.home / "ledger.db").stat().st_size + 50_000)}, lambda: None)


@contextlib.contextmanager
def no_room(template: Path, tmp_path: Path, way: str) -> Iterator[Ground]:
    """A disk without a single byte left."""
    root = tmp_path / "disk"
    root.mkdir()
    with disks.small(root) if way == "mount" else contextlib.nullcontext():
        admin = place(template, root)
        if way == "mount":
            yield Ground(admin, {}, disks.ballast(root).unlink)
        else:
            yield Ground(admin, {"preexec_fn": disks.files_end_at(0)}, lambda: None)


@pytest.mark.slow
@SMALL
def test_a_disk_of_one_mebibyte_fills_up(way: str, flat_template: Path, tmp_path: Path) -> None:
    with little_room(flat_template, tmp_path, way) as ground:
        admin = ground.admin
        issued = 0
        for number in range(400):
            answer = admin.process("issue", "client", f"p{number}", "--out", "out", "--json", code=None, **ground.short)
            if answer.code:
                break
            issued += 1
        assert issued
        assert answer.code == 4, answer.err
        assert "no room is left" in answer.err
        assert "make room and try again" in answer.err or "was issued" in answer.err
        assert faults.torn(admin.home.parent) == []
        ground.give_back()
        assert faults.known(admin.home, admin.folder) == []
        with faults.opened(admin.home) as authority:
            assert len(authority.reads.certificates("c.state = 'released' AND h.kind = 'person'")) >= issued + 1
        whole(admin, files=2)
        admin.process("issue", "client", "later", "--out", "later")


@pytest.mark.slow
@SMALL
def test_no_room_at_all(way: str, flat_template: Path, tmp_path: Path) -> None:
    with no_room(flat_template, tmp_path, way) as ground:
        admin = ground.admin
        for words in CHANGES:
            answer = admin.process(*words.split(), code=None, **ground.short)
            assert (answer.code, "no room is left" in answer.err) == (4, True), f"{words}: {answer.code} {answer.err}"
            assert "Traceback" not in answer.err
        for words in LOOKS:
            answer = admin.process(*words.split(), code=None, **ground.short)
            assert answer.code == 0 or (answer.code, "no room is left" in answer.err) == (4, True), f"{words}: {answer.err}"
        ground.give_back()
        whole(admin, files=2)
        for words in CHANGES:
            if not words.startswith(("hold", "leave", "people set")):
                admin.process(*words.split())


@pytest.mark.slow
@pytest.mark.parametrize("size", [1000, 20_000, 100_000])
def test_files_may_not_grow(size: int, flat_template: Path, tmp_path: Path) -> None:
    """Some files fit, others do not: every byte beyond `size` in any file is refused."""
    admin = place(flat_template, tmp_path)
    for words in CHANGES:
        answer = admin.process(*words.split(), code=None, preexec_fn=disks.files_end_at(size))
        assert answer.code in (0, 1, 4), f"{words}: {answer.err}"
        assert answer.code != 4 or "no room is left" in answer.err
        assert "Traceback" not in answer.err
    assert faults.torn(tmp_path) == []
    assert faults.known(admin.home, admin.folder) == []
    faults.heal(admin.home)


@pytest.mark.slow
@pytest.mark.parametrize("way", [*MOUNTED, "permissions"])
def test_a_read_only_folder(way: str, template: Path, tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    admin = place(template, root)
    before = admin.print()
    (tmp_path / "elsewhere").mkdir()
    with disks.read_only(root) if way == "mount" else disks.forbidden(root) as how:
        for folder in (admin.folder, tmp_path / "elsewhere"):
            for words in CHANGES:
                answer = Administrator(admin.home, folder).process(*words.split(), code=None, **how)
                assert (answer.code, "cannot be written" in answer.err) == (3, True), f"{words}: {answer.code} {answer.err}"
                assert "Traceback" not in answer.err
        for words in LOOKS:
            answer = admin.process(*words.split(), code=None, **how)
            assert answer.code == 0 or (answer.code, "cannot be written" in answer.err) == (3, True), f"{words}: {answer.err}"
        assert admin.process("init", "Another", "--home", str(admin.folder / "new"), "--unencrypted-keys", code=None, **how).code == 3
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert admin.print() == before
    whole(admin, files=2)


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
