"""The same question twice, in whatever order two workers answer it: what is told is the one answer, or "ask again"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.authority import answers, issue
from gatekey.authority import revoke as revocation
from gatekey.authority.authority import Authority
from gatekey.authority.republish import Republisher
from gatekey.errors import GatekeyError, Unavailable
from gatekey.lifecycle import Released
from gatekey.protocols.api import table
from gatekey.store import answers as rows
from gatekey.store.admission import LEASE
from gatekey.store.database import Database
from kit.desk import Desk, Told, csr, told

ISSUING: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "client": ("client", lambda: {"login": "ann", "device": "laptop", "for": "pem"}),
    "client with a request": ("client", lambda: {"login": "ann", "device": "laptop", "csr": csr("ann")}),
    "sign": ("sign", lambda: {"profile": "client", "csr": csr("ann")}),
    "server": ("server", lambda: {"hosts": ["app.example"]}),
    "renew": ("aud/renew", dict),
    "renew with a new key": ("aud/renew", lambda: {"new_key": True}),
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("verb", ISSUING)
def test_another_worker_was_quicker_after_the_key_was_looked_up(desk: Desk, verb: str) -> None:
    path, body = ISSUING[verb]
    asked = ("boss", "POST", f"/v1/certificates/{path}", body())
    slow = desk.gate.prepare(desk.call(*asked, key="twin"))
    first = desk.ask(*asked, key="twin")
    second = told(desk.gate.answer_many([slow])[0])
    assert first.status == 201
    _one_answer(desk, first, second)
    if "serial" in second.json:
        assert (second.json["key"], second.json["pkcs12"]) == (None, None)
        assert second.json["handed_out"] == ("never" if "csr" in asked[3] or verb == "renew" else "earlier")


@pytest.mark.parametrize("verb", ISSUING)
def test_another_worker_was_quicker_before_the_facts_were_read(desk: Desk, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, body = ISSUING[verb]
    asked = ("boss", "POST", f"/v1/certificates/{path}", body())
    look, quicker = answers.issued, []

    def late(authority: Authority, key: str, digest: str) -> Released | None:
        monkeypatch.setattr(answers, "issued", look)
        found = look(authority, key, digest)
        quicker.append(desk.ask(*asked, key="twin"))
        return found

    monkeypatch.setattr(answers, "issued", late)
    _one_answer(desk, desk.ask(*asked, key="twin"), quicker[0])


def _one_answer(desk: Desk, one: Told, other: Told) -> None:
    """Both were told of the same certificate, or one of them to ask again; and there is one."""
    assert {one.status, other.status} <= {201, 503}, (one.body, other.body)
    assert {answer.code for answer in (one, other) if answer.status == 503} <= {"idempotency-in-use"}
    serials = {answer.json["serial"] for answer in (one, other) if answer.status == 201}
    assert len(serials) == 1
    assert [one["subject"].rpartition("/")[2] for one in _events(desk) if one["action"] == "certificate.release"][-1] in serials


@pytest.mark.parametrize("verb", ISSUING)
def test_a_key_is_for_an_issuance_or_for_something_else(desk: Desk, verb: str) -> None:
    """Whichever comes first, also when the other has looked its key up before."""
    path, body = ISSUING[verb]
    slow = desk.gate.prepare(desk.call("boss", "POST", f"/v1/certificates/{path}", body(), key="twin"))
    assert desk.ask("boss", "POST", "/v1/people", {"login": "zoe"}, key="twin").status == 201
    second = told(desk.gate.answer_many([slow])[0])
    assert (second.status, second.code) == (409, "idempotency-reused")


def test_what_is_refused_for_a_reason_of_its_own_stays_refused(desk: Desk) -> None:
    """A key that nobody has used changes no refusal, and a key that belongs to something else is told as such."""
    asked = ("boss", "POST", "/v1/certificates/client")
    assert desk.ask(*asked, {"login": "ann", "device": "laptop"}).status == 201
    assert desk.ask(*asked, {"login": "ann", "device": "laptop"}, key="late").code == "device-has-one"
    slow = desk.gate.prepare(desk.call(*asked, {"login": "ann", "device": "laptop"}, key="one"))
    assert desk.ask("boss", "POST", "/v1/certificates/server", {"hosts": ["app.example"]}, key="one").status == 201
    assert told(desk.gate.answer_many([slow])[0]).code == "idempotency-reused"


# A process that dies on the way


class Died(BaseException):
    """Stands for a kill: nobody catches it, and nothing is done after it."""


#: Routes that are one transaction with their answer: what is asked, and what is asked before it.
DEEDS: dict[str, Any] = {
    "revoke": (("POST", "/v1/certificates/aud/revoke", {"reason": "superseded"}),),
    "hold": (("POST", "/v1/certificates/aud/hold", {}),),
    "unhold": (("POST", "/v1/certificates/aud/unhold", {}), ("POST", "/v1/certificates/aud/hold", {})),
    "addPerson": (("POST", "/v1/people", {"login": "eve", "groups": ["staff"]}),),
    "changePerson": (("PATCH", "/v1/people/ann", {"remove_groups": ["staff"]}),),
    "setRoles": (("PUT", "/v1/people/olga/roles", {"roles": ["auditor"]}),),
    "leave": (("POST", "/v1/people/aud/leave", {}),),
    "makeToken": (("POST", "/v1/tokens", {"login": "boss", "scopes": ["read"], "about": "x"}),),
    "revokeToken": (("DELETE", "/v1/tokens/{token}", {}),),
}
#: Those that are more than that, and harmless when they are done again.
APART = {"installAuthority", "makeCrl", "putProfile", "repairStore", "checkSite"}


def test_every_route_that_writes_is_one_of_these() -> None:
    writes = [route for route in table.ROUTES if route.writes and not route.issues]
    assert {route.name for route in writes if not route.apart} == set(DEEDS)
    assert {route.name for route in writes if route.apart} == APART


@pytest.mark.parametrize("happened", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("name", DEEDS)
def test_a_deed_and_its_answer_are_there_together_or_not_at_all(desk: Desk, name: str, happened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (method, path, body), *before = DEEDS[name]
    path = path.replace("{token}", desk.ask("boss", "GET", "/v1/tokens").json["items"][0]["id"])
    for first in before:
        assert desk.ask("boss", *first).status == 200
    events = len(_events(desk))
    asked: Any = ("boss", method, path, None if method == "DELETE" else body)
    commit = Database._commit

    def killed(self: Database, connection: Any, name: str) -> None:
        if happened:
            commit(self, connection, name)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_commit", killed)
        with pytest.raises(Died):
            desk.ask(*asked, key="K")
    assert (len(_events(desk)) > events) is happened
    told = desk.ask(*asked, key="K")
    assert told.status in (200, 201), told.body
    done = _events(desk)
    assert desk.ask(*asked, key="K").json == ({**told.json, "token": None} if name == "makeToken" else told.json)
    assert _events(desk) == done
    if name == "makeToken":
        made = [one for one in desk.ask("boss", "GET", "/v1/tokens").json["items"] if one["about"] == "x"]
        assert [one["id"] for one in made] == [told.json["id"]]
        assert (told.json["token"] is None) is happened  # it was told to nobody: revoke it, and make another


def test_what_follows_is_done_after_the_commit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CRL is recorded and signed in transactions of its own, out of what everybody can see."""
    inside: list[bool] = []

    def tell(authority: Authority, issuers: set[str]) -> list[GatekeyError]:
        inside.append(authority.ledger.db._turn.locked())
        return real(authority, issuers)

    real = revocation.tell
    monkeypatch.setattr(revocation, "tell", tell)
    assert desk.ask("boss", "POST", "/v1/certificates/aud/revoke", {}, key="K").status == 200
    assert inside == [False]


