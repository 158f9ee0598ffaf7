"""Several worker processes on one ledger: a revocation through one is felt in all, and a worker, or all of them, may be killed at any moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from cryptography.x509 import ocsp as judge

from gatekey.authority import access
from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate
from kit.desk import csr
from kit.front import Front, front
from kit.servers import wait_until

pytestmark = pytest.mark.slow

GOOD, REVOKED = judge.OCSPCertStatus.GOOD, judge.OCSPCertStatus.REVOKED
#: Wall-clock seconds from the answer to whoever revoked until the last worker refuses.
WITHIN = 1.0


def ocsp_of(f: Front, connection: HTTPConnection, serial: str) -> judge.OCSPCertStatus:
    return judge.load_der_ocsp_response(f.ask(connection, "POST", "/ocsp", f.question(serial)).body).certificate_status


@pytest.mark.parametrize("workers", [2, 3])
def test_what_one_worker_takes_away_all_refuse_within_a_second(tmp_path: Path, workers: int) -> None:
    """Through the API of each worker in turn; asked over decision, OCSP and the API itself on open connections to every worker, from the very answer on."""
    with front(tmp_path, workers=workers) as f:
        through = f.to_each_worker(lambda: f.private("boss"), workers)
        public, proxy = f.to_each_worker(f.public, workers), f.to_each_worker(f.proxy, workers)
        for boss, verb in zip(through, ("revoke", "leave", "hold"), strict=False):
            taken_away_through(f, boss, verb, public, proxy)


def taken_away_through(f: Front, boss: HTTPConnection, verb: str, public: list[HTTPConnection], proxy: list[HTTPConnection]) -> None:
    workers, login = len(proxy), f"{verb}-it"
    with f.service.authority() as authority:
        issued = authority.issue_client(login)
        access.set_roles(authority._core, login, add=["auditor"])
        f.introduce(authority, login, pem.decode(issued.certificate)[0][1], issued.key)
    serial = issued.serial
    own = f.to_each_worker(lambda login=login: f.private(login), workers)  # type: ignore[misc]  # bound at once
    still_in: dict[str, Callable[[], bool]] = {}
    for place in range(workers):
        still_in[f"decision {place}"] = lambda c=proxy[place], s=serial: f.ask(c, "GET", "/decision", headers=f.named(s)).status == 200  # type: ignore[misc]
        still_in[f"ocsp {place}"] = lambda c=public[place], s=serial: ocsp_of(f, c, s) is GOOD  # type: ignore[misc]
        still_in[f"api {place}"] = lambda c=own[place]: f.ask(c, "GET", "/v1/people").status == 200  # type: ignore[misc]
    wait_until(lambda still_in=still_in: all(ask() for ask in still_in.values()), "everybody knows the new certificate", 5)  # type: ignore[misc]
    path = f"/v1/people/{login}/leave" if verb == "leave" else f"/v1/certificates/{login}/{verb}"
    assert f.ask(boss, "POST", path, {}).status == 200
    answered = time.monotonic()
    last = dict.fromkeys(still_in, 0.0)
    while time.monotonic() < answered + 1.25 * WITHIN:  # also afterwards nobody changes his mind
        for name, ask in still_in.items():
            if ask():
                last[name] = time.monotonic() - answered
    assert max(last.values()) < WITHIN, {name: round(seconds, 3) for name, seconds in last.items()}
    assert {ocsp_of(f, connection, serial) for connection in public} == {REVOKED}
    assert {f.ask(connection, "GET", "/v1/people").status for connection in own} == {401}
    for connection in own:
        connection.close()


class Clerk(threading.Thread):
    """Issues, and revokes every third, again and again; keeps what was acknowledged. A connection that breaks is no acknowledgement, and it goes on."""

    def __init__(self, f: Front, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.f = f
        self.ended = threading.Event()
        self.issued: dict[str, str] = {}  # serial -> fingerprint
        self.revoked: list[str] = []
        self.in_question: set[str] = set()
        self.broken = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        connection = self.f.private("boss")
        number = 0
        while not self.ended.wait(0.01):
            number += 1
            try:
                told = self.f.ask(connection, "POST", "/v1/certificates/sign", {"csr": csr(f"{self.name}-{number}"), "profile": "client"})
                if told.status >= 500:  # no acknowledgement either
                    self.broken += 1
                    continue
                if told.status != 201:
                    self.wrong.append(f"{told.status} {told.body[:200]!r}")
                    continue
                der = pem.decode(told.json["pem"].encode())[0][1]
                serial = told.json["serial"]
                self.issued[serial] = read_certificate(der).fingerprint
                if number % 3 == 0:
                    self.in_question.add(serial)  # whether or not we hear the answer
                    told = self.f.ask(connection, "POST", f"/v1/certificates/{serial}/revoke", {})
                    if told.status == 200:
                        self.revoked.append(serial)
                    elif told.status < 500:
                        self.wrong.append(f"{told.status} {told.body[:200]!r}")
            except (OSError, HTTPException):
                self.broken += 1
                connection.close()
                self.ended.wait(0.02)  # nobody may be listening just now
        connection.close()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Front, list[Clerk]]]:
    """A service of three workers, and four clerks who are at it."""
    with front(tmp_path, workers=3) as f:
        clerks = [Clerk(f, f"c{number}") for number in range(4)]
        for clerk in clerks:
            clerk.start()
        try:
            more(clerks, 16)
            yield f, clerks
        finally:
            for clerk in clerks:
                clerk.ended.set()


def more(clerks: list[Clerk], count: int) -> None:
    """Waits until so many more certificates and some more revocations were acknowledged."""
    issued, revoked = sum(len(clerk.issued) for clerk in clerks), sum(len(clerk.revoked) for clerk in clerks)
    wait_until(lambda: sum(len(clerk.issued) for clerk in clerks) >= issued + count, "more certificates", 60)
    wait_until(lambda: sum(len(clerk.revoked) for clerk in clerks) >= revoked + count // 8, "more revocations", 60)


def nothing_is_lost(f: Front, clerks: list[Clerk], workers: int) -> None:
    """Each acknowledged certificate is in the ledger as it was handed out; each acknowledged revocation is refused by every worker; the store is whole."""
    for clerk in clerks:
        clerk.ended.set()
    for clerk in clerks:
        clerk.join(30)
        assert not clerk.wrong, clerk.wrong[:3]
    issued = {serial: fingerprint for clerk in clerks for serial, fingerprint in clerk.issued.items()}
    revoked = {serial for clerk in clerks for serial in clerk.revoked}
    live = issued.keys() - {serial for clerk in clerks for serial in clerk.in_question}
    assert revoked
    assert live
    with f.service.authority() as authority:
        reads = authority._core.reads
        for serial, fingerprint in issued.items():
            (record,) = reads.by_serial(serial)
            assert (record.state, record.fingerprint) == ("released", fingerprint), serial
            assert bool(record.revoked_at) or serial not in revoked, serial
    for connection in f.to_each_worker(f.proxy, workers):
        assert {f.ask(connection, "GET", "/decision", headers=f.named(serial)).status for serial in revoked} == {403}
        assert {f.ask(connection, "GET", "/decision", headers=f.named(serial)).status for serial in live} == {200}
    for connection in f.to_each_worker(f.public, workers):
        assert {ocsp_of(f, connection, serial) for serial in revoked} == {REVOKED}
    told = f.ask(f.private("boss"), "POST", "/v1/store/check", {})
    assert told.status == 200, told.body
    assert told.json["whole"] is True, told.body


def test_workers_that_are_killed_while_they_write_lose_nothing(busy: tuple[Front, list[Clerk]]) -> None:
    f, clerks = busy
    for count in (1, 2):
        victims = f.service.workers()[:count]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        more(clerks, 16)  # the others go on meanwhile
        wait_until(lambda victims=victims: len(f.service.workers()) == 3 and not {*victims} & {*f.service.workers()}, "other workers")  # type: ignore[misc]
    assert f.events("worker-died") + f.events("worker-not-ready") == 3
    assert sum(clerk.broken for clerk in clerks) > 0, "somebody was in the middle of something"
    nothing_is_lost(f, clerks, 3)


def test_a_supervisor_that_is_killed_leaves_nobody_behind_and_loses_nothing(busy: tuple[Front, list[Clerk]]) -> None:
    f, clerks = busy
    f.kill_supervisor()
    f.start(f.service.public, f.service.private)
    more(clerks, 16)
    assert sum(clerk.broken for clerk in clerks) > 0, "somebody was in the middle of something"
    nothing_is_lost(f, clerks, 3)
