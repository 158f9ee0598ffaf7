"""What a handler of the API is given, and what it may answer with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import Refused
from ...model.access import Caller, scopes_of
from ...model.record import CertificateRecord
from ..message import Answer, Call

if TYPE_CHECKING:
    from ...authority.authority import Authority
    from ...authority.together import Asked
    from ...lifecycle import Released
    from ...ports import PortableKey
    from .shapes import Shape


class Desk(NamedTuple):
    """What the API needs beside the authority. `make_key`: a private key of this type, for somebody else. `kept`: what handlers remember between questions."""

    make_key: Callable[[str], PortableKey]
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

    asked: Asked
    finish: Callable[[Released, CertificateRecord, Sequence[str]], Answer]


class Route(NamedTuple):
    """One line of the table. `scopes`: any one of them is enough; () for everybody who has signed in.

    `answer` is the JSON of success; for other media types it is None and `media` says which. `issues`: the handler answers with a Wish.
    `secrets`: names in the answer that are told the first time only, never kept for a repeated question.
    """

    method: str
    path: str
    name: str
    about: str
    scopes: tuple[str, ...]
    handler: Callable[[Ask], Answer | Wish]
    query: Shape | None = None
    body: Shape | None = None
    answer: Shape | None = None
    media: str = "application/json"
    status: int = 200
    issues: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        return self.method != "GET"


def not_above(ask: Ask, login: str) -> None:
    """Refuses to let somebody make himself somebody who may do more: by a certificate in her name, by her e-mail, by her leaving.

    Whoever may `manage` may give roles, and so everything.
    """
    from ...authority import access

    beyond = [scope for scope in scopes_of(access.roles(ask.authority, login)) if not ask.caller.may(scope)]
    if beyond and not ask.caller.may("manage"):
        message = f"{login} may do more than {ask.caller.login} here ({', '.join(beyond)}), so this is for an administrator"
        raise Refused("above-caller", message, hint="ask somebody with the role administrator")


def certificate(ask: Ask, *wanted: str) -> CertificateRecord:
    """The one certificate that the path means. Never a file: these words came over a network. Raises NotFound, Conflict."""
    from ...authority.lookup import one

    return one(ask.authority, ask.path["ref"], wanted=wanted, files_too=False)
