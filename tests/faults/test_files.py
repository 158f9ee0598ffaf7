"""`files.py` killed, or refused by the disk, at each single call to the system: there is nothing or a whole file, the old set or the new one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatekey import app, files
from gatekey.errors import Conflict, GatekeyError
from gatekey.store.dialect import SQLite

CALLS = ("open", "write", "fsync", "fchmod", "chmod", "replace", "rename", "link", "symlink", "unlink", "mkdir")


class Killed(BaseException):
    """The process is dead: nothing that it would still do happens."""


class Trouble:
    """Counts every call that changes the disk and makes one of them fail: killed, or refused with ENOSPC; before it happened, or after."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int = 0, *, killed: bool = False, after: bool = False) -> None:
        self.count, self._at, self._killed, self._after, self._dead = 0, at, killed, after, False
        for name in CALLS:
            patch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **more)
            if self._dead:
                raise Killed
            self.count += 1
            if self.count != self._at:
                return real(*args, **more)
            if self._after and (self._killed or name != "open"):  # a file is never made by an open that says it failed
                done = real(*args, **more)
                if name == "open":
                    os.close(done)
            if self._killed:
                self._dead = True
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

        return call


def calls(act: Callable[[], object]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        trouble = Trouble(patch)
        act()
        return trouble.count


def each(act: Callable[[], object], fresh: Callable[[int], None], *, killed: bool, after: bool) -> list[str]:
    """How each attempt ended, with one more call failing each time. `fresh` makes the ground again before it."""
    fresh(0)
    total = calls(act)
    ended = []
    for at in range(1, total + 1):
        fresh(at)
        with pytest.MonkeyPatch.context() as patch:
            Trouble(patch, at, killed=killed, after=after)
            try:
                act()
                how = "done"
            except Killed:
                how = "killed"
            except GatekeyError as refused:
                assert (refused.code, refused.exit_code) == ("disk-full", 4)
                how = "refused"
        ended.append(how)
    return ended


HOW = pytest.mark.parametrize("killed", [True, False], ids=["killed", "refused"])
WHEN = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


@pytest.mark.slow
@HOW
@WHEN
@pytest.mark.parametrize("replaces", [False, True], ids=["create", "replace"])
def test_a_file_is_whole_or_not_there(tmp_path: Path, replaces: bool, killed: bool, after: bool) -> None:
    place = tmp_path / "deep" / "folder"
    path = place / "ann.key"
    seen = set()

    def fresh(at: int) -> None:
        if at:
            look()
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)
        if replaces:
            place.mkdir(parents=True)
            path.write_bytes(b"old")

    def look() -> None:
        content = path.read_bytes() if path.exists() else b""
        assert content in ((b"old", b"new" * 9999) if replaces else (b"", b"new" * 9999))
        assert not content.startswith(b"new") or path.stat().st_mode & 0o777 == files.PRIVATE
        seen.add(content[:3])
        if not killed and not content.startswith(b"new"):
            assert list(tmp_path.rglob(".*.new")) == [], "who lives on sweeps up"
            assert replaces or not place.exists() or after, "folders that were made for it go too"

    ended = each(lambda: files.put(path, b"new" * 9999, files.PRIVATE, force=replaces), fresh, killed=killed, after=after)
    look()
    assert seen == {b"old" if replaces else b"", b"new"}
    assert set(ended) <= {"killed" if killed else "refused", "done"}


