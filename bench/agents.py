"""Agents over the network: from revocation to refusal with a real `gatekey serve`, `gatekey agent` and nginx, and what waiting agents cost.

    PYTHONPATH=src:tests python bench/agents.py [refusal] [waiting]

refusal: two workers; from the call of `revoke` until the last time that its owner was let in, on an open connection, with a resumed session (nginx is made to
resume for this), and on new connections; medians of 20, at most 1 s. waiting: that many long polls at one worker (no sockets); what they cost while nothing
happens, and how long it takes after a revocation until the last of them has its answer.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REVOCATIONS, MOST_SECONDS, AGENTS = 20, 1.0, 3000


def refusal(folder: Path) -> bool:
    from gatekey.authority import revoke
    from gatekey.webserver.answer import Answer
    from kit import asked, faraway
    from kit.doors import STARTERS

    original = STARTERS["nginx"]

    def resuming(text: str, *more: Any, **options: Any) -> Any:  # our configuration resumes nothing: here it must, to be tried
        return original(text.replace("ssl_session_cache off;", "ssl_session_cache shared:bench:1m;"), *more, **options)

    STARTERS["nginx"] = resuming
    ways = ("open connection", "resumed session", "new connection")
    took: dict[str, list[float]] = {way: [] for way in ways}
    took["(the call itself)"] = []
    with asked.service(folder / "service") as s, s.admin.open() as authority, faraway.site(folder / "site", s) as d:
        people = {way: [_person(authority, f"{way[0]}{number}") for number in range(REVOCATIONS)] for way in ways}
        _settled(d, authority)
        for number in range(REVOCATIONS):
            for way in ways:
                who, identity = people[way][number]
                line = d.open(identity, tls="1.2")
                assert line.ask(d.knock(keep=True)).status == 200
                spans: list[float] = []

                def take(who: Any = who, spans: list[float] = spans) -> None:
                    spans.append(time.monotonic())
                    revoke.revoke(authority, who, "superseded")
                    spans.append(time.monotonic())

                thread = threading.Thread(target=take)
                thread.start()
                last, refusals = time.monotonic(), 0
                while refusals < 6 or len(spans) < 2:
                    before = time.monotonic()
                    answer: Answer | None
                    if way == "open connection":
                        answer = line.ask(d.knock(keep=True))
                    elif way == "resumed session":
                        answer = _resumed(d, identity, line)
                    else:
                        answer = d.visit(identity)
                    refusals, last = (0, before) if answer is not None and answer.status == 200 else (refusals + 1, last)
                thread.join()
                line.close()
                took[way].append(max(0.0, last - spans[0]))
                took["(the call itself)"].append(spans[1] - spans[0])
                _settled(d, authority)
    fine = True
    for way, spans in took.items():
        middle = statistics.median(spans)
        fine &= way.startswith("(") or middle <= MOST_SECONDS
        limit = "" if way.startswith("(") else f"   (limit {MOST_SECONDS:g} s)"
        print(f"revoke to refused, agent over the network, nginx, {way:17} median {middle:5.3f} s   worst {max(spans):5.3f} s{limit}")
    return fine


def _person(authority: Any, login: str) -> tuple[Any, Any]:
    """A new certificate: its issuer and serial, and what a visitor needs."""
    from gatekey.authority import requests
    from gatekey.authority.issue import issue
    from gatekey.keys import material
    from gatekey.webserver.knock import Identity
    from gatekey.x509 import pem

    key = material.make("p256")
    released = issue(authority, *requests.client(authority, login, key.spki))
    chain = b"".join(pem.encode("CERTIFICATE", der) for der in (released.der, authority.issuing("people").certificate.der))
    return released.id, Identity(chain, pem.encode("PRIVATE KEY", key.pkcs8()), login)


def _settled(d: Any, authority: Any) -> None:
    """Returns when the agent has brought everything and nothing moves any more."""
    quiet, seen = time.monotonic(), b""
    while time.monotonic() - quiet < 0.7 or d.status["serving"]["number"] != authority.reads.revocation_number():
        now = d.bundle.with_name("bundle.agent.json").read_bytes()
        quiet, seen = (quiet, seen) if now == seen else (time.monotonic(), now)
        time.sleep(0.02)


def _resumed(d: Any, identity: Any, line: Any) -> Any:
    """One request on a connection that resumes the session of `line`; None when the handshake is refused."""
    from gatekey.webserver.knock import Budget, Line, connect

    again = connect(d.knock(identity, keep=True, tls="1.2"), Budget(1, 30, 15), resume=line)
    if not isinstance(again, Line):
        return None
    answer = again.ask(d.knock(keep=True))
    again.close()
    return answer


def waiting(folder: Path) -> bool:
    from gatekey import app
    from gatekey.authority import access, requests, revoke
    from gatekey.authority.issue import issue
    from gatekey.authority.standing import Standing
    from gatekey.keys import material
    from gatekey.protocols.message import Call, Peer
    from gatekey.web.agents import Agents
    from gatekey.x509.names import rfc2253
    from kit import administrator

    administrator.found(folder / "home")
    authority = app.open_authority(folder / "home")

    def person(login: str) -> Any:
        key = material.make("p256")
        return issue(authority, *requests.client(authority, login, key.spki))

    agent, ann = person("web1"), person("ann")
    access.set_roles(authority, "web1", add=("proxy",))
    issuers = {rfc2253(authority.issuing(record.name).certificate.subject): record.name for record in authority.side("people")}
    standing = Standing(authority.reads, authority.clock, issuers, {})
    service = Agents(authority, standing, None)  # type: ignore[arg-type]  # nothing is logged

    def compare() -> None:
        standing.refresh()
        service.follow()

    def call(*headers: tuple[str, str], wait: int = 30) -> Call:
        return Call("private", "GET", "/agent/bundle", f"wait={wait}", headers, b"", Peer("127.0.0.1", agent.der))

    async def story() -> tuple[float, float, float]:
        compare()
        first = await service.bundle(call(wait=0))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        question = call(("if-none-match", dict(first.headers)["etag"]))
        polls = [asyncio.create_task(service.bundle(question)) for _ in range(AGENTS)]
        while service.waiting < AGENTS:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.05)
        each = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 / AGENTS
        busy = time.process_time()
        await asyncio.sleep(2)
        busy = (time.process_time() - busy) / 2
        await asyncio.to_thread(revoke.revoke, authority, ann.id)
        begun = time.monotonic()
        await asyncio.to_thread(compare)
        await asyncio.gather(*polls)
        return each, busy, time.monotonic() - begun

    each, busy, spread = asyncio.run(story())
    service.end()
    authority.close()
    print(f"{AGENTS} waiting agents: {each:.0f} bytes each, {100 * busy:.1f} % of a core while they wait; all answered {spread:.3f} s after the comparison")
    return spread <= MOST_SECONDS


def main() -> int:
    parts = {"refusal": refusal, "waiting": waiting}
    fine = True
    for word in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as folder:
            fine &= parts[word](Path(folder))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
