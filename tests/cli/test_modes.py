"""Modes of every file that is created, whatever the umask; and that a private key is never readable by others, not for an instant."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit import administrator
from kit.administrator import Administrator, typed
from kit.servers import wait_until

PRIVATE, PUBLIC = 0o600, 0o644


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*")) if not path.is_symlink()}


def test_the_home(tmp_path: Path, umask: int) -> None:
    home = tmp_path / "home"
    assert typed("--home", home, "init", "X", "--unencrypted-keys").code == 0
    admin = Administrator(home, tmp_path)
    admin("issue", "client", "ann", "--out", tmp_path / "ann")
    found = modes(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    folders = {name for name in found if (home / name).is_dir()}
    assert folders == {"keys", "authorities", "profiles"}
    assert {name: mode for name, mode in found.items() if name in folders and mode != 0o700} == {}
    public = {f"authorities/{name}.crt" for name in ("people-root", "people", "servers-root", "servers")}
    assert {name: f"{mode:o}" for name, mode in found.items() if name not in folders and mode != (PUBLIC if name in public else PRIVATE)} == {}


def test_a_home_that_was_there_empty_and_open(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    assert typed("--home", home, "init", "X", "--unencrypted-keys").code == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_what_is_handed_over(admin: Administrator, umask: int) -> None:
    admin("issue", "client", "ann", "--password-file", "ann.pw")
    admin("issue", "client", "eve", "--for", "pem")
    admin("issue", "server", "app.example")
    admin("request", "bob")
    admin("p12", "ann.crt", "--key", "ann.key", "--out", "again.p12", "--password-file", "again.pw")
    admin("crl", "--out", "people.crl")
    admin("authority", "export", "--out", "all.pem")
    private = {".key", ".p12", ".pw"}
    wrong = {
        name: f"{mode:o}"
        for name, mode in modes(admin.folder).items()
        if mode != (PRIVATE if Path(name).suffix in private or name == "eve.pem" else PUBLIC)
    }
    assert wrong == {}


def test_the_bundle_can_be_read_by_web_servers(admin: Administrator, umask: int) -> None:
    admin("issue", "client", "ann", "--out", "ann")
    Path("out").mkdir(mode=0o755)
    admin("bundle", "--out", "out")
    found = {name: mode for name, mode in modes(Path("out")).items() if name != ".lock"}
    folders = {name: mode for name, mode in found.items() if Path("out", name).is_dir()}
    assert list(folders.values()) == [0o755]
    assert {name: f"{mode:o}" for name, mode in found.items() if name not in folders and mode != PUBLIC} == {}
    admin("bundle", "--out", "new/folder")  # whoever may write there may keep the revoked in
    assert [f"{stat.S_IMODE(Path(name).stat().st_mode):o}" for name in ("new", "new/folder")] == [f"{0o755 & ~umask:o}"] * 2


def test_keys_are_born_private(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that is opened for writing has no more than its final mode from its first instant."""
    born: dict[str, int] = {}
    real = os.open

    def watched(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_CREAT:
            born[str(path)] = mode
        return real(path, flags, mode, **more)

    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "open", watched)
        admin("issue", "client", "ann", "--password-file", "ann.pw")
        admin("issue", "client", "eve", "--for", "pem")
        admin("request", "bob")
        typed("--home", "another", "init", "X", "--unencrypted-keys")
    finally:
        os.umask(before)
    secrets = {path for path in born if any(f"{ending}." in f"{path}." for ending in (".key", ".p12", ".pw", "eve.pem", "ledger.db", "toml"))}
    assert len(secrets) >= 10
    assert {path: f"{born[path]:o}" for path in secrets if born[path] != PRIVATE} == {}


def test_a_key_file_that_others_may_read_is_not_used(admin: Administrator) -> None:
    key = admin.home / "keys" / "people.key"
    key.chmod(0o644)
    before = admin.print()
    answer = admin("issue", "client", "ann", code=3)
    assert "has mode 0644: others than its owner may use it" in answer.err
    assert f"chmod 600 {key}" in answer.err
    assert admin.print() == before


def test_links_are_not_followed_into_other_files(admin: Administrator) -> None:
    """Somebody who can write in the folder has laid a link where a key will be written."""
    victim = admin.folder / "victim"
    victim.write_text("precious")
    out = admin.folder / "out"
    out.mkdir()
    (out / "ann.key").symlink_to(victim)
    assert "out/ann.key exists already" in admin("issue", "client", "ann", "--out", "out", code=1).err
    (out / "ann.key").unlink()
    (out / "ann.crt").symlink_to(admin.folder / "dangling")
    assert "out/ann.crt exists already" in admin("issue", "client", "ann", "--out", "out", code=1).err
    admin("issue", "client", "ann", "--out", "out", "--force")
    assert not (admin.folder / "dangling").exists()
    assert not (out / "ann.crt").is_symlink()
    assert victim.read_text() == "precious"


