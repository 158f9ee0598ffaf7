"""A whole worker under a clock that is moved by hand: the CRLs that it serves never grow old, and when they cannot be renewed it says so days before."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509

from gatekey import app, config
from gatekey.authority import crl
from gatekey.authority.authority import Authority
from gatekey.errors import Unavailable
from gatekey.model.instants import DAY, HOUR
from gatekey.protocols.message import Call, Peer
from gatekey.testing import FakeClock
from gatekey.web import limits, logs, metrics, seats
from gatekey.web.hot import Table
from gatekey.web.house import House
from gatekey.web.routes import routes
from kit.administrator import typed

#: Days before nextUpdate at which docs/service.md promises that health is red.
PROMISED = 10
#: Hours between two looks while health turns red.
STEP = 3
CAS = ("people-root", "people", "servers-root", "servers")


class Worker(NamedTuple):
    """What `gatekey serve` composes for one worker, without its threads: `hour` does what they do."""

    home: Path
    clock: FakeClock
    house: House

    def hour(self, hours: int = 1) -> None:
        """An hour passes, or some; then the jobs, a comparison with the ledger and the housekeeping have their turn."""
        self.clock.move(seconds=hours * HOUR)
        for work in (*self.house.jobs, self.house.compare, *self.house.seconds):
            work()
        for _ in range(10):  # some checks have their turn only now and then
            self.house.published.refresh()
            self.house.health.run()

    def get(self, path: str, listener: str = "public") -> tuple[int, bytes]:
        """An answer as the routes have it."""
        route = Table([one for one in routes(self.house) if one.listener == listener]).find("GET", path)
        assert route
        answer: Any = route.handler(Call(listener, "GET", path, peer=Peer("192.0.2.1")))
        return answer.status, answer.body

    def crl(self, name: str) -> x509.CertificateRevocationList:
        status, body = self.get(f"/crl/{name}.crl")
        assert status == HTTPStatus.OK
        return x509.load_der_x509_crl(body)

    def doctor(self) -> tuple[int, dict[str, Any]]:
        """`gatekey doctor --json`: exit code, and the finding about CRLs."""
        told = typed("--home", self.home, "doctor", "--json")
        found: dict[str, Any] = told.json["checks"]["crl"]
        assert told.json["ready"] == (told.code == 0)
        return told.code, found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of everything that `app` composes."""
    made = FakeClock()
    monkeypatch.setattr(app, "SystemClock", lambda: made)
    return made


@pytest.fixture
def worker(tmp_path: Path, clock: FakeClock) -> Iterator[Worker]:
    home = tmp_path / "home"
    app.create_authority(home, app.Founding("Kitty CA", unencrypted_keys=True, url="http://pki.example"), clock=clock).close()
    places = 2
    memory = limits.shared_memory
    shared = app._Shared(memory(limits.Limits.size), b"s" * 16, memory(metrics.AREA * places), memory(seats.Seats.size(places)), 0, places)
    _, house = app._house(config.load(home), None, shared, logs.Log("error", io.StringIO()))
    house.load()
    made = Worker(home, clock, house)
    yield made
    house.stop()


def left(worker: Worker, name: str) -> float:
    """Days until nextUpdate of the CRL that is served."""
    return (worker.crl(name).next_update_utc.timestamp() - worker.clock.now()) / DAY  # type: ignore[union-attr]  # RFC 5280 wants it


@pytest.mark.slow
def test_what_is_served_is_never_stale_in_sixty_days(worker: Worker) -> None:
    """An hour at a time; a revocation now and then is in the next one that is served."""
    numbers = set()
    revoked: list[int] = []
    for hour in range(60 * 24):
        worker.hour()
        served = worker.crl("people")
        now = worker.clock.now()
        assert served.last_update_utc.timestamp() <= now
        assert left(worker, "people") > 29
        assert now - served.last_update_utc.timestamp() <= DAY
        numbers.add(served.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
        assert {entry.serial_number for entry in served} >= {*revoked}
        if hour % 24 == 0:
            assert all(left(worker, name) > PROMISED for name in CAS)
            assert worker.get("/readyz")[0] == HTTPStatus.OK, worker.get("/readyz", "proxy")[1]
            assert worker.doctor()[0] == 0
        if hour % 240 == 100:
            revoked.append(_revoke_somebody(worker.house.authority, f"p{hour}"))
    assert len(revoked) == 6
    assert 60 <= len(numbers) <= 60 * 24 // 11 + len(revoked), "signed when it was needed, not every hour"


def _revoke_somebody(authority: Authority, login: str) -> int:
    from gatekey.authority import requests
    from gatekey.authority.issue import issue
    from gatekey.authority.revoke import revoke
    from gatekey.keys import material

    released = issue(authority, *requests.client(authority, login, material.make("p256").spki))
    revoke(authority, released.id)
    return int(released.number, 16)


def key_is_away(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    key, away = worker.home / "keys" / "people.key", worker.home / "people.key.away"
    key.rename(away)
    return lambda: away.rename(key)


def nothing_can_be_written(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    def full(*_: Any) -> Any:
        raise Unavailable("store-full", "the disk is full")

    monkeypatch.setattr(crl, "_make", full)
    return monkeypatch.undo


@pytest.mark.parametrize("harm", [key_is_away, nothing_can_be_written], ids=lambda harm: str(harm.__name__))
def test_health_is_red_days_before_anybody_is_locked_out(worker: Worker, harm: Callable[..., Callable[[], object]]) -> None:
    """Told by /readyz and by `gatekey doctor`, in the same words, from ten days before nextUpdate on; green again as soon as it can be."""
    for _ in range(3):
        worker.hour()
    assert worker.get("/readyz")[0] == HTTPStatus.OK
    patch = pytest.MonkeyPatch()
    mend = harm(worker, patch)
    red: list[tuple[float, str]] = []
    while left(worker, "people") > 0:
        worker.hour(STEP)
        status, body = worker.get("/readyz", "proxy")
        code, found = worker.doctor()
        assert (code == 0) == (status == HTTPStatus.OK), "the service and the doctor say the same"
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            finding = json.loads(body)["checks"]["crl"]
            assert finding["state"] == "fail"
            assert finding == {"state": found["state"], "message": found["message"], "remedy": found["remedy"]}
            assert "people" in finding["message"]
            assert "gatekey crl --authority people" in finding["remedy"]
            red.append((left(worker, "people"), finding["message"]))
        else:
            assert status == HTTPStatus.OK
            assert not red, "once red it stays red"
            assert json.loads(body)["checks"]["keys"]["state"] == ("warn" if harm is key_is_away else "ok"), "a key that is away is told at once"
    first = red[0][0]
    assert PROMISED - STEP / 24 <= first <= PROMISED, f"red {first:.2f} days before the end"
    assert len(red) >= (PROMISED - 1) * 24 / STEP
    assert "has expired" in red[-1][1]
    assert worker.get("/readyz")[0] == HTTPStatus.SERVICE_UNAVAILABLE, "strangers are told, too"
    mend()
    worker.hour()
    assert worker.get("/readyz")[0] == HTTPStatus.OK, "with the key comes a new CRL, and health is green again"
    assert left(worker, "people") > 29
