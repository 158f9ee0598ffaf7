"""The built-in profiles, read from the TOML files beside this module, and those of one's own in a home, which have the same form."""

from __future__ import annotations

import functools
from pathlib import Path

from ..errors import Misconfigured, NotFound
from ..model.profile import Profile, nearest, parse_profile

#: Every built-in profile has a file NAME.toml here; a test compares.
NAMES = ("client", "device", "server", "people-root", "people", "servers-root", "servers", "root", "ocsp-responder", "probe", "probe-server")
#: A profile is a page of text. What is larger is something else.
MAX_BYTES = 64 * 1024


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
        if len(data) > MAX_BYTES:
            raise Misconfigured("bad-profile", f"{path} is larger than the {MAX_BYTES // 1024} KiB of a profile", source=str(path))
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Misconfigured("bad-profile", f"{path} is not UTF-8 text", source=str(path)) from None
    except OSError as wrong:
        raise Misconfigured("bad-profile", f"{path} cannot be read: {wrong.strerror}", source=str(path)) from None


def _unknown(name: str, known: tuple[str, ...]) -> NotFound:
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else "name one of these"
    return NotFound("no-profile", f"there is no profile {name!r}; known are {', '.join(known)}", hint=hint, known=known, nearest=near)
