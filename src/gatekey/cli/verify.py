"""`gatekey verify`: would we let this certificate in, and why not."""

from __future__ import annotations

from pathlib import Path

import click

from ..authority import crl as crls
from ..authority import ends
from ..authority.verify import verify as judge
from ..errors import GatekeyError
from ..model.instants import day, iso, parse_instant
from ..x509.certificate import Certificate, read_certificate
from ..x509.path import Verdict, display
from . import say
from .inputs import certificates
from .session import Session, Verb, pass_session


@click.command("verify", cls=Verb)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--at", metavar="TIME", help="As of then (2026-11-23 or 2026-11-23T15:00:00Z) instead of now.")
@click.option("--server", is_flag=True, help="As a web server's certificate, the way a browser would look at it.")
@pass_session
def verify(session: Session, files: tuple[Path, ...], at: str | None, server: bool) -> None:
    """Would we let this certificate in, and why not.

    Looks at the path to our root, at dates, at usage and at revocation, and says which of them fails. FILE holds the certificate first; others in it may help
    to build the path. Ends with exit code 1 if one of the files is refused.
    """
    authority = session.authority()
    instant = parse_instant(at) if at else authority.now()
    told: list[dict[str, object]] = []
    refused = False
    for file in files:
        try:
            held = [read_certificate(der) for der in certificates(file)]
        except GatekeyError as unreadable:
            if len(files) == 1:
                raise
            refused = True  # the others are judged all the same
            told.append({"file": str(file), "at": iso(instant), "ok": False, "error": {"code": unreadable.code, "message": unreadable.message}})
            if not session.json:
                say.result(f"{file}: no")
                say.result(f"  {unreadable.message}")
            continue
        verdict = judge(authority, held[0], held[1:], at=instant, purpose="server" if server else "client")
        refused = refused or not verdict.ok
        told.append({"file": str(file), "at": iso(instant), **verdict.as_dict()})
        if not session.json:
            _tell(str(file), held[0], verdict)
            if not server and held[0].extended == ("serverAuth",):
                session.words("  this is a web server's certificate; --server looks at it as one")
    if session.json:
        say.as_json(told[0] if len(told) == 1 else told)
    for sentence in (*crls.warnings(authority), *ends.warnings(authority)):
        say.warn(sentence)
    if refused:
        raise click.exceptions.Exit(1)


def _tell(file: str, leaf: Certificate, verdict: Verdict) -> None:
    say.result(f"{file}: {'yes' if verdict.ok else 'no'}")
    for check in ("path", "dates", "usage", "revocation"):
        found = [finding for finding in verdict.findings if finding.check == check]
        for finding in found:
            whose = "" if finding.subject in (display(leaf), leaf.serial) else f"{finding.subject}: "
            say.result(f"  {check.ljust(10)}  {whose}{finding.message}")
        if not found and check in verdict.checked:
            say.result(f"  {check.ljust(10)}  ok{f', until {day(leaf.not_after)}' if check == 'dates' else ''}")
