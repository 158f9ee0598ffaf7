"""Recorded before released: the order is in the types and in the schema. Leases, idempotency, revocation, and CRLs that never go backwards."""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gatekey.errors import Conflict, GatekeyError, NotFound, Refused, Unavailable
from gatekey.lifecycle import Draft, Recorded, Signed
from gatekey.model.holder import Holder
from gatekey.model.request import CertificateId
from gatekey.store.ledger import AHEAD, HOLD, IDEMPOTENCY, LEASE, fingerprint
from kit.desk import DAY, NOW, Desk


def refused(code: str, act: Callable[[], object], kind: type[GatekeyError] = GatekeyError) -> GatekeyError:
    with pytest.raises(kind) as raised:
        act()
    assert raised.value.code == code
    return raised.value


class TestTheLifeOfACertificate:
    def test_recorded_then_released(self, desk: Desk) -> None:
        recorded = desk.record()
        which = CertificateId("people", recorded.draft.number)
        assert desk.state(recorded) == "recorded"
        refused("no-certificate", lambda: desk.ledger.der(which), NotFound)  # nothing leaves the house yet
        released = desk.release(recorded)
        assert desk.state(recorded) == "released"
        assert released.der == desk.ledger.der(which) == f"tbs {which.serial} / signature".encode()
        row = desk.reads.by_serial(which.serial)[0]
        assert (row.fingerprint, row.released_at) == (fingerprint(released.der), NOW)
        assert desk.actions() == ["holder.add", "certificate.record", "certificate.release"]

    def test_a_draft_cannot_be_released(self, desk: Desk) -> None:
        """Only what was recorded can be; the type checker says so first, the ledger says it again."""
        draft, _ = desk.draft()
        refused("release-lost", lambda: desk.ledger.release(Signed(Recorded(draft, "me"), b"signature"), now=NOW), Refused)
        assert desk.sql("SELECT count(*) FROM certificate") == [(0,)]

    def test_nobody_releases_what_another_recorded(self, desk: Desk) -> None:
        recorded = desk.record(owner="me")
        refused("release-lost", lambda: desk.release(recorded._replace(owner="you")), Refused)
        assert desk.state(recorded) == "recorded"

    def test_released_once(self, desk: Desk) -> None:
        recorded = desk.record()
        desk.release(recorded)
        refused("release-lost", lambda: desk.release(recorded), Refused)
        assert desk.actions().count("certificate.release") == 1

    def test_a_serial_is_used_once(self, desk: Desk) -> None:
        which = desk.issue()
        refused("serial-used", lambda: desk.record("bob", serial=which.serial), Conflict)
        desk.record("bob", serial=which.serial, issuer="servers")  # another authority counts for itself
        recorded = desk.record("carl")
        desk.abandon(now=NOW + LEASE + 1)
        refused("serial-used", lambda: desk.record("dora", serial=recorded.draft.number), Conflict)  # not even one that never was signed

    def test_a_batch_is_all_or_none(self, desk: Desk) -> None:
        which = desk.issue()
        drafts = [desk.draft("bob"), desk.draft("carl", serial=which.serial), desk.draft("dora")]
        refused("serial-used", lambda: desk.ledger.record_many(drafts, owner="me", now=NOW))
        assert desk.sql("SELECT count(*) FROM certificate") == [(1,)]
        assert desk.reads.holder("bob") is None
        recorded = desk.ledger.record_many([desk.draft("bob"), desk.draft("dora")], owner="me", now=NOW)
        signed = [Signed(one, b"signature") for one in recorded]
        refused("release-lost", lambda: desk.ledger.release_many([*signed, Signed(Recorded(desk.draft()[0], "me"), b"x")], now=NOW))
        assert [desk.state(one) for one in recorded] == ["recorded", "recorded"]
        assert [one.number for one in desk.ledger.release_many(signed, now=NOW)] == [one.draft.number for one in recorded]


