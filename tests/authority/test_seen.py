"""Who was let in last: remembered in memory, written now and then, and never lost to a ledger that is busy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekey import app
from gatekey.authority import seen
from gatekey.errors import Unavailable
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
