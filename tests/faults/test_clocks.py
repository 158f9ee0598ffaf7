"""Clocks that jump: forward, back, differently in processes beside each other. Nothing is lost or blocked for ever, and what went wrong is mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatekey.authority import answers, bundle, crl, jobs, requests
from gatekey.authority.authority import Authority
from gatekey.authority.check import findings
from gatekey.authority.issue import issue
from gatekey.authority.reconcile import catch_up, published_behind, reconcile
from gatekey.authority.revoke import hold, revoke, unhold
from gatekey.authority.verify import verify
from gatekey.errors import GatekeyError, Refused, Unavailable
from gatekey.keys import material
from gatekey.model.instants import DAY, HOUR
from gatekey.store.admission import AHEAD, LEASE
from gatekey.x509.certificate import read_certificate
from gatekey.x509.crl import read_crl
from kit import faults
from kit.administrator import Administrator
from kit.faults import Fault

YEAR = 365 * DAY


@contextmanager
def clock(admin: Administrator, seconds: int = 0) -> Iterator[Authority]:
    """The authority as a process sees it whose clock is wrong by so much."""
    with faults.opened(admin.home, seconds=seconds) as authority:
        yield authority


def ask(authority: Authority, login: str = "ann", *, key: str = "", alone: bool = True) -> str:
    return issue(authority, *requests.client(authority, login, material.make("p256").spki, idempotency=key), alone=alone).number


def killed_between_record_and_release(admin: Administrator, seconds: int) -> None:
    with clock(admin, seconds) as authority, faults.watching(Fault(1, happened=False)), pytest.raises(GatekeyError):
        ask(authority, key="the same")


@pytest.mark.parametrize("wrong", [YEAR, 9 * YEAR, AHEAD + 30])
def test_a_draft_of_a_clock_that_was_ahead_does_not_stay_for_ever(admin: Administrator, wrong: int) -> None:
    killed_between_record_and_release(admin, wrong)
    with clock(admin) as authority:
        assert "draft of an interrupted run" in " ".join(findings(authority))
        assert len(reconcile(authority)) == 1
        ask(authority, key="the same")
    faults.heal(admin.home)


@pytest.mark.parametrize("later", [YEAR, HOUR])
def test_a_draft_of_a_clock_that_was_behind_is_over_at_once(admin: Administrator, later: int) -> None:
    killed_between_record_and_release(admin, 0)
    with clock(admin, later) as authority:
        assert len(reconcile(authority)) == 1
        ask(authority, key="the same")
    faults.heal(admin.home)


@pytest.mark.parametrize("wrong", [0, 60, -60, LEASE - 1, -1800])
def test_clocks_that_differ_a_little_leave_a_draft_alone(admin: Administrator, wrong: int) -> None:
    killed_between_record_and_release(admin, 0)
    with clock(admin, wrong) as authority:
        assert reconcile(authority) == []
        with pytest.raises(Unavailable, match="being answered"):
            ask(authority, key="the same")
        with pytest.raises(Unavailable, match="another process is making a certificate for ann"):
            ask(authority)


@pytest.mark.parametrize("wrong", [YEAR, HOUR, LEASE + 1, -YEAR])
def test_a_jump_in_another_process_harms_no_live_issuance(admin: Administrator, wrong: int) -> None:
    """The other takes the draft for dead and closes it. The one at work is told, nothing leaves it, and it tries again."""
    with clock(admin) as authority:
        real = authority.ledger.release_many

        def meanwhile(*args: object, **more: object) -> object:
            with clock(admin, wrong) as other:
                assert len(reconcile(other)) == 1
            return real(*args, **more)  # type: ignore[arg-type]  # passed on as they came

        authority.ledger.release_many = meanwhile  # type: ignore[method-assign,assignment]  # the instant between record and release
        with pytest.raises(Refused) as caught:
            ask(authority)
        assert caught.value.code == "release-lost"
        assert "nothing was issued" in caught.value.message
    with clock(admin) as authority:
        assert authority.reads.by_holder("ann") == []
        lost = authority.reads.certificates("c.state = 'abandoned'")
        assert ask(authority) not in {record.serial for record in lost}
    faults.heal(admin.home)


@pytest.mark.parametrize("wrong", [YEAR, 2 * DAY, -YEAR, -60 * DAY])
def test_a_crl_of_another_time_is_signed_again(admin: Administrator, wrong: int) -> None:
    """A thisUpdate to come, or a nextUpdate that has passed, shuts everybody out; the next verb mends both, in the published folder too."""
    published = admin.home.parent / "published"
    with (admin.home / "gatekey.toml").open("a") as file:
        file.write('\npublish = "../published"\n')
    admin("issue", "client", "ann")
    admin("issue", "client", "bob")
    admin("bundle", "--out", published)
    with clock(admin, wrong) as authority:
        revoke(authority, authority.reads.by_holder("bob")[0].id)
        bundle.publish(authority, published)
    with clock(admin) as authority:
        before = crl.newest(authority, "people")
        assert before is not None
        assert published_behind(authority)
        assert any("a clock was ahead" in found or "has expired" in found for found in findings(authority))
    said = admin("people", "add", "cleo").err
    assert "signed the CRL of people" in said
    assert "rewrote" in said
    with clock(admin) as authority:
        after = crl.newest(authority, "people")
        assert after is not None
        assert after.number > before.number
        assert after.this_update <= authority.now() < after.next_update
        assert findings(authority) == []
    faults.heal(admin.home)


@pytest.mark.parametrize("wrong", [YEAR // 2, DAY, 120])
def test_a_revocation_of_a_time_to_come_holds_now(admin: Administrator, wrong: int) -> None:
    admin("issue", "client", "ann")
    admin("issue", "client", "bob")
    with clock(admin, wrong) as authority:
        revoke(authority, authority.reads.by_holder("ann")[0].id)
        hold(authority, authority.reads.by_holder("bob")[0].id)
    assert {record["holder"]: record["status"] for record in admin("list", "--json").json} == {"ann": "revoked", "bob": "held"}
    for name in ("ann", "bob"):
        answer = admin("verify", f"{name}.crt", code=1)
        assert "revoked" in answer.out or "hold" in answer.out
    with clock(admin) as authority:
        leaf = read_certificate(authority.ledger.der(authority.reads.by_holder("ann")[0].id))
        assert not verify(authority, leaf, [], at=authority.now()).ok
        assert not verify(authority, leaf, [], at=authority.now() - 1).ok, "the clock may go on between the question and the look"
        assert verify(authority, leaf, [], at=authority.now() - 60).ok, "it was good then"
        unhold(authority, authority.reads.by_holder("bob")[0].id)
    admin("verify", "bob.crt")
    faults.heal(admin.home)


def test_entries_that_a_jump_has_dropped_come_back(admin: Administrator) -> None:
    """A clock two years ahead takes every certificate for expired, and expired ones leave the CRL. When it is right again, they stand there again."""
    admin("issue", "client", "ann")
    admin("revoke", "ann")
    with clock(admin, 2 * YEAR) as authority:
        serial = int(authority.reads.by_holder("ann")[0].serial, 16)
        for _ in range(3):
            made = crl.make(authority, "people")
        assert read_crl(made.der).find(serial) is None
    with clock(admin) as authority:
        assert catch_up(authority).owed == []
        newest = crl.newest(authority, "people")
        assert newest is not None
        assert read_crl(newest.der).find(serial) is not None
    faults.heal(admin.home)


@pytest.mark.parametrize("wrong", [8 * DAY, -8 * DAY])
def test_an_idempotency_key_outlives_a_jump(admin: Administrator, wrong: int) -> None:
    """Never an error, never two answers at one time; beyond seven days a key is a new one."""
    with clock(admin) as authority:
        first = ask(authority, key="the same", alone=False)
    with clock(admin, wrong) as authority:
        second = ask(authority, key="the same", alone=False)
        assert ask(authority, key="the same", alone=False) == second
        assert (second == first) == (wrong < 0)
    with clock(admin) as authority:
        assert ask(authority, key="the same", alone=False) == second
    faults.heal(admin.home)


def test_a_clock_before_the_authority_began(admin: Administrator) -> None:
    with clock(admin, -YEAR) as authority, pytest.raises(Refused) as caught:
        ask(authority)
    assert [reason.code for reason in caught.value.reasons] == ["issuer-not-yet"]
    assert "the clock of this machine says" in caught.value.message
    assert admin.sql("SELECT count(*) FROM certificate WHERE common_name = 'ann'") == [(0,)]
    faults.heal(admin.home)


def test_a_clock_that_went_back_is_heard_of(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    """One time is enough: what is written then has the clock's time again."""
    with clock(admin, 3 * DAY) as authority:
        ask(authority, "bob")
    answer = admin("issue", "client", "ann", "--quiet")
    assert "warning: the clock says" in answer.err
    assert "the newest event of the ledger is of" in answer.err
    assert "the clock says" not in admin("people", "add", "cleo").err
    moved_clock(-1800)
    assert "the clock says" not in admin("people", "add", "dora").err