class TestTheSchemaRefuses:
    """What the code never does, the tables do not let anybody do."""

    IMPOSSIBLE: ClassVar[dict[str, str]] = {
        "released without a signature": "UPDATE certificate SET state = 'released', fingerprint = 'x' WHERE serial = :recorded",
        "a signature before the release": "UPDATE certificate SET signature = x'00' WHERE serial = :recorded",
        "released without a fingerprint": "UPDATE certificate SET state = 'released', signature = x'00' WHERE serial = :recorded",
        "a release taken back": "UPDATE certificate SET state = 'recorded' WHERE serial = :released",
        "abandoned with its signature": "UPDATE certificate SET state = 'abandoned' WHERE serial = :released",
        "an unknown state": "UPDATE certificate SET state = 'maybe' WHERE serial = :recorded",
        "revoked without an entry for the CRL": "UPDATE certificate SET revoked_at = 1, revocation = 1 WHERE serial = :released",
        "revoked without a number": "UPDATE certificate SET revoked_at = 1, entry = x'00' WHERE serial = :released",
        "an entry without a revocation": "UPDATE certificate SET entry = x'00' WHERE serial = :released",
        "no bytes": "UPDATE certificate SET tbs = NULL WHERE serial = :recorded",
        "a holder who is not": "UPDATE certificate SET holder = 'nobody' WHERE serial = :released",
        "a holder who goes": "DELETE FROM holder WHERE login = 'ann'",
        "the same fingerprint twice": (
            "UPDATE certificate SET fingerprint = (SELECT fingerprint FROM certificate WHERE serial = :released) WHERE serial = :other"
        ),
        "the same serial twice": "UPDATE certificate SET serial = :released WHERE serial = :other",
        "a second ANN": "INSERT INTO holder (login, kind, created_at) VALUES ('ANN', 'person', 1)",
        "the same e-mail twice": "INSERT INTO holder (login, kind, email, created_at) VALUES ('eve', 'person', 'ANN@example.com', 1)",
        "a holder of no kind": "INSERT INTO holder (login, kind, created_at) VALUES ('eve', 'ghost', 1)",
        "a move that is none": "INSERT INTO revocation_log VALUES (99, 'people', '00', 'forgive', '', 1, 'x')",
        "a revocation number twice": "INSERT INTO revocation_log SELECT number, issuer, serial, move, reason, at, actor FROM revocation_log",
        "a CRL released without a signature": (
            "INSERT INTO crl (issuer, number, state, tbs, this_update, next_update, revocation, entries, owner, lease_until)"
            " VALUES ('people', 1, 'released', x'00', 1, 2, 0, 0, 'me', 1)"
        ),
        "an authority of no role": "INSERT INTO authority VALUES ('x', 'queen', 'people', 'x', 9, '00', 1)",
    }

    @pytest.mark.parametrize("what", IMPOSSIBLE)
    def test_impossible(self, desk: Desk, what: str) -> None:
        released, other = desk.issue("ann", email="ann@example.com"), desk.issue("bob")
        desk.revoke(other)
        recorded = desk.record("carl")
        desk.db.close()
        with sqlite3.connect(desk.path) as connection:
            connection.execute("PRAGMA foreign_keys=ON")
            values = {"released": released.serial, "other": other.serial, "recorded": recorded.draft.number}
            statement = self.IMPOSSIBLE[what]
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement, {key: value for key, value in values.items() if f":{key}" in statement})
        connection.close()


