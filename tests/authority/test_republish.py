"""CRLs follow the ledger while a service runs: at once, then gathered, by one process at a time, and whoever dies in between is stood in for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey import files
from gatekey.authority import bundle, crl, health, jobs, requests, revoke
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.republish import NAME, RETRY, Republisher
from gatekey.errors import Unavailable
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.model.status import REVOKE_REASONS
from gatekey.ports import SystemEntropy, lives, owner
from gatekey.testing import FakeClock
from gatekey.x509.crl import encode_entry, read_crl
from kit.administrator import Administrator


@pytest.fixture
def clock(admin: Administrator) -> FakeClock:
    with admin.open() as authority:
        return FakeClock(authority.now())


@pytest.fixture
def workers(admin: Administrator, clock: FakeClock) -> Iterator[list[tuple[Authority, Republisher]]]:
    """Two processes of a service on one ledger."""
    with admin.open(clock) as one, admin.open(clock) as other:
        made = []
        for number, authority in enumerate((one, other)):
            authority.owner = f"node:{number + 1}:aa"
            republisher = Republisher(authority, lambda _: True)
            authority.republish = republisher.at_once
            republisher.look()
            made.append((authority, republisher))
        yield made


def given(authority: Authority, login: str) -> Released:
    return issue(authority, *requests.client(authority, login, material.make("p256").spki))


def newest(authority: Authority) -> crl.CurrentCrl:
    held = crl.newest(authority, "people")
    assert held is not None
    return held


def listed(authority: Authority) -> set[str]:
    return {entry.serial for entry in read_crl(newest(authority).der).entries()}


def only_committed(authority: Authority, one: Released) -> None:
    """A revocation whose process dies between the ledger's commit and the CRL's signature."""
    authority.ledger.revoke(one.id, REVOKE_REASONS[0], at=authority.now(), actor="test", entry=encode_entry)


def test_the_first_at_once_and_the_rest_together(workers: list[tuple[Authority, Republisher]], clock: FakeClock) -> None:
    (one, looks), (other, also_looks) = workers
    people = [given(one, f"person{number}") for number in range(21)]
    before = newest(one).number
    revoke.revoke(one, people[0].id)
    assert (newest(one).number, listed(one)) == (before + 1, {people[0].number}), "at once"
    for number, person in enumerate(people[1:]):
        revoke.revoke(one if number % 2 else other, person.id)
    for _ in range(3):
        looks.look()
        also_looks.look()
    assert newest(one).number == before + 1, "they are being gathered"
    clock.move(seconds=1)
    also_looks.look()
    looks.look()
    assert (newest(one).number, listed(one)) == (before + 2, {person.number for person in people})
    for _ in range(3):
        clock.move(seconds=1)
        looks.look()
        also_looks.look()
    assert newest(one).number == before + 2, "nothing more is owed"


def test_the_published_folder_costs_no_further_crl(
    workers: list[tuple[Authority, Republisher]], clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People go on being revoked while the folder is written: that is left to the next second, and the folder says up to where it is complete."""
    (one, looks), (other, _) = workers
    one.config = one.config._replace(publish=tmp_path / "published")
    people = [given(one, f"person{number}") for number in range(3)]
    real = crl.make

    def and_others(*words: Any) -> crl.CurrentCrl:
        made = real(*words)
        for person in people[1:] if people[1].number not in listed(one) else ():
            only_committed(other, person)
        return made

    monkeypatch.setattr(crl, "make", and_others)
    before = newest(one).number
    revoke.revoke(one, people[0].id)
    assert newest(one).number == before + 1
    held = json.loads((tmp_path / "published" / "manifest.json").read_bytes())
    assert held["number"] == 1
    monkeypatch.setattr(crl, "make", real)
    clock.move(seconds=1)
    looks.look()
    looks.look()
    assert (newest(one).number, listed(one)) == (before + 2, {person.number for person in people})
    assert json.loads((tmp_path / "published" / "manifest.json").read_bytes())["number"] == 3


