"""How bytes reach a disk: files made with their final mode, durable before a function returns, never overwriting, folders switched as a whole.

Who is killed leaves a hidden file or folder beside the place at most (`.NAME.PID.new`, `.new-...`), never a part of a file under its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from .errors import Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Unavailable

PRIVATE, PUBLIC = 0o600, 0o644
#: Largest file that is read into memory when a person names it.
MAX_INPUT = 128 * 1024 * 1024
#: How often a folder is made again that others take away under our hands.
_TRIES = 5


def explain(error: OSError, path: Path | str) -> GatekeyError:
    """What an error of the file system means to a person."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return Unavailable("disk-full", f"no room is left for {path}", hint="make room and try again", path=str(path))
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return Misconfigured(
                "unwritable", f"{path} cannot be written or read: {error.strerror}", hint="mend the permissions or choose another place", path=str(path)
            )
        case errno.ENOENT:
            return NotFound("no-file", f"there is no {path}", path=str(path))
        case errno.EISDIR:
            return Malformed("not-a-file", f"{path} is a folder, not a file", path=str(path))
        case errno.ENOTDIR:
            return Malformed("not-a-folder", f"{path} is not a folder", path=str(path))
        case errno.EEXIST | errno.ENOTEMPTY:
            return Conflict("file-exists", f"{path} exists already", hint="choose another --out, move the file away, or say --force", path=str(path))
        case errno.ENAMETOOLONG:
            return Malformed("name-too-long", f"{str(path)[:60]}... is a longer name than this disk takes", path=str(path))
        case _:
            return Unavailable("disk-error", f"{path}: {error.strerror or error}", path=str(path))


def _explain_making(error: OSError, path: Path) -> GatekeyError:
    """The same where something is to be made: `there is no such file` is then what file systems say that take nothing new, such as /proc."""
    if error.errno == errno.ENOENT:
        return Misconfigured("unwritable", f"{path} cannot be made: its folder takes nothing new", hint="choose another place", path=str(path))
    return explain(error, path)


def read(path: Path, limit: int = MAX_INPUT) -> bytes:
    """The whole file. Raises NotFound, Malformed (a folder, too large) or Misconfigured (not allowed)."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except ValueError as error:  # a NUL, which no name on a disk has
        raise NotFound("no-file", f"there is no {str(path)!r}", path=str(path)) from error
    except OSError as error:
        raise explain(error, path) from error
    if len(data) > limit:
        raise Malformed("too-large", f"{path} is larger than the {limit // 1024} KiB that are read here", path=str(path))
    return data


def special(path: Path) -> bool:
    """Whether a device, a pipe or a socket stands there, at the end of all links: /dev/null, /dev/stdout. Such are written to, never replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def absent(paths: Iterable[Path], *, force: bool = False) -> None:
    """Refuses if any of these exists, or cannot be made; with `force` only a folder or a device. Asked before anything is recorded; `create` asks once more."""
    for path in paths:
        try:
            found = os.lstat(path)
            wrong = errno.EEXIST if not force else errno.EISDIR if stat.S_ISDIR(found.st_mode) else 0
            if wrong:
                raise OSError(wrong, os.strerror(wrong))
            _no_device(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise explain(error, path) from error


def writable_folder(path: Path) -> None:
    """Refuses a folder in which nothing can be made; a missing one must have a place to be made in. Changes nothing; asked before anything is recorded."""
    try:
        missing: list[str] = []
        while not os.path.lexists(path):
            if path.name == "..":
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            missing.append(path.name)
            path = path.parent
        for name in missing:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path / name)  # a name that is too long is found out here
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise explain(error, path) from error


def folders(path: Path) -> list[Path]:
    """Makes a folder and those above it, durable, as the umask says, and for others never to write into: answers with those that were not there, the deepest
    first. Raises OSError.
    """
    if os.path.lexists(path):
        return []
    made = folders(path.parent)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)
            made = [path, *made]
        sync_folder(path.parent)
    except OSError:
        _unmake(made)
        raise
    return made