class TestLeases:
    def test_a_live_draft_is_left_alone(self, desk: Desk) -> None:
        recorded = desk.record()
        for now in (NOW, NOW + LEASE):
            assert desk.abandon(now=now) == []
        assert desk.state(recorded) == "recorded"
        desk.release(recorded, now=NOW + LEASE)

    def test_one_that_ran_out_is_closed(self, desk: Desk) -> None:
        recorded = desk.record()
        which = CertificateId("people", recorded.draft.number)
        assert desk.abandon(now=NOW + LEASE + 1) == [which]
        assert desk.state(recorded) == "abandoned"
        assert desk.reads.revoked(("people",), NOW) == [tuple(which)]  # the serial stands in CRL and deny lists
        assert desk.sql("SELECT revoked_reason, entry FROM certificate") == [("unspecified", f"{which.serial} {NOW + LEASE + 1} unspecified".encode())]
        assert desk.sql("SELECT move FROM revocation_log") == [("abandon",)]
        assert desk.actions()[-1] == "certificate.abandon"
        assert desk.abandon(now=NOW + LEASE + 1) == []
        refused("release-lost", lambda: desk.release(recorded), Refused)  # a late signature is thrown away
        assert desk.state(recorded) == "abandoned"
        assert desk.sql("SELECT signature FROM certificate") == [(None,)]

    def test_release_and_abandon_exclude_each_other(self, desk: Desk) -> None:
        recorded = desk.record()
        desk.release(recorded)
        assert desk.abandon(now=NOW + 10 * LEASE) == []
        assert desk.state(recorded) == "released"

    def test_what_never_was_cannot_be_taken_away(self, desk: Desk) -> None:
        recorded = desk.record()
        desk.abandon(now=NOW + LEASE + 1)
        refused("already-revoked", lambda: desk.revoke(CertificateId("people", recorded.draft.number)), Conflict)

    def test_a_lease_from_a_clock_that_was_ahead(self, desk: Desk) -> None:
        recorded = desk.record(now=NOW + LEASE + AHEAD + 2)
        assert desk.abandon(now=NOW) == [CertificateId("people", recorded.draft.number)]

    def test_a_revoked_draft_keeps_its_reason(self, desk: Desk) -> None:
        """key-compromise takes a draft along that is under way at that moment; closing it later does not change why."""
        key = "ab" * 32
        which = desk.issue("ann", spki_sha256=key)
        recorded = desk.record("ann", spki_sha256=key, device="phone")
        assert desk.revoke(which, "key-compromise") == [which.serial, recorded.draft.number]
        desk.abandon(now=NOW + LEASE + 1)
        assert desk.sql("SELECT revoked_reason FROM certificate WHERE serial = :s", s=recorded.draft.number) == [("key-compromise",)]


