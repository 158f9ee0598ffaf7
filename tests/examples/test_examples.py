"""The example apps, each run by its own server behind a real nginx with the configuration that Gatekey writes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatekey.model import headers as model
from gatekey.webserver.answer import Answer
from kit.doors import Door, door
from kit.servers import program, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

EXAMPLES = Path(__file__).parents[2] / "examples"

#: How each is started, as its first lines say. {socket} is where it listens.
STARTS = {
    "fastapi": ("uvicorn", "fastapi_app:app", "--uds", "{socket}"),
    "flask": ("gunicorn", "flask_app:app", "--bind", "unix:{socket}", "--no-control-socket"),
    "django": ("gunicorn", "django_app:application", "--bind", "unix:{socket}", "--no-control-socket"),
    "django under ASGI": ("uvicorn", "django_app:asgi", "--uds", "{socket}"),
}


class Site(NamedTuple):
    """An example behind nginx. `socket`: where it listens, for those who go around nginx."""

    door: Door
    socket: Path
    log: Path


@pytest.fixture(scope="module", params=STARTS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("example")
    place = Path(tempfile.mkdtemp(prefix="gk-"))  # a socket's path must be short
    place.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        d = stack.enter_context(door("nginx", folder, upstream=f"unix:{place}/app.sock"))
        environment = {
            **os.environ, "GATEKEY_BUNDLE": str(d.bundle), "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent / "src"), str(EXAMPLES)]),
            "DJANGO_DATABASE": str(folder / "hello.db"), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if "django" in request.param:
            subprocess.run([sys.executable, EXAMPLES / "django_app.py", "migrate", "-v0"], env=environment, cwd=folder, check=True)
        command = [word.format(socket=place / "app.sock") for word in STARTS[request.param]]
        log = folder / "app.log"
        with log.open("wb") as output:
            words = [program("setpriv"), "--pdeathsig", "TERM", sys.executable, "-m", *command]
            app = subprocess.Popen(words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        stack.callback(app.wait, 20)
        stack.callback(app.terminate)
        site = Site(d, place / "app.sock", log)
        wait_until(lambda: _answers(site, app), f"{request.param} is up: {log}")
        yield site


def _answers(site: Site, app: subprocess.Popen[bytes]) -> bool:
    assert app.poll() is None, site.log.read_text()
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(site.socket)) == 0


def saw(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.face
    told: dict[str, Any] = json.loads(answer.body)
    return told


def around(site: Site, headers: dict[str, str], path: str = "/") -> tuple[int, bytes]:
    """A request to the app's socket that did not come through nginx."""
    connection = http.client.HTTPConnection("app.example", timeout=15)
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(site.socket))
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_answers_who_is_there(site: Site) -> None:
    told = saw(site.door.visit(site.door.ann))
    assert told.pop("user", "ann") == "ann"
    assert told == {
        "login": "ann", "name": "Änn O'Reilly; \"A\" $x", "email": "ann+$x@example.com", "groups": ["staff", "all hands, on deck"],
        "serial": site.door.ann.serial, "issuer": "CN=kitty-ca people", "device": "ann's laptop", "verified": True,
    }  # fmt: skip
    assert saw(site.door.visit(site.door.bob))["login"] == "bob"


def test_groups_count(site: Site) -> None:
    assert b"for bob" in site.door.visit(site.door.bob, path="/staff").body
    assert site.door.visit(site.door.carl, path="/staff").status == 403
    assert saw(site.door.visit(site.door.carl))["groups"] is None


def test_without_a_certificate_nobody_gets_to_it(site: Site) -> None:
    for who in (None, site.door.pki.foreign().client("ann")):
        assert site.door.visit(who).status in (400, 403)


@pytest.mark.parametrize("spelling", ["{}", "{}_", "_{}", "_"])
def test_it_cannot_be_talked_into_another_name(site: Site, spelling: str) -> None:
    forged = {model.VERIFY: "SUCCESS", model.SERIAL: site.door.ann.serial, model.ISSUER: "CN=kitty-ca people", model.GROUPS: "admin"}
    names = {name: spelling.format(name) if "{}" in spelling else name.replace("-", spelling) for name in model.STRIPPED}
    answer = site.door.visit(site.door.bob, headers=tuple((names[name], forged.get(name, "ann")) for name in names))
    if answer.status == 200:
        told = saw(answer)
        assert (told["login"], told["groups"], told["serial"]) == ("bob", ["staff"], site.door.bob.serial)
        assert told.get("user", "bob") == "bob"
    else:
        assert answer.status == 400


def test_lies_at_its_own_socket_are_refused(site: Site) -> None:
    """Who reaches the socket is believed to be nginx; what contradicts itself, is doubled or cannot be read is refused even so."""
    honest = {model.VERIFY: "SUCCESS", model.SERIAL: site.door.ann.serial, model.ISSUER: "CN=kitty-ca people"}
    assert around(site, {})[0] == 403
    assert around(site, {**honest, model.VERIFY: "NONE"})[0] == 403
    for lie in (
        {model.USER: "bob"}, {model.USER: "ann,bob"}, {model.SERIAL: "rubbish"}, {model.CERT: "-----BEGIN CERTIFICATE-----"}, {model.CERT: "%"},
        {model.NAME: "\xff"}, {model.USER: "a" * 200}, {model.CERT: "A" * 7000}, {f"{model.USER}-": "admin"},
    ):  # fmt: skip
        assert around(site, {**honest, **lie})[0] == 400, lie
    assert around(site, {**honest, model.SERIAL: f"{honest[model.SERIAL]}, {honest[model.SERIAL]}"})[0] == 400


def test_whoever_was_sent_away_is_refused_at_the_next_request(site: Site) -> None:
    eve = site.door.pki.client("eve")
    assert saw(site.door.visit(eve))["login"] == "eve"
    site.door.publish(crl=False, revoked=(eve,))  # nginx is not reloaded: only the app knows
    answer = site.door.visit(eve)
    assert (answer.status, b"was taken back" in answer.body) == (403, True)
    assert saw(site.door.visit(site.door.ann))["login"] == "ann"
