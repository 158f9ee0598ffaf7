"""A ledger without cryptography: to-be-signed bytes and signatures are words, so that what is tested is the ledger alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from gatekey.lifecycle import Draft, Recorded, Released, Signed
from gatekey.model.holder import Holder
from gatekey.model.request import CertificateId
from gatekey.store.database import Database
from gatekey.store.dialect import SQLite
from gatekey.store.ledger import Ledger
from gatekey.store.reads import Reads

NOW = 1_795_000_000
DAY = 86_400


class Scribe:
    """A ledger, and somebody who writes into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = Database(SQLite(path))
        self.ledger = Ledger(self.db, assemble)
        self.reads = Reads(self.db)
        self._numbers = itertools.count(1)

    def draft(self, login: str = "ann", **more: Any) -> tuple[Draft, Holder]:
        """A draft of a certificate for `login`, and its holder. `more`: columns, and issuer, serial, kind, groups and email."""
        number = next(self._numbers)
        serial = more.pop("serial", f"{number:032X}")
        issuer = more.pop("issuer", "people")
        holder = Holder(login, more.pop("kind", "person"), email=more.pop("email", ""), groups=more.pop("groups", ()))
        row: dict[str, object] = {
            "profile": "client", "profile_sha256": "0" * 64, "holder": login, "device": "", "common_name": login, "alternatives": json.dumps([]),
            "not_before": NOW - 3600, "not_after": NOW + 365 * DAY, "spki_sha256": f"{number:064x}", "key_type": "p256", "lineage": f"{issuer}/{serial}",
            "renews": "", "requester": "user:root", "door": "cli", "idempotency": None, "request_sha256": "1" * 64,
        }  # fmt: skip
        assert set(more) <= set(row)
        return Draft("certificate", issuer, serial, f"tbs {serial}".encode(), {**row, **more}), holder

    def record(self, login: str = "ann", *, owner: str = "me", now: int = NOW, alone: bool = False, **more: Any) -> Recorded:
        return self.ledger.record(*self.draft(login, **more), owner=owner, now=now, alone=alone)

    def release(self, recorded: Recorded, *, now: int = NOW) -> Released:
        return self.ledger.release(Signed(recorded, b"signature"), now=now)

    def issue(self, login: str = "ann", *, now: int = NOW, **more: Any) -> CertificateId:
        return self.release(self.record(login, now=now, **more), now=now).id

    def revoke(self, which: CertificateId, reason: str = "unspecified", *, at: int = NOW) -> list[str]:
        return [one.id.serial for one in self.ledger.revoke(which, reason, at=at, actor="user:root", entry=entry)]

    def abandon(self, *, now: int) -> list[CertificateId]:
        return self.ledger.abandon(now=now, entry=entry, actor="user:root")

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.db.transaction("test") as tx:
            if statement.startswith("SELECT"):
                return tx.all(statement, **values)
            tx.run(statement, **values)
            return []

    def state(self, which: CertificateId | Recorded) -> str:
        number = which.draft.number if isinstance(which, Recorded) else which.serial
        return str(self.sql("SELECT state FROM certificate WHERE serial = :serial", serial=number)[0][0])

    def actions(self) -> list[str]:
        return [event.action for event in self.reads.events()]

    def another(self) -> Scribe:
        """The same ledger, seen by another process."""
        return Scribe(self.path)


def assemble(tbs: bytes, signature: bytes) -> bytes:
    return tbs + b" / " + signature


def entry(serial: str, at: int, reason: str | None) -> bytes:
    return f"{serial} {at} {reason}".encode()
