"""Jobs under a clock that is moved by hand: CRLs are never stale, reminders go out once, each job runs once however many processes there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey import app
from gatekey.authority import crl, jobs, requests
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.revoke import revoke
from gatekey.errors import Unavailable
from gatekey.jobs import tasks
from gatekey.jobs.ticker import LEASE, RETRY, Job, Ticker
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.model.instants import DAY, HOUR
from gatekey.model.mail import Mail
from gatekey.testing import FakeClock


class Post:
    """Keeps letters and events, or refuses them."""

    def __init__(self) -> None:
        self.letters: list[Mail] = []
        self.events: list[dict[str, Any]] = []
        self.closed = False

    def send(self, what: Any, *, at: int) -> None:
        assert at > 0
        if self.closed:
            raise Unavailable("mail-failed", "the post is closed")
        (self.letters if isinstance(what, Mail) else self.events).append(what)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(tmp_path: Path, clock: FakeClock) -> Iterator[Authority]:
    made = app.create_authority(tmp_path / "home", app.Founding("Kitty CA", unencrypted_keys=True), clock=clock)
    yield made
    made.close()


def person(authority: Authority, login: str, **said: Any) -> Released:
    return issue(authority, *requests.client(authority, login, material.make("p256").spki, email=f"{login}@kitty.example", **said))


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


def test_reminders_go_out_at_each_step_once(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    ann = person(authority, "ann", name="Änn", device="laptop")
    said = []
    for _ in range(366 * 2):
        before = len(post.letters)
        tasks.remind(authority, post, post, (30, 14, 3))
        if len(post.letters) > before:
            said.append((365 * DAY - (clock.now() - 1767225600)) // DAY)
        clock.move(seconds=DAY // 2)
    assert said == [30, 14, 3]
    assert [letter.to for letter in post.letters] == ["ann@kitty.example"] * 3
    assert "Hello Änn" in post.letters[0].text
    assert "on your device laptop" in post.letters[0].text
    assert ann.number in post.letters[0].text
    assert [event["serial"] for event in post.events] == [ann.number] * 3


def test_who_comes_late_gets_one_letter(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    person(authority, "ann")
    clock.move(days=363)
    tasks.remind(authority, post, None, (30, 14, 3))
    tasks.remind(authority, post, None, (30, 14, 3))
    assert len(post.letters) == 1
    assert "in 2 days" in post.letters[0].subject or "tomorrow" in post.letters[0].subject


def test_nobody_is_reminded_of_what_was_renewed_or_taken_away(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    person(authority, "ann")
    bob = person(authority, "bob")
    clock.move(days=340)
    issue(authority, *requests.renewal(authority, authority.reads.by_holder("ann")[0], None))
    revoke(authority, bob.id)
    assert tasks.remind(authority, post, None, (30, 14, 3)) == "sent 0 reminders"


def test_a_letter_that_failed_is_tried_again(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    person(authority, "ann")
    clock.move(days=340)
    post.closed = True
    with pytest.raises(Unavailable, match="1 reminders could not be sent"):
        tasks.remind(authority, post, None, (30, 14, 3))
    post.closed = False
    assert tasks.remind(authority, post, None, (30, 14, 3)) == "sent 1 reminders"
    assert tasks.remind(authority, post, None, (30, 14, 3)) == "sent 0 reminders"


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
