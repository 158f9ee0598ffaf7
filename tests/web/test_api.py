"""The API as FastAPI describes it, judged by schemathesis (as it is served: test_api_judged.py); and what gathers issuances that come at the same moment."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from gatekey import app, config
from gatekey.keys import material
from gatekey.protocols.api import table
from gatekey.protocols.api.asking import Route
from gatekey.protocols.message import Answer, Call, Peer
from gatekey.web import api, limits, logs, metrics, seats
from kit.described import CHECKS
from kit.desk import Desk, csr, told
from kit.servers import wait_until


class Signed:
    """In front of the application as TLS would be: everybody is the administrator. Two routes that take long are asked elsewhere."""

    def __init__(self, desk: Desk) -> None:
        self._app = api.application(api.Clerk(desk.gate))
        self._peer = Peer("127.0.0.1", desk.certificates["boss"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"] = {"peer": self._peer, "request_id": "schemathesis"}
        await self._app(scope, receive, send)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For questions that are drawn: one of them may revoke the administrator, since Hypothesis knows the words of our sources."""
    made = Desk(tmp_path_factory.mktemp("drawn"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def schema(drawn: Desk) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", Signed(drawn))


@pytest.fixture(scope="module")
def description(desk: Desk) -> dict[str, Any]:
    return api.application(api.Clerk(desk.gate)).openapi()


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: str(route.name))
def test_the_description_is_kept(schema: Any, drawn: Desk, route: Route, mode: schemathesis.GenerationMode) -> None:
    """What is as described is answered as described; what is not is refused (the negative mode breaks one thing at a time)."""

    @settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(case=schema[route.path][route.method].as_strategy(generation_mode=mode))
    def judge(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    judge()
    assert drawn.faults == []


def test_the_description_is_openapi_3_1_of_every_route(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0"
    found = {(method.upper(), path): operation for path, operations in description["paths"].items() for method, operation in operations.items()}
    assert found.keys() == {(route.method, route.path) for route in table.ROUTES}
    for route in table.ROUTES:
        operation = found[route.method, route.path]
        assert operation["operationId"] == route.name
        assert operation["security"] == [{"certificate": []}, {"token": []}]
        assert ("requestBody" in operation) == (route.body is not None)
        assert "default" in operation["responses"]
    assert description["components"]["securitySchemes"]["certificate"]["type"] == "mutualTLS"
    assert "HTTPValidationError" not in description["components"]["schemas"]


def test_an_idempotency_key_is_described_where_it_is_looked_at(description: dict[str, Any]) -> None:
    """Where something is changed, and nowhere else."""
    named = {
        operation["operationId"]
        for path in description["paths"].values()
        for operation in path.values()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
    }
    assert named == {route.name for route in table.ROUTES if route.method != "GET" and route.name not in ("verify", "webserver", "checkProfile", "checkStore")}


def test_every_word_is_described(description: dict[str, Any]) -> None:
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert all(parameter["description"] for parameter in operation["parameters"])
            for part in operation.get("requestBody", {}).get("content", {}).values():
                assert all(field["description"] for field in part["schema"]["properties"].values())


class Gathering:
    """A gate that notes its batches and can be made to wait."""

    def __init__(self, desk: Desk) -> None:
        self._gate = desk.gate
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()

    def answer(self, call: Call) -> Answer:
        return self._gate.answer(call)

    def prepare(self, call: Call) -> Any:
        return self._gate.prepare(call)

    def answer_many(self, calls: list[Any]) -> list[Answer]:
        self.batches.append(len(calls))
        self.open.wait(10)
        return self._gate.answer_many(calls)


def sign(desk: Desk, login: str, *, who: str = "boss", key: str = "") -> Call:
    return desk.call(who, "POST", "/v1/certificates/sign", {"csr": csr(login), "profile": "client"}, key=key)


def test_what_comes_together_is_issued_together(desk: Desk) -> None:
    gate = Gathering(desk)

    async def ask() -> list[Answer]:
        clerk = api.Clerk(gate)  # type: ignore[arg-type]
        gate.open.clear()
        calls = [sign(desk, f"t{number}") for number in range(40)]
        calls[7] = sign(desk, "boss")  # has one already
        calls[9] = sign(desk, "t9", who="nobody")
        calls[11] = sign(desk, "t11")._replace(body=b'{"csr": "nonsense"}')
        waiting = [asyncio.ensure_future(clerk.answer(call)) for call in calls]
        await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*waiting)

    answers = [told(one) for one in asyncio.run(ask())]
    assert [place for place, one in enumerate(answers) if one.status != 201] == [7, 9, 11]
    assert [answers[place].status for place in (7, 9, 11)] == [422, 403, 400]
    assert [one.json["holder"] for place, one in enumerate(answers) if place not in (7, 9, 11)] == [f"t{n}" for n in range(40) if n not in (7, 9, 11)]
    assert sum(gate.batches) == 40
    assert len(gate.batches) <= 6
    assert max(gate.batches) <= api.MOST_TOGETHER


def test_those_who_came_in_two_groups_are_soon_one(desk: Desk) -> None:
    """Who was answered a moment ago asks again at once, and is waited for: a commit for each half would be twice as many."""
    gate = Gathering(desk)

    async def client(clerk: api.Clerk, name: str) -> list[int]:
        return [(await clerk.answer(sign(desk, f"{name}-{number}"))).status for number in range(5)]

    async def ask() -> list[list[int]]:
        clerk = api.Clerk(gate)  # type: ignore[arg-type]
        gate.open.clear()
        first = [asyncio.create_task(client(clerk, f"first{number}")) for number in range(4)]
        await asyncio.to_thread(wait_until, lambda: gate.batches, "the first batch")
        second = [asyncio.create_task(client(clerk, f"second{number}")) for number in range(4)]
        await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*first, *second)

    assert asyncio.run(ask()) == [[201] * 5] * 8
    assert gate.batches == [4, 8, 8, 8, 8, 4]


def test_whoever_asks_alone_does_not_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOMENT", 3600)

    async def ask() -> list[int]:
        clerk = api.Clerk(desk.gate)
        return [(await clerk.answer(sign(desk, f"alone{number}"))).status for number in range(3)]

    assert asyncio.run(ask()) == [201] * 3


def test_the_same_question_at_the_same_moment_is_answered_once(desk: Desk) -> None:
    call = sign(desk, "twin", key="twins")

    async def ask() -> list[Answer]:
        clerk = api.Clerk(desk.gate)
        return await asyncio.gather(*(clerk.answer(call) for _ in range(8)))

    answers = [told(one) for one in asyncio.run(ask())]
    serials = {one.json["serial"] for one in answers if one.status == 201}
    assert len(serials) == 1
    assert {one.code for one in answers if one.status != 201} <= {"idempotency-in-use", "device-has-one", "certificate-exists"}
    assert [one.serial for one in desk.authority.reads.by_holder("twin")] == list(serials)


def test_what_is_being_written_at_the_end_is_written_before_the_ledger_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the answer any more: those who asked heard that it takes too long."""
    monkeypatch.setattr(app, "SystemClock", lambda: desk.clock)
    memory = limits.shared_memory
    shared = app._Shared(memory(limits.Limits.size), b"s" * 16, memory(metrics.AREA), memory(seats.Seats.size(1)), 0, 1)
    _, house = app._house(config.load(desk.authority.config.home), None, shared, logs.Log("info", io.StringIO()))
    clerk = cast("api.Clerk", house.api)
    clerk._gate = gate = cast("Any", Gathering(cast("Desk", SimpleNamespace(gate=clerk._gate))))
    gate.open.clear()

    async def ask() -> None:
        clerk.answer(sign(desk, "ending"))
        await asyncio.to_thread(wait_until, lambda: gate.batches, "the batch")

    asyncio.run(ask())
    threading.Timer(0.3, gate.open.set).start()
    house.stop()
    assert [one.state for one in desk.authority.reads.by_holder("ending")] == ["released"]


def test_keys_are_made_beside_the_batches(desk: Desk) -> None:
    """A slow key holds nobody up, and is in no batch before it is there."""
    desk_key, begun, going = desk.gate._desk.make_key, threading.Event(), threading.Event()

    def slow(kind: str) -> Any:
        begun.set()
        going.wait(10)
        return desk_key(kind)

    gate = desk.gate
    gate._desk = gate._desk._replace(make_key=slow)

    async def ask() -> tuple[Answer, Answer]:
        clerk = api.Clerk(gate)
        late = asyncio.ensure_future(clerk.answer(desk.call("boss", "POST", "/v1/certificates/client", {"login": "late"})))
        assert await asyncio.to_thread(begun.wait, 10)
        soon = await clerk.answer(sign(desk, "soon"))
        assert not late.done()
        going.set()
        return soon, await late

    try:
        assert [one.status for one in asyncio.run(ask())] == [201, 201]
    finally:
        gate._desk = gate._desk._replace(make_key=material.make)


def test_nobody_waits_for_ever(desk: Desk) -> None:
    """A question that comes at the very moment at which the last batch ends is taken up, too."""
    calls = iter([sign(desk, f"loop-{number}") for number in range(60)])

    async def client(clerk: api.Clerk) -> list[int]:
        return [(await clerk.answer(call)).status for call in calls]

    async def ask() -> list[list[int]]:
        clerk = api.Clerk(desk.gate)
        async with asyncio.timeout(60):
            return await asyncio.gather(*(client(clerk) for _ in range(5)))

    found = asyncio.run(ask())
    assert [status for one in found for status in one] == [201] * 60


def test_too_many_at_once_are_told_to_come_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_WAITING", 0)

    async def ask() -> Answer:
        return await api.Clerk(desk.gate).answer(sign(desk, "busy"))

    answer = told(asyncio.run(ask()))
    assert (answer.status, answer.code) == (429, "too-many-requests")
    assert (answer.headers["retry-after"], answer.headers["x-content-type-options"]) == ("1", "nosniff")


def test_whoever_goes_away_leaves_the_others_alone(desk: Desk) -> None:
    async def ask() -> list[Answer]:
        clerk = api.Clerk(desk.gate)
        waiting = [asyncio.ensure_future(clerk.answer(sign(desk, f"stay{number}"))) for number in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        return [one for one in await asyncio.gather(*waiting, return_exceptions=True) if isinstance(one, Answer)]

    assert [one.status for one in asyncio.run(ask())] == [201, 201, 201]


def test_the_application_is_complete_by_itself(tmp_path: Path) -> None:
    import httpx

    desk = Desk(tmp_path)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Signed(desk)), base_url="https://gatekey.example") as client:
            assert (await client.get("/v1/me")).json()["login"] == "boss"
            assert (await client.post("/v1/people", json={"login": "eve"})).status_code == 201
            missing = await client.get("/v1/nope")
            assert (missing.status_code, missing.headers["content-type"], missing.json()["code"]) == (404, "application/problem+json", "no-route")
            assert (await client.delete("/v1/people/eve")).status_code == 405
            assert (await client.get("/docs")).status_code == 404
            assert (await client.get("/v1/bundle.zip")).content[:2] == b"PK"

    asyncio.run(ask())
    desk.close()
