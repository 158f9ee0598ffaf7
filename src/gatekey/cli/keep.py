"""Housekeeping: `gatekey store check`, `passphrase change`, `completion`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import Misconfigured
from . import say
from .session import Family, Session, Verb, ask_new_passphrase, pass_session, passphrase_option


@click.group("store", cls=Family)
def store() -> None:
    """The ledger: is it whole?"""


@store.command("check")
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@passphrase_option
@pass_session
def check(session: Session, repair: bool) -> None:
    """Look at everything that was promised.

    The database file, the audit chain, each certificate's bytes against its row and its signature, and everything against the audit log: revocations, CRLs,
    authorities, people, roles, tokens. Then the keys.

    Says "the ledger is whole", or names what is not and ends with exit code 1.
    """
    from ..authority import check as checks

    authority = session.authority()
    done, owed = checks.repair(authority) if repair else ([], [])
    shown = sys.stderr.isatty() and not session.quiet

    def progress(count: int) -> None:
        if shown and count % 500 == 0:
            click.echo(f"\r{count} certificates", nl=False, err=True)

    found = [*owed, *checks.findings(authority, progress)]
    if shown:
        click.echo("\r\033[K", nl=False, err=True)
    if session.json:
        say.as_json({"whole": not found, "findings": found, "repaired": done})
    else:
        for line in done:
            say.result(f"mended: {line}")
        for line in found:
            say.result(f"found: {line}")
        if not found:
            say.result("the ledger is whole")
    if found:
        raise click.exceptions.Exit(1)


@click.group("passphrase", cls=Family)
def passphrase() -> None:
    """The passphrase of the keys."""


@passphrase.command("change")
@click.option("--new-passphrase-file", type=click.Path(path_type=Path), metavar="F", help="A file whose first line is the new passphrase.")
@passphrase_option
@pass_session
def change(session: Session, new_passphrase_file: Path | None) -> None:
    """Encrypt all keys with another passphrase: all of them or none, also when it is interrupted."""
    from .. import app
    from ..model.passwords import chosen

    authority = session.authority()
    for label in authority.keyring.labels()[:1]:
        authority.keyring.open(label)  # the old passphrase first: nothing is asked about the new one before it is known to be right
    if new_passphrase_file:
        new = chosen(app.passphrase_from(new_passphrase_file))
    elif sys.stdin.isatty():
        new = ask_new_passphrase()
    else:
        raise Misconfigured("no-passphrase", "nothing gives the new passphrase", hint="--new-passphrase-file FILE, or run it on a terminal")
    changed = app.change_passphrase(authority, new)
    if session.json:
        say.as_json({"changed": changed})
    else:
        say.result(f"changed the passphrase of {', '.join(changed)}")
        session.words("keys that are kept elsewhere (a locked-up root) still have the old one")


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for your shell.

    \b
      bash   eval "$(gatekey completion bash)"      in ~/.bashrc
      zsh    eval "$(gatekey completion zsh)"       in ~/.zshrc
      fish   gatekey completion fish > ~/.config/fish/completions/gatekey.fish
    """
    from click.shell_completion import get_completion_class

    from . import gatekey

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows these three
    say.result(kind(gatekey, {}, "gatekey", "_GATEKEY_COMPLETE").source())
