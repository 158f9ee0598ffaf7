"""Jobs under a clock that is moved by hand: CRLs are never stale, each job runs once however many processes there are."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gatekey import app
from gatekey.authority import crl, jobs
from gatekey.authority.authority import Authority
from gatekey.errors import Unavailable
from gatekey.jobs import tasks
from gatekey.jobs.ticker import LEASE, RETRY, Job, Ticker
from gatekey.model.instants import DAY, HOUR
from gatekey.testing import FakeClock


def test_crls_never_grow_old(authority: Authority, clock: FakeClock) -> None:
    ticker = Ticker(authority, (Job("crl", HOUR, tasks.refresh_crls),))
    for _ in range(24 * 45):
        ticker.tick()
        for record in authority.records():
            held = crl.newest(authority, record.name)
            assert held is not None
            assert held.this_update <= clock.now() < held.next_update - 29 * DAY
            assert clock.now() - held.this_update <= DAY
        clock.move(seconds=HOUR)


def test_a_root_whose_key_is_away_is_told(authority: Authority, clock: FakeClock) -> None:
    (authority.config.home / "keys" / "people-root.key").rename(authority.config.home / "away.key")
    clock.move(days=1)
    assert tasks.refresh_crls(authority) == "signed the CRLs of people, servers-root, servers; keys away: people-root"


def test_the_published_folder_is_rewritten(authority: Authority, clock: FakeClock, tmp_path: Path) -> None:
    authority.config = authority.config._replace(publish=tmp_path / "published")
    tasks.refresh_crls(authority)
    before = (tmp_path / "published" / "all.crl.pem").read_bytes()
    clock.move(days=1)
    tasks.refresh_crls(authority)
    assert (tmp_path / "published" / "all.crl.pem").read_bytes() != before


def test_a_fault_in_one_job_holds_up_neither_it_nor_the_others(authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Authority) -> str:
        raise UnicodeError("label empty or too long")

    ticker = Ticker(authority, (Job("broken", HOUR, broken), Job("fine", HOUR, lambda _: "done")))
    first, second = ticker.tick()
    assert (first.failed, type(first.fault), second.said) == ("a fault in the program (UnicodeError)", UnicodeError, "done")
    assert jobs.states(authority)[0][3] == "failed: a fault in the program (UnicodeError)"
    clock.move(seconds=RETRY)
    assert [ran.name for ran in ticker.tick()] == ["broken"], "soon again, without waiting for its lease to end"

    def locked(*_: object) -> None:
        raise Unavailable("store-locked", "another process holds the ledger")

    clock.move(seconds=HOUR)
    real = jobs.finish
    monkeypatch.setattr(jobs, "finish", lambda *said: locked() if said[1] == "broken" else real(*said))
    assert [(ran.name, ran.failed) for ran in ticker.tick()] == [("broken", "another process holds the ledger"), ("fine", "")]


def test_a_job_runs_once_however_many_processes_there_are(authority: Authority) -> None:
    ran: list[str] = []
    gate = threading.Barrier(8)

    def process(number: int) -> None:
        own = app.open_authority(authority.config.home)
        own.clock = authority.clock

        def count(_: Authority) -> str:
            ran.append(str(number))
            return "counted"

        ticker = Ticker(own, (Job("count", HOUR, count),))
        gate.wait()
        ticker.tick()
        own.close()

    threads = [threading.Thread(target=process, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 1


def test_a_job_comes_round_and_a_failure_comes_sooner(authority: Authority, clock: FakeClock) -> None:
    tries: list[int] = []

    def job(_: Authority) -> str:
        tries.append(clock.now())
        if len(tries) == 1:
            raise Unavailable("mail-failed", "the post is closed")
        return "done"

    ticker = Ticker(authority, (Job("post", HOUR, job),))
    assert [ran.failed for ran in ticker.tick()] == ["the post is closed"]
    assert ticker.tick() == []
    clock.move(seconds=RETRY)
    assert [ran.said for ran in ticker.tick()] == ["done"]
    clock.move(seconds=HOUR - 1)
    assert ticker.tick() == []
    clock.move(seconds=1)
    assert len(ticker.tick()) == 1
    assert jobs.states(authority)[0][3] == "done"


def test_the_lease_of_a_dead_process_is_anybodys_later(authority: Authority, clock: FakeClock) -> None:
    assert jobs.claim(authority, "post", LEASE)
    ticker = Ticker(authority, (Job("post", HOUR, lambda _: "done"),))
    assert ticker.tick() == []
    clock.move(seconds=LEASE)
    assert [ran.said for ran in ticker.tick()] == ["done"]


def test_old_answers_are_forgotten(authority: Authority, clock: FakeClock) -> None:
    row = {"requester": "ann", "idempotency": "k", "digest": "d", "status": 200, "body": "{}", "at": clock.now()}
    with authority.ledger.db.transaction("test") as tx:
        tx.insert("answer", row)
    clock.move(days=6)
    assert tasks.close_drafts(authority) == "closed 0 drafts, forgot 0 old answers"
    clock.move(days=2)
    assert tasks.close_drafts(authority) == "closed 0 drafts, forgot 1 old answers"
