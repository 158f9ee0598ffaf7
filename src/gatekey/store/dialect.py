"""Everything in which SQLite differs from other databases: connecting, types, placeholders, and what its errors mean. Nothing else knows the engine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .. import files
from ..errors import GatekeyError, Misconfigured, Unavailable

#: A disk with less room than this has none: the smallest thing that SQLite must write beside a ledger is 32 KiB (bytes).
_ROOM = 64 * 1024
#: What SQLite says when bytes are refused to the ledger or to the files beside it: a disk, a quota or a limit is used up.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN")
#: Codes of what `explain` and `connect` say about the ledger itself: whoever asks next would hear the same, whatever he asks for.
TROUBLE = ("no-ledger", "store-locked", "store-readonly", "store-damaged", "store-io", "disk-full")
#: How long a writer sleeps before it tries the lock again: at first, and at most (seconds).
_PAUSES = 0.0005, 0.004


class Damaged(str):
    """Text of a cell that is not UTF-8, with each wrong byte written in hex."""

    __slots__ = ()


def _readable(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Damaged(data.decode(errors="backslashreplace"))


class SQLite:
    """The ledger in one file: WAL, every commit on disk before it is promised."""

    name = "sqlite"
    #: How long a writer waits for another before it says "try again" (seconds).
    patience = 10.0
    #: Words in `schema.py` that engines spell differently.
    types: ClassVar[dict[str, str]] = {"blob": "BLOB", "bigint": "INTEGER"}

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Makes the empty file with its final mode, 0600. SQLite gives its -wal and -shm files the same."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise files.explain(error, self.path) from error

    def connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            # Its keys can issue nothing that anybody could take away again without it.
            lost = (self.path.parent / "keys").exists()
            hint = "the rest of the home is there: bring ledger.db back from a backup of it" if lost else "gatekey init NAME"
            raise Misconfigured("no-ledger", f"there is no ledger at {self.path}", hint=hint, path=str(self.path))
        connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None, check_same_thread=False)
        try:
            # FULL, and more where a ledger came back from a backup without its WAL mode: the removal of a rollback journal is made durable too.
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA foreign_keys=ON")
            # 16 MB of log before its pages are brought home, four times the default: pages of indexes that are hit again and again go there once.
            connection.execute("PRAGMA wal_autocheckpoint=4000")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Once in the life of a ledger: write-ahead logging, which stays."""
        connection.execute("PRAGMA journal_mode=WAL")

    def begin(self, connection: sqlite3.Connection) -> None:
        """A transaction that already holds the write lock, so that what it reads stays true until it commits.

        SQLite's own waiting sleeps longer and longer, up to a tenth of a second, while the lock is long free again: with several processes that write, most
        of the time would pass asleep.
        """
        deadline, pause = time.monotonic() + self.patience, _PAUSES[0]
        connection.execute("PRAGMA busy_timeout=0")
        try:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as busy:
                    # Also SQLITE_BUSY_RECOVERY: somebody was killed, and another process is putting the WAL in order.
                    if not busy.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, _PAUSES[1])
        finally:
            connection.execute(f"PRAGMA busy_timeout={int(self.patience * 1000)}")

    def begin_reading(self, connection: sqlite3.Connection) -> None:
        """From the first question on, one state of the ledger. Stops nobody who writes."""
        connection.execute("BEGIN")

    @contextlib.contextmanager
    def tolerant(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Text that is not UTF-8 is read as well as it can be, and is told apart."""
        connection.text_factory = _readable
        try:
            yield
        finally:
            connection.text_factory = str

    def commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")

    def rollback(self, connection: sqlite3.Connection) -> None:
        """Silent on purpose: what made us roll back is the error that must be heard."""
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def execute(self, connection: sqlite3.Connection, sql: str, values: dict[str, Any]) -> sqlite3.Cursor:
        return connection.execute(sql, values)

    def execute_many(self, connection: sqlite3.Connection, sql: str, rows: Sequence[dict[str, Any] | tuple[Any, ...]]) -> int:
        """The same statement for each row; answers with the number of rows that were changed."""
        return int(connection.executemany(sql, rows).rowcount)

    def whole(self, connection: sqlite3.Connection) -> list[str]:
        """What the engine itself finds wrong with the file."""
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    errors = (sqlite3.Error,)

    def busy(self) -> Unavailable:
        """Somebody else has been writing for longer than anybody waits."""
        return Unavailable("store-locked", f"another process holds the ledger {self.path}", hint="try again in a moment", path=str(self.path))

    def explain(self, error: Exception) -> GatekeyError:
        """What an error of the engine means to a person."""
        text = str(error)
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "locked" in text:
            return self.busy()
        if name in _FULL or (name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and self._no_room()):
            return Unavailable("disk-full", f"no room is left on the disk of {self.path} to write this", hint="make room and try again", path=str(self.path))
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or "readonly" in text or "unable to open" in text:
            return Misconfigured(
                "store-readonly",
                f"the ledger {self.path} or its folder cannot be written",
                hint="run as the user who owns it, or mend the permissions",
                path=str(self.path),
            )
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return Misconfigured(
                "store-damaged",
                f"the ledger {self.path} is damaged: {text}",
                hint="stop, keep a copy of the file, and restore the last backup",
                path=str(self.path),
            )
        if name.startswith("SQLITE_IOERR"):
            return Unavailable(
                "store-io", f"the disk of the ledger {self.path} reports an error: {text} ({name})", hint="check the disk and try again", path=str(self.path)
            )
        return Misconfigured("store-error", f"the ledger {self.path} answers: {text}", hint="gatekey store check", path=str(self.path))

    def _no_room(self) -> bool:
        """SQLite says CANTOPEN or IOERR when its -wal or -shm file does not fit; only the disk itself knows why."""
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < _ROOM or (disk.f_files > 0 and disk.f_favail == 0)
