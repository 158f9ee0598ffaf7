"""Findings that are out of date, and checks that break off: neither may look like health."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

from gatekey.errors import Unavailable
from gatekey.protocols.message import Call
from gatekey.web.health import FAIL, OK, STALE, WARN, Finding, Health
from gatekey.web.logs import Log


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def asked(health: Health) -> tuple[int, dict[str, Any]]:
    answer = health.answer(Call("proxy", "GET", "/readyz"))
    return answer.status, json.loads(answer.body)["checks"]


def test_a_check_that_breaks_off_has_failed_and_the_others_have_their_turn() -> None:
    """Whatever it raises: what it found before does not stay in force. The log hears of it once, with the place and without a stranger's words."""
    out = io.StringIO()
    log = Log("error", out)
    health = Health(lambda name, fault: log.failure("check-failed", fault, check=name))
    broken: list[Exception] = []
    turns = []

    def first() -> Finding:
        if broken:
            raise broken[0]
        return Finding(OK)

    def second() -> Finding:
        turns.append(1)
        return Finding(OK)

    health.add("first", first)
    health.add("second", second)
    health.run()
    assert asked(health)[0] == 200
    broken.append(ValueError("a password: geheim"))
    for _ in range(3):
        health.run()
    status, checks = asked(health)
    assert (status, checks["first"]["state"], checks["second"]["state"], len(turns)) == (503, "fail", "ok", 4)
    assert "breaks off with ValueError" in checks["first"]["message"]
    assert "log" in checks["first"]["remedy"]
    assert "geheim" not in json.dumps(checks) + out.getvalue()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["check"], line["kind"]) for line in lines] == [("check-failed", "first", "ValueError")]
    assert lines[0]["where"].startswith("test_health.py:")
    broken.clear()
    health.run()
    assert asked(health)[0] == 200
    broken.append(KeyError("again"))
    health.run()
    assert out.getvalue().count("check-failed") == 2
    broken[0] = Unavailable("store-locked", "locked", hint="wait")
    health.run()
    assert asked(health)[1]["first"] == {"state": "fail", "message": "locked", "remedy": "wait"}


def test_what_nobody_looked_at_for_half_a_minute_is_no_health() -> None:
    clock = Seconds()
    health = Health(clock=clock)
    health.add("good", lambda: Finding(OK))
    health.add("middling", lambda: Finding(WARN, "look", "mend"), every=10)
    health.run()
    clock.at += STALE
    assert asked(health)[0] == 200
    clock.at += 1
    status, checks = asked(health)
    assert status == 503
    assert {one["state"] for one in checks.values()} == {"fail"}
    assert checks["middling"]["message"] == "nobody has looked for 31 seconds (then it was warn): the housekeeping of this worker hangs"
    assert "systemctl reload gatekey" in checks["good"]["remedy"]
    health.run()
    assert asked(health)[0] == 200, "also what has its turn only each ten times: it is overdue"


def test_one_that_hangs_is_found_out_and_memory_is_looked_at_all_the_same() -> None:
    """The thread waits for ever (a mount that does not answer): /readyz does not, and what `every` 0 finds is of this moment."""
    clock, let_go, reached = Seconds(), threading.Event(), threading.Event()
    health = Health(clock=clock)
    waits = view = False

    def mount() -> Finding:
        if waits:
            reached.set()
            assert let_go.wait(30)
        return Finding(OK)

    health.add("mount", mount)
    health.add("view", lambda: Finding(FAIL, "old", "look") if view else Finding(OK), every=0)
    assert asked(health)[0] == 503, "only memory was looked at yet"
    health.run()
    assert asked(health)[0] == 200
    waits = True
    thread = threading.Thread(target=health.run)
    thread.start()
    try:
        assert reached.wait(10)
        view = True
        assert asked(health)[1] == {"mount": {"state": "ok"}, "view": {"state": "fail", "message": "old", "remedy": "look"}}
        view = False
        clock.at += STALE + 1
        assert {name: one["state"] for name, one in asked(health)[1].items()} == {"mount": "fail", "view": "ok"}
    finally:
        let_go.set()
        thread.join(10)
    assert asked(health)[0] == 200


def test_each_has_its_turn() -> None:
    clock, ran = Seconds(), {"often": 0, "seldom": 0}

    def check(name: str) -> Finding:
        ran[name] += 1
        return Finding(OK)

    health = Health(clock=clock)
    health.add("often", lambda: check("often"))
    health.add("seldom", lambda: check("seldom"), every=10)
    for _ in range(30):
        health.run()
        clock.at += 1
    assert ran == {"often": 30, "seldom": 3}
    for _ in range(3):  # each turn takes long: the seldom one does not grow old
        health.run()
        clock.at += 10
    assert ran["seldom"] == 6
