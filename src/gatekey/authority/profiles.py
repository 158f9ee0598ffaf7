"""Profiles of one's own: how one comes into the home, and how today's stand to those under which certificates were issued."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..errors import Conflict, GatekeyError, NotFound
from ..model.profile import Profile
from .ceremony import note

if TYPE_CHECKING:
    from ..model.record import CertificateRecord
    from .authority import Authority


def add(authority: Authority, profile: Profile, text: str, *, replaces: str | None = None, force: bool = False) -> Path:
    """Puts a checked profile into the home, durable and audited before this returns.

    `text`: the file as it was written. `replaces`: the hash of what has its name now ("" if that has mistakes), None when the name is free.

    Raises Misconfigured when nobody here issues what it describes, Conflict when it would take another's place without `force`, and what the disk says.
    """
    path = authority.config.home / "profiles" / f"{profile.name}.toml"
    if replaces is not None and not force:
        own = path.exists()
        message = f"there is a profile {profile.name} {'in this home' if own else 'built in'} already; it was not touched"
        hint = "give yours another name, or say --force: everything that is issued under that name from now on follows it"
        raise Conflict("profile-exists" if own else "profile-built-in", message, hint=hint, name=profile.name)
    if profile.kind in ("client", "server"):
        authority.issuer_for(profile)
    staged = files.stage(path, text.encode())
    try:
        # A crash after this line leaves an event without its profile, which harms nobody; the other way round a profile would be in force unseen.
        note(authority, "profile.add", profile.name, sha256=profile.sha256, replaces=replaces or "")
        staged.commit(force=force)
    finally:
        staged.discard()
    return path


#: What `today` answers with.
TODAY = ("same", "changed", "gone", "broken")


def today(authority: Authority, record: CertificateRecord) -> tuple[str, str]:
    """How the profile of that name stands today to the words under which this was issued: a word, and a sentence."""
    try:
        now = authority.profile(record.profile).sha256
    except NotFound:
        return "gone", "there is no profile of that name today"
    except GatekeyError:
        return "broken", "today's profile of that name has mistakes: gatekey profile list"
    if now == record.profile_sha256:
        return "same", "that is what it says today"
    return "changed", f"today's profile of that name is another one ({now[:16]})"
