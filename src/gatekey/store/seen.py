"""When each certificate was last let in, and where: one row for each, overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .database import Transaction


class Sight(NamedTuple):
    """A certificate that was let in: issuer (short name), serial, when (POSIX seconds) and into which site."""

    issuer: str
    serial: str
    at: int
    site: str


def note(tx: Transaction, sights: Iterable[Sight]) -> None:
    """Takes these over; what another process has noted of a later time stays."""
    for sight in sights:
        tx.run(
            "INSERT INTO seen (issuer, serial, at, site) VALUES (:issuer, :serial, :at, :site)"
            " ON CONFLICT (issuer, serial) DO UPDATE SET at = excluded.at, site = excluded.site WHERE excluded.at >= seen.at",
            **sight._asdict(),
        )


def of(tx: Transaction, issuer: str, serial: str) -> Sight | None:
    """The last sight of one certificate."""
    row = tx.one("SELECT issuer, serial, at, site FROM seen WHERE issuer = :issuer AND serial = :serial", issuer=issuer, serial=serial)
    return Sight(*row) if row else None


def among(tx: Transaction, serials: Sequence[str]) -> list[Sight]:
    """The last sights of certificates with these serials, whoever issued them: one question for a page of a list."""
    words = "SELECT issuer, serial, at, site FROM seen WHERE issuer IN (SELECT name FROM authority) AND serial IN ({})"
    return list({Sight(*row) for row in tx.among(words, serials)})


def everything(tx: Transaction) -> list[Sight]:
    """All of them."""
    return [Sight(*row) for row in tx.each("SELECT issuer, serial, at, site FROM seen")]
