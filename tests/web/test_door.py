"""The door of a listener without a server around it: what is answered at once and what in a thread, and where requests are counted."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatekey.errors import NotFound
from gatekey.ports import SystemClock, SystemEntropy
from gatekey.protocols.api import table
from gatekey.protocols.message import Answer, Call, Peer
from gatekey.web.hot import AT_ONCE, Connection, Door, Quick
from gatekey.web.house import House
from gatekey.web.limits import Limits, shared_memory
from gatekey.web.logs import MOST, Log
from gatekey.web.routes import Route

CALL = Call("public", "GET", "/x", id="x-1")


def door(listener: str, *routes: Route, rate: int = 0, out: io.StringIO | None = None) -> Door:
    limits = Limits(shared_memory(Limits.size), b"s" * 16, rate, 64 * 1024)
    authority = SimpleNamespace(entropy=SystemEntropy(), clock=SystemClock())
    house = SimpleNamespace(limits=limits, authority=authority, behind=None, meter=SimpleNamespace(counts=Counter()), log=Log("info", out or io.StringIO()))
    return Door(cast("House", house), listener, list(routes))


@pytest.mark.parametrize(("path", "size", "inline"), [("/x/a", AT_ONCE - 4, True), ("/x/a", AT_ONCE, False), ("/x/" + "a" * AT_ONCE, 0, False)])
def test_large_questions_do_not_hold_up_the_small_ones(path: str, size: int, inline: bool) -> None:
    where: list[bool] = []

    def handler(_: Call) -> Answer:
        where.append(threading.current_thread() is threading.main_thread())
        return Answer(200)

    route = Route("public", "POST", "/x/", handler, "inline", largest=64 * 1024)
    own = door("public", route)
    assert asyncio.run(own.ask(route, Call("public", "POST", path, body=b"x" * size))).status == 200
    assert where == [inline]
    told: list[bytes] = []

    async def ask() -> bool:
        connection = Connection(own, Peer("192.0.2.1"))
        begun = connection.answer(Quick(route, "POST", path, b"", [], bytearray(size)), lambda head, _: told.append(head))
        at_once = bool(told)
        if begun is not None:
            await asyncio.wait([begun])
        return at_once

    assert asyncio.run(ask()) is inline
    assert where == [inline] * 2
    assert [head.startswith(b"HTTP/1.1 200 OK\r\n") for head in told] == [True]


def test_what_is_cut_off_at_the_end_of_the_process_is_to_be_asked_again() -> None:
    """It is no fault: the log has a warning with the id, and no error."""
    out = io.StringIO()
    own = door("private", out=out)

    async def end() -> Answer:
        begun: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        begun.cancel("timeout graceful shutdown exceeded")
        return own.end(begun, Call("private", "GET", "/v1/me", id="cut"))

    answer = asyncio.run(end())
    assert (answer.status, dict(answer.headers)["retry-after"], b'"code":"ending"' in answer.body) == (503, "1", True)
    told = json.loads(out.getvalue())
    assert (told["id"], told["code"], told["level"]) == ("cut", "ending", "warning")


@pytest.mark.parametrize(("listener", "counted"), [("public", True), ("enrol", True), ("private", False), ("proxy", False)])
def test_where_strangers_come_requests_are_counted(listener: str, counted: bool) -> None:
    own = door(listener, rate=1)
    answers: list[Any] = [Connection(own, Peer("192.0.2.1"))._limited() for _ in range(4)]  # a second may end in between
    assert any(answer is not None and answer.status == 429 for answer in answers) is counted


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("OPTIONS", "/v1/people", "GET, HEAD, POST"),
        ("TRACE", "/v1/certificates/ann/revoke", "POST"),
        ("PROPFIND", "/v1/people/ann", "GET, HEAD, PATCH"),
        ("OPTIONS", "/v1/nothing", None),
        ("OPTIONS", "/x/a", "GET, HEAD, POST"),
    ],
)
def test_a_path_tells_its_own_methods(method: str, path: str, allow: str | None) -> None:
    def handler(_: Call) -> Answer:
        raise AssertionError

    below = [Route("private", one, "/v1/", handler, knows=table.methods) for one in ("GET", "POST", "PUT", "PATCH", "DELETE")]
    own = door("private", *below, *(Route("private", one, "/x/", handler) for one in ("GET", "POST")))
    answer = Connection(own, Peer("192.0.2.1"))._nothing(Call("private", method, path))
    assert (answer.status, dict(answer.headers).get("allow")) == (405 if allow else 404, allow)


def test_an_instance_leads_to_a_line_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers cannot fill the disk: what comes too often in a second is counted only, and says so by having no `instance`."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    out = io.StringIO()
    own, other = door("public", out=out), door("private")
    other.house.log = own.house.log
    told = [json.loads(Connection(own, Peer("192.0.2.1"))._nothing(Call("public", "GET", "/x", id=own.next_id())).body) for _ in range(2 * MOST)]
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [problem["instance"] for problem in told if "instance" in problem] == [line["id"] for line in lines]
    assert len(lines) == MOST
    assert {"event": "refused", "code": "no-page", "path": "/x", "listener": "public"}.items() <= lines[0].items()
    assert "instance" in json.loads(Connection(other, Peer("192.0.2.1"))._nothing(Call("private", "GET", "/x", id="x-1")).body), "they leave the others theirs"


@pytest.mark.parametrize("level", ["warning", "error"])
def test_where_nothing_is_written_there_is_no_instance(level: str) -> None:
    own = door("public")
    own.house.log = Log(level, io.StringIO())
    for answer in (own.refused(NotFound("no-page", "nothing"), CALL), own._wrong(OSError("geheim"), CALL)):
        told = json.loads(answer.body)
        assert ("instance" in told) == (level == "warning" or told["status"] == 500)
        assert "geheim" not in str(told)


def test_whoever_asks_too_often_is_told_so_and_fills_no_log() -> None:
    out = io.StringIO()
    own = door("public", rate=1, out=out)
    answers = [Connection(own, Peer("192.0.2.1"))._limited() for _ in range(9)]
    told = [json.loads(answer.body) for answer in answers if answer]
    assert told
    assert not any("instance" in one for one in told)
    assert out.getvalue() == ""
