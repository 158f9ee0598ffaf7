"""Whom certificates belong to: people (one certificate per device), devices, services and servers."""

from __future__ import annotations

from typing import NamedTuple

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
