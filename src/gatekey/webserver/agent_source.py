"""Where published bundles come from. A folder on this machine, or mounted here: read so that all files are of one set, and watched without work.

Linux tells of changes (inotify); on network file systems, where it does not, and on other systems the folder is looked at every 100 ms.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ..errors import Malformed, Unavailable
from .agent_bundle import MOST_MANIFEST, read_manifest
from .agent_server import MANIFEST

#: Seconds: how often a folder is looked at where nobody tells of changes; how often all the same where somebody should; how long a burst is gathered, and
#: after which silence it counts as over.
POLL = 0.1
SAFETY = 1.0
BURST, SILENCE = 0.05, 0.01


class Source(Protocol):
    """Where bundles come from."""

    @property
    def place(self) -> str:
        """Its name, for people."""
        ...

    def read(self, have: bytes = b"") -> dict[str, bytes] | None:
        """Every file of the bundle that is published now, or None while its manifest is `have`.

        Raises Unavailable("bundle-missing") where there is none or it cannot be reached, Malformed("bundle-damaged") where it is not whole.
        """
        ...

    def wait(self, seconds: float, wake: int = -1) -> bool:
        """True as soon as there may be another bundle than at the last `read`; False after `seconds`, or when the file descriptor `wake` can be read."""
        ...

    def took_over(self, number: int, at: int) -> None:
        """Hears that the web server refuses everything up to this revocation number since `at` (POSIX seconds). Never waits."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class Folder:
    """A folder as `files.switch` keeps it (files behind the link `.current`), or with the files as such. It may be missing for a while."""

    def __init__(self, path: Path, *, watched: bool = True) -> None:
        self._path = path
        self._seen: object = None
        self._told = _Inotify.made() if watched else None

    @property
    def place(self) -> str:
        return str(self._path)

    def read(self, have: bytes = b"") -> dict[str, bytes] | None:
        self._seen = self.stamp()
        try:
            folder = self._open()
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            manifest = _file(folder, MANIFEST, MOST_MANIFEST)
            if manifest == have:
                return None
            return {MANIFEST: manifest, **{name: _file(folder, name, size) for name, (_, size) in read_manifest(manifest).files.items()}}
        except FileNotFoundError as error:
            if error.filename == MANIFEST:
                raise self._unreachable(error) from error
            raise Malformed("bundle-damaged", f"{MANIFEST} lists {error.filename}, which is not there", hint="publish the bundle again, as a whole") from error
        except OSError as error:
            raise self._unreachable(error) from error
        finally:
            os.close(folder)

    def wait(self, seconds: float, wake: int = -1) -> bool:
        end = time.monotonic() + seconds
        while True:
            # First told of what comes, then a look: so nothing falls in between.
            told = self._told is not None and self._told.watch(self._path)
            if self.stamp() != self._seen:
                self._gather()
                return True
            left = end - time.monotonic()
            if left <= 0 or self._pause(min(left, SAFETY if told else POLL), wake):
                return False

    def took_over(self, number: int, at: int) -> None:
        """Nobody is there to tell."""

    def close(self) -> None:
        if self._told:
            self._told.close()

    def stamp(self) -> object:
        """Something that changes with the set of files; also why there is none."""
        try:
            link = os.readlink(self._path / ".current")
        except OSError:
            link = ""
        try:
            folder = os.stat(self._path / link)
            manifest = os.stat(self._path / link / MANIFEST)
        except OSError as error:
            return error.errno
        return link, folder.st_dev, folder.st_ino, folder.st_mtime_ns, manifest.st_ino, manifest.st_size, manifest.st_mtime_ns

    def _open(self) -> int:
        """The folder in which the files of one set lie: behind `.current`, so that a switch in the middle of reading changes nothing."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(self._path / ".current", flags)
        except FileNotFoundError:
            if os.path.islink(self._path / ".current"):
                raise  # the set is still on its way
            return os.open(self._path, flags)

    def _unreachable(self, error: OSError) -> Unavailable:
        if error.errno == errno.ENOENT:
            message = f"no bundle is published in {self._path}" if self._path.exists() else f"there is no {self._path}"
        else:
            message = f"{self._path} cannot be read: {error.strerror or error}"
        hint = "the authority writes there with publish in its gatekey.toml, or with gatekey bundle --out DIR; is it mounted?"
        return Unavailable("bundle-missing", message, hint=hint, path=str(self._path))

    def _pause(self, seconds: float, wake: int) -> bool:
        """Waits for news of the folder; True when it was `wake` that can be read."""
        poll = select.poll()
        for handle in (wake, self._told.handle if self._told else -1):
            if handle >= 0:
                poll.register(handle, select.POLLIN)
        ready = {handle for handle, _ in poll.poll(max(seconds, 0.001) * 1000)}
        if self._told and self._told.handle in ready:
            self._told.drain()
        return wake in ready

    def _gather(self) -> None:
        """A burst of changes is one change: until nothing moves, but not for long."""
        end, last = time.monotonic() + BURST, self.stamp()
        while time.monotonic() < end:
            time.sleep(SILENCE)
            now = self.stamp()
            if now == last:
                return
            last = now


def _file(folder: int, name: str, limit: int) -> bytes:
    """One file of the folder, which must be a file: not a link, which could lead anywhere, nor a pipe, which would never end."""
    strange = Malformed("bundle-damaged", f"{name} is no ordinary file", hint="publish the bundle again, as a whole: gatekey bundle --out DIR")
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise strange from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise strange
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit + 1)
    finally:
        os.close(handle)


#: inotify(7).
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF, _ONLYDIR = 0x8, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800, 0x01000000
_WITHIN = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_ABOVE = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR

#: statfs(2): file systems on which others change files without the kernel here being told (NFS, SMB, FUSE, 9p, AFS, Ceph, Coda, Lustre, GFS2, OCFS2).
_REMOTE = frozenset(
    (0x6969, 0x517B, 0xFE534D42, 0xFF534D42, 0x65735546, 0x01021997, 0x5346414F, 0x00C36400, 0x73757245, 0x0BD00BD0, 0x01161970, 0x7461636F)
)


class _Inotify:
    """The kernel's word that something has changed in a folder, or in the one above it, where the folder itself may come and go."""

    def __init__(self, libc: Any, handle: int) -> None:
        self._libc = libc
        self.handle = handle
        self._watches: set[int] = set()

    @classmethod
    def made(cls) -> _Inotify | None:
        """None where there is no inotify, or no more of it."""
        if not sys.platform.startswith("linux"):
            return None
        import ctypes

        try:
            libc = ctypes.CDLL(None, use_errno=True)
            handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return None
        return cls(libc, handle) if handle >= 0 else None

    def watch(self, path: Path) -> bool:
        """Watches `path` and what is above it, as they stand now; says whether that is enough to learn of every change."""
        watches = {watch for place, mask in _places(path) if (watch := self._libc.inotify_add_watch(self.handle, os.fsencode(place), mask)) >= 0}
        for gone in self._watches - watches:
            self._libc.inotify_rm_watch(self.handle, gone)  # of a folder that was moved away; harmless for one that was deleted
        self._watches = watches
        return bool(watches) and not self._remote(path)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.handle, 65536):
                pass

    def close(self) -> None:
        os.close(self.handle)

    def _remote(self, path: Path) -> bool:
        import ctypes

        room = ctypes.create_string_buffer(512)
        if self._libc.statfs(os.fsencode(path), room):
            return False  # missing: the folder above tells when it comes
        return (ctypes.c_long.from_buffer(room).value & 0xFFFFFFFF) in _REMOTE


def _places(path: Path) -> Iterator[tuple[Path, int]]:
    yield path, _WITHIN
    above = path.parent
    while not above.is_dir() and above != above.parent:
        above = above.parent
    yield above, _ABOVE
