"""Trust, steps for devices, configurations and checks: the same answers as from the command line, and every no in words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey import app
from gatekey.authority import jobs
from gatekey.model.install import GUIDES
from gatekey.model.webservers import SERVERS
from kit.administrator import typed
from kit.desk import Desk, Told
from kit.little import Request, little

HOST = "app.example"
DNS = {HOST: ("127.0.0.1", "::1"), "inner.example": ("93.184.216.34", "10.1.2.3"), "metadata.example": ("169.254.169.254",), "nowhere.example": ()}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"), outside=app.outside(lambda host, _: DNS[host]))
    yield made
    made.close()


def allow(desk: Desk, *sites: str, networks: tuple[str, ...] = ()) -> None:
    """What gatekey.toml says under [check]."""
    config = desk.authority.config
    desk.authority.config = config._replace(values={**config.values, "check.sites": list(sites), "check.networks": list(networks)})


def typed_json(desk: Desk, *words: str) -> Any:
    answer = typed("--home", desk.authority.config.home, *words, "--json")
    assert answer.code == 0, answer.err
    return answer.json


def check(desk: Desk, site: str, **more: Any) -> Told:
    return desk.ask("boss", "POST", "/v1/check", {"site": site, **more})


# The same answers


@pytest.mark.parametrize("server", SERVERS)
def test_a_configuration_is_the_one_that_the_command_prints(desk: Desk, server: str) -> None:
    typed_words = ["--site", HOST, "--upstream", "http://10.0.0.7:3000", "--listen", "192.0.2.1:8443", "--plain", "none", "--contact", "ca@example.com"]
    body = {"site": HOST, "upstream": "http://10.0.0.7:3000", "listen": ["192.0.2.1:8443"], "plain": ["none"], "contact": "ca@example.com"}
    told = desk.ask("aud", "POST", "/v1/webserver", {"server": server, **body})
    assert told.status == 200, told.body
    assert told.json == typed_json(desk, "webserver", server, *typed_words)


@pytest.mark.parametrize("server", ["nginx", "apache", "caddy"])
def test_one_that_asks_the_service(desk: Desk, server: str) -> None:
    words = ["--site", HOST, "--groups", "staff,admins", "--decision", "https://pki.example:8443", "--crl", "--decision-key", "/etc/ssl/proxy.key"]
    body = {"site": HOST, "groups": ["staff", "admins"], "decision": "https://pki.example:8443", "crl": True, "decision_key": "/etc/ssl/proxy.key"}
    told = desk.ask("aud", "POST", "/v1/webserver", {"server": server, **body})
    assert told.json == typed_json(desk, "webserver", server, *words)


def test_what_nginx_runs_with_is_told_and_not_asked(desk: Desk, tmp_path: Path) -> None:
    dump = "# configuration file /etc/nginx/nginx.conf:\nevents {}\nhttp { ssl_protocols TLSv1.3; map $http_upgrade $up { default upgrade; } }\n"
    (tmp_path / "dump").write_text(dump)
    told = desk.ask("aud", "POST", "/v1/webserver", {"server": "nginx", "site": HOST, "running": dump})
    assert told.json == typed_json(desk, "webserver", "nginx", "--site", HOST, "--running", str(tmp_path / "dump"))


def test_trust_has_the_steps_of_the_command(desk: Desk) -> None:
    there, told = typed_json(desk, "trust"), desk.ask("web", "GET", "/v1/trust").json
    assert (told["file"], told["fingerprint"]) == ("servers-root.crt", there["fingerprint"])
    here = {system: step.replace(there["file"], told["file"]) for system, step in there["steps"].items()}
    assert told["steps"] == here
    assert str(desk.authority.config.home) not in json.dumps(told)


@pytest.mark.parametrize("target", GUIDES)
def test_steps_for_devices(desk: Desk, target: str) -> None:
    assert desk.ask("aud", "GET", f"/v1/install/{target}?name=ann").json == typed_json(desk, "help", "install", target, "ann")
    assert desk.ask("aud", "GET", f"/v1/install/{target}").json == typed_json(desk, "help", "install", target)


def test_the_doctor_says_the_same(desk: Desk) -> None:
    told = desk.ask("aud", "GET", "/v1/doctor").json
    assert (told["ready"], set(told["checks"])) == (True, {"ledger", "authorities", "crl", "publish", "keys", "config"})
    answer = typed("--home", desk.authority.config.home, "doctor", "--json")  # by the real clock, which says that the CRLs are long over
    assert told.keys() == answer.json.keys()
    assert told["checks"].keys() == answer.json["checks"].keys()
    assert answer.json["checks"]["crl"]["state"] == "fail"
    desk.clock.move(days=40)
    told = desk.ask("all", "GET", "/v1/doctor", headers=(("authorization", f"Bearer {desk.tokens['read']}"),)).json
    assert (told["ready"], told["checks"]["crl"]) == (False, answer.json["checks"]["crl"])
    desk.clock.move(days=-40)


def test_the_list_of_checks(desk: Desk) -> None:
    allow(desk, "APP.example", "app.example:8443", "[::1]:9443", networks=("10.0.0.0/8",))
    told = desk.ask("aud", "GET", "/v1/check").json
    assert told["checks"] == typed_json(desk, "check", "--list")
    assert (told["sites"], told["networks"]) == (["[::1]:9443", "app.example", "app.example:8443"], ["10.0.0.0/8"])


def test_requests_that_wait_for_a_root_elsewhere(tmp_path: Path) -> None:
    made = app.create_authority(tmp_path / "home", app.Founding("Kitty CA", unencrypted_keys=True, root_elsewhere=True))
    from gatekey.authority import access, people
    from gatekey.keys import material
    from gatekey.model.holder import Holder
    from gatekey.protocols.api.gate import Gate
    from gatekey.protocols.message import Call

    people.add(made, Holder("aud", "service"))
    access.set_roles(made, "aud", add=["auditor"])
    token = access.make_token(made, "aud", ["read"])[1]
    gate = Gate(made, material.make, app.outside())

    def ask(path: str) -> Any:
        answer = gate.answer(Call("private", "GET", path, headers=(("authorization", f"Bearer {token}"),)))
        return answer.status, json.loads(answer.body)

    assert ask("/v1/authorities") == (200, {"items": [], "waiting": ["people", "servers"]})
    status, told = ask("/v1/authorities/requests")
    assert (status, [one["name"] for one in told["items"]]) == (200, ["people", "servers"])
    assert told["items"][0]["csr"] == (tmp_path / "home" / "authorities" / "people.csr").read_text()
    status, told = ask("/v1/trust")
    assert (status, told["detail"]) == (404, "there is no root of the servers' side here yet")
    assert "there is no root of the servers' side here yet" in typed("--home", tmp_path / "home", "trust").err
    (tmp_path / "home" / "authorities" / "people.csr").unlink()
    assert ask("/v1/authorities/requests")[0] == 404
    made.close()


# A no


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"server": "iis", "site": HOST}, "bad-request", "server: must be one of nginx, apache, haproxy, caddy, traefik, envoy"),
        ({"server": "nginx", "site": "app example"}, "bad-site", "'app example'"),
        ({"server": "nginx", "site": HOST, "upstream": "ftp://x"}, "bad-site", "the upstream 'ftp://x' is neither a URL without a path nor unix:/path"),
        ({"server": "nginx", "site": HOST, "certificate": "/etc/x; include /etc/passwd"}, "bad-site", "is not an absolute path"),
        ({"server": "nginx", "site": HOST, "contact": "$(id)"}, "bad-site", "the contact has characters"),
        ({"server": "traefik", "site": HOST, "groups": ["staff"]}, "server-cannot", "Traefik cannot tell one certificate from another"),
        ({"server": "nginx", "site": HOST, "running": "no dump of nginx"}, "bad-nginx-dump", "nginx"),
        ({"server": "nginx", "site": HOST, "install": "/etc/nginx"}, "bad-request", "install"),
        ({"server": "nginx", "site": HOST, "revoked": 7}, "bad-request", "revoked"),
    ],
)
def test_configurations_that_are_refused(desk: Desk, body: dict[str, Any], code: str, words: str) -> None:
    told = desk.ask("aud", "POST", "/v1/webserver", body)
    assert (told.status in (400, 422), told.code) == (True, code), told.body
    assert words in told.json["detail"]


@pytest.mark.parametrize(
    ("path", "code"), [("/v1/install/amiga", "no-guide"), ("/v1/install/ios?name=%3Brm", "bad-name"), ("/v1/install/ios?ref=ann", "bad-request")]
)
def test_steps_that_are_refused(desk: Desk, path: str, code: str) -> None:
    assert desk.ask("aud", "GET", path).code == code


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"site": "https://other.example"}, 422, "check-not-allowed", "other.example is none of the sites that the service may knock at"),
        ({"site": f"https://{HOST}:8443"}, 422, "check-not-allowed", "app.example:8443 is none of the sites"),
        ({"site": f"https://www.{HOST}"}, 422, "check-not-allowed", "www.app.example is none"),
        ({"site": "https://127.0.0.1"}, 422, "check-not-allowed", "127.0.0.1 is none"),
        ({"site": "https://[::1]:25"}, 422, "check-not-allowed", "[::1]:25 is none"),
        ({"site": f"http://{HOST}"}, 400, "bad-url", "those begin with https://"),
        ({"site": f"https://boss:secret@{HOST}"}, 400, "bad-url", "user name or a password"),
        ({"site": f"https://{HOST}/ä"}, 400, "bad-url", "percent-encoded"),
        ({"site": f"https://{HOST}", "only": ["99"]}, 400, "unknown-check", "there is no check '99'"),
        ({"site": f"https://{HOST}", "skip": ["nonsense"]}, 400, "unknown-check", "there is no check 'nonsense'"),
        ({"site": f"https://{HOST}", "paths": ["http://169.254.169.254/"]}, 400, "bad-url", "is not a path on the site"),
        ({"site": f"https://{HOST}", "whoami": "/a b"}, 400, "bad-url", "is not a path on the site"),
        ({"site": f"https://{HOST}", "siblings": ["x y"]}, 400, "bad-url", "a sibling cannot be right"),
        ({"site": f"https://{HOST}", "address": "127.0.0.1"}, 400, "bad-request", "address"),
        ({"site": f"https://{HOST}", "app_ports": [22]}, 400, "bad-request", "app_ports"),
        ({"site": "https://inner.example"}, 422, "fetch-forbidden", "inner.example leads to 10.1.2.3 is not a public address"),
        ({"site": "https://metadata.example"}, 422, "fetch-forbidden", "169.254.169.254 is an address of this machine or this wire"),
        ({"site": "https://nowhere.example"}, 503, "site-unreachable", "nowhere.example has no address"),
    ],
)  # fmt: skip
def test_checks_that_are_refused_make_no_test_identities(desk: Desk, body: dict[str, Any], status: int, code: str, words: str) -> None:
    allow(desk, HOST, "inner.example", "metadata.example", "nowhere.example", networks=("127.0.0.0/8", "::1"))
    before = desk.authority.reads.newest_event()
    told = desk.ask("boss", "POST", "/v1/check", body)
    assert (told.status, told.code) == (status, code), told.body
    assert words in told.json["detail"]
    assert desk.authority.reads.newest_event() == before


def test_nothing_is_allowed_without_a_word_in_the_configuration(desk: Desk) -> None:
    allow(desk)
    told = check(desk, f"https://{HOST}")
    assert (told.status, told.code) == (422, "check-not-allowed")
    assert told.json["hint"].startswith('[check] sites = ["app.example"] in gatekey.toml allows it')


def test_this_machine_only_by_its_own_network(desk: Desk) -> None:
    """A site that is allowed may still not lead to this machine, whatever DNS says, unless the configuration names that, too."""
    allow(desk, HOST, networks=("10.0.0.0/8",))
    assert check(desk, f"https://{HOST}").code == "fetch-forbidden"
    allow(desk, HOST, networks=("127.0.0.1",))
    assert "::1 is an address of this machine" in check(desk, f"https://{HOST}").json["detail"]


# Knocking


def open_to_all(request: Request) -> tuple[int, dict[str, str], bytes]:
    return 200, {"content-type": "text/html"}, b"<h1>pictures of kittens</h1>"


def shut(request: Request) -> tuple[int, dict[str, str], bytes]:
    return 403, {"content-type": "text/html"}, b"a certificate is needed"


def test_the_report_and_what_is_written_down(desk: Desk) -> None:
    with little(open_to_all) as port:
        allow(desk, f"{HOST}:{port}", networks=("127.0.0.1", "::1"))
        first = desk.authority.reads.newest_event() + 1
        told = check(desk, f"https://{HOST}:{port}/gallery", only=["1", "3"])
        assert told.status == 200, told.body
        report = told.json
        assert (report["site"], report["open"], [one["number"] for one in report["checks"]]) == (f"https://{HOST}:{port}/gallery", [1, 3], [1, 3])
        assert "GET /gallery" in report["checks"][0]["request"]
        assert "127.0.0.1" in report["checks"][0]["request"]
        events = list(desk.authority.reads.events(first))
        noted = next(event for event in events if event.action == "site.check")
        assert (noted.actor, noted.subject) == ("holder:boss", f"{HOST}:{port}")
        assert {event.actor for event in events} == {"holder:boss"}
        assert noted.number < min(event.number for event in events if event.action.startswith("certificate."))
        assert [row["serial"] for row in desk.ask("boss", "GET", "/v1/certificates?holder=gatekey-probe").json["items"]] == []
        assert len(desk.ask("boss", "GET", "/v1/certificates?holder=gatekey-probe&probes=true").json["items"]) >= 5
        outcome = {one["name"]: one["outcome"] for one in desk.ask("boss", "GET", "/v1/doctor").json["jobs"]}["site-check"]
        assert outcome == f"{HOST}:{port}: 2 open, 0 shut, 0 cannot tell"
    with little(shut) as port:
        allow(desk, f"{HOST}:{port}", networks=("127.0.0.1", "::1"))
        report = check(desk, f"https://{HOST}:{port}", only=["no-certificate"]).json
        assert (report["open"], report["checks"][0]["verdict"]) == ([], "pass")
    allow(desk, f"{HOST}:{port}", networks=("127.0.0.1", "::1"))
    told = check(desk, f"https://{HOST}:{port}", only=["1"])
    assert (told.status, told.code) == (503, "site-unreachable")
    assert check(desk, f"https://{HOST}:{port}", only=["1"]).code == "site-unreachable", "one that ended badly stands in nobody's way"


def test_one_at_a_time_in_all_processes(desk: Desk, tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> tuple[int, dict[str, str], bytes]:
        inside.set()
        go_on.wait(20)
        return shut(request)

    with little(slow) as port:
        allow(desk, f"{HOST}:{port}", networks=("127.0.0.1", "::1"))
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(check(desk, f"https://{HOST}:{port}", only=["1"]).status))
        thread.start()
        assert inside.wait(20)
        told = check(desk, f"https://{HOST}:{port}", only=["1"])
        assert (told.status, told.code, told.json["detail"]) == (503, "check-running", "another check is running")
        other = app.open_authority(desk.authority.config, clock=desk.clock)
        assert not jobs.claim(other, "site-check", 120), "a lease in the ledger: other workers see it, too"
        desk.clock.move(seconds=121)
        assert jobs.claim(other, "site-check", 120), "a worker that died stands in nobody's way for long"
        jobs.finish(other, "site-check", 0, "")
        other.close()
        go_on.set()
        thread.join(30)
        assert codes == [200]


def test_a_check_has_an_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not been tried by then cannot be told."""
    monkeypatch.setattr("gatekey.protocols.api.outside.SECONDS", 0.4)

    def slow(request: Request) -> tuple[int, dict[str, str], bytes]:
        threading.Event().wait(0.3)
        return shut(request)

    with little(slow) as port:
        allow(desk, f"{HOST}:{port}", networks=("127.0.0.1", "::1"))
        report = check(desk, f"https://{HOST}:{port}", only=["1", "3", "4", "5", "14"]).json
    assert report["seconds"] < 5
    assert report["cannot_tell"]
    assert any("a check is bounded" in one["said"] for one in report["checks"])


def test_dns_is_asked_once(tmp_path: Path) -> None:
    """Who owns the name cannot send us elsewhere after the guard has looked."""
    asked: list[str] = []

    def resolve(host: str, _: float) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("127.0.0.2",)

    desk = Desk(tmp_path, outside=app.outside(resolve))
    with little(open_to_all) as port:
        allow(desk, f"{HOST}:{port}", networks=("127.0.0.1",))
        report = check(desk, f"https://{HOST}:{port}", only=["1", "17", "14"]).json
    assert asked == [HOST]
    assert {one["number"]: one["said"] for one in report["checks"]}[17] == "the name has no IPv6 address"
    desk.close()
