"""Holders and their groups and devices. Callers bring the transaction, so that a person appears together with her first certificate or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Conflict, NotFound, Refused
from ..model.holder import Holder
from . import audit
from .audit import Event
from .database import Row, Transaction


def find(tx: Transaction, login: str) -> Holder | None:
    """The holder with this login, whatever its case; None when there is none."""
    row = tx.one("SELECT login, kind, name, email, created_at, left_at FROM holder WHERE lower(login) = lower(:login)", login=login)
    return _holder(tx, row) if row else None


def find_by_email(tx: Transaction, email: str) -> Holder | None:
    """The holder with this e-mail, whatever its case; None when there is none."""
    row = tx.one("SELECT login, kind, name, email, created_at, left_at FROM holder WHERE lower(email) = lower(:email) AND email IS NOT NULL", email=email)
    return _holder(tx, row) if row else None


def listing(tx: Transaction, kinds: tuple[str, ...], *, group: str = "") -> list[Holder]:
    """All holders of these kinds (and of this group), by login."""
    groups: dict[str, list[str]] = {}
    devices: dict[str, list[str]] = {}
    for login, grp in tx.each("SELECT login, grp FROM membership ORDER BY login, grp"):
        groups.setdefault(login, []).append(grp)
    for login, device in tx.each("SELECT login, device FROM device ORDER BY login, device"):
        devices.setdefault(login, []).append(device)
    rows = tx.all("SELECT login, kind, name, email, created_at, left_at FROM holder ORDER BY lower(login)")
    found = [
        Holder(login, kind, name, email or "", tuple(groups.get(login, ())), tuple(devices.get(login, ())), created, left or 0)
        for login, kind, name, email, created, left in rows
        if kind in kinds
    ]
    return [holder for holder in found if not group or group in holder.groups]


def _holder(tx: Transaction, row: Row) -> Holder:
    login, kind, name, email, created, left = row
    groups = tuple(str(r[0]) for r in tx.all("SELECT grp FROM membership WHERE login = :login ORDER BY grp", login=login))
    devices = tuple(str(r[0]) for r in tx.all("SELECT device FROM device WHERE login = :login ORDER BY device", login=login))
    return Holder(login, kind, name, email or "", groups, devices, created, left or 0)


def named(tx: Transaction, logins: Sequence[str]) -> dict[str, Holder]:
    """The holders among these logins, by their login in lower case, in three questions however many there are."""
    rows = tx.among("SELECT login, kind, name, email, created_at, left_at FROM holder WHERE lower(login) IN ({lower})", logins)
    if not rows:
        return {}
    found = [row[0] for row in rows]
    groups: dict[str, list[str]] = {}
    devices: dict[str, list[str]] = {}
    for login, group in sorted(tx.among("SELECT login, grp FROM membership WHERE login IN ({})", found)):
        groups.setdefault(login, []).append(group)
    for login, device in sorted(tx.among("SELECT login, device FROM device WHERE login IN ({})", found)):
        devices.setdefault(login, []).append(device)
    return {
        login.lower(): Holder(login, kind, name, email or "", tuple(groups.get(login, ())), tuple(devices.get(login, ())), created, left or 0)
        for login, kind, name, email, created, left in rows
    }


class Called(NamedTuple):
    """Who answers to the logins and e-mails of some holders, by that word in lower case: `logins`, and the login of whoever has that e-mail in `emails`."""

    logins: dict[str, Holder]
    emails: dict[str, str]

    def take(self, holder: Holder) -> None:
        """From now on this holder stands there as well."""
        self.logins[holder.login.lower()] = holder
        if holder.email:
            self.emails[holder.email.lower()] = holder.login


def called(tx: Transaction, holders: Sequence[Holder], more: Sequence[str] = ()) -> Called:
    """Asks for all of them at once. A login that looks like an e-mail is looked for among the e-mails too, and an e-mail among the logins.

    `more`: further e-mails that somebody may have.
    """
    logins = [holder.login for holder in holders]
    emails = [*(holder.email for holder in holders if holder.email), *more]
    mailboxes = [*emails, *(login for login in logins if "@" in login)]
    rows = tx.among("SELECT email, login FROM holder WHERE lower(email) IN ({lower}) AND email IS NOT NULL", mailboxes)
    return Called(named(tx, [*logins, *emails]), {email.lower(): login for email, login in rows})


def ensure(tx: Transaction, wanted: Holder, known: Called, actor: str, now: int) -> tuple[Holder, list[Event]]:
    """The holder of a new certificate: added if new, completed (e-mail, groups, devices) if he is there. Answers with how he stands now, and what to log.

    Refuses one who left, what another kind of holder is called, a login that differs from a known one in its case only, and an e-mail that is not his.
    Raises Refused, Conflict.
    """
    held = known.logins.get(wanted.login.lower())
    if held is None:
        _refuse_taken(known, wanted)
        known.take(wanted)
        return wanted, [_add(tx, wanted, actor, now)]
    if held.login != wanted.login:
        raise login_taken(held.login)
    if held.left_at:
        raise Refused("holder-left", f"{held.login} has left", hint=f"gatekey people set {held.login} --back")
    if held.kind != wanted.kind:
        raise Conflict("holder-kind", f"{held.login!r} is a {held.kind} already, not a {wanted.kind}", hint="choose another name")
    if held.email and wanted.email and held.email.lower() != wanted.email.lower():
        raise other_email(held, wanted.email)
    changed = held._replace(
        name=wanted.name or held.name,
        email=held.email or wanted.email,
        groups=tuple(sorted({*held.groups, *wanted.groups})),
        devices=tuple(sorted({*held.devices, *wanted.devices})),
    )
    if changed == held:
        return held, []
    if changed.email != held.email:
        _refuse_taken(known, changed)
    known.take(changed)
    return changed, [_change(tx, held, changed, actor, now)]


def login_taken(login: str) -> Conflict:
    """Somebody is called so already, in this spelling."""
    return Conflict("login-taken", f"the login {login!r} exists already", hint=f"gatekey people show {shlex.quote(login)}", known=login)


def other_email(known: Holder, email: str) -> Conflict:
    """A login and an e-mail that do not belong together."""
    hint = f"gatekey people set {shlex.quote(known.login)} --email {email}"
    said = f"has the e-mail {known.email}, not {email}" if known.email else f"has no e-mail, and the certificate would say {email}"
    return Conflict("other-email", f"{known.login} {said}", hint=hint, known=known.email)


def add(tx: Transaction, holder: Holder, actor: str, now: int) -> None:
    """A new holder. Raises Conflict when the login or the e-mail belongs to somebody, as either of the two."""
    known = called(tx, [holder])
    _refuse_taken(known, holder)
    if held := known.logins.get(holder.login.lower()):
        raise login_taken(held.login)
    audit.append(tx, now, _add(tx, holder, actor, now))


def _add(tx: Transaction, holder: Holder, actor: str, now: int) -> Event:
    tx.insert("holder", {"login": holder.login, "kind": holder.kind, "name": holder.name, "email": holder.email or None, "created_at": now})
    _put_groups(tx, holder)
    for device in holder.devices:
        ensure_device(tx, holder.login, device, now)
    facts = {"kind": holder.kind, "name": holder.name, "email": holder.email, "groups": list(holder.groups)}
    return Event(actor, "holder.add", holder.login, facts)


def change(tx: Transaction, known: Holder, wanted: Holder, actor: str, now: int) -> None:
    """Writes what differs between the two values of one holder. Raises Conflict when the e-mail belongs to somebody else, or is somebody else's login."""
    if wanted.email.lower() != known.email.lower():
        _refuse_taken(called(tx, [wanted]), wanted)
    audit.append(tx, now, _change(tx, known, wanted, actor, now))


