"""How many cases Hypothesis draws for what is slow: a part of what the profile says, so that `brief` and `deep` count there too."""

from __future__ import annotations

from hypothesis import settings


def cases(of_hundred: int) -> settings:
    """A decorator: so many cases where another test has a hundred."""
    return settings(max_examples=max(1, settings().max_examples * of_hundred // 100))
