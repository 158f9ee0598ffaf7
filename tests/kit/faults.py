"""Writes that fail: every one of them by name, before it happened or after, and what the disk holds at the instant of a kill.

    with watching() as seen: admin("issue", "client", "ann")              # which writes there were, in order
    with watching(Fault(3, happened=True)): typed(...)                    # the fourth happens, and its answer is lost
    with watching(snapshots=(root, into)) as seen: ...                    # a copy of `root` before and after each write
    heal(root)                                                            # what the next verb does; then everything that was promised is looked at

A write is named by what it does and where it is asked for: `release certificates` in the ledger, `cli/deliver.py hand_over put` on the disk.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatekey import app, config, files
from gatekey.authority.authority import Authority
from gatekey.authority.check import findings
from gatekey.authority.reconcile import catch_up, reconcile
from gatekey.errors import GatekeyError
from gatekey.ports import SystemClock
from gatekey.store.admission import LEASE
from gatekey.store.database import Database
from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate
from gatekey.x509.crl import read_crl
from gatekey.x509.sniff import sniff
from kit.administrator import PASSPHRASE

SRC = Path(files.__file__).parent
#: What `files` offers to the other rooms for writing; `Staged.commit` is the second half of `stage`.
FILE_WRITES = ("create", "replace", "put", "stage", "folder", "switch", "commit")
_ASKED = {f"files.{name}" for name in FILE_WRITES if name != "commit"} | {"staged.commit"}


class Fault(NamedTuple):
    """The write number `at` fails. `happened`: it is on disk, and only the answer is lost."""

    at: int
    happened: bool


class Seen(NamedTuple):
    """A write that was asked for. `before` and `after`: copies of the disk at those instants, where they were wanted."""

    name: str
    before: Path | None = None
    after: Path | None = None


class _Watch:
    def __init__(self, fault: Fault | None, snapshots: tuple[Path, Path] | None) -> None:
        self.seen: list[Seen] = []
        self.failed = False
        self._fault = fault
        self._snapshots = snapshots

    def write(self, name: str, act: Callable[[], Any], trouble: Exception) -> Any:
        number = len(self.seen)
        self.seen.append(Seen(name))
        before = self._copy(f"{number}-before")
        if self._fault and self._fault.at == number:
            self.failed = True
            if self._fault.happened:
                act()
            raise trouble
        done = act()
        self.seen[number] = Seen(name, before, self._copy(f"{number}-after"))
        return done

    def _copy(self, name: str) -> Path | None:
        if self._snapshots is None:
            return None
        root, into = self._snapshots
        return Path(shutil.copytree(root, into / name, symlinks=True))


@contextlib.contextmanager
def watching(fault: Fault | None = None, snapshots: tuple[Path, Path] | None = None) -> Iterator[_Watch]:
    """Sees every named write of this process, and makes one of them fail."""
    watch = _Watch(fault, snapshots)
    commit = Database._commit

    def committing(self: Database, connection: Any, name: str) -> None:
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorname = "SQLITE_FULL"
        watch.write(name, lambda: commit(self, connection, name), full)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_commit", committing)
        for name in FILE_WRITES:
            owner = files.Staged if name == "commit" else files
            patch.setattr(owner, name, _watched(watch, name, getattr(owner, name)))
        yield watch


def _watched(watch: _Watch, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **more: Any) -> Any:
        caller = sys._getframe(1)
        if caller.f_code.co_filename == files.__file__:
            return real(*args, **more)  # one write asks for another: it has its name already
        place = Path(caller.f_code.co_filename).relative_to(SRC).as_posix()
        trouble = files.explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), args[0] if isinstance(args[0], Path) else "")
        return watch.write(f"{place} {caller.f_code.co_qualname} {name}", lambda: real(*args, **more), trouble)

    return call


def writes_in_source() -> tuple[dict[str, str], set[str]]:
    """Every named write as it stands in the source: transactions by name with their place, and writes of `files` by call site."""
    transactions: dict[str, str] = {}
    calls: set[str] = set()
    for path in sorted(SRC.rglob("*.py")):
        for scope, node in _calls(ast.parse(path.read_text(encoding="utf-8")), ()):
            place = f"{path.relative_to(SRC).as_posix()} {'.'.join(scope)}"
            if isinstance(node.func, ast.Attribute) and node.func.attr == "transaction":
                name = ast.literal_eval(node.args[0])
                assert name not in transactions, f"{place}: there is a write called {name!r} already, in {transactions[name]}"
                transactions[name] = place
            elif ast.unparse(node.func) in _ASKED and path != SRC / "files.py":
                calls.add(f"{place} {ast.unparse(node.func).split('.')[1]}")
    return transactions, calls


def _calls(tree: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.Call]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            nested = (*scope, "<locals>") if scope and isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) else scope
            yield from _calls(node, (*nested, node.name))
        else:
            if isinstance(node, ast.Call):
                yield scope, node
            yield from _calls(node, scope)


class Later:
    """A clock that is ahead of the real one by so many seconds."""

    def __init__(self, seconds: int = LEASE + 1) -> None:
        self._seconds = seconds

    def now(self) -> int:
        return SystemClock().now() + self._seconds


@contextlib.contextmanager
def opened(home: Path, *, seconds: int = 0) -> Iterator[Authority]:
    authority = app.open_authority(config.load(home), clock=Later(seconds), passphrase=PASSPHRASE.encode)
    try:
        yield authority
    finally:
        authority.close()


def heal(home: Path) -> None:
    """What the next verb does once the leases are over; after it everything that was ever promised holds."""
    with opened(home, seconds=LEASE + 1) as authority:
        reconcile(authority)
        assert catch_up(authority).owed == []
        assert findings(authority) == []
        _revocations_are_told(authority)


def _revocations_are_told(authority: Authority) -> None:
    """Whatever the ledger has taken away stands in the newest CRL and in the published folder."""
    now = authority.now()
    for record in authority.records():
        taken = {serial for _, serial in authority.reads.revoked((record.name,), now)}
        newest = authority.ledger.newest_crl(record.name)
        assert newest is not None
        listed = {entry.serial for entry in read_crl(newest[1]).entries()}
        assert taken <= listed, f"{taken - listed} stand in no CRL of {record.name}"
    if authority.config.publish:
        folder = authority.config.publish
        told = json.loads((folder / "manifest.json").read_bytes())
        assert told["number"] == authority.reads.revocation_number()
        names = tuple(record.name for record in authority.side("people"))
        denied = {line.partition("%20")[0] for line in (folder / "revoked.lst").read_text().splitlines() if not line.startswith("#")}
        assert denied == {serial for _, serial in authority.reads.revoked(names, now)}
        assert [entry.name for entry in folder.iterdir() if entry.name.startswith((".new-", ".link-"))] == []


def known(home: Path, *places: Path) -> list[str]:
    """Certificates in the files of these folders that the ledger does not know as released, and files that are not whole."""
    found = []
    with opened(home) as authority:
        ours = {record.fingerprint for record in authority.reads.certificates("c.state = 'released'")}
        for path in sorted(path for place in places for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")):
            if path.suffix not in (".crt", ".pem"):
                continue
            for label, der in pem.decode(path.read_bytes()):
                if label == "CERTIFICATE" and read_certificate(der).fingerprint not in ours:
                    found.append(f"{path.name} holds a certificate that the ledger does not know")
    return found


def torn(*places: Path) -> list[str]:
    """Visible files that are not whole: what they hold cannot be read as what it is."""
    found = []
    for path in sorted(path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()):
        hidden = any(part.startswith(".") for part in path.relative_to(path.anchor).parts[-2:])
        if not hidden and path.suffix in (".crt", ".key", ".csr", ".p12", ".pem", ".crl"):
            try:
                sniff(path.read_bytes())
            except GatekeyError as problem:
                found.append(f"{path}: {problem}")
    return found