def _change(tx: Transaction, known: Holder, wanted: Holder, actor: str, now: int) -> Event:
    tx.run(
        "UPDATE holder SET name = :name, email = :email, left_at = :left WHERE login = :login",
        name=wanted.name,
        email=wanted.email or None,
        left=wanted.left_at or None,
        login=known.login,
    )
    tx.run("DELETE FROM membership WHERE login = :login", login=known.login)
    _put_groups(tx, wanted)
    for device in wanted.devices:
        ensure_device(tx, known.login, device, now)
    for device in set(known.devices) - set(wanted.devices):
        tx.run("DELETE FROM device WHERE login = :login AND device = :device", login=known.login, device=device)
    before, after = known._asdict(), wanted._asdict()
    facts = {key: list(value) if isinstance(value, tuple) else value for key, value in after.items() if value != before[key]}
    return Event(actor, "holder.change", known.login, facts)


def mark_left(tx: Transaction, login: str, at: int, actor: str) -> None:
    """The holder is gone from now on. Raises NotFound."""
    if tx.run("UPDATE holder SET left_at = :at WHERE login = :login", at=at, login=login) != 1:
        raise NotFound("no-holder", f"nobody is called {login!r}")
    tx.run("UPDATE token SET revoked_at = :at WHERE login = :login AND revoked_at IS NULL", at=at, login=login)
    roles = [row[0] for row in tx.all("SELECT role FROM role WHERE login = :login ORDER BY role", login=login)]
    tx.run("DELETE FROM role WHERE login = :login", login=login)
    audit.append(tx, at, Event(actor, "holder.leave", login, {"roles": roles}))


