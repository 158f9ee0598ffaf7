"""Points in time as POSIX seconds, spans as seconds, and their written forms."""

from __future__ import annotations

import re
import time

from ..errors import Malformed

DAY = 86400
HOUR = 3600
#: 9999-12-31T23:59:59Z: no expiry known (RFC 5280 4.1.2.5), and the end of what GeneralizedTime can say.
FOREVER = 253402300799

_UNITS = {"s": 1, "m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}


def posix(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """POSIX seconds of a date of the Gregorian calendar, which must be a real one. Plain arithmetic: `calendar` costs every command a millisecond."""
    years = year if month > 2 else year - 1  # years that begin in March, so that a leap day is their last one
    months = month - 3 if month > 2 else month + 9
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def iso(at: int) -> str:
    """`2026-11-23T15:09:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def day(at: int) -> str:
    """`2026-11-23`, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def parse_instant(text: str) -> int:
    """An instant out of `2026-11-23`, `2026-11-23T15:09:00Z` (UTC) or POSIX seconds. Raises Malformed("bad-time")."""
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            return posix(*time.strptime(text, form)[:6])
        except ValueError:
            continue
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    raise Malformed("bad-time", f"{text!r} is not a time", hint="write 2026-11-23 or 2026-11-23T15:09:00Z (UTC)")


def parse_span(text: str) -> int:
    """Seconds out of `90s`, `15m`, `1h`, `365d`, `2w` or `20y` (of 365 days). Raises Malformed("bad-span")."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhdwy])", text)
    if not match:
        raise Malformed("bad-span", f"{text!r} is not a span of time", hint='write a number and a unit: "1h", "365d", "20y"')
    return int(match[1]) * _UNITS[match[2]]


def span(seconds: int) -> str:
    """The shortest exact form that `parse_span` reads back."""
    for unit in ("d", "h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
