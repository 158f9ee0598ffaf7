"""Questions of many kinds that are answered together: each gets its own answer, in its place, and what is refused is not issued."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.authority import access, check, revoke
from gatekey.keys import material
from gatekey.model.names import Names
from gatekey.protocols.api.gate import Prepared
from gatekey.protocols.message import Answer, Call
from gatekey.x509 import pem
from gatekey.x509.csr import encode_csr
from kit.desk import Desk, csr, told

SIGN = "/v1/certificates/sign"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def forged(login: str) -> str:
    """A request that another key has signed than the one in it."""
    key, another = material.make("p256"), material.make("p256")
    return pem.encode("CERTIFICATE REQUEST", encode_csr(Names(common_name=login), key.spki, "p256", another.sign)).decode()


def questions(desk: Desk) -> list[tuple[Call | Prepared, int, str, str]]:
    """What is asked; status, code of the refusal, and the login of whoever has a certificate afterwards."""
    private = pem.encode("PRIVATE KEY", material.make("p256").pkcs8()).decode()

    def sign(text: str, *, who: str = "boss", key: str = "") -> Call:
        return desk.call(who, "POST", SIGN, {"csr": text, "profile": "client"}, key=key)

    def client(login: str, **more: str) -> Call:
        return desk.call("boss", "POST", "/v1/certificates/client", {"login": login, **more})

    return [
        (sign(csr("p1")), 201, "", "p1"),
        (sign(forged("p2")), 400, "bad-proof", ""),
        (client("p3", csr=forged("p3")), 400, "bad-proof", ""),
        (desk.gate.prepare(client("p4", csr=forged("p4"))), 400, "bad-proof", ""),
        (client("p5", csr=csr("whoever")), 201, "", "p5"),
        (client("p6"), 201, "", "p6"),
        (desk.gate.prepare(client("p7")), 201, "", "p7"),
        (sign(private), 400, "wrong-kind", ""),
        (sign("no request"), 400, "unknown-file", ""),
        (sign(csr("p8"), who=""), 401, "sign-in", ""),
        (sign(csr("p9"), who="aud"), 403, "forbidden", ""),
        (sign(csr("once"), key="one"), 409, "idempotency-reused", ""),
        (desk.call("boss", "POST", SIGN, raw=b"{"), 400, "bad-request", ""),
        (desk.call("boss", "POST", SIGN, {"csr": csr("p10"), "profile": "nothing"}), 404, "no-profile", ""),
        (desk.call("boss", "GET", "/v1/me"), 200, "", ""),
        (sign(csr("boss2"), who="issue"), 201, "", "boss2"),
        (client("boss", csr=csr("boss"), device="another"), 201, "", ""),
        (desk.call("issue", "POST", "/v1/certificates/client", {"login": "boss", "csr": csr("boss"), "device": "third"}), 403, "above-caller", ""),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_each_gets_its_own_answer(desk: Desk, seed: int) -> None:
    assert desk.ask("boss", "POST", SIGN, {"csr": csr("once"), "profile": "client"}, key="one").status == 201
    asked = questions(desk)
    random.Random(seed).shuffle(asked)
    answers = [told(answer) for answer in desk.gate.answer_many([call for call, *_ in asked])]
    found = [(answer.status, answer.json.get("code", "")) for answer in answers]
    assert found == [(status, code) for _, status, code, _ in asked], [answer.body for answer in answers]
    issued = {answer.json["holder"] for answer in answers if answer.status == 201} - {"boss"}
    assert issued == {login for *_, login in asked if login}
    assert {one["login"] for one in desk.ask("boss", "GET", "/v1/people?limit=1000").json["items"] if one["login"].startswith("p")} == {"p1", "p5", "p6", "p7"}


def test_the_same_idempotency_key_twice_at_once(desk: Desk) -> None:
    text = csr("twin")
    calls = [desk.call("boss", "POST", SIGN, {"csr": text, "profile": "client"}, key="twin") for _ in range(3)]
    answers = [told(answer) for answer in desk.gate.answer_many(calls)]
    assert sorted(answer.status for answer in answers) == [201, 503, 503]
    again = told(desk.gate.answer_many(calls)[2])
    assert (again.status, again.json["serial"]) == (201, next(answer.json["serial"] for answer in answers if answer.status == 201))


def _revoke(desk: Desk) -> None:
    revoke.revoke(desk.authority, desk.authority.reads.by_holder("olga")[0].id, "unspecified")


def _hold(desk: Desk) -> None:
    revoke.hold(desk.authority, desk.authority.reads.by_holder("olga")[0].id)


def _later(desk: Desk) -> None:
    desk.clock.at += 91 * 86400


def _token(desk: Desk) -> None:
    for token in access.tokens(desk.authority, "olga"):
        access.revoke_token(desk.authority, token.id)


def _auditor(desk: Desk) -> None:
    access.set_roles(desk.authority, "olga", add=["auditor"], remove=["operator"])


@pytest.mark.parametrize(
    ("way", "taken"),
    [
        *(("certificate", act) for act in (_revoke, _hold, _auditor, lambda desk: revoke.leave(desk.authority, "olga"))),
        *(("token", act) for act in (_token, _later, _auditor, lambda desk: revoke.leave(desk.authority, "olga"))),
    ],
)
@pytest.mark.parametrize("few", [False, True])
def test_whoever_may_no_more_gets_nothing_that_waits_for_the_batch(desk: Desk, way: str, taken: Callable[[Desk], object], few: bool) -> None:
    """Asked in the transaction that records: between the question and that lies the making of a key, and other batches."""
    _, secret = access.make_token(desk.authority, "olga", ["issue", "read"])
    boss = access.make_token(desk.authority, "boss", ["issue"], days=300)[1]

    def client(login: str, secret: str) -> Call:
        call = desk.call("olga", "POST", "/v1/certificates/client", {"login": login})
        token = (("authorization", f"Bearer {secret}"),) if secret else ()
        return call._replace(headers=(*call.headers, *token), peer=call.peer._replace(certificate=b"" if secret else call.peer.certificate))

    late = desk.gate.prepare(client("late", secret if way == "token" else ""))
    good = desk.gate.prepare(client("good", boss))
    assert not isinstance(late.result, Answer)
    taken(desk)
    answers = [told(answer) for answer in desk.gate.answer_many([late] if few else [late, good])]
    assert (answers[0].status, answers[0].code) == (401, "sign-in")
    assert f"the {way}, its holder or what the holder may was taken away while the request was under way" in answers[0].body.decode()
    assert [answer.status for answer in answers[1:]] == ([] if few else [201])
    assert desk.authority.reads.by_holder("late") == []
    assert desk.authority.reads.holder("late") is None
    assert taken is _later or check.findings(desk.authority) == []
