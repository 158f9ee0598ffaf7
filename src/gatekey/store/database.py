"""A connection per thread, and transactions with a name. Which engine it is, only `dialect.py` knows."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from .dialect import SQLite

Row = tuple[Any, ...]


#: Values in one question of `Transaction.among`.
_TOGETHER = 128


@functools.cache
def _insertion(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"  # noqa: S608  names from our own source


@functools.cache
def _listed(sql: str, size: int) -> str:
    """`sql` with `size` marks in place of its `{}` or `{lower}`."""
    marks = [f":v{place}" for place in range(size)]
    return sql.format(", ".join(marks), lower=", ".join(f"lower({mark})" for mark in marks))


class Transaction:
    """What a query needs: one open transaction (or, for reading, one connection)."""

    __slots__ = ("_connection", "_dialect")

    def __init__(self, dialect: SQLite, connection: Any) -> None:
        self._dialect = dialect
        self._connection = connection

    def run(self, sql: str, **values: Any) -> int:
        """Executes; answers with the number of rows that were changed."""
        return int(self._dialect.execute(self._connection, sql, values).rowcount)

    def run_each(self, sql: str, rows: Sequence[dict[str, Any]]) -> int:
        """The same statement for each row; answers with the number of rows that were changed in all."""
        return self._dialect.execute_many(self._connection, sql, rows)

    def one(self, sql: str, **values: Any) -> Row | None:
        row: Row | None = self._dialect.execute(self._connection, sql, values).fetchone()
        return row

    def all(self, sql: str, **values: Any) -> list[Row]:
        return list(self._dialect.execute(self._connection, sql, values).fetchall())

    def each(self, sql: str, **values: Any) -> Iterator[Row]:
        """Rows one by one, for results that may be large."""
        yield from self._dialect.execute(self._connection, sql, values)

    def among(self, sql: str, values: Sequence[Any], **more: Any) -> list[Row]:
        """Rows of a question about many values at once. `sql` has `{}` where the list goes: `login IN ({})`, `lower(login) IN ({lower})` to fold each."""
        found: list[Row] = []
        for start in range(0, len(values), _TOGETHER):
            some = values[start : start + _TOGETHER]
            size = 1 << (len(some) - 1).bit_length()  # few forms of one question, so that the engine keeps them all: the last value fills up the list
            named = {f"v{place}": some[min(place, len(some) - 1)] for place in range(size)}
            found += self._dialect.execute(self._connection, _listed(sql, size), {**named, **more}).fetchall()
        return found

    def insert(self, table: str, *rows: dict[str, Any]) -> None:
        """Rows with the same columns. Table and columns are names from our own source, never words from outside."""
        if rows:
            columns = tuple(rows[0])  # by place: with two dozen names to look up, SQLite's module takes half as long again
            self._dialect.execute_many(self._connection, _insertion(table, columns), [tuple(map(row.__getitem__, columns)) for row in rows])


class Reading:
    """What `Database.read` gives to `with`. A class, since it is entered a thousand times a second and a generator costs twice as much."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Transaction:
        database = self._database
        try:
            return Transaction(database.dialect, database.connection())
        except database.dialect.errors as error:
            raise database.dialect.explain(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._database.dialect.errors):
            raise self._database.dialect.explain(error) from error


class Database:
    """The door to the ledger's file or server."""

    def __init__(self, dialect: SQLite) -> None:
        self.dialect = dialect
        self._local = threading.local()
        self._open: list[Any] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def connection(self) -> Any:
        """The one of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self.dialect.connect()
            self._local.connection = connection
            with self._lock:
                self._open.append(connection)
        return connection

    def create(self) -> None:
        """An empty ledger. Raises Misconfigured when the place cannot be written."""
        self.dialect.create()
        try:
            self.dialect.prepare(self.connection())
        except self.dialect.errors as error:
            raise self.dialect.explain(error) from error

    @contextmanager
    def transaction(self, name: str, *, joins: bool = False) -> Iterator[Transaction]:
        """All or nothing. `name` says which write this is: the fault tests list every one of them.

        `joins`: inside another transaction of this thread it is a part of that one, and committed or undone with it. What must be durable before something
        else happens, such as a record before its signature, never joins.
        Raises Unavailable (locked, full) or Misconfigured (read-only, damaged); then nothing was changed.
        """
        around: Transaction | None = getattr(self._local, "around", None)
        if around is not None:
            if not joins:
                raise RuntimeError(f"{name!r} is to be durable by itself, and stands inside another transaction")
            yield around
            return
        later: list[Callable[[], object]] = []
        self._local.later = later
        with self._alone(name) as tx:
            self._local.around = tx
            try:
                yield tx
            finally:
                self._local.around = None
        for do in later:
            do()

    def afterwards(self, do: Callable[[], object]) -> None:
        """Does what may only be seen once it stands in the ledger: at once, or after the commit of the transaction in which this thread is."""
        if getattr(self._local, "around", None) is None:
            do()
        else:
            self._local.later.append(do)

    @contextmanager
    def _alone(self, name: str) -> Iterator[Transaction]:
        dialect = self.dialect
        # Threads of one process take turns here, where waiting costs nothing; only processes have to wait for each other at the engine.
        if not self._turn.acquire(timeout=dialect.patience):
            raise dialect.busy()
        try:
            try:
                connection = self.connection()
                dialect.begin(connection)
            except dialect.errors as error:
                raise dialect.explain(error) from error
            try:
                yield Transaction(dialect, connection)
                self._commit(connection, name)
            except dialect.errors as error:
                dialect.rollback(connection)
                raise dialect.explain(error) from error
            except BaseException:
                dialect.rollback(connection)
                raise
        finally:
            self._turn.release()

    def _commit(self, connection: Any, name: str) -> None:  # noqa: ARG002  the fault tests override this and go by the name
        self.dialect.commit(connection)

    def read(self) -> Reading:
        """For queries that change nothing."""
        return Reading(self)

    @contextmanager
    def snapshot(self, *, tolerant: bool = False) -> Iterator[Transaction]:
        """Everything that this thread reads inside is one state of the ledger, whatever others write meanwhile. Nothing may be written inside.

        `tolerant`: text that is not UTF-8 comes as `Damaged`.
        """
        dialect = self.dialect
        connection = self.connection()
        try:
            dialect.begin_reading(connection)
            with dialect.tolerant(connection) if tolerant else nullcontext():
                yield Transaction(dialect, connection)
        except dialect.errors as error:
            raise dialect.explain(error) from error
        finally:
            dialect.rollback(connection)

    def problems(self) -> list[str]:
        """What the engine finds wrong with its own storage; empty when it is whole."""
        try:
            return self.dialect.whole(self.connection())
        except self.dialect.errors as error:
            return [str(error)]

    def close(self) -> None:
        """Closes the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()
