"""Counting what one address asks for, metrics that outlive a worker, and log lines without secrets."""

from __future__ import annotations

import io
import json

from gatekey.authority.health import FAIL, OK, WARN, Finding
from gatekey.errors import Misconfigured, Unavailable
from gatekey.protocols.message import Call
from gatekey.web.health import Health
from gatekey.web.limits import Limits, shared_memory
from gatekey.web.logs import MOST, Log
from gatekey.web.metrics import AREA, Meter


def test_an_address_is_counted_for_itself() -> None:
    memory = shared_memory(Limits.size)
    first, second = Limits(memory, b"s" * 16, 5, 1), Limits(memory, b"s" * 16, 5, 1)
    place, other = first.place("192.0.2.1"), first.place("192.0.2.2")
    for _ in range(3):  # a second may end in between; then it is counted again
        allowed = [(first if n % 2 else second).allows(place) for n in range(40)]
        if allowed.count(True) == 5:
            break
    assert allowed.count(True) == 5, "over both workers"
    assert first.allows(other)
    assert Limits(memory, b"s" * 16, 0, 1).allows(place)


def test_ipv6_counts_by_network_and_mapped_addresses_as_what_they_are() -> None:
    limits = Limits(shared_memory(Limits.size), b"s" * 16, 5, 1)
    assert limits.place("2001:db8::1") == limits.place("2001:db8::ffff:1%eth0")
    assert limits.place("2001:db8::1") != limits.place("2001:db8:0:1::1")
    assert limits.place("::ffff:192.0.2.1") == limits.place("192.0.2.1")
    assert limits.place("not an address")


def test_counters_are_added_up_and_outlive_their_worker() -> None:
    memory = shared_memory(3 * AREA)
    one, two = Meter(memory, 0, 3), Meter(memory, 1, 3)
    one.counts["gatekey_requests", "public", "/x", "200"] += 3
    two.counts["gatekey_requests", "public", "/x", "200"] += 4
    one.write()
    two.write()
    again = Meter(memory, 0, 3)  # a worker that died, and whoever has its place now
    again.counts["gatekey_requests", "public", "/x", "200"] += 1
    assert again.total()["gatekey_requests", "public", "/x", "200"] == 8
    again.gauges["gatekey_test"] = ("A gauge", lambda: 2.0)
    text = again.answer(Call("private", "GET", "/metrics")).body.decode()
    assert 'gatekey_requests_total{listener="public",route="/x",status="200"} 8.0' in text
    assert "gatekey_test 2.0" in text


def test_no_secret_and_no_flood_in_the_log() -> None:
    out = io.StringIO()
    log = Log("info", out)
    log.warning("refused", password="geheim", api_token="geheim", path="x" * 1000, line="a\nb\u2028c")
    log.failure("broken", ValueError("geheim"))
    log.failure("said", Misconfigured("x-code", "in our words", hint="do this"))
    for _ in range(3 * MOST):
        log.warning("many")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "geheim" not in out.getvalue()
    assert (lines[0]["password"], lines[0]["api_token"], len(lines[0]["path"])) == ("***", "***", 303)
    assert lines[1]["kind"] == "ValueError"
    assert (lines[2]["code"], lines[2]["message"], lines[2]["hint"]) == ("x-code", "in our words", "do this")
    assert sum(line["event"] == "many" for line in lines) <= 2 * MOST


def test_readiness_is_the_worst_of_all_and_strangers_hear_no_words() -> None:
    health = Health()
    found = Finding(OK)
    health.add("one", lambda: found)
    assert health.answer(Call("private", "GET", "/readyz")).status == 503, "nothing was looked at yet"
    health.run()
    assert health.answer(Call("public", "GET", "/readyz")).status == 200
    found = Finding(WARN, "look at /secret/place", "mend it")
    health.run()
    strangers = [health.answer(Call(listener, "GET", "/readyz")) for listener in ("public", "enrol", "private")]
    known = [health.answer(Call("proxy", "GET", "/readyz")), health.answer(Call("private", "GET", "/readyz"), known=True)]
    assert {answer.status for answer in (*strangers, *known)} == {200}
    assert not [answer for answer in strangers if b"/secret/place" in answer.body]
    assert known[0] == known[1]
    assert json.loads(known[0].body)["checks"]["one"] == {"state": "warn", "message": "look at /secret/place", "remedy": "mend it"}

    def fail() -> Finding:
        raise Unavailable("store-locked", "locked", hint="wait")

    health.add("two", fail)
    health.run()
    assert health.findings["two"] == Finding(FAIL, "locked", "wait")
    assert health.answer(Call("public", "GET", "/readyz")).status == 503