def test_hold_and_unhold_are_gathered_too(workers: list[tuple[Authority, Republisher]], clock: FakeClock) -> None:
    (one, looks), _ = workers
    ann = given(one, "ann")
    revoke.hold(one, ann.id)
    assert listed(one) == {ann.number}
    revoke.unhold(one, ann.id)
    assert listed(one) == {ann.number}
    clock.move(seconds=1)
    looks.look()
    looks.look()
    assert listed(one) == set()


def test_whoever_dies_before_the_signature_is_stood_in_for(workers: list[tuple[Authority, Republisher]]) -> None:
    (one, looks), _ = workers
    ann = given(one, "ann")
    only_committed(one, ann)
    looks.look()
    assert listed(one) == set(), "whoever revoked may be signing now"
    looks.look()
    assert listed(one) == {ann.number}


def test_whoever_dies_while_signing_is_stood_in_for(workers: list[tuple[Authority, Republisher]], admin: Administrator, clock: FakeClock) -> None:
    (one, looks), (other, _) = workers
    ann = given(one, "ann")
    only_committed(other, ann)
    assert jobs.claim(other, NAME, 60)
    looks.look()
    looks.look()
    assert listed(one) == set(), "the other is signing"
    with admin.open(clock) as third:
        third.owner = "node:3:aa"
        looks = Republisher(third, lambda owner: owner != other.owner)
        looks.look()
        looks.look()
    assert listed(one) == {ann.number}, "it is gone, and its lease with it"


def test_a_lease_of_our_own_that_could_not_be_given_back(workers: list[tuple[Authority, Republisher]], monkeypatch: pytest.MonkeyPatch) -> None:
    (one, looks), _ = workers
    ann, bob = given(one, "ann"), given(one, "bob")

    def locked(*_: object) -> None:
        raise Unavailable("store-locked", "another process holds the ledger")

    with monkeypatch.context() as broken:
        broken.setattr(jobs, "finish", locked)
        with pytest.raises(Unavailable):
            revoke.revoke(one, ann.id)
    only_committed(one, bob)
    for _ in range(2):
        looks.look()
    assert listed(one) == {ann.number, bob.number}


