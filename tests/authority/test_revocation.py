"""What follows from a revocation: complete CRLs with growing numbers, a bundle that knows it, and none of it half; with the clock where nobody expects it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gatekey import app
from gatekey.authority import access, bundle, crl, people, requests, revoke
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.reconcile import reconcile
from gatekey.errors import Conflict, Misconfigured, NotFound, Refused
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.lint.table import Finding
from gatekey.model.holder import Holder
from gatekey.testing import FakeClock
from gatekey.x509.crl import read_crl
from kit.administrator import Administrator
from kit.servers import wait_until

DAY = 86_400


@pytest.fixture
def clock(admin: Administrator) -> FakeClock:
    """A clock that stands at the founding, or a little later."""
    with admin.open() as authority:
        return FakeClock(authority.now())


@pytest.fixture
def house(admin: Administrator, clock: FakeClock) -> Iterator[Authority]:
    with admin.open(clock) as authority:
        yield authority


def given(house: Authority, login: str, *, days: int | None = None, **more: Any) -> Released:
    return issue(house, *requests.client(house, login, material.make("p256").spki, days=days, **more))


def listed(house: Authority, name: str = "people") -> set[str]:
    held = crl.newest(house, name)
    assert held is not None
    return {entry.serial for entry in read_crl(held.der).entries()}


def test_every_revocation_signs_again(house: Authority) -> None:
    numbers = []
    for login in ("ann", "bob", "carl"):
        one = given(house, login)
        revoke.revoke(house, one.id)
        held = crl.newest(house, "people")
        assert held is not None
        numbers.append(held.number)
        assert one.number in listed(house)
        assert held.revocation == house.reads.revocation_number("people")
    assert numbers == sorted(set(numbers))
    assert len(listed(house)) == 3
    assert listed(house, "servers") == set()


def test_times(house: Authority, clock: FakeClock) -> None:
    """thisUpdate an hour back for clocks that are behind; 30 days for issuing authorities, 400 for roots."""
    for name, days in (("people", 30), ("servers", 30), ("people-root", 400), ("servers-root", 400)):
        made = crl.make(house, name)
        assert 0 <= made.this_update - (clock.now() - 3600) <= 1  # a second CRL of the same second is a second younger
        assert made.next_update == clock.now() + days * DAY


def test_one_that_is_fresh_is_not_signed_again(house: Authority, clock: FakeClock) -> None:
    first = crl.make(house, "people")
    clock.move(seconds=DAY - 1)
    assert crl.current(house, "people") == first
    clock.move(seconds=2)
    assert crl.current(house, "people").number == first.number + 1


def test_a_clock_that_was_ahead_is_mended(house: Authority, clock: FakeClock) -> None:
    """A CRL of next week shuts out everybody whose clock is right."""
    clock.move(days=7)
    ahead = crl.make(house, "people")
    clock.move(days=-7)
    mended = crl.current(house, "people")
    assert mended.number == ahead.number + 1
    assert mended.this_update <= clock.now()


def test_expired_ones_leave_after_one_more_crl(house: Authority, clock: FakeClock) -> None:
    short, long = given(house, "ann", days=5), given(house, "bob")
    for one in (short, long):
        revoke.revoke(house, one.id)
    clock.move(days=6)
    crl.make(house, "people")
    assert listed(house) == {short.number, long.number}  # it stood in no CRL beyond its end yet
    clock.move(days=1)
    crl.make(house, "people")
    assert listed(house) == {long.number}


def test_an_abandoned_serial_stands_in_the_crl_without_a_reason(house: Authority, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("gatekey.authority.issue.sign", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            given(house, "ann")
    clock.move(seconds=300)
    (closed,) = reconcile(house)
    made = crl.current(house, "people", refresh=DAY)
    entry = x509.load_der_x509_crl(made.der).get_revoked_certificate_by_serial_number(int(closed.serial, 16))
    assert entry is not None
    assert len(entry.extensions) == 0


def test_a_failing_lint_signs_no_crl(house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    before = crl.newest(house, "people")
    monkeypatch.setattr(crl, "lint_crl", lambda *_: [Finding("made-up", "error", "it is green", "RFC 0")])
    with pytest.raises(Refused) as raised:
        crl.make(house, "people")
    assert raised.value.code == "lint"
    assert crl.newest(house, "people") == before


def test_without_the_key_nothing_is_revoked(house: Authority, admin: Administrator) -> None:
    """A revocation whose CRL cannot be signed would leave the web servers behind."""
    one = given(house, "ann")
    (admin.home / "keys" / "people.key").rename(admin.home / "keys" / "people.away")
    for deed in (revoke.revoke, revoke.hold):
        with pytest.raises(Misconfigured):
            deed(house, one.id)
    assert house.reads.by_serial(one.number)[0].revoked_at is None


def test_reasons(house: Authority) -> None:
    one = given(house, "ann")
    for reason in ("certificate-hold", "ca-compromise", "remove-from-crl", "", "KEY-COMPROMISE"):
        with pytest.raises(Refused) as raised:
            revoke.revoke(house, one.id, reason)
        assert raised.value.code == "bad-reason"
        assert "gatekey hold" in raised.value.hint


def test_unhold_of_somebody_who_left(house: Authority) -> None:
    one = given(house, "ann")
    revoke.hold(house, one.id)
    revoke.leave(house, "ann")
    with pytest.raises((Refused, Conflict)):
        revoke.unhold(house, one.id)


def test_leave_twice_and_of_nobody(house: Authority) -> None:
    given(house, "ann")
    assert len(revoke.leave(house, "ANN")) == 1
    with pytest.raises(Refused) as raised:
        revoke.leave(house, "ann")
    assert raised.value.code == "holder-left"
    for login in ("nobody", "authority:people"):
        with pytest.raises(NotFound):
            revoke.leave(house, login)


def test_the_only_administrator_stays(house: Authority) -> None:
    for login in ("ann", "bob"):
        given(house, login)
    access.set_roles(house, "ann", add=["administrator"])
    with pytest.raises(Refused) as raised:
        revoke.leave(house, "ANN")
    assert (raised.value.code, raised.value.message) == ("last-administrator", "ann is the only administrator")
    assert raised.value.hint.split("; ") == [
        "give somebody else the role first: gatekey people set LOGIN --role administrator",
        "gatekey leave ann on the authority's own machine does it all the same",
    ]
    assert access.roles(house, "ann") == ("administrator",)
    assert [record.status(house.now()) for record in house.reads.by_holder("ann")] == ["valid"]
    assert len(revoke.leave(house, "bob")) == 1  # whoever is none may always go
    given(house, "carl")
    access.set_roles(house, "carl", add=["administrator"])
    assert not access.is_last(house, "ann")
    assert len(revoke.leave(house, "ann")) == 1
    assert access.is_last(house, "carl")
    assert len(revoke.leave(house, "carl", even_last_administrator=True)) == 1
    leaving = [event for event in house.reads.events(1) if event.action == "holder.leave"]
    assert [(event.subject, event.facts["roles"]) for event in leaving] == [("bob", []), ("ann", ["administrator"]), ("carl", ["administrator"])]


@pytest.mark.parametrize("how", ["both leave", "one leaves, one loses the role"])
def test_two_administrators_cannot_go_at_the_same_moment(admin: Administrator, clock: FakeClock, how: str) -> None:
    """Each from a process of its own, and each sees the other before it begins; at most one gets through."""
    with admin.open(clock) as one, admin.open(clock) as other:
        for turn in range(8):
            pair = (f"ann{turn}", f"bob{turn}")
            for login in pair:
                people.add(one, Holder(login, "person"))
                access.set_roles(one, login, add=["administrator"])
            for left in administrators(one):
                if left not in pair:
                    access.set_roles(one, left, remove=["administrator"])
            start, codes = threading.Barrier(2), list[str]()

            def go(authority: Authority, login: str, ends: Callable[[Authority, str], object], start: threading.Barrier, codes: list[str]) -> None:
                start.wait()
                try:
                    ends(authority, login)
                except Refused as refused:
                    codes.append(refused.code)

            second = revoke.leave if how == "both leave" else lose
            threads = [threading.Thread(target=go, args=(*words, start, codes)) for words in ((one, pair[0], revoke.leave), (other, pair[1], second))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert codes == ["last-administrator"]
            assert len(administrators(one)) == 1


@contextlib.contextmanager
def leaving_before(authority: Authority, name: str, leaves: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody leaves in another process between what this one has looked at and its transaction of this name."""
    begin = authority.ledger.db.transaction
    done: list[object] = []

    @contextlib.contextmanager
    def late(named: str, *, joins: bool) -> Iterator[Any]:
        if named == name and not done:
            done.append(leaves())
        with begin(named, joins=joins) as tx:
            yield tx

    with monkeypatch.context() as patch:
        patch.setattr(authority.ledger.db, "transaction", late)
        yield
    assert done


