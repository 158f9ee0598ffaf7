"""Jobs under a clock that is moved by hand: CRLs are never stale, reminders go out once, each job runs once however many processes there are."""

from __future__ import annotations

import contextlib
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
        self.trouble: BaseException = Unavailable("mail-failed", "the post is closed")

    def send(self, what: Any, *, at: int) -> None:
        assert at > 0
        if self.closed:
            raise self.trouble
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


#: What senders may raise: words of ours, faults that nobody foresaw, and the end of the process.
TROUBLES = [Unavailable("mail-failed", "the post is closed"), UnicodeError("label empty or too long"), MemoryError(), KeyboardInterrupt()]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: type(one).__name__)
def test_each_way_is_told_once_whatever_the_other_does(authority: Authority, clock: FakeClock, trouble: BaseException) -> None:
    """Mail works and the webhook does not, then the other way round, then both: every step arrives by both ways, and once."""
    mail, hook = Post(), Post()
    mail.trouble = hook.trouble = trouble
    people = [person(authority, login) for login in ("ann", "bob", "carl")]
    ticker = Ticker(authority, (Job("reminders", HOUR, lambda authority: tasks.remind(authority, mail, hook, (30, 14, 3))),))
    clock.move(days=336)
    for mail_closed, hook_closed in ((False, True), (True, False), (True, True), (False, True), (False, False), (False, False)):
        mail.closed, hook.closed = mail_closed, hook_closed
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                ticker.tick()
            clock.move(seconds=LEASE)
    assert sorted(letter.to for letter in mail.letters) == [f"{login}@kitty.example" for login in ("ann", "bob", "carl")]
    assert sorted(event["serial"] for event in hook.events) == sorted(one.number for one in people)
    clock.move(days=20)
    ticker.tick()
    clock.move(seconds=HOUR)
    ticker.tick()
    assert (len(mail.letters), len(hook.events)) == (6, 6), "the next step, once"


def test_one_letter_that_cannot_be_sent_keeps_back_no_other(authority: Authority, clock: FakeClock) -> None:
    class Picky(Post):
        def send(self, what: Any, *, at: int) -> None:
            if what.to.startswith("ann"):
                raise UnicodeError("label empty or too long")
            super().send(what, at=at)

    post = Picky()
    for login in ("ann", "bob", "carl"):
        person(authority, login)
    clock.move(days=340)
    with pytest.raises(Unavailable, match=r"1 reminders could not be sent \(mail: UnicodeError\); 2 were"):
        tasks.remind(authority, post, None, (30, 14, 3))
    assert sorted(letter.to for letter in post.letters) == ["bob@kitty.example", "carl@kitty.example"]


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
