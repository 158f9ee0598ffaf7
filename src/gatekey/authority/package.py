"""The bundle as agents get it over the network: made of what the ledger says, so that every process and node makes the same bytes of the same state."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple

from ..model.package import FIRST, pack
from . import bundle, crl

if TYPE_CHECKING:
    from .authority import Authority

#: Seconds that a CRL may lag behind a revocation before we sign one ourselves: whoever revoked, or `republish.py` that gathers for a second, is about to.
PATIENCE = 5.0


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
    """Makes packages one after the other; remembers since when the CRLs lag behind, and up to which revocation the last package was complete."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._behind_since = 0.0
        self._number = -1

    def make(self) -> Package | None:
        """The package of the state now; None while a CRL does not hold the newest revocation yet and its signer has a moment left.

        It is made of one state of the ledger, so that nobody who goes on issuing or revoking is in its way. While people are revoked without a pause, a CRL
        is never complete: then one that holds more than the last package did is good enough. Raises what signing a missing CRL raises.
        """
        authority = self._authority
        with authority.reads.snapshot():
            state = mark(authority)
            held = [crl.newest(authority, record.name) for record in authority.side("people")]
            crls = [one for one in held if one and crl.in_force(one, authority.now())]
            number = bundle.complete_to(authority, crls)
            behind = number < authority.reads.revocation_number()
            made = None
            if len(crls) == len(held) and (not behind or number > self._number):
                made = bundle.compose(authority, number, crls, state.made_at)
        if made is None:
            self._sign()
            return None
        self._behind_since = time.monotonic() if behind else 0.0
        self._number = number
        tag = hashlib.sha256(made.contents[FIRST]).hexdigest()
        return Package(state, number, state.made_at, made.fresh_until, tag, pack(made.contents))

    def _sign(self) -> None:
        """Signs what lags behind, when nobody else has done so for a while."""
        self._behind_since = self._behind_since or time.monotonic()
        if time.monotonic() - self._behind_since >= PATIENCE:
            for record in self._authority.side("people"):
                crl.current(self._authority, record.name, refresh=crl.ISSUING_LIFE)
