"""A message to a person, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Mail(NamedTuple):
    """Plain text. `to` is one address that was checked when the person was added."""

    to: str
    subject: str
    text: str
