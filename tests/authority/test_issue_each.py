"""Several issuances in one commit: each gets its own answer, and one that is refused spoils nothing."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey import app
from gatekey.authority import check, people, requests
from gatekey.authority import issue as steps
from gatekey.authority.authority import Authority
from gatekey.authority.issue import Asked, Outcome, issue_each
from gatekey.errors import Conflict, Unavailable
from gatekey.keys import material
from gatekey.lifecycle import Draft, Recorded, Signed
from gatekey.model.holder import Holder
from gatekey.model.names import Names
from gatekey.ports import Signer
from gatekey.store import admission
from gatekey.store.audit import Event
from gatekey.store.database import Database, Transaction
from gatekey.store.dialect import SQLite
from gatekey.testing import FakeClock
from gatekey.x509 import signature
from gatekey.x509.certificate import read_certificate
from gatekey.x509.csr import encode_csr, read_csr


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    made = app.create_authority(tmp_path / "home", app.Founding("Kitty CA", unencrypted_keys=True), clock=FakeClock())
    yield made
    made.close()


#: A key that more than one brings along.
SHARED = material.make("p256").spki


def asked(
    authority: Authority, login: str, *, key: str = "", email: str = "", device: str = "", alone: bool = True, days: int | None = None, spki: bytes = b""
) -> Asked:
    spki = spki or material.make("p256").spki
    request, holder = requests.client(
        authority, login, spki, email=email, device=device, days=days, idempotency=key or authority.entropy.bytes(8).hex()
    )
    return Asked(request, holder, alone)


def codes(outcomes: list[Outcome]) -> list[str]:
    return [one.refused.code if one.refused else "" for one in outcomes]


def test_nothing_is_asked(authority: Authority) -> None:
    assert issue_each(authority, []) == []


def test_a_batch_is_recorded_and_released_in_one_commit_each(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[str] = []
    real = Database._commit

    def commit(self: Database, connection: object, name: str) -> None:
        commits.append(name)
        real(self, connection, name)

    monkeypatch.setattr(Database, "_commit", commit)
    outcomes = issue_each(authority, [asked(authority, f"p{number}") for number in range(20)])
    assert commits == ["record certificates", "release certificates"]
    assert codes(outcomes) == [""] * 20
    for number, one in enumerate(outcomes):
        assert one.released is not None
        assert one.record is not None
        stored = authority.reads.by_serial(one.released.number)[0]
        assert one.record == stored
        assert stored.holder == f"p{number}"
        assert authority.ledger.der(stored.id) == one.released.der
        certificate = read_certificate(one.released.der)
        assert signature.verify(authority.issuing("people").certificate.spki, certificate.algorithm, certificate.signature, certificate.tbs)
    assert len({one.released.number for one in outcomes if one.released}) == 20
    assert check.findings(authority) == []


WRONG: dict[str, Callable[[Authority], Asked]] = {
    "days-too-many": lambda authority: asked(authority, "wrong", days=36000),
    "email-taken": lambda authority: asked(authority, "wrong", email="first@example.com"),
    "idempotency-in-use": lambda authority: asked(authority, "wrong", key="taken"),
    "certificate-in-flight": lambda authority: asked(authority, "first"),
    "key-of-another": lambda authority: asked(authority, "wrong", spki=SHARED),
    "other-email": lambda authority: asked(authority, "first", email="second@example.com", device="another"),
    "login-taken": lambda authority: asked(authority, "FIRST", device="another"),
    "holder-kind": lambda authority: asked(authority, "first")._replace(holder=Holder("first", "device"), alone=False),
}


@pytest.mark.parametrize("code", WRONG)
def test_one_bad_request_spoils_nothing(authority: Authority, code: str) -> None:
    """Also one that only the ledger can refuse, because of another in the very same batch."""
    batch = [asked(authority, "first", email="first@example.com", key="taken", spki=SHARED), WRONG[code](authority), asked(authority, "last")]
    outcomes = issue_each(authority, batch)
    told = codes(outcomes)
    assert (told[0], told[2]) == ("", "")
    assert told[1] in (code, "certificate-exists", "device-has-one", "idempotency-reused")
    assert [one.released is None for one in outcomes] == [False, True, False]
    assert authority.reads.in_flight(authority.now() + 1000) == 0
    assert check.findings(authority) == []


def test_any_mixture_is_answered_one_by_one(authority: Authority) -> None:
    dice = random.Random(5)
    for turn in range(5):
        batch, good = [], []
        for number in range(12):
            kind = dice.choice(["good", *WRONG])
            batch.append(asked(authority, f"g{turn}-{number}") if kind == "good" else WRONG[kind](authority))
            good.append(kind == "good")
        outcomes = issue_each(authority, batch)
        assert [one.released is not None for one, fine in zip(outcomes, good, strict=True) if fine] == [True] * sum(good)
        assert all((one.released is None) != (one.refused is None) for one in outcomes)
    assert check.findings(authority) == []


def test_what_policy_found_free_is_asked_again_when_it_is_recorded(authority: Authority) -> None:
    """Two processes have decided at the same moment; the second one to record is refused, and nothing of it is left."""
    pairs = [
        (asked(authority, "ann", spki=SHARED), asked(authority, "bob", spki=SHARED), "key-of-another"),
        (asked(authority, "carl", email="a@example.com", device="d1"), asked(authority, "carl", email="b@example.com", device="d2"), "other-email"),
        (asked(authority, "Zed", device="d1"), asked(authority, "zed", device="d2"), "login-taken"),
        (asked(authority, "dora", email="boss@example.com"), asked(authority, "Boss@example.com"), "login-taken"),
        (asked(authority, "chief@example.com"), asked(authority, "eve", email="chief@example.com"), "email-taken"),
    ]
    for first, second, code in pairs:
        assert codes(issue_each(authority, [first])) == [""]
        assert codes(issue_each(authority, [second])) == [code]
    assert check.findings(authority) == []


def machine(authority: Authority, name: str, *emails: str, profile: str = "device") -> Asked:
    """A request that brings its own e-mails."""
    key = material.make("p256")
    request, holder = requests.from_csr(authority, profile, read_csr(encode_csr(Names(name, emails=emails), key.spki, "p256", key.sign)))
    return Asked(request, holder, holder.alone)


def test_an_e_mail_of_somebody_stands_in_nobody_elses_certificate(authority: Authority) -> None:
    """Whatever the other is: an app that goes by e-mails would take the machine for her."""
    assert codes(issue_each(authority, [asked(authority, "boss", email="boss@x.org"), asked(authority, "chief@x.org")])) == ["", ""]
    for emails, said in (
        (["boss@x.org"], "boss@x.org belongs to 'boss', and stands in nobody else's certificate"),
        (["lamp@x.org", "BOSS@X.ORG"], "BOSS@X.ORG belongs to 'boss', and stands in nobody else's certificate"),
        (["Chief@x.org"], "Chief@x.org is the login of 'chief@x.org', and stands in nobody else's certificate"),
    ):
        with pytest.raises(Conflict) as raised:
            machine(authority, "lamp", *emails)
        assert (raised.value.code, raised.value.message, raised.value.hint) == ("email-taken", said, "leave it out, or ask in that name")
    assert codes(issue_each(authority, [machine(authority, "lamp", "lamp@x.org", "ops@x.org"), machine(authority, "bulb", "ops@x.org")])) == ["", ""]
    assert codes(issue_each(authority, [machine(authority, "boss", "Boss@x.org", profile="client")])) == ["device-has-one"], "she may have it, of course"


def test_an_e_mail_that_was_free_is_asked_again_when_it_is_recorded(authority: Authority) -> None:
    """Also in one and the same batch; what is not spoilt is issued."""
    late = [machine(authority, "lamp", "a@x.org", "boss@x.org"), machine(authority, "bulb", "chief@x.org"), machine(authority, "fan", "fan@x.org")]
    batch = [asked(authority, "boss", email="boss@x.org"), asked(authority, "chief@x.org"), *late]
    assert codes(issue_each(authority, batch)) == ["", "", "email-taken", "email-taken", ""]
    assert codes(issue_each(authority, late[:2])) == ["email-taken", "email-taken"]
    assert check.findings(authority) == []


def test_a_machine_is_not_renewed_with_an_e_mail_that_is_somebodys_by_now(authority: Authority) -> None:
    issue_each(authority, [machine(authority, "lamp", "boss@x.org")])
    (old,) = authority.reads.by_holder("lamp")
    waiting = Asked(*requests.renewal(authority, old, None))
    assert codes(issue_each(authority, [asked(authority, "boss", email="boss@x.org")])) == [""]
    assert codes(issue_each(authority, [waiting])) == ["email-taken"]
    with pytest.raises(Conflict, match=r"boss@x\.org belongs to 'boss'"):
        requests.renewal(authority, old, None)


def test_servers_may_share_a_key(authority: Authority) -> None:
    batch = [Asked(*requests.server(authority, [f"{name}.example"], SHARED)) for name in ("a", "b")]
    assert codes(issue_each(authority, batch)) == ["", ""]
    assert codes(issue_each(authority, [asked(authority, "ann", spki=SHARED)])) == ["key-of-another"]


def test_an_error_of_the_engine_that_nobody_foresaw_meets_one_only(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    real = admission.admit

    def admit(tx: Transaction, known: admission.Room, draft: Draft, holder: Holder, now: int, *, alone: bool) -> list[Event]:
        if holder.login == "wrong":
            tx.run("INSERT INTO device (login, device, added_at) VALUES ('nobody', 'x', 1)")
        return real(tx, known, draft, holder, now, alone=alone)

    monkeypatch.setattr(admission, "admit", admit)
    assert codes(issue_each(authority, [asked(authority, login) for login in ("ann", "wrong", "bob")])) == ["", "store-error", ""]


def test_one_key_that_breaks_does_not_keep_the_others(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    real = steps.sign

    def sign(core: Authority, recorded: Recorded, *more: Signer) -> Signed:
        if recorded.draft.issuer == "servers":
            raise Unavailable("key-busy", "the token does not answer")
        return real(core, recorded, *more)

    monkeypatch.setattr(steps, "sign", sign)
    batch = [asked(authority, "ann"), Asked(*requests.server(authority, ["app.example"], SHARED)), asked(authority, "bob")]
    assert codes(issue_each(authority, batch)) == ["", "key-busy", ""]


@pytest.mark.parametrize("size", [2, 60])
def test_a_batch_asks_the_ledger_a_few_questions(authority: Authority, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """What is read before anything is written; a person who is new is written with a few rows of her own."""
    questions: list[str] = []
    real = SQLite.execute

    def execute(self: SQLite, connection: sqlite3.Connection, sql: str, values: dict[str, object]) -> sqlite3.Cursor:
        if sql.startswith("SELECT"):
            questions.append(sql)
        return real(self, connection, sql, values)

    batch = [asked(authority, f"p{number}", email=f"p{number}@example.com")._replace(alone=True) for number in range(size)]
    batch = [one._replace(request=one.request._replace(idempotency="")) for one in batch]
    monkeypatch.setattr(SQLite, "execute", execute)
    assert codes(issue_each(authority, batch)) == [""] * size
    assert len(questions) <= 20, questions
    machines = [machine(authority, f"m{number}", f"m{number}@example.com", "ops@example.com") for number in range(size)]
    questions.clear()
    assert codes(issue_each(authority, machines)) == [""] * size
    assert len([one for one in questions if "holder WHERE lower(email)" in one]) == 1


def test_trouble_with_the_ledger_is_everybodys(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def locked(*_: object, **__: object) -> None:
        calls.append(1)
        raise Unavailable("store-locked", "another process holds the ledger")

    monkeypatch.setattr(authority.ledger, "record_many", locked)
    assert codes(issue_each(authority, [asked(authority, f"p{number}") for number in range(5)])) == ["store-locked"] * 5
    assert len(calls) == 1


def test_a_key_that_is_away_is_found_out_before_anything_is_recorded(authority: Authority) -> None:
    before = authority.reads.newest_event()
    (authority.config.home / "keys" / "people.key").unlink()
    batch = [asked(authority, "ann")]
    request, holder = requests.server(authority, ["app.example"], material.make("p256").spki, idempotency="s")
    outcomes = issue_each(authority, [*batch, Asked(request, holder)])
    assert codes(outcomes) == ["key-not-here", ""]
    assert [event.subject.partition("/")[0] for event in authority.reads.events(before + 1) if event.action == "certificate.record"] == ["servers"]


def test_a_row_is_told_as_the_ledger_has_it(authority: Authority) -> None:
    outcome = issue_each(authority, [asked(authority, "ann", email="ann@example.com", device="laptop")])[0]
    assert outcome.released is not None
    assert outcome.record == authority.reads.by_serial(outcome.released.number)[0]


def waiting(authority: Authority, way: str) -> Asked:
    """A certificate for ann, decided and not yet recorded: a passphrase is being typed, or a key made."""
    if way == "renewal":
        return Asked(*requests.renewal(authority, authority.reads.by_holder("ann")[0], material.make("p256").spki, proof="made-here"))
    if way == "client":
        return Asked(*requests.client(authority, "ann", material.make("p256").spki, device="another"))
    key = material.make("p256")
    return Asked(*requests.from_csr(authority, "client", read_csr(encode_csr(Names("ann"), key.spki, "p256", key.sign)), device="another"))


@pytest.mark.parametrize("way", ["renewal", "client", "csr"])
def test_what_was_taken_away_meanwhile_does_not_come_back(authority: Authority, way: str) -> None:
    """The holder that goes along is what was said of her, not what was read."""
    people.add(authority, Holder("ann", "person", "Ann", "ann@x.org", ("staff", "vpn"), ("old",)))
    assert codes(issue_each(authority, [asked(authority, "ann")])) == [""]
    late = waiting(authority, way)
    people.change(authority, "ann", name="Änn", remove_groups=("vpn",))
    assert codes(issue_each(authority, [late])) == [""]
    stands = authority.reads.holder("ann")
    assert stands is not None
    assert (stands.name, stands.email, stands.groups) == ("Änn", "ann@x.org", ("staff",))


@pytest.mark.parametrize("way", ["renewal", "client", "csr"])
@pytest.mark.parametrize(
    ("email", "said"), [("", "ann has no e-mail, and the certificate would say ann@x.org"), ("b@x.org", "ann has the e-mail b@x.org, not ann@x.org")]
)
def test_an_e_mail_that_is_hers_no_more_stands_in_no_certificate(authority: Authority, way: str, email: str, said: str) -> None:
    people.add(authority, Holder("ann", "person", email="ann@x.org"))
    assert codes(issue_each(authority, [asked(authority, "ann")])) == [""]
    late = waiting(authority, way)
    people.change(authority, "ann", email=email)
    (outcome,) = issue_each(authority, [late])
    assert outcome.refused is not None
    assert (outcome.refused.code, outcome.refused.message) == ("other-email", said)
    stands = authority.reads.holder("ann")
    assert stands is not None
    assert stands.email == email
    assert codes(issue_each(authority, [waiting(authority, way)])) == [""], "asked again, it says what she has now"


def test_an_e_mail_that_is_said_becomes_hers(authority: Authority) -> None:
    people.add(authority, Holder("ann", "person"))
    key = material.make("p256")
    request = read_csr(encode_csr(Names("ann", emails=("ann@x.org",)), key.spki, "p256", key.sign))
    assert codes(issue_each(authority, [Asked(*requests.from_csr(authority, "client", request))])) == [""]
    stands = authority.reads.holder("ann")
    assert stands is not None
    assert stands.email == "ann@x.org"
