"""`gatekey doctor`: the same named checks as /readyz, from the command line."""

from __future__ import annotations

import click

from ..authority import health
from ..authority import jobs as job_rows
from ..model.instants import iso
from . import say
from .session import Session, Verb, pass_session, passphrase_option


@click.command("doctor", cls=Verb)
@passphrase_option
@pass_session
def doctor(session: Session) -> None:
    """How the authority is doing: named checks, each with what to do when it fails.

    The same checks as /readyz of the service, without a service. Ends with exit code 1 if one fails; a warning is only told.
    """
    authority = session.authority()
    found = health.findings(authority)
    if session.json:
        say.as_json(health.as_dict(authority, found))
    else:
        for name, finding in found.items():
            say.result(f"{finding.state.ljust(5)} {name}{f': {finding.message}' if finding.message else ''}")
            if finding.remedy and finding.state != health.OK:
                say.result(f"      {finding.remedy}")
        for name, _, done, outcome in job_rows.states(authority):
            session.words(f"job {name}: {outcome or 'not run yet'}{f', {iso(done)}' if done else ''}")
    if any(finding.state == health.FAIL for finding in found.values()):
        raise click.exceptions.Exit(1)
