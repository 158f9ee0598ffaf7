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
    with pytest.raises(Conflict) as raised:  # whoever asks has decided under another e-mail, and that stands in the draft
        scribe.record("ann", email="other@example.com", device="tablet")
    assert raised.value.code == "other-email"
    scribe.record("ann", email="ANN@example.com", groups=("ops",), device="phone")
    found = scribe.reads.holder("ann")
    assert found is not None
    assert (found.name, found.email, found.groups, found.devices) == ("Ann", "ann@example.com", ("ops", "staff"), ("laptop", "phone"))


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (Holder("ann", "person", email="boss@corp.example"), Holder("Boss@Corp.Example", "person"), "login-taken"),
        (Holder("boss@corp.example", "person"), Holder("ann", "person", email="BOSS@corp.example"), "email-taken"),
        (Holder("ann", "person", email="boss@corp.example"), Holder("boss@corp.example", "device"), "login-taken"),
        (Holder("ann", "person", email="boss@corp.example"), Holder("boss@corp.example", "person", email="ann@corp.example"), "login-taken"),
    ],
)
def test_nobodys_login_is_anothers_e_mail(scribe: Scribe, first: Holder, second: Holder, code: str) -> None:
    """In whatever way the second one comes: added, with a certificate, in one batch with the first, or by a change."""
    drafts = [scribe.draft(one.login, kind=one.kind, email=one.email) for one in (first, second)]
    with pytest.raises(Conflict) as raised:
        scribe.ledger.record_many(drafts, owner="me", now=NOW)
    assert raised.value.code == code
    add(scribe, first)
    for act in (lambda: add(scribe, second), lambda: scribe.ledger.record(*drafts[1], owner="me", now=NOW)):
        with pytest.raises(Conflict) as raised:
            act()
        assert raised.value.code == code
    assert [holder.login for holder in scribe.reads.holders("person", "device")] == [first.login]
    if second.email:
        other = Holder("carl", "person", created_at=NOW)
        add(scribe, other)
        if code == "email-taken":
            with pytest.raises(Conflict) as raised:
                change(scribe, other, other._replace(email=second.email))
            assert raised.value.code == code


def test_ones_own_e_mail_may_be_ones_login(scribe: Scribe) -> None:
    boss = Holder("boss@corp.example", "person", email="boss@corp.example", created_at=NOW)
    scribe.record(boss.login, email=boss.email)
    scribe.record(boss.login, email=boss.email, device="phone")
    with scribe.db.transaction("test") as tx:
        people.change(tx, boss._replace(devices=("phone",)), boss._replace(devices=("phone",), email=""), "user:root", NOW)
        people.change(tx, boss._replace(devices=("phone",), email=""), boss._replace(devices=("phone",)), "user:root", NOW)
    assert scribe.reads.holder_by_email(boss.email) == boss._replace(devices=("phone",))


@pytest.mark.parametrize("together", [False, True])
def test_a_login_has_one_spelling(scribe: Scribe, together: bool) -> None:
    """Two who ask at the same moment have both found nobody."""
    first, second = scribe.draft("Zed", device="d1"), scribe.draft("zed", device="d2")
    if not together:
        scribe.ledger.record(*first, owner="me", now=NOW)
    with pytest.raises(Conflict) as raised:
        scribe.ledger.record_many([first, second] if together else [second], owner="me", now=NOW)
    assert raised.value.code == "login-taken"
    assert "'Zed'" in raised.value.message


@pytest.mark.parametrize("together", [False, True])
def test_a_login_has_one_e_mail(scribe: Scribe, together: bool) -> None:
    first, second = scribe.draft("ann", email="a@example.com", device="d1"), scribe.draft("ann", email="b@example.com", device="d2")
    if not together:
        scribe.ledger.record(*first, owner="me", now=NOW)
    with pytest.raises(Conflict) as raised:
        scribe.ledger.record_many([first, second] if together else [second], owner="me", now=NOW)
    assert raised.value.code == "other-email"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("person", "person", "key-of-another"),
        ("server", "person", "key-of-another"),
        ("person", "server", "key-of-another"),
        ("authority", "person", "key-of-authority"),
        ("person", "authority", "key-of-another"),
        ("server", "server", ""),
    ],
)
def test_a_key_has_one_holder(scribe: Scribe, first: str, second: str, code: str, together: bool) -> None:
    """Whatever policy saw: two requests with one key may have been decided at the same moment."""
    key = "ab" * 32
    drafts = [scribe.draft(f"{kind}:{number}", kind=kind, spki_sha256=key) for number, kind in enumerate((first, second))]
    if not together:
        scribe.ledger.record(*drafts[0], owner="me", now=NOW)
    act = drafts if together else drafts[1:]
    if code:
        with pytest.raises(Refused) as raised:
            scribe.ledger.record_many(act, owner="me", now=NOW)
        assert raised.value.code == code
    else:
        scribe.ledger.record_many(act, owner="me", now=NOW)
    scribe.record(f"{first}:0", kind=first, spki_sha256=key, device="another")  # one's own key, once more


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
