"""Every way of saying something to a person: words to stderr, results to stdout, tables on a terminal, JSON when asked."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import GatekeyError, Refused

#: What moves a cursor or turns a line around: controls, ends of lines and paragraphs, and the marks of direction (Unicode standard annex 9, 2).
#: And bytes of file names that are no text. The names of strangers are said here, so none of it is ever said as it is.
_TURNING = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def plain(text: str, *, keep: str = "\n\t") -> str:
    """`text` as a person may safely see it: what would act upon a terminal stands there as an escape (`\\x1b`), except for `keep`."""
    if text.isprintable():
        return text
    return re.sub(_TURNING, lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text)


def words(text: str = "", *, quiet: bool = False) -> None:
    """Talk, on stderr; silenced by --quiet."""
    if not quiet:
        print(plain(text), file=sys.stderr)


def warn(text: str) -> None:
    """Something that must be heard also with --quiet."""
    print(f"gatekey: {_paint('warning', '33')}: {plain(text)}", file=sys.stderr)


def result(text: str, *, word: str = "", colour: str = "") -> None:
    """A result, on stdout; on a terminal the first `word` in it has a colour (an SGR number)."""
    text = plain(text)
    print(text.replace(word, f"\033[{colour}m{word}\033[0m", 1) if word and on_terminal() and "NO_COLOR" not in os.environ else text)


def as_json(value: Any) -> None:
    """A result as JSON. Never holds a password."""
    print(_json(value, indent=2))


def _json(value: Any, **more: Any) -> str:
    """JSON in UTF-8, in which only what a terminal would act upon or hide is escaped: strangers' names stand in it."""
    text = json.dumps(value, ensure_ascii=False, default=str, **more)
    return text if text.isprintable() else re.sub(_TURNING, lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def error(problem: GatekeyError, *, in_json: bool = False) -> None:
    """A refusal: the sentence, each further reason, and what to do."""
    if in_json:
        reasons = [reason._asdict() for reason in problem.reasons] if isinstance(problem, Refused) else []
        body = {"error": {"code": problem.code, "message": problem.message, "hint": problem.hint, "reasons": reasons}}
        print(_json(body), file=sys.stderr)
        return
    if isinstance(problem, Refused) and len(problem.reasons) > 1:
        print(f"gatekey: refused, for {len(problem.reasons)} reasons:", file=sys.stderr)
        for reason in problem.reasons:
            words(f"  - {reason.message}")
            if reason.hint:
                words(f"    {reason.hint}")
        return
    words(f"gatekey: {problem.message}")
    if problem.hint:
        words(f"  {problem.hint}")


def on_terminal() -> bool:
    """Whether results go to a person's terminal."""
    return sys.stdout.isatty()


def _paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else text


_COLOURS = {"valid": "green", "revoked": "red", "held": "yellow", "expired": "bright_black", "abandoned": "bright_black"}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, quiet: bool = False) -> None:
    """Rows under headings: drawn on a terminal, tab-separated with a heading line elsewhere. `empty` is said when there are none."""
    if not rows:
        words(empty, quiet=quiet or not empty)
        return
    if not on_terminal():
        for row in (columns, *rows):
            print("\t".join(plain(cell, keep="") for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, no_wrap=column == "serial", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(plain(cell), style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(drawn)


def pairs(lines: Sequence[tuple[str, str]]) -> None:
    """An account of one thing: a name and what it is, one per line."""
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        first, *rest = plain(text).split("\n")
        print(f"{name.ljust(width)}  {first}".rstrip())
        for line in rest:
            print(f"{' ' * width}  {line}".rstrip())
