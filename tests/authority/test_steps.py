"""Work that goes through its steps side by side."""

from __future__ import annotations

import pytest

from gatekey.authority.steps import Steps, alone, together
from gatekey.errors import Refused


def work(name: str, steps: int, said: list[str]) -> Steps[str]:
    for step in range(steps):
        said.append(f"{name}{step}")
        yield
    said.append(f"{name}!")
    return name.upper()


def refusing() -> Steps[str]:
    yield
    raise Refused("no", "no")


def test_each_step_of_all_comes_before_the_next_step_of_any() -> None:
    said: list[str] = []
    assert together([work("a", 2, said), work("b", 0, said), work("c", 1, said)]) == ["A", "B", "C"]
    assert said == ["a0", "b!", "c0", "a1", "c!", "a!"]
    assert together([]) == []


def test_alone_it_is_the_same() -> None:
    said: list[str] = []
    assert alone(work("a", 3, said)) == "A"
    assert said == ["a0", "a1", "a2", "a!"]
    with pytest.raises(Refused, match="no"):
        alone(refusing())


def test_what_one_raises_ends_all_of_them() -> None:
    with pytest.raises(Refused, match="no"):
        together([work("a", 3, []), refusing()])