@HOW
@WHEN
def test_a_folder_is_the_old_set_or_the_new_one(tmp_path: Path, killed: bool, after: bool) -> None:
    out = tmp_path / "out"
    old = {name: f"old {name}".encode() for name in ("chain.pem", "crl.pem", "gone.map")}
    new = {name: f"new {name}".encode() for name in ("chain.pem", "crl.pem", "more.map")}
    both = ("chain.pem", "crl.pem")
    seen = set()

    def fresh(at: int) -> None:
        if at:
            look()
        shutil.rmtree(out, ignore_errors=True)
        files.switch(out, old, "1")
        (out / "of-somebody-else").write_text("stays")

    def look() -> None:
        found = {name: (out / name).read_bytes() for name in both}
        assert found in ({name: old[name] for name in both}, {name: new[name] for name in both}), "a mixture"
        seen.add(found["chain.pem"][:3])
        assert files.switch(out, new, "2") or all((out / name).read_bytes() == data for name, data in new.items())
        files.switch(out, {**new, "more.map": b"newest"}, "3")
        names = {path.name for path in out.iterdir()}
        assert {name for name in names if name.startswith((".new", ".link"))} == set(), "the next switch sweeps up"
        assert len([name for name in names if name.startswith(".set-")]) <= 2
        assert names >= {*new, "of-somebody-else", ".current"}
        assert not (out / "gone.map").is_symlink()

    ended = each(lambda: files.switch(out, new, "2"), fresh, killed=killed, after=after)
    look()
    assert seen == {b"old", b"new"}
    assert ended.count("done") <= 6  # sweeping may fail in silence
    assert len(ended) > 15


@HOW
@WHEN
def test_the_first_set(tmp_path: Path, killed: bool, after: bool) -> None:
    """Where nothing was before, a reader finds nothing, or links that all lead into the new set."""
    out = tmp_path / "a" / "out"
    new = {"chain.pem": b"chain", "crl.pem": b"crl"}

    def fresh(at: int) -> None:
        if at:
            look()
        shutil.rmtree(tmp_path / "a", ignore_errors=True)

    def look() -> None:
        for name, data in new.items():
            assert not (out / name).is_symlink() or (out / name).read_bytes() == data
        files.switch(out, new, "2")
        assert {name: (out / name).read_bytes() for name in new} == new

    each(lambda: files.switch(out, new, "1"), fresh, killed=killed, after=after)
    look()


