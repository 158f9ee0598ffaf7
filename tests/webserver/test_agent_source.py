"""The published folder: read as one set, and watched while it comes, goes, switches and is copied."""

from __future__ import annotations

import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey import files
from gatekey.errors import GatekeyError, Malformed, Unavailable
from gatekey.webserver import agent_source
from gatekey.webserver.agent_source import Folder
from kit.published import Published, with_manifest
from kit.servers import wait_until


@pytest.fixture
def town(tmp_path: Path) -> Published:
    return Published(tmp_path / "published")


@pytest.fixture(params=["inotify", "polling"])
def folder(request: pytest.FixtureRequest, town: Published, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """Watched in both ways."""
    if request.param == "polling":
        monkeypatch.setattr(agent_source._Inotify, "_remote", lambda self, path: True)
    made = Folder(town.folder)
    yield made
    made.close()


def minimal(**contents: bytes) -> dict[str, bytes]:
    return with_manifest({name.replace("_", "."): data for name, data in contents.items()}, number=1, made_at=1_800_000_000)


def waited(folder: Folder, change: Callable[[], Any], seconds: float = 20) -> float:
    """Seconds from the change, which comes while it waits, to its answer."""
    done: list[float] = []

    def later() -> None:
        time.sleep(0.05)
        done.append(time.monotonic())
        change()

    thread = threading.Thread(target=later)
    thread.start()
    assert folder.wait(seconds), "it did not see the change"
    seen = time.monotonic()
    thread.join()
    return seen - done[0]


def test_all_files_of_one_set(town: Published, folder: Folder) -> None:
    published = town.publish()
    assert folder.read() == published
    assert folder.read(published["manifest.json"]) is None
    assert folder.read(b"another") == published


def test_a_switch_is_seen_and_seen_soon(town: Published, folder: Folder) -> None:
    town.publish()
    folder.read()
    assert not folder.wait(0.02)
    town.revoke(town.bob)
    wanted = town.contents()
    took = waited(folder, lambda: town.publish(wanted))
    assert folder.read() == wanted
    assert took < 5  # a loaded machine; the figures are in bench/revocation.py
    assert not folder.wait(0.02)


def test_a_switch_before_it_began_to_wait_is_seen(town: Published, folder: Folder) -> None:
    town.publish()
    folder.read()
    town.revoke(town.bob)
    town.publish()
    assert folder.wait(0)


def test_the_folder_may_come_later(town: Published, folder: Folder) -> None:
    with pytest.raises(Unavailable, match=f"there is no {town.folder}") as caught:
        folder.read()
    assert caught.value.code == "bundle-missing"
    assert not folder.wait(0.02)
    waited(folder, town.publish)
    assert folder.read()


def test_folders_above_it_may_come_later(tmp_path: Path) -> None:
    place = tmp_path / "mnt" / "authority" / "published"
    deep = Folder(place)
    with pytest.raises(Unavailable):
        deep.read()
    waited(deep, lambda: Published(place).publish())
    assert wait_until(lambda: _readable(deep), "it can be read")
    deep.close()


def _readable(folder: Folder) -> bool:
    try:
        return bool(folder.read())
    except GatekeyError:
        return False


def test_it_goes_and_comes_back(town: Published, folder: Folder, tmp_path: Path) -> None:
    town.publish()
    folder.read()
    waited(folder, lambda: town.folder.rename(tmp_path / "gone"))
    with pytest.raises(Unavailable):
        folder.read()
    waited(folder, lambda: (tmp_path / "gone").rename(town.folder))
    assert folder.read()
    # Another folder takes its place, and the watch is on that one.

    def another() -> None:
        shutil.rmtree(town.folder)
        town.publish()

    waited(folder, another)
    wait_until(lambda: _readable(folder), "it can be read")
    town.revoke(town.bob)
    waited(folder, town.publish)
    assert folder.read() == town.contents(crls=folder.read()["all.crl.pem"])  # type: ignore[index]  # just read


def test_the_folder_may_be_a_link_that_is_switched(tmp_path: Path) -> None:
    one, other = Published(tmp_path / "one"), Published(tmp_path / "other")
    one.publish()
    other.publish()
    link = tmp_path / "published"
    link.symlink_to("one")
    folder = Folder(link)
    assert folder.read() == one.publish(folder.read())

    def switch() -> None:
        (tmp_path / "new").symlink_to("other")
        (tmp_path / "new").rename(link)

    waited(folder, switch)
    assert folder.read() == other.publish(folder.read())
    folder.close()


def test_files_without_links_are_read_too(town: Published, folder: Folder) -> None:
    """Copied by somebody who follows links."""
    town.folder.mkdir()
    published = town.contents()
    for name, data in published.items():
        (town.folder / name).write_bytes(data)
    assert folder.read() == published
    manifest = town.contents(number=7)["manifest.json"]
    waited(folder, lambda: files.replace(town.folder / "manifest.json", manifest))


def test_a_switch_in_the_middle_of_reading_mixes_nothing(town: Published, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every file: whatever is read belongs together, or it is refused for a file that is gone."""
    first = town.publish()
    read_file = agent_source._file
    for at in range(len(first)):
        seen = 0

        def slow(handle: int, name: str, limit: int, at: int = at) -> bytes:
            nonlocal seen
            seen += 1
            if seen == at + 1:
                town.revoke(town.pki.client("x"))
                town.publish()
            return read_file(handle, name, limit)

        before = town.publish()
        monkeypatch.setattr(agent_source, "_file", slow)
        assert folder.read() == before
        monkeypatch.setattr(agent_source, "_file", read_file)
        assert folder.read() == dict(town.contents(crls=folder.read()["all.crl.pem"]))  # type: ignore[index]  # just read


def test_two_switches_in_the_middle_are_said(town: Published, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set that was being read is swept away by then."""
    town.publish()
    read_file = agent_source._file

    def slow(handle: int, name: str, limit: int) -> bytes:
        if name == "people-chain.pem":
            for _ in range(2):
                town.revoke(town.pki.client("x"))
                town.publish()
        return read_file(handle, name, limit)

    monkeypatch.setattr(agent_source, "_file", slow)
    with pytest.raises(Malformed, match=r"manifest\.json lists people-chain\.pem, which is not there"):
        folder.read()
    monkeypatch.setattr(agent_source, "_file", read_file)
    assert folder.wait(0)
    assert folder.read()


def test_what_is_no_file_is_not_read(town: Published, folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"key")
    town.folder.mkdir()
    for name, data in minimal(a_txt=b"key").items():
        (town.folder / name).write_bytes(data)
    place = town.folder / "a.txt"
    makes: list[Callable[[], None]] = [lambda: place.symlink_to(secret), lambda: os.mkfifo(place), place.mkdir, lambda: place.symlink_to("nowhere")]
    for make in makes:
        place.unlink() if place.is_file() or place.is_symlink() or place.is_fifo() else place.rmdir()
        make()
        with pytest.raises(Malformed) as caught:
            folder.read()
        assert caught.value.message == "a.txt is no ordinary file"


def test_no_more_is_read_than_the_manifest_says(town: Published, folder: Folder) -> None:
    town.folder.mkdir()
    for name, data in minimal(a_txt=b"12345").items():
        (town.folder / name).write_bytes(data)
    with (town.folder / "a.txt").open("r+b") as file:
        file.truncate(10**12)  # sparse
    assert len(folder.read()["a.txt"]) == 6  # type: ignore[index]  # just read


@pytest.mark.parametrize("errno", ["EIO", "ESTALE", "EACCES", "ETIMEDOUT"])
def test_a_mount_that_fails_is_said_and_waited_for(town: Published, folder: Folder, monkeypatch: pytest.MonkeyPatch, errno: str) -> None:
    import errno as numbers

    town.publish()
    folder.read()
    number = getattr(numbers, errno)
    real_open, real_stat, real_link = os.open, os.stat, os.readlink

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **more: Any) -> Any:
            if str(path).startswith(str(town.folder)):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *args, **more)

        return call

    for name, real in (("open", real_open), ("stat", real_stat), ("readlink", real_link)):
        monkeypatch.setattr(os, name, failing(real))
    assert folder.wait(5)  # that it has gone is a change
    with pytest.raises(Unavailable, match=f"{town.folder} cannot be read: {os.strerror(number)}"):
        folder.read()
    assert not folder.wait(0.05)
    monkeypatch.undo()
    assert folder.wait(5)
    assert folder.read()


