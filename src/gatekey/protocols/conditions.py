"""Conditional requests (RFC 9110 13): what the asker's conditions make of a file that is there, in the order of 13.2.2."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from ..errors import Refused
from .message import Call

_CONDITIONS = frozenset(("if-match", "if-unmodified-since", "if-none-match", "if-modified-since"))
#: The time of a file that is not told yet: later than whatever the asker has.
UNTOLD = 2**62


def not_changed(etag: str, modified: int | None, call: Call) -> bool:
    """Whether the asker has this already and is owed a 304. `modified` in POSIX seconds; None where the file has no date, and none is looked at.

    Raises Refused("precondition-failed") where he wants another file than this one.
    """
    if not any([name in _CONDITIONS for name, _ in call.headers]):  # noqa: C419  nobody's question is long, and a list is done before a generator has begun
        return False
    if tags := call.header("if-match"):
        if not _among(etag, tags, strong=True):
            raise _failed("If-Match")
    elif modified is not None and (since := _seconds(call.header("if-unmodified-since"))) is not None and since < modified:
        raise _failed("If-Unmodified-Since")
    if tags := call.header("if-none-match"):
        return _among(etag, tags, strong=False)
    return modified is not None and (since := _seconds(call.header("if-modified-since"))) is not None and since >= modified


def _among(etag: str, tags: str, *, strong: bool) -> bool:
    """RFC 9110 8.8.3.2. By the strong comparison a weak tag is like none, not even like itself."""
    if tags.strip() == "*":
        return True
    if strong:
        return not etag.startswith("W/") and etag in [tag.strip() for tag in tags.split(",")]
    return etag.removeprefix("W/") in [tag.strip().removeprefix("W/") for tag in tags.split(",")]


def _seconds(date: str) -> float | None:
    """POSIX seconds; None for what is no date: then it is as if it were not there (13.1.3, 13.1.4)."""
    if not date:
        return None
    try:
        at = parsedate_to_datetime(date)
        # All three forms are in GMT (RFC 9110 5.6.7); asctime's does not say so.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def _failed(name: str) -> Refused:
    return Refused("precondition-failed", f"what is here is not what {name} asks for", hint=f"ask without {name} for what is here now")
