"""Transactions with a name, what the engine's errors mean to a person, and ledgers of other versions."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from gatekey.errors import GatekeyError, Misconfigured, Unavailable
from gatekey.store import schema
from gatekey.store.database import Database
from gatekey.store.dialect import SQLite
from kit.scribe import Scribe


def test_all_or_nothing(scribe: Scribe) -> None:
    with pytest.raises(ZeroDivisionError), scribe.db.transaction("test") as tx:
        tx.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')")
        _ = 1 / 0
    assert scribe.sql("SELECT * FROM compromised_key") == []
    with scribe.db.transaction("test") as tx:
        assert tx.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')") == 1
    assert scribe.sql("SELECT spki_sha256 FROM compromised_key") == [("k",)]


def test_a_part_is_committed_with_the_whole_or_undone_with_it(scribe: Scribe) -> None:
    def both(*, fails: bool) -> None:
        with scribe.db.transaction("test") as tx:
            with scribe.db.transaction("part", joins=True) as part:
                part.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')")
            scribe.db.afterwards(lambda: seen.append(len(scribe.sql("SELECT * FROM compromised_key"))))
            assert tx.one("SELECT 1 FROM compromised_key") == (1,)
            with scribe.another().db.read() as other:
                assert other.one("SELECT 1 FROM compromised_key") is None  # nobody else sees the half of it
            _ = 1 / 0 if fails else 0

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        both(fails=True)
    assert (seen, scribe.sql("SELECT * FROM compromised_key")) == ([], [])
    both(fails=False)
    assert seen == [1]
    scribe.db.afterwards(lambda: seen.append(2))
    assert seen == [1, 2]


def test_what_must_be_durable_by_itself_stands_in_no_other_transaction(scribe: Scribe) -> None:
    with pytest.raises(RuntimeError, match="'record certificates' is to be durable by itself"), scribe.db.transaction("test"):  # noqa: SIM117  one inside the other
        with scribe.db.transaction("record certificates"):
            raise AssertionError
    with scribe.db.transaction("test", joins=True) as tx:
        assert tx.one("SELECT count(*) FROM compromised_key") == (0,)


def test_ctrl_c_inside_is_a_rollback(scribe: Scribe) -> None:
    with pytest.raises(KeyboardInterrupt), scribe.db.transaction("test") as tx:
        tx.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')")
        raise KeyboardInterrupt
    assert scribe.sql("SELECT * FROM compromised_key") == []


def test_a_writer_sees_what_it_decides_on(scribe: Scribe) -> None:
    """A transaction holds the write lock from its beginning: what it read stays true until it commits."""
    other = scribe.another()
    other.db.dialect.patience = 0.05
    with scribe.db.transaction("test") as tx:
        assert tx.one("SELECT count(*) FROM compromised_key") == (0,)
        with pytest.raises(Unavailable) as raised, other.db.transaction("test"):
            pass
        assert raised.value.code == "store-locked"
        assert raised.value.exit_code == 4
    other.db.close()


def test_reading_does_not_wait(scribe: Scribe) -> None:
    other = scribe.another()
    other.db.dialect.patience = 0.05
    with scribe.db.transaction("test") as tx:
        tx.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')")
        assert other.reads.compromised("k") == set()
    assert other.reads.compromised("k") == {"k"}
    other.db.close()


def test_a_connection_for_each_thread(scribe: Scribe) -> None:
    seen: list[object] = []

    def look() -> None:
        scribe.reads.compromised("k")
        seen.append(scribe.db.connection())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len({id(connection) for connection in seen}) == 3
    scribe.db.close()
    assert scribe.reads.compromised("k") == set()  # opens again


def test_commits_are_durable(scribe: Scribe) -> None:
    """WAL with synchronous FULL or EXTRA: a commit is on the disk before it is promised (https://sqlite.org/pragma.html#pragma_synchronous)."""
    connection = scribe.db.connection()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone()[0] >= 2
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_the_file_is_private_from_the_start(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        db = Database(SQLite(tmp_path / "ledger.db"))
        schema.create(db)
        with db.transaction("test") as tx:
            tx.run("INSERT INTO compromised_key VALUES ('k', 1, 'x')")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        db.close()
    finally:
        os.umask(before)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def test_a_ledger_is_never_made_over_another(scribe: Scribe) -> None:
    with pytest.raises(GatekeyError):
        schema.create(Database(SQLite(scribe.path)))
    assert scribe.sql("SELECT max(step) FROM schema_step") == [(len(schema.STEPS),)]


class TestWhatTheEngineSays:
    def test_no_ledger(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured) as raised:
            Scribe(tmp_path / "none.db").reads.compromised("k")
        assert raised.value.code == "no-ledger"

    @pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 2000])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.db").write_bytes(content)
        with pytest.raises(Misconfigured) as raised:
            Scribe(tmp_path / "bad.db").reads.compromised("k")
        assert raised.value.code == "store-damaged"
        assert "restore the last backup" in raised.value.hint

    def test_a_page_that_is_damaged(self, scribe: Scribe) -> None:
        for number in range(200):
            scribe.sql("INSERT INTO compromised_key VALUES (:k, 1, :long)", k=f"{number:064}", long="x" * 500)
        scribe.db.close()
        assert scribe.reads.engine_problems() == []
        scribe.db.close()
        data = bytearray(scribe.path.read_bytes())
        page = 4096
        for start in range(len(data) // page // 2 * page, len(data), page):
            data[start : start + 100] = bytes(100)
        scribe.path.write_bytes(data)
        assert scribe.reads.engine_problems() != []

    @pytest.mark.parametrize(
        ("name", "text", "code"),
        [
            ("SQLITE_BUSY", "database is locked", "store-locked"),
            ("SQLITE_BUSY_SNAPSHOT", "database is locked", "store-locked"),
            ("SQLITE_LOCKED", "database table is locked", "store-locked"),
            ("SQLITE_FULL", "database or disk is full", "disk-full"),
            ("SQLITE_READONLY", "attempt to write a readonly database", "store-readonly"),
            ("SQLITE_CANTOPEN", "unable to open database file", "store-readonly"),
            ("SQLITE_NOTADB", "file is not a database", "store-damaged"),
            ("SQLITE_CORRUPT", "database disk image is malformed", "store-damaged"),
            ("SQLITE_IOERR_FSYNC", "disk I/O error", "store-io"),
            ("SQLITE_ERROR", "no such table: x", "store-error"),
        ],
    )
    def test_each_error_in_words(self, tmp_path: Path, name: str, text: str, code: str) -> None:
        error = sqlite3.OperationalError(text)
        error.sqlite_errorname = name
        told = SQLite(tmp_path / "ledger.db").explain(error)
        assert told.code == code
        assert str(tmp_path / "ledger.db") in told.message
        assert isinstance(told, Unavailable if code in ("store-locked", "disk-full", "store-io") else Misconfigured)


class TestVersions:
    def test_a_newer_ledger_is_left_alone(self, scribe: Scribe) -> None:
        scribe.sql("INSERT INTO schema_step VALUES (:step)", step=len(schema.STEPS) + 1)
        with pytest.raises(Misconfigured) as raised:
            schema.upgrade(scribe.db)
        assert raised.value.code == "store-newer"

    @pytest.mark.parametrize("step", range(1, len(schema.STEPS) + 1))
    def test_every_older_ledger_is_brought_up(self, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch, scribe: Scribe) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "STEPS", schema.STEPS[:step])
            db = Database(SQLite(tmp_path / "old.db"))
            schema.create(db)
        schema.upgrade(db)
        with db.read() as tx:
            shape = tx.all("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        assert shape == scribe.sql("SELECT type, name, sql FROM sqlite_master ORDER BY name")
        schema.upgrade(db)
        db.close()

    def test_steps_are_taken_once_by_whoever_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "STEPS", schema.STEPS[:1])
            schema.create(Database(SQLite(tmp_path / "old.db")))
        wrong: list[BaseException] = []

        def upgrade() -> None:
            db = Database(SQLite(tmp_path / "old.db"))
            try:
                schema.upgrade(db)
            except BaseException as error:  # noqa: BLE001
                wrong.append(error)
            finally:
                db.close()

        threads = [threading.Thread(target=upgrade) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        db = Database(SQLite(tmp_path / "old.db"))
        with db.read() as tx:
            assert tx.all("SELECT step FROM schema_step ORDER BY step") == [(n,) for n in range(1, len(schema.STEPS) + 1)]
        db.close()
