"""A message to a person, as a value."""

from __future__ import annotations

from typing import NamedTuple


class Mail(NamedTuple):
    """Plain text. `to` is an address that was checked when the person was added, or several with commas between them."""

    to: str
    subject: str
    text: str
