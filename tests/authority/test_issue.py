"""The six steps of an issuance: in their order, with nothing recorded when one of the first three says no, and nothing signed that was not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gatekey.authority import issue as steps
from gatekey.authority import requests
from gatekey.authority.authority import Authority
from gatekey.authority.issue import draw_serial, issue, request_digest
from gatekey.authority.reconcile import reconcile
from gatekey.errors import Conflict, GatekeyError, Misconfigured, Refused, Unavailable
from gatekey.keys import material
from gatekey.lint.table import Finding
from gatekey.store.admission import LEASE
from gatekey.testing import FakeClock
from gatekey.x509.certificate import encode_tbs, read_certificate
from kit.administrator import Administrator


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(admin: Administrator) -> Iterator[Authority]:
    with admin.open() as authority:
        yield authority


def asked(house: Authority, login: str = "ann", **more: Any) -> requests.Asked:
    return requests.client(house, login, more.pop("spki", None) or material.make("p256").spki, **more)


def rows(house: Authority) -> list[tuple[Any, ...]]:
    with house.ledger.db.read() as tx:
        return tx.all("SELECT state, holder, serial FROM certificate WHERE holder NOT LIKE 'authority:%' ORDER BY recorded_at, serial")


def actions(house: Authority) -> list[str]:
    return [event.action for event in house.reads.events()]


def test_in_their_order(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def watched(name: str, owner: Any) -> None:
        real = getattr(owner, name)

        def step(*words: Any, **more: Any) -> Any:
            order.append(name)
            return real(*words, **more)

        monkeypatch.setattr(owner, name, step)

    for name in ("key_facts", "decide", "encode_tbs", "lint_certificate", "sign"):
        watched(name, steps)
    for name in ("record_many", "release_many"):
        watched(name, house.ledger)
    issue(house, *asked(house))
    assert order == ["key_facts", "decide", "encode_tbs", "lint_certificate", "record_many", "sign", "release_many"]


def test_when_it_is_signed_it_is_on_record(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection sees the record, with its event, before the signer is asked; and what is signed are the recorded bytes."""
    seen: list[Any] = []
    real = steps.sign

    def looks(authority: Authority, recorded: Any, *more: Any) -> Any:
        with house.ledger.db.read() as tx:
            seen.append(tx.one("SELECT state, tbs, signature FROM certificate WHERE serial = :s", s=recorded.draft.number))
            seen.append(tx.one("SELECT action FROM audit ORDER BY number DESC LIMIT 1"))
        assert recorded.draft.tbs == seen[0][1]
        return real(authority, recorded, *more)

    monkeypatch.setattr(steps, "sign", looks)
    released = issue(house, *asked(house))
    assert (seen[0][0], seen[0][2], seen[1]) == ("recorded", None, ("certificate.record",))
    assert read_certificate(released.der).tbs == seen[0][1]


def test_a_refusal_of_policy_records_nothing(house: Authority) -> None:
    before = actions(house)
    with pytest.raises(Refused):
        issue(house, *asked(house, days=0))
    assert (rows(house), actions(house)) == ([], before)
    assert house.reads.holder("ann") is None


