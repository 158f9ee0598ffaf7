"""Holders and their groups and devices. Callers bring the transaction, so that a person appears together with her first certificate or not at all."""

from __future__ import annotations

from collections.abc import Sequence

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
    row = tx.one("SELECT login, kind, name, email, created_at, left_at FROM holder WHERE lower(email) = lower(:email)", email=email)
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


def ensure(tx: Transaction, wanted: Holder, known: Holder | None, actor: str, now: int) -> tuple[Holder, list[Event]]:
    """The holder of a new certificate: added if new, completed (e-mail, groups, devices) if `known`. Answers with how he stands now, and what to log.

    Refuses one who left, and what another kind of holder is called. Raises Refused, Conflict.
    """
    if known is None:
        _free_email(tx, wanted)
        return wanted, [_add(tx, wanted, actor, now)]
    if known.left_at:
        raise Refused("holder-left", f"{known.login} has left", hint=f"gatekey people set {known.login} --back")
    if known.kind != wanted.kind:
        raise Conflict("holder-kind", f"{known.login!r} is a {known.kind} already, not a {wanted.kind}", hint="choose another name")
    changed = known._replace(
        name=wanted.name or known.name,
        email=known.email or wanted.email,
        groups=tuple(sorted({*known.groups, *wanted.groups})),
        devices=tuple(sorted({*known.devices, *wanted.devices})),
    )
    return changed, [_change(tx, known, changed, actor, now)] if changed != known else []


def add(tx: Transaction, holder: Holder, actor: str, now: int) -> None:
    """A new holder. Raises Conflict when the login or the e-mail belongs to somebody."""
    _free_email(tx, holder)
    if find(tx, holder.login):
        raise Conflict("login-taken", f"the login {holder.login!r} exists already", hint=f"gatekey people show {holder.login!r}")
    audit.append(tx, now, _add(tx, holder, actor, now))


def _add(tx: Transaction, holder: Holder, actor: str, now: int) -> Event:
    tx.insert("holder", {"login": holder.login, "kind": holder.kind, "name": holder.name, "email": holder.email or None, "created_at": now})
    _put_groups(tx, holder)
    for device in holder.devices:
        ensure_device(tx, holder.login, device, now)
    facts = {"kind": holder.kind, "name": holder.name, "email": holder.email, "groups": list(holder.groups)}
    return Event(actor, "holder.add", holder.login, facts)


def change(tx: Transaction, known: Holder, wanted: Holder, actor: str, now: int) -> None:
    """Writes what differs between the two values of one holder. Raises Conflict when the e-mail belongs to somebody else."""
    audit.append(tx, now, _change(tx, known, wanted, actor, now))


def _change(tx: Transaction, known: Holder, wanted: Holder, actor: str, now: int) -> Event:
    if wanted.email.lower() != known.email.lower():
        _free_email(tx, wanted)
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


def _free_email(tx: Transaction, holder: Holder) -> None:
    other = find_by_email(tx, holder.email) if holder.email else None
    if other and other.login.lower() != holder.login.lower():
        raise Conflict("email-taken", f"{holder.email} belongs to {other.login!r} already", hint="one e-mail, one person: use that login or another e-mail")


def _put_groups(tx: Transaction, holder: Holder) -> None:
    tx.insert("membership", *({"login": holder.login, "grp": group} for group in holder.groups))
