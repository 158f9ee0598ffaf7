"""Every route of the API, in one table. The description, the reference and the tests of who may do what are made from it."""

from __future__ import annotations

import functools
import re

from . import certificates, house, outside, people
from .asking import Route

ROUTES: tuple[Route, ...] = (*certificates.ROUTES, *people.ROUTES, *house.ROUTES, *outside.ROUTES)


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], Route], ...]:
    return tuple((re.compile(re.sub(r"\\{([a-z]+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path))), route) for route in ROUTES if "{" in route.path)


@functools.cache
def _exact() -> dict[tuple[str, str], Route]:
    return {(route.method, route.path): route for route in ROUTES if "{" not in route.path}


def methods(path: str) -> tuple[str, ...]:
    """What a path may be asked with; nothing for one that is not there."""
    known = find("", path)[2]
    return tuple(sorted({*known, *(("HEAD",) if "GET" in known else ())}))


def find(method: str, path: str) -> tuple[Route | None, dict[str, str], tuple[str, ...]]:
    """The route of a request with the words in its path; otherwise None, and the methods that this path knows. An exact path goes before a template."""
    if route := _exact().get((method, path)):
        return route, {}, ()
    matched = [(found, route) for pattern, route in _patterns() if (found := pattern.fullmatch(path))]
    here = [route.method for key, route in _exact().items() if key[1] == path]
    for found, route in matched:
        if route.method == method and not here:
            return route, found.groupdict(), ()
    return None, {}, tuple(sorted({*here, *(route.method for _, route in matched if not here)}))
