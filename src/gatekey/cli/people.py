"""`gatekey people`: who is who."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..authority import access
from ..authority import people as verbs
from ..model.access import ROLES
from ..model.holder import Holder
from ..model.instants import day, iso
from . import say
from .session import Family, Session, pass_session

if TYPE_CHECKING:
    from ..authority.authority import Authority


@click.group("people", cls=Family)
def people() -> None:
    """People, their groups and devices. Groups and devices are never in a certificate: they can change at any time."""


@people.command("add")
@click.argument("login")
@click.option("--name", default="", metavar="TEXT", help="What the person is called, in any script.")
@click.option("--display", "name", default="", hidden=True, help="The same as --name.")
@click.option("--email", default="", help="Unique; goes into certificates.")
@click.option("--group", "groups", multiple=True, metavar="G", help="May be repeated.")
@click.option("--device", "devices", multiple=True, metavar="D", help="May be repeated.")
@pass_session
def add(session: Session, login: str, name: str, email: str, groups: tuple[str, ...], devices: tuple[str, ...]) -> None:
    """Add a person. LOGIN is what web servers and apps will read."""
    authority = session.authority(writing=True)
    tell(session, authority, verbs.add(authority, Holder(login, "person", name, email, groups, devices)))


@people.command("list")
@click.option("--group", default="", metavar="G", help="Only members of this group.")
@click.option("--all", "everyone", is_flag=True, help="Also those who have left, and devices, services and servers.")
@pass_session
def list_(session: Session, group: str, everyone: bool) -> None:
    """Everybody, with groups and devices."""
    authority = session.authority()
    kinds = ("person", "device", "service", "server") if everyone else ("person",)
    found = [holder for holder in authority.reads.holders(*kinds, group=group) if everyone or not holder.left_at]
    if session.json:
        say.as_json([as_json(holder) for holder in found])
        return
    rows = [
        [h.login, h.name or "-", h.email or "-", ", ".join(h.groups) or "-", ", ".join(h.devices) or "-", f"left {day(h.left_at)}" if h.left_at else "here"]
        for h in found
    ]
    empty = "nobody yet; gatekey people add LOGIN, or gatekey issue client LOGIN"
    say.table(["login", "name", "e-mail", "groups", "devices", "status"], rows, empty=empty, quiet=session.quiet)


@people.command("show")
@click.argument("login")
@pass_session
def show(session: Session, login: str) -> None:
    """One person and everything she has. LOGIN may be an e-mail."""
    authority = session.authority()
    tell(session, authority, verbs.get(authority, login))


@people.command("set")
@click.argument("login")
@click.option("--name", metavar="TEXT", help="The new display name.")
@click.option("--display", "name", hidden=True, help="The same as --name.")
@click.option("--email", help="The new e-mail; certificates carry it from the next one on.")
@click.option("--group", "groups", multiple=True, metavar="G", help="Add to this group.")
@click.option("--no-group", "no_groups", multiple=True, metavar="G", help="Take out of this group.")
@click.option("--device", "devices", multiple=True, metavar="D", help="Add this device.")
@click.option("--no-device", "no_devices", multiple=True, metavar="D", help="Forget this device.")
@click.option("--role", "roles", multiple=True, type=click.Choice(tuple(ROLES)), help="Give this role at the service. May be repeated.")
@click.option("--no-role", "no_roles", multiple=True, type=click.Choice(tuple(ROLES)), help="Take this role away.")
@click.option("--back", is_flag=True, help="She left and has come back; her old certificates stay revoked.")
@pass_session
def set_(
    session: Session,
    login: str,
    name: str | None,
    email: str | None,
    groups: tuple[str, ...],
    no_groups: tuple[str, ...],
    devices: tuple[str, ...],
    no_devices: tuple[str, ...],
    roles: tuple[str, ...],
    no_roles: tuple[str, ...],
    back: bool,
) -> None:
    """Change what is said of a person; what is not named stays."""
    authority = session.authority(writing=True)
    holder = verbs.change(
        authority, login, name=name, email=email, add_groups=groups, remove_groups=no_groups, add_devices=devices, remove_devices=no_devices, back=back
    )
    if roles or no_roles:
        access.set_roles(authority, holder.login, add=roles, remove=no_roles)
    tell(session, authority, holder)


def as_json(holder: Holder) -> dict[str, Any]:
    """A holder as JSON."""
    return {
        "login": holder.login,
        "kind": holder.kind,
        "name": holder.name,
        "email": holder.email,
        "groups": list(holder.groups),
        "devices": list(holder.devices),
        "since": iso(holder.created_at),
        "left_at": iso(holder.left_at) if holder.left_at else None,
    }


def tell(session: Session, authority: Authority, holder: Holder) -> None:
    """A holder and all certificates, as a page or as JSON."""
    from .listing import account

    now = authority.now()
    records = authority.reads.by_holder(holder.login)
    if session.json:
        say.as_json({**as_json(holder), "roles": list(access.roles(authority, holder.login)), "certificates": [account(record, now) for record in records]})
        return
    lines = [("login", holder.login), ("name", holder.name or "-"), ("e-mail", holder.email or "-"), ("groups", ", ".join(holder.groups) or "-")]
    lines += [("devices", ", ".join(holder.devices) or "-"), ("status", f"left on {day(holder.left_at)}" if holder.left_at else "here")]
    if held := access.roles(authority, holder.login):
        lines.append(("roles", ", ".join(held)))
    say.pairs(lines)
    if records:
        say.result("")
        say.table(["serial", "device", "status", "until"], [[r.serial, r.device or "-", r.status(now), day(r.not_after)] for r in records], empty="")