class Order:
    """Which names were changed and what was synced, in order. Nothing here cuts the power; but the order in which the kernel is asked is what a cut tests."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        for name in ("replace", "rename", "link", "symlink", "mkdir"):
            patch.setattr(os, name, self._named(name, getattr(os, name)))
        synced = os.fsync

        def fsync(handle: int) -> None:
            self.calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
            synced(handle)

        patch.setattr(os, "fsync", fsync)

    def _named(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            done = real(*args, **more)
            self.calls.append((name, str(args[0] if name == "mkdir" else args[1])))
            return done

        return call

    def unsynced(self) -> list[str]:
        """New names whose folder was not synced afterwards."""
        return [
            f"{name} {path}"
            for at, (name, path) in enumerate(self.calls)
            if name != "fsync" and os.path.lexists(path) and ("fsync", os.path.dirname(path)) not in self.calls[at:]
        ]


def test_every_new_name_is_synced(tmp_path: Path) -> None:
    def ordered(act: Callable[[], object]) -> list[tuple[str, str]]:
        with pytest.MonkeyPatch.context() as patch:
            order = Order(patch)
            act()
        assert order.unsynced() == []
        return order.calls

    calls = ordered(lambda: files.create(tmp_path / "new" / "ann.key", b"key"))
    assert [name for name, _ in calls] == ["mkdir", "fsync", "fsync", "link", "fsync"], "the bytes are synced before they get their name"
    assert calls[2][1].endswith(".new")
    calls = ordered(lambda: files.replace(tmp_path / "new" / "ann.key", b"key"))
    assert [name for name, _ in calls] == ["fsync", "replace", "fsync"]
    ordered(lambda: files.folder(tmp_path / "folder"))
    ordered(lambda: files.folders(tmp_path / "a" / "b" / "c"))
    calls = ordered(lambda: files.switch(tmp_path / "out", {"a": b"1", "b": b"2"}, "1"))
    current = calls.index(("replace", str(tmp_path / "out" / ".current")))
    before = [path for name, path in calls[:current] if name == "fsync"]
    assert [os.path.basename(path) for path in before[-4:]] == ["a", "b", ".new-.set-1", "out"], "a set is durable before anything leads to it"
    ordered(lambda: app.create_authority(tmp_path / "deep" / "home", app.Founding("Kitty", unencrypted_keys=True)).close())


def test_an_authority_built_inside_its_home_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == home)
    order = Order(monkeypatch)
    app.create_authority(home, app.Founding("Kitty", unencrypted_keys=True)).close()
    assert order.unsynced() == []
    last = order.calls.index(("rename", str(home / "gatekey.toml")))
    assert ("fsync", str(home)) in order.calls[last - 1 : last], "everything else is there before the configuration says so"


def test_commits_are_synced(tmp_path: Path) -> None:
    """WAL, and every commit synced: also in a ledger that a backup tool has put back into the older mode."""
    app.create_authority(tmp_path / "home", app.Founding("Kitty", unencrypted_keys=True)).close()
    connection = SQLite(tmp_path / "home" / "ledger.db").connect()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
    connection.close()


def test_what_a_killed_process_left_is_never_overwritten(tmp_path: Path) -> None:
    """In a container every process has the same number; the hidden file may be the only copy of a key."""
    left = tmp_path / f".ann.key.{os.getpid()}.new"
    left.write_bytes(b"the key of a certificate that was issued")
    staged = files.stage(tmp_path / "ann.key", b"another key", files.PRIVATE)
    assert staged.place.name == f".ann.key.{os.getpid()}-1.new"
    staged.discard()
    files.create(tmp_path / "ann.key", b"a third key", files.PRIVATE)
    assert left.read_bytes() == b"the key of a certificate that was issued"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([left.name, "ann.key"])


def test_threads_do_not_share_a_hidden_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(50):
            files.replace(tmp_path / "status", str(number).encode() * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["status"]
    assert len(set((tmp_path / "status").read_bytes())) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """FAT, on every USB stick: still never overwriting, and nothing left behind."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    files.create(tmp_path / "ann.key", b"key", files.PRIVATE)
    assert (tmp_path / "ann.key").read_bytes() == b"key"
    assert (tmp_path / "ann.key").stat().st_mode & 0o777 == files.PRIVATE
    with pytest.raises(Conflict):
        files.create(tmp_path / "ann.key", b"another", files.PRIVATE)
    assert (tmp_path / "ann.key").read_bytes() == b"key"
    assert [path.name for path in tmp_path.iterdir()] == ["ann.key"]
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(GatekeyError):
        files.create(tmp_path / "bob.key", b"key")
    assert [path.name for path in tmp_path.iterdir()] == ["ann.key"]


def test_a_folder_that_another_takes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that issue into the same new folder, and one of them is refused and sweeps up: the other does not fall over it."""
    made = files.folders
    taken: list[Path] = []

    def taken_away(path: Path) -> list[Path]:
        found = made(path)
        if path.name == "out" and len(taken) < 2:
            path.rmdir()
            taken.append(path)
        return found

    monkeypatch.setattr(files, "folders", taken_away)
    files.create(tmp_path / "out" / "ann.key", b"key")
    assert len(taken) == 2
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(GatekeyError):
        files.create(tmp_path / "nowhere" / "ann.key", b"key")


def test_one_switches_at_a_time(tmp_path: Path) -> None:
    """Whoever asks for the same folder waits; a set of one round is never mixed with that of another."""
    out = tmp_path / "out"
    rounds: list[int] = []

    def publish(number: int) -> None:
        with files.alone(out):
            rounds.append(number)
            files.switch(out, {name: json.dumps(number).encode() for name in ("a", "b")}, str(number))
            assert (out / "a").read_bytes() == (out / "b").read_bytes() == str(number).encode()

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (out / "a").read_bytes() == str(rounds[-1]).encode()
    assert sorted(rounds) == list(range(8))