@pytest.mark.parametrize("finished", [True, False], ids=["was done", "was taken, then killed"])
def test_a_job_of_a_clock_that_was_ahead_is_due_now(admin: Administrator, finished: bool) -> None:
    """Otherwise the CRLs would not be refreshed until that time comes."""
    with clock(admin, YEAR) as authority:
        assert jobs.claim(authority, "refresh", 60)
        if finished:
            jobs.finish(authority, "refresh", 3600, "done")
    with clock(admin) as authority, clock(admin) as other:
        assert jobs.claim(authority, "refresh", 60)
        assert not jobs.claim(other, "refresh", 60), "and still exactly one has it"
        jobs.finish(authority, "refresh", 3600, "done")
        assert not jobs.claim(other, "refresh", 60)
    with clock(admin, 3601) as authority:
        assert jobs.claim(authority, "refresh", 60)


def test_an_answer_of_a_clock_that_was_ahead_does_not_block_its_key(admin: Administrator) -> None:
    with clock(admin, YEAR) as authority, faults.watching(Fault(1, happened=False)), pytest.raises(GatekeyError):
        answers.once(authority, "key", "digest", lambda: answers.Kept(200, "never heard"), apart=True)
    with clock(admin) as authority:
        assert answers.once(authority, "key", "digest", lambda: answers.Kept(200, "done")) == (answers.Kept(200, "done"), False)


def test_the_number_never_goes_back(admin: Administrator, tmp_path: Path) -> None:
    """Whatever the clocks say: CRL numbers and revocation numbers only grow."""
    published = tmp_path / "published"
    numbers, told = [], []
    for count, wrong in enumerate((60 * DAY, YEAR, 30 * DAY, 60 * DAY, 70 * DAY, 59 * DAY)):
        with clock(admin, wrong) as authority:
            ask(authority, f"p{count}")
        with clock(admin, wrong) as authority:
            revoke(authority, authority.reads.by_holder(f"p{count}")[0].id)
            bundle.publish(authority, published)
            newest = crl.newest(authority, "people")
            assert newest is not None
            numbers.append(newest.number)
            told.append(json.loads((published / "manifest.json").read_text())["number"])
            assert {record.serial for record in authority.reads.certificates("c.revoked_at IS NOT NULL AND c.not_after > :now", now=authority.now())} <= {
                entry.serial for entry in read_crl(newest.der).entries()
            }
    assert numbers == sorted(set(numbers))
    assert told == sorted(set(told))
    faults.heal(admin.home)
