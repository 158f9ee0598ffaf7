"""`gatekey token`: what programs show to the service instead of a certificate."""

from __future__ import annotations

import click

from ..authority import access
from ..model.access import SCOPES, Token
from ..model.instants import day, iso
from . import say
from .session import Family, Session, no_stdout, pass_session, refuse_without


@click.group("token", cls=Family)
def token() -> None:
    """Tokens for programs that talk to the service. A token may never do more than the roles of its holder allow at that moment."""


@token.command("add")
@click.argument("login")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="What it may. May be repeated.")
@click.option("--about", default="", metavar="TEXT", help="What it is for.")
@click.option("--days", type=int, default=90, show_default=True, help="How long it is good.")
@click.option("--out", type=click.Path(dir_okay=False), metavar="F", callback=no_stdout, help="Write it there (0600) instead of showing it.")
@click.option("--force", is_flag=True, help="With --out: overwrite a file that exists.")
@pass_session
def add(session: Session, login: str, scopes: tuple[str, ...], about: str, days: int, out: str | None, force: bool) -> None:
    """Make a token for a holder. It is told this once: only its hash is kept."""
    from pathlib import Path

    from .. import files

    if not out:
        refuse_without({"--force": force}, "--out")
    authority = session.authority(writing=True)
    if out:
        files.writable_folder(Path(out).parent)
        files.absent([Path(out)], force=force)
    made, secret = access.make_token(authority, login, scopes, about=about, days=days)
    if out:
        files.put(Path(out), f"{secret}\n".encode(), files.PRIVATE, force=force)
    else:
        say.words(f"token {made.id}:  {secret}")
        session.words("it is shown this once; send it as  Authorization: Bearer TOKEN")
    if session.json:
        say.as_json(_account(made))
    else:
        say.result(f"{made.id}  {made.login}  {' '.join(made.scopes)}  until {day(made.expires_at)}")


@token.command("list")
@click.option("--login", default="", help="Only those of this holder.")
@pass_session
def list_(session: Session, login: str) -> None:
    """All tokens, without their secrets."""
    found = access.tokens(session.authority(), login)
    if session.json:
        say.as_json([_account(one) for one in found])
        return
    rows = [
        [one.id, one.login, " ".join(one.scopes), one.about or "-", f"revoked {day(one.revoked_at)}" if one.revoked_at else day(one.expires_at), _used(one)]
        for one in found
    ]
    say.table(["token", "login", "scopes", "about", "until", "last used"], rows, empty="" if session.quiet else "no tokens")


def _used(one: Token) -> str:
    return day(one.used_at) if one.used_at else "never"


@token.command("revoke")
@click.argument("text", metavar="TOKEN")
@pass_session
def revoke(session: Session, text: str) -> None:
    """A token is worth nothing from now on. TOKEN is its short name, as in the list."""
    revoked = access.revoke_token(session.authority(writing=True), text)
    if session.json:
        say.as_json({"token": revoked, "revoked": True})
    else:
        say.result(f"revoked  {revoked}")


def _account(one: Token) -> dict[str, object]:
    return {
        "id": one.id,
        "login": one.login,
        "scopes": list(one.scopes),
        "about": one.about,
        "created_at": iso(one.created_at),
        "expires_at": iso(one.expires_at),
        "revoked_at": iso(one.revoked_at) if one.revoked_at else None,
        "used_at": iso(one.used_at) if one.used_at else None,
    }
