"""`gatekey help`: the help of every verb, and `help install`: what to do with a certificate on each system. Needs no authority."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GatekeyError, Refused
from ..model.install import GUIDES, as_dict, filled, stem_problem
from . import say
from .session import Family, Session, pass_session

if TYPE_CHECKING:
    from ..model.install import Guide

#: Endings of files that we write; what stands before them is the name.
_ENDINGS = (".chain.crt", ".crt", ".p12", ".pfx", ".mobileconfig", ".pem", ".key", ".csr", ".inf")


class Help(Family):
    """`gatekey help`, `gatekey help issue client`: what `--help` says there. `gatekey help install` is a verb of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing or {"-h", "--help", *self.list_commands(ctx)} & set(args):
            return super().parse_args(ctx, args)
        about = ctx.find_root()
        for before, word in zip(("", *args), args, strict=False):
            if word.startswith("-") or before == "--home":
                continue
            command = about.command.get_command(about, word) if isinstance(about.command, click.Group) else None
            if command is None:
                ctx.fail(f"there is no {about.command_path} {word}")
            about = command.make_context(word, [], about, resilient_parsing=True)
        say.result(about.get_help())
        return ctx.exit(0)


@click.group("help", cls=Help)
def help_() -> None:
    """The help of every verb (gatekey help issue client), and what to do on each system with the file that was issued (gatekey help install)."""


@help_.command("install")
@click.argument("target", required=False, type=click.Choice(tuple(GUIDES)), metavar="[TARGET]")
@click.argument("ref", required=False, metavar="[REF]")
@click.option("--file", "only_helper", is_flag=True, help="Print only the file that the steps need (windows-born: NAME.inf).")
@pass_session
def install(session: Session, target: str | None, ref: str | None, only_helper: bool) -> None:
    """How a certificate is installed on TARGET, step by step, in plain words.

    Without TARGET it lists the systems. REF, a login or the file that was handed over, fills in the names. Nothing is changed, and no authority is needed.

    \b
      gatekey help install
      gatekey help install ios ann
      gatekey help install windows handover/ann.p12
      gatekey help install windows-born ann --file > ann.inf
    """
    if target is None:
        _list(session)
        return
    guide = GUIDES[target]
    if ref:
        guide = filled(guide, *_names(session, ref, guide))
    name = f"{_names(session, ref, guide)[0] if ref else 'NAME'}.{guide.helper_ending}" if guide.helper else ""
    if only_helper:
        if not guide.helper:
            raise click.UsageError(f"the steps for {target} need no file of their own")
        say.result(guide.helper.rstrip("\n"))
    elif session.json:
        say.as_json(as_dict(target, guide, name))
    else:
        _tell(guide, name)


def _list(session: Session) -> None:
    if session.json:
        say.as_json([{"target": target, "title": guide.title} for target, guide in GUIDES.items()])
        return
    say.pairs([(target, guide.title) for target, guide in GUIDES.items()])
    session.words()
    session.words("the steps:  gatekey help install TARGET [REF]")


def _names(session: Session, ref: str, guide: Guide) -> tuple[str, str]:
    """The person's name, and the file's if it has another one than NAME.ENDING. Raises Refused for names that could not be typed in every shell."""
    file = Path(ref).name
    ending = next((ending for ending in _ENDINGS if file.lower().endswith(ending) and len(file) > len(ending)), "")
    name = file[: -len(ending)] if ending else _known(session, ref)
    if problem := stem_problem(name):
        raise Refused("bad-name", f"{problem}; these steps are written for shells", hint="rename the file, or say the login")
    return name, file if ending == f".{guide.ending}" else ""


def _known(session: Session, ref: str) -> str:
    """The name that our ledger has for a REF; without a ledger, or if it knows nothing, the REF itself."""
    from ..authority.lookup import candidates

    try:
        found = candidates(session.authority(), ref)
    except GatekeyError:
        return ref
    return found[0].title if found else ref


def _tell(guide: Guide, helper_name: str) -> None:
    say.result(guide.title)
    say.result(f"  made with: {guide.make}")
    say.result("")
    number = 0
    for step in guide.steps:
        if step.words:
            number += 1
            say.result(f"{number:>2}  {step.words}")
        if step.command:
            say.result(f"      {step.command}")
    if guide.helper:
        say.result("")
        say.result(f"{helper_name}:")
        for line in guide.helper.splitlines():
            say.result(f"  {line}".rstrip())
    say.result("")
    for note in guide.notes:
        say.result(f" -  {note}")
