"""Keys that take a while are made beside everything else, in turns, and for nobody who may not have them any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatekey.authority import access
from gatekey.errors import Unavailable
from gatekey.keys import material
from gatekey.protocols.message import Answer, Call
from gatekey.web import api, keymaking, server
from kit.desk import Desk, csr, told
from kit.servers import wait_until

CLIENT = "/v1/certificates/client"
#: More than asyncio has threads.
MANY = 40


class Slow:
    """Makes RSA keys when it is told to, and notes in which thread."""

    def __init__(self, desk: Desk) -> None:
        self.open = threading.Event()
        self.made: list[str] = []
        self.begun = 0
        desk.gate._desk = desk.gate._desk._replace(make_key=self.make)

    def make(self, kind: str) -> Any:
        if not kind.startswith("rsa-"):
            return material.make(kind)
        self.begun += 1
        assert self.open.wait(20)
        self.made.append(threading.current_thread().name.partition("_")[0])
        return material.make("p256")  # as good here, and much faster


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.fixture
def slow(desk: Desk) -> Slow:
    return Slow(desk)


def rsa(desk: Desk, login: str, *, who: str = "olga", **more: Any) -> Call:
    return desk.call(who, "POST", CLIENT, {"login": login, "key_type": "rsa-4096", "for": "pem", **more})


def by_token(call: Call, secret: str) -> Call:
    return call._replace(peer=call.peer._replace(certificate=b""), headers=(*call.headers, ("authorization", f"Bearer {secret}")))


@asynccontextmanager
async def waiting(clerk: api.Clerk, slow: Slow, calls: list[Call]) -> AsyncIterator[list[asyncio.Future[Answer]]]:
    """Asks, and goes on when the first key is being made."""
    asked = [asyncio.ensure_future(clerk.answer(call)) for call in calls]
    try:
        await asyncio.to_thread(wait_until, lambda: slow.begun, "the first key")
        yield asked
    finally:
        slow.open.set()
        await asyncio.gather(*asked, return_exceptions=True)


def test_everything_else_goes_on_while_keys_are_made(desk: Desk, slow: Slow) -> None:
    async def ask() -> tuple[list[int], list[int]]:
        clerk = api.Clerk(desk.gate)
        async with waiting(clerk, slow, [rsa(desk, f"v{number}") for number in range(MANY)]) as asked, asyncio.timeout(10):
            calls = [
                desk.call("boss", "POST", "/v1/certificates/nobody/revoke", {"reason": "key-compromise"}),
                desk.call("boss", "POST", "/v1/people/ann/leave", {}),
                desk.call("boss", "GET", "/v1/me"),
                desk.call("boss", "POST", CLIENT, {"login": "quick"}),
                desk.call("boss", "POST", "/v1/certificates/sign", {"csr": csr("sign"), "profile": "client"}),
            ]
            answered = [(await clerk.answer(call)).status for call in calls]
            slow.open.set()
            return answered, [one.status for one in await asyncio.gather(*asked)]

    answered, keys = asyncio.run(ask())
    assert answered == [200, 200, 200, 201, 201]
    assert keys.count(201) == keymaking.MOST_EACH == len(slow.made)
    assert set(keys) == {201, 429}
    assert set(slow.made) == {"keys"}


def test_who_has_had_enough_hears_when_to_come_back(desk: Desk, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keymaking, "MOST_EACH", 1)
    monkeypatch.setattr(keymaking, "MOST", 2)

    async def ask() -> list[Answer]:
        clerk = api.Clerk(desk.gate)
        async with waiting(clerk, slow, [rsa(desk, "first")]) as first:
            hers = await clerk.answer(rsa(desk, "second"))
            his = asyncio.ensure_future(clerk.answer(rsa(desk, "third", who="boss")))
            await asyncio.to_thread(wait_until, lambda: clerk._keys._lines, "the second in the line")
            full = await clerk.answer(rsa(desk, "fourth", who="issue"))
            slow.open.set()
            return [*await asyncio.gather(*first, his), hers, full, await clerk.answer(rsa(desk, "fifth"))]

    one, two, hers, full, later = map(told, asyncio.run(ask()))
    assert [one.status, two.status, later.status] == [201, 201, 201]
    assert (hers.status, hers.code, hers.headers["retry-after"]) == (429, "too-many-requests", "5")
    assert b"1 keys for olga are being made already, and each takes a while" in hers.body
    assert b"gatekey request" in hers.body
    assert full.status == 429
    assert b'"2 keys are being made already, and each takes a while"' in full.body


def test_each_has_a_turn() -> None:
    done: list[str] = []

    async def ask() -> None:
        maker = keymaking.Keymaker()
        asked = [maker.make(who, lambda said=f"{who}{number}": done.append(said)) for who in "abc" for number in range(3)]  # type: ignore[misc]  # a default
        asked[1].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        maker.end()

    asyncio.run(ask())
    assert done == ["a0", "b0", "c0", "b1", "c1", "a2", "b2", "c2"]


def test_a_key_that_fails_holds_up_nobody() -> None:
    async def ask() -> list[Any]:
        maker = keymaking.Keymaker()
        found = await asyncio.gather(*(maker.make("a", lambda by=by: 1 // by) for by in (0, 1)), return_exceptions=True)  # type: ignore[misc]  # a default
        with pytest.raises(Unavailable):
            for _ in range(keymaking.MOST_EACH + 1):
                maker.make("a", int)
        return found

    failed, made = asyncio.run(ask())
    assert isinstance(failed, ZeroDivisionError)
    assert made == 1


def test_what_waits_for_its_key_is_refused_when_the_token_is_gone(desk: Desk, slow: Slow) -> None:
    """Not even the key is made."""
    token, secret = access.make_token(desk.authority, "olga", ["issue"])

    async def ask() -> list[int]:
        clerk = api.Clerk(desk.gate)
        calls = [rsa(desk, "boss-first", who="boss"), *(by_token(rsa(desk, f"v{number}", who=""), secret) for number in range(5))]
        async with waiting(clerk, slow, calls[:1]) as first, asyncio.timeout(20):
            asked = [asyncio.ensure_future(clerk.answer(call)) for call in calls[1:]]
            await asyncio.to_thread(wait_until, lambda: clerk._keys._held["olga"] == 5, "all of them in the line")
            assert (await clerk.answer(desk.call("boss", "DELETE", f"/v1/tokens/{token.id}"))).status == 200
            slow.open.set()
            return [one.status for one in await asyncio.gather(*first, *asked)]

    assert asyncio.run(ask()) == [201, 401, 401, 401, 401, 401]
    assert len(slow.made) == 1


def test_who_still_waits_at_the_end_of_a_worker_is_told_to_ask_again(desk: Desk, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is issued: with the answer the key would be lost."""
    assert api.PATIENCE < server.GRACE
    monkeypatch.setattr(api, "PATIENCE", 0)
    real, writing, go_on = desk.gate.answer_many, threading.Event(), threading.Event()

    def many(calls: Any) -> list[Answer]:
        writing.set()
        assert go_on.wait(20)
        return real(calls)

    monkeypatch.setattr(desk.gate, "answer_many", many)

    async def ask() -> list[Answer]:
        clerk = api.Clerk(desk.gate)
        async with waiting(clerk, slow, [rsa(desk, "key0")]) as keys, asyncio.timeout(20):
            keys += [asyncio.ensure_future(clerk.answer(rsa(desk, f"key{number}"))) for number in (1, 2)]
            batch = [asyncio.ensure_future(clerk.answer(desk.call("boss", "POST", CLIENT, {"login": "batch"})))]
            assert await asyncio.to_thread(writing.wait, 20)
            batch += [asyncio.ensure_future(clerk.answer(desk.call("boss", "POST", CLIENT, {"login": "late"})))]
            await asyncio.to_thread(wait_until, lambda: clerk._waiting, "what waits for the next batch")
            await asyncio.to_thread(wait_until, lambda: clerk._keys._held["olga"] == 3, "the keys in the line")
            clerk.leave()
            sent = await asyncio.gather(*keys[1:], batch[1])
            slow.open.set()
            go_on.set()
            return [*await asyncio.gather(keys[0], batch[0]), *sent]

    answers = [told(one) for one in asyncio.run(ask())]
    assert [one.status for one in answers] == [201, 201, 503, 503, 503]
    assert [(one.code, one.headers["retry-after"]) for one in answers[2:]] == [("ending", "1")] * 3
    assert slow.made == ["keys"]
    assert desk.authority.reads.by_holder("late") == []