def create(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """A new file with its final mode, on disk before this returns; never overwrites. After a crash there is either nothing or a whole file.

    Raises Conflict when it exists, otherwise what `explain` says.
    """
    _placed(path, data, mode, force=False)


def replace(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """A file that is new or takes the place of an old one, as a whole: readers see one or the other. A device or a pipe is written to."""
    if not special(path):
        _placed(path, data, mode, force=True)
        return
    try:
        with path.open("wb", buffering=0) as stream:
            stream.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise explain(error, path) from error


def _no_device(path: Path) -> None:
    if special(path):
        raise Malformed("not-a-file", f"{path} is no ordinary file", path=str(path))


def _placed(path: Path, data: bytes, mode: int, *, force: bool) -> None:
    staged = stage(path, data, mode)
    try:
        staged.commit(force=force)
    finally:
        staged.discard()


class Staged:
    """A file that is durable under a hidden name beside its place, until it is known whether it may stand there. `place`: where it is now."""

    def __init__(self, path: Path, temporary: Path, made: list[Path]) -> None:
        self.place = temporary
        self._path = path
        self._temporary = temporary
        self._made = made

    def commit(self, *, force: bool = False) -> None:
        """Brings it to its place. Raises Conflict when something stands there and `force` is not said."""
        try:
            if force:
                _no_device(self._path)
                os.replace(self._temporary, self._path)
            else:
                self._take_name()
            self.place = self._path
            sync_folder(self._path.parent)
        except OSError as error:
            raise explain(error, self._path) from error

    def _take_name(self) -> None:
        try:
            os.link(self._temporary, self._path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # FAT and its kin (USB sticks) have no links: the name is taken by an empty file, and the whole one put over it.
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
            try:
                os.replace(self._temporary, self._path)
            except BaseException:
                os.unlink(self._path)
                raise
        else:
            os.unlink(self._temporary)

    def discard(self) -> None:
        """Takes it away again, and folders that were made for it if nothing is in them. Harmless after `commit`: the hidden name may be another's by then."""
        if self.place != self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
        _unmake(self._made)


def stage(path: Path, data: bytes, mode: int = PUBLIC) -> Staged:
    """Writes a file durably under a hidden name in the folder of `path`, which is made if it is missing. Raises what `explain` says."""
    made: list[Path] = []
    try:
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):  # another process had made the folder, was refused, and took it away again
                made += folders(path.parent)
                return Staged(path, _hidden(path, data, mode), made)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    except OSError as error:
        _unmake(made)
        raise _explain_making(error, path) from error


def _hidden(path: Path, data: bytes, mode: int) -> Path:
    """A durable file under a name that nobody has. What a killed process left stays: it may be the only copy of a key, and in containers all have one PID."""
    number = 0
    while True:
        temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}{f'-{number}' if number else ''}.new")
        try:
            _write(temporary, data, mode)
        except FileExistsError:
            number += 1
        else:
            return temporary


def _unmake(made: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for place in made:
            os.rmdir(place)


def put(path: Path, data: bytes, mode: int = PUBLIC, *, force: bool = False) -> None:
    """`replace` with force, `create` without."""
    (replace if force else create)(path, data, mode)


def folder(path: Path, mode: int = 0o700) -> None:
    """A new folder with its final mode."""
    try:
        os.mkdir(path, mode)
        os.chmod(path, mode)
        sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Keeps every other process that asks for the same folder waiting; the lock goes with the process. The folder is made if it is missing.

    Raises what `explain` says.
    """
    import fcntl

    try:
        folders(place)
        handle = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), PRIVATE)
    except OSError as error:
        raise _explain_making(error, place) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def switch(out: Path, contents: dict[str, bytes], name: str, mode: int = PUBLIC, *, over: Collection[str] = ()) -> bool:
    """Puts a set of files into the folder `out` and switches to it as a whole; says whether anything changed.

    Whatever else stands there under one of these names, a file or a link to elsewhere, is refused with Conflict, unless its name is among `over`.

    `out/FILE` is a link to `.current/FILE`, and `.current` a link to the folder `.set-NAME`: one rename of `.current` switches every file at once, and
    other files in `out` stay as they are. A reader that holds an old file keeps it; the set before the last is removed. The caller holds `alone`.
    """
    try:
        folders(out)
        _refuse_foreign(out, contents, over)
        if _same(out, contents):
            return False
        fresh = out / f".set-{name}"
        number = 0
        while fresh.exists():
            number += 1
            fresh = out / f".set-{name}-{number}"
        _fill(fresh, contents, mode)
        sync_folder(out)  # the set before the link to it: after a power cut a reader must not find a link to nothing
        before = os.readlink(out / ".current") if (out / ".current").is_symlink() else ""
        _link(out, ".current", fresh.name)
        for file in contents:
            if not _leads(out, file):
                _link(out, file, f".current/{file}")
        sync_folder(out)
        _sweep(out, keep={fresh.name, before}, files=set(contents))
    except OSError as error:
        raise explain(error, out) from error
    return True


def _leads(out: Path, file: str) -> bool:
    """Whether our own link stands there: of a file into the set that is in force, or `.current` itself."""
    try:
        target = os.readlink(out / file)
    except OSError:
        return False
    return target == f".current/{file}" if file != ".current" else target.startswith(".set-") and "/" not in target


def _refuse_foreign(out: Path, names: Iterable[str], over: Collection[str]) -> None:
    """Refuses to take the place of what others have made. Raises Conflict."""
    for name in (".current", *names):
        place = out / name
        if name in over or not os.path.lexists(place) or _leads(out, name):
            continue
        what = f"a link to {os.readlink(place)}" if place.is_symlink() else "a folder" if place.is_dir() else "a file of its own"
        raise Conflict(
            "file-exists", f"{place} is {what}, not a link of ours; it was not touched", hint="move it away, or choose another folder", path=str(place)
        )


def _same(out: Path, contents: dict[str, bytes]) -> bool:
    try:
        return all((out / file).read_bytes() == data for file, data in contents.items())
    except OSError:
        return False


def _fill(fresh: Path, contents: dict[str, bytes], mode: int) -> None:
    building = fresh.with_name(f".new-{fresh.name}")
    _clear(building)
    try:
        building.mkdir()
        os.chmod(building, 0o755)  # noqa: S103  whatever the umask: web servers read it
        for file, data in contents.items():
            _write(building / file, data, mode)
        sync_folder(building)
        os.rename(building, fresh)
    except BaseException:
        _clear(building)  # on a full disk what is half there only takes room
        raise


def _link(out: Path, name: str, target: str) -> None:
    temporary = out / f".link-{name.lstrip('.')}"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    os.symlink(target, temporary)
    os.replace(temporary, out / name)


def _sweep(out: Path, keep: set[str], files: set[str]) -> None:
    """Old sets, what killed runs left, and links to files that are no longer part of the set. Failing here harms nobody."""
    for entry in out.iterdir():
        if entry.is_symlink():
            stale = entry.name.startswith(".link-") or (os.readlink(entry).startswith(".current/") and entry.name not in files)
        else:
            stale = entry.name.startswith((".set-", ".new-.set-")) and entry.name not in keep
        if stale:
            _clear(entry)


def _clear(entry: Path) -> None:
    """Takes a link or a folder away, if it is there. Silent on purpose: what stays is swept by the next switch."""
    import shutil

    with contextlib.suppress(OSError):
        os.unlink(entry) if entry.is_symlink() else shutil.rmtree(entry)


def _write(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(handle, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