def test_a_failing_lint_records_nothing(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the encoder may do one day: bytes that lint finds wrong are neither recorded nor signed."""
    before = actions(house)
    found = [Finding("made-up", "error", "it is green", "RFC 0"), Finding("another", "warning", "it is late", "RFC 1")]
    monkeypatch.setattr(steps, "lint_certificate", lambda *_: found)
    monkeypatch.setattr(steps, "sign", lambda *_: pytest.fail("nothing may be signed"))
    with pytest.raises(Refused) as raised:
        issue(house, *asked(house))
    assert [reason.code for reason in raised.value.reasons] == ["lint"]
    assert raised.value.message == "made-up: it is green (RFC 0)"
    assert (rows(house), actions(house)) == ([], before)


def test_an_encoder_that_goes_wrong_is_caught_by_lint(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that says CA:TRUE, however it came about, is never signed."""
    monkeypatch.setattr(steps, "encode_tbs", lambda plan, *more: encode_tbs(plan._replace(ca=True, key_usage=("keyCertSign",)), *more))
    with pytest.raises(Refused) as raised:
        issue(house, *asked(house))
    assert {reason.code for reason in raised.value.reasons} == {"lint"}
    assert rows(house) == []


def test_a_key_that_is_away_is_found_out_before_anything_is_recorded(house: Authority, admin: Administrator) -> None:
    (admin.home / "keys" / "people.key").unlink()
    before = actions(house)
    with pytest.raises(Misconfigured) as raised:
        issue(house, *asked(house))
    assert raised.value.code == "key-not-here"
    assert (rows(house), actions(house)) == ([], before)


def test_a_signer_that_breaks_leaves_a_record_and_no_certificate(house: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "clock", clock)
    clock.at = house.issuing("people").certificate.not_before + 3600
    with monkeypatch.context() as patch:
        patch.setattr(steps, "sign", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            issue(house, *asked(house))
    assert [row[:2] for row in rows(house)] == [("recorded", "ann")]
    with pytest.raises(GatekeyError):
        issue(house, *asked(house), alone=True)
    clock.move(seconds=LEASE + 1)
    issue(house, *asked(house), alone=True)
    reconcile(house)
    assert sorted(row[0] for row in rows(house)) == ["abandoned", "released"]


def test_a_release_that_comes_too_late_hands_nothing_out(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the signer was at work for three minutes, another process has closed the draft."""
    real = steps.sign

    def slow(authority: Authority, recorded: Any, *more: Any) -> Any:
        signed = real(authority, recorded, *more)
        with house.ledger.db.transaction("test") as tx:
            tx.run("UPDATE certificate SET lease_until = 0 WHERE state = 'recorded'")
        reconcile(house)
        return signed

    monkeypatch.setattr(steps, "sign", slow)
    with pytest.raises(Refused) as raised:
        issue(house, *asked(house))
    assert raised.value.code == "release-lost"
    assert "nothing was issued" in raised.value.message
    assert [row[0] for row in rows(house)] == ["abandoned"]


def test_notes_are_said(house: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "clock", clock)
    clock.at = house.issuing("people").certificate.not_after - 30 * 86_400
    said: list[str] = []
    released = issue(house, *asked(house), say=said.append)
    assert len(said) == 1
    assert "the authority people ends then" in said[0]
    assert read_certificate(released.der).not_after == house.issuing("people").certificate.not_after


class TestTheSameQuestion:
    """Idempotency through the whole way, with keys that are made here or brought along."""

    def test_gives_the_same_certificate(self, house: Authority) -> None:
        first = issue(house, *asked(house, idempotency="k"))
        again = issue(house, *asked(house, idempotency="k"))  # another key was made here meanwhile
        assert again == first
        assert len(rows(house)) == 1

    def test_with_another_key_it_is_another(self, house: Authority) -> None:
        spki = material.make("p256").spki
        first = issue(house, *asked(house, spki=spki, proof="csr", idempotency="k"))
        assert issue(house, *asked(house, spki=spki, proof="csr", idempotency="k")) == first
        with pytest.raises(Conflict) as raised:
            issue(house, *asked(house, proof="csr", idempotency="k"))
        assert raised.value.code == "idempotency-reused"

    @pytest.mark.parametrize("more", [{"days": 5}, {"device": "phone"}, {"email": "ann@example.com"}])
    def test_with_other_words_it_is_another(self, house: Authority, more: dict[str, Any]) -> None:
        issue(house, *asked(house, idempotency="k"))
        with pytest.raises(Conflict):
            issue(house, *asked(house, idempotency="k", **more))

    def test_another_requester_gets_an_own_one(self, house: Authority) -> None:
        first = issue(house, *asked(house, idempotency="k"))
        house.actor = "user:another"
        other = issue(house, *asked(house, idempotency="k"))
        assert other.number != first.number

    def test_while_it_is_answered(self, house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(steps, "sign", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                issue(house, *asked(house, idempotency="k"))
        with pytest.raises(Unavailable):
            issue(house, *asked(house, idempotency="k"))

    def test_another_process_was_quicker_after_the_key_was_looked_up(self, house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        first = issue(house, *asked(house, idempotency="k"), alone=True)
        monkeypatch.setattr(steps, "issued", lambda *_: None)
        assert issue(house, *asked(house, idempotency="k"), alone=True) == first
        with pytest.raises(Refused) as raised:
            issue(house, *asked(house, idempotency="another"), alone=True)
        assert raised.value.code == "device-has-one"

    def test_the_digest_is_over_everything_that_is_asked(self, house: Authority) -> None:
        request, _ = asked(house, proof="csr")
        changed: dict[str, Any] = {
            "profile": "device", "spki": b"x", "holder": "eve", "device": "d", "days": 1, "not_after": 2, "proof": "same-key",
            "names": request.names._replace(common_name="eve"), "issuer": "servers", "renews": house.records()[0],
        }  # fmt: skip
        digests = {request_digest(request._replace(**{key: value})) for key, value in changed.items()}
        assert len(digests | {request_digest(request)}) == len(changed) + 1
        assert request_digest(request._replace(requester="eve", door="api", idempotency="k")) == request_digest(request)


def test_serials(house: Authority) -> None:
    serials = {draw_serial(house) for _ in range(200)}
    assert len(serials) == 200
    assert all(len(serial) == 32 and 1 <= int(serial[:2], 16) <= 0x7F for serial in serials)


def test_what_is_recorded_beside_the_bytes(house: Authority) -> None:
    released = issue(house, *asked(house, device="laptop", email="ann@example.com", groups=("staff",)))
    record = house.reads.by_serial(released.number)[0]
    profile = house.profile("client")
    assert (record.profile, record.profile_sha256) == ("client", profile.sha256)
    assert (record.holder, record.kind, record.device, record.door, record.requester) == ("ann", "person", "laptop", "cli", house.actor)
    assert record.alternatives == ("ann@example.com",)
    assert record.lineage == f"people/{released.number}"
    event = next(event for event in house.reads.events() if event.action == "certificate.record" and event.subject.endswith(released.number))
    assert event.facts["profile"] == "client"
    assert event.facts["tbs"]
