"""Checks of live sites through the API: the whole table against a real door, and a service that goes on answering meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gatekey import app
from gatekey.authority import access, people
from gatekey.keys import material
from gatekey.model.holder import Holder
from gatekey.protocols.api.gate import Gate
from gatekey.protocols.message import Call
from kit.asked import HOST, asking, service
from kit.little import Request, little
from kit.remote import Remote
from kit.servers import free_port, wait_until
from kit.service import configure, serving

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: What cannot be told of this door: no other site is known (9, 10), and no CRL is read where the service is asked (32).
UNTOLD = {9, 10, 32}
#: Ports that other tests may have open, WebSockets that take their time, and the site's own certificate, which is somebody else's here.
SKIPPED = ["16", "18", "21", "26"]


def test_a_real_door_is_shut_for_the_api_as_for_the_command(tmp_path: Path) -> None:
    """With test identities of the authority, a canary that is revoked, and within the time that the service gives."""
    with service(tmp_path) as s, s.admin.open() as authority:
        people.add(authority, Holder("boss", "service"))
        access.set_roles(authority, "boss", add=["administrator"])
        token = access.make_token(authority, "boss", ["manage"])[1]
        who = s.person("ann")
        with asking("nginx", tmp_path, s, (who, who), same_port=True, last_words=2) as d:
            said = {"check.sites": [f"{HOST}:{d.port}"], "check.networks": ["127.0.0.1", "::1"]}
            authority.config = authority.config._replace(values={**authority.config.values, **said}, publish=tmp_path / "published")
            gate = Gate(authority, material.make, app.outside(lambda *_: ("127.0.0.1", "::1")))
            body = json.dumps({"site": f"https://{HOST}:{d.port}", "skip": SKIPPED}).encode()
            headers = (("authorization", f"Bearer {token}"), ("content-type", "application/json"))
            answer = gate.answer(Call("private", "POST", "/v1/check", "", headers, body))
    report = json.loads(answer.body)
    assert answer.status == 200, report
    words = "\n".join(f"{one['number']} {one['verdict']}: {one['said']}" for one in report["checks"] if one["verdict"] != "pass")
    assert report["open"] == report["shut"] == [], words
    assert set(report["cannot_tell"]) <= UNTOLD, words
    assert {1, 2, 3, 5, 6, 27, 28, 33} <= {one["number"] for one in report["checks"] if one["verdict"] == "pass"}, words
    assert report["server"] == "nginx"


def test_a_service_goes_on_answering_while_it_knocks(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> tuple[int, dict[str, str], bytes]:
        inside.set()
        go_on.wait(4)
        return 403, {}, b"no"

    remote = Remote(tmp_path)
    with little(slow) as port, contextlib.ExitStack() as stack:
        sites = {"sites": [f"127.0.0.1:{port}"], "networks": ["127.0.0.1"]}
        remote.service = stack.enter_context(serving(tmp_path, {"service": {"workers": 1}, "check": sites}, prepare=remote.prepare))
        assert remote.ask("boss", "GET", "/v1/check").json["sites"] == [f"127.0.0.1:{port}"]
        told: list[Any] = []
        question = {"site": f"https://127.0.0.1:{port}", "only": ["1"]}
        thread = threading.Thread(target=lambda: told.append(remote.ask("boss", "POST", "/v1/check", question)))
        thread.start()
        assert inside.wait(20)
        waits = []
        for _ in range(20):
            begun = time.monotonic()
            assert remote.service.get("/healthz")[0] == 200
            assert remote.ask("boss", "GET", "/v1/me").status == 200
            waits.append(time.monotonic() - begun)
        assert max(waits) < 2, waits
        assert remote.ask("boss", "POST", "/v1/check", question).code == "check-running"
        assert remote.ask("olga", "POST", "/v1/check", question).status == 403
        go_on.set()
        thread.join(30)
        assert told[0].status == 200, told[0].body
        assert told[0].json["open"] == told[0].json["shut"] == []


def test_another_site_is_allowed_by_a_reload(tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    with serving(tmp_path, {"service": {"workers": 1}}, prepare=remote.prepare) as running:
        remote.service = running
        site = f"127.0.0.1:{free_port()}"
        assert remote.ask("boss", "POST", "/v1/check", {"site": f"https://{site}"}).code == "check-not-allowed"
        configure(running.home, {"check": {"sites": [site], "networks": ["127.0.0.1"]}})
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: remote.ask("boss", "POST", "/v1/check", {"site": f"https://{site}"}).code == "site-unreachable", "the new configuration")
        wait_until(lambda: remote.ask("boss", "GET", "/v1/check").json["sites"] == [site], "the end of the old worker")
