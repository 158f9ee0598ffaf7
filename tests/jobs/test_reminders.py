"""Reminders under a clock that is moved by hand: who is told at which step, by which way, once; and how long a round may take."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gatekey import app, config
from gatekey.authority import access, jobs, people, requests
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.revoke import revoke
from gatekey.errors import Misconfigured, Refused, Unavailable
from gatekey.jobs import reminders
from gatekey.jobs.ticker import LEASE, RETRY, Job, Ticker
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.model.instants import DAY, HOUR
from gatekey.model.mail import Mail
from gatekey.model.record import SERVICE
from gatekey.outgoing import guard
from gatekey.outgoing import mail as outgoing
from gatekey.outgoing.mail import Server, Smtp
from gatekey.testing import FakeClock
from kit.post import MailServer

STEPS = (30, 14, 3)


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


def person(authority: Authority, login: str, **said: Any) -> Released:
    return issue(authority, *requests.client(authority, login, material.make("p256").spki, email=f"{login}@kitty.example", **said))


def server(authority: Authority, host: str, **said: Any) -> Released:
    return issue(authority, *requests.server(authority, [host], material.make("p256").spki, **said))


def test_reminders_go_out_at_each_step_once(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    ann = person(authority, "ann", name="Änn", device="laptop")
    said = []
    for _ in range(366 * 2):
        before = len(post.letters)
        reminders.remind(authority, post, post, STEPS)
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
    reminders.remind(authority, post, None, STEPS)
    reminders.remind(authority, post, None, STEPS)
    assert len(post.letters) == 1
    assert "in 2 days" in post.letters[0].subject or "tomorrow" in post.letters[0].subject


def test_nobody_is_reminded_of_what_was_renewed_or_taken_away(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    person(authority, "ann")
    bob = person(authority, "bob")
    clock.move(days=340)
    issue(authority, *requests.renewal(authority, authority.reads.by_holder("ann")[0], None))
    revoke(authority, bob.id)
    assert reminders.remind(authority, post, None, STEPS) == "sent 0 reminders"


def test_a_letter_that_failed_is_tried_again(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    person(authority, "ann")
    clock.move(days=340)
    post.closed = True
    with pytest.raises(Unavailable, match="1 reminders could not be sent"):
        reminders.remind(authority, post, None, STEPS)
    post.closed = False
    assert reminders.remind(authority, post, None, STEPS) == "sent 1 reminders"
    assert reminders.remind(authority, post, None, STEPS) == "sent 0 reminders"


#: What senders may raise: words of ours, faults that nobody foresaw, and the end of the process.
TROUBLES = [Unavailable("mail-failed", "the post is closed"), UnicodeError("label empty or too long"), MemoryError(), KeyboardInterrupt()]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: type(one).__name__)
def test_each_way_is_told_once_whatever_the_other_does(authority: Authority, clock: FakeClock, trouble: BaseException) -> None:
    """Mail works and the webhook does not, then the other way round, then both: every step arrives by both ways, and once."""
    mail, hook = Post(), Post()
    mail.trouble = hook.trouble = trouble
    issued = [person(authority, login) for login in ("ann", "bob", "carl")]
    ticker = Ticker(authority, (Job("reminders", HOUR, lambda authority: reminders.remind(authority, mail, hook, STEPS)),))
    clock.move(days=336)
    for mail_closed, hook_closed in ((False, True), (True, False), (True, True), (False, True), (False, False), (False, False)):
        mail.closed, hook.closed = mail_closed, hook_closed
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                ticker.tick()
            clock.move(seconds=LEASE)
    assert sorted(letter.to for letter in mail.letters) == [f"{login}@kitty.example" for login in ("ann", "bob", "carl")]
    assert sorted(event["serial"] for event in hook.events) == sorted(one.number for one in issued)
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
        reminders.remind(authority, post, None, STEPS)
    assert sorted(letter.to for letter in post.letters) == ["bob@kitty.example", "carl@kitty.example"]




def told_at(authority: Authority, clock: FakeClock, life: int, days: Sequence[int]) -> list[int]:
    """Days before the end of a certificate at which its holder gets a letter."""
    post = Post()
    end = clock.now() + life * DAY
    said = []
    while clock.now() < end:
        before = len(post.letters)
        reminders.remind(authority, post, None, days)
        said += [(end - clock.now()) // DAY] * (len(post.letters) - before)
        clock.move(seconds=DAY // 2)
    return said


@pytest.mark.parametrize(
    ("life", "days", "steps"),
    [
        (365, (200, 30), [30]),
        (365, (182, 30), [182, 30]),
        (365, (200,), []),
        (45, STEPS, [14, 3]),
        (29, STEPS, [14, 3]),
        (28, STEPS, [3]),
        (7, STEPS, [3]),
        (6, STEPS, []),
        (2, STEPS, []),
        (365, (), []),
        (365, (3, 30, 30), [30, 3]),
    ],
)
def test_each_step_counts_for_what_lives_more_than_twice_as_long(
    authority: Authority, clock: FakeClock, life: int, days: tuple[int, ...], steps: list[int]
) -> None:
    """One long step does not silence the others, and the default ones do not silence a certificate for a month and a half."""
    person(authority, "ann", days=life)
    assert told_at(authority, clock, life, days) == steps


def test_who_has_no_address_is_told_to_the_administrator(authority: Authority, clock: FakeClock) -> None:
    """In one letter for all of them, at each step once, with what to type; the webhook tells of each as always."""
    post, hook = Post(), Post()
    site = server(authority, "app.example", days=365)
    clock.move(seconds=1)
    bob = issue(authority, *requests.client(authority, "bob", material.make("p256").spki, device="laptop"))
    person(authority, "ann")
    clock.move(days=340)
    assert reminders.remind(authority, post, hook, STEPS, "ca@kitty.example") == "sent 5 reminders"
    to_ann, to_ca = sorted(post.letters)
    assert (to_ann.to, to_ca.to, to_ca.subject) == ("ann@kitty.example", "ca@kitty.example", "Kitty CA: 2 certificates end soon")
    assert f"app.example (server) ends in 24 days, on 2026-12-31\n    gatekey renew {site.number}\n" in to_ca.text
    assert f"bob (person, device laptop) ends in 24 days, on 2027-01-01\n    gatekey renew {bob.number}\n" in to_ca.text
    assert "    gatekey people set app.example --email ADDRESS\n" in to_ca.text
    assert len(hook.events) == 3
    clock.move(days=10)
    assert reminders.remind(authority, post, hook, STEPS, "ca@kitty.example") == "sent 0 reminders"
    clock.move(days=2)
    assert reminders.remind(authority, post, hook, STEPS, "ca@kitty.example") == "sent 5 reminders"


def test_a_server_with_an_address_of_its_own_is_told_there(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    site = server(authority, "app.example")
    people.change(authority, "app.example", email="web@kitty.example")
    clock.move(days=373)
    assert reminders.remind(authority, post, None, STEPS, "ca@kitty.example") == "sent 1 reminders"
    (letter,) = post.letters
    assert (letter.to, letter.subject) == ("web@kitty.example", "Kitty CA: the certificate of app.example ends tomorrow")
    assert f"gatekey renew {site.number}" in letter.text
    assert "--email" not in letter.text


def test_without_an_address_in_the_configuration_administrators_are_told(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    server(authority, "app.example")
    clock.move(days=360)
    nobody = "sent 0 reminders; nobody is told of 1: neither their holders nor any administrator has an e-mail address (mail.administrator)"
    assert [reminders.remind(authority, post, None, STEPS) for _ in range(2)] == [nobody] * 2, "it stays due"
    for login in ("ann", "bob"):
        person(authority, login)
        access.set_roles(authority, login, add=("administrator",))
    with MailServer() as server_of_mail:
        smtp = Smtp(Server("127.0.0.1", server_of_mail.server_address[1], "ca@kitty.example", "none"))
        assert reminders.remind(authority, smtp, None, STEPS) == "sent 1 reminders"
    assert [letter["To"] for letter in server_of_mail.letters] == ["ann@kitty.example, bob@kitty.example"]


def test_a_letter_to_the_administrator_that_failed_is_tried_again(authority: Authority, clock: FakeClock) -> None:
    post = Post()
    server(authority, "app.example")
    server(authority, "www.example")
    clock.move(days=360)
    post.closed = True
    with pytest.raises(Unavailable, match="1 reminders could not be sent"):
        reminders.remind(authority, post, None, STEPS, "ca@kitty.example")
    post.closed = False
    reminders.remind(authority, post, None, STEPS, "ca@kitty.example")
    (letter,) = post.letters
    assert letter.text.count("gatekey renew ") == 3


def test_many_without_an_address_share_letters_of_a_bearable_size(authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "TOGETHER", 2)
    post = Post()
    for number in range(5):
        server(authority, f"app{number}.example")
    clock.move(days=360)
    assert reminders.remind(authority, post, None, STEPS, "ca@kitty.example") == "sent 3 reminders"
    assert [sum(f"app{number}.example (server)" in letter.text for letter in post.letters) for number in range(5)] == [1] * 5


def test_nobody_hears_of_what_the_service_renews_itself(authority: Authority, clock: FakeClock) -> None:
    server(authority.acting(SERVICE), "localhost", days=30)
    clock.move(days=20)
    assert reminders.due(authority, STEPS) == []


def test_the_address_of_the_administrator_is_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"mail\.administrator: 'ca' is not an e-mail address"):
        config.parse('name = "Kitty"\n[mail]\nadministrator = "ca"\n', tmp_path)
    assert config.parse('name = "Kitty"\n[mail]\nadministrator = "ca@kitty.example"\n', tmp_path).text("mail.administrator") == "ca@kitty.example"


def test_a_silent_mail_server_is_asked_once_a_round(authority: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not answer one letter answers no other; the webhook is told all the same, and the other jobs have their turn."""
    monkeypatch.setattr(outgoing, "PATIENCE", 0.3)
    hook = Post()
    for number in range(12):
        person(authority, f"p{number}")
    clock.move(days=340)
    with MailServer() as post:
        smtp = Smtp(Server("127.0.0.1", post.server_address[1], "ca@kitty.example", "none"))
        jobs_here = (Job("reminders", HOUR, lambda authority: reminders.remind(authority, smtp, hook, STEPS)), Job("crl-refresh", HOUR, lambda _: "done"))
        post.silent = True
        begun = time.monotonic()
        ran = Ticker(authority, jobs_here).tick()
        assert time.monotonic() - begun < 3
        assert (post.talks, len(hook.events), ran[1].said) == (1, 12, "done")
        assert ran[0].failed.startswith("12 reminders could not be sent (the mail server 127.0.0.1 did not take the message: ")
        assert ran[0].failed.endswith("); 12 were")
        assert jobs.states(authority)[1][3] == f"failed: {ran[0].failed}"
        post.silent = False
        clock.move(seconds=RETRY)
        assert [one.said for one in Ticker(authority, jobs_here).tick()] == ["sent 12 reminders"]
    assert sorted(letter["To"] for letter in post.letters) == sorted(f"p{number}@kitty.example" for number in range(12))


