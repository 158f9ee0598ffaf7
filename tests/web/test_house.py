"""A comparison with the ledger and those who hear of it: whoever breaks off is owed, and misses nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gatekey.authority.standing import Changes
from gatekey.errors import Unavailable
from gatekey.web.house import House


class View:
    """Tells what it is told to tell."""

    def __init__(self) -> None:
        self.changes: Changes | None = None

    def refresh(self) -> Changes | None:
        return self.changes


class Follower:
    """Notes what it hears, or breaks off."""

    def __init__(self) -> None:
        self.heard: list[Changes | None] = []
        self.broken = False

    def follow(self, changes: Changes | None) -> None:
        if self.broken:
            raise Unavailable("store-locked", "busy")
        self.heard.append(changes)


def test_who_breaks_off_hears_that_anything_may_have_happened() -> None:
    view, first, second = View(), Follower(), Follower()
    room: Any = None
    parts = ("authority", "published", "ocsp", "decision", "health", "meter", "limits", "seats", "log")
    house = House(standing=view, **dict.fromkeys(parts, room))  # type: ignore[arg-type]  # nobody else is asked
    house.changed += [first.follow, second.follow]
    house.compare()
    some, more = {"certificate.revoke": ["people/5A"]}, {"certificate.release": ["people/5B"]}
    first.broken = True
    for changes in (some, {}, more):
        view.changes = changes
        with pytest.raises(Unavailable):
            house.compare()
    first.broken, view.changes = False, {}
    house.compare()
    house.compare()
    assert first.heard == [None, None, {}], "what it has missed is not told again, but that it has missed something"
    assert second.heard == [None, some, {}, more, {}, {}], "the others heard it at once"
