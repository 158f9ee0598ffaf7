"""What earlier runs left half done. Every verb that writes begins with it, so it loads and costs next to nothing when there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import GatekeyError
from ..model.instants import HOUR, iso, parse_instant
from ..model.request import CertificateId

if TYPE_CHECKING:
    from .authority import Authority


class CaughtUp(NamedTuple):
    """What `catch_up` did, and what it could not do; each in words, both empty when nothing was owed."""

    done: list[str]
    owed: list[str]


class Manifest(NamedTuple):
    """What a bundle says of itself: the revocation number up to which it is complete, when it was made, and until when it is good (POSIX seconds)."""

    number: int
    made_at: int
    fresh_until: int


def reconcile(authority: Authority) -> list[CertificateId]:
    """Closes drafts whose lease is over: they are abandoned, and their serials stand in the next CRL. Harmless beside live issuances."""
    return authority.ledger.abandon(now=authority.now(), entry=_entry, actor=authority.actor)


def catch_up(authority: Authority) -> CaughtUp:
    """Does what an interrupted revocation still owes the web servers: signs CRLs that are behind the ledger, rewrites the published folder.

    Raises nothing that has to do with this: the verb that came by has its own work to do, and the next one tries again.
    """
    behind = [name for name in authority.reads.crls_behind(authority.now()) if authority.has_key(name)]
    folder_behind = published_behind(authority)
    if not behind and not folder_behind:
        return CaughtUp([], [])
    from .revoke import tell

    owed = [trouble.message for trouble in tell(authority, set(behind))]
    done = [f"signed the CRL of {name}" for name in behind if name not in authority.reads.crls_behind(authority.now())]
    if folder_behind and not published_behind(authority):
        done.append(f"rewrote {authority.config.publish}")
    return CaughtUp(done, owed)


def clock_problem(authority: Authority) -> str:
    """A sentence when the clock stands before the newest event of the ledger by more than an hour; "" otherwise. A jump forward cannot be seen."""
    now, newest = authority.now(), authority.reads.newest_event_at()
    if newest <= now + HOUR:
        return ""
    return f"the clock says {iso(now)}, and the newest event of the ledger is of {iso(newest)}: one of them is wrong, and certificates carry the clock's time"


def published_behind(authority: Authority) -> bool:
    """Whether there is a folder to publish into that does not hold what the ledger holds: older, run out, or of a time to come."""
    folder = authority.config.publish
    if folder is None:
        return False
    held = manifest(folder)
    return held is None or held.number < authority.reads.revocation_number() or not held.made_at <= authority.now() < held.fresh_until


def manifest(folder: Path) -> Manifest | None:
    """The manifest of the bundle in a folder; None when there is none that can be read."""
    import json

    try:
        told = json.loads((folder / "manifest.json").read_bytes())
        return Manifest(int(told["number"]), parse_instant(told["made_at"]), parse_instant(told["fresh_until"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, GatekeyError):
        return None


def _entry(serial: str, at: int, reason: str | None) -> bytes:
    from ..x509.crl import encode_entry

    return encode_entry(serial, at, reason)