def test_what_fails_is_told_and_tried_again(workers: list[tuple[Authority, Republisher]], monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    (one, looks), _ = workers
    ann = given(one, "ann")

    def full(*_: object, **__: object) -> None:
        raise Unavailable("disk-full", "no room is left on the disk")

    with monkeypatch.context() as broken:
        broken.setattr(crl, "current", full)
        with pytest.raises(Unavailable) as raised:
            revoke.revoke(one, ann.id)
    assert raised.value.message.startswith("it stands in the ledger, but the web servers were not told: no room")
    looks.look()
    looks.look()
    assert listed(one) == set(), "not ten times a second"
    assert health.crls(one).state == health.WARN
    clock.move(seconds=health.LATE + 1)
    found = health.crls(one)
    assert (found.state, found.message) == (health.FAIL, "the CRL of people does not hold the newest revocation, and that for 11 seconds")
    clock.move(seconds=RETRY)
    looks.look()
    assert listed(one) == {ann.number}
    assert health.crls(one).state == health.OK


def test_a_published_folder_that_lags_behind_is_written(admin: Administrator, clock: FakeClock) -> None:
    with admin.open(clock) as authority:
        authority.config = authority.config._replace(publish=admin.folder / "published")
        ann = given(authority, "ann")
        only_committed(authority, ann)
        crl.current(authority, "people")  # and dies between the CRL and the folder
        looks = Republisher(authority, lambda _: True)
        looks.look()
        looks.look()
        assert ann.number in (admin.folder / "published" / "revoked.txt").read_text()


class TestThePublishedFolder:
    """What `publish` names, as /readyz and `doctor` see it."""

    @pytest.fixture
    def publishing(self, admin: Administrator, clock: FakeClock) -> Iterator[Authority]:
        """An authority whose folder holds what its ledger holds."""
        with admin.open(clock) as authority:
            folder = admin.folder / "published"
            authority.config = authority.config._replace(publish=folder)
            for record in authority.records():
                crl.current(authority, record.name, refresh=0)
            bundle.publish(authority, folder)
            yield authority

    def found(self, authority: Authority) -> tuple[str, str]:
        said = health.publish(authority)
        assert said.state == health.OK or said.remedy == f"gatekey bundle --out {authority.config.publish}"
        return said.state, said.message.replace(str(authority.config.publish), "FOLDER")

    def test_all_is_well_also_where_nothing_is_published(self, publishing: Authority) -> None:
        assert self.found(publishing) == ("ok", "")
        publishing.config = publishing.config._replace(publish=None)
        assert self.found(publishing) == ("ok", "")

    def test_a_revocation_that_cannot_be_published(self, publishing: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        ann = given(publishing, "ann")

        def full(*_: object, **__: object) -> None:
            raise Unavailable("disk-full", "no room is left on the disk")

        with monkeypatch.context() as broken:
            broken.setattr(files, "switch", full)
            with pytest.raises(Unavailable):
                revoke.revoke(publishing, ann.id)
            assert health.crls(publishing).state == health.OK, "the CRL itself was signed"
            words = "the bundle in the published folder FOLDER does not hold the newest revocation"
            assert self.found(publishing) == ("warn", f"{words} yet")
            clock.move(seconds=health.FOLDER_LATE)
            assert self.found(publishing) == ("warn", f"{words} yet")
            clock.move(seconds=1)
            assert self.found(publishing) == ("fail", f"{words}, and that for 61 seconds")
            assert health.findings(publishing)["publish"].state == health.FAIL
        bundle.publish(publishing, published(publishing))
        assert self.found(publishing) == ("ok", "")

    @pytest.mark.parametrize("left", [b"", b"{}", b'{"number": "x"}', None])
    def test_no_bundle_in_it(self, publishing: Authority, left: bytes | None) -> None:
        manifest = published(publishing) / "manifest.json"
        manifest.unlink()
        if left is not None:
            manifest.write_bytes(left)
        assert self.found(publishing) == ("fail", "there is no bundle in the published folder FOLDER")

    @pytest.mark.parametrize(
        ("days", "state", "words"),
        [
            (9, "ok", ""),
            (11, "warn", "the bundle in the published folder FOLDER runs out in 19 days: it is not written any more"),
            (19, "warn", "the bundle in the published folder FOLDER runs out in 11 days: it is not written any more"),
            (21, "fail", "the bundle in the published folder FOLDER runs out in 9 days"),
            (31, "fail", "the bundle in the published folder FOLDER has run out"),
            (-1, "fail", "the bundle in the published folder FOLDER is of a time to come: its CRLs are not valid yet"),
        ],
    )
    def test_its_end_is_told_long_before(self, publishing: Authority, clock: FakeClock, days: int, state: str, words: str) -> None:
        """Also when nobody is revoked, and the CRLs in the ledger are signed again every day."""
        clock.move(days=days)
        for record in publishing.records():
            crl.current(publishing, record.name)
        assert self.found(publishing) == (state, words)


def published(authority: Authority) -> Path:
    assert authority.config.publish is not None
    return authority.config.publish


@pytest.mark.parametrize(("told", "alive"), [(lambda own: own, True), (lambda own: own.replace(":", "x:", 1), True), (lambda _: "x", True)])
def test_who_may_still_be_there(told: Callable[[str], str], alive: bool) -> None:
    assert lives(told(owner(SystemEntropy()))) is alive


def test_a_process_that_ended_is_gone() -> None:
    import subprocess
    import sys

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    node = owner(SystemEntropy()).split(":")[0]
    assert not lives(f"{node}:{ended.pid}:aabb")
