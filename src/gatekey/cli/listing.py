"""`gatekey list` and `show`: who has what, and a readable account of any one thing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import files
from ..errors import GatekeyError, NotFound, Refused
from ..model.instants import DAY, day, iso
from ..model.record import CertificateRecord
from ..model.status import STATUSES
from . import say
from .session import Session, Verb, pass_session

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.seen import Sight


#: What may be printed as text, and between which words; nothing with a private key in it.
_PEM = {"certificate": "CERTIFICATE", "csr": "CERTIFICATE REQUEST", "crl": "X509 CRL", "public-key": "PUBLIC KEY"}


@click.command("list", cls=Verb)
@click.option("--status", type=click.Choice(STATUSES), help="Only these.")
@click.option("--holder", metavar="H", help="Only those of this person, server or device (login or e-mail).")
@click.option("--expiring", type=click.IntRange(min=0), metavar="DAYS", help="Only those in force that end within so many days.")
@click.option("--group", metavar="G", help="Only those of people in this group.")
@click.option("--probes", is_flag=True, help="Also the short-lived test identities of gatekey check.")
@click.option("--authorities", is_flag=True, help="Also the authorities' own certificates.")
@click.option("--services", is_flag=True, help="Also those that the service has issued to itself: for its listeners and its OCSP answers.")
@pass_session
def list_(
    session: Session,
    status: str | None,
    holder: str | None,
    expiring: int | None,
    group: str | None,
    probes: bool,
    authorities: bool,
    services: bool,
) -> None:
    """Who has which certificate."""
    from ..authority import crl, ends, people, seen

    authority = session.authority()
    now = authority.now()
    records = authority.reads.certificates("c.state <> 'recorded'")
    if holder:
        login = people.get(authority, holder).login
        records = [record for record in records if record.holder == login]
    if group:
        members = {member.login for member in authority.reads.holders("person", "device", "service", group=group)}
        records = [record for record in records if record.holder in members]
    if status:
        records = [record for record in records if record.status(now) == status]
    if expiring is not None:
        records = [record for record in records if record.status(now) == "valid" and record.not_after - now <= expiring * DAY]
    records = [r for r in records if (authorities or r.kind != "authority") and (services or not r.of_service)]
    records = [r for r in records if probes or not r.profile.startswith("probe")]
    if session.json:
        sights = seen.everything(authority)
        say.as_json([account(record, now, sights.get((record.issuer, record.serial))) for record in records])
    else:
        rows = [[r.serial, r.title, r.kind, r.device or "-", r.status(now), day(r.not_after), r.issuer] for r in records]
        say.table(
            ["serial", "name", "kind", "device", "status", "until", "issuer"],
            rows,
            empty="none of that kind" if status or holder or group or expiring is not None else "no certificates",
            quiet=session.quiet,
        )
    for sentence in (*crl.warnings(authority), *ends.warnings(authority)):
        say.warn(sentence)


def account(record: CertificateRecord, now: int, sight: Sight | None = None) -> dict[str, Any]:
    """A certificate's row as JSON. `sight`: when it was last let in."""
    return {
        "serial": record.serial,
        "issuer": record.issuer,
        "status": record.status(now),
        "holder": record.holder,
        "kind": record.kind,
        "device": record.device,
        "common_name": record.common_name,
        "alternatives": list(record.alternatives),
        "profile": record.profile,
        "profile_sha256": record.profile_sha256,
        "key_type": record.key_type,
        "fingerprint": record.fingerprint,
        "not_before": iso(record.not_before),
        "not_after": iso(record.not_after),
        "revoked_at": None if record.revoked_at is None else iso(record.revoked_at),
        "reason": record.revoked_reason,
        "renews": record.renews.partition("/")[2] or None,
        "issued_at": iso(record.recorded_at),
        "issued_by": record.requester,
        "seen_at": iso(sight.at) if sight else None,
        "seen_site": sight.site if sight else None,
    }


@click.command("show", cls=Verb)
@click.argument("ref")
@click.option("--pem", "as_pem", is_flag=True, help="Print it in PEM: a certificate, a request, a CRL, a public key.")
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="For a PKCS#12: the password, to see what is inside.")
@pass_session
def show(session: Session, ref: str, as_pem: bool, password_file: Path | None) -> None:
    """All about one certificate of ours, or about any certificate, request, CRL, key or PKCS#12 file.

    \b
      gatekey show ann
      gatekey show 5A1B22...
      gatekey show /etc/nginx/site.crt
    """
    path = Path(ref)
    if ref == "-" or path.is_file():
        _show_file(session, path, password_file, as_pem=as_pem)
        return
    from ..authority.lookup import candidates, one

    authority = session.authority()
    if candidates(authority, ref):
        _show_record(session, authority, one(authority, ref), as_pem=as_pem)
    else:
        _show_holder(session, authority, ref)