def test_in_a_service_the_crl_follows_too(desk: Desk) -> None:
    desk.authority.republish = Republisher(desk.authority, desk.authority.lives).at_once
    told = desk.ask("boss", "POST", "/v1/certificates/aud/hold", {}, key="K").json
    newest = desk.authority.reads.newest_crl("people")
    assert newest is not None
    assert newest.revocation == told["number"]


def test_web_servers_that_could_not_be_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the ledger: the first answer says what failed after that, and asking again says what was done."""
    asked: Any = ("boss", "POST", "/v1/certificates/aud/revoke", {})
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "tell", lambda *_: [Unavailable("disk-full", "no room is left", hint="make room")])
        first = desk.ask(*asked, key="K")
    assert (first.status, first.code) == (503, "disk-full")
    assert first.json["detail"].startswith("it stands in the ledger, but the web servers were not told")
    assert desk.ask(*asked, key="K").json["certificates"][0]["holder"] == "aud"


def _claimed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Somebody died between the deed and its answer, where the two are not one transaction."""
    asked: Any = ("boss", "POST", "/v1/authorities/people/crl", {})
    with monkeypatch.context() as patch:
        patch.setattr(rows, "finish", lambda *_: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            desk.ask(*asked, key="K")
    return asked


def test_a_claim_ends_with_its_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _claimed(desk, monkeypatch)
    told = desk.ask(*asked, key="K")
    assert (told.status, told.code, told.headers["retry-after"]) == (503, "idempotency-in-use", "1")  # for all we know it is at work
    assert "over in 121 seconds" in told.json["hint"]
    monkeypatch.setattr(desk.authority, "lives", lambda _: False)
    assert desk.ask(*asked, key="K").status == 200


def test_nobody_is_sent_away_for_longer_than_a_claim_lasts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _claimed(desk, monkeypatch)
    waited = []
    while (told := desk.ask(*asked, key="K")).status == 503:
        waited.append(int(told.headers["retry-after"]))
        desk.clock.move(seconds=waited[-1])
    assert told.status == 200
    assert (sum(waited), len(waited) < 12) == (LEASE + 1, True), waited


def test_an_issuance_whose_process_is_gone_says_how_long_that_takes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("boss", "POST", "/v1/certificates/server", {"hosts": ["app.example"]})
    with monkeypatch.context() as patch:
        patch.setattr(issue, "sign", lambda *_: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            desk.ask(*asked, key="K")
    assert desk.ask(*asked, key="K").headers["retry-after"] == "1"
    desk.clock.move(seconds=20)
    monkeypatch.setattr(desk.authority, "lives", lambda _: False)
    told = desk.ask(*asked, key="K")
    assert (told.status, told.code, told.headers["retry-after"]) == (503, "idempotency-in-use", "101")
    assert "a process that is gone" in told.json["detail"]
    desk.clock.move(seconds=101)
    assert desk.ask(*asked, key="K").status == 201


def test_a_profile_that_is_there_already(desk: Desk) -> None:
    """What an interrupted attempt has put there; without a key, or with other words, it is somebody else's."""
    text = desk.ask("boss", "GET", "/v1/profiles/client").json["toml"].replace("[profile.client]", "[profile.visitor]")
    assert desk.ask("boss", "PUT", "/v1/profiles/visitor", {"toml": text}).status == 200
    events = _events(desk)
    assert desk.ask("boss", "PUT", "/v1/profiles/visitor", {"toml": text}).code == "profile-exists"
    assert desk.ask("boss", "PUT", "/v1/profiles/visitor", {"toml": text + "\n"}, key="one").code == "profile-exists"
    assert desk.ask("boss", "PUT", "/v1/profiles/visitor", {"toml": text}, key="two").json["toml"] == text
    assert _events(desk) == events


def _events(desk: Desk) -> list[dict[str, Any]]:
    return list(desk.ask("boss", "GET", "/v1/audit?limit=1000").json["items"])
