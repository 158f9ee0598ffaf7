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

from gatekey import app, config, files
from gatekey.authority import crl, health
from gatekey.authority.authority import Authority
from gatekey.authority.republish import GATHER, RETRY
from gatekey.errors import Misconfigured, Unavailable
from gatekey.model.instants import DAY, HOUR, parse_instant
from gatekey.protocols.message import Call, Peer
from gatekey.store.database import Database
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

    def doctor(self, check: str = "crl") -> tuple[int, dict[str, Any]]:
        """`gatekey doctor --json`: exit code, and what it finds, of CRLs if nothing else is asked."""
        told = typed("--home", self.home, "doctor", "--json")
        found: dict[str, Any] = told.json["checks"][check]
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
    with (home / "gatekey.toml").open("a") as file:
        file.write(f'publish = "{tmp_path / "published"}"\n')
    places = 2
    memory = limits.shared_memory
    shared = app._Shared(memory(limits.Limits.size), b"s" * 16, memory(metrics.AREA * places), memory(seats.Seats.size(places)), 0, places)
    _, house = app._house(config.load(home), None, shared, logs.Log("error", io.StringIO()))
    house.load()
    for work in house.tenths * 2:
        work()  # writes the folder
    made = Worker(home, clock, house)
    yield made
    house.stop()


def left(worker: Worker, name: str = "people") -> float:
    """Days until nextUpdate of the CRL that is served."""
    return (worker.crl(name).next_update_utc.timestamp() - worker.clock.now()) / DAY  # type: ignore[union-attr]  # RFC 5280 wants it


def published(worker: Worker) -> float:
    """Days until what is published runs out: that of the first CRL in the file that web servers read, as the manifest says it."""
    folder = worker.home.parent / "published"
    lists = x509_crls((folder / "all.crl.pem").read_bytes())
    assert {one.issuer.rfc4514_string() for one in lists} == {worker.crl(name).issuer.rfc4514_string() for name in ("people-root", "people")}
    ends = min(one.next_update_utc.timestamp() for one in lists)  # type: ignore[union-attr]  # RFC 5280 wants it
    assert parse_instant(json.loads((folder / "manifest.json").read_bytes())["fresh_until"]) == ends
    return (ends - worker.clock.now()) / DAY


def x509_crls(text: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    return [x509.load_pem_x509_crl(part + end) for part in text.split(end)[:-1]]


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
        assert left(worker) > 29
        assert now - served.last_update_utc.timestamp() <= DAY
        assert published(worker) > 29
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


def the_folder_cannot_be_written(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    def read_only(*_: Any, **__: Any) -> Any:
        raise Misconfigured("not-allowed", "the disk is read-only")

    monkeypatch.setattr(files, "switch", read_only)
    return monkeypatch.undo


class Harm(NamedTuple):
    """What is done; the check that turns red, its remedy and how it ends; days until nobody gets in; what is told at once by another check."""

    do: Callable[[Worker, pytest.MonkeyPatch], Callable[[], object]]
    check: str
    remedy: str
    end: str
    left: Callable[[Worker], float]
    early: tuple[str, str] = ("keys", "ok")


HARMS = (
    Harm(key_is_away, "crl", "gatekey crl --authority people", "has expired", left, ("keys", "warn")),
    Harm(nothing_can_be_written, "crl", "gatekey crl --authority people", "has expired", left),
    Harm(the_folder_cannot_be_written, "publish", "gatekey bundle --out", "has run out", published, ("crl", "ok")),
)


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: str(harm.do.__name__))
def test_health_is_red_days_before_anybody_is_locked_out(worker: Worker, harm: Harm) -> None:
    """Told by /readyz and by `gatekey doctor`, in the same words, from ten days before the end on; green again as soon as it can be."""
    for _ in range(3):
        worker.hour()
    assert worker.get("/readyz")[0] == HTTPStatus.OK
    patch = pytest.MonkeyPatch()
    mend = harm.do(worker, patch)
    red: list[tuple[float, str]] = []
    while harm.left(worker) > 0:
        worker.hour(STEP)
        status, body = worker.get("/readyz", "proxy")
        code, found = worker.doctor(harm.check)
        checks = json.loads(body)["checks"]
        assert (code == 0) == (status == HTTPStatus.OK), "the service and the doctor say the same"
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            finding = checks[harm.check]
            assert finding["state"] == "fail"
            assert finding == {"state": found["state"], "message": found["message"], "remedy": found["remedy"]}
            assert harm.remedy in finding["remedy"]
            red.append((harm.left(worker), finding["message"]))
        else:
            assert status == HTTPStatus.OK
            assert not red, "once red it stays red"
            assert checks[harm.early[0]]["state"] == harm.early[1], "a key that is away is told at once"
        if harm.check == "publish":
            assert left(worker) > 29, "what the service itself serves is fresh all the time"
    first = red[0][0]
    assert PROMISED - STEP / 24 <= first <= PROMISED, f"red {first:.2f} days before the end"
    assert len(red) >= (PROMISED - 1) * 24 / STEP
    assert harm.end in red[-1][1]
    assert worker.get("/readyz")[0] == HTTPStatus.SERVICE_UNAVAILABLE, "strangers are told, too"
    mend()
    worker.hour()
    assert worker.get("/readyz")[0] == HTTPStatus.OK, "with the key comes a new CRL, and health is green again"
    assert left(worker) > 29
    assert published(worker) > 29


def test_a_revocation_that_cannot_be_published_is_red_within_a_minute(worker: Worker) -> None:
    """The ledger, OCSP and the CRL that is served know it; the web servers that read the folder do not."""
    with pytest.MonkeyPatch.context() as patch:
        the_folder_cannot_be_written(worker, patch)
        _revoke_somebody(worker.house.authority, "ann")
        worker.clock.move(seconds=GATHER)
        with pytest.raises(Misconfigured):
            for work in worker.house.tenths * 2:
                work()
        worker.house.health.run()
        assert worker.get("/readyz")[0] == HTTPStatus.OK
        worker.clock.move(seconds=health.FOLDER_LATE + 1)
        worker.house.compare()
        worker.house.health.run()
        status, body = worker.get("/readyz", "proxy")
        assert (status, json.loads(body)["checks"]["publish"]["state"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "fail")
        assert worker.doctor("publish")[0] == 1
    worker.clock.move(seconds=RETRY)
    worker.house.compare()
    for work in (*worker.house.tenths * 2, worker.house.health.run):
        work()
    assert worker.get("/readyz")[0] == HTTPStatus.OK


def test_health_and_metrics_are_answered_from_memory(worker: Worker) -> None:
    """Also while the ledger cannot be read at all: whoever asks every second, or in a flood, costs nothing and waits for nobody."""
    for work in worker.house.seconds:
        work()
    worker.house.authority.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "read", lambda _: pytest.fail("the ledger was read"))
        assert worker.get("/readyz")[0] == HTTPStatus.OK
        text = worker.house.meter.answer(Call("private", "GET", "/metrics")).body.decode()
    assert 'gatekey_check{name="publish",state="ok"} 1.0' in text
    ends = worker.clock.now() + 30 * DAY
    told = next(line for line in text.splitlines() if line.startswith('gatekey_crl_next_update_seconds{authority="people"}'))
    assert float(told.split()[1]) == ends
