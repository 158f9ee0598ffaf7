"""Which place has taken over which revocation number when: CRLs, the published folder, the service, agents. One row per place and number."""

from __future__ import annotations

from .database import Transaction


def note(tx: Transaction, place: str, number: int, at: int) -> None:
    """From `at` (POSIX seconds) on this place knows every revocation up to `number`. What it told of the same number before stays."""
    if not tx.one("SELECT 1 FROM takeover WHERE place = :place AND number = :number", place=place, number=number):
        tx.insert("takeover", {"place": place, "number": number, "at": at})


def highest(tx: Transaction, place: str) -> int:
    """The highest number that a place has taken over; -1 for none."""
    row = tx.one("SELECT max(number) FROM takeover WHERE place = :place", place=place)
    return -1 if row is None or row[0] is None else int(row[0])


def newest(tx: Transaction) -> dict[str, tuple[int, int]]:
    """Place -> the highest number that it has taken over, and when."""
    return {
        str(place): (int(number), int(at))
        for place, number, at in tx.all(
            "SELECT t.place, t.number, t.at FROM takeover t JOIN (SELECT place, max(number) AS newest FROM takeover GROUP BY place) n"
            " ON t.place = n.place AND t.number = n.newest ORDER BY t.place"
        )
    }


def first(tx: Transaction, number: int) -> dict[str, int]:
    """Place -> when it first knew everything up to `number`; places that do not yet are not there."""
    return {str(place): int(at) for place, at in tx.all("SELECT place, min(at) FROM takeover WHERE number >= :number GROUP BY place", number=number)}


def revoked_at(tx: Transaction, number: int) -> int | None:
    """When the revocation of this number was entered; None when there is none."""
    row = tx.one("SELECT at FROM revocation_log WHERE number = :number", number=number)
    return int(row[0]) if row else None


def number_of(tx: Transaction, issuer: str, serial: str) -> int | None:
    """The revocation number under which a certificate was taken away; None when it is in force."""
    row = tx.one("SELECT revocation FROM certificate WHERE issuer = :issuer AND serial = :serial", issuer=issuer, serial=serial)
    return int(row[0]) if row and row[0] is not None else None


def sweep(tx: Transaction, *, before: int) -> int:
    """Forgets what is older, but for the newest row of each place; says how many rows went."""
    return tx.run(
        "DELETE FROM takeover WHERE at < :before AND number < (SELECT max(t.number) FROM takeover t WHERE t.place = takeover.place)", before=before
    )
