"""How bytes reach a disk: files made with their final mode, durable before a function returns, never overwriting, folders switched as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .errors import Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Unavailable

PRIVATE, PUBLIC = 0o600, 0o644
#: Largest file that is read into memory when a person names it.
MAX_INPUT = 128 * 1024 * 1024


def explain(error: OSError, path: Path | str) -> GatekeyError:
    """What an error of the file system means to a person."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Unavailable("disk-full", f"no room is left for {path}; nothing was changed", hint="make room and try again", path=str(path))
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


def read(path: Path, limit: int = MAX_INPUT) -> bytes:
    """The whole file. Raises NotFound, Malformed (a folder, too large) or Misconfigured (not allowed)."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise explain(error, path) from error
    if len(data) > limit:
        raise Malformed("too-large", f"{path} is larger than the {limit // 1024} KiB that are read here", path=str(path))
    return data


def absent(paths: Iterable[Path], *, force: bool = False) -> None:
    """Refuses if any of these files exists, or cannot be made; with `force` only a folder. Asked before anything is recorded; `create` makes sure once more."""
    for path in paths:
        try:
            found = os.lstat(path)
            wrong = errno.EEXIST if not force else errno.EISDIR if stat.S_ISDIR(found.st_mode) else 0
            if wrong:
                raise OSError(wrong, os.strerror(wrong))
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
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    except OSError as error:
        raise explain(error, path) from error


def _make_folder(path: Path) -> list[Path]:
    """Makes a folder and those above it, as the umask says, durable; answers with those that were not there, the deepest first."""
    if os.path.lexists(path):
        return []
    above = _make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    _sync_folder(path.parent)
    return [path, *above]


def create(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """A new file with its final mode, on disk before this returns; never overwrites. After a crash there is either nothing or a whole file.

    Raises Conflict when it exists, otherwise what `explain` says.
    """
    _placed(path, data, mode, force=False)


def replace(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """A file that is new or takes the place of an old one, as a whole: readers see one or the other."""
    _placed(path, data, mode, force=True)


def _placed(path: Path, data: bytes, mode: int, *, force: bool) -> None:
    staged = stage(path, data, mode)
    try:
        staged.commit(force=force)
    finally:
        staged.discard()


class Staged:
    """A file that is durable under a hidden name beside its place, until it is known whether it may stand there."""

    def __init__(self, path: Path, temporary: Path, made: list[Path]) -> None:
        self._path = path
        self._temporary = temporary
        self._made = made

    def commit(self, *, force: bool = False) -> None:
        """Brings it to its place. Raises Conflict when something stands there and `force` is not said."""
        try:
            if force:
                os.replace(self._temporary, self._path)
            else:
                os.link(self._temporary, self._path)
                os.unlink(self._temporary)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise explain(error, self._path) from error

    def discard(self) -> None:
        """Takes it away again, and folders that were made for it if nothing is in them. Harmless after `commit`."""
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)
        with contextlib.suppress(OSError):
            for folder in self._made:
                os.rmdir(folder)


def stage(path: Path, data: bytes, mode: int = PUBLIC) -> Staged:
    """Writes a file durably under a hidden name in the folder of `path`, which is made if it is missing. Raises what `explain` says."""
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.new")
    made: list[Path] = []
    try:
        made = _make_folder(path.parent)
        _write(temporary, data, mode)
    except OSError as error:
        Staged(path, temporary, made).discard()
        raise explain(error, path) from error
    return Staged(path, temporary, made)


def put(path: Path, data: bytes, mode: int = PUBLIC, *, force: bool = False) -> None:
    """`replace` with force, `create` without."""
    (replace if force else create)(path, data, mode)


def folder(path: Path, mode: int = 0o700) -> None:
    """A new folder with its final mode."""
    try:
        os.mkdir(path, mode)
        os.chmod(path, mode)
        _sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error


def switch(out: Path, contents: dict[str, bytes], name: str, mode: int = PUBLIC) -> bool:
    """Puts a set of files into the folder `out` and switches to it as a whole; says whether anything changed.

    `out/FILE` is a link to `.current/FILE`, and `.current` a link to the folder `.set-NAME`: one rename of `.current` switches every file at once, and
    other files in `out` stay as they are. A reader that holds an old file keeps it; the set before the last is removed.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if _same(out, contents):
            return False
        fresh = out / f".set-{name}"
        number = 0
        while fresh.exists():
            number += 1
            fresh = out / f".set-{name}-{number}"
        _fill(fresh, contents, mode)
        before = os.readlink(out / ".current") if (out / ".current").is_symlink() else ""
        _link(out, ".current", fresh.name)
        for file in contents:
            if not (out / file).is_symlink():
                _link(out, file, f".current/{file}")
        _sync_folder(out)
        _sweep(out, keep={fresh.name, before}, files=set(contents))
    except OSError as error:
        raise explain(error, out) from error
    return True


def _same(out: Path, contents: dict[str, bytes]) -> bool:
    try:
        return all((out / file).read_bytes() == data for file, data in contents.items())
    except OSError:
        return False


def _fill(fresh: Path, contents: dict[str, bytes], mode: int) -> None:
    building = fresh.with_name(f".new-{os.getpid()}{fresh.name}")
    building.mkdir(mode=0o755)
    for file, data in contents.items():
        _write(building / file, data, mode)
    _sync_folder(building)
    os.rename(building, fresh)


def _link(out: Path, name: str, target: str) -> None:
    temporary = out / f".link-{os.getpid()}-{name.lstrip('.')}"
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    os.symlink(target, temporary)
    os.replace(temporary, out / name)


def _sweep(out: Path, keep: set[str], files: set[str]) -> None:
    """Old sets and links to files that are no longer part of the set. Failing here harms nobody."""
    import shutil

    for entry in out.iterdir():
        if entry.is_symlink() and os.readlink(entry).startswith(".current/") and entry.name not in files:
            entry.unlink()
        elif entry.name.startswith(".set-") and entry.name not in keep:
            shutil.rmtree(entry, ignore_errors=True)


def _write(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), mode)
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


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
