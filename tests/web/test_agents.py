"""The endpoints of agents: the long poll that wakes at once, however many wait; who is answered; and what strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey import app
from gatekey.authority import access, bundle, clock, crl, issue, package, people, requests
from gatekey.authority import revoke as verbs
from gatekey.authority.authority import Authority
from gatekey.authority.standing import Standing
from gatekey.errors import GatekeyError, Malformed, Refused, Unavailable
from gatekey.keys import material
from gatekey.model.instants import DAY, iso
from gatekey.model.package import pack, unpack
from gatekey.model.request import CertificateId
from gatekey.protocols import agents as protocol
from gatekey.protocols.message import Answer, Call, Peer
from gatekey.testing import FakeClock
from gatekey.web.agents import Agents
from gatekey.webserver import agent_bundle
from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate
from gatekey.x509.crl import encode_entry
from gatekey.x509.names import rfc2253
from kit import administrator
from kit.cases import cases
from kit.homes import template
from kit.servers import wait_until

__all__ = ["template"]

#: Later than the founding of the home.
START = int(time.time()) + 7200


class Log:
    def __init__(self) -> None:
        self.failures: list[BaseException] = []

    def failure(self, event: str, error: BaseException, **_: Any) -> None:
        self.failures.append(error)


class Service:
    """One worker's endpoints over a home of its own, without sockets. `compare` is what a worker does ten times a second."""

    def __init__(self, home: Path) -> None:
        self.time = FakeClock(START)
        self.authority = app.open_authority(home, clock=self.time)
        self.log = Log()
        self.more: list[Authority] = []
        self.agents, self.standing = self.worker(self.authority)
        self.web1 = self.person("web1", "proxy")
        self.compare()

    def worker(self, authority: Authority) -> tuple[Agents, Standing]:
        issuers = {rfc2253(authority.issuing(record.name).certificate.subject): record.name for record in authority.side("people")}
        standing = Standing(authority.reads, authority.clock, issuers, {})
        return Agents(authority, standing, self.log), standing  # type: ignore[arg-type]  # all that it needs of a log

    def person(self, login: str, *roles: str) -> bytes:
        """A new certificate (DER) of somebody with these roles."""
        key = material.make("p256")
        request, holder = requests.client(self.authority, login, key.spki)
        der = issue.issue(self.authority, request, holder).der
        if roles:
            access.set_roles(self.authority, login, add=roles)
        return der

    def compare(self) -> None:
        self.agents.follow(self.standing.refresh())

    def revoke(self, der: bytes) -> None:
        verbs.revoke(self.authority, CertificateId("people", read_certificate(der).serial))

    @property
    def number(self) -> int:
        return self.authority.reads.revocation_number()

    def close(self) -> None:
        self.agents.end()
        if self.agents._thread:
            self.agents._thread.join(5)
        self.authority.close()


@pytest.fixture
def service(template: Path, tmp_path: Path) -> Iterator[Service]:
    home = administrator.copied(template, tmp_path / "home")
    made = Service(home)
    yield made
    made.close()


def call(der: bytes = b"", query: str = "", *headers: tuple[str, str], body: bytes = b"", path: str = "/agent/bundle") -> Call:
    return Call("private", "POST" if body else "GET", path, query, headers, body, Peer("127.0.0.1", der))


def asked(service: Service, der: bytes, query: str = "wait=0", *headers: tuple[str, str]) -> Answer:
    return asyncio.run(service.agents.bundle(call(der, query, *headers)))


def contents(answer: Answer) -> dict[str, bytes]:
    assert answer.status == 200
    return unpack(answer.body, 100)


def tag(answer: Answer) -> str:
    return dict(answer.headers)["etag"]


async def waiting(service: Service, count: int) -> None:
    while service.agents.waiting < count:  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0.01)


# What is answered