def test_a_burst_is_one_change(town: Published, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    town.publish()
    folder.read()
    monkeypatch.setattr(agent_source, "BURST", 30.0)
    monkeypatch.setattr(agent_source, "SILENCE", 1.0)
    made = []
    for number in range(3):
        town.revoke(town.pki.client(f"x{number}"))
        made.append(town.contents())
    waited(folder, lambda: [town.publish(one) for one in made])
    assert folder.read() == made[-1]
    assert not folder.wait(0.02)


def test_a_burst_without_end_is_not_waited_for(town: Published, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    town.publish()
    folder.read()
    town.revoke(town.bob)
    town.publish()
    stamps = iter(range(10**9))
    monkeypatch.setattr(Folder, "stamp", lambda self: next(stamps))
    started = time.monotonic()
    assert folder.wait(60)
    assert time.monotonic() - started < 10


def test_it_can_be_woken(town: Published, folder: Folder) -> None:
    town.publish()
    folder.read()
    out, into = os.pipe()
    try:
        os.write(into, b"x")
        started = time.monotonic()
        assert not folder.wait(60, out)
        assert time.monotonic() - started < 10
    finally:
        os.close(out)
        os.close(into)


def test_waiting_costs_nothing(town: Published, folder: Folder) -> None:
    """A second of waiting is far below a hundredth of a second of work: told of changes, or looking ten times."""
    town.publish()
    folder.read()
    before = resource.getrusage(resource.RUSAGE_THREAD)
    assert not folder.wait(1.0)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.03


def test_watches_do_not_pile_up(town: Published) -> None:
    folder = Folder(town.folder)
    assert folder._told is not None
    for _ in range(5):
        town.publish()
        folder.wait(0)
        shutil.rmtree(town.folder)
        folder.wait(0)
    info = Path(f"/proc/self/fdinfo/{folder._told.handle}").read_text()
    assert info.count("inotify wd:") <= 2
    folder.close()


def test_without_inotify_it_looks(town: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_source._Inotify, "made", classmethod(lambda cls: None))
    folder = Folder(town.folder)
    town.publish()
    folder.read()
    assert not folder.wait(0.05)
    town.revoke(town.bob)
    waited(folder, town.publish)
    folder.close()


def test_this_machines_disk_is_not_taken_for_a_remote_one(tmp_path: Path) -> None:
    told = agent_source._Inotify.made()
    assert told is not None
    try:
        assert told.watch(tmp_path)
        assert not told._remote(tmp_path / "nowhere")
    finally:
        told.close()
