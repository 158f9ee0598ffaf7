"""The parts of docs/reference that are copied from the program itself. script/docs writes them; tests/test_docs.py compares.

    <!-- from the program: NAME -->      everything between the two lines is replaced
    <!-- end -->
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference"
WIDTH = 100

_MARKED = re.compile(r"(<!-- from the program: ([a-z]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def root_command() -> click.Group:
    """The command line as click sees it."""
    import click

    from gatekey import cli

    return next(value for value in vars(cli).values() if isinstance(value, click.Group))


def commands(group: click.Group | None = None, path: tuple[str, ...] = ("gatekey",)) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Every verb with its full name, in the order of the help; groups before what is in them."""
    import click

    root = group or root_command()

    def walk(command: click.Command, context: click.Context, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
        yield name, command, context
        if isinstance(command, click.Group):
            for verb in command.list_commands(context):
                inner = command.get_command(context, verb)
                if inner and not inner.hidden:
                    yield from walk(inner, _context(inner, verb, context), (*name, verb))

    yield from walk(root, _context(root, path[0], None), path)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return command.context_class(command, info_name=name, parent=parent, **settings)


def cli_pages() -> str:
    """`--help` of every verb."""
    return "\n".join(f"## {' '.join(name)}\n\n```text\n{command.get_help(context).rstrip()}\n```\n" for name, command, context in commands())


def errors_table() -> str:
    from gatekey.errors import CODES

    return _table(("code", "meaning"), ((f"`{code}`", meaning) for code, meaning in sorted(CODES.items())))


def config_table() -> str:
    from gatekey.config import KEYS

    return _table(("key", "meaning"), ((f"`{key}`", meaning) for key, meaning in KEYS.items()))


def agent_table() -> str:
    from gatekey.webserver.agent_config import KEYS

    return _table(("key", "meaning"), ((f"`{key}`", meaning) for key, meaning in KEYS.items()))


def agent_servers_table() -> str:
    from gatekey.webserver.agent_server import KINDS

    def words(given: tuple[str, ...], otherwise: str) -> str:
        return f"`{json.dumps(list(given))}`" if given else otherwise

    rows = (
        (f"`{name}`", words(kind.check, "none"), words(kind.reload, "must be said"), ", ".join(f"`{file}`" for file in kind.reads) or "all but `people.json`")
        for name, kind in KINDS.items()
    )
    return _table(("server", "check", "reload", "reloaded for"), rows)


def profiles_list() -> str:
    """Each built-in profile: what it is for, and its file as it is."""
    from gatekey import profiles

    folder = Path(profiles.__file__).parent
    return "\n".join(f"## {name}\n\n```toml\n{(folder / f'{name}.toml').read_text(encoding='utf-8').rstrip()}\n```\n" for name in profiles.NAMES)


def lints_table() -> str:
    from gatekey.lint import LINTS

    return _table(("lint", "severity", "what it looks for", "source"), ((f"`{lint.name}`", lint.severity, lint.about, lint.source) for lint in LINTS))


def api_routes() -> str:
    """Each route: scope, what it takes, what it answers; then the shapes of answers."""
    from gatekey.protocols.api import answers, table
    from gatekey.protocols.api.shapes import Shape

    lines: list[str] = ["## Routes", "", _table(("request", "does", "scope"), (
        (f"[`{route.method} {route.path}`](#{route.name.lower()})", route.about, " or ".join(f"`{scope}`" for scope in route.scopes) or "any")
        for route in table.ROUTES
    )), ""]  # fmt: skip
    shapes: dict[str, Shape] = {}
    _gather(answers.PROBLEM, shapes)
    for route in table.ROUTES:
        scopes = " or ".join(f"`{scope}`" for scope in route.scopes)
        needs = f"Needs the scope {scopes}." if scopes else "For everybody who has signed in."
        gives = f"[{route.answer.name}](#{route.answer.name.lower()}-answer)" if route.answer else f"`{route.media}`, with an ETag"
        lines += [f"### {route.name}", "", f"`{route.method} {route.path}`", "", f"{route.about}. {needs} Answers {route.status} with {gives}.", ""]
        for what, shape in (("query", route.query), ("body", route.body)):
            if shape is not None and shape.fields:
                lines += [_fields(what, shape), ""]
        if route.answer:
            _gather(route.answer, shapes)
    lines += ["## Answers", ""]
    for name, shape in sorted(shapes.items()):
        lines += [f"### {name} answer", "", _fields("field", shape), ""]
    return "\n".join(lines)


def _gather(shape: Any, shapes: dict[str, Any]) -> None:
    shapes[shape.name] = shape
    for field in shape.fields:
        if field.shape is not None:
            _gather(field.shape, shapes)


def _fields(what: str, shape: Any) -> str:
    def kind(field: Any) -> str:
        if field.shape is not None:
            link = f"[{field.shape.name}](#{field.shape.name.lower()}-answer)"
            return f"list of {link}" if field.kind == "objects" else link
        plain = {"texts": "list of texts", "numbers": "list of numbers", "decimal": "number", "lines": "text", "flag": "true, false", "map": "object"}
        words = {**plain, "instant": "time"}.get(field.kind, field.kind)
        if field.choices:
            words += ": " + ", ".join(f"`{choice}`" for choice in field.choices)
        return f"{words}, or null" if field.nullable else words

    def need(field: Any) -> str:
        return "**needed**; " if field.required and what in ("query", "body") else ""

    return _table((what, "kind", "meaning"), ((f"`{field.name}`", kind(field), f"{need(field)}{field.about}") for field in shape.fields))


PARTS = {
    "agent": agent_table,
    "api": api_routes,
    "cli": cli_pages,
    "config": config_table,
    "errors": errors_table,
    "lints": lints_table,
    "profiles": profiles_list,
    "servers": agent_servers_table,
}


def refreshed(text: str) -> str:
    """A page with its copied parts as the program has them now."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[4]}", text)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Rewrites what differs and says so."""
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (fresh := refreshed(text)) != text:
            page.write_text(fresh, encoding="utf-8")
            print(f"docs/reference/{page.name}: rewritten", file=sys.stderr)


if __name__ == "__main__":
    main()