def test_the_bundle_is_the_one_that_agents_take(service: Service) -> None:
    answer = asked(service, service.web1)
    files = contents(answer)
    bundle = agent_bundle.understood(files, ())
    agent_bundle.admitted(bundle, agent_bundle.Memory(), START)
    agent_bundle.in_time(bundle, START)
    assert tag(answer) == f'"{hashlib.sha256(files["manifest.json"]).hexdigest()}"'
    assert dict(answer.headers)["content-type"] == "application/x-tar"
    assert dict(answer.headers)["cache-control"] == "no-store"
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as judge:  # any other reader of tar finds the same
        assert {member.name: judge.extractfile(member).read() for member in judge} == files  # type: ignore[union-attr]


def test_who_has_it_already_is_told_so(service: Service) -> None:
    first = asked(service, service.web1)
    again = asked(service, service.web1, "wait=0", ("if-none-match", tag(first)))
    assert (again.status, again.body, tag(again)) == (304, b"", tag(first))


def test_two_workers_make_the_same_bytes_also_at_other_times(service: Service) -> None:
    other, _ = service.worker(service.authority)
    first = asked(service, service.web1)
    service.time.move(seconds=5)
    service.standing.refresh()
    other.follow()
    second = asyncio.run(other.bundle(call(service.web1, "wait=0")))
    other.end()
    assert second.body == first.body


def test_a_revocation_is_in_the_next_one_and_other_events_make_no_new_one(service: Service) -> None:
    ann = service.person("ann")
    service.compare()
    before = asked(service, service.web1)
    access.make_token(service.authority, "web1", ("decide",))
    service.compare()
    assert tag(asked(service, service.web1)) == tag(before)
    service.revoke(ann)
    service.compare()
    files = contents(asked(service, service.web1))
    assert json.loads(files["manifest.json"])["number"] == service.number == 1
    assert read_certificate(ann).serial.encode() in files["revoked.map"]
    assert b"ann" not in files["people.json"]


def test_a_worker_that_is_behind_does_not_play_back_what_it_has(service: Service) -> None:
    """Another worker was faster: this one says nothing until it knows as much, and only when time is over what it has."""
    made = json.loads(contents(asked(service, service.web1))["manifest.json"])["made_at"]
    held = service.agents._package
    assert held is not None
    ahead = protocol.Wanted(held.number + 1, held.made_at, "0" * 64, 30)
    assert protocol.answer(held, ahead, last=False) is None
    late = protocol.answer(held, ahead, last=True)
    assert late is not None
    assert late.status == 200
    assert protocol.answer(held, protocol.Wanted(held.number, held.made_at, "0" * 64), last=False) is not None
    assert made == iso(held.made_at)


@pytest.mark.slow
def test_a_crl_that_nobody_signs_is_signed_after_a_moment(service: Service) -> None:
    """Whoever revoked died between the ledger and the CRL."""
    ann = service.person("ann")
    service.compare()
    asked(service, service.web1)
    service.authority.ledger.revoke(CertificateId("people", read_certificate(ann).serial), "unspecified", at=START, actor="t", entry=encode_entry)
    service.compare()
    begun = time.monotonic()
    files = contents(asked(service, service.web1))
    assert json.loads(files["manifest.json"])["number"] == 1
    assert package.PATIENCE * 0.9 < time.monotonic() - begun < 10
    assert crl.newest(service.authority, "people").revocation == 1  # type: ignore[union-attr]


