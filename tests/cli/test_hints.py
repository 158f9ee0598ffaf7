"""Every `gatekey VERB ...` that the program says, in hints, letters, help and pages, can be typed as it stands once its placeholders are filled in."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kit import reference

SOURCE = Path(__file__).parent.parent.parent / "src" / "gatekey"
#: What stands for a value of an f-string.
FILLED = "FILLED"
#: Where a command ends in a sentence.
_END = re.compile(r"""[;,)`|\n]|&&|\s[<>]\s|\s\s|:\s|:$|\.\s|\.$|\?|\s'|\sor\s""")
#: Words that only somebody writes who means the command itself: options, PLACEHOLDERS, files, hosts, values.
_MEANT = re.compile(rf"--?[a-z].*|[A-Z]+[A-Z0-9.]*|.*{FILLED}.*|.*[a-z]\.[a-z].*|.*[/:].*|\.\.\.")

#: What follows the program's name where no command is meant.
_NO_VERBS = ("reads",)  # the thread of identity/bundle.py


def sentences(source: Path) -> Iterator[tuple[int, str]]:
    """Every text in a module with its line; values of f-strings are FILLED."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def commands(sentence: str) -> Iterator[list[str]]:
    """The words after each `gatekey` in a sentence, as far as they may belong to the command."""
    for found in re.finditer(r"(?<![\w/.-])gatekey (?=[a-z])", sentence):
        rest = sentence[found.end() :]
        end = _END.search(rest)
        words = rest[: end.start()] if end else rest
        try:
            yield shlex.split(words)
        except ValueError:  # the quote is not the command's
            yield words.split()


def problem(words: list[str]) -> str | None:
    """Why this cannot be typed, or None. Prose may follow it; a verb may also only be named, without anything that it takes."""
    known = {name[1:]: (command, context) for name, command, context in reference.commands()}
    name: tuple[str, ...] = ()
    while len(words) > len(name) and (*name, words[len(name)]) in known:
        name = (*name, words[len(name)])
    if not name and words[0] in _NO_VERBS:
        return None
    if not name:
        return f"{words[0]!r} is no verb"
    rest = words[len(name) :]
    meant = [place for place, word in enumerate(rest) if _MEANT.fullmatch(word)]
    if not meant or "--help" in rest:
        return None
    command, context = known[name]
    told = [wrong(command, context, rest[:end]) for end in range(meant[-1] + 1, len(rest) + 1)]
    return None if None in told else " or ".join(dict.fromkeys(map(str, told)))


def wrong(command: click.Command, context: click.Context, words: list[str]) -> str | None:
    """What `click` has against these words, without looking at files and numbers."""
    try:
        said, left, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"{left[0]!r} is not taken"
    for parameter in command.params:
        value = said.get(parameter.name or "")
        if parameter.required and value in (None, [], ()):
            return f"{parameter.get_error_hint(context)} is missing"
        values = value if isinstance(value, list | tuple) else [value]
        if isinstance(parameter.type, click.Choice):
            unknown = [one for one in values if isinstance(one, str) and one not in parameter.type.choices and not re.fullmatch(rf"[A-Z]+|.*{FILLED}.*", one)]
            if unknown:
                return f"{unknown[0]!r} is none of {', '.join(map(str, parameter.type.choices))}"
    return None


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("gatekey token add LOGIN", "'--scope' is missing"),
        ("gatekey people set LOGIN --role operator; gatekey token add LOGIN", "'--scope' is missing"),
        ("gatekey people set LOGIN --rolle operator", "No such option"),
        ("gatekey people set LOGIN --role king", "'king' is none of"),
        ("gatekey rewoke ann", "is no verb"),
        ("gatekey bundle --out", "requires an argument"),
        ("gatekey token add LOGIN --scope read", ""),
        ("gatekey token add makes another one", ""),
        ("gatekey people set LOGIN --role proxy gives the role; gatekey show LOGIN says the rest", ""),
    ],
)
def test_what_is_found_out_and_what_is_not(sentence: str, said: str) -> None:
    found = [told for words in commands(sentence) if (told := problem(words))]
    assert len(found) == bool(said)
    assert all(said in one for one in found)


@pytest.mark.parametrize("source", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_the_program_says_can_be_typed(source: Path) -> None:
    found = [
        f"line {line}: gatekey {' '.join(words)}: {told}" for line, said in sentences(source) for words in commands(said) if (told := problem(words))
    ]
    assert found == []