def ensure_device(tx: Transaction, login: str, device: str, now: int) -> None:
    """The device is one of the holder's, if it was not."""
    if not tx.one("SELECT 1 FROM device WHERE login = :login AND device = :device", login=login, device=device):
        tx.insert("device", {"login": login, "device": device, "added_at": now})


def refuse_another(holder: Holder, emails: Sequence[str]) -> None:
    """The first e-mail in a person's certificate is hers, as it stands now: she may have another since the certificate was decided. Raises Conflict."""
    if holder.kind == "person" and emails and emails[0].lower() != holder.email.lower():
        raise other_email(holder, emails[0])


def refuse_anothers(known: Called, login: str, emails: Sequence[str]) -> None:
    """An e-mail in a certificate speaks for whoever has it, or is called so: it stands in nobody else's. Raises Conflict."""
    for email in emails:
        named = known.logins.get(email.lower())
        said = ""
        if (other := known.emails.get(email.lower(), login)) != login:
            said = f"belongs to {other!r}"
        elif named and named.login != login:
            said = f"is the login of {named.login!r}"
        if said:
            raise Conflict("email-taken", f"{email} {said}, and stands in nobody else's certificate", hint="leave it out, or ask in that name")


def _refuse_taken(known: Called, holder: Holder) -> None:
    """Logins and e-mails are one set of names: whoever is meant by one must not be found under another's. Raises Conflict."""
    login, email = holder.login.lower(), holder.email.lower()
    if (other := known.emails.get(email, holder.login)).lower() != login:
        raise Conflict("email-taken", f"{holder.email} belongs to {other!r} already", hint="one e-mail, one person: use that login or another e-mail")
    if email != login and (named := known.logins.get(email)):
        raise Conflict("email-taken", f"{holder.email} is the login of {named.login!r}", hint="one e-mail, one person: use that login or another e-mail")
    if (other := known.emails.get(login, holder.login)).lower() != login:
        raise Conflict("login-taken", f"{holder.login} is the e-mail of {other!r}", hint="use that login, or choose another", known=other)


def _put_groups(tx: Transaction, holder: Holder) -> None:
    tx.insert("membership", *({"login": holder.login, "grp": group} for group in holder.groups))
