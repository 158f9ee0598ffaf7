"""Sessions that are really resumed, before web servers that ask the decision endpoint and before one with an agent: a revocation counts for them, too.

As Gatekey writes their configuration nginx, Apache and HAProxy resume nothing; that is shown first. Then they are made to, which an operator may do, and what
`session_reused` says is asserted before anything is concluded from an answer. Caddy resumes as it stands, over TLS 1.3 and 1.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.webserver.answer import Answer
from gatekey.webserver.knock import Identity, Line
from kit.asked import AskingDoor, Service, asking, service
from kit.backend import MARK
from kit.faraway import FarDoor, site
from kit.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

VERSIONS = ("1.2", "1.3")
#: What keeps a server from resuming, and what stands there instead for this test.
LOOSENED: dict[str, tuple[tuple[str, str], ...]] = {
    "nginx": (("ssl_session_cache off;", "ssl_session_cache shared:gatekey:1m;"), ("ssl_session_tickets off;", "ssl_session_tickets on;")),
    "apache": (("SSLSessionTickets off", "SSLSessionTickets on"),),
    "haproxy": ((" no-tls-tickets", ""), ("tune.ssl.cachesize 0", "tune.ssl.cachesize 100")),
    "caddy": (),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), workers=2) as s:
        yield s


@pytest.fixture(scope="module", params=LOOSENED)
def d(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, asked: Service) -> Iterator[AskingDoor]:
    """As it is written."""
    ann = asked.person(f"ann-{request.param}")
    with asking(request.param, tmp_path_factory.mktemp(request.param), asked, (ann, ann)) as door:
        yield door


@pytest.fixture(scope="module", params=LOOSENED)
def loose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, asked: Service) -> Iterator[AskingDoor]:
    """Made to resume."""
    bob = asked.person(f"bob-{request.param}")
    with asking(request.param, tmp_path_factory.mktemp(request.param), asked, (bob, bob)) as door:
        text = door.server.text
        for wanted, instead in LOOSENED[door.kind]:
            assert wanted in text, f"{door.kind}: {wanted!r} is not written any more"
            text = text.replace(wanted, instead)
        door.server.write(text)
        door.reload()
        yield door


def begun(d: AskingDoor | FarDoor, who: Identity, version: str) -> Line:
    """A connection that was let in, and has whatever session there is to have."""
    line = d.open(who, tls=version)
    assert not line.resumed
    assert line.ask(d.knock(who, keep=True)).status == 200
    return line


def once_more(d: AskingDoor | FarDoor, who: Identity, version: str, earlier: Line) -> tuple[Line, Answer]:
    """Another connection that offers the session of an earlier one, and the answer on it."""
    line = d.open(who, tls=version, resume=earlier)
    return line, line.ask(d.knock(who, keep=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_as_it_is_written_only_caddy_resumes(d: AskingDoor, version: str) -> None:
    earlier = begun(d, d.ann, version)
    line, answer = once_more(d, d.ann, version, earlier)
    assert answer.status == 200
    assert (line.resumed, answer.resumed) == ((True, True) if d.kind == "caddy" else (False, False))
    line.close()
    earlier.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_is_resumed_after_a_revocation_is_refused(loose: AskingDoor, version: str) -> None:
    """Begun before it and resumed after it; and resumed before it, with the connection still open."""
    login = f"eve-{loose.kind}-{version.replace('.', '')}"
    refused_although_resumed(loose, login, version)


def test_an_agent_over_the_network_ends_resumed_sessions(asked: Service, tmp_path: Path) -> None:
    """nginx keeps sessions over the reload that the agent causes, if it has a cache that its processes share; with tickets it would forget their keys."""
    with site(tmp_path / "w", asked) as d:
        written = d.server.text
        d.server.write(written.replace("ssl_session_cache off;", "ssl_session_cache shared:gatekey:1m;"))
        assert d.server.text != written
        d.server.reload()
        for version in VERSIONS:
            refused_although_resumed(d, f"fay-{version.replace('.', '')}", version)


def refused_although_resumed(d: AskingDoor | FarDoor, login: str, version: str) -> None:
    eve = d.asked.person(login)
    wait_until(lambda: d.visit(eve).status == 200, "eve is let in", 10)
    earlier = begun(d, eve, version)

    def resumes() -> Line | None:
        """A reload may still be on its way through the server's processes, each of which has keys of its own until then."""
        nonlocal earlier
        line, answer = once_more(d, eve, version, earlier)
        if answer.resumed:
            assert answer.status == 200
            return line
        line.close()
        earlier.close()
        earlier = begun(d, eve, version)
        return None

    standing: Line = wait_until(resumes, f"{d.kind} resumes a session over TLS {version}", 10)
    assert standing.ask(d.knock(eve, keep=True)).status == 200
    d.asked.admin.process("revoke", login, "--yes")
    revoked = time.monotonic()
    assert d.refused_within(1.0, standing) < 1.0  # the open one, which was resumed itself
    standing.close()
    refused = 0
    while refused < 8:
        before = len(d.app.seen)
        line, answer = once_more(d, eve, version, earlier)
        line.close()
        assert answer.resumed, "nothing is proved by a full handshake"
        if answer.status == 200:
            refused = 0
            assert time.monotonic() - revoked < 1.0, "let in with a resumed session"
            continue
        refused += 1
        assert answer.status in (400, 403), answer.face
        assert MARK.encode() not in answer.body
        assert len(d.app.seen) == before
    earlier.close()