def test_without_a_bundle_it_says_why(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise Unavailable("store-locked", "the key is in the safe")

    monkeypatch.setattr(bundle, "compose", cannot)
    monkeypatch.setattr("gatekey.web.agents._FIRST", 0.5)
    with pytest.raises(Unavailable, match="the key is in the safe") as caught:
        asked(service, service.web1)
    assert caught.value.code == "no-bundle"
    assert len(service.log.failures) == 1  # once, not at each attempt


# The long poll


def test_it_wakes_at_once(service: Service) -> None:
    ann = service.person("ann")
    service.compare()

    async def story() -> tuple[Answer, float]:
        first = await service.agents.bundle(call(service.web1, "wait=0"))
        waits = asyncio.create_task(service.agents.bundle(call(service.web1, "wait=30", ("if-none-match", tag(first)))))
        await waiting(service, 1)
        await asyncio.sleep(0.2)
        assert not waits.done()
        await asyncio.to_thread(service.revoke, ann)
        begun = time.monotonic()
        await asyncio.to_thread(service.compare)
        return await waits, time.monotonic() - begun

    answer, seconds = asyncio.run(story())
    assert json.loads(contents(answer)["manifest.json"])["number"] == 1
    assert seconds < 1
    assert service.agents.waiting == 0


def test_a_revocation_comes_through_while_the_ledger_never_holds_still(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else issues a certificate during each making, and somebody is revoked in the last one: neither is waited for."""
    real, count = bundle.compose, itertools.count()
    ann, bob = service.person("ann"), service.person("bob")
    service.compare()
    first = asked(service, service.web1)
    other = app.open_authority(service.authority.config.home, clock=service.time)
    service.more.append(other)

    def disturbed(*words: Any) -> bundle.Bundle:
        with ThreadPoolExecutor(1) as pool:  # another thread, so that it is no part of this one's view of the ledger
            pool.submit(issue.issue, other, *requests.client(other, f"new{next(count)}", material.make("p256").spki)).result()
            if len(service.authority.reads.revoked(("people",), START)) == 1:
                pool.submit(verbs.revoke, other, CertificateId("people", read_certificate(bob).serial)).result()
        return real(*words)

    monkeypatch.setattr(bundle, "compose", disturbed)

    async def until(number: int, has: str) -> tuple[str, dict[str, bytes]]:
        waits = asyncio.create_task(service.agents.bundle(call(service.web1, "wait=20", ("if-none-match", has))))
        while not waits.done():
            await asyncio.to_thread(service.compare)
            await asyncio.sleep(0.02)
        answer = await waits
        files = contents(answer)
        return (tag(answer), files) if json.loads(files["manifest.json"])["number"] >= number else await until(number, tag(answer))

    service.revoke(ann)
    begun = time.monotonic()
    has, files = asyncio.run(until(1, tag(first)))
    assert read_certificate(ann).serial.encode() in files["revoked.map"]
    _, files = asyncio.run(until(2, has))
    assert read_certificate(bob).serial.encode() in files["revoked.map"]
    assert time.monotonic() - begun < 5


def test_while_people_are_revoked_without_a_pause_what_is_known_is_told(service: Service) -> None:
    """No CRL is ever complete then: a bundle whose CRL holds more than the last one's says up to where, and its lists hold all of it."""
    ann, bob, carl = (service.person(login) for login in ("ann", "bob", "carl"))
    maker = package.Maker(service.authority)
    assert maker.make()
    service.revoke(ann)
    service.authority.ledger.revoke(CertificateId("people", read_certificate(bob).serial), "unspecified", at=START, actor="t", entry=encode_entry)
    made = maker.make()
    assert made
    assert made.number == 1
    files = unpack(made.body, 100)
    assert agent_bundle.understood(files, ()).number == 1
    assert all(read_certificate(one).serial.encode() in files["revoked.map"] for one in (ann, bob))
    assert maker.make() is None, "nothing new is complete; the signer has a moment"
    service.revoke(carl)
    again = maker.make()
    assert again
    assert again.number == 3


def test_new_certificates_share_a_bundle_and_a_revocation_waits_for_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = package.Maker.make

    def counted(self: package.Maker) -> package.Package | None:
        found = real(self)
        made.extend([found.number] if found else [])
        return found

    monkeypatch.setattr(package.Maker, "make", counted)
    monkeypatch.setattr("gatekey.web.agents._GATHER", 60.0)
    ann = service.person("ann")
    service.compare()
    first = asked(service, service.web1)

    async def story() -> Answer:
        waits = asyncio.create_task(service.agents.bundle(call(service.web1, "wait=30", ("if-none-match", tag(first)))))
        await waiting(service, 1)
        for number in range(5):
            await asyncio.to_thread(service.person, f"new{number}")
            await asyncio.to_thread(service.compare)
        await asyncio.sleep(0.1)
        assert not waits.done()
        await asyncio.to_thread(service.revoke, ann)
        await asyncio.to_thread(service.compare)
        return await waits

    files = contents(asyncio.run(story()))
    assert json.loads(files["manifest.json"])["number"] == 1
    assert b"new4" in files["people.json"]
    assert made == [0, 1]


def test_thousands_wait_for_one_package(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = package.Maker.make

    def counted(self: package.Maker) -> package.Package | None:
        found = real(self)
        if found:
            made.append(found.number)
        return found

    monkeypatch.setattr(package.Maker, "make", counted)
    ann = service.person("ann")
    service.compare()

    async def story() -> tuple[list[Answer], int, float]:
        first = await service.agents.bundle(call(service.web1, "wait=0"))
        question = call(service.web1, "wait=30", ("if-none-match", tag(first)))
        waits = [asyncio.create_task(service.agents.bundle(question)) for _ in range(2000)]
        await waiting(service, 2000)
        threads = threading.active_count()
        busy = time.process_time()
        await asyncio.sleep(0.5)
        busy = time.process_time() - busy
        await asyncio.to_thread(service.revoke, ann)
        await asyncio.to_thread(service.compare)
        return await asyncio.gather(*waits), threads, busy

    answers, threads, busy = asyncio.run(story())
    assert {answer.status for answer in answers} == {200}
    assert len({id(answer.body) for answer in answers}) == 1  # shared, not copied
    assert made == [0, 1]
    assert threads < 40
    assert busy < 0.25  # to wait costs nothing
    assert service.agents.waiting == 0


def test_when_time_is_over_there_is_nothing_new(service: Service) -> None:
    first = asked(service, service.web1)
    begun = time.monotonic()
    assert asked(service, service.web1, "wait=1", ("if-none-match", tag(first))).status == 304
    assert 0.9 < time.monotonic() - begun < 5


def test_who_waits_is_let_go_when_the_service_ends(service: Service) -> None:
    async def story() -> Answer:
        first = await service.agents.bundle(call(service.web1, "wait=0"))
        waits = asyncio.create_task(service.agents.bundle(call(service.web1, "wait=30", ("if-none-match", tag(first)))))
        await waiting(service, 1)
        service.agents.end()
        return await asyncio.wait_for(waits, 5)

    assert asyncio.run(story()).status == 304


def test_whose_certificate_is_revoked_while_it_waits_gets_nothing(service: Service) -> None:
    async def story() -> Answer:
        first = await service.agents.bundle(call(service.web1, "wait=0"))
        waits = asyncio.create_task(service.agents.bundle(call(service.web1, "wait=30", ("if-none-match", tag(first)))))
        await waiting(service, 1)
        await asyncio.sleep(1.1)  # before, it has just been looked up
        await asyncio.to_thread(service.revoke, service.web1)
        await asyncio.to_thread(service.compare)
        return await waits

    with pytest.raises(Refused) as caught:
        asyncio.run(story())
    assert caught.value.code == "sign-in"


def test_nothing_is_made_when_nobody_asks(service: Service) -> None:
    service.revoke(service.person("ann"))
    service.compare()
    wait_until(lambda: clock.of(service.authority, service.authority.reads.by_holder("ann")[0]).ticks[-1].place == "service", "the service has taken it over")
    assert service.agents._package is None


def test_the_other_thread_is_left_alone_while_nobody_asks_and_nobody_is_revoked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    pokes: list[int] = []
    real = service.agents._poke

    def poke() -> None:
        pokes.append(service.number)
        real()

    monkeypatch.setattr(service.agents, "_poke", poke)
    for number in range(5):
        service.person(f"p{number}")
        service.compare()
    assert pokes == []
    for number in (0, 1):
        service.revoke(service.person(f"q{number}"))
        service.person(f"r{number}")
        service.compare()
        holder = service.authority.reads.by_holder(f"q{number}")[0]
        wait_until(lambda: "service" in {tick.place for tick in clock.of(service.authority, holder).ticks}, "the service has taken it over")  # noqa: B023
    assert pokes == [1, 2]


def test_who_asks_after_a_long_time_gets_what_is_true_now(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has looked at the ledger for packages meanwhile."""
    ann = service.person("ann")
    service.compare()
    first = asked(service, service.web1)
    monkeypatch.setattr("gatekey.web.agents._ASKED_LATELY", 0.0)
    service.revoke(ann)
    service.compare()
    record = service.authority.reads.by_holder("ann")[0]
    wait_until(lambda: "service" in {tick.place for tick in clock.of(service.authority, record).ticks}, "the thread that makes packages has had its turn")
    assert service.agents._package is not None
    assert service.agents._package.number == 0, "nothing is made when nobody asks"
    monkeypatch.undo()
    service.agents._asked -= 1000
    second = asked(service, service.web1, "wait=0", ("if-none-match", tag(first)))
    assert json.loads(contents(second)["manifest.json"])["number"] == 1


# Who is answered


@pytest.mark.parametrize("role", ["", "auditor", "operator", "administrator"])
def test_other_roles_are_not_answered(service: Service, role: str) -> None:
    other = service.person("other", *((role,) if role else ()))
    asks: tuple[Callable[[], Answer], ...] = (
        lambda: asked(service, other),
        lambda: service.agents.report(call(other, body=b'{"number":0,"at":0}')),
        lambda: service.agents.renew(call(other)),
    )
    for ask in asks:
        with pytest.raises(Refused) as caught:
            ask()
        assert caught.value.code in ("forbidden", "sign-in")


def test_nobody_and_those_who_have_lost_it_are_not_answered(service: Service) -> None:
    with pytest.raises(Refused, match="needed here"):
        asked(service, b"")
    with pytest.raises(Refused, match="needed here"):  # what a header says of who is there is not read
        asked(service, b"", "wait=0", ("x-client-user", "web1"), ("client-cert", "x"), ("x-ssl-client-verify", "SUCCESS"))
    access.set_roles(service.authority, "web1", remove=("proxy",))
    with pytest.raises(Refused) as caught:
        asked(service, service.web1)
    assert caught.value.code == "forbidden"
    access.set_roles(service.authority, "web1", add=("proxy",))
    service.revoke(service.web1)
    with pytest.raises(Refused, match="is not in force here"):
        asked(service, service.web1)


def test_a_token_is_answered_as_far_as_it_reaches(service: Service) -> None:
    service.person("op", "operator")
    _, decides = access.make_token(service.authority, "web1", ("decide",))
    _, reads = access.make_token(service.authority, "op", ("read",))
    assert asked(service, b"", "wait=0", ("authorization", f"Bearer {decides}")).status == 200
    for wrong, code in ((f"Bearer {reads}", "forbidden"), ("Bearer gkt_0_0", "sign-in"), ("Basic d2ViMTp4", "sign-in"), (f"Bearer {'x' * 300}", "sign-in")):
        with pytest.raises(Refused) as caught:
            asked(service, service.web1, "wait=0", ("authorization", wrong))  # the better certificate beside it does not mend a wrong token
        assert caught.value.code == code


# What strangers send


@pytest.mark.parametrize("query", ["after=x", "wait=-2", "made=1.5", "other=1", "after=99999999999999999999", "wait=", "wait=٣", "a=1&" * 50, "=&="])
def test_questions_that_make_no_sense(service: Service, query: str) -> None:
    with pytest.raises(Malformed) as caught:
        asked(service, service.web1, query)
    assert caught.value.code == "bad-agent-call"


@cases(60)
@given(st.text(max_size=200), st.text(max_size=100))
def test_any_question_is_read_or_refused(query: str, match: str) -> None:
    with contextlib.suppress(GatekeyError):
        found = protocol.wanted(call(b"", query, ("if-none-match", match)))
        assert 0 <= found.wait <= protocol.LONGEST_WAIT


@given(st.one_of(st.binary(max_size=200), st.builds(lambda value: json.dumps(value).encode(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["number", "at", "name", "x"]), inner, max_size=4), max_leaves=8))))  # fmt: skip
def test_any_report_is_read_or_refused(body: bytes) -> None:
    try:
        number, at, name = protocol._report(body)
    except Malformed:
        return
    assert min(number, at) >= 0
    assert len(name) <= 64


def test_nobody_reports_for_another(service: Service) -> None:
    web2 = service.person("web2", "proxy")
    ann = service.person("ann")
    service.compare()
    service.revoke(ann)
    for der, name in ((service.web1, ""), (web2, "web1"), (web2, "nginx")):
        body = json.dumps({"number": 1, "at": START, "name": name}).encode()
        assert service.agents.report(call(der, body=body)).status == 204
    told = clock.of(service.authority, service.authority.reads.by_holder("ann")[0])
    assert {tick.place for tick in told.ticks} - {"service"} == {"CRL", "agent web1", "agent web2/web1", "agent web2/nginx"}


def test_a_report_of_what_has_not_happened_is_refused_and_times_that_cannot_be_are_ours(service: Service) -> None:
    ann = service.person("ann")
    with pytest.raises(Refused) as caught:
        service.agents.report(call(service.web1, body=b'{"number": 1, "at": 1}'))
    assert caught.value.code == "bad-report"
    service.revoke(ann)
    service.time.move(seconds=60)
    for at, name, kept in ((START - 5, "early", START + 60), (START + 10, "right", START + 10), (START + DAY, "late", START + 60)):
        service.agents.report(call(service.web1, body=json.dumps({"number": 1, "at": at, "name": name}).encode()))
        told = clock.of(service.authority, service.authority.reads.by_holder("ann")[0])
        assert {tick.place: tick.at for tick in told.ticks}[f"agent web1/{name}"] == kept


# The clock


def test_the_clock_says_who_took_it_over_and_who_did_not(service: Service) -> None:
    ann, bob = service.person("ann"), service.person("bob")
    service.revoke(ann)

    def report(number: int, name: str) -> None:
        service.agents.report(call(service.web1, body=json.dumps({"number": number, "at": service.time.at, "name": name}).encode()))

    report(1, "a")
    report(1, "b")
    service.time.move(seconds=3)
    service.revoke(bob)
    report(2, "a")
    record = service.authority.reads.by_holder("bob")[0]
    told = clock.of(service.authority, record)
    at = {tick.place: tick.at for tick in told.ticks if tick.place != "service"}
    assert at == {"CRL": START + 3, "agent web1/a": START + 3}
    assert told.waiting == ("agent web1/b",) or set(told.waiting) == {"agent web1/b", "service"}
    first = clock.of(service.authority, service.authority.reads.by_holder("ann")[0])
    assert {tick.place: tick.at for tick in first.ticks}["agent web1/b"] == START
    assert str(told).startswith(f"revoked {iso(START + 3)}; CRL {iso(START + 3)[11:19]}; ")
    assert "agent web1/b not yet" in str(told)
    service.time.move(days=40)  # dismantled long ago: nobody waits for it
    carl = service.person("carl")
    service.revoke(carl)
    assert "agent web1/b" not in clock.of(service.authority, service.authority.reads.by_holder("carl")[0]).waiting


def test_a_certificate_in_force_has_no_clock(service: Service) -> None:
    service.person("ann")
    told = clock.of(service.authority, service.authority.reads.by_holder("ann")[0])
    assert told == clock.Clock(None)
    assert told.as_dict() == {"revoked_at": None, "taken_over": [], "waiting": [], "last_let_in": None}


def test_what_is_given_back_and_taken_again_counts_from_the_second_time(service: Service) -> None:
    ann = CertificateId("people", read_certificate(service.person("ann")).serial)
    verbs.hold(service.authority, ann)
    service.agents.report(call(service.web1, body=json.dumps({"number": 1, "at": START}).encode()))
    verbs.unhold(service.authority, ann)
    assert clock.of(service.authority, service.authority.reads.by_holder("ann")[0]).ticks == ()
    service.time.move(seconds=9)
    verbs.hold(service.authority, ann)
    told = clock.of(service.authority, service.authority.reads.by_holder("ann")[0])
    assert ("CRL", START + 9) in told.ticks
    assert "agent web1" in told.waiting


# Renewal


def test_an_agent_renews_exactly_its_own_certificate_and_not_too_early(service: Service) -> None:
    with pytest.raises(Refused) as caught:
        service.agents.renew(call(service.web1))
    assert caught.value.code == "renew-early"
    service.time.move(days=250)
    answer = service.agents.renew(call(service.web1))
    ders = [der for _, der in pem.decode(answer.body)]
    fresh, old = read_certificate(ders[0]), read_certificate(service.web1)
    assert (fresh.spki, fresh.subject) == (old.spki, old.subject)
    assert fresh.not_after > old.not_after
    assert len(ders) == 2
    assert service.agents.renew(call(service.web1)).body == answer.body  # the answer was lost: the same one again, and no second successor
    assert people.get(service.authority, "web1").login == "web1"
    assert len(service.authority.reads.by_holder("web1")) == 2


def test_a_token_renews_nothing(service: Service) -> None:
    _, secret = access.make_token(service.authority, "web1", ("decide",))
    with pytest.raises(Refused) as caught:
        service.agents.renew(call(b"", "", ("authorization", f"Bearer {secret}")))
    assert caught.value.code == "bad-agent-call"


# The package


@cases(60)
@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.binary(max_size=1500), min_size=1, max_size=6))
def test_what_is_packed_comes_out(files: dict[str, bytes]) -> None:
    packed = pack(files)
    assert unpack(packed, 10) == files
    assert pack(dict(reversed(files.items()))) == packed
    with tarfile.open(fileobj=io.BytesIO(packed)) as judge:
        assert {member.name: judge.extractfile(member).read() for member in judge} == files  # type: ignore[union-attr]


@given(st.data())
def test_nothing_else_is_unpacked(data: st.DataObject) -> None:
    packed = bytearray(pack({"manifest.json": b"{}", "a.txt": b"A" * 600}))
    place = data.draw(st.integers(0, len(packed) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    if kind == "flip":
        packed[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del packed[place:]
    else:
        at = place if kind == "insert" else len(packed)
        packed[at:at] = data.draw(st.binary(min_size=1, max_size=600))
    try:
        found = unpack(bytes(packed), 10)
    except Malformed as refused:
        assert refused.code == "bundle-damaged"
    else:
        assert pack(found) == bytes(packed)  # a changed byte of a file is for the manifest's hashes to find


@given(st.binary(max_size=3000))
def test_any_bytes_are_unpacked_or_refused(body: bytes) -> None:
    with contextlib.suppress(Malformed):
        unpack(body, 10)


def test_other_tars_are_refused() -> None:
    for member in (tarfile.TarInfo("../x"), tarfile.TarInfo("a/b"), tarfile.TarInfo(".x")):
        with pytest.raises(Malformed):
            unpack(member.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024, 10)
    link = tarfile.TarInfo("x")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(Malformed):
        unpack(link.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024, 10)
    with pytest.raises(Malformed, match="more than 1 files"):
        unpack(pack({"a": b"", "b": b""}), 1)
