"""The bundle as agents get it over the network: made of what the ledger says, so that every process and node makes the same bytes of the same state."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Unavailable
from ..model.package import FIRST, pack
from . import bundle, crl

if TYPE_CHECKING:
    from .authority import Authority

#: Seconds that a CRL may lag behind a revocation before we sign one ourselves: whoever revoked, or `republish.py` that gathers for a second, is about to.
PATIENCE = 5.0
#: Times that the ledger may change under our hands before we give up for this turn.
_TRIES = 5


class Mark(NamedTuple):
    """A state of the ledger, as far as bundles go: the newest event that changes one, when it was, and the newest CRL of each authority of the people side."""

    event: int
    at: int
    crls: tuple[tuple[str, int, int], ...]

    @property
    def made_at(self) -> int:
        """The time that the bundle carries: of what it was made of, not of its making, so that it is the same wherever it is made (POSIX seconds)."""
        return max(self.at, *(made for _, _, made in self.crls))


class Package(NamedTuple):
    """A packed bundle. `tag`: SHA-256 of its manifest, which has the hashes of everything else."""

    mark: Mark
    number: int
    made_at: int
    fresh_until: int
    tag: str
    body: bytes


def mark(authority: Authority) -> Mark:
    """The state now. Cheap: asked ten times a second."""
    event, at = authority.reads.newest_bundle_event()
    held = ((record.name, authority.reads.newest_crl(record.name)) for record in authority.side("people"))
    return Mark(event, at, tuple((name, one.number, one.this_update + crl.BACKDATE) if one else (name, 0, 0) for name, one in held))


class Maker:
    """Makes packages one after the other; remembers since when the CRLs lag behind."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._behind_since = 0.0

    def make(self) -> Package | None:
        """The package of the state now; None while a CRL does not hold the newest revocation yet and its signer has a moment left.

        Raises what signing a missing CRL raises, Unavailable when the ledger never held still.
        """
        authority = self._authority
        for _ in range(_TRIES):
            before = mark(authority)
            number = authority.reads.revocation_number()
            crls = self._complete()
            if crls is None:
                return None
            if mark(authority) != before:
                continue
            made = bundle.compose(authority, number, crls, before.made_at)
            if mark(authority) == before:
                tag = hashlib.sha256(made.contents[FIRST]).hexdigest()
                return Package(before, number, before.made_at, made.fresh_until, tag, pack(made.contents))
        raise Unavailable("bundle-in-motion", "the ledger kept changing while a bundle was made", hint="it is tried again at once")

    def _complete(self) -> list[crl.CurrentCrl] | None:
        """The newest CRL of every authority, all complete and in force; None when one is not and may be in a moment."""
        authority, found, late = self._authority, [], []
        for record in authority.side("people"):
            held = crl.newest(authority, record.name)
            now = authority.now()
            if held and held.revocation >= authority.reads.revocation_number(record.name) and held.this_update <= now < held.next_update:
                found.append(held)
            else:
                late.append(record.name)
        if not late:
            self._behind_since = 0.0
            return found
        self._behind_since = self._behind_since or time.monotonic()
        if time.monotonic() - self._behind_since < PATIENCE:
            return None
        for name in late:
            crl.current(authority, name)
        return self._complete_now()

    def _complete_now(self) -> list[crl.CurrentCrl]:
        return [crl.current(self._authority, record.name, refresh=crl.ISSUING_LIFE) for record in self._authority.side("people")]