def test_nothing_hidden_is_left_behind(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    admin("issue", "client", "ann", "--out", "again", code=1)
    admin("issue", "client", "bob", "--days", "9999", "--out", "again", code=1)
    assert sorted(path.name for path in admin.folder.iterdir()) == ["ann.chain.crt", "ann.crt", "ann.key", "ann.p12"]
    hidden = [path for path in admin.home.rglob(".*") if path.name != ".lock"]
    assert hidden == []


def test_files_are_whole_or_not_there(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the last file is written: the certificate exists, and the words say how to get it."""
    real = os.write
    count = 0

    def full(handle: int, data: Any) -> int:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", full)
    answer = admin("issue", "client", "ann", code=4)
    assert "no room is left" in answer.err
    monkeypatch.undo()
    monkeypatch.chdir(admin.folder)
    serial = admin.serial("ann")
    assert f"the certificate {serial} was issued; print it with: gatekey show {serial} --pem; or take it back: gatekey revoke {serial}" in answer.err
    assert sorted(path.name for path in admin.folder.iterdir()) == ["ann.crt", "ann.key"]
    assert admin("show", serial, "--pem").stdout == Path("ann.crt").read_bytes()


def test_the_disk_fills_up_before_anything_is_recorded(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    before = admin.print()
    monkeypatch.setattr(os, "write", full)
    answer = admin("issue", "client", "ann", "--out", "deep/er", code=4)
    monkeypatch.undo()
    assert "no room is left" in answer.err
    assert admin.print() == before


def test_administrators_kit_sees_every_change(admin: Administrator) -> None:
    """The print that other tests compare is not blind."""
    prints = [admin.print()]
    admin("people", "add", "gus")
    prints.append(admin.print())
    (admin.folder / "x").touch()
    prints.append(admin.print())
    (admin.folder / "x").chmod(0o600)
    prints.append(admin.print())
    (admin.folder / "x").write_text("y")
    prints.append(admin.print())
    assert len({tuple(sorted(each.items())) for each in prints}) == len(prints)
    admin("list")
    assert admin.print() == prints[-1]
    assert administrator.fingerprint(admin.folder)["work/x"].startswith("100600 ")


class TestDevices:
    """As root, a careless rename would put a file in the place of /dev/null."""

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
        """A named pipe, and what came out of it."""
        pipe = tmp_path / "pipe"
        heard: list[bytes] = []
        os.mkfifo(pipe)
        reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
        reader.start()
        yield pipe, heard
        if not heard:
            with contextlib.suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        reader.join(10)

    def test_a_pipe_is_written_to(self, admin: Administrator, device: tuple[Path, list[bytes]]) -> None:
        pipe, heard = device
        answer = admin("crl", "--pem", "--out", pipe)
        wait_until(lambda: heard, "the CRL has come through")
        assert heard[0].startswith(b"-----BEGIN X509 CRL-----")
        assert answer.out == ""
        assert stat.S_ISFIFO(pipe.stat().st_mode)

    def test_so_is_a_link_to_one(self, admin: Administrator, device: tuple[Path, list[bytes]]) -> None:
        pipe, heard = device
        Path("link").symlink_to(pipe)
        admin("crl", "--out", "link")
        wait_until(lambda: heard, "the CRL has come through")
        assert Path("link").is_symlink()

    @pytest.mark.parametrize(
        "words",
        [
            ["issue", "client", "ann", "--out", "place", "--force"],
            ["renew", "bob", "--out", "place", "--force"],
            ["sign", "ann.csr", "--profile", "client", "--out", "place/ann.crt", "--force"],
        ],
        ids=lambda words: " ".join(words[:2]),
    )
    def test_nothing_is_put_in_its_place(self, admin: Administrator, words: list[str]) -> None:
        admin("request", "ann")
        admin("issue", "client", "bob", "--out", "bob")
        Path("place").mkdir()
        for name in ("ann.crt", "bob.crt"):
            os.mkfifo(f"place/{name}")
        before = admin.print_of_ledger()
        assert ".crt is no ordinary file" in admin(*words, code=1).err
        assert all(stat.S_ISFIFO(path.stat().st_mode) for path in Path("place").iterdir())
        assert admin.print_of_ledger() == before

    def test_standard_output_by_its_name(self, admin: Administrator) -> None:
        """/dev/stdout is such a link; the real one is not put at risk here."""
        Path("stdout").symlink_to("/proc/self/fd/1")
        assert admin.process("crl", "--pem", "--out", "stdout").stdout.startswith(b"-----BEGIN X509 CRL-----")
        assert Path("stdout").is_symlink()
        Path("full").symlink_to("/dev/full")
        assert "no room is left for full" in admin.process("crl", "--out", "full", code=4).err
        assert Path("full").is_symlink()
