"""Pieces of work of one kind, side by side: each step of all of them before the next step of any.

A processor has at hand what it did a moment ago, the code as well as its guesses at branches. Requests that are read, proved, decided, drafted and linted one
after the other find nothing of that left; step by step they take a seventh less.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
#: A piece of work with a `yield` between its steps. What it returns is its result.
Steps: TypeAlias = Generator[None, None, T]


def together(work: Sequence[Steps[T]]) -> list[T]:
    """The result of each, in order. What one raises ends them all: whoever must not spoil it for the others returns his refusal."""
    done: dict[int, T] = {}
    running = list(enumerate(work))
    while running:
        further = []
        for place, one in running:
            try:
                next(one)
            except StopIteration as end:
                done[place] = end.value
            else:
                further.append((place, one))
        running = further
    return [done[place] for place in range(len(work))]


def alone(one: Steps[T]) -> T:
    """The result of one. Raises what it raises."""
    while True:
        try:
            next(one)
        except StopIteration as end:
            result: T = end.value
            return result
