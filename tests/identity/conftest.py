"""A house with two people in it, for every test of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.house import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
