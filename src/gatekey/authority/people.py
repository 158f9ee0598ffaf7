"""People, their groups and devices: added and changed through here, each change with its audit event."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import Conflict, NotFound, Reason, Refused
from ..model.holder import Holder, each_once
from ..model.names import email_problem, login_problem, reserved_problem
from ..store import people as rows

if TYPE_CHECKING:
    from .authority import Authority


def add(authority: Authority, wanted: Holder) -> Holder:
    """A new person. Raises Refused with all reasons, or Conflict when login or e-mail belong to somebody."""
    wanted = wanted._replace(groups=each_once(wanted.groups, "groups"), devices=each_once(wanted.devices, "devices"))
    check(wanted)
    if problem := reserved_problem(wanted.login):
        raise Refused("name-reserved", problem, hint="choose another name")
    with authority.ledger.db.transaction("add holder", joins=True) as tx:
        rows.add(tx, wanted, authority.actor, authority.now())
    return get(authority, wanted.login)


def change(
    authority: Authority,
    login: str,
    *,
    name: str | None = None,
    email: str | None = None,
    add_groups: Sequence[str] = (),
    remove_groups: Sequence[str] = (),
    add_devices: Sequence[str] = (),
    remove_devices: Sequence[str] = (),
    back: bool = False,
) -> Holder:
    """Changes what is given and leaves the rest. `back`: she left and has come back; her old certificates stay revoked.

    Raises NotFound, Refused with all reasons, Conflict.
    """
    found = get(authority, login)
    with authority.ledger.db.transaction("change holder", joins=True) as tx:
        # As she stands now: what another process has changed meanwhile must not be undone, least of all that she has left.
        known = rows.find(tx, found.login) or found
        if gone := set(remove_groups) - set(known.groups):
            raise NotFound("no-group", f"{known.login} is not in {', '.join(sorted(gone))}", hint=f"she is in: {', '.join(known.groups) or 'no group'}")
        if gone := set(remove_devices) - set(known.devices):
            raise NotFound("no-device", f"{known.login} has no device {', '.join(sorted(gone))}", hint=f"she has: {', '.join(known.devices) or 'none'}")
        if back and not known.left_at:
            raise Conflict("not-left", f"{known.login} has not left")
        live = {r.device for r in authority.reads.by_holder(known.login) if r.alive(authority.now())}
        if used := set(remove_devices) & live:
            raise Refused("device-in-use", f"{', '.join(sorted(used))} has a live certificate", hint="revoke it first")
        wanted = known._replace(
            name=known.name if name is None else name,
            email=known.email if email is None else email,
            groups=tuple(sorted({*known.groups, *add_groups} - set(remove_groups))),
            devices=tuple(sorted({*known.devices, *add_devices} - set(remove_devices))),
            left_at=0 if back else known.left_at,
        )
        check(wanted)
        if wanted != known:
            rows.change(tx, known, wanted, authority.actor, authority.now())
    return get(authority, found.login)


def get(authority: Authority, login: str) -> Holder:
    """A holder by login or e-mail. Raises NotFound; Conflict when it is the login of one and the e-mail of another."""
    found = meant(authority, login)
    if found is None or found.kind == "authority":
        raise NotFound("no-holder", f"nobody is called {login!r}", hint="gatekey people list")
    return found


def meant(authority: Authority, word: str) -> Holder | None:
    """Whose login or e-mail this is, if anybody's. Raises Conflict when it is the login of one and the e-mail of another: nobody guesses who is meant.

    New names cannot clash so; those of an older ledger may.
    """
    named = authority.reads.holder(word)
    mailed = authority.reads.holder_by_email(word) if "@" in word else None
    if named and mailed and named.login != mailed.login:
        message = f"{word!r} is the login of one and the e-mail of another, {mailed.login!r}"
        hint = f"give one of them another e-mail: gatekey people set {shlex.quote(mailed.login)} --email ...; certificates can be named by their serials"
        raise Conflict("ambiguous", message, hint=hint, candidates=[named.login, mailed.login])
    return named or mailed


def check(holder: Holder) -> None:
    """Refuses a person whose words cannot stand where they must, with all reasons."""
    reasons = []
    if problem := login_problem(holder.login):
        reasons.append(Reason("bad-login", problem, "for example ann or ann-miller; the display name (--name) may be in any script"))
    if holder.email and (problem := email_problem(holder.email)):
        reasons.append(Reason("bad-email", problem))
    reasons += [Reason("bad-word", problem) for word in (*holder.groups, *holder.devices) if (problem := word_problem(word))]
    if len(holder.name) > 200 or not holder.name.isprintable():
        reasons.append(Reason("bad-word", "the display name is longer than 200 characters or has control characters"))
    if reasons:
        raise Refused.because(tuple(reasons))


def word_problem(word: str) -> str | None:
    """Why a word cannot be a group or a device: ASCII letters, digits, `._@ -`, at most 64; it stands in maps that web servers read."""
    problem = login_problem(word)
    return problem.replace("the login", "the group or device").replace("a login", "a group or device") if problem else None
