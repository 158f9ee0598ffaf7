"""The same question twice, in whatever order two workers answer it: what is told is the one answer, or "ask again"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.authority import answers
from gatekey.authority.authority import Authority
from gatekey.lifecycle import Released
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
    events = desk.ask("boss", "GET", "/v1/audit?limit=1000").json["items"]
    assert [one["subject"].rpartition("/")[2] for one in events if one["action"] == "certificate.release"][-1] in serials


def test_what_is_refused_for_a_reason_of_its_own_stays_refused(desk: Desk) -> None:
    """A key that nobody has used changes no refusal, and a key that belongs to something else is told as such."""
    asked = ("boss", "POST", "/v1/certificates/client")
    assert desk.ask(*asked, {"login": "ann", "device": "laptop"}).status == 201
    assert desk.ask(*asked, {"login": "ann", "device": "laptop"}, key="late").code == "device-has-one"
    slow = desk.gate.prepare(desk.call(*asked, {"login": "ann", "device": "laptop"}, key="one"))
    assert desk.ask("boss", "POST", "/v1/certificates/server", {"hosts": ["app.example"]}, key="one").status == 201
    assert told(desk.gate.answer_many([slow])[0]).code == "idempotency-reused"
