"""`gatekey authority`: the authority's own certificates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import files
from ..authority import crl as crls
from ..authority import ends
from ..errors import Malformed, Refused
from ..model.instants import day, iso
from ..x509 import pem
from . import say
from .inputs import NAMES
from .session import Family, Session, pass_session, passphrase_option

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..model.record import AuthorityRecord


@click.group("authority", cls=Family)
def authority() -> None:
    """The authority's own certificates: roots and issuing CAs."""


def _account(held: Authority, record: AuthorityRecord) -> dict[str, Any]:
    issuing = held.issuing(record.name)
    newest = crls.newest(held, record.name)
    return {
        "name": record.name,
        "role": record.role,
        "side": record.side,
        "parent": record.parent,
        "subject": issuing.certificate.common_name,
        "key_type": issuing.key_type,
        "key_here": held.has_key(record.name),
        "serial": issuing.certificate.serial,
        "fingerprint": issuing.certificate.fingerprint,
        "not_before": iso(issuing.certificate.not_before),
        "not_after": iso(issuing.certificate.not_after),
        "crl": None if newest is None else {"number": newest.number, "entries": newest.entries, "next_update": iso(newest.next_update)},
    }


@authority.command("list")
@pass_session
def list_(session: Session) -> None:
    """All CAs, whether their keys are here, and how long their CRLs are good."""
    held = session.authority()
    accounts = [_account(held, record) for record in held.records()]
    if session.json:
        say.as_json(accounts)
        return
    rows = [
        [
            a["name"],
            a["role"],
            a["subject"],
            a["key_type"],
            "here" if a["key_here"] else "away",
            a["not_after"][:10],
            a["crl"]["next_update"][:10] if a["crl"] else "-",
        ]
        for a in accounts
    ]
    from ..authority.corporate import waiting

    for name in waiting(held):
        session.words(f"{name} has a key and waits for its certificate: {held.config.home / 'authorities' / name}.csr, then gatekey authority install FILE...")
    say.table(["authority", "role", "subject", "key", "key is", "until", "CRL good until"], rows, empty="")
    for sentence in (*crls.warnings(held), *ends.warnings(held)):
        say.warn(sentence)


@authority.command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """All about one CA."""
    from .account import account as words_of

    held = session.authority()
    record = held.record(name)
    told = _account(held, record)
    certificate = held.issuing(name).certificate
    if session.json:
        say.as_json({**told, "pem": pem.encode("CERTIFICATE", certificate.der).decode()})
        return
    lines = [("authority", f"{name} ({record.role}, {record.side})"), ("private key", "here" if told["key_here"] else "away")]
    if told["crl"]:
        lines.append(("CRL", f"number {told['crl']['number']}, {told['crl']['entries']} revoked, good until {told['crl']['next_update']}"))
    say.pairs(lines + words_of("certificate", certificate.der, now=held.now()))


@authority.command("export")
@click.argument("name", required=False, metavar="[AUTHORITY]")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A file, a folder that exists (one file each), or - for stdout.")
@click.option("--der", is_flag=True, help="DER instead of PEM (one authority only).")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@pass_session
def export(session: Session, name: str | None, out: Path, der: bool, force: bool) -> None:
    """Write an authority's certificate, or all of them without a name. Private keys are never exported."""
    held = session.authority()
    names = [held.record(name).name] if name else [record.name for record in held.records() or held.need("people")]
    texts = {each: held.issuing(each).certificate.der for each in names}
    if der and (len(names) > 1 and not out.is_dir()):
        raise click.UsageError("--der holds one certificate: name an authority, or give a folder")
    if str(out) == "-":
        if der and sys.stdout.isatty():
            raise Refused("binary-to-terminal", "a certificate in DER is not for a terminal", hint="leave out --der, or say --out FILE")
        if session.json:
            say.as_json({"authorities": names, "pem": b"".join(pem.encode("CERTIFICATE", data) for data in texts.values()).decode()})
            return
        for data in texts.values():
            sys.stdout.buffer.write(data if der else pem.encode("CERTIFICATE", data))
        sys.stdout.buffer.flush()
        return
    encoded = {each: data if der else pem.encode("CERTIFICATE", data) for each, data in texts.items()}
    if out.is_dir():
        wanted = {out / f"{each}.crt": data for each, data in encoded.items()}
    else:
        files.writable_folder(out.parent)
        wanted = {out: b"".join(encoded.values())}
    if not force:
        files.absent(wanted)
    for path, data in wanted.items():
        files.put(path, data, force=force)
    if session.json:
        say.as_json({"files": [str(path) for path in wanted], "authorities": names})
        return
    for path in wanted:
        say.result(str(path))
    for each in names:
        session.words(f"{each}: SHA-256 {held.issuing(each).certificate.fingerprint}, until {day(held.issuing(each).certificate.not_after)}")


@authority.command("install")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@passphrase_option
@pass_session
def install(session: Session, paths: tuple[Path, ...]) -> None:
    """Take in what a root elsewhere has signed: certificates of our issuing CAs, those above them, and the CRL of their root.

    \b
      gatekey authority install people.crt servers.crt root.crt root.crl
      gatekey authority install root.crl              a newer CRL of the root, in time before the old one runs out
    """
    from ..authority import corporate
    from .inputs import sniffed

    held = session.authority(writing=True)
    objects = [found for path in paths for found in sniffed(path, files.MAX_INPUT)]
    certificates = [der for kind, der in objects if kind == "certificate"]
    lists = [der for kind, der in objects if kind == "crl"]
    if other := [kind for kind, _ in objects if kind not in ("certificate", "crl")]:
        raise Malformed("wrong-kind", f"there is {NAMES.get(other[0], other[0])} among the files", hint="give certificates and CRLs only")
    done = corporate.install(held, certificates, lists)
    if session.json:
        say.as_json({"done": done})
        return
    for line in done:
        say.result(line)
