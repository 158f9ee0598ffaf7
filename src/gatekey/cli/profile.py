"""`gatekey profile`: under which words certificates are issued, which rules follow from them, and how one's own come into the home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import profiles
from ..errors import Misconfigured, NotFound, Reason, Refused
from ..model.instants import span
from ..policy.explain import explain as rules_of
from ..policy.explain import outline
from . import say
from .session import Family, Session, pass_session

if TYPE_CHECKING:
    from ..model.profile import Profile

BUILT_IN, OWN, INSTEAD = "built in", "own", "own, in place of the built-in one"


@click.group("profile", cls=Family)
def profile() -> None:
    """Profiles: under which words certificates are issued. Built-in ones and your own have the same form."""


@profile.command("list")
@pass_session
def list_(session: Session) -> None:
    """All profiles: the built-in ones and those of this home."""
    folder = _folder(session)
    told: list[dict[str, Any]] = []
    rows = []
    for name in dict.fromkeys((*profiles.NAMES, *profiles.own_names(folder))):
        origin = _origin(folder, name)
        try:
            one = profiles.find(name, folder)
        except Misconfigured as wrong:
            told.append({"name": name, "origin": origin, "mistakes": _mistakes(wrong)})
            rows.append([name, "-", "-", origin, f"has mistakes: gatekey profile check {folder / f'{name}.toml'}"])
            continue
        told.append(as_json(one, origin))
        rows.append([name, one.kind, span(one.validity), origin, one.about])
    if session.json:
        say.as_json(told)
    else:
        say.table(["name", "kind", "lives", "origin", "about"], rows, empty="")


@profile.command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """The profile NAME as TOML: a good start for one of your own.

    \b
      gatekey profile show client > visitor.toml
    """
    folder = _folder(session)
    text = profiles.text_of(name, folder)
    if session.json:
        say.as_json({**as_json(profiles.find(name, folder), _origin(folder, name)), "toml": text})
    else:
        say.result(text.rstrip("\n"))


@profile.command("explain")
@click.argument("name", metavar="NAME|FILE")
@pass_session
def explain(session: Session, name: str) -> None:
    """Every rule of issuing with its source, and what the profile says about it. A profile that is not in the home yet is named by its file."""
    folder = _folder(session)
    if name.endswith(".toml") or name == "-":
        path = Path(name)
        one, origin = _read(path)[1], f"the file {path}"
    else:
        one, origin = profiles.find(name, folder), _origin(folder, name)
    found = rules_of(one)
    if session.json:
        say.as_json({**as_json(one, origin), "outline": dict(outline(one)), "rules": [rule._asdict() for rule in found]})
        return
    say.pairs([("profile", f"{one.name} ({origin})"), *outline(one), ("sha256", one.sha256)])
    say.result(f"\nWhat must be so before a certificate is issued, {len(found)} rules:\n")
    for number, rule in enumerate(found, 1):
        say.result(f"{number:3} {rule.must}\n      here    {rule.says}\n      source  {rule.source}")


@profile.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@pass_session
def check(session: Session, files: tuple[Path, ...]) -> None:
    """Would this be a good profile? Says every mistake at once; a key that is not known meets the nearest one that is.

    A file holds one profile, [profile.NAME] (- for stdin). Where there is an authority, the profile's issuer must be one of its own. Ends with exit code 1
    if one of the files has mistakes.
    """
    told = []
    for path in files:
        mistakes, remarks, one = _judge(session, path)
        good = one is not None and not mistakes
        told.append({"file": str(path), "ok": good, "mistakes": mistakes, "remarks": remarks, "profile": as_json(one, "file") if one else None})
        if session.json:
            continue
        count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}"
        say.result(f"{path}: {f'good; profile {one.name} {one.sha256[:16]}' if one and good else count}")
        for line in (*mistakes, *remarks):
            say.result(f"  - {line}")
    if session.json:
        say.as_json(told[0] if len(told) == 1 else told)
    if not all(one["ok"] for one in told):
        raise click.exceptions.Exit(1)


@profile.command("add")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Also in place of a profile that has this name, or of a built-in one.")
@pass_session
def add(session: Session, file: Path, force: bool) -> None:
    """Put a profile of your own into the home, after checking it. It is in force for whatever is issued from then on; the audit log has it.

    \b
      gatekey profile add visitor.toml
      gatekey issue client eve --profile visitor
    """
    from ..authority.profiles import add as put

    authority = session.authority(writing=True)
    try:
        text, one = _read(file)
    except Misconfigured as wrong:
        raise Refused.because(tuple(Reason("bad-profile", mistake) for mistake in _mistakes(wrong))) from wrong
    path = put(authority, one, text, replaces=_hash_today(_folder(session), one.name), force=force)
    if session.json:
        say.as_json({"name": one.name, "file": str(path), "sha256": one.sha256})
        return
    say.result(str(path))
    how = {"client": "gatekey issue client NAME", "server": "gatekey issue server HOST"}.get(one.kind)
    session.words(f"the profile {one.name} is in force{f'; use it with: {how} --profile {one.name}' if how else ''}")


def as_json(one: Profile, origin: str) -> dict[str, Any]:
    """A profile as JSON; spans are seconds."""
    return {**one._asdict(), "names": one.names._asdict(), "holder": one.holder_kind, "origin": origin}


def _folder(session: Session) -> Path:
    return session.place / "profiles"


def _origin(folder: Path, name: str) -> str:
    if name not in profiles.own_names(folder):
        return BUILT_IN
    return INSTEAD if name in profiles.NAMES else OWN


def _mistakes(wrong: Misconfigured) -> list[str]:
    return list(wrong.facts.get("mistakes", [wrong.message]))


def _read(path: Path) -> tuple[str, Profile]:
    from .inputs import name_of, read

    data = read(path)
    return profiles.decode(data, name_of(path)), profiles.read(data, source=name_of(path))


def _judge(session: Session, path: Path) -> tuple[list[str], list[str], Profile | None]:
    """Mistakes, remarks and the profile itself, if it is one."""
    try:
        one = _read(path)[1]
    except Misconfigured as wrong:
        return _mistakes(wrong), [], None
    mistakes = []
    if one.kind in ("client", "server") and (session.place / "gatekey.toml").exists():
        try:
            session.authority().issuer_for(one)
        except Misconfigured as wrong:
            mistakes.append(f"{wrong.message}; {wrong.hint}")
    remarks = []
    if one.name in profiles.NAMES:
        remarks.append(f"{one.name} is the name of a built-in profile, whose place it would take (add --force)")
    if one.no_revocation:
        remarks.append("no-revocation: programs that know RFC 9608 do not look whether such a certificate is revoked; shut its holder out by the deny list")
    if one.extra:
        remarks.append(f"extra: every certificate is also good for {', '.join(one.extra)}")
    return mistakes, remarks, one


def _hash_today(folder: Path, name: str) -> str | None:
    """The hash of the profile that has this name today, "" for one that has mistakes; None when the name is free."""
    try:
        return profiles.find(name, folder).sha256
    except NotFound:
        return None
    except Misconfigured:
        return ""
