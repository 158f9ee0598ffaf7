"""Counting what one address asks for, metrics that outlive a worker, and log lines without secrets."""

from __future__ import annotations

import io
import json

from gatekey.app import _tell_jobs
from gatekey.authority.health import FAIL, OK, WARN, Finding
from gatekey.errors import Misconfigured, Unavailable
from gatekey.jobs.ticker import Ran
from gatekey.protocols.message import Call
from gatekey.web.health import Health
from gatekey.web.limits import Limits, shared_memory
from gatekey.web.logs import MOST, Log
from gatekey.web.metrics import AREA, STALE, Meter


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
    assert again.total()[0]["gatekey_requests", "public", "/x", "200"] == 8
    assert 'gatekey_requests_total{listener="public",route="/x",status="200"} 8.0' in exposed(again)


def exposed(meter: Meter) -> str:
    return meter.answer(Call("private", "GET", "/metrics")).body.decode()


def test_of_all_workers_the_one_where_it_stands_worst_is_told_while_it_lives() -> None:
    """Which worker Prometheus meets is chance; one that is gone, or whose housekeeping hangs, no longer says how things are."""
    memory, at = shared_memory(3 * AREA), 1000.0
    one, two = (Meter(memory, place, 3, lambda: at) for place in range(2))
    one.levels = lambda: {("gatekey_check", "crl"): 0, ("gatekey_check", "keys"): 1, ("gatekey_crl_next_update_seconds", "people"): 5}
    two.levels = lambda: {("gatekey_check", "crl"): 2, ("gatekey_check", "keys"): 0, ("gatekey_crl_next_update_seconds", "people"): 7}
    assert "gatekey_workers 0.0" in exposed(one), "nobody has looked yet"
    one.write()
    two.write()

    def states(name: str) -> list[str]:
        lines = [line for line in exposed(one).splitlines() if line.startswith("gatekey_check{") and f'name="{name}"' in line]
        assert len(lines) == 3
        return [line.partition('state="')[2].partition('"')[0] for line in lines if line.endswith(" 1.0")]

    assert (states("crl"), states("keys")) == (["fail"], ["warn"])
    assert 'gatekey_crl_next_update_seconds{authority="people"} 7.0' in exposed(one)
    assert "gatekey_workers 2.0" in exposed(one)
    two.counts["gatekey_decisions", "let-in"] += 1
    two.end()
    assert (states("crl"), states("keys")) == (["ok"], ["warn"])
    assert "gatekey_workers 1.0" in exposed(one)
    assert 'gatekey_decisions_total{why="let-in"} 1.0' in exposed(one), "what it has counted stays"
    two.write()
    at += STALE
    one.write()
    assert (states("crl"), "gatekey_workers 1.0" in exposed(one)) == (["ok"], True)


def test_failures_are_counted_also_those_that_are_not_written() -> None:
    out = io.StringIO()
    log, meter = Log("error", out), Meter(shared_memory(AREA), 0, 1)
    log.counts = meter.counts
    for _ in range(MOST + 5):
        log.failure("job-failed", ValueError("x"), job="reminders")
    log.failure("tenths-failed", Unavailable("disk-full", "no room"))
    log.error("worker-died")
    assert 'gatekey_log_failures_total{event="job-failed"} 55.0' in exposed(meter)
    assert 'gatekey_log_failures_total{event="tenths-failed"} 1.0' in exposed(meter)
    assert "worker-died" not in exposed(meter)


def test_jobs_are_counted_by_how_they_end() -> None:
    meter = Meter(shared_memory(AREA), 0, 1)
    _tell_jobs(Log("error", io.StringIO()), meter.counts, [Ran("reminders", "sent 2"), Ran("crl-refresh", "", "no", Unavailable("disk-full", "no"))])
    assert 'gatekey_job_runs_total{name="reminders",outcome="done"} 1.0' in exposed(meter)
    assert 'gatekey_job_runs_total{name="crl-refresh",outcome="failed"} 1.0' in exposed(meter)


def test_no_secret_and_no_flood_in_the_log() -> None:
    out = io.StringIO()
    log = Log("info", out)
    log.warning("refused", password="geheim", api_token="geheim", path="x" * 1000, line="a\nb\u2028c")
    log.failure("broken", ValueError("geheim"))
    log.failure("said", Misconfigured("x-code", "in our words", hint="do this"))
    log.warning("refused", path="/v1/tokens/gkt_0123456789abcdef_geheim", message="nobody is called 'gkt_0123456789abcdef_geheim'")
    for _ in range(3 * MOST):
        log.warning("many")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "geheim" not in out.getvalue()
    assert (lines[0]["password"], lines[0]["api_token"], len(lines[0]["path"])) == ("***", "***", 303)
    assert lines[1]["kind"] == "ValueError"
    assert (lines[2]["code"], lines[2]["message"], lines[2]["hint"]) == ("x-code", "in our words", "do this")
    assert (lines[3]["path"], lines[3]["message"]) == ("/v1/tokens/gkt_0123456789abcdef***", "nobody is called 'gkt_0123456789abcdef***'")
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
