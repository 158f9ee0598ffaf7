"""What a handler of the API is given, and what it may answer with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import Refused
from ...model.access import Caller, scopes_of
from ...model.names import reserved_problem
from ...model.record import CertificateRecord
from ..message import Answer, Call

if TYPE_CHECKING:
    from ...authority.authority import Authority
    from ...authority.health import Finding
    from ...authority.issue import Asked
    from ...authority.probe import Probes
    from ...authority.steps import Steps
    from ...lifecycle import Released
    from ...ports import Entropy, PortableKey
    from .shapes import Shape


class Knocking(NamedTuple):
    """One check of a live site. `said`: the checked words of the question. `addresses`: where it may be knocked at, and nowhere else. `roots`: PEM.

    `bundle`: the folder that is published, if there is one. `now`: POSIX seconds. `seconds`: how long it may take. `probes`: test identities, and how their
    canary is revoked; None where there are none.
    """

    said: Mapping[str, Any]
    addresses: tuple[str, ...]
    roots: bytes
    bundle: Path | None
    now: int
    entropy: Entropy
    seconds: float
    probes: Probes | None = None
    revoke: Callable[[], None] | None = None


class Outside(NamedTuple):
    """The web server's side, which knows no authority, and calls, which are guarded: functions, because this room may know neither.

    `configure`: server, words by the names of a site's fields, and what nginx runs with -> the configuration. `checks`: all that a check can look at.
    `place`: host and port that a question means; raises Malformed. `addresses`: of a host, guarded; also those networks are allowed; raises Refused.
    `knock`: the report. `configured`: whether a service would start with the configuration that lies in this home now.
    """

    configure: Callable[[str, Mapping[str, Any], str], dict[str, Any]]
    checks: Callable[[], list[dict[str, Any]]]
    place: Callable[[Mapping[str, Any]], tuple[str, int]]
    addresses: Callable[[str, Sequence[str]], tuple[str, ...]]
    knock: Callable[[Knocking], dict[str, Any]]
    configured: Callable[[Path], Finding]


class Desk(NamedTuple):
    """What the API needs beside the authority. `make_key`: a private key of this type, for somebody else. `roles`: those of a login.

    `kept`: what handlers remember between questions.
    """

    make_key: Callable[[str], PortableKey]
    outside: Outside
    roles: Callable[[str], tuple[str, ...]]
    kept: dict[Any, Any]


class Ask(NamedTuple):
    """One question. `authority` acts in the name of `caller`. `path`, `query` and `body` are checked; `key` and `digest`: idempotency, "" without it."""

    authority: Authority
    caller: Caller
    call: Call
    desk: Desk
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]
    key: str = ""
    digest: str = ""


class Wish(NamedTuple):
    """A certificate is to be issued, together with whatever else is asked for at this moment. `finish` makes the answer out of it and what there is to say."""

    ask: Ask
    asked: Asked
    finish: Callable[[Released, CertificateRecord, Sequence[str]], Answer]


class Route(NamedTuple):
    """One line of the table. `scopes`: any one of them is enough; () for everybody who has signed in.

    `answer` is the JSON of success; for other media types it is None and `media` says which. `issues`: the handler answers with a Wish, perhaps in steps.
    `secrets`: names in the answer that are told the first time only, never kept for a repeated question. `apart`: what it does takes more than one write, or
    is no matter of the ledger; it cannot be one transaction with the answer that is kept of it, and doing it again must be harmless.
    """

    method: str
    path: str
    name: str
    about: str
    scopes: tuple[str, ...]
    handler: Callable[[Ask], Answer | Wish | Steps[Wish]]
    query: Shape | None = None
    body: Shape | None = None
    answer: Shape | None = None
    media: str = "application/json"
    status: int = 200
    issues: bool = False
    secrets: tuple[str, ...] = ()
    apart: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes anything. What the scope `read` is enough for does not, however it is asked: then nothing is kept under an idempotency key."""
        return self.method != "GET" and "read" not in self.scopes


def not_above(ask: Ask, login: str) -> None:
    """Refuses to let somebody make himself somebody who may do more, or shut her out: by a certificate in her name, by her e-mail, by taking hers away.

    Whoever may `manage` may give roles, and so everything. What belongs to the service itself is for them alone.
    """
    if ask.caller.may("manage"):
        return
    if reserved_problem(login):
        message, lacks = f"{login} is the service itself, so this is for an administrator", ["manage"]
    else:
        lacks = [scope for scope in scopes_of(ask.desk.roles(login)) if not ask.caller.may(scope)]
        message = f"{login} may do more than {ask.caller.login} here ({', '.join(lacks)}), so this is for an administrator"
    if not lacks:
        return
    own = scopes_of(ask.desk.roles(ask.caller.login))
    enough = ["manage"] if "manage" in own else lacks
    if ask.caller.way != "token" or not set(enough) <= set(own):
        raise Refused("above-caller", message, hint="ask somebody with the role administrator")
    if not reserved_problem(login):
        message = f"{login} may do more ({', '.join(lacks)}) than this token of {ask.caller.login}"
    scopes = f"the scope{'s' if len(enough) > 1 else ''} {', '.join(enough)}"
    raise Refused("above-caller", message, hint=f"this token lacks {scopes}: take another one, or sign in with the certificate of {ask.caller.login}")


def certificate(ask: Ask, *wanted: str) -> CertificateRecord:
    """The one certificate that the path means. Never a file: these words came over a network. Raises NotFound, Conflict."""
    from ...authority.lookup import one

    return one(ask.authority, ask.path["ref"], wanted=wanted, files_too=False)
