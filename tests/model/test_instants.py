"""Times and spans: written forms and back."""

from __future__ import annotations

import calendar
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.model.instants import DAY, FOREVER, HOUR, day, iso, parse_instant, parse_span, posix, span


def test_known_instants() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(FOREVER) == "9999-12-31T23:59:59Z"
    assert day(1795446540) == "2026-11-23"
    assert (
        parse_instant("2026-11-23T15:09:00Z")
        == parse_instant("2026-11-23T15:09Z")
        == parse_instant("2026-11-23 15:09:00")
        == parse_instant("1795446540")
        == 1795446540
    )
    assert parse_instant("2026-11-23") == 1795392000


@given(st.integers(0, FOREVER))
def test_iso_and_back(at: int) -> None:
    assert parse_instant(iso(at)) == at


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "2026-11-23T15:09:00+01:00", "-5", "1" * 13, "٣"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="is not a time") as caught:
        parse_instant(text)
    assert caught.value.code == "bad-time"
    assert caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", HOUR), ("365d", 365 * DAY), ("2w", 14 * DAY), ("20y", 7300 * DAY)])
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "0d", "-1d", "1.5h", "1 d", "1D", "01d", "1d\n", "1234567890d", "٣d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="is not a span of time") as caught:
        parse_span(text)
    assert caught.value.code == "bad-span"


@given(st.integers(1, 10**9 - 1))
def test_span_and_back(seconds: int) -> None:
    assert parse_span(span(seconds)) == seconds


@given(st.integers(-62135596800, FOREVER))  # from the year 1 on
def test_posix_undoes_the_calendar(at: int) -> None:
    year, month, day_, hour, minute, second = time.gmtime(at)[:6]
    assert posix(year, month, day_, hour, minute, second) == at == calendar.timegm((year, month, day_, hour, minute, second))
