"""The built-in profiles, read from the TOML files beside this module, and those of one's own in a home, which have the same form."""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import Misconfigured, NotFound
from ..model.profile import MAX_TEXT, Profile, name_problem, nearest, parse_profile, read_toml

#: Every built-in profile has a file NAME.toml here; a test compares.
NAMES = ("client", "client-short", "device", "server", "people-root", "people", "servers-root", "servers", "root", "ocsp-responder", "probe", "probe-server")
#: Bytes of a file: four for each character. What is larger is something else.
MAX_BYTES = 4 * MAX_TEXT


@functools.cache
def built_in(name: str) -> Profile:
    """The built-in profile `name`. One file is read and parsed (tomllib 4 ms, once; 0.3 ms each), so only what is needed is. Raises NotFound("no-profile")."""
    if name not in NAMES:
        raise _unknown(name, NAMES)
    path = Path(__file__).with_name(f"{name}.toml")
    return parse_profile(name, path.read_text("utf-8"), source=path.name)


def load(*names: str) -> dict[str, Profile]:
    """Built-in profiles by name; all of them when none is named. Raises NotFound("no-profile")."""
    return {name: built_in(name) for name in names or NAMES}


def own_names(folder: Path) -> tuple[str, ...]:
    """The names of the profiles in `folder`, sorted; none when there is no such folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml"))) if folder.is_dir() else ()


def find(name: str, folder: Path | None = None) -> Profile:
    """The profile `name`: the home's own if `folder` has NAME.toml, otherwise the built-in one.

    Raises NotFound("no-profile") with the nearest name, Misconfigured("bad-profile") with all mistakes of the file.
    """
    own = own_names(folder) if folder else ()
    if folder and name in own:
        return parse_profile(name, read_text(folder / f"{name}.toml"), source=str(folder / f"{name}.toml"))
    if name in NAMES:
        return built_in(name)
    raise _unknown(name, tuple(dict.fromkeys((*own, *NAMES))))


def read_text(path: Path) -> str:
    """The text of a profile's file. Raises Misconfigured("bad-profile") when it cannot be read, is too large or is no UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as wrong:
        raise Misconfigured("bad-profile", f"{path} cannot be read: {wrong.strerror}", source=str(path)) from None
    return decode(data, str(path))


def decode(data: bytes, source: str) -> str:
    """The text out of a file's bytes. Raises Misconfigured("bad-profile") when it is too large or is no UTF-8."""
    if len(data) > MAX_BYTES:
        raise Misconfigured("bad-profile", f"{source} is larger than the {MAX_BYTES // 1024} KiB of a profile", source=source)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Misconfigured("bad-profile", f"{source} is not UTF-8 text", source=source) from None


def read(data: bytes, *, source: str) -> Profile:
    """The one profile in a file of any name. Raises Misconfigured("bad-profile") with all mistakes."""
    text = decode(data, source)
    return parse_profile(_name_in(text, Path(source).stem), text, source=source)


def _name_in(text: str, stem: str) -> str:
    """How the profile in a text is called: the file's own name if there is such a table, otherwise the first; `parse_profile` judges the rest."""
    try:
        found = read_toml(text, stem).get("profile")
    except Misconfigured:
        found = None
    names = list(found) if isinstance(found, dict) else []
    if names:
        return stem if stem in names else names[0]
    return "name" if name_problem(stem) else stem


def text_of(name: str, folder: Path | None = None) -> str:
    """The TOML of the profile `name`, as `find` would take it. Raises NotFound("no-profile"), Misconfigured("bad-profile")."""
    if folder and name in own_names(folder):
        return read_text(folder / f"{name}.toml")
    if name not in NAMES:
        raise _unknown(name, tuple(dict.fromkeys((*(own_names(folder) if folder else ()), *NAMES))))
    return read_text(Path(__file__).with_name(f"{name}.toml"))


def _unknown(name: str, known: tuple[str, ...]) -> NotFound:
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else "name one of these"
    return NotFound("no-profile", f"there is no profile {name!r}; known are {', '.join(known)}", hint=hint, known=known, nearest=near)
