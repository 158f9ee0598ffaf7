"""`gatekey doctor`: the named checks of /readyz that need no running service, from the command line."""

from __future__ import annotations

import click

from ..authority import health
from ..model.instants import iso
from . import say
from .session import Session, Verb, pass_session, passphrase_option


@click.command("doctor", cls=Verb)
@passphrase_option
@pass_session
def doctor(session: Session) -> None:
    """How the authority is doing: named checks, each with what to do when it fails.

    \b
    Checks:
      ledger       the ledger can be read
      authorities  every CA has its certificate, and lives longer than what it issues
      crl          every CA has a CRL that is complete and has ten days to live
      publish      so has the folder that publish names, if there is one
      keys         the keys of the issuing CAs are here and open
      config       gatekey.toml is one that serve starts with: mail, webhook, certificate, proxies

    /readyz of the service has the same checks (config as a warning there: it runs already) and three that only a running service can make: view, ocsp and
    certificate. Ends with exit code 1 if one fails; a warning is only told.
    """
    from .. import app

    authority = session.authority()
    found = {**health.findings(authority), "config": app.configured(authority.config.home)}
    if session.json:
        say.as_json(health.as_dict(authority, found))
    else:
        for name, finding in found.items():
            say.result(f"{finding.state.ljust(5)} {name}{f': {finding.message}' if finding.message else ''}")
            if finding.remedy and finding.state != health.OK:
                say.result(f"      {finding.remedy}")
        for name, _, done, outcome in health.jobs(authority):
            session.words(f"job {name}, {f'last run {iso(done)}: {outcome}' if done else 'not run yet'}")
    if any(finding.state == health.FAIL for finding in found.values()):
        raise click.exceptions.Exit(1)