def test_an_address_that_nobody_has_keeps_back_no_other(authority: Authority, clock: FakeClock) -> None:
    for login in ("ann", "bob", "carl", "dora"):
        person(authority, login)
    clock.move(days=340)
    with MailServer() as post:
        smtp = Smtp(Server("127.0.0.1", post.server_address[1], "ca@kitty.example", "none"))
        post.refused = ("bob@kitty.example",)
        for sent in (3, 0):
            with pytest.raises(Unavailable, match=rf"1 reminders could not be sent \(the mail server 127.0.0.1 refuses the message to bob@.*\); {sent} were"):
                reminders.remind(authority, smtp, None, STEPS)
        post.refused = ()
        assert reminders.remind(authority, smtp, None, STEPS) == "sent 1 reminders"
    assert sorted(letter["To"] for letter in post.letters) == [f"{login}@kitty.example" for login in ("ann", "bob", "carl", "dora")]


def test_of_an_address_that_is_refused_for_good_the_administrator_is_told(authority: Authority, clock: FakeClock) -> None:
    """Once at each step, with the reason and what mends it; the job has done its work. Who is refused for now is asked again."""
    bob = person(authority, "bob")
    person(authority, "ann")
    clock.move(days=340)
    with MailServer() as post:
        smtp = Smtp(Server("127.0.0.1", post.server_address[1], "ca@kitty.example", "none"))
        post.refused, post.refusal = ("bob@kitty.example",), "450 later"
        with pytest.raises(Unavailable, match=r"1 reminders could not be sent .*450"):
            reminders.remind(authority, smtp, None, STEPS, "ca@kitty.example")
        post.refusal = "550 nobody here"
        said = [reminders.remind(authority, smtp, None, STEPS, "ca@kitty.example") for _ in range(2)]
        assert said == ["sent 1 reminders", "sent 0 reminders"]
        to_ann, to_ca = post.letters
        assert (to_ann["To"], to_ca["To"], to_ca["Subject"]) == ("ann@kitty.example", "ca@kitty.example", "Kitty CA: the certificate of bob ends in 24 days")
        written = to_ca.get_payload(decode=True)
        assert isinstance(written, bytes)
        text = written.decode().replace("\r\n", "\n")
        assert f"bob (person) ends in 24 days, on 2026-12-31\n    gatekey renew {bob.number}\n" in text
        why = "The holder does not know, for the mail server 127.0.0.1 refuses the message to bob@kitty.example: 550 nobody here"
        assert f"{why}; this gives another:\n    gatekey people set bob --email ADDRESS\n" in text
        post.refused = ("bob@kitty.example", "ca@kitty.example")
        clock.move(days=12)
        with pytest.raises(Unavailable, match=r"1 reminders could not be sent \(the mail server 127.0.0.1 refuses the message to ca@kitty.*\); 1 were"):
            reminders.remind(authority, smtp, None, STEPS, "ca@kitty.example")


