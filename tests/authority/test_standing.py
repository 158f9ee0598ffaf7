"""The view of who may enter follows the audit log: what it reads at once and what it reads bit by bit is the same, and it says what has happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.authority import clock
from gatekey.authority.standing import Standing
from gatekey.model.holder import Holder
from gatekey.store import people, schema
from gatekey.testing import FakeClock
from kit.scribe import NOW, Scribe, entry


@pytest.fixture
def scribe(tmp_path: Path) -> Iterator[Scribe]:
    made = Scribe(tmp_path / "ledger.db")
    schema.create(made.db)
    yield made
    made.db.close()


def view(scribe: Scribe) -> Standing:
    return Standing(scribe.reads, FakeClock(NOW), {"CN=people": "people"}, {})


def leave(scribe: Scribe, login: str) -> None:
    scribe.ledger.leave(login, at=NOW, actor="user:root", entry=entry)


def test_a_revocation_among_a_thousand_issuances_is_felt_at_the_next_comparison(scribe: Scribe) -> None:
    ann = scribe.issue("ann")
    standing = view(scribe)
    assert standing.refresh() is None, "at first there is nothing to compare with"
    assert standing.decide("CN=people", ann.serial).allowed
    some = [scribe.issue(f"p{number}") for number in range(500)]
    scribe.revoke(ann)
    some += [scribe.issue(f"q{number}") for number in range(500)]
    changes = standing.refresh()
    assert changes == {"certificate.release": [f"people/{one.serial}" for one in some], "certificate.revoke": [f"people/{ann.serial}"]}
    assert not standing.decide("CN=people", ann.serial).allowed
    assert all(standing.decide("CN=people", one.serial).allowed for one in some)
    assert standing.refresh() == {}


def test_what_is_of_no_interest_is_read_once(scribe: Scribe) -> None:
    standing = view(scribe)
    standing.refresh()
    with scribe.db.transaction("test") as tx:
        for number in range(100):
            people.add(tx, Holder(f"p{number}", "person"), "user:root", NOW)
    scribe.record("ann")
    assert standing.refresh() == {}
    assert standing.event == scribe.reads.newest_event() == 102


def test_every_move_tells_of_its_number(scribe: Scribe) -> None:
    """Whoever waits for a new revocation number need not ask for it while none of these happens."""
    ann, bob = scribe.issue("ann"), scribe.issue("bob")
    scribe.record("carl")
    standing = view(scribe)
    standing.refresh()
    number = scribe.reads.revocation_number()
    for move in (
        lambda: scribe.revoke(ann, "certificate-hold"),
        lambda: scribe.ledger.unhold(ann, at=NOW, actor="user:root"),
        lambda: scribe.revoke(ann, "key-compromise"),
        lambda: leave(scribe, "bob"),
        lambda: scribe.abandon(now=NOW + 3600),
        lambda: scribe.issue("dora"),
    ):
        move()
        before, number = number, scribe.reads.revocation_number()
        assert clock.moves(standing.refresh()) == (number > before)
    assert number == 5
    assert not standing.decide("CN=people", bob.serial).allowed


def test_a_view_that_follows_knows_what_one_that_begins_knows(scribe: Scribe) -> None:
    """Whatever happens, in whatever order, with as many comparisons in between as there happen to be."""
    dice = random.Random(7)
    follows = view(scribe)
    follows.refresh()
    groups = ("staff", "staff team", "a-z", "Z")
    live, count = [], 0
    for _ in range(300):
        match dice.choice(("issue", "issue", "server", "draft", "revoke", "hold", "unhold", "groups", "leave", "compare")):
            case "issue":
                live.append((scribe.issue(f"p{count // 2}", groups=tuple(dice.sample(groups, dice.randrange(4)))), f"p{count // 2}"))
                count += 1
            case "server":
                scribe.issue(f"s{count}", kind="server", issuer="servers")
            case "draft":
                scribe.record(f"d{count}")
            case "revoke" if live:
                scribe.revoke(live.pop(dice.randrange(len(live)))[0])
            case "hold" if live:
                held = dice.choice(live)[0]
                scribe.revoke(held, "certificate-hold")
                if dice.random() < 0.5:
                    follows.refresh()
                scribe.ledger.unhold(held, at=NOW, actor="user:root")
            case "groups" if live:
                known = scribe.reads.holder(dice.choice(live)[1])
                assert known
                with scribe.db.transaction("test") as tx:
                    people.change(tx, known, known._replace(groups=tuple(dice.sample(groups, 2)), email=f"{known.login}@x.example"), "user:root", NOW)
            case "leave" if live and dice.random() < 0.2:
                login = live[-1][1]
                leave(scribe, login)
                live = [one for one in live if one[1] != login]
                count += 2
            case "compare":
                follows.refresh()
    follows.refresh()
    begins = view(scribe)
    begins.refresh()
    assert len(begins) > 20
    assert follows._known == begins._known
    assert any(len(one.groups) == 2 and list(one.groups) == sorted(one.groups) for one in follows._known.values())
