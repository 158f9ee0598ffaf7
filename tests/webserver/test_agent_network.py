"""The agent over the network: a real service with several workers and a real nginx; and services that lie, which must never reach the web server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gatekey.errors import GatekeyError, Malformed, Misconfigured, Refused, Unavailable
from gatekey.model.instants import DAY
from gatekey.model.package import pack
from gatekey.webserver import agent_network
from gatekey.webserver.agent_config import parse
from gatekey.webserver.agent_unit import unit
from kit.asked import Service, service
from kit.faraway import FarDoor, FarHost, Liar, far, proxy, remote, site
from kit.published import Published
from kit.servers import wait_until


def real(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that starts a real service, most of them with nginx before it."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.interop(test))
    return marked


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def door(served: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarDoor]:
    with site(tmp_path_factory.mktemp("site"), served) as running:
        yield running


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    with Liar(tmp_path) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, liar: Liar) -> Iterator[FarHost]:
    """Revocation 1 is in force, and what was said and called for it is forgotten."""
    with far(tmp_path, liar) as made:
        made.town.revoke(made.town.carl)
        liar.says(pack(made.town.contents()))
        assert made.settle() is None
        made.clear()
        yield made


def ask(served: Service, who: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """A question with the certificate of `who` ("" for none)."""
    context = ssl.create_default_context(cafile=str(served.folder / "servers-root.crt"))
    if who:
        context.load_cert_chain(served.folder / f"{who}.chain.crt", served.folder / f"{who}.key")
    connection = HTTPSConnection("127.0.0.1", served.private, timeout=60, context=context)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


# A real service and a real web server


@real
def test_who_is_revoked_is_refused_within_a_second(door: FarDoor, served: Service) -> None:
    """On new connections and on one that is open. Resumed sessions: tests/interop/test_resumed.py."""
    carl = served.person("carl")
    wait_until(lambda: door.visit(carl).status == 200, "nginx knows carl")
    first = door.open(carl)
    assert first.ask(door.knock(keep=True)).status == 200
    served.admin.process("revoke", "carl")
    assert door.refused_within(1.0, first) < 1.0
    assert door.refused_within(1.0, carl) < 1.0
    first.close()
    assert door.visit(door.ann).status == 200


@real
def test_the_clock_tells_when_each_place_took_it_over(door: FarDoor, served: Service) -> None:
    served.person("dora")
    served.admin.process("revoke", "dora")
    wait_until(lambda: "agent web1" in _places(served, "dora") and "service" in _places(served, "dora"), "the agent has reported")
    told = served.show("dora")["clock"]
    assert set(_places(served, "dora")) >= {"CRL", "service", "agent web1"}
    assert told["waiting"] == []
    assert all(tick["at"] >= told["revoked_at"] for tick in told["taken_over"])
    line = next(line for line in served.admin.process("show", "dora").lines if line.startswith("clock"))
    assert f"revoked {told['revoked_at']}; CRL " in line
    assert "; agent web1 " in line


def _places(served: Service, ref: str) -> list[str]:
    return [tick["place"] for tick in served.show(ref)["clock"]["taken_over"]]


@real
def test_it_gets_over_a_service_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with service(tmp_path / "s") as served, site(tmp_path / "w", served) as door:
        assert door.visit(door.bob).status == 200
        served.stop()
        served.admin.process("revoke", "bob")
        assert door.visit(door.ann).status == 200  # the web server goes on with what it has
        served.start()
        door.refused_within(10, door.bob)
        assert door.visit(door.ann).status == 200
        wait_until(lambda: "agent web1" in _places(served, "bob"), "it has reported")
        assert door.status["error"] is None


@real
def test_who_may_ask_over_the_wire(door: FarDoor, served: Service) -> None:
    path = "/agent/bundle?wait=0"
    assert ask(served, "", "GET", path)[0] == 401
    assert ask(served, "", "GET", path, headers={"X-Client-User": "web1", "Client-Cert": "::", "X-SSL-Client-Verify": "SUCCESS"})[0] == 401
    assert ask(served, "ann", "GET", path)[0] == 403
    status, headers, body = ask(served, "web1", "GET", path)
    assert (status, headers["content-type"]) == (200, "application/x-tar")
    assert ask(served, "web1", "GET", path, headers={"If-None-Match": headers["etag"]})[::2] == (304, b"")
    assert ask(served, "web1", "GET", "/agent/bundle?after=x")[0] == 400
    assert ask(served, "ann", "POST", "/agent/report", b'{"number":0,"at":0}')[0] == 403
    assert ask(served, "web1", "POST", "/agent/report", b"[")[0] == 400
    assert ask(served, "web1", "POST", "/agent/report", b'{"number":99999,"at":0}')[0] == 422
    assert ask(served, "web1", "POST", "/agent/report", b" " * 5000)[0] == 413
    assert ask(served, "web1", "POST", "/agent/renew", b"x")[0] == 413
    assert len(body) < 100_000
    for listener in (served.public,):
        connection = http.client.HTTPConnection("127.0.0.1", listener, timeout=20)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()


@real
def test_all_workers_give_the_same_bundle(door: FarDoor, served: Service) -> None:
    tags = {ask(served, "web1", "GET", "/agent/bundle?wait=0")[1]["etag"] for _ in range(12)}
    assert len(tags) == 1


def test_the_published_folder_is_a_place_too(tmp_path: Path) -> None:
    out = tmp_path / "published"
    made = Service(tmp_path / "s", workers=1)
    text = (made.admin.home / "gatekey.toml").read_text()
    (made.admin.home / "gatekey.toml").write_text(f"publish = {json.dumps(str(out))}\n{text}")
    made.person("ann")
    made.admin.process("revoke", "ann")
    told = made.show("ann")["clock"]
    assert [tick["place"] for tick in told["taken_over"]] == ["CRL", "published folder"]
    assert json.loads((out / "manifest.json").read_text())["number"] == 1


# A service that lies


def _reached(host: FarHost, before: dict[str, bytes]) -> bool:
    return host.files != before or host.calls != []


LIES: dict[str, tuple[str, Callable[[FarHost], bytes]]] = {
    "expired": ("crl-expired", lambda host: pack(host.town.contents(number=2, crls=host.town.pki.crls(issuing="expired")))),
    "older": ("bundle-older", lambda host: pack(host.town.contents(number=0, made_at=host.town.made_at - DAY))),
    "foreign": ("bundle-foreign", lambda host: pack(Published(host.folder / "foreign", host.town.pki.foreign()).contents(number=7))),
    "no manifest": ("bundle-damaged", lambda host: pack({"a.txt": b"a"})),
    "another hash": ("bundle-damaged", lambda host: pack({**host.town.contents(number=2), "revoked.map": b"# none\n"})),
    "a file less": ("bundle-damaged", lambda host: pack({name: data for name, data in host.town.contents(number=2).items() if name != "revoked.map"})),
    "a file more": ("bundle-damaged", lambda host: pack({**host.town.contents(number=2), "nginx.conf": b"evil"})),
    "cut": ("bundle-damaged", lambda host: pack(host.town.contents(number=2))[:-700]),
    "no tar": ("bundle-damaged", lambda host: b"<html>welcome</html>"),
    "empty": ("bundle-damaged", lambda host: b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_lying_service_sends_never_reaches_the_web_server(host: FarHost, liar: Liar, lie: str) -> None:
    code, make = LIES[lie]
    before = host.files
    liar.says(make(host))
    host.another()
    problem = host.settle()
    assert problem is not None
    assert problem.code == code
    assert not _reached(host, before)


def test_an_expired_crl_never_reaches_the_web_server(host: FarHost, liar: Liar) -> None:
    before = host.files
    body = pack(host.town.contents(number=2))
    liar.says(body)
    host.now += 365 * DAY  # the bundle was kept back until its CRLs ran out
    host.another()
    problem = host.settle()
    assert problem is not None
    assert problem.code in ("crl-expired", "bundle-chain")
    assert not _reached(host, before)


def _huge(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**13))
    handler.end_headers()


def _endless(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def _short(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)
    handler.close_connection = True


def _silent(handler: Any) -> None:
    time.sleep(3)


def _headers(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(500)) + b"\r\n")


def _nonsense(handler: Any) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("act", [_huge, _endless, _short, _silent, _headers, _nonsense], ids=lambda act: act.__name__)
def test_answers_without_measure(host: FarHost, liar: Liar, act: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_network, "MOST_BODY", 1024 * 1024)
    monkeypatch.setattr(agent_network, "STEP", 0.5)
    before = host.files
    liar.says(act=act)
    host.another()
    begun = time.monotonic()
    problem = host.settle()
    assert problem is not None
    assert problem.code in ("bundle-damaged", "service-unreachable")
    assert time.monotonic() - begun < 10
    assert not _reached(host, before)


@pytest.mark.parametrize("status", [204, 301, 400, 404, 500, 503])
def test_other_statuses(host: FarHost, liar: Liar, status: int) -> None:
    before = host.files
    liar.says(b'{"detail":"no\\u001b[31m"}', status, ("Location", "https://127.0.0.1:1/"))
    host.another()
    problem = host.settle()
    assert isinstance(problem, Unavailable)
    assert problem.code == "service-unreachable"
    assert "\x1b" not in problem.message
    assert not _reached(host, before)


@pytest.mark.parametrize("status", [401, 403])
def test_a_role_that_is_missing_is_said(host: FarHost, liar: Liar, status: int) -> None:
    liar.says(b'{"detail":"web1 may not do this"}', status)
    host.another()
    problem = host.settle()
    assert isinstance(problem, Refused)
    assert problem.code == "service-refuses"
    assert "web1 may not do this" in problem.message
    assert "--role proxy" in problem.hint


def test_only_our_roots_are_believed(host: FarHost, liar: Liar, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(liar.people.chain_pem)
    host.another(roots=str(other))
    problem = host.settle()
    assert isinstance(problem, Unavailable)
    assert "is not the service that it should be" in problem.message


def test_a_certificate_of_another_name_is_not_believed(tmp_path: Path) -> None:
    with Liar(tmp_path, "elsewhere.example") as liar, far(tmp_path, liar) as host:
        problem = host.settle()
        assert isinstance(problem, Unavailable)
        assert "is not the service that it should be" in problem.message


def test_a_flood_is_taken_in_sips(host: FarHost, liar: Liar) -> None:
    """Each answer is another bundle: the agent asks again only when it has looked at what it got."""
    host.another()
    count = iter(range(2, 10**6))
    town = host.town

    def flood(handler: Any) -> None:
        body = pack(town.contents(number=next(count)))
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    assert host.settle() is None
    liar.says(act=flood)
    asked = len(liar.asked)
    assert host.source.wait(10)
    time.sleep(0.3)  # nobody looks; one that does not wait has asked a hundred times by then
    assert len(liar.asked) == asked + 1
    assert host.settle() is None
    assert host.status["serving"]["number"] == 2


def test_empty_answers_in_a_hurry_do_not_make_it_hurry(host: FarHost, liar: Liar) -> None:
    host.another()
    assert host.settle() is None
    liar.says(b"", 304)
    asked = len(liar.asked)
    host.source.wait(1.0)
    assert len(liar.asked) - asked < 15


# How it asks, waits and tells


def test_it_says_what_it_has_and_waits(host: FarHost, liar: Liar) -> None:
    host.another()
    liar.says(b"", 304)
    assert host.settle() is None
    method, path, headers, _ = liar.asked[-1]
    assert (method, path) == ("GET", f"/agent/bundle?after=1&made={host.town.made_at}&wait=0")
    assert len(headers["If-None-Match"]) == 66
    wait_until(lambda: (host.source.wait(0.1), liar.asked[-1][1].endswith("&wait=30"))[1], "it waits")


def test_news_wake_it_and_a_signal_does(host: FarHost, liar: Liar) -> None:
    host.another()
    liar.says(b"", 304)
    assert host.settle() is None
    assert host.source.wait(0.1) is False
    reading, writing = os.pipe()
    os.write(writing, b"!")
    begun = time.monotonic()
    assert host.source.wait(20, reading) is False
    assert time.monotonic() - begun < 5
    host.town.revoke(host.town.bob)
    liar.says(pack(host.town.contents()))
    assert host.source.wait(20)
    assert host.settle() is None
    assert host.status["serving"]["number"] == 2
    os.close(reading)
    os.close(writing)


def test_it_tells_what_the_web_server_has_taken_over(host: FarHost, liar: Liar) -> None:
    host.another(name="front")
    host.source.took_over(1, 1_795_000_000)
    host.source.took_over(1, 1_795_000_009)
    wait_until(lambda: [one for one in liar.asked if one[0] == "POST"], "a report")
    host.source.close()
    reports = [(path, json.loads(body)) for method, path, _, body in liar.asked if method == "POST"]
    assert reports == [("/agent/report", {"number": 1, "at": 1_795_000_000, "name": "front"})]


def test_a_short_absence_is_nothing_to_talk_about_a_long_one_is(host: FarHost, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    host.another()
    liar.says(b"", 304)
    assert host.settle() is None
    liar.says(b"", 500)
    host.source.wait(0.5)
    assert host.settle() is None
    monkeypatch.setattr(agent_network, "GRACE", 0.2)
    wait_until(lambda: host.source.wait(1), "it is told of the trouble")
    problem = host.settle()
    assert problem is not None
    assert problem.code == "service-unreachable"
    assert host.status["health"] == "error"
    liar.says(b"", 304)
    wait_until(lambda: host.settle() is None or host.source.wait(0.2), "it is well again")
    wait_until(lambda: host.settle() is None, "it is well again")
    assert host.status["health"] == "ok"


def test_what_is_lost_in_the_target_is_fetched_again(host: FarHost, liar: Liar) -> None:
    host.another()
    made = host.town.contents()
    liar.says(pack(made))
    assert host.settle() is None
    for place in host.target.glob(".set-*/revoked.map"):
        place.unlink()
    wait_until(lambda: (host.settle(), host.source.wait(0.2), "revoked.map" in host.files)[2], "it is whole again")
    assert host.files == made


# Its own certificate


def test_the_key_must_be_its_own(host: FarHost, liar: Liar) -> None:
    liar.own.key.chmod(0o644)
    host.another()
    problem = host.settle()
    assert isinstance(problem, Misconfigured)
    assert "others may read the key" in problem.message


@pytest.mark.parametrize("what", ["certificate", "key", "roots"])
def test_files_that_cannot_be_used(host: FarHost, tmp_path: Path, what: str) -> None:
    wrong = tmp_path / "wrong.pem"
    for content in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None):
        wrong.unlink(missing_ok=True)
        if content is not None:
            wrong.write_bytes(content)
            wrong.chmod(0o600)
        host.another(**{what: str(wrong)})
        problem = host.settle()
        assert isinstance(problem, Misconfigured)
        assert str(wrong) in problem.message


@real
def test_it_renews_its_certificate_over_the_wire(served: Service, tmp_path: Path) -> None:
    """One that lives three days, in its last: with the real service."""
    proxy(served, "web3")
    served.admin.process("issue", "client", "web4", "--days", "1", "--for", "pem", "--out", served.folder)
    served.admin.process("people", "set", "web4", "--role", "proxy")
    config = parse(
        "".join(f"{k} = {json.dumps(v)}\n" for k, v in {**remote(served, "web4"), "target": str(tmp_path / "b"), "server": "other", "reload": []}.items()),
        tmp_path,
    )
    assert not isinstance(config.source, Path)
    place = config.source.certificate
    before = x509.load_pem_x509_certificate(place.read_bytes())
    said: list[tuple[str, str]] = []
    own = agent_network.Own(config.source, lambda: int(time.time()), lambda count: b"\0" * count, lambda *words: said.append(words))
    line = agent_network.Line(config.source)
    own.renew_if_due(line)
    assert (said, x509.load_pem_x509_certificate(place.read_bytes())) == ([], before)
    # The service's clock cannot be moved, so the ledger's certificate is asked about too early, and says so; nothing is lost.
    later = agent_network.Own(config.source, lambda: int(time.time()) + 20 * 3600, lambda count: b"\0" * count, lambda *words: said.append(words))
    later.renew_if_due(line)
    later.renew_if_due(line)
    line.close()
    assert [level for level, _ in said] == ["warning"]
    assert "was not renewed" in said[0][1]
    assert "two thirds" in said[0][1]
    assert x509.load_pem_x509_certificate(place.read_bytes()) == before


def test_a_successor_must_be_one(host: FarHost, liar: Liar) -> None:
    """What a liar sends instead of a successor changes no file."""
    assert not isinstance(host.config.source, Path)
    before = liar.own.chain.read_bytes()
    other = liar.people.client("web1")
    mallory = liar.people.foreign().client("web1")

    class Told(agent_network.Line):
        body = b""

        def ask(self, *_: Any, **__: Any) -> agent_network.Reply:
            return agent_network.Reply(200, self.body)

    for body in (b"", b"nothing", other.chain_pem, mallory.chain_pem, liar.pki.chain_pem, before, before[: len(before) // 2]):
        said: list[tuple[str, str]] = []
        own = agent_network.Own(host.config.source, lambda: int(time.time()) + 25 * DAY, lambda count: b"\0" * count, lambda *words: said.append(words))  # noqa: B023
        line = Told(host.config.source)
        line.body = body
        own.renew_if_due(line)
        assert [level for level, _ in said] == ["warning"]
        assert liar.own.chain.read_bytes() == before


def test_a_successor_takes_its_place_and_counts_at_once(host: FarHost, liar: Liar) -> None:
    assert not isinstance(host.config.source, Path)
    fresh = liar.people.client("web1", key=liar.leaf.key, days=60)
    liar.own.chain.chmod(0o640)
    asked: list[str] = []

    class Told(agent_network.Line):
        def ask(self, method: str, path: str, **_: Any) -> agent_network.Reply:
            asked.append(f"{method} {path}")
            return agent_network.Reply(200, fresh.chain_pem)

    now, said = int(time.time()) + 21 * DAY, []
    own = agent_network.Own(host.config.source, lambda: now, lambda count: b"\0" * count, lambda *words: said.append(words))
    line = Told(host.config.source)
    own.renew_if_due(line)
    own.renew_if_due(line)  # it has most of its life before it
    assert asked == ["POST /agent/renew"]
    assert liar.own.chain.read_bytes() == fresh.chain_pem
    assert liar.own.chain.stat().st_mode & 0o777 == 0o640
    assert [level for level, _ in said] == ["info"]
    host.another()
    assert host.settle() is None  # with the new one


# Its configuration


def test_the_configuration_names_a_service(tmp_path: Path) -> None:
    text = 'source = "https://pki.example:8443/"\ncertificate = "/e/a.crt"\nkey = "/e/a.key"\nroots = "/e/r.pem"\n'
    text += 'target = "/etc/gatekey/bundle"\nserver = "nginx"\n'
    made = parse(text, Path("/etc/gatekey/agent.toml"))
    assert not isinstance(made.source, Path)
    assert (made.source.url, made.source.host, made.source.port) == ("https://pki.example:8443", "pki.example", 8443)
    printed = unit(made, ("/usr/bin/gatekey",))
    assert "After=local-fs.target network-online.target\nWants=network-online.target\n" in printed
    assert "ReadWritePaths=/etc/gatekey /e " in printed


@pytest.mark.parametrize(
    "url",
    [
        "http://pki.example",
        "https://",
        "https://u:p@pki.example",
        "https://pki.example/x",
        "https://pki.example?x",
        "ftp://x",
        "https://a b",
        "https://x:99999",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    text = f'source = "{url}"\ncertificate = "/e/a"\nkey = "/e/k"\nroots = "/e/r"\ntarget = "/t/b"\nserver = "nginx"\n'
    with pytest.raises(Misconfigured) as caught:
        parse(text, Path("/x"))
    assert caught.value.facts["mistakes"][0].startswith("source: ")


def test_what_belongs_to_a_service_must_be_there() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse('source = "https://x"\ntarget = "/t/b"\nserver = "nginx"\nname = "a b"\n', Path("/x"))
    assert any(one.startswith("name: ") for one in caught.value.facts["mistakes"])
    with pytest.raises(Misconfigured) as caught:
        parse('source = "https://x"\ntarget = "/t/b"\nserver = "nginx"\nkey = "/t/b/k"\n', Path("/x"))
    assert {one.split(":")[0] for one in caught.value.facts["mistakes"]} == {"certificate", "roots", "key"}


def test_a_probe_is_waited_for_before_it_counts(tmp_path: Path) -> None:
    with Liar(tmp_path) as liar, far(tmp_path, liar) as host:
        flag = tmp_path / "answers"
        host.another(probe=["test", "-e", str(flag)], timeout="1s")
        liar.says(pack(host.town.contents()))
        problem = host.settle()
        assert isinstance(problem, Unavailable)
        assert problem.code == "server-probe"
        assert host.status["serving"]["number"] is None
        host.another(timeout="20s")
        threading.Timer(0.3, flag.touch).start()
        assert host.settle() is None
        assert host.status["serving"]["number"] == 0


def test_nothing_but_our_errors_comes_out_of_a_reply(liar: Liar, host: FarHost) -> None:
    for body in (b"\xff" * 10, b'{"detail": 5}', b"[" * 10_000, b'{"detail"'):
        liar.says(body, 500)
        host.another()
        assert isinstance(host.settle(), GatekeyError)
    with pytest.raises(Malformed):
        agent_network.leaf(b"no certificate")
