"""Ctrl-C, or an error of the disk, while the release of a certificate commits: its key is thrown away only when it is certain that nothing was issued."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gatekey.errors import Unavailable
from gatekey.keys import material
from gatekey.store.database import Database
from gatekey.store.ledger import Ledger
from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate
from kit.administrator import Administrator, typed

CUT = "release certificates"


def trouble(kind: str) -> BaseException:
    if kind == "Ctrl-C":
        return KeyboardInterrupt()
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    return error


def cut(monkeypatch: pytest.MonkeyPatch, kind: str, *, happened: bool) -> None:
    real = Database._commit

    def commit(self: Database, connection: Any, name: str) -> None:
        if name != CUT or happened:
            real(self, connection, name)
        if name == CUT:
            raise trouble(kind)

    monkeypatch.setattr(Database, "_commit", commit)


@pytest.mark.parametrize("kind", ["Ctrl-C", "the disk"])
@pytest.mark.parametrize("verb", ["issue client ann", "issue server app.example", "renew ann --new-key --out again"])
def test_the_answer_alone_is_lost(admin: Administrator, monkeypatch: pytest.MonkeyPatch, verb: str, kind: str) -> None:
    admin("issue", "client", "ann", "--out", "before", *([] if "renew" in verb else ["--device", "another"]))
    before = {serial for (serial,) in admin.sql("SELECT serial FROM certificate")}
    with monkeypatch.context() as patch:
        cut(patch, kind, happened=True)
        answer = typed("--home", admin.home, *verb.split())
    assert answer.code == (130 if kind == "Ctrl-C" else 4)
    ((serial,),) = [row for row in admin.sql("SELECT serial FROM certificate WHERE state = 'released'") if row[0] not in before]
    assert serial in answer.err
    (hidden,) = [path for path in Path().rglob(".*.new") if path.is_file()]
    assert str(hidden) in answer.err
    (der,) = [der for _, der in pem.decode(admin("show", serial, "--pem").out.encode())]
    assert read_certificate(der).spki == material.load(hidden.read_bytes()).spki


@pytest.mark.parametrize("kind", ["Ctrl-C", "the disk"])
@pytest.mark.parametrize("verb", ["sign mine.csr --profile client", "sign mine.csr --profile client --out -", "renew ann --key mine.key --out again"])
def test_the_answer_about_a_key_of_ones_own_is_lost(admin: Administrator, monkeypatch: pytest.MonkeyPatch, verb: str, kind: str) -> None:
    """The key is where it was; the certificate is named."""
    admin("request", "mine")
    admin("issue", "client", "ann", "--out", "before")
    before = {serial for (serial,) in admin.sql("SELECT serial FROM certificate")}
    with monkeypatch.context() as patch:
        cut(patch, kind, happened=True)
        answer = typed("--home", admin.home, *verb.split())
    assert answer.code == (130 if kind == "Ctrl-C" else 4)
    ((serial,),) = [row for row in admin.sql("SELECT serial FROM certificate WHERE state = 'released'") if row[0] not in before]
    assert f"the certificate {serial} was issued; print it with: gatekey show {serial} --pem" in answer.err
    (der,) = [der for _, der in pem.decode(admin("show", serial, "--pem").out.encode())]
    assert read_certificate(der).spki == material.load(Path("mine.key").read_bytes()).spki


@pytest.mark.parametrize("kind", ["Ctrl-C", "the disk"])
def test_nothing_was_issued(admin: Administrator, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with monkeypatch.context() as patch:
        cut(patch, kind, happened=False)
        answer = typed("--home", admin.home, "issue", "client", "ann", "--out", "ann")
    assert answer.code == (130 if kind == "Ctrl-C" else 4)
    assert admin.sql("SELECT count(*) FROM certificate WHERE holder = 'ann' AND state = 'released'") == [(0,)]
    assert not Path("ann").exists()


@pytest.mark.parametrize("verb", ["issue client ann --out ann", "sign mine.csr --profile client"])
def test_the_ledger_cannot_tell(admin: Administrator, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Then the key is kept as well."""
    asked = 0

    def earlier(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:  # afterwards
            raise Unavailable("store-io", "the disk of the ledger reports an error")

    admin("request", "mine")
    with monkeypatch.context() as patch:
        cut(patch, "the disk", happened=True)
        patch.setattr(Ledger, "earlier", earlier)
        answer = typed("--home", admin.home, *verb.split())
    assert answer.code == 4
    hidden = next(Path().rglob(".*.new"), None)
    more = f"; its private key would be the one in {hidden}" if verb.startswith("issue") else ": gatekey list shows it, if there is one"
    assert f"whether a certificate was issued is not known{more}" in answer.err
