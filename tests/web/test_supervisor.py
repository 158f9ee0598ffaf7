"""What the supervisor opens: a Unix socket takes the place of a dead one and of nothing else, and whatever is in the way is told with what to type."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.errors import Misconfigured
from gatekey.web import supervisor

Stale = Callable[[int], None]


@pytest.fixture
def place() -> Iterator[Path]:
    """A path that is short enough for the kernel."""
    with tempfile.TemporaryDirectory(prefix="gk-") as folder:
        yield Path(folder) / "proxy.sock"


def refused(place: Path) -> Misconfigured:
    before = sorted(place.parent.iterdir()) if place.parent.is_dir() else []
    with pytest.raises(Misconfigured) as raised:
        supervisor.bind(f"unix:{place}")
    assert raised.value.code == "listen"
    assert raised.value.hint
    assert (sorted(place.parent.iterdir()) if place.parent.is_dir() else []) == before, "nothing is left behind"
    return raised.value


def test_a_socket_says_where_it_listens(place: Path) -> None:
    with contextlib.closing(supervisor.bind(f"unix:{place}", 0o600)) as sock:
        assert supervisor.address(sock) == f"unix:{place}"
        assert place.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
    for listen in ("127.0.0.1:0", "[::1]:0"):
        with contextlib.closing(supervisor.bind(listen)) as sock:
            assert supervisor.address(sock) == f"{listen.removesuffix('0')}{sock.getsockname()[1]}"


def test_the_longest_path_that_gatekey_toml_takes_can_be_bound(place: Path) -> None:
    long = place.parent / ("s" * (99 - len(str(place.parent)) - 1))
    supervisor.bind(f"unix:{long}").close()


def test_a_socket_on_which_nobody_listens_is_replaced(place: Path) -> None:
    supervisor.bind(f"unix:{place}").close()
    assert place.is_socket()
    with contextlib.closing(supervisor.bind(f"unix:{place}")), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_one_on_which_somebody_listens_is_not(place: Path, kind: int) -> None:
    """Of whatever kind: a datagram socket is no socket of ours, and is somebody's."""
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(place))
        if kind != socket.SOCK_DGRAM:
            other.listen(1)
        assert refused(place).message == f"somebody listens on {place} already"


def test_one_whose_queue_is_full_is_somebodys_and_keeps_nobody_waiting(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as stack:
        other.bind(str(place))
        other.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(place))
        assert "somebody listens" in refused(place).message


def test_a_file_is_never_replaced(place: Path) -> None:
    place.write_text("mine")
    error = refused(place)
    assert error.message == f"{place} is a file, not a socket; it was not touched"
    assert error.hint == "move it away, or name another path in gatekey.toml"
    assert place.read_text() == "mine"


def test_nor_a_folder_a_link_or_a_pipe(place: Path) -> None:
    place.mkdir()
    assert f"{place} is a folder" in refused(place).message
    place.rmdir()
    os.mkfifo(place)
    assert f"{place} is something else" in refused(place).message
    place.unlink()
    dead = place.with_name("dead.sock")
    supervisor.bind(f"unix:{dead}").close()
    for target in (dead, "nowhere"):
        place.symlink_to(target)
        assert f"{place} is a link, not a socket" in refused(place).message
        assert place.is_symlink()
        place.unlink()


def test_a_folder_that_is_missing_is_named_with_the_line_that_makes_it(place: Path) -> None:
    missing = place.parent / "run of it" / "gatekey"
    error = refused(missing / "proxy.sock")
    assert error.message == f"{missing}/proxy.sock cannot be listened on: {missing} is not there"
    assert re.fullmatch(rf"install -d -m 0750 -o \S+ -g \S+ '{missing}'", error.hint)
    place.write_text("a file")
    assert f"{place} is no folder" in refused(place / "proxy.sock").message


def test_a_folder_that_may_not_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so the kernel's answer stands in for the folder."""

    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidden)
    error = refused(place)
    assert error.message.endswith(f"may not write into {place.parent}")
    assert "install -d -m 0750 -o " in error.hint
    with pytest.raises(Misconfigured, match="cannot be listened on: Permission denied") as raised:
        supervisor.bind("127.0.0.1:80")
    assert "ports below 1024" in raised.value.hint