def test_who_leaves_at_the_same_moment_gets_neither_token_nor_role(admin: Administrator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with admin.open(clock) as one, admin.open(clock) as other:
        for login in ("ann", "bob"):
            people.add(one, Holder(login, "person"))
        access.set_roles(one, "ann", add=["administrator"])
        access.set_roles(one, "bob", add=["operator"])
        with leaving_before(other, "add token", lambda: revoke.leave(one, "bob"), monkeypatch), pytest.raises(Refused) as raised:
            access.make_token(other, "bob", ["read", "revoke"])
        assert (raised.value.code, raised.value.message, raised.value.hint) == ("holder-left", "bob has left", "gatekey people set bob --back")
        assert access.tokens(one, "bob") == []
        people.change(one, "bob", back=True)
        with leaving_before(other, "set roles", lambda: revoke.leave(one, "bob"), monkeypatch), pytest.raises(Refused) as raised:
            access.set_roles(other, "bob", add=["administrator"])
        assert raised.value.code == "holder-left"
        assert access.roles(one, "bob") == ()
        with pytest.raises(Refused) as raised:
            revoke.leave(one, "ann")
        assert raised.value.code == "last-administrator"


def test_a_role_that_goes_at_the_same_moment_is_in_no_token(admin: Administrator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with admin.open(clock) as one, admin.open(clock) as other:
        people.add(one, Holder("bob", "person"))
        access.set_roles(one, "bob", add=["operator"])
        goes = leaving_before(other, "add token", lambda: access.set_roles(one, "bob", remove=["operator"]), monkeypatch)
        with goes, pytest.raises(Refused) as raised:
            access.make_token(other, "bob", ["read"])
        assert (raised.value.code, raised.value.hint) == ("scope-beyond-role", "the roles of bob allow: nothing")


def test_who_has_left_is_no_remaining_administrator(admin: Administrator, house: Authority) -> None:
    """Whatever her row says: an earlier version let somebody have the role who left at the same moment."""
    for login in ("ann", "bob"):
        people.add(house, Holder(login, "person"))
        access.set_roles(house, login, add=["administrator"])
    admin.sql("UPDATE holder SET left_at = 1 WHERE login = 'bob'")
    assert access.is_last(house, "ann")
    for deed in (revoke.leave, lose):
        with pytest.raises(Refused) as raised:
            deed(house, "ann")
        assert raised.value.code == "last-administrator"
    assert access.set_roles(house, "bob", remove=["administrator"]) == ()


def lose(authority: Authority, login: str) -> object:
    return access.set_roles(authority, login, remove=["administrator"])


def administrators(authority: Authority) -> list[str]:
    return [one.login for one in authority.reads.holders("person") if "administrator" in access.roles(authority, one.login)]


def test_processes_that_make_crls_at_once(admin: Administrator, house: Authority) -> None:
    """Each ends with a CRL; numbers are used once, and the newest is complete."""
    ones = [given(house, f"p{number}") for number in range(6)]
    wrong: list[BaseException] = []

    def work(which: Any) -> None:
        try:
            with admin.open() as mine:
                revoke.revoke(mine, which)
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(one.id,)) for one in ones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert listed(house) == {one.number for one in ones}
    assert admin("store", "check").lines == ["the ledger is whole"]


class TestBundle:
    def test_who_is_in_it(self, house: Authority, clock: FakeClock) -> None:
        for login in ("ann", "bob", "carl", "dora"):
            given(house, login, groups=("staff",) if login == "ann" else ())
        given(house, "eve", days=1)
        ids = {login: house.reads.by_holder(login)[0].id for login in ("ann", "bob", "carl", "dora", "eve")}
        revoke.revoke(house, ids["bob"])
        revoke.hold(house, ids["carl"])
        revoke.leave(house, "dora")
        clock.move(days=2)
        made = bundle.make(house)
        people = json.loads(made.contents["people.json"])["people"]
        assert [known["login"] for known in people] == ["ann"]
        assert people[0]["groups"] == ["staff"]
        denied = made.contents["revoked.map"].decode()
        assert all(ids[login].serial in denied for login in ("bob", "carl", "dora"))
        assert ids["eve"].serial not in denied  # its date says no
        assert made.number == house.reads.revocation_number()

    def test_a_flat_authority_does_not_let_servers_in(self, flat: Administrator) -> None:
        """One CA signs both: the deny list and who-is-who are about people only, and the usage shuts out the rest."""
        flat("issue", "client", "ann")
        flat("issue", "server", "app.example")
        with flat.open() as house:
            people = json.loads(bundle.make(house).contents["people.json"])["people"]
        assert [known["login"] for known in people] == ["ann"]

    def test_fresh_until_is_the_earliest(self, house: Authority, clock: FakeClock, admin: Administrator) -> None:
        """The root's key is locked away, and its CRL ends before the others do."""
        root = crl.make(house, "people-root")
        (admin.home / "keys" / "people-root.key").unlink()
        clock.move(days=380)
        made = bundle.make(house)
        assert made.fresh_until == root.next_update == clock.now() + 20 * DAY

    def test_it_is_of_one_state_of_the_ledger(self, house: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody revokes while the bundle is made: that is in the next one, in all of its files."""
        one = given(house, "ann")
        real = house.reads.revoked

        def revokes(*words: Any) -> Any:
            monkeypatch.setattr(house.reads, "revoked", real)
            with contextlib.closing(app.open_authority(house.config.home, clock=house.clock)) as other:
                revoke.revoke(other, one.id)
            return real(*words)

        before = house.reads.revocation_number()

        monkeypatch.setattr(house.reads, "revoked", revokes)
        made = bundle.make(house)
        assert one.number not in made.contents["revoked.map"].decode()
        assert made.number == before < house.reads.revocation_number()
        after = bundle.make(house)
        assert one.number in after.contents["revoked.map"].decode()
        assert after.number == house.reads.revocation_number()

    def test_switched_as_a_whole(self, house: Authority, tmp_path: Path) -> None:
        """A reader that looks all the time never sees files of two bundles, nor none."""
        out = tmp_path / "out"
        bundle.publish(house, out)
        wrong: list[str] = []
        done = threading.Event()
        looks = 0

        def look() -> None:
            nonlocal looks
            while not done.is_set():
                folder = os.open(out / ".current", os.O_RDONLY)  # what a web server does that reads its files at one moment
                try:
                    manifest = json.loads(_read(folder, "manifest.json"))
                    for name, told in manifest["files"].items():
                        if hashlib.sha256(_read(folder, name)).hexdigest() != told["sha256"]:
                            wrong.append(name)
                finally:
                    os.close(folder)
                for name in manifest["files"]:
                    if not (out / name).exists():
                        wrong.append(f"{name} is gone")
                looks += 1

        def read_since(seen: int) -> bool:
            return looks > seen or not reader.is_alive()

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for number in range(10):
                one = given(house, f"p{number}")
                revoke.revoke(house, one.id)
                bundle.publish(house, out)
                # A set outlives one switch, not two: whoever has begun to read it comes to its end before the next one.
                wait_until(functools.partial(read_since, looks), "the reader has looked")
        finally:
            done.set()
            reader.join()
        assert wrong == []
        assert len([path for path in out.iterdir() if path.name.startswith(".set-")]) <= 2

    def test_other_files_in_the_folder_stay(self, house: Authority, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "site.crt").write_text("mine")
        bundle.publish(house, out)
        assert (out / "site.crt").read_text() == "mine"


def _read(folder: int, name: str) -> bytes:
    handle = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(handle, 1 << 24)
    finally:
        os.close(handle)
