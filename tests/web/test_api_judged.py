"""The API as `gatekey serve` answers it, over TLS, held against its own description: by schemathesis with a few cases of each route, and what no case asks.

In the service another door stands before the API than in tests/web/test_api.py, which draws more cases: what is not there, too large or asked with another
method is refused by code of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from http.client import HTTPSConnection
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from gatekey.protocols.api import table
from gatekey.protocols.api.asking import Route
from gatekey.x509 import pem
from kit.described import CHECKS
from kit.desk import JSON
from kit.remote import Remote
from kit.service import serving

pytestmark = pytest.mark.slow

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = sorted({route.path for route in table.ROUTES})


class Judged(NamedTuple):
    """The service, its description, and a session of the administrator's."""

    remote: Remote
    schema: Any
    session: requests.Session
    url: str


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = tmp_path_factory.mktemp("judged")
    remote = Remote(folder)
    with serving(folder, {"service": {"workers": 1}}, prepare=remote.prepare) as remote.service, requests.Session() as session:
        key, der = remote.people["boss"]
        for name, data in (("boss.crt", pem.encode("CERTIFICATE", der)), ("boss.key", pem.encode("PRIVATE KEY", key.pkcs8()))):
            (folder / name).write_bytes(data)
        (folder / "root.crt").write_bytes(remote.service.get("/ca/servers-root.pem")[2])
        session.verify, session.cert = str(folder / "root.crt"), (str(folder / "boss.crt"), str(folder / "boss.key"))
        session.trust_env = False
        url = f"https://localhost:{remote.service.private}"
        schema = schemathesis.openapi.from_dict(remote.ask("", "GET", "/openapi.json").json)
        yield Judged(remote, schema, session, url)
        assert [line for line in remote.service.log() if line.get("level") == "error"] == []


@pytest.fixture
def line(judged: Judged) -> Iterator[HTTPSConnection]:
    with contextlib.closing(judged.remote.connect("boss")) as connection:
        yield connection


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: str(route.name))
def test_the_description_is_kept(judged: Judged, route: Route, mode: schemathesis.GenerationMode) -> None:
    @settings(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=judged.schema[route.path][route.method].as_strategy(generation_mode=mode))
    def judge(case: Any) -> None:
        case.call_and_validate(base_url=judged.url, session=judged.session, checks=CHECKS, verify=judged.session.verify)

    judge()


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused_with_those_that_there_are(judged: Judged, line: HTTPSConnection, path: str) -> None:
    described = {method.upper() for method in judged.schema.raw_schema["paths"][path]}
    known = sorted(described | ({"HEAD"} if "GET" in described else set()))
    asked = path.replace("{", "").replace("}", "")
    for method in sorted(set(METHODS) - set(known)):
        told = judged.remote.on(line, "boss", method, asked)
        assert (told.status, told.headers["allow"]) == (405, ", ".join(known)), method
        assert told.headers["content-type"] == "application/problem+json"
        assert told.body == b"" if method == "HEAD" else told.code == "method-not-allowed"


@pytest.mark.parametrize("route", [route for route in table.ROUTES if route.method == "GET"], ids=lambda route: str(route.name))
def test_head_says_what_get_says_without_a_body(judged: Judged, line: HTTPSConnection, route: Route) -> None:
    names = {"{ref}": "boss", "{login}": "boss", "{file}": "people.json", "{name}": "client" if "profiles" in route.path else "people"}
    path = route.path
    for word, name in names.items():
        path = path.replace(word, "macos" if route.path.startswith("/v1/install/") else name)
    whole, head = (judged.remote.on(line, "boss", method, path) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers.keys() == whole.headers.keys()
    assert head.headers["content-type"] == whole.headers["content-type"]
    media = [answer["content"] for status, answer in judged.schema.raw_schema["paths"][route.path]["get"]["responses"].items() if status == "200"]
    assert whole.status == 200, whole
    assert whole.headers["content-type"].partition(";")[0] in [kind.partition(";")[0] for kind in media[0]]


@pytest.mark.parametrize("route", [route for route in table.ROUTES if route.body is not None], ids=lambda route: str(route.name))
def test_bodies_of_other_kinds_and_sizes_are_refused(judged: Judged, line: HTTPSConnection, route: Route) -> None:
    """Too large: refused by its announcement, and nothing is read; the line is closed."""
    path = route.path.replace("{", "").replace("}", "")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx"):
        told = judged.remote.on(line, "boss", route.method, path, headers=(("content-type", kind),), raw=b"{}")
        assert (told.status, told.code, told.headers["content-type"]) == (415, "wrong-media-type", "application/problem+json"), kind
    line.putrequest(route.method, path)
    for name, value in (*JSON, ("content-length", str(256 * 1024 + 1))):
        line.putheader(name, value)
    line.endheaders()
    answer = line.getresponse()
    assert (answer.status, answer.getheader("content-type"), answer.getheader("connection")) == (413, "application/problem+json", "close")
    assert json.loads(answer.read())["code"] == "too-large"


def test_what_is_not_there_is_not_found(judged: Judged, line: HTTPSConnection) -> None:
    paths = ("/v1/", "/v1/nope", "/v1/me/", "/v1//me", "/v1/people/a/b/c", "/v1/bundle.tar", "/v2/me")
    for method, path in itertools.product(("GET", "POST", "DELETE"), paths):
        told = judged.remote.on(line, "boss", method, path)
        assert (told.status, told.headers["content-type"]) == (404, "application/problem+json"), (method, path)

