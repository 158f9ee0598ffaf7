"""`gatekey revoke`, `hold`, `unhold` and `leave`: taking certificates away, with a look first where more than one goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from ..authority import access
from ..authority import revoke as verbs
from ..authority.lookup import one
from ..authority.people import get
from ..errors import Refused
from ..model.instants import day
from ..model.record import CertificateRecord, Taken
from ..model.status import REVOKE_REASONS
from . import say
from .session import Session, Verb, pass_session, passphrase_option

if TYPE_CHECKING:
    from ..authority.authority import Authority

_LIVE = ("valid", "held", "not-yet-valid")


@click.command("revoke", cls=Verb)
@click.argument("ref")
@click.option("--reason", type=click.Choice(REVOKE_REASONS), default="unspecified", show_default=True, help="Why (RFC 5280 5.3.1).")
@click.option("--yes", is_flag=True, help="With key-compromise on a terminal: do not ask.")
@passphrase_option
@pass_session
def revoke(session: Session, ref: str, reason: str, yes: bool) -> None:
    """Take a certificate away for good.

    The CRL is signed anew at once. With --reason key-compromise every live certificate with the same key goes, under every issuer, and that key is never
    certified again. A certificate that should come back later is put on hold instead.

    \b
      gatekey revoke ann
      gatekey revoke 5A1B... --reason key-compromise
    """
    authority = session.authority(writing=True)
    record = one(authority, ref, wanted=_LIVE)
    if reason == "key-compromise" and sys.stdin.isatty() and not yes:
        others = [r for r in authority.reads.by_key(record.spki_sha256) if r.alive(authority.now())]
        session.words("these certificates have the same key and will all be taken away:")
        for other in others:
            session.words(f"  {_line(other, authority)}")
        click.confirm("go on", abort=True, err=True)
    _tell(session, authority, verbs.revoke(authority, record.id, reason), f"revoked ({reason})", lineage=record)
    if reason == "key-compromise":
        session.words("this key is never certified again")


@click.command("hold", cls=Verb)
@click.argument("ref")
@passphrase_option
@pass_session
def hold(session: Session, ref: str) -> None:
    """Take a certificate away for a while: it enters the CRL and the deny lists at once, and `gatekey unhold` gives it back."""
    authority = session.authority(writing=True)
    record = one(authority, ref, wanted=("valid", "not-yet-valid"))
    _tell(session, authority, verbs.hold(authority, record.id), "held", lineage=record)
    if not session.json:
        session.words(f"it can come back: gatekey unhold {record.serial}")


@click.command("unhold", cls=Verb)
@click.argument("ref")
@passphrase_option
@pass_session
def unhold(session: Session, ref: str) -> None:
    """Give a held certificate back."""
    authority = session.authority(writing=True)
    record = one(authority, ref, wanted=("held",))
    verbs.unhold(authority, record.id)
    if session.json:
        say.as_json({"serial": record.serial, "issuer": record.issuer, "status": "valid"})
    else:
        say.result(f"in force again  {record.serial}  {record.title}{f' ({record.device})' if record.device else ''}")
        session.words(_follows(authority))


@click.command("leave", cls=Verb)
@click.argument("person")
@click.option("--yes", is_flag=True, help="Do it; without it, and without a terminal, only what would happen is shown.")
@passphrase_option
@pass_session
def leave(session: Session, person: str, yes: bool) -> None:
    """A person leaves: shows what she has, then takes everything away: certificates, roles and tokens.

    Every live certificate is revoked with the reason affiliation-changed, and nobody can get another in her name (until gatekey people set LOGIN --back).
    The API refuses to let the only administrator go. Here it is possible, with a warning: whoever has this machine can give the role to somebody else.
    """
    authority = session.authority(writing=True)
    holder = get(authority, person)
    now = authority.now()
    has = [record for record in authority.reads.by_holder(holder.login) if record.alive(now)]
    last = access.is_last(authority, holder.login)
    if last:
        say.warn(f"{holder.login} is the only administrator: afterwards nobody can manage the authority through the service, only on this machine")
    roles = access.roles(authority, holder.login)
    tokens = [token for token in access.tokens(authority, holder.login) if not token.revoked_at and token.expires_at > now]
    if not (yes and session.json):
        session.words(f"{holder.display} ({holder.login}) has {len(has)} live certificate{'' if len(has) == 1 else 's'}{':' if has else ''}")
        for record in has:
            session.words(f"  {_line(record, authority)}")
        if roles:
            session.words(f"and the role{'' if len(roles) == 1 else 's'} {', '.join(roles)}")
        for token in tokens:
            session.words(f"and the token {token.id} ({' '.join(token.scopes)}){f', {token.about}' if token.about else ''}")
    if not yes:
        if not sys.stdin.isatty():
            if session.json:
                say.as_json({"would_revoke": [r.serial for r in has], "roles": list(roles), "tokens": [token.id for token in tokens]})
            raise Refused("not-confirmed", "nothing was done", hint=f"gatekey leave {holder.login} --yes takes all of it away")
        click.confirm(f"{holder.display} leaves, and all of this is taken away", abort=True, err=True)
    for issuer in {record.issuer for record in has}:
        authority.signer(issuer)
    taken = verbs.leave(authority, holder.login, even_last_administrator=last)
    also: dict[str, Any] = {"roles": list(roles), "tokens": [token.id for token in tokens]}
    none = f"{holder.login} is marked as gone; there was no certificate to take away"
    _tell(session, authority, taken, "revoked (affiliation-changed)", none=none, also=also)
    if last:
        say.warn("there is no administrator any more; gatekey people set LOGIN --role administrator makes somebody one")


def _line(record: CertificateRecord, authority: Authority) -> str:
    return f"{record.serial}  {record.title}  {record.device or '-'}  {record.status(authority.now())} until {day(record.not_after)}"


def _tell(
    session: Session,
    authority: Authority,
    taken: list[Taken],
    what: str,
    *,
    none: str = "",
    lineage: CertificateRecord | None = None,
    also: dict[str, Any] | None = None,
) -> None:
    others = _earlier(authority, lineage) if lineage else []
    if session.json:
        rows = [{"serial": one.id.serial, "issuer": one.id.issuer, "holder": one.holder, "device": one.device} for one in taken]
        told = {"action": what, "number": authority.reads.revocation_number(), "certificates": rows, "still_in_force": [r.serial for r in others]}
        say.as_json({**told, **(also or {})})
        return
    for one_ in taken:
        say.result(f"{what}  {one_.id.serial}  {one_.common_name or one_.holder}{f' ({one_.device})' if one_.device else ''}")
    if not taken and none:
        session.words(none)
        return
    session.words(_follows(authority))
    for other in others:
        say.warn(f"still in force: {_line(other, authority)}; gatekey revoke {other.serial} takes it too")


def _follows(authority: Authority) -> str:
    """What has happened besides, and what is still to be done."""
    publish = authority.config.publish
    return f"the CRL is signed anew; {f'{publish} is rewritten' if publish else 'now bring it to the web servers: gatekey bundle --out DIR, then reload'}"


def _earlier(authority: Authority, record: CertificateRecord) -> list[CertificateRecord]:
    """What else of the same lineage still opens the door: renewing leaves the one before in force."""
    found = [other for other in authority.reads.by_holder(record.holder) if other.lineage == record.lineage and other.id != record.id]
    return [other for other in found if other.status(authority.now()) == "valid"]
