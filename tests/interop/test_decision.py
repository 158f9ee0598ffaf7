"""The decision endpoint of a real `gatekey serve`, asked by nginx, Apache, HAProxy and Caddy at every request."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.model import headers
from gatekey.webserver.answer import ANSWERED, Answer
from gatekey.webserver.knock import Identity
from kit.asked import HOST, AskingDoor, Service, asking, service
from kit.backend import MARK
from kit.doors import identity
from kit.pki import make_pki
from kit.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SERVERS = ("nginx", "apache", "haproxy", "caddy")
People = tuple[Identity, Identity]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), workers=3) as s:
        yield s


@pytest.fixture(scope="module")
def people(asked: Service) -> People:
    ann = asked.person("ann", "--group", "staff", "--group", "all hands @ deck", "--email", "ann+$x@example.com", "--device", "ann.s laptop",
                       "--display", "Änn O'Reilly; \"A\" $x")  # fmt: skip
    return ann, asked.person("bob", "--group", "sales")


@pytest.fixture(scope="module", params=SERVERS)
def d(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, asked: Service, people: People) -> Iterator[AskingDoor]:
    with asking(request.param, tmp_path_factory.mktemp(request.param), asked, people) as door:
        yield door


def shut(d: AskingDoor, answer: Answer, *statuses: int) -> None:
    """Refused with one of these (any refusal if none is given), without a byte of the app."""
    assert answer.kind != ANSWERED or answer.status >= 400, answer.face
    assert MARK.encode() not in answer.body
    assert not answer.header("set-cookie")
    assert not statuses or answer.status in statuses, (answer.status, answer.face, d.server.log()[-2000:])


def test_the_good_get_in_as_the_answer_says(d: AskingDoor) -> None:
    answer = d.visit(d.ann, path="/some/page?x=1")
    assert answer.status == 200, (answer.face, d.server.log()[-3000:])
    assert MARK.encode() in answer.body
    seen = d.app.last
    assert (seen.method, seen.path) == ("GET", "/some/page?x=1")
    assert seen.get(headers.USER) == "ann"
    assert seen.get(headers.GROUPS) == "all%20hands%20@%20deck,staff"
    assert seen.get(headers.EMAIL) == "ann+%24x@example.com"
    assert seen.get(headers.NAME) == "%C3%84nn%20O%27Reilly%3B%20%22A%22%20%24x"
    assert seen.get(headers.DEVICE) == "ann.s%20laptop"
    assert seen.get(headers.VERIFY) == "SUCCESS"
    assert seen.get(headers.ISSUER) == "CN=Kitty CA people"
    assert seen.get(headers.SERIAL) == d.asked.admin.serial("ann")


def test_groups_of_the_web_server_and_of_gatekey_toml(d: AskingDoor, tmp_path: Path) -> None:
    """bob is in sales. His site says staff: in the web server's configuration, or in the service's."""
    for options in ({"groups": ("staff", "x y")}, {"host": "staff.example"}):
        folder = tmp_path / str(len(options["host"])) if "host" in options else tmp_path / "groups"
        folder.mkdir()
        with asking(d.kind, folder, d.asked, (d.ann, d.bob), **options) as other:
            assert other.visit(d.ann).status == 200
            answer = other.visit(d.bob)
            shut(other, answer, 403)
            if d.kind != "apache":
                assert b"not open to the groups" in answer.body, answer.body


def test_strangers_are_refused(d: AskingDoor) -> None:
    pki = make_pki("Kitty CA")  # the names of our authorities under other keys
    for who in (None, identity(pki.client("ann")), identity(pki.client("ann", expired=True)), identity(d.site_leaf), identity(make_pki("x").client("ann"))):
        for version in ("1.2", "1.3"):
            before = len(d.app.seen)
            shut(d, d.visit(who, tls=version))
            assert len(d.app.seen) == before
    answer = d.visit(None)
    assert answer.status in (400, 403)
    assert b"Why was I not asked?" in answer.body


def test_nobody_brings_an_identity_or_a_decision_along(d: AskingDoor) -> None:
    serial = d.asked.admin.serial("ann")
    forged = [
        *((name, "ann") for name in headers.STRIPPED), *((name.replace("-", "_"), "ann") for name in headers.STRIPPED),
        ("X-Gatekey-Serial", serial), ("X-Gatekey-Issuer", "CN=Kitty CA people"), ("X-Gatekey-Site", "open.example"), ("X-Gatekey-Why", "allow"),
    ]  # fmt: skip
    answer = d.visit(d.bob, headers=tuple(forged))
    assert answer.status == 200, answer.face
    told = d.app.last
    assert told.get(headers.USER) == "bob"
    assert told.get(headers.GROUPS) == "sales"
    assert told.get(headers.SERIAL) == d.asked.admin.serial("bob")
    assert not told.get(headers.EMAIL)
    for name in headers.STRIPPED:
        for value in (*told.all(name), *told.all(name.replace("-", "_"))):
            assert value != "ann", (name, value)
    for hop in (headers.USER, f"close, {headers.USER}, {headers.EMAIL}", "X-Gatekey-Site, X-Gatekey-Groups, Client-Cert"):
        answer = d.visit(d.bob, headers=(("Connection", hop),))
        assert answer.status != 200 or d.app.last.get(headers.USER) == "bob", hop


def test_bodies_and_methods_reach_the_app_and_only_the_app(d: AskingDoor) -> None:
    for method, body in (("POST", b"x" * 70_000), ("PUT", b"y"), ("DELETE", b""), ("GET", b"")):
        assert d.sent(d.ann, method, "/thing", body) == 200, method
        assert (d.app.last.method, d.app.last.path) == (method, "/thing")
    shut(d, d.visit(None, method="POST"))


def test_a_revocation_counts_at_once_everywhere(d: AskingDoor) -> None:
    """On new connections and on an open one; hold, unhold, and then for ever. Resumed sessions: test_resumed.py."""
    login = f"eve-{d.kind}"
    eve = d.asked.person(login)
    wait_until(lambda: d.visit(eve).status == 200, "eve is let in", 2)
    open_line = d.open(eve)
    assert open_line.ask(d.knock(keep=True)).status == 200
    d.asked.admin.process("hold", login)
    assert d.refused_within(1.0, open_line) < 1.0
    open_line.close()
    shut(d, d.visit(eve), 403)
    d.asked.admin.process("unhold", login)
    wait_until(lambda: d.visit(eve).status == 200, "eve is let in again", 1)
    d.asked.admin.process("revoke", login, "--yes")
    assert d.refused_within(1.0, eve) < 1.0
    before = len(d.app.seen)
    answer = d.visit(eve)
    shut(d, answer, 403)
    assert len(d.app.seen) == before
    if d.kind != "apache":
        assert b"was withdrawn, or it was never issued" in answer.body


def test_who_leaves_is_out(d: AskingDoor) -> None:
    login = f"fay-{d.kind}"
    fay = d.asked.person(login)
    wait_until(lambda: d.visit(fay).status == 200, "fay is let in", 2)
    d.asked.admin.process("leave", login, "--yes")
    d.refused_within(1.0, fay)


def test_last_seen_is_told(d: AskingDoor) -> None:
    assert d.visit(d.ann).status == 200
    wait_until(lambda: d.asked.show("ann")["seen_site"] == HOST, "the last visit is in the ledger", 10)
    assert d.asked.show("ann")["seen_at"]


def test_the_revocation_clock_knows_the_site(d: AskingDoor) -> None:
    """Somebody else comes in after the revocation: so the site asks a service that refuses."""
    login = f"una-{d.kind}"
    d.asked.person(login)
    serial = d.asked.admin.serial(login)
    d.asked.admin.process("revoke", login)

    def told() -> bool:
        assert d.visit(d.ann).status == 200
        return any(tick["place"] == f"site {HOST}" for tick in d.asked.show(serial)["clock"]["taken_over"])

    wait_until(told, "the site is in the clock", 20)


def test_without_the_service_the_door_is_shut(d: AskingDoor, tmp_path: Path) -> None:
    """Stopped, it answers nothing; killed, nothing listens; back again, the door opens by itself."""
    with service(tmp_path, workers=2) as s:
        gil = s.person("gil")
        with asking(d.kind, tmp_path, s, (gil, gil)) as door:
            assert door.visit(gil).status == 200
            line = door.open(gil)
            assert line.ask(door.knock(keep=True)).status == 200
            s.signal(signal.SIGSTOP)
            before = len(door.app.seen)
            shut(door, line.ask(door.knock(keep=True)), 502, 503, 504)
            line.close()
            shut(door, door.visit(gil), 502, 503, 504)
            s.signal(signal.SIGCONT)
            wait_until(lambda: door.visit(gil).status == 200, "the door opens again", 10)
            before = len(door.app.seen)
            s.signal(signal.SIGKILL)
            s.process.wait(5)
            shut(door, door.visit(gil), 502, 503)
            assert len(door.app.seen) == before
            s.start()
            wait_until(lambda: door.visit(gil).status == 200, "the door opens again", 10)
