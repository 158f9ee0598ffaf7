"""What only burdens whoever reads it is no profile: it is refused before it is parsed, and everything else is read in no time."""

from __future__ import annotations

import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey import profiles
from gatekey.errors import Misconfigured
from gatekey.model.profile import MAX_TEXT, parse_profile, read_toml
from kit.cases import cases

#: A hundred times what the slowest of them needs; what this is about took a minute and more.
SECONDS = 20
MAXIMUM = "a" + ".a" * 20

#: What makes parsers of TOML work, over and over: how it begins, what is repeated, how it ends.
NASTY = [
    ("a", ".a", "=1"), ("[a", ".a", "]"), ("[[a", ".a", "]]"), ('"a"', '."a"', "=1"), ("a", " . 'a'", "=1"), ("x={a", ".a", "=1}"), ("x=[{a", ".a", "=1}]"),
    ('about="""\n"""\na', '."\\""', "=1"), ("a='''x'''''\nb", ".a", "=1"), ('a="""x"""""\nb', ".a", "=1"), ("", f"{MAXIMUM}\n", ""), ("", f"[{MAXIMUM}]\n", ""),
    ("", f"[[{MAXIMUM}]]\n", ""), ("a=", "[", ""), ("a=", "{a=", ""), ("a=", "[{a=", ""), ("a=", "[[[[[[],],],],],],", ""), ("", "[[a]]\n", ""),
    ("a=[", "{b=1},", "]"), ("a=", "1", ""), ("a=", "1_", "1.0"), ('a="""', '\\"""', ""), ('a="""', "\\\n  ", '"""'), ('a="', "\\u0041", '"'), ("", '"', ""),
    ("", "'", ""), ("", "#", ""), ("", '"""\\', ""), ("[profile.x]\n", "validit=1\nkeis=2\n", ""), ("[profile.x]\nkeys=[", '"rsa-20",', "]"), ("", "\n", ""),
]  # fmt: skip


def judge(text: str) -> str:
    """What is said of it, which is never anything but a sentence, and soon."""
    began = time.monotonic()
    try:
        profiles.read(text.encode(), source="x.toml")
        said = ""
    except Misconfigured as wrong:
        said = wrong.message
    assert time.monotonic() - began < SECONDS
    return said


@pytest.mark.parametrize(("begin", "again", "end"), NASTY)
def test_what_makes_parsers_work_is_refused_soon(begin: str, again: str, end: str) -> None:
    for length in (MAX_TEXT, 2 * MAX_TEXT, 3 * MAX_TEXT):
        text = begin + again * ((length - len(begin) - len(end)) // len(again)) + end
        assert judge(text), "it is no profile"


@given(st.lists(st.tuples(st.sampled_from([part for row in NASTY for part in row]), st.integers(1, 400)), max_size=8))
@cases(50)
def test_whatever_is_put_together_of_it(parts: list[tuple[str, int]]) -> None:
    judge("".join(part * times for part, times in parts)[:MAX_TEXT])


def test_each_limit_has_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("it is not parsed"))
    for text, said in (
        ("a" + ".a" * 21 + " = 1", "x.toml has a line with 21 dots outside of quotes; 20 are the most"),
        ("a = " + "[" * 11, "x.toml is nested deeper than 10 levels"),
        ("a = " + "{a=" * 300, "x.toml is nested deeper than 10 levels"),
        ("#" * (MAX_TEXT + 1), f"x.toml has {MAX_TEXT + 1} characters; {MAX_TEXT} are the most of a profile"),
    ):
        with pytest.raises(Misconfigured) as caught:
            parse_profile("x", text, source="x.toml")
        assert (caught.value.code, caught.value.message, caught.value.hint) == ("bad-profile", said, "correct x.toml")


def test_dots_and_brackets_in_strings_and_comments_do_not_count() -> None:
    dots, deep = "." * 40, "[" * 40
    text = f'''# {dots}{deep}"
a = "{dots}\\"{dots}{deep}" # {dots}'
b = '{dots}\\' # "
c = """
{dots}""{dots}\\"""{deep}"""""  # {dots}
d = \'\'\'{deep}''{dots}
\\\'\'\'\'\'
e = ["1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23.24.25.26"]
'''
    assert read_toml(text, "x.toml") == tomllib.loads(text)


TEXTS = st.text('.[]"\'\\#a\n ', max_size=30)


@given(st.lists(TEXTS, max_size=4), st.sampled_from(['"', "'", '"""', "'''"]))
def test_a_line_is_counted_wherever_a_parser_reads_it(texts: list[str], quote: str) -> None:
    """Whatever strings and comments stand before it: what tomllib reads as a key of many parts is always refused."""
    before = "\n".join(f"k{place} = {quote}{text}{quote} # {text.split(chr(10))[0]}" for place, text in enumerate(texts))
    text = f"{before}\nz{'.z' * 30} = 1\n"
    try:
        tomllib.loads(text)
    except ValueError:
        return
    with pytest.raises(Misconfigured, match="dots outside of quotes"):
        read_toml(text, "x.toml")


def test_every_profile_of_ours_is_far_from_the_limits() -> None:
    for name in profiles.NAMES:
        assert len(profiles.text_of(name)) < MAX_TEXT / 10
    hosts = ", ".join(f'"*.department-{number}.some-company.example"' for number in range(200))
    text = f'[profile.many]\nabout = "x"\nusage = ["server-auth"]\nvalidity = "30d"\nkeys = ["p256"]\nnames = {{ host = [{hosts}] }}\n'
    assert len(profiles.read(text.encode(), source="many.toml").names.host) == 200
