"""What is said to a person: readable in any script, and never an order to her terminal."""

from __future__ import annotations

import json

import pytest

from gatekey.cli import say
from gatekey.errors import Reason, Refused

NASTY = "Änn\x1b]0;x\x07\x9b31m\u202e\u2028 Öberg 小林\r"
SAFE = "Änn\\x1b]0;x\\x07\\x9b31m\\u202e\\u2028 Öberg 小林\\r"


def test_plain() -> None:
    assert say.plain(NASTY) == SAFE
    assert say.plain("two\nlines\tand a tab") == "two\nlines\tand a tab"
    assert say.plain("two\nlines\tand a tab", keep="") == "two\\nlines\\tand a tab"
    assert say.plain("") == ""


def test_every_way_of_saying_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    say.words(NASTY)
    say.warn(NASTY)
    say.result(NASTY)
    say.table(["name"], [[NASTY], ["a\nb"]], empty="")
    say.pairs([("name", NASTY)])
    say.error(Refused.because((Reason("bad-login", NASTY, NASTY), Reason("bad-email", NASTY))))
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert SAFE in text
        assert not set("\x1b\x07\x9b\u202e\u2028\r") & set(text)
    assert "a\\nb" in said.out


def test_json_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    say.as_json({"name": NASTY})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": NASTY}
    assert "Änn" in said
    assert "小林" in said
    assert not set("\x1b\x07\x9b\u202e\u2028\r") & set(said)


def test_a_word_has_its_colour_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    say.result("1  OPEN  \x1b[2J", word="OPEN", colour="31")
    monkeypatch.setattr(say, "on_terminal", lambda: True)
    say.result("1  OPEN  \x1b[2J", word="OPEN", colour="31")
    monkeypatch.setenv("NO_COLOR", "1")
    say.result("1  OPEN  \x1b[2J", word="OPEN", colour="31")
    assert capsys.readouterr().out == "1  OPEN  \\x1b[2J\n1  \x1b[31mOPEN\x1b[0m  \\x1b[2J\n1  OPEN  \\x1b[2J\n"
