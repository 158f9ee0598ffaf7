"""The folder of key files: modes, refusals, and a change of passphrase that is killed or fails at each single step."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.errors import Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Refused
from gatekey.keys.files import FileKeyring
from gatekey.ports import SystemEntropy

SRC = Path(__file__).parent.parent.parent / "src"
OLD, NEW = b"old passphrase", b"new passphrase"
LABELS = ["people", "people-root", "servers"]


def keyring(folder: Path, passphrase: bytes | None = OLD) -> FileKeyring:
    return FileKeyring(folder, None if passphrase is None else lambda: passphrase, SystemEntropy(), iterations=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three keys under the old passphrase."""
    ring = keyring(tmp_path / "keys")
    for label in LABELS:
        ring.make(label, "p256")
    return tmp_path / "keys"


def test_made_keys_are_found_again(folder: Path) -> None:
    assert keyring(folder).labels() == LABELS
    made = keyring(folder).make("zeta", "ed25519")
    assert keyring(folder).open("zeta").spki == made.spki
    assert keyring(folder).open("zeta").key_type == "ed25519"


def test_an_absent_folder_has_no_keys(tmp_path: Path) -> None:
    assert keyring(tmp_path / "nothing").labels() == []
    assert not (tmp_path / "nothing").exists()


def test_modes(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keyring(tmp_path / "keys").make("people", "p256")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_no_leftovers(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {".lock", *(f"{label}.key" for label in LABELS)}


def test_files_are_encrypted(folder: Path) -> None:
    for label in LABELS:
        text = (folder / f"{label}.key").read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        assert keyring(folder).open(label).pkcs8() not in text


@pytest.mark.interop
def test_openssl_opens_them(folder: Path, program: Callable[[str], str]) -> None:
    """Nobody depends on Gatekey to get at a key of their own."""
    command = [program("openssl"), "pkey", "-in", str(folder / "people.key"), "-passin", f"pass:{OLD.decode()}", "-pubout", "-outform", "DER"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == keyring(folder).open("people").spki


def test_unencrypted_only_when_said(tmp_path: Path) -> None:
    keyring(tmp_path, None).make("people", "p256")
    assert (tmp_path / "people.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert stat.S_IMODE((tmp_path / "people.key").stat().st_mode) == 0o600
    assert keyring(tmp_path, OLD).open("people").key_type == "p256", "a plain key opens under any passphrase"


@pytest.mark.parametrize("label", ["", "A", "a_b", "a.b", "../x", "a/b", "-a", "a-", "ä", "a" * 64, "a\n", ".lock"])
def test_labels_are_checked(folder: Path, label: str) -> None:
    with pytest.raises(Malformed) as opening:
        keyring(folder).open(label)
    with pytest.raises(Malformed) as making:
        keyring(folder).make(label, "p256")
    assert opening.value.code == making.value.code == "bad-label"


def test_nothing_is_overwritten(folder: Path) -> None:
    before = (folder / "people.key").read_bytes()
    with pytest.raises(Conflict) as caught:
        keyring(folder).make("people", "p256")
    assert caught.value.code == "key-exists"
    assert (folder / "people.key").read_bytes() == before
    (folder / "dangling.key").symlink_to(folder / "nowhere")
    with pytest.raises(Conflict):
        keyring(folder).make("dangling", "p256")
    assert not (folder / "nowhere").exists()


def test_unknown_types_leave_nothing(folder: Path) -> None:
    with pytest.raises(Refused):
        keyring(folder).make("odd", "dsa")
    assert "odd" not in keyring(folder).labels()


def test_no_such_key(folder: Path) -> None:
    with pytest.raises(NotFound) as caught:
        keyring(folder).open("root")
    assert caught.value.code == "no-such-key"


@pytest.mark.parametrize("wrong", [b"x", NEW, OLD + b"\n", b"\xff\xfe\x00"])
def test_wrong_passphrase(folder: Path, wrong: bytes) -> None:
    with pytest.raises(Misconfigured) as caught:
        keyring(folder, wrong).open("people")
    assert caught.value.code == "wrong-passphrase"
    assert "people" in caught.value.message
    assert caught.value.exit_code == 3


def test_no_passphrase(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        keyring(folder, None).open("people")
    assert caught.value.code == "passphrase-needed"
    with pytest.raises(Misconfigured) as opening:
        keyring(folder, b"").open("people")
    with pytest.raises(Misconfigured) as making:
        keyring(tmp_path / "new", b"").make("people", "p256")
    assert opening.value.code == making.value.code == "empty-passphrase"
    assert not (tmp_path / "new").exists()


def test_the_passphrase_is_asked_once_and_only_when_needed(folder: Path) -> None:
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(1)
        return OLD

    ring = FileKeyring(folder, ask, SystemEntropy(), iterations=2)
    assert ring.labels() == LABELS
    assert asked == []
    for label in LABELS:
        ring.open(label)
    ring.make("zeta", "p256")
    assert asked == [1]


def test_the_derived_key_is_shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One salt for one passphrase: a process derives once, whatever number of keys it opens or makes."""
    from cryptography.hazmat.primitives.kdf import pbkdf2

    calls: list[bytes] = []

    class Counting:
        def __init__(self, *asked: Any) -> None:
            calls.append(asked[2])
            self.derive = pbkdf2_hmac(*asked).derive

    pbkdf2_hmac = pbkdf2.PBKDF2HMAC
    monkeypatch.setattr(pbkdf2, "PBKDF2HMAC", Counting)
    ring = keyring(folder)
    for label in LABELS:
        ring.open(label)
    ring.make("zeta", "p256")
    assert len(calls) == 1
    files = [(folder / f"{label}.key").read_bytes() for label in ring.labels()]
    assert len(set(files)) == 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777])
def test_files_that_others_may_use(folder: Path, mode: int) -> None:
    (folder / "people.key").chmod(mode)
    with pytest.raises(Misconfigured) as caught:
        keyring(folder).open("people")
    assert caught.value.code == "key-file-exposed"
    assert caught.value.hint == f"chmod 600 {folder / 'people.key'}"
    assert f"{mode:04o}" in caught.value.message


def test_damaged_files(folder: Path) -> None:
    whole = (folder / "people.key").read_bytes()
    for broken in (b"", b"hello", whole[:100], whole.replace(b"A", b"B"), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"x" * 100_000):
        (folder / "people.key").write_bytes(broken)
        with pytest.raises(Misconfigured) as caught:
            keyring(folder).open("people")
        assert caught.value.code in {"bad-key-file", "wrong-passphrase"}


def test_things_that_are_no_files(folder: Path) -> None:
    (folder / "dir.key").mkdir(mode=0o700)
    os.mkfifo(folder / "pipe.key", 0o600)
    for label in ("dir", "pipe"):
        with pytest.raises(Misconfigured) as caught:
            keyring(folder).open(label)
        assert caught.value.code == "bad-key-file"


def test_labels_are_only_keys(folder: Path) -> None:
    for name in ("notes.txt", "UPPER.key", "a.b.key", ".hidden.key", "people.key.bak"):
        (folder / name).write_text("x")
    assert keyring(folder).labels() == LABELS


# Changing the passphrase


def spkis(folder: Path, passphrase: bytes | None) -> dict[str, bytes]:
    ring = keyring(folder, passphrase)
    return {label: ring.open(label).spki for label in ring.labels()}


def test_change(folder: Path) -> None:
    before = spkis(folder, OLD)
    ring = keyring(folder)
    assert ring.change_passphrase(NEW, by="user:ann") == LABELS
    assert spkis(folder, NEW) == before
    ((change, by),) = keyring(folder, None).changes()
    assert by == "user:ann"
    for _ in range(2):  # two who note it at the same time
        ring.noted(change)
    assert ring.changes() == []
    assert ring.open("people").spki == before["people"], "the ring that changed it goes on with the new one"
    with pytest.raises(Misconfigured):
        spkis(folder, OLD)
    test_no_leftovers(folder)


def test_change_draws_a_new_salt(folder: Path) -> None:
    from gatekey.x509 import pem, pkcs8

    def salts() -> set[bytes]:
        sealed = [pem.decode((folder / f"{label}.key").read_bytes())[0][1] for label in LABELS]
        return {pkcs8.encryption(one)[0].salt for one in sealed}

    before = salts()
    keyring(folder).change_passphrase(OLD)
    assert len(before) == len(salts()) == 1
    assert before != salts()


def test_to_plain_and_back(folder: Path) -> None:
    before = spkis(folder, OLD)
    keyring(folder).change_passphrase(None)
    assert spkis(folder, None) == before
    keyring(folder, None).change_passphrase(NEW)
    assert spkis(folder, NEW) == before
    with pytest.raises(Misconfigured):
        spkis(folder, None)


def test_a_wrong_old_passphrase_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Misconfigured):
        keyring(folder, b"wrong").change_passphrase(NEW)
    with pytest.raises(Misconfigured):
        keyring(folder).change_passphrase(b"")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_key_that_does_not_open_stops_it_all(folder: Path) -> None:
    keyring(folder.parent / "other", NEW).make("stray", "p256")
    (folder.parent / "other" / "stray.key").rename(folder / "stray.key")
    with pytest.raises(Misconfigured) as caught:
        keyring(folder).change_passphrase(NEW)
    assert "stray" in caught.value.message
    assert keyring(folder).open("people").key_type == "p256"


class Killed(BaseException):
    """The process is dead: nothing that it would still do happens."""


class Trouble:
    """Counts every call that changes the disk, and makes one of them fail: killed or refused by the system, before or after it happened."""

    CALLS = ("open", "write", "fsync", "fchmod", "replace", "rename", "link", "unlink", "mkdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, how: str, *, after: bool) -> None:
        self.count, self.at, self.how, self.after = 0, at, how, after
        self.armed, self.dead = True, False
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if not self.armed or (name == "open" and not args[1] & os.O_CREAT):
                return real(*args, **more)
            if self.dead:
                raise Killed
            self.count += 1
            if self.count != self.at:
                return real(*args, **more)
            if self.after:
                result = real(*args, **more)
                if name == "open":
                    os.close(result)
            if self.how == "killed":
                self.dead = True
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

        return call


def count_calls(act: Callable[[], object]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        trouble = Trouble(patch, 0, "never", after=False)
        act()
        return trouble.count


def copies(folder: Path, into: Path) -> Iterator[Path]:
    """Fresh copies of a folder, one after the other."""
    import shutil

    number = 0
    while True:
        number += 1
        yield Path(shutil.copytree(folder, into / f"copy-{number}"))


@pytest.mark.parametrize("new", [NEW, None], ids=["to another", "to none"])
@pytest.mark.parametrize("after", [False, True], ids=["did not happen", "happened"])
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_a_change_that_ends_anywhere_is_all_or_none(folder: Path, tmp_path: Path, how: str, after: bool, new: bytes | None) -> None:
    before = spkis(folder, OLD)
    fresh = copies(folder, tmp_path)
    total = count_calls(lambda: keyring(next(fresh)).change_passphrase(new))
    assert total > 20
    outcomes = set()
    for at in range(1, total + 1):
        copy = next(fresh)
        ring = keyring(copy)
        with pytest.MonkeyPatch.context() as patch:
            trouble = Trouble(patch, at, how, after=after)
            try:
                ring.change_passphrase(new)
                ended = "done"
            except Killed:
                ended = "killed"
            except GatekeyError as refused:
                assert refused.code == "disk-full"
                ended = "refused"
            trouble.armed = False
        if ended == "refused":
            assert {label: ring.open(label).spki for label in ring.labels()} == before, f"the living ring is lost after call {at}"
        holds = new if opens(copy, new, before) else OLD
        assert opens(copy, holds, before), f"no passphrase opens every key after call {at} ({ended})"
        assert len({b"ENCRYPTED" in path.read_bytes() for path in copy.glob("*.key")}) == 1, f"a mixture after call {at} ({ended})"
        assert ended != "done" or holds == new
        outcomes.add(holds)
        keyring(copy, holds).make("later", "p256")
        noted = keyring(copy, holds).changes()
        assert len(noted) == (holds == new), "a change that holds is told of, once"
        for change, _ in noted:
            ring.noted(change)
        assert not [path.name for path in copy.iterdir() if not path.name.endswith(".key") and path.name != ".lock"]
    assert outcomes == {OLD, new}, "both sides of the turning point were seen"


def opens(folder: Path, passphrase: bytes | None, expected: dict[str, bytes]) -> bool:
    try:
        return spkis(folder, passphrase) == expected
    except Misconfigured as refused:
        assert refused.code in {"wrong-passphrase", "passphrase-needed"}
        return False


@pytest.mark.parametrize("after", [False, True], ids=["did not happen", "happened"])
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_making_a_key_that_ends_anywhere(folder: Path, tmp_path: Path, how: str, after: bool) -> None:
    """There is either no key or a whole one, and the others stay as they are."""
    before = spkis(folder, OLD)
    fresh = copies(folder, tmp_path)
    total = count_calls(lambda: keyring(next(fresh)).make("zeta", "p256"))
    for at in range(1, total + 1):
        copy = next(fresh)
        with pytest.MonkeyPatch.context() as patch:
            trouble = Trouble(patch, at, how, after=after)
            try:
                keyring(copy).make("zeta", "p256")
                made = True
            except (Killed, GatekeyError):
                made = False
            trouble.armed = False
        found = spkis(copy, OLD)
        assert "zeta" in found or not made
        found.pop("zeta", None)
        assert found == before
        if "zeta" not in keyring(copy).labels():
            keyring(copy).make("zeta", "p256")
        keyring(copy).make("later", "p256")
        assert not [path.name for path in copy.iterdir() if path.name.endswith(".new")], "leftovers are swept"


def test_reading_finishes_what_was_begun(folder: Path) -> None:
    """Also without the passphrase: `labels` alone rolls the change forward."""
    before = spkis(folder, OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileKeyring, "_settle", lambda _self: None)
        keyring(folder).change_passphrase(NEW)
    assert (folder / ".passphrase-change").exists()
    assert keyring(folder, None).labels() == LABELS
    assert not (folder / ".passphrase-change").exists()
    assert spkis(folder, NEW) == before


def test_many_at_once(folder: Path) -> None:
    """Processes that make the same key: one wins, the others are told; nobody's key is lost."""
    script = f"""
import sys
from pathlib import Path
from gatekey.errors import Conflict
from gatekey.keys.files import FileKeyring
from gatekey.ports import SystemEntropy
ring = FileKeyring(Path({str(folder)!r}), lambda: {OLD!r}, SystemEntropy(), iterations=2)
won = 0
for number in range(5):
    try:
        ring.make(f"race-{{number}}", "p256")
        won += 1
    except Conflict:
        pass
    ring.make(f"own-{{sys.argv[1]}}-{{number}}", "p256")
print(won)
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(number)], env=os.environ | {"PYTHONPATH": str(SRC)}, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    won = sum(int(worker.communicate(timeout=60)[0]) for worker in workers)
    assert [worker.returncode for worker in workers] == [0] * 4
    assert won == 5
    assert len(spkis(folder, OLD)) == len(LABELS) + 5 + 20


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(GatekeyError):
        keyring(tmp_path / "file" / "keys").make("people", "p256")


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [(errno.EROFS, "unwritable", 3), (errno.EACCES, "unwritable", 3), (errno.ENOSPC, "disk-full", 4), (errno.EIO, "disk-error", 4)],
)
def test_what_the_disk_refuses_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, exit_code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "keys")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(GatekeyError) as caught:
        keyring(folder).make("zeta", "p256")
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert "zeta" not in keyring(folder).labels()