def _show_holder(session: Session, authority: Authority, ref: str) -> None:
    from ..authority.people import get
    from .people import tell

    try:
        holder = get(authority, ref)
    except NotFound:
        hint = "gatekey list; a REF is a serial, a fingerprint, a login, an e-mail or a file"
        raise NotFound("no-certificate", f"nothing answers to {ref!r}", hint=hint) from None
    tell(session, authority, holder)


def _show_record(session: Session, authority: Authority, record: CertificateRecord, *, as_pem: bool) -> None:
    from ..authority import clock, profiles, seen
    from ..x509 import pem
    from .account import account as words_of

    if record.state != "released":
        if session.json:
            say.as_json(account(record, authority.now()))
        else:
            say.pairs([("serial", record.serial), ("status", "abandoned: it was recorded and never signed")])
        return
    der = authority.ledger.der(record.id)
    if as_pem:
        say.result(pem.encode("CERTIFICATE", der).decode().rstrip())
        return
    now = authority.now()
    sight = seen.last(authority, record.issuer, record.serial)
    if session.json:
        today, _ = profiles.today(authority, record)
        told = clock.of(authority, record).as_dict()
        say.as_json({**account(record, now, sight), "clock": told, "profile_today": today, "pem": pem.encode("CERTIFICATE", der).decode()})
        return
    holder = authority.reads.holder(record.holder)
    status = record.status(now)
    if record.revoked_at is not None:
        status += f" since {iso(record.revoked_at)} ({record.revoked_reason})"
    lines = [("status", status)]
    if record.revoked_at is not None:
        lines.append(("clock", str(clock.of(authority, record))))
    lines += [("holder", _holder_line(holder.display if holder else record.holder, record))]
    if holder and holder.groups:
        lines.append(("groups", ", ".join(holder.groups)))
    lines.append(("issued", f"{iso(record.recorded_at)} under the profile {record.profile} by {record.requester} ({record.door})"))
    if sight and record.revoked_at is None:  # otherwise the clock has it; only web servers that ask at each request tell
        lines.append(("last let in", f"{iso(sight.at)}{f' at {sight.site}' if sight.site else ''}"))
    if record.profile_sha256:
        lines.append(("profile", f"{record.profile} as {record.profile_sha256[:16]}; {profiles.today(authority, record)[1]}"))
    if record.renews:
        lines.append(("renews", record.renews.partition("/")[2]))
    say.pairs(lines + words_of("certificate", der, now=now))


def _holder_line(display: str, record: CertificateRecord) -> str:
    return f"{display}{f' ({record.holder})' if display != record.holder else ''}, {record.kind}{f', device {record.device}' if record.device else ''}"


def _show_file(session: Session, path: Path, password_file: Path | None, *, as_pem: bool) -> None:
    from ..ports import SystemClock
    from ..x509 import pem
    from . import account as accounts
    from .inputs import NAMES, name_of, password, sniffed

    now = SystemClock().now()
    objects = sniffed(path, files.MAX_INPUT)
    if as_pem:
        printed = [(kind, der) for kind, der in objects if kind in _PEM]
        if not printed:
            what = " and ".join(dict.fromkeys(NAMES.get(kind, kind) for kind, _ in objects))
            raise Refused("not-printed", f"{name_of(path)} holds {what}, which is not printed", hint=f"--pem is for: {', '.join(_PEM)}")
        for kind, der in printed:
            say.result(pem.encode(_PEM[kind], der).decode().rstrip())
        return
    secret = password(password_file, "", "") if password_file else None
    told: list[Any] = []
    for number, (kind, der) in enumerate(objects):
        ours = _ours(session, der) if kind == "certificate" else None
        if session.json:
            of_file = accounts.account_json(kind, der, now=now, password=secret)
            told.append({**of_file, "ledger": _standing(ours, now) if ours else None} if kind == "certificate" else of_file)
            continue
        if number:
            say.result("")
        say.pairs(accounts.account(kind, der, now=now, password=secret) + ([("in our ledger", _standing_words(ours, now))] if ours else []))
    if session.json:
        say.as_json(told[0] if len(told) == 1 else told)


def _ours(session: Session, der: bytes) -> CertificateRecord | None:
    """What the ledger knows of a certificate in a file, when there is a ledger."""
    from ..x509.certificate import read_certificate

    try:
        authority = session.authority()
    except GatekeyError:
        return None
    return next(iter(authority.reads.by_fingerprint(read_certificate(der).fingerprint)), None)


def _standing(record: CertificateRecord, now: int) -> dict[str, Any]:
    """How the ledger stands to a certificate that lies in a file: the file itself knows of dates only."""
    told = account(record, now)
    return {fact: told[fact] for fact in ("status", "revoked_at", "reason", "holder", "device", "issuer")}


def _standing_words(record: CertificateRecord, now: int) -> str:
    since = "" if record.revoked_at is None else f" since {iso(record.revoked_at)} ({record.revoked_reason})"
    return f"{record.status(now)}{since}, holder {record.holder}{f', device {record.device}' if record.device else ''}"