def test_whoever_dies_while_handing_a_letter_over_has_told(authority: Authority, clock: FakeClock) -> None:
    """Nobody knows whether the mail server took it: not twice, and the next step comes."""

    class Dies(Post):
        def send(self, what: Any, *, at: int) -> None:
            os._exit(9)

    person(authority, "ann")
    clock.move(days=340)
    child = os.fork()
    if not child:
        reminders.remind(app.open_authority(authority.config.home, clock=clock), Dies(), None, STEPS)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    post = Post()
    assert reminders.remind(authority, post, None, STEPS) == "sent 0 reminders"
    clock.move(days=12)
    assert reminders.remind(authority, post, None, STEPS) == "sent 1 reminders"


def test_a_webhook_that_is_away_is_asked_once_a_round(authority: Authority, clock: FakeClock) -> None:
    class Away(Post):
        asked = 0

        def send(self, what: Any, *, at: int) -> None:
            self.asked += 1
            super().send(what, at=at)

    mail, hook = Post(), Away()
    for login in ("ann", "bob", "carl"):
        person(authority, login)
    clock.move(days=340)
    hook.closed, hook.trouble = True, Unavailable("fetch-failed", "hooks.example does not answer")
    with pytest.raises(Unavailable, match=r"3 reminders could not be sent \(hooks.example does not answer\); 3 were"):
        reminders.remind(authority, mail, hook, STEPS)
    assert hook.asked == 1
    hook.trouble = Refused("webhook-refused", "the webhook answered 400")
    with pytest.raises(Unavailable, match=r"3 reminders could not be sent \(the webhook answered 400\); 0 were"):
        reminders.remind(authority, mail, hook, STEPS)
    assert hook.asked == 4


