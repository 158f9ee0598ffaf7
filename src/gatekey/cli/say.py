"""Every way of saying something to a person: words to stderr, results to stdout, tables on a terminal, JSON when asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import GatekeyError, Refused


def words(text: str = "", *, quiet: bool = False) -> None:
    """Talk, on stderr; silenced by --quiet."""
    if not quiet:
        print(text, file=sys.stderr)


def warn(text: str) -> None:
    """Something that must be heard also with --quiet."""
    print(f"gatekey: {_paint('warning', '33')}: {text}", file=sys.stderr)


def result(text: str) -> None:
    """A result, on stdout."""
    print(text)


def as_json(value: Any) -> None:
    """A result as JSON. Never holds a password."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def error(problem: GatekeyError, *, in_json: bool = False) -> None:
    """A refusal: the sentence, each further reason, and what to do."""
    if in_json:
        reasons = [reason._asdict() for reason in problem.reasons] if isinstance(problem, Refused) else []
        body = {"error": {"code": problem.code, "message": problem.message, "hint": problem.hint, "reasons": reasons}}
        print(json.dumps(body, ensure_ascii=False, default=str), file=sys.stderr)
        return
    if isinstance(problem, Refused) and len(problem.reasons) > 1:
        print(f"gatekey: refused, for {len(problem.reasons)} reasons:", file=sys.stderr)
        for reason in problem.reasons:
            print(f"  - {reason.message}", file=sys.stderr)
            if reason.hint:
                print(f"    {reason.hint}", file=sys.stderr)
        return
    print(f"gatekey: {problem.message}", file=sys.stderr)
    if problem.hint:
        print(f"  {problem.hint}", file=sys.stderr)


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
            print("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, no_wrap=column == "serial", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(drawn)


def pairs(lines: Sequence[tuple[str, str]]) -> None:
    """An account of one thing: a name and what it is, one per line."""
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        first, *rest = text.split("\n")
        print(f"{name.ljust(width)}  {first}".rstrip())
        for line in rest:
            print(f"{' ' * width}  {line}".rstrip())