@pytest.mark.parametrize("more", [{"name": "csr"}, {"groups": ["csr"]}, {"device": "csr"}])
def test_a_word_in_the_body_brings_no_key_into_the_batch(desk: Desk, slow: Slow, more: dict[str, Any]) -> None:
    async def ask() -> list[int]:
        clerk = api.Clerk(desk.gate)
        async with waiting(clerk, slow, [rsa(desk, "late", **more)]) as late, asyncio.timeout(10):
            soon = await clerk.answer(desk.call("olga", "POST", "/v1/certificates/sign", {"csr": csr("soon"), "profile": "client"}))
            slow.open.set()
            return [soon.status, (await late[0]).status]

    assert asyncio.run(ask()) == [201, 201]
    assert slow.made == ["keys"]


def test_a_renewal_takes_the_kind_of_its_key_from_the_ledger(desk: Desk, slow: Slow) -> None:
    slow.open.set()

    async def ask() -> list[tuple[int, str]]:
        clerk = api.Clerk(desk.gate)
        desk.gate._desk = desk.gate._desk._replace(make_key=material.make)
        calls = [desk.call("olga", "POST", CLIENT, {"login": kind, "key_type": kind}) for kind in ("rsa-2048", "p384")]
        serials = [told(await clerk.answer(call)).json["serial"] for call in calls]
        desk.gate._desk = desk.gate._desk._replace(make_key=slow.make)
        found = []
        for serial in serials:
            answer = told(await clerk.answer(desk.call("olga", "POST", f"/v1/certificates/{serial}/renew", {"new_key": True})))
            found.append((answer.status, answer.json["key_type"]))
        return found

    assert asyncio.run(ask()) == [(201, "p256"), (201, "p384")]
    assert slow.made == ["keys"]
