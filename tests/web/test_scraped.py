"""/metrics as Prometheus reads it: by prometheus_client's own parser, compared with what was asked of all workers together."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gatekey.web.metrics import COUNTERS, GAUGES
from kit.desk import Told
from kit.front import Front, front
from kit.servers import wait_until

pytestmark = pytest.mark.slow

WORKERS = 2
Labels = tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def f(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(tmp_path_factory.mktemp("metrics"), workers=WORKERS, tables={"public": {"metrics": True}}) as made:
        yield made


def scraped(told: Told) -> dict[str, Counter[Labels]]:
    """Sample name -> labels -> value. Every family is one that we declare, with its type and its help, and has each set of labels once."""
    assert told.status == 200
    assert told.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, Counter[Labels]] = {}
    for family in text_string_to_metric_families(told.body.decode()):
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge"), family.name
        about, labels = (COUNTERS if family.type == "counter" else GAUGES)[family.name]
        assert family.documentation == about
        for sample in family.samples:
            assert sample.name == (f"{family.name}_total" if family.type == "counter" else family.name)
            assert set(sample.labels) == set(labels), sample
            key = tuple(sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, Counter()), sample
            found[sample.name][key] = int(sample.value)
    return found


def requests(listener: str, route: str, status: int) -> Labels:
    return (("listener", listener), ("route", route), ("status", str(status)))


def test_what_was_asked_is_what_is_counted(f: Front) -> None:
    """On every listener, of every worker; and no part of what somebody asked becomes a label."""
    with f.service.authority() as authority:
        serial = authority.issue_client("ann").serial
    wait_until(lambda: f.ask(f.proxy(), "GET", "/decision", headers=f.named(serial)).status == 200, "ann is known")
    question = f.question(serial)

    def settled() -> dict[str, Counter[Labels]]:
        """The same from each worker, which has heard of all the others: each leaves its copy once a second."""

        def same() -> dict[str, Counter[Labels]] | None:
            told = [scraped(f.ask(connection, "GET", "/metrics")) for connection in f.to_each_worker(f.public, WORKERS)]
            for one in told:  # what we do to look, and to tell the workers apart
                for looked in (requests("public", "/metrics", 200), requests("public", "", 405)):
                    one["gatekey_requests_total"].pop(looked, None)
                one["gatekey_requests_total"].pop(requests("public", "/healthz", 405), None)
            return told[0] if told[0] == told[1] else None

        found: dict[str, Counter[Labels]] = wait_until(same, "both workers tell the same")
        return found

    expected: Counter[Labels] = Counter()
    before = settled()

    def ask(listener: str, route: str, status: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> None:
        connect = {"public": f.public, "private": f.private, "proxy": f.proxy}[listener]
        for number, connection in enumerate(f.to_each_worker(connect, WORKERS)):
            for _ in range(3 + number):
                assert f.ask(connection, method, path, body, headers=headers).status == status
                expected[requests(listener, route, status)] += 1

    ask("public", "/crl/*", 200, "GET", "/crl/people.crl")
    ask("public", "/crl/*", 404, "GET", "/crl/secret-name")
    ask("public", "/ca/*", 200, "HEAD", "/ca/people.crt")
    ask("public", "/ocsp", 200, "POST", "/ocsp", question)
    ask("public", "/ocsp", 413, "POST", "/ocsp", b"x" * (64 * 1024 + 1))
    ask("public", "", 404, "GET", "/another-secret")
    ask("private", "/v1/*", 401, "GET", "/v1/people/somebody")
    ask("private", "/readyz", 200, "GET", "/readyz")
    ask("proxy", "/decision", 200, "GET", "/decision", headers=f.named(serial))
    ask("proxy", "/decision", 403, "GET", "/decision")
    f.hang_up()

    def counted() -> bool:
        after = settled()["gatekey_requests_total"]
        grown = {key: count - before["gatekey_requests_total"][key] for key, count in after.items()}
        return all(grown.get(key, 0) == count for key, count in expected.items())

    wait_until(counted, "every answer is counted")
    text = f.ask(f.private("aud"), "GET", "/metrics").body.decode()
    for word in ("secret", "somebody", serial, "ann", "127.0.0.1"):
        assert word not in text, word
    answers, none = "gatekey_ocsp_answers_total", Counter[Labels]()
    assert settled().get(answers, none).total() - before.get(answers, none).total() == 7, "by how they came about"


def test_how_things_stand_is_there_to_be_alerted_on(f: Front) -> None:
    """Every check that /readyz has, every CRL with its end, the newest revocation, and each worker; the same whichever worker is asked."""
    f.hang_up()
    checks = f.ask(f.public(), "GET", "/readyz").json["checks"]

    def told() -> dict[str, Counter[Labels]]:
        return scraped(f.ask(f.public(), "GET", "/metrics"))

    wait_until(lambda: told()["gatekey_workers"][()] == WORKERS, "both have looked")
    stands = told()["gatekey_check"]
    assert {dict(key)["name"] for key in stands} == checks.keys()
    assert {dict(key)["name"]: dict(key)["state"] for key, value in stands.items() if value} == {name: one["state"] for name, one in checks.items()}
    assert len(stands) == 3 * len(checks)
    with f.service.authority() as authority:
        ends = told()["gatekey_crl_next_update_seconds"]
        assert {dict(key)["authority"] for key in ends} == {"people-root", "people", "servers-root", "servers"}
        bob = authority.issue_client("bob").serial
        begun = int(time.time())
        authority.revoke(bob)
    wait_until(lambda: begun <= told()["gatekey_newest_revocation_seconds"][()] <= time.time(), "the revocation")
    key = f.service.home / "keys" / "people.key"
    away = key.rename(key.with_suffix(".away"))
    try:
        wait_until(lambda: told()["gatekey_check"][("name", "keys"), ("state", "warn")] == 1, "the key is missed", 20)
    finally:
        away.rename(key)
    wait_until(lambda: told()["gatekey_check"][("name", "keys"), ("state", "ok")] == 1, "it is back", 20)


def test_metrics_survive_a_restart_of_their_workers(f: Front) -> None:
    """What a worker answered in its last second is counted, too: Prometheus takes a counter that falls for one that began anew."""
    route = requests("public", "/ca/*", 200)
    before = scraped(f.ask(f.public(), "GET", "/metrics")).get("gatekey_requests_total", Counter[Labels]())[route]
    ended, asked = threading.Event(), 0

    def load() -> None:
        nonlocal asked
        while not ended.wait(0.005):
            connection = HTTPConnection("127.0.0.1", f.service.public, timeout=30)
            assert f.ask(connection, "GET", "/ca/people.crt").status == 200
            connection.close()
            asked += 1

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(2):
            f.reload()
    finally:
        ended.set()
        thread.join(30)

    def count() -> int:
        return scraped(f.ask(f.public(), "GET", "/metrics"))["gatekey_requests_total"][route] - before

    wait_until(lambda: count() == asked, "every answer is counted, and once", 10)


def test_where_the_operator_has_not_said_so_strangers_learn_nothing(tmp_path: Path) -> None:
    with front(tmp_path, workers=1) as f:
        assert f.ask(f.public(), "GET", "/metrics").status == 404
        assert f.ask(f.proxy(), "GET", "/metrics").status == 404
        assert f.ask(f.private(), "GET", "/metrics").status == 401
        assert scraped(f.ask(f.private("aud"), "GET", "/metrics"))
