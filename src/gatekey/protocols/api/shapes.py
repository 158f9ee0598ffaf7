"""What a request may hold and an answer holds, as data. The same words check a request, make the OpenAPI description and stand in the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from ...errors import GatekeyError, Malformed
from ...model.instants import FOREVER, parse_instant

#: text: one line. lines: text with line breaks (PEM, TOML). texts: a list of lines of text. number: a whole one. instant: 2026-11-23T15:09:00Z.
#: object and objects hold another shape; map holds anything by name. numbers: a list of whole ones. decimal: one with a fraction.
#: Questions have none of numbers, decimal, object, objects and map.
Kind = Literal["text", "lines", "texts", "number", "numbers", "decimal", "flag", "instant", "object", "objects", "map"]

#: Items in a list, and levels of lists and objects in a body, more than which nobody needs.
MOST_ITEMS, MOST_DEPTH = 100, 8


#: Control characters and halves of surrogate pairs.
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Field(NamedTuple):
    """One name. `most`: characters of a text, or the largest number; `least`: the smallest. `nullable`: an answer may say null."""

    name: str
    kind: Kind
    about: str
    required: bool = False
    choices: tuple[str, ...] = ()
    most: int = 200
    least: int = 0
    nullable: bool = False
    shape: Shape | None = None


class Shape(NamedTuple):
    """An object. `name`: how the description calls it."""

    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


def body(shape: Shape, data: bytes) -> dict[str, Any]:
    """A request's JSON, checked; what is not given is absent. Raises Malformed with all mistakes."""
    if not data and not any(field.required for field in shape.fields):
        return {}
    return checked(shape, parsed(data))


def parsed(data: bytes) -> Any:
    """Strict JSON: UTF-8, no name twice, no NaN, not deeper than anybody needs. Raises Malformed."""
    try:
        value = _strict(data.decode("utf-8"))
    except (ValueError, RecursionError) as wrong:
        message = wrong.args[0] if isinstance(wrong, _Doubled) else "the body is not JSON (RFC 8259) in UTF-8"
        raise Malformed("bad-request", message, hint='send an object, such as {"login": "ann"}') from None
    if not _shallow(value, MOST_DEPTH):
        raise Malformed("bad-request", f"the body is nested deeper than {MOST_DEPTH} levels")
    return value


def query(shape: Shape, text: str) -> dict[str, Any]:
    """A query string, checked. Raises Malformed with all mistakes."""
    if not text:
        return checked(shape, {})
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=50, errors="strict")
    except ValueError:
        raise Malformed("bad-request", "the query cannot be read", hint="name=value&name=value, percent-encoded UTF-8") from None
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise Malformed("bad-request", f"{name[:50]!r} stands in the query twice")
        field = shape.field(name)
        values[name] = _from_text(field, value) if field else value
    return checked(shape, values)


def checked(shape: Shape, value: Any) -> dict[str, Any]:
    """A JSON value against its shape. Raises Malformed with all mistakes at once; an unknown name meets the nearest known one."""
    if not isinstance(value, dict):
        raise Malformed("bad-request", "the body is not a JSON object", hint='send an object, such as {"login": "ann"}')
    mistakes = [f"{field.name}: is missing" for field in shape.fields if field.required and field.name not in value]
    found: dict[str, Any] = {}
    for name, given in value.items():
        field = shape.field(name)
        if field is None:
            mistakes.append(_unknown(name, shape))
        elif mistake := _mistake(field, given):
            mistakes.append(f"{name}: {mistake}")
        else:
            found[name] = parse_instant(given) if field.kind == "instant" else int(given) if field.kind == "number" else given
    if mistakes:
        raise Malformed("bad-request", "; ".join(mistakes[:20]), mistakes=mistakes)
    return found


def _mistake(field: Field, value: Any) -> str | None:
    if field.kind == "flag":
        return None if isinstance(value, bool) else "must be true or false"
    if field.kind == "number":
        whole = (isinstance(value, int) or (isinstance(value, float) and value.is_integer())) and not isinstance(value, bool)
        return None if whole and field.least <= value <= field.most else f"must be a whole number from {field.least} to {field.most}"
    if field.kind == "texts":
        if not isinstance(value, list) or len(value) > MOST_ITEMS:
            return f"must be a list of at most {MOST_ITEMS} texts"
        if len(value) < field.least:
            return f"must have {field.least} or more"
        return next((f"must be a list of texts; one {problem}" for item in value if (problem := _text_problem(field, item))), None)
    problem = _text_problem(field, value)
    if problem is None and field.kind == "instant":
        return _instant_problem(value)
    return problem


def _text_problem(field: Field, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if len(value) > field.most:
        return f"has {len(value)} characters; at most {field.most} are taken"
    if field.kind != "texts" and len(value) < field.least:
        return "must not be empty"
    if field.choices and value not in field.choices:
        return f"must be one of {', '.join(field.choices)}"
    if (_NOT_IN_LINES if field.kind == "lines" else _NOT_IN_A_LINE).search(value):
        return "has control characters or half characters"
    return None


def _instant_problem(value: str) -> str | None:
    try:
        return None if 0 <= parse_instant(value) <= FOREVER else "is beyond the times that certificates can say"
    except GatekeyError as wrong:
        return f"{wrong.message}; {wrong.hint}"


def _from_text(field: Field, value: str) -> Any:
    """A value of the query as JSON would have it; what cannot be one stays text, and is refused as that."""
    if field.kind == "number" and value.isascii() and value.isdigit() and len(value) < 15:
        return int(value)
    if field.kind == "flag" and value in ("true", "false"):
        return value == "true"
    return value


def _unknown(name: str, shape: Shape) -> str:
    import difflib

    names = [field.name for field in shape.fields]
    near = difflib.get_close_matches(name, names, 1)
    more = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}" if names else "nothing is taken here"
    return f"{name[:50]!r}: is not known; {more}"


class _Doubled(ValueError):
    pass


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Doubled("a name stands in an object twice")
    return found


def _no_constant(_: str) -> Any:
    raise ValueError


_strict = json.JSONDecoder(object_pairs_hook=_no_doubles, parse_constant=_no_constant).decode


def _shallow(value: Any, levels: int) -> bool:
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(one, levels - 1) for one in inner if isinstance(one, dict | list))