class TestOneAtATime:
    def test_a_second_live_certificate_for_the_same_device(self, desk: Desk) -> None:
        first = desk.issue("ann", device="laptop")
        answer = refused("certificate-exists", lambda: desk.record("ann", device="laptop", alone=True), Refused)
        assert answer.hint == f"gatekey renew {first.serial}"
        desk.issue("ann", device="phone", alone=True)
        desk.issue("bob", device="laptop", alone=True)
        desk.issue("ann", device="laptop", alone=True, lineage=f"people/{first.serial}")  # a renewal

    @pytest.mark.parametrize("how", ["revoked", "expired", "abandoned"])
    def test_one_that_no_longer_opens_a_door_is_in_nobodys_way(self, desk: Desk, how: str) -> None:
        if how == "abandoned":
            desk.record("ann")
            desk.abandon(now=NOW + LEASE + 1)
        else:
            which = desk.issue("ann", not_after=NOW - 1 if how == "expired" else NOW + DAY)
            if how == "revoked":
                desk.revoke(which)
        desk.record("ann", alone=True)

    def test_one_on_hold_is(self, desk: Desk) -> None:
        desk.ledger.revoke(desk.issue("ann"), HOLD, at=NOW, actor="x", entry=lambda *_: b"e")
        refused("certificate-exists", lambda: desk.record("ann", alone=True))

    def test_one_under_way_is(self, desk: Desk) -> None:
        desk.record("ann")
        refused("certificate-in-flight", lambda: desk.record("ann", alone=True), Unavailable)
        desk.record("ann", alone=True, now=NOW + LEASE + 1)

    def test_two_processes_at_once(self, desk: Desk) -> None:
        """Eight threads with connections of their own want the same device: one gets it."""
        outcomes: list[str] = []
        desks = [desk.another() for _ in range(8)]
        together = threading.Barrier(8)

        def work(mine: Desk, number: int) -> None:
            together.wait()
            try:
                mine.issue("ann", alone=True, serial=f"{number:032X}", spki_sha256=f"{number:064x}")
                outcomes.append("done")
            except GatekeyError as no:
                outcomes.append(no.code)
            finally:
                mine.db.close()

        threads = [threading.Thread(target=work, args=(mine, 100 + number)) for number, mine in enumerate(desks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count("done") == 1, outcomes
        assert set(outcomes) <= {"done", "certificate-exists", "certificate-in-flight"}
        assert desk.sql("SELECT count(*) FROM certificate") == [(1,)]
        assert desk.reads.chain_problem() is None


class TestIdempotency:
    """The same question gets the same answer."""

    def asked(self, desk: Desk, *, key: str = "k", requester: str = "ann", digest: str = "1" * 64, now: int = NOW) -> Any:
        return desk.ledger.earlier(requester, key, digest, now)

    def test_the_same_answer(self, desk: Desk) -> None:
        assert self.asked(desk) is None
        which = desk.issue(requester="ann", idempotency="k")
        assert self.asked(desk).id == which
        assert self.asked(desk, now=NOW + IDEMPOTENCY).id == which

    def test_another_question_under_the_same_key(self, desk: Desk) -> None:
        desk.issue(requester="ann", idempotency="k")
        refused("idempotency-reused", lambda: self.asked(desk, digest="2" * 64), Conflict)

    def test_another_requester_never_sees_it(self, desk: Desk) -> None:
        desk.issue(requester="ann", idempotency="k")
        assert self.asked(desk, requester="bob") is None
        assert self.asked(desk, requester="bob", digest="2" * 64) is None
        desk.issue(requester="bob", idempotency="k", request_sha256="2" * 64)
        assert self.asked(desk, requester="bob", digest="2" * 64) is not None

    def test_while_it_is_answered(self, desk: Desk) -> None:
        recorded = desk.record(requester="ann", idempotency="k")
        refused("idempotency-in-use", lambda: self.asked(desk), Unavailable)
        refused("idempotency-in-use", lambda: desk.record("ann", requester="ann", idempotency="k"), Unavailable)
        desk.release(recorded)
        assert self.asked(desk) is not None

    def test_freed_when_it_is_abandoned(self, desk: Desk) -> None:
        desk.record(requester="ann", idempotency="k")
        later = NOW + LEASE + 1
        assert self.asked(desk, now=later) is None
        desk.abandon(now=later)
        which = desk.issue(requester="ann", idempotency="k", request_sha256="3" * 64, now=later)
        assert self.asked(desk, digest="3" * 64, now=later).id == which

    def test_kept_for_seven_days(self, desk: Desk) -> None:
        desk.issue(requester="ann", idempotency="k")
        later = NOW + IDEMPOTENCY + 1
        assert self.asked(desk, now=later) is None
        assert self.asked(desk, digest="2" * 64, now=later) is None
        second = desk.issue("ann", requester="ann", idempotency="k", request_sha256="2" * 64, now=later)
        assert self.asked(desk, digest="2" * 64, now=later).id == second

    def test_it_stays_the_answer_after_a_revocation(self, desk: Desk) -> None:
        which = desk.issue(requester="ann", idempotency="k")
        desk.revoke(which)
        assert self.asked(desk).id == which


class TestRevocation:
    def test_numbers_only_grow(self, desk: Desk) -> None:
        serials = [desk.issue("ann", device=str(number)) for number in range(3)]
        for which in serials:
            desk.revoke(which)
        desk.ledger.revoke(desk.issue("bob"), HOLD, at=NOW, actor="x", entry=lambda *_: b"e")
        desk.ledger.unhold(desk.reads.by_holder("bob")[0].id, at=NOW, actor="x")
        assert desk.sql("SELECT number, move FROM revocation_log ORDER BY number") == [(1, "revoke"), (2, "revoke"), (3, "revoke"), (4, "hold"), (5, "unhold")]
        assert desk.reads.revocation_number() == 5
        assert desk.reads.revocation_number("servers") == 0

    def test_once(self, desk: Desk) -> None:
        which = desk.issue()
        desk.revoke(which, "superseded")
        answer = refused("already-revoked", lambda: desk.revoke(which), Conflict)
        assert answer.message == f"{which.serial} is revoked already (superseded)"
        refused("already-revoked", lambda: desk.revoke(which, HOLD))
        assert desk.revoke(which, "key-compromise") == [which.serial]  # but it may turn out to be worse

    def test_unknown(self, desk: Desk) -> None:
        refused("no-certificate", lambda: desk.revoke(CertificateId("people", "77" * 16)), NotFound)
        refused("no-certificate", lambda: desk.ledger.unhold(CertificateId("people", "77" * 16), at=NOW, actor="x"), NotFound)

    def test_hold_and_back(self, desk: Desk) -> None:
        which = desk.issue()
        refused("not-held", lambda: desk.ledger.unhold(which, at=NOW, actor="x"), Conflict)
        desk.revoke(which, HOLD)
        desk.ledger.unhold(which, at=NOW, actor="x")
        assert desk.reads.by_serial(which.serial)[0].status(NOW) == "valid"
        assert desk.reads.revoked(("people",), NOW) == []
        desk.revoke(which, HOLD)
        desk.revoke(which, "unspecified")  # from hold to for good
        refused("not-held", lambda: desk.ledger.unhold(which, at=NOW, actor="x"), Conflict)

    def test_a_compromised_key_goes_everywhere_and_never_comes_back(self, desk: Desk) -> None:
        key = "ab" * 32
        first = desk.issue("ann", spki_sha256=key)
        second = desk.issue("ann", spki_sha256=key, device="phone", issuer="servers")
        gone = desk.issue("ann", spki_sha256=key, device="old", not_after=NOW - 1)
        other = desk.issue("bob")
        assert set(desk.revoke(first, "key-compromise")) == {first.serial, second.serial}
        assert desk.reads.by_serial(gone.serial)[0].revoked_at is None
        assert desk.reads.by_serial(other.serial)[0].revoked_at is None
        assert desk.reads.compromised(key)
        refused("key-compromised", lambda: desk.record("carl", spki_sha256=key), Refused)
        assert desk.reads.holder("carl") is None
        assert desk.actions().count("key.compromised") == 1

    def test_a_key_can_be_barred_without_a_certificate(self, desk: Desk) -> None:
        desk.ledger.bar_key("cd" * 32, at=NOW, actor="x")
        desk.ledger.bar_key("cd" * 32, at=NOW, actor="x")
        refused("key-compromised", lambda: desk.record("carl", spki_sha256="cd" * 32), Refused)

    def test_leaving_takes_all(self, desk: Desk) -> None:
        mine = [desk.issue("ann", device=device) for device in ("laptop", "phone")]
        under_way = desk.record("ann", device="tablet")
        old = desk.issue("ann", device="old", not_after=NOW - 1)
        other = desk.issue("bob")
        taken = desk.ledger.leave("ann", at=NOW, actor="x", entry=lambda *_: b"e")
        assert {one.id for one in taken} == {*mine, CertificateId("people", under_way.draft.number)}
        for which in (old, other):
            assert desk.reads.by_serial(which.serial)[0].revoked_at is None
        refused("holder-left", lambda: desk.record("ann"), Refused)
        released = desk.release(under_way)  # it comes out revoked, and stands in the CRL
        assert desk.reads.by_serial(released.number)[0].status(NOW) == "revoked"

    def test_a_predecessor_that_was_taken_away_meanwhile(self, desk: Desk) -> None:
        which = desk.issue("ann")
        desk.revoke(which)
        refused("renew-revoked", lambda: desk.record("ann", renews=f"people/{which.serial}"), Refused)

    def test_every_change_has_its_event(self, desk: Desk) -> None:
        which = desk.issue()
        desk.revoke(which, HOLD)
        desk.ledger.unhold(which, at=NOW, actor="user:boss")
        events = list(desk.reads.events())
        assert [(event.actor, event.action, event.subject) for event in events[3:]] == [
            ("user:root", "certificate.hold", f"people/{which.serial}"),
            ("user:boss", "certificate.unhold", f"people/{which.serial}"),
        ]
        assert events[3].facts == {"holder": "ann", "reason": HOLD}


class TestEntriesOfACrl:
    def test_they_stay_until_one_crl_beyond_the_end(self, desk: Desk) -> None:
        """RFC 5280 3.3: an entry leaves only after it stood in a CRL that was issued beyond the end of the certificate."""
        short, long = desk.issue("ann", not_after=NOW + DAY), desk.issue("bob", not_after=NOW + 90 * DAY)
        for which in (short, long):
            desk.revoke(which)
        assert len(desk.reads.crl_entries("people", NOW)) == 2
        assert len(desk.reads.crl_entries("people", NOW + DAY)) == 2
        assert [entry.split()[0].decode() for entry in desk.reads.crl_entries("people", NOW + DAY + 1)] == [long.serial]
        assert desk.reads.crl_entries("servers", NOW) == []

    def crl(self, number: int, revocation: int) -> Draft:
        row: dict[str, object] = {"this_update": NOW, "next_update": NOW + DAY, "revocation": revocation, "entries": 0}
        return Draft("crl", "people", str(number), f"crl {number}".encode(), row)

    def made(self, desk: Desk, number: int, revocation: int) -> None:
        recorded = desk.ledger.record_crl(self.crl(number, revocation), owner="me", now=NOW, actor="x")
        desk.ledger.release_crl(Signed(recorded, b"signature"), now=NOW)

    def test_recorded_then_released(self, desk: Desk) -> None:
        recorded = desk.ledger.record_crl(self.crl(1, 0), owner="me", now=NOW, actor="x")
        assert desk.ledger.newest_crl("people") is None
        desk.ledger.release_crl(Signed(recorded, b"signature"), now=NOW)
        found = desk.ledger.newest_crl("people")
        assert found is not None
        assert found[1] == b"crl 1 / signature"
        refused("release-lost", lambda: desk.ledger.release_crl(Signed(recorded, b"other"), now=NOW), Refused)

    def test_none_goes_backwards(self, desk: Desk) -> None:
        self.made(desk, 2, revocation=5)
        for number, revocation in ((1, 6), (2, 6), (3, 4)):
            refused("crl-overtaken", functools.partial(self.made, desk, number, revocation), Conflict)
        self.made(desk, 3, 5)
        self.made(desk, 4, 9)

    def test_a_draft_that_was_abandoned_is_no_obstacle(self, desk: Desk) -> None:
        desk.ledger.record_crl(self.crl(1, 3), owner="me", now=NOW, actor="x")
        refused("crl-overtaken", lambda: self.made(desk, 2, 2))
        desk.abandon(now=NOW + LEASE + 1)
        refused("crl-overtaken", lambda: self.made(desk, 1, 3))  # but its number is spent
        self.made(desk, 2, 2)

    def test_old_ones_go(self, desk: Desk) -> None:
        for number in range(1, 8):
            self.made(desk, number, 0)
        assert [number for (number,) in desk.sql("SELECT number FROM crl ORDER BY number")] == [5, 6, 7]


def test_two_ledgers_do_not_share_a_connection(desk: Desk, tmp_path: Path) -> None:
    other = desk.another()
    desk.issue("ann")
    assert other.reads.holder("ann") == Holder("ann", "person", created_at=NOW)
    other.db.close()
