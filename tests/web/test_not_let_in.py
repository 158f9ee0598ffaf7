"""Whoever is not let in stands in the log, and an operator sees there whether it was a lost laptop or a forgery; no answer waits for that."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey import app, config
from gatekey.authority import requests
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.lookup import of_stranger
from gatekey.authority.revoke import hold, revoke
from gatekey.errors import Unavailable
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.model.instants import iso
from gatekey.protocols.decision import Question
from gatekey.protocols.message import Call, Peer
from gatekey.store.reads import Reads
from gatekey.testing import FakeClock
from gatekey.web import limits, logs, metrics, seats
from gatekey.web.house import House
from gatekey.x509.names import rfc2253

CALL = Call("proxy", "GET", "/decision", peer=Peer("unix"), id="x-1")


class Service:
    """What `gatekey serve` composes for one worker, without its threads, and what it has written into its log."""

    def __init__(self, house: House, clock: FakeClock, out: io.StringIO) -> None:
        self.house = house
        self.clock = clock
        self.out = out
        self.authority: Authority = house.authority
        self.people = self.dn("people")

    def dn(self, name: str) -> str:
        return rfc2253(self.authority.issuing(name).certificate.subject)

    def person(self, login: str, **said: Any) -> Released:
        return issue(self.authority, *requests.client(self.authority, login, material.make("p256").spki, **said))

    def ask(self, serial: str, issuer: str = "") -> tuple[int, dict[str, str], bytes]:
        """The whole answer of the decision endpoint."""
        said = (("x-gatekey-serial", serial), ("x-gatekey-issuer", issuer or self.people), ("x-gatekey-site", "app.example"))
        answer = self.house.decision.answer(CALL._replace(headers=said))
        return answer.status, dict(answer.headers), answer.body

    def lines(self) -> list[dict[str, Any]]:
        """What stands in the log after the next tenth of a second."""
        for work in self.house.tenths:
            work()
        told = [json.loads(line) for line in self.out.getvalue().splitlines()]
        self.out.seek(0)
        self.out.truncate()
        return [line for line in told if line["event"] == "not-let-in"]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    clock, out, home = FakeClock(), io.StringIO(), tmp_path / "home"
    monkeypatch.setattr(app, "SystemClock", lambda: clock)
    app.create_authority(home, app.Founding("Kitty CA", unencrypted_keys=True), clock=clock).close()
    memory = limits.shared_memory
    shared = app._Shared(memory(limits.Limits.size), b"s" * 16, memory(metrics.AREA), memory(seats.Seats.size(1)), 0, 1)
    _, house = app._house(config.load(home), None, shared, logs.Log("info", out))
    house.load()
    yield Service(house, clock, out)
    house.stop()


#: What is said of a stranger beside issuer, serial and site.
SAID = ("what", "since", "reason", "holder", "device", "not_found_out")


def test_a_lost_laptop_is_told_from_a_forgery(service: Service) -> None:
    """Revoked since when and whose, held, ended, broken off, or never issued; to the web server all of it is `unknown`, as ever."""
    begun = service.clock.now()
    lost, ill, short = service.person("ann", device="laptop"), service.person("bob"), service.person("carl", days=1)
    site = issue(service.authority, *requests.server(service.authority, ["app.example"], material.make("p256").spki))
    service.clock.move(days=2)
    revoke(service.authority, lost.id, "key-compromise")
    hold(service.authority, ill.id)
    broken_off = service.person("dora")
    with service.authority.ledger.db.transaction("test") as tx:
        tx.run("UPDATE certificate SET state = 'abandoned', signature = NULL, fingerprint = NULL WHERE serial = :serial", serial=broken_off.number)
    now = iso(service.clock.now())
    service.house.load()
    service.house.standing._known.clear()  # a worker that is started now never hears of what has ended
    expected = {
        (lost.number, ""): {"what": "revoked", "since": now, "reason": "key-compromise", "holder": "ann", "device": "laptop"},
        (ill.number.lower(), ""): {"what": "held", "since": now, "reason": "certificate-hold", "holder": "bob"},
        (short.number, ""): {"what": "expired", "since": iso(begun + 86399), "holder": "carl"},
        (broken_off.number, ""): {"what": "abandoned", "holder": "dora"},
        ("5A1B", ""): {"what": "never issued here"},
        (site.number, service.dn("servers")): {"what": "no certificate for doors", "holder": "app.example"},
        (lost.number, service.dn("servers")): {"what": "never issued here"},
        (lost.number, "CN=Doggy CA"): {"what": "of another authority"},
    }
    answers = {service.ask(serial, issuer)[1:] == service.ask("5A1B")[1:] for serial, issuer in expected}
    assert answers == {True}, "the web server hears the same of all of them"
    service.lines()
    for (serial, issuer), told in expected.items():
        assert service.ask(serial, issuer)[0] == 403
        assert service.out.getvalue() == "", "nothing is looked up or written while somebody waits"
        (line,) = service.lines()
        assert {"why": "unknown", "id": "x-1", "serial": serial, "site": "app.example"}.items() <= line.items()
        assert {name: line[name] for name in SAID if name in line} == told


def test_bytes_that_are_not_ours_under_a_serial_of_ours_are_told(service: Service) -> None:
    ann = service.person("ann")
    own, forged = (hashlib.sha256(der).digest() for der in (ann.der, ann.der + b"x"))
    assert of_stranger(service.authority, service.people, ann.number, forged) == {"what": "another certificate under a serial of ours"}
    told = {"what": "valid", "holder": "ann"}  # it was given back, or issued, since it was refused
    assert of_stranger(service.authority, service.people, ann.number, own) == told
    assert of_stranger(service.authority, service.people, ann.number) == told


def test_what_cannot_be_looked_up_stands_in_the_log_all_the_same(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[Exception] = [Unavailable("store-locked", "busy"), ValueError("geheim")]

    def busy(*_: object) -> Any:
        raise troubles[0]

    monkeypatch.setattr(Reads, "by_serial", busy)
    service.ask("5A1B")
    assert [line["not_found_out"] for line in service.lines()] == ["store-locked"]
    troubles.pop(0)
    service.ask("5A1B")
    assert [line["not_found_out"] for line in service.lines()] == ["ValueError"]


def test_other_refusals_are_written_at_once(service: Service) -> None:
    tell = app._telling_no(service.house.log, service.authority)
    tell(CALL, "expired", Question("CN=Kitty CA people", "5A", "app.example", ()))
    tell(CALL, "no-certificate", None)
    lines = [json.loads(line) for line in service.out.getvalue().splitlines()]
    assert {"event": "not-let-in", "id": "x-1", "why": "expired", "serial": "5A", "site": "app.example"}.items() <= lines[0].items()
    assert lines[1]["why"] == "no-certificate"


def test_never_a_flood_of_lines_or_of_questions(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty lines a second, and the ledger is asked for no more of them; what waits is bounded, and the rest is written without it."""
    second = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: second[0])
    asked: list[str] = []
    real = Reads.by_serial

    def by_serial(reads: Reads, serial: str) -> list[Any]:
        asked.append(serial)
        return real(reads, serial)

    monkeypatch.setattr(Reads, "by_serial", by_serial)
    for number in range(4 * logs.MOST):
        service.ask(f"{number:X}")
    assert asked == []
    assert len(service.lines()) == len(asked) == logs.MOST
    monkeypatch.setattr(logs, "MOST_WAITING", 10)
    second[0] += 1
    for number in range(20):
        service.ask(f"{number:X}")
    told = service.lines()
    assert [sum("what" in line for line in told), len(told)] == [10, 20]


def test_what_waits_is_written_when_the_process_ends(service: Service) -> None:
    service.ask("5A1B")
    for ending in service.house.endings:
        ending()
    assert [json.loads(line)["what"] for line in service.out.getvalue().splitlines() if "not-let-in" in line] == ["never issued here"]
