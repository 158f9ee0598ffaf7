"""What the agent says of itself and remembers over a restart: a JSON file beside the target. Which bundle is in force, since when, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from .. import files
from ..errors import GatekeyError
from ..model.instants import iso, parse_instant
from .agent_bundle import Memory

VERSION = 1
#: A service writes at least the time of the file this often (seconds); one that has not for `SILENT` is gone.
ALIVE, SILENT = 60, 600


class Problem(NamedTuple):
    """What is wrong, in words, and since when (POSIX seconds)."""

    code: str
    message: str
    hint: str = ""
    since: int = 0


class CrlStatus(NamedTuple):
    """A CRL that is in force, with the SHA-256 of its issuer's name and key."""

    issuer: str
    key: str
    number: int
    entries: int
    next_update: int


class Status(NamedTuple):
    """What is in place, what the server has read, and what is wrong. Instants are POSIX seconds, 0 for never.

    `number`, `made_at`, `fresh_until`, `crls`: of the bundle in the target, there since `installed_at`. `loaded`: digest of the files that the server read
    last, at `serving_since`, with `serving_number`. `roots`: fingerprints that are kept to. `service`: a process goes on watching.
    """

    server: str = ""
    source: str = ""
    target: str = ""
    service: bool = False
    roots: tuple[str, ...] = ()
    number: int = -1
    made_at: int = 0
    installed_at: int = 0
    fresh_until: int = 0
    crls: tuple[CrlStatus, ...] = ()
    loaded: str = ""
    serving_number: int = -1
    serving_since: int = 0
    problem: Problem | None = None
    warning: str = ""

    @property
    def health(self) -> str:
        return "error" if self.problem else "warning" if self.warning else "ok" if self.serving_number >= 0 else "starting"

    @property
    def sentence(self) -> str:
        """The whole of it in a line."""
        return f"{self.health}: {f'revocation {self.serving_number}' if self.serving_number >= 0 else 'nothing yet'} is in force"

    @property
    def memory(self) -> Memory:
        return Memory(frozenset(self.roots), self.number, self.made_at, {crl.key: crl.number for crl in self.crls})

    def as_dict(self) -> dict[str, Any]:
        """For JSON; instants in ISO form, null for never."""

        def at(instant: int) -> str | None:
            return iso(instant) if instant else None

        def number(value: int) -> int | None:
            return value if value >= 0 else None

        problem = self.problem
        return {
            "version": VERSION,
            "health": self.health,
            "server": self.server,
            "source": self.source,
            "target": self.target,
            "service": self.service,
            "serving": {"number": number(self.serving_number), "since": at(self.serving_since), "files": self.loaded or None},
            "installed": {
                "number": number(self.number),
                "made_at": at(self.made_at),
                "since": at(self.installed_at),
                "fresh_until": at(self.fresh_until),
                "revoked": sum(crl.entries for crl in self.crls),
                "crls": [{**crl._asdict(), "next_update": at(crl.next_update)} for crl in self.crls],
            },
            "roots": list(self.roots),
            "warning": self.warning or None,
            "error": {"code": problem.code, "message": problem.message, "hint": problem.hint, "since": at(problem.since)} if problem else None,
        }


def write(path: Path, status: Status) -> None:
    """Replaces the file as a whole. Raises what the file system raises."""
    files.replace(path, (json.dumps(status.as_dict(), indent=1) + "\n").encode())


def read(path: Path) -> Status | None:
    """What the file says; None where it is missing, damaged or of another version: then the target itself is the memory."""
    try:
        said = json.loads(files.read(path, 1024 * 1024))
        return _status(said) if said["version"] == VERSION else None
    except (GatekeyError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _status(said: dict[str, Any]) -> Status:
    def at(text: str | None) -> int:
        return parse_instant(text) if text else 0

    def number(value: int | None) -> int:
        return -1 if value is None else int(value)

    serving, installed, error = said["serving"], said["installed"], said["error"]
    return Status(
        str(said["server"]),
        str(said["source"]),
        str(said["target"]),
        bool(said["service"]),
        tuple(map(str, said["roots"])),
        number(installed["number"]),
        at(installed["made_at"]),
        at(installed["since"]),
        at(installed["fresh_until"]),
        tuple(CrlStatus(str(c["issuer"]), str(c["key"]), int(c["number"]), int(c["entries"]), at(c["next_update"])) for c in installed["crls"]),
        str(serving["files"] or ""),
        number(serving["number"]),
        at(serving["since"]),
        Problem(str(error["code"]), str(error["message"]), str(error["hint"]), at(error["since"])) if error else None,
        str(said["warning"] or ""),
    )
