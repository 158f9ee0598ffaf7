"""Holders: unique by login and by e-mail whatever the case, completed but never overwritten by an issuance, and there only together with what they hold."""

from __future__ import annotations

import pytest

from gatekey.errors import Conflict, NotFound, Refused
from gatekey.model.holder import Holder
from gatekey.store import people
from kit.scribe import NOW, Scribe

ANN = Holder("ann", "person", "Ann", "ann@example.com", ("staff",), ("laptop",))


def add(scribe: Scribe, holder: Holder = ANN) -> None:
    with scribe.db.transaction("test") as tx:
        people.add(tx, holder, "user:root", NOW)


def change(scribe: Scribe, known: Holder, wanted: Holder) -> None:
    with scribe.db.transaction("test") as tx:
        people.change(tx, known, wanted, "user:root", NOW)


def test_added_and_found(scribe: Scribe) -> None:
    add(scribe)
    wanted = ANN._replace(created_at=NOW)
    assert scribe.reads.holder("ann") == wanted
    assert scribe.reads.holder("ANN") == wanted
    assert scribe.reads.holder_by_email("Ann@Example.Com") == wanted
    assert scribe.reads.holder("bob") is None
    assert scribe.reads.holders("person") == [wanted]
    assert scribe.reads.holders("server") == []
    assert scribe.reads.holders("person", group="staff") == [wanted]
    assert scribe.reads.holders("person", group="ops") == []


@pytest.mark.parametrize(
    ("holder", "code"),
    [
        (ANN, "email-taken"),
        (ANN._replace(login="ANN"), "login-taken"),
        (ANN._replace(login="Ann", email=""), "login-taken"),
        (ANN._replace(login="bob"), "email-taken"),
        (ANN._replace(login="bob", email="ANN@EXAMPLE.COM"), "email-taken"),
    ],
)
def test_one_login_one_e_mail_one_person(scribe: Scribe, holder: Holder, code: str) -> None:
    add(scribe)
    with pytest.raises(Conflict) as raised:
        add(scribe, holder)
    assert raised.value.code in (code, "login-taken")
    assert len(scribe.reads.holders("person")) == 1


def test_nobody_without_an_e_mail_is_in_anothers_way(scribe: Scribe) -> None:
    for login in ("bob", "carl", "dora"):
        add(scribe, Holder(login, "person"))
    assert [holder.login for holder in scribe.reads.holders("person")] == ["bob", "carl", "dora"]


def test_changed(scribe: Scribe) -> None:
    add(scribe)
    wanted = Holder("ann", "person", "Änn", "ann@example.org", ("ops", "staff"), ("phone",), NOW)
    change(scribe, ANN, wanted)
    assert scribe.reads.holder("ann") == wanted
    event = list(scribe.reads.events())[-1]
    assert event.facts == {"name": "Änn", "email": "ann@example.org", "groups": ["ops", "staff"], "devices": ["phone"], "created_at": NOW}
    add(scribe, Holder("bob", "person", email="bob@example.com"))
    with pytest.raises(Conflict):
        change(scribe, wanted, wanted._replace(email="BOB@example.com"))


def test_an_issuance_completes_and_never_overwrites(scribe: Scribe) -> None:
    add(scribe)
    scribe.record("ann", email="other@example.com", groups=("ops",), device="phone")
    found = scribe.reads.holder("ann")
    assert found is not None
    assert (found.name, found.email, found.groups, found.devices) == ("Ann", "ann@example.com", ("ops", "staff"), ("laptop", "phone"))


def test_a_login_has_one_kind(scribe: Scribe) -> None:
    add(scribe)
    with pytest.raises(Conflict) as raised:
        scribe.record("ann", kind="server")
    assert raised.value.code == "holder-kind"


def test_a_person_comes_with_her_certificate_or_not_at_all(scribe: Scribe) -> None:
    which = scribe.issue("ann")
    with pytest.raises(Conflict):
        scribe.record("bob", serial=which.serial)
    assert scribe.reads.holder("bob") is None


def test_gone_and_back(scribe: Scribe) -> None:
    add(scribe)
    with scribe.db.transaction("test") as tx:
        people.mark_left(tx, "ann", NOW, "user:root")
    found = scribe.reads.holder("ann")
    assert found is not None
    assert found.left_at == NOW
    with pytest.raises(Refused) as raised:
        scribe.record("ann")
    assert raised.value.code == "holder-left"
    change(scribe, found, found._replace(left_at=0))
    scribe.record("ann")
    with pytest.raises(NotFound), scribe.db.transaction("test") as tx:
        people.mark_left(tx, "nobody", NOW, "user:root")
