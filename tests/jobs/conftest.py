"""A clock that is moved by hand, and an authority that goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey import app
from gatekey.authority.authority import Authority
from gatekey.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(tmp_path: Path, clock: FakeClock) -> Iterator[Authority]:
    made = app.create_authority(tmp_path / "home", app.Founding("Kitty CA", unencrypted_keys=True), clock=clock)
    yield made
    made.close()
