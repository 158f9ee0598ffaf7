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
from gatekey.store.admission import AHEAD, IDEMPOTENCY, LEASE
from gatekey.store.ledger import HOLD, fingerprint
from kit.scribe import DAY, NOW, Scribe


def refused(code: str, act: Callable[[], object], kind: type[GatekeyError] = GatekeyError) -> GatekeyError:
    with pytest.raises(kind) as raised:
        act()
    assert raised.value.code == code
    return raised.value


class TestTheLifeOfACertificate:
    def test_recorded_then_released(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        which = CertificateId("people", recorded.draft.number)
        assert scribe.state(recorded) == "recorded"
        refused("no-certificate", lambda: scribe.ledger.der(which), NotFound)  # nothing leaves the house yet
        released = scribe.release(recorded)
        assert scribe.state(recorded) == "released"
        assert released.der == scribe.ledger.der(which) == f"tbs {which.serial} / signature".encode()
        row = scribe.reads.by_serial(which.serial)[0]
        assert (row.fingerprint, row.released_at) == (fingerprint(released.der), NOW)
        assert scribe.actions() == ["holder.add", "certificate.record", "certificate.release"]

    def test_a_draft_cannot_be_released(self, scribe: Scribe) -> None:
        """Only what was recorded can be; the type checker says so first, the ledger says it again."""
        draft, _ = scribe.draft()
        refused("release-lost", lambda: scribe.ledger.release(Signed(Recorded(draft, "me"), b"signature"), now=NOW), Refused)
        assert scribe.sql("SELECT count(*) FROM certificate") == [(0,)]

    def test_nobody_releases_what_another_recorded(self, scribe: Scribe) -> None:
        recorded = scribe.record(owner="me")
        refused("release-lost", lambda: scribe.release(recorded._replace(owner="you")), Refused)
        assert scribe.state(recorded) == "recorded"

    def test_released_once(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        scribe.release(recorded)
        refused("release-lost", lambda: scribe.release(recorded), Refused)
        assert scribe.actions().count("certificate.release") == 1

    def test_a_serial_is_used_once(self, scribe: Scribe) -> None:
        which = scribe.issue()
        refused("serial-used", lambda: scribe.record("bob", serial=which.serial), Conflict)
        scribe.record("bob", serial=which.serial, issuer="servers")  # another authority counts for itself
        recorded = scribe.record("carl")
        scribe.abandon(now=NOW + LEASE + 1)
        refused("serial-used", lambda: scribe.record("dora", serial=recorded.draft.number), Conflict)  # not even one that never was signed

    def test_a_batch_is_all_or_none(self, scribe: Scribe) -> None:
        which = scribe.issue()
        drafts = [scribe.draft("bob"), scribe.draft("carl", serial=which.serial), scribe.draft("dora")]
        refused("serial-used", lambda: scribe.ledger.record_many(drafts, owner="me", now=NOW))
        assert scribe.sql("SELECT count(*) FROM certificate") == [(1,)]
        assert scribe.reads.holder("bob") is None
        recorded = scribe.ledger.record_many([scribe.draft("bob"), scribe.draft("dora")], owner="me", now=NOW)
        signed = [Signed(one, b"signature") for one in recorded]
        refused("release-lost", lambda: scribe.ledger.release_many([*signed, Signed(Recorded(scribe.draft()[0], "me"), b"x")], now=NOW))
        assert [scribe.state(one) for one in recorded] == ["recorded", "recorded"]
        assert [one.number for one in scribe.ledger.release_many(signed, now=NOW)] == [one.draft.number for one in recorded]


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
    def test_impossible(self, scribe: Scribe, what: str) -> None:
        released, other = scribe.issue("ann", email="ann@example.com"), scribe.issue("bob")
        scribe.revoke(other)
        recorded = scribe.record("carl")
        scribe.db.close()
        with sqlite3.connect(scribe.path) as connection:
            connection.execute("PRAGMA foreign_keys=ON")
            values = {"released": released.serial, "other": other.serial, "recorded": recorded.draft.number}
            statement = self.IMPOSSIBLE[what]
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement, {key: value for key, value in values.items() if f":{key}" in statement})
        connection.close()


class TestLeases:
    def test_a_live_draft_is_left_alone(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        for now in (NOW, NOW + LEASE):
            assert scribe.abandon(now=now) == []
        assert scribe.state(recorded) == "recorded"
        scribe.release(recorded, now=NOW + LEASE)

    def test_one_that_ran_out_is_closed(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        which = CertificateId("people", recorded.draft.number)
        assert scribe.abandon(now=NOW + LEASE + 1) == [which]
        assert scribe.state(recorded) == "abandoned"
        assert scribe.reads.revoked(("people",), NOW) == [tuple(which)]  # the serial stands in CRL and deny lists
        assert scribe.sql("SELECT revoked_reason, entry FROM certificate") == [("unspecified", f"{which.serial} {NOW + LEASE + 1} unspecified".encode())]
        assert scribe.sql("SELECT move FROM revocation_log") == [("abandon",)]
        assert scribe.actions()[-1] == "certificate.abandon"
        assert scribe.abandon(now=NOW + LEASE + 1) == []
        refused("release-lost", lambda: scribe.release(recorded), Refused)  # a late signature is thrown away
        assert scribe.state(recorded) == "abandoned"
        assert scribe.sql("SELECT signature FROM certificate") == [(None,)]

    def test_release_and_abandon_exclude_each_other(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        scribe.release(recorded)
        assert scribe.abandon(now=NOW + 10 * LEASE) == []
        assert scribe.state(recorded) == "released"

    def test_what_never_was_cannot_be_taken_away(self, scribe: Scribe) -> None:
        recorded = scribe.record()
        scribe.abandon(now=NOW + LEASE + 1)
        refused("already-revoked", lambda: scribe.revoke(CertificateId("people", recorded.draft.number)), Conflict)

    def test_a_lease_from_a_clock_that_was_ahead(self, scribe: Scribe) -> None:
        recorded = scribe.record(now=NOW + LEASE + AHEAD + 2)
        assert scribe.abandon(now=NOW) == [CertificateId("people", recorded.draft.number)]

    def test_a_revoked_draft_keeps_its_reason(self, scribe: Scribe) -> None:
        """key-compromise takes a draft along that is under way at that moment; closing it later does not change why."""
        key = "ab" * 32
        which = scribe.issue("ann", spki_sha256=key)
        recorded = scribe.record("ann", spki_sha256=key, device="phone")
        assert scribe.revoke(which, "key-compromise") == [which.serial, recorded.draft.number]
        scribe.abandon(now=NOW + LEASE + 1)
        assert scribe.sql("SELECT revoked_reason FROM certificate WHERE serial = :s", s=recorded.draft.number) == [("key-compromise",)]


class TestOneAtATime:
    def test_a_second_live_certificate_for_the_same_device(self, scribe: Scribe) -> None:
        first = scribe.issue("ann", device="laptop")
        answer = refused("certificate-exists", lambda: scribe.record("ann", device="laptop", alone=True), Refused)
        assert answer.hint == f"gatekey renew {first.serial}"
        scribe.issue("ann", device="phone", alone=True)
        scribe.issue("bob", device="laptop", alone=True)
        scribe.issue("ann", device="laptop", alone=True, lineage=f"people/{first.serial}")  # a renewal

    @pytest.mark.parametrize("how", ["revoked", "expired", "abandoned"])
    def test_one_that_no_longer_opens_a_door_is_in_nobodys_way(self, scribe: Scribe, how: str) -> None:
        if how == "abandoned":
            scribe.record("ann")
            scribe.abandon(now=NOW + LEASE + 1)
        else:
            which = scribe.issue("ann", not_after=NOW - 1 if how == "expired" else NOW + DAY)
            if how == "revoked":
                scribe.revoke(which)
        scribe.record("ann", alone=True)

    def test_one_on_hold_is(self, scribe: Scribe) -> None:
        scribe.ledger.revoke(scribe.issue("ann"), HOLD, at=NOW, actor="x", entry=lambda *_: b"e")
        refused("certificate-exists", lambda: scribe.record("ann", alone=True))

    def test_one_under_way_is(self, scribe: Scribe) -> None:
        scribe.record("ann")
        refused("certificate-in-flight", lambda: scribe.record("ann", alone=True), Unavailable)
        scribe.record("ann", alone=True, now=NOW + LEASE + 1)

    def test_two_processes_at_once(self, scribe: Scribe) -> None:
        """Eight threads with connections of their own want the same device: one gets it."""
        outcomes: list[str] = []
        scribes = [scribe.another() for _ in range(8)]
        together = threading.Barrier(8)

        def work(mine: Scribe, number: int) -> None:
            together.wait()
            try:
                mine.issue("ann", alone=True, serial=f"{number:032X}", spki_sha256=f"{number:064x}")
                outcomes.append("done")
            except GatekeyError as no:
                outcomes.append(no.code)
            finally:
                mine.db.close()

        threads = [threading.Thread(target=work, args=(mine, 100 + number)) for number, mine in enumerate(scribes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count("done") == 1, outcomes
        assert set(outcomes) <= {"done", "certificate-exists", "certificate-in-flight"}
        assert scribe.sql("SELECT count(*) FROM certificate") == [(1,)]
        assert scribe.reads.chain_problem() is None


class TestIdempotency:
    """The same question gets the same answer."""

    def asked(self, scribe: Scribe, *, key: str = "k", requester: str = "ann", digest: str = "1" * 64, now: int = NOW) -> Any:
        return scribe.ledger.earlier(requester, key, digest, now)

    def test_the_same_answer(self, scribe: Scribe) -> None:
        assert self.asked(scribe) is None
        which = scribe.issue(requester="ann", idempotency="k")
        assert self.asked(scribe).id == which
        assert self.asked(scribe, now=NOW + IDEMPOTENCY).id == which

    def test_another_question_under_the_same_key(self, scribe: Scribe) -> None:
        scribe.issue(requester="ann", idempotency="k")
        refused("idempotency-reused", lambda: self.asked(scribe, digest="2" * 64), Conflict)

    def test_another_requester_never_sees_it(self, scribe: Scribe) -> None:
        scribe.issue(requester="ann", idempotency="k")
        assert self.asked(scribe, requester="bob") is None
        assert self.asked(scribe, requester="bob", digest="2" * 64) is None
        scribe.issue(requester="bob", idempotency="k", request_sha256="2" * 64)
        assert self.asked(scribe, requester="bob", digest="2" * 64) is not None

    def test_while_it_is_answered(self, scribe: Scribe) -> None:
        recorded = scribe.record(requester="ann", idempotency="k")
        refused("idempotency-in-use", lambda: self.asked(scribe), Unavailable)
        refused("idempotency-in-use", lambda: scribe.record("ann", requester="ann", idempotency="k"), Unavailable)
        scribe.release(recorded)
        assert self.asked(scribe) is not None

    def test_freed_when_it_is_abandoned(self, scribe: Scribe) -> None:
        scribe.record(requester="ann", idempotency="k")
        later = NOW + LEASE + 1
        assert self.asked(scribe, now=later) is None
        scribe.abandon(now=later)
        which = scribe.issue(requester="ann", idempotency="k", request_sha256="3" * 64, now=later)
        assert self.asked(scribe, digest="3" * 64, now=later).id == which

    def test_kept_for_seven_days(self, scribe: Scribe) -> None:
        scribe.issue(requester="ann", idempotency="k")
        later = NOW + IDEMPOTENCY + 1
        assert self.asked(scribe, now=later) is None
        assert self.asked(scribe, digest="2" * 64, now=later) is None
        second = scribe.issue("ann", requester="ann", idempotency="k", request_sha256="2" * 64, now=later)
        assert self.asked(scribe, digest="2" * 64, now=later).id == second

    def test_it_stays_the_answer_after_a_revocation(self, scribe: Scribe) -> None:
        which = scribe.issue(requester="ann", idempotency="k")
        scribe.revoke(which)
        assert self.asked(scribe).id == which


class TestRevocation:
    def test_numbers_only_grow(self, scribe: Scribe) -> None:
        serials = [scribe.issue("ann", device=str(number)) for number in range(3)]
        for which in serials:
            scribe.revoke(which)
        scribe.ledger.revoke(scribe.issue("bob"), HOLD, at=NOW, actor="x", entry=lambda *_: b"e")
        scribe.ledger.unhold(scribe.reads.by_holder("bob")[0].id, at=NOW, actor="x")
        moves = [(1, "revoke"), (2, "revoke"), (3, "revoke"), (4, "hold"), (5, "unhold")]
        assert scribe.sql("SELECT number, move FROM revocation_log ORDER BY number") == moves
        assert scribe.reads.revocation_number() == 5
        assert scribe.reads.revocation_number("servers") == 0

    def test_once(self, scribe: Scribe) -> None:
        which = scribe.issue()
        scribe.revoke(which, "superseded")
        answer = refused("already-revoked", lambda: scribe.revoke(which), Conflict)
        assert answer.message == f"{which.serial} is revoked already (superseded)"
        refused("already-revoked", lambda: scribe.revoke(which, HOLD))
        assert scribe.revoke(which, "key-compromise") == [which.serial]  # but it may turn out to be worse

    def test_unknown(self, scribe: Scribe) -> None:
        refused("no-certificate", lambda: scribe.revoke(CertificateId("people", "77" * 16)), NotFound)
        refused("no-certificate", lambda: scribe.ledger.unhold(CertificateId("people", "77" * 16), at=NOW, actor="x"), NotFound)

    def test_hold_and_back(self, scribe: Scribe) -> None:
        which = scribe.issue()
        refused("not-held", lambda: scribe.ledger.unhold(which, at=NOW, actor="x"), Conflict)
        scribe.revoke(which, HOLD)
        scribe.ledger.unhold(which, at=NOW, actor="x")
        assert scribe.reads.by_serial(which.serial)[0].status(NOW) == "valid"
        assert scribe.reads.revoked(("people",), NOW) == []
        scribe.revoke(which, HOLD)
        scribe.revoke(which, "unspecified")  # from hold to for good
        refused("not-held", lambda: scribe.ledger.unhold(which, at=NOW, actor="x"), Conflict)

    def test_a_compromised_key_goes_everywhere_and_never_comes_back(self, scribe: Scribe) -> None:
        key = "ab" * 32
        first = scribe.issue("ann", spki_sha256=key)
        second = scribe.issue("ann", spki_sha256=key, device="phone", issuer="servers")
        gone = scribe.issue("ann", spki_sha256=key, device="old", not_after=NOW - 1)
        other = scribe.issue("bob")
        assert set(scribe.revoke(first, "key-compromise")) == {first.serial, second.serial}
        assert scribe.reads.by_serial(gone.serial)[0].revoked_at is None
        assert scribe.reads.by_serial(other.serial)[0].revoked_at is None
        assert scribe.reads.compromised(key)
        refused("key-compromised", lambda: scribe.record("carl", spki_sha256=key), Refused)
        assert scribe.reads.holder("carl") is None
        assert scribe.actions().count("key.compromised") == 1

    def test_leaving_takes_all(self, scribe: Scribe) -> None:
        mine = [scribe.issue("ann", device=device) for device in ("laptop", "phone")]
        under_way = scribe.record("ann", device="tablet")
        old = scribe.issue("ann", device="old", not_after=NOW - 1)
        other = scribe.issue("bob")
        taken = scribe.ledger.leave("ann", at=NOW, actor="x", entry=lambda *_: b"e")
        assert {one.id for one in taken} == {*mine, CertificateId("people", under_way.draft.number)}
        for which in (old, other):
            assert scribe.reads.by_serial(which.serial)[0].revoked_at is None
        refused("holder-left", lambda: scribe.record("ann"), Refused)
        released = scribe.release(under_way)  # it comes out revoked, and stands in the CRL
        assert scribe.reads.by_serial(released.number)[0].status(NOW) == "revoked"

    def test_a_predecessor_that_was_taken_away_meanwhile(self, scribe: Scribe) -> None:
        which = scribe.issue("ann")
        scribe.revoke(which)
        refused("renew-revoked", lambda: scribe.record("ann", renews=f"people/{which.serial}"), Refused)

    def test_every_change_has_its_event(self, scribe: Scribe) -> None:
        which = scribe.issue()
        scribe.revoke(which, HOLD)
        scribe.ledger.unhold(which, at=NOW, actor="user:boss")
        events = list(scribe.reads.events())
        assert [(event.actor, event.action, event.subject) for event in events[3:]] == [
            ("user:root", "certificate.hold", f"people/{which.serial}"),
            ("user:boss", "certificate.unhold", f"people/{which.serial}"),
        ]
        assert events[3].facts == {"holder": "ann", "reason": HOLD}


class TestEntriesOfACrl:
    def test_they_stay_until_one_crl_beyond_the_end(self, scribe: Scribe) -> None:
        """RFC 5280 3.3: an entry leaves only after it stood in a CRL that was issued beyond the end of the certificate."""
        short, long = scribe.issue("ann", not_after=NOW + DAY), scribe.issue("bob", not_after=NOW + 90 * DAY)
        for which in (short, long):
            scribe.revoke(which)
        assert len(scribe.reads.crl_entries("people", NOW)) == 2
        assert len(scribe.reads.crl_entries("people", NOW + DAY)) == 2
        assert [entry.split()[0].decode() for entry in scribe.reads.crl_entries("people", NOW + DAY + 1)] == [long.serial]
        assert scribe.reads.crl_entries("servers", NOW) == []

    def crl(self, number: int, revocation: int) -> Draft:
        row: dict[str, object] = {"this_update": NOW, "next_update": NOW + DAY, "revocation": revocation, "entries": 0}
        return Draft("crl", "people", str(number), f"crl {number}".encode(), row)

    def made(self, scribe: Scribe, number: int, revocation: int) -> None:
        recorded = scribe.ledger.record_crl(self.crl(number, revocation), owner="me", now=NOW, actor="x")
        scribe.ledger.release_crl(Signed(recorded, b"signature"), now=NOW)

    def test_recorded_then_released(self, scribe: Scribe) -> None:
        recorded = scribe.ledger.record_crl(self.crl(1, 0), owner="me", now=NOW, actor="x")
        assert scribe.ledger.newest_crl("people") is None
        scribe.ledger.release_crl(Signed(recorded, b"signature"), now=NOW)
        found = scribe.ledger.newest_crl("people")
        assert found is not None
        assert found[1] == b"crl 1 / signature"
        refused("release-lost", lambda: scribe.ledger.release_crl(Signed(recorded, b"other"), now=NOW), Refused)

    def test_none_goes_backwards(self, scribe: Scribe) -> None:
        self.made(scribe, 2, revocation=5)
        for number, revocation in ((1, 6), (2, 6), (3, 4)):
            refused("crl-overtaken", functools.partial(self.made, scribe, number, revocation), Conflict)
        self.made(scribe, 3, 5)
        self.made(scribe, 4, 9)

    def test_a_draft_that_was_abandoned_is_no_obstacle(self, scribe: Scribe) -> None:
        scribe.ledger.record_crl(self.crl(1, 3), owner="me", now=NOW, actor="x")
        refused("crl-overtaken", lambda: self.made(scribe, 2, 2))
        scribe.abandon(now=NOW + LEASE + 1)
        refused("crl-overtaken", lambda: self.made(scribe, 1, 3))  # but its number is spent
        self.made(scribe, 2, 2)

    def test_old_ones_go(self, scribe: Scribe) -> None:
        for number in range(1, 8):
            self.made(scribe, number, 0)
        assert [number for (number,) in scribe.sql("SELECT number FROM crl ORDER BY number")] == [5, 6, 7]


def test_two_ledgers_do_not_share_a_connection(scribe: Scribe, tmp_path: Path) -> None:
    other = scribe.another()
    scribe.issue("ann")
    assert other.reads.holder("ann") == Holder("ann", "person", created_at=NOW)
    other.db.close()
