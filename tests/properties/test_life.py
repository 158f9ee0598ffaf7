"""Whatever an administrator does in whatever order, with crashes in between and the clock moving: ledger, CRL, bundle and `store check` agree with a model that
is a dict. Nothing revoked ever opens a door again, no serial comes twice, no revocation number goes back."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from gatekey import app
from gatekey.authority import bundle, check, crl, people, requests, revoke
from gatekey.authority import issue as steps
from gatekey.authority.issue import issue
from gatekey.authority.reconcile import reconcile
from gatekey.errors import GatekeyError
from gatekey.keys import material
from gatekey.model.request import CertificateId
from gatekey.store.admission import LEASE
from gatekey.testing import FakeClock, FakeEntropy
from gatekey.x509.crl import read_crl
from kit import administrator
from kit.cases import cases

LOGINS = st.sampled_from(["ann", "bob", "carl"])
DEVICES = st.sampled_from(["", "laptop"])
PICKS = st.integers(0, 1000)
DAY = 86_400
#: Keys are made once: what is tested is not their making.
KEYS = [material.make("p256") for _ in range(12)]


class Known(NamedTuple):
    """What the model knows of a certificate."""

    login: str
    device: str
    key: int
    ends: int
    status: str = "valid"


class Life(RuleBasedStateMachine):
    """One home, several years."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="gatekey-life-"))
        self.clock = FakeClock()
        self.known: dict[CertificateId, Known] = {}
        self.left: set[str] = set()
        self.compromised: set[int] = set()
        self.lost: list[int] = []
        self.number = 0

    @initialize()
    def founded(self) -> None:
        home = administrator.copied(self.template, self.folder / "home")
        self.house = app.open_authority(home, clock=self.clock, entropy=FakeEntropy())
        self.clock.at = self.house.issuing("people").certificate.not_before + 3600

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self, which: Known) -> bool:
        return which.status in ("valid", "held") and which.ends >= self.clock.now()

    def picked(self, number: int) -> CertificateId:
        """One of those that were issued, in the order in which they were: what is drawn must not hang on chance."""
        return list(self.known)[number % len(self.known)]

    def in_flight(self) -> list[str]:
        """Serials of drafts that nobody has closed yet; their keys and names are not free."""
        with self.house.ledger.db.read() as tx:
            return [serial for (serial,) in tx.all("SELECT serial FROM certificate WHERE state = 'recorded'")]

    def take(self, which: CertificateId, status: str) -> None:
        self.known[which] = self.known[which]._replace(status=status)

    @rule(login=LOGINS, device=DEVICES, key=st.integers(0, 11), days=st.sampled_from([None, 1, 30, 400]))
    def issues(self, login: str, device: str, key: int, days: int | None) -> None:
        asked = requests.client(self.house, login, KEYS[key].spki, device=device, days=days)
        elsewhere = any(known.key == key and known.login != login for known in self.known.values())
        has_one = any(known.login == login and known.device == device and self.alive(known) for known in self.known.values())
        allowed = login not in self.left and key not in self.compromised and not elsewhere and not has_one
        try:
            released = issue(self.house, *asked, alone=True)
        except GatekeyError as no:
            assert not allowed or (no.code == "key-of-another" and self.in_flight()), no.message
            return
        assert allowed
        assert released.id not in self.known
        record = self.house.reads.by_serial(released.number)[0]
        self.known[released.id] = Known(login, device, key, record.not_after)

    @rule(login=LOGINS, key=st.integers(0, 11))
    def the_power_fails_while_issuing(self, login: str, key: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(steps, "sign", lambda *_: 1 / 0)
            with contextlib.suppress(ZeroDivisionError, GatekeyError):
                issue(self.house, *requests.client(self.house, login, KEYS[key].spki, device="lost"))
        assert not {CertificateId("people", serial) for serial in self.in_flight()} & set(self.known)

    @precondition(lambda self: self.known)
    @rule(pick=PICKS)
    def renews(self, pick: int) -> None:
        which = self.picked(pick)
        known = self.known[which]
        old = next(record for record in self.house.reads.by_serial(which.serial) if record.id == which)
        allowed = known.status == "valid" and known.login not in self.left and known.key not in self.compromised
        try:
            released = issue(self.house, *requests.renewal(self.house, old, None, proof="same-key"))
        except GatekeyError as no:
            assert not allowed, no.message
            return
        assert allowed
        record = self.house.reads.by_serial(released.number)[0]
        assert record.lineage == old.lineage
        self.known[released.id] = Known(known.login, known.device, known.key, record.not_after)

    @precondition(lambda self: self.known)
    @rule(pick=PICKS, reason=st.sampled_from(["unspecified", "superseded", "key-compromise"]))
    def revokes(self, pick: int, reason: str) -> None:
        which = self.picked(pick)
        known = self.known[which]
        try:
            taken = {one.id for one in revoke.revoke(self.house, which, reason)}
        except GatekeyError as no:
            assert no.code == "already-revoked"
            assert known.status == "revoked"
            return
        expected = {which}
        if reason == "key-compromise":
            self.compromised.add(known.key)
            expected |= {other for other, its in self.known.items() if its.key == known.key and self.alive(its)}
        assert expected <= taken
        assert all(other in expected or other not in self.known for other in taken)  # and drafts with that key
        for other in expected:
            self.take(other, "revoked")

    @precondition(lambda self: self.known)
    @rule(pick=PICKS)
    def holds(self, pick: int) -> None:
        which = self.picked(pick)
        try:
            revoke.hold(self.house, which)
        except GatekeyError:
            assert self.known[which].status != "valid"
            return
        assert self.known[which].status == "valid"
        self.take(which, "held")

    @precondition(lambda self: self.known)
    @rule(pick=PICKS)
    def gives_back(self, pick: int) -> None:
        which = self.picked(pick)
        try:
            revoke.unhold(self.house, which)
        except GatekeyError:
            assert self.known[which].status != "held" or self.known[which].login in self.left
            return
        assert self.known[which].status == "held"
        self.take(which, "valid")

    @rule(login=LOGINS)
    def leaves(self, login: str) -> None:
        try:
            taken = {one.id for one in revoke.leave(self.house, login)}
        except GatekeyError:
            assert login in self.left or self.house.reads.holder(login) is None
            return
        mine = {which for which, known in self.known.items() if known.login == login and self.alive(known)}
        assert mine <= taken
        for which in mine:
            self.take(which, "revoked")
        self.left.add(login)

    @rule(login=LOGINS)
    def comes_back(self, login: str) -> None:
        with contextlib.suppress(GatekeyError):
            people.change(self.house, login, back=True)
            assert login in self.left
            self.left.discard(login)

    @rule(seconds=st.sampled_from([1, 60, LEASE + 1, DAY, 20 * DAY, 200 * DAY]))
    def time_goes_by(self, seconds: int) -> None:
        if self.clock.now() + seconds < self.house.issuing("people").certificate.not_after - 500 * DAY:
            self.clock.move(seconds=seconds)

    @rule()
    def the_next_verb_closes_what_was_interrupted(self) -> None:
        for which in reconcile(self.house):
            assert which not in self.known
        if self.house.reads.crls_behind(self.clock.now()):
            revoke.follow(self.house, {"people"})

    @invariant()
    def numbers_never_go_back(self) -> None:
        if hasattr(self, "house"):
            number = self.house.reads.revocation_number()
            assert number >= self.number
            self.number = number

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        if not hasattr(self, "house"):
            return
        now = self.clock.now()
        for which, known in self.known.items():
            record = next(record for record in self.house.reads.by_serial(which.serial) if record.id == which)
            expected = known.status if known.status != "valid" or known.ends >= now else "expired"
            assert record.status(now) == expected, (which, record, known)

    @rule()
    def the_bundle_says_what_the_model_says(self) -> None:
        reconcile(self.house)
        made = bundle.make(self.house)
        now = self.clock.now()
        people_in = {known["serial"] for known in json.loads(made.contents["people.json"])["people"]}
        assert people_in == {w.serial for w, known in self.known.items() if known.status == "valid" and known.ends >= now and known.login not in self.left}
        denied = made.contents["revoked.map"].decode()
        listed = {entry.serial for entry in read_crl(crl.current(self.house, "people").der).entries()}
        for which, known in self.known.items():
            if known.status in ("revoked", "held") and known.ends >= now:
                assert which.serial in denied
                assert which.serial in listed
            if known.status == "valid":
                assert which.serial not in denied
                assert which.serial not in listed

    @rule()
    def the_ledger_is_whole(self) -> None:
        self.clock.move(seconds=LEASE + 1)
        check.repair(self.house)
        assert check.findings(self.house) == []


def test_whatever_is_done_in_whatever_order(template: Path) -> None:
    Life.template = template
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(Life, settings=settings(cases(25), stateful_step_count=25, suppress_health_check=quiet))


