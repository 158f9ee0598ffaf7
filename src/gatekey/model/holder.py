"""Whom certificates belong to: people (one certificate per device), devices, services and servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..errors import Refused

KINDS = ("person", "device", "service", "server", "authority")


class Holder(NamedTuple):
    """A holder. `login` is unique and ASCII; `name` is what people call it, in any script; `email` is unique or "". `left_at`: 0 while here."""

    login: str
    kind: str
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    created_at: int = 0
    left_at: int = 0

    @property
    def display(self) -> str:
        return self.name or self.login

    @property
    def alone(self) -> bool:
        """Whether one certificate per device is the rule: for people and machines. A service or a web server may have several."""
        return self.kind in ("person", "device")


def each_once(words: Iterable[str], what: str) -> tuple[str, ...]:
    """Groups, devices and the like as they are kept: each once. Raises Refused for one text where several are meant: its letters are none of them."""
    if isinstance(words, str):
        raise Refused("bad-word", f"{what} is one text, {words!r}, where several words are meant", hint=f"{what}=[{words!r}]", found=words)
    return tuple(dict.fromkeys(words))
