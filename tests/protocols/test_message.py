"""Refusals as problem details (RFC 9457)."""

from __future__ import annotations

import json

import pytest

from gatekey.errors import CODES, Malformed, NotFound, Reason, Refused, Unavailable
from gatekey.protocols.message import problem


def test_the_title_is_that_of_the_type_and_the_detail_that_of_the_occurrence() -> None:
    """RFC 9457 3.1.3: programs and translators may rely on it."""
    first, second = (json.loads(problem(NotFound("no-file", f"the bundle has no file {name!r}", hint=f"it has b{name}")).body) for name in "xy")
    assert first["type"] == second["type"] == "urn:gatekey:error:no-file"
    assert first["title"] == second["title"] == CODES["no-file"]
    assert (first["detail"], first["hint"]) == ("the bundle has no file 'x'", "it has bx")
    assert "hint" not in json.loads(problem(NotFound("no-page", "there is nothing at this address")).body)


def test_several_reasons() -> None:
    told = json.loads(problem(Refused.because((Reason("key-weak", "one", "mend it"), Reason("bad-host", "two"))), instance="x-1").body)
    assert (told["code"], told["title"], told["detail"], told["instance"]) == ("key-weak", CODES["key-weak"], "one; two", "x-1")
    assert [reason["code"] for reason in told["reasons"]] == ["key-weak", "bad-host"]


@pytest.mark.parametrize("word", ["detail", "hint"])
def test_a_token_stands_in_no_answer(word: str) -> None:
    token = "gkt_0123456789abcdef_geheim"
    told = json.loads(problem(Malformed("bad-request", f"nobody is called {token}", hint=f"{token} is nobody")).body)
    assert "geheim" not in told[word]


@pytest.mark.parametrize(("error", "status"), [
    (Refused("internal", "x"), 500), (Refused("sign-in", "x"), 401), (Malformed("large-head", "x"), 431), (Unavailable("no-bundle", "x"), 503),
])  # fmt: skip
def test_the_status_stands_in_both_places(error: Refused, status: int) -> None:
    answer = problem(error)
    assert (answer.status, json.loads(answer.body)["status"]) == (status, status)
