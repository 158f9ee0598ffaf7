"""Who was let in last: remembered in memory, written now and then, and never lost to a ledger that is busy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekey import app
from gatekey.authority import clock, issue, requests, revoke, seen
from gatekey.errors import Unavailable
from gatekey.keys import material
from gatekey.model.request import CertificateId
from gatekey.testing import FakeClock, FakeEntropy


@pytest.fixture
def authority(tmp_path: Path) -> Any:
    made = app.create_authority(tmp_path / "home", app.Founding("Kitty CA", unencrypted_keys=True), clock=FakeClock(), entropy=FakeEntropy())
    yield made
    made.close()


def test_written_every_few_seconds_and_the_newest_counts(authority: Any) -> None:
    sights, other = seen.Seen(authority), seen.Seen(authority)
    now = authority.now()
    sights.note("people", "5A", "app.example")
    sights.look()
    assert seen.last(authority, "people", "5A") is None
    authority.clock.move(seconds=seen.EVERY)
    sights.look()
    assert seen.last(authority, "people", "5A") == seen.Sight("people", "5A", now, "app.example")
    sights.note("people", "5A", "other.example")
    authority.clock.move(seconds=3)
    other.note("people", "5A", "third.example")
    other.write()
    sights.write()  # an older sight of another process changes nothing
    assert seen.last(authority, "people", "5A") == seen.Sight("people", "5A", now + seen.EVERY + 3, "third.example")
    assert set(seen.everything(authority)) == {("people", "5A")}


def test_what_could_not_be_written_is_written_later(authority: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sights = seen.Seen(authority)
    for number in range(seen.MOST + 5):
        sights.note("people", f"{number:X}", "app.example")
    with monkeypatch.context() as patch:

        def busy(_: str) -> None:
            raise Unavailable("store-locked", "busy")

        patch.setattr(authority.ledger.db, "transaction", busy)
        with pytest.raises(Unavailable):
            sights.write()
    sights.write()
    assert len(seen.everything(authority)) == seen.MOST + 5


def test_sites_tell_the_revocation_clock_that_they_ask(authority: Any) -> None:
    """By a visitor that is let in after the view has the revocation in it, and not before."""
    first, second = (issued(authority, login) for login in ("ann", "bob"))
    sights = seen.Seen(authority)
    sights.follow(None)
    sights.note("people", "5A", "app.example")
    revoke.revoke(authority, first, "superseded")
    sights.note("people", "5A", "app.example")
    sights.write()
    assert sites(authority, first) == {}, "the view does not have it yet"
    sights.follow(None)
    sights.note("people", "5A", "app.example")
    sights.write()
    assert sites(authority, first) == {}, "it may have been made after the comparison"
    authority.clock.move(seconds=1)
    sights.follow({})
    sights.write()
    assert sites(authority, first) == {}, "nobody has asked since"
    authority.clock.move(seconds=1)
    at = authority.now()
    sights.note("people", "5A", "app.example")
    authority.clock.move(seconds=9)
    sights.note("people", "5A", "app.example")
    sights.note("people", "5A", "")
    sights.write()
    assert sites(authority, first) == {"site app.example": at}, "the first time counts"
    revoke.revoke(authority, second, "superseded")
    told = clock.of(authority, authority.reads.by_holder("bob")[0])
    assert "site app.example" not in told.waiting, "whoever does not ask lets nobody in"
    for number in range(seen.MOST_SITES + 5):
        sights.follow(None)
        sights.note("people", "5A", f"s{number}.example")
    sights.write()
    assert len(sites(authority, second)) == seen.MOST_SITES


def issued(authority: Any, login: str) -> CertificateId:
    request, holder = requests.client(authority, login, material.make("p256").spki)
    return issue.issue(authority, request, holder).id


def sites(authority: Any, which: CertificateId) -> dict[str, int]:
    (record,) = authority.reads.by_serial(which.serial)
    return {tick.place: tick.at for tick in clock.of(authority, record).ticks if tick.place.startswith("site ")}
