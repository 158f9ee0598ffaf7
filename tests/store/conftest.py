"""Every test here may have a ledger with two authorities and no certificate, or a home of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.store import schema
from gatekey.store.database import Database
from gatekey.store.dialect import SQLite
from kit.homes import admin, another_home, flat, flat_template, moved_clock, template
from kit.scribe import NOW, Scribe

__all__ = ["admin", "another_home", "flat", "flat_template", "moved_clock", "template"]


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    db = Database(SQLite(path))
    schema.create(db)
    with db.transaction("test") as tx:
        for position, name in enumerate(("people", "servers")):
            tx.insert("authority", {"name": name, "role": "issuing", "side": name, "parent": "root", "position": position, "serial": "00", "created_at": NOW})
    db.close()
    return path.read_bytes()


@pytest.fixture
def scribe(empty_ledger: bytes, tmp_path: Path) -> Iterator[Scribe]:
    """An empty ledger."""
    path = tmp_path / "ledger.db"
    path.write_bytes(empty_ledger)
    found = Scribe(path)
    yield found
    found.db.close()