@pytest.mark.parametrize("seconds", [20, -3600], ids=["slow", "a clock that goes back"])
def test_a_round_ends_long_before_its_lease(authority: Authority, clock: FakeClock, seconds: int) -> None:
    """A server that takes every letter, and takes its time: what is left stays due, and everybody gets one letter in the end."""

    class Slow(Post):
        def send(self, what: Any, *, at: int) -> None:
            clock.move(seconds=seconds)
            super().send(what, at=at)

    post = Slow()
    for number in range(8):
        person(authority, f"p{number}")
    clock.move(days=340)
    begun = clock.now()
    with pytest.raises(Unavailable, match=r"\d reminders could not be sent \(mail: a round ends after 45 seconds\); \d were"):
        reminders.remind(authority, post, None, STEPS)
    assert len(post.letters) == (3 if seconds > 0 else 1)
    assert clock.now() - begun <= reminders.ROUND + seconds
    for _ in range(8):
        with contextlib.suppress(Unavailable):
            reminders.remind(authority, post, None, STEPS)
    assert sorted(letter.to for letter in post.letters) == [f"p{number}@kitty.example" for number in range(8)]


def test_the_longest_round_is_well_below_the_lease() -> None:
    assert 2 * reminders.ROUND + 2 * outgoing.WHOLE + guard.PATIENCE < LEASE * 0.8
