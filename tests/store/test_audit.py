"""The audit log: chained, written in the transaction of the change that it tells of, and every tampering is found at its place."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any

import pytest

from gatekey.store import audit
from gatekey.store.audit import ORIGIN, Event
from kit.administrator import Administrator
from kit.scribe import NOW, Scribe


def write(scribe: Scribe, *events: Event) -> None:
    with scribe.db.transaction("test") as tx:
        audit.append(tx, NOW, *events)


def filled(scribe: Scribe) -> None:
    for number in range(1, 8):
        write(scribe, Event("user:root", "test", f"subject {number}", {"number": number, "umlaut": "ä"}))


def test_in_order(scribe: Scribe) -> None:
    write(scribe, Event("a", "one", "x"), Event("b", "two", "y", {"k": [1, "ü", None]}))
    write(scribe, Event("c", "three", "z"))
    events = list(scribe.reads.events())
    assert [(e.number, e.actor, e.action, e.subject) for e in events] == [(1, "a", "one", "x"), (2, "b", "two", "y"), (3, "c", "three", "z")]
    assert events[1].facts == {"k": [1, "ü", None]}
    assert [event.number for event in scribe.reads.events(3)] == [3]
    assert scribe.reads.chain_problem() is None


def test_the_chain_as_the_documentation_tells_it(scribe: Scribe) -> None:
    """Anybody can check it with the log alone: SHA-256 over a JSON list of what went before and what is said."""
    filled(scribe)
    previous = ORIGIN
    for number, at, actor, action, subject, facts, chained in scribe.sql("SELECT number, at, actor, action, subject, facts, hash FROM audit ORDER BY number"):
        line = json.dumps([previous, number, at, actor, action, subject, facts], ensure_ascii=True, separators=(",", ":"))
        previous = hashlib.sha256(line.encode()).hexdigest()
        assert chained == previous


def test_an_empty_log_holds(scribe: Scribe) -> None:
    assert scribe.reads.chain_problem() is None


TAMPERED = {
    "a fact": ("UPDATE audit SET facts = '{}' WHERE number = 4", "audit event 4 or one before it was changed"),
    "who did it": ("UPDATE audit SET actor = 'user:eve' WHERE number = 4", "audit event 4 or one before it was changed"),
    "what was done": ("UPDATE audit SET action = 'nothing' WHERE number = 1", "audit event 1 or one before it was changed"),
    "to whom": ("UPDATE audit SET subject = 'another' WHERE number = 7", "audit event 7 or one before it was changed"),
    "when": ("UPDATE audit SET at = at + 1 WHERE number = 2", "audit event 2 or one before it was changed"),
    "the hash": ("UPDATE audit SET hash = 'ff' WHERE number = 3", "audit event 3 or one before it was changed"),
    "one taken out": ("DELETE FROM audit WHERE number = 5", "audit event 5 is missing"),
    "the first taken out": ("DELETE FROM audit WHERE number = 1", "audit event 1 is missing"),
    "renumbered": ("UPDATE audit SET number = number + 100 WHERE number = 7", "audit event 7 is missing"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_is_found_at_its_place(scribe: Scribe, what: str) -> None:
    filled(scribe)
    statement, said = TAMPERED[what]
    scribe.sql(statement)
    assert scribe.reads.chain_problem() == said


def test_one_taken_out_and_the_rest_moved_up(scribe: Scribe) -> None:
    filled(scribe)
    scribe.sql("DELETE FROM audit WHERE number = 3")
    for number in range(4, 8):
        scribe.sql("UPDATE audit SET number = :less WHERE number = :number", less=number - 1, number=number)
    assert scribe.reads.chain_problem() == "audit event 3 or one before it was changed"


def test_a_change_and_its_event_are_one(scribe: Scribe) -> None:
    """If the event cannot be written, the change did not happen."""
    which = scribe.issue("ann")
    before = scribe.sql("SELECT * FROM certificate")
    scribe.sql("DROP TABLE audit")
    with pytest.raises(Exception, match="audit"):
        scribe.revoke(which)
    assert scribe.sql("SELECT * FROM certificate") == before
    assert scribe.sql("SELECT * FROM revocation_log") == []


#: What an administrator does -> what the log then says.
DEEDS: dict[str, tuple[list[str], list[str]]] = {
    "issue": (["issue", "client", "bob"], ["holder.add", "certificate.record", "certificate.release"]),
    "revoke": (["revoke", "ann"], ["certificate.revoke", "crl.record"]),
    "hold": (["hold", "ann"], ["certificate.hold", "crl.record"]),
    "leave": (["leave", "ann", "--yes"], ["holder.leave", "certificate.revoke", "crl.record"]),
    "compromise": (["revoke", "ann", "--reason", "key-compromise"], ["key.compromised", "certificate.revoke", "crl.record"]),
    "people add": (["people", "add", "gus"], ["holder.add"]),
    "people set": (["people", "set", "ann", "--group", "staff"], ["holder.change"]),
    "crl": (["crl"], ["crl.record"]),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_every_deed_stands_in_the_log(admin: Administrator, deed: str) -> None:
    admin("issue", "client", "ann", "--out", "ann")
    before = admin.sql("SELECT max(number) FROM audit")[0][0]
    words, actions = DEEDS[deed]
    admin(*words)
    said = [action for (action,) in admin.sql("SELECT action FROM audit WHERE number > ? ORDER BY number", before)]
    assert said[: len(actions)] == actions
    assert {actor for (actor,) in admin.sql("SELECT actor FROM audit WHERE number > ?", before)} == {f"user:{_me()}"}


def _me() -> str:
    import os
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def test_no_secret_stands_in_the_log(admin: Administrator) -> None:
    answer = admin("issue", "client", "ann", "--email", "ann@example.com")
    password = answer.err.split("password of ann.p12:  ")[1].split()[0]
    told = json.dumps(admin.sql("SELECT * FROM audit"))
    assert password not in told
    assert "PRIVATE" not in told


def test_the_log_survives_a_dump_and_a_load(scribe: Scribe, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is over values, not over how SQLite keeps them."""
    filled(scribe)
    scribe.db.close()
    with sqlite3.connect(scribe.path) as old, sqlite3.connect(tmp_path / "new.db") as new:
        new.executescript("\n".join(old.iterdump()))
    for connection in (old, new):
        connection.close()
    again = Scribe(tmp_path / "new.db")
    assert again.reads.chain_problem() is None
    again.db.close()


def test_concurrent_writers_keep_one_chain(scribe: Scribe) -> None:
    import threading

    def work() -> None:
        mine = scribe.another()
        for _ in range(10):
            write(mine, Event("x", "y", "z"))
        mine.db.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scribe.sql("SELECT count(*), max(number) FROM audit") == [(40, 40)]
    assert scribe.reads.chain_problem() is None


