"""What every protocol is asked with and answers with, whatever server carries it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..errors import CODES, GatekeyError, Refused
from ..model.access import without_tokens


class Peer(NamedTuple):
    """Who is at the other end. `address`: IP address, or "unix" for a Unix socket. `certificate`: DER that TLS has verified up to our people's root, or b""."""

    address: str = ""
    certificate: bytes = b""


class Call(NamedTuple):
    """One request. `listener`: public, enrol, private or proxy. `path` without the query, decoded; `headers` with lower-case names, in order."""

    listener: str
    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    peer: Peer = Peer()
    id: str = ""

    def header(self, name: str) -> str:
        """The value of a header that stands there once; "" when it is missing. Doubled ones are joined with a comma (RFC 9110 5.3)."""
        return ", ".join([value for key, value in self.headers if key == name])


class Answer(NamedTuple):
    """One response. `headers` with lower-case names."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


#: HTTP status by class of refusal; a code of its own where the class is not enough.
_STATUS = {"Refused": 422, "Malformed": 400, "NotFound": 404, "Conflict": 409, "Misconfigured": 503, "Unavailable": 503}
_STATUS_OF_CODE = {
    "sign-in": 401,
    "forbidden": 403,
    "method-not-allowed": 405,
    "too-slow": 408,
    "precondition-failed": 412,
    "too-large": 413,
    "too-many-requests": 429,
    "large-head": 431,
    "internal": 500,
    "not-implemented": 501,
}


def problem(error: GatekeyError, *, instance: str = "", home: str = "", whole: bool = False) -> Answer:
    """Problem details (RFC 9457) for a refusal. `instance`: the id of the request. Answers are kept in others' logs: a token that was asked with is cut.

    `title` is that of the type, whatever has happened (3.1.3); `detail` is what has, and `hint` what to do next. Where the files of the authority lie
    (`home`, and what the refusal says of a file of its own) is told to nobody but administrators (`whole`).
    """

    def told(text: str) -> str:
        return without_tokens(text if whole else without_folders(text, home, str(error.facts.get("path", "")).rpartition("/")[0]))

    status = _STATUS_OF_CODE.get(error.code) or _STATUS[next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _STATUS)]
    body: dict[str, Any] = {"type": f"urn:gatekey:error:{error.code}", "title": CODES.get(error.code, error.code), "status": status, "code": error.code}
    body["detail"] = told(error.message)
    if error.hint:
        body["hint"] = told(error.hint)
    if isinstance(error, Refused) and len(error.reasons) > 1:
        body["reasons"] = [{"code": reason.code, "message": told(reason.message), "hint": told(reason.hint)} for reason in error.reasons]
    if instance:
        body["instance"] = instance
    return as_json(body, status=status, kind="application/problem+json")


def without_folders(text: str, *folders: str) -> str:
    """Words that name files by their names, and do not say in which of these folders they lie."""
    for folder in folders:
        if folder.startswith("/") and folder != "/":  # a folder that is named from where the process stands says nothing of where that is
            text = text.replace(f"{folder}/", "").replace(folder, folder.rpartition("/")[2])
    return text


_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_json(value: Any, *, status: int = 200, kind: str = "application/json") -> Answer:
    """A JSON answer that nobody keeps."""
    data = _encoded(value).encode()
    return Answer(status, (("content-type", kind), ("cache-control", "no-store")), data)
