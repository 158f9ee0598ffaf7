"""`gatekey serve`: the service."""

from __future__ import annotations

import click

from . import say
from .session import Session, Verb, ask_passphrase, pass_session, passphrase_option


@click.command("serve", cls=Verb)
@click.option("--unit", is_flag=True, help="Print a systemd unit for this home instead, and end.")
@click.option("--sockets", is_flag=True, help="With --unit: print the systemd sockets of its listeners instead.")
@passphrase_option
@pass_session
def serve(session: Session, unit: bool, sockets: bool) -> int:
    """Make the authority reachable: CA certificates, CRLs, OCSP, health and metrics on the public listener; the API, and who may enter, on the private one.

    Without a word in gatekey.toml it listens on 127.0.0.1:8080 (plain HTTP) and 127.0.0.1:8443 (HTTPS; client certificates are asked for), with two worker
    processes. Log lines are JSON on stderr.

    \b
    Signals:
      TERM, INT   finish what was begun, then end (after INT, Ctrl-C, with exit code 130)
      HUP         read gatekey.toml again (all but the addresses) and replace every worker; no request is dropped. The log says what needs a restart

    Needs the extra: pip install '.[serve]' in the checkout. docs/service.md tells the rest.
    """
    from .. import app, config

    if unit or sockets:
        from ..web import unit as systemd

        told = config.load(session.place)
        click.echo((systemd.socket_unit if sockets else systemd.unit)(told), nl=False)
        for sentence in systemd.lacking(told):
            say.warn(sentence)
        return 0
    said = config.load(session.place)
    found = app.passphrase_file(session.passphrase_file, said.passphrase_file)
    return app.service(session.place, passphrase=app.passphrase_in(found) if found else ask_passphrase)
