"""Fixtures for every room that needs an authority: one home is founded per process, and each test gets a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gatekey.ports import SystemClock
from kit import administrator
from kit.administrator import Administrator

__all__ = ["admin", "another_home", "flat", "flat_template", "moved_clock", "template"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the two hierarchies, for copying."""
    home = tmp_path_factory.mktemp("template") / "home"
    administrator.found(home)
    return home


@pytest.fixture(scope="session")
def flat_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one CA, for copying."""
    home = tmp_path_factory.mktemp("template") / "flat"
    administrator.found(home, flat=True)
    return home


def _typing(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GATEKEY_DEBUG", "1")  # a fault in Gatekey itself is a traceback here
    return Administrator(administrator.copied(template, tmp_path / "home"), folder)


@pytest.fixture
def admin(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    """Somebody who types in an empty folder, beside a home of her own."""
    return _typing(template, tmp_path, monkeypatch)


@pytest.fixture
def flat(flat_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    """The same with one CA for both sides."""
    return _typing(flat_template, tmp_path, monkeypatch)


@pytest.fixture
def another_home(tmp_path: Path, template: Path) -> Callable[[str], Path]:
    """Further homes, each a copy."""
    return lambda name: administrator.copied(template, tmp_path / name)


@pytest.fixture
def moved_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`moved_clock(seconds)`: for commands in this process it is so much later now (or earlier)."""
    real = SystemClock.now

    def move(seconds: int) -> None:
        monkeypatch.setattr(SystemClock, "now", lambda self: real(self) + seconds)

    return move
