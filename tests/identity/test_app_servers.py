"""What real WSGI servers make of a request, read by the middleware: who is the peer, what becomes of look-alikes and doubled headers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import waitress
import werkzeug.serving

from gatekey.identity.wsgi import IdentityMiddleware
from kit.asking import echo_wsgi
from kit.house import House, nginx_says
from kit.servers import free_port, program, wait_until

pytestmark = pytest.mark.slow

Address = str | tuple[str, int]


@contextlib.contextmanager
def _threaded(run: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()


@contextlib.contextmanager
def _waitress(app: Any, address: Address) -> Iterator[None]:
    where = {"unix_socket": address} if isinstance(address, str) else {"host": address[0], "port": address[1]}
    server = waitress.create_server(app, threads=1, map={}, **where)

    def run() -> None:
        with contextlib.suppress(OSError):  # its own selector, closed under it by `close`
            server.run()

    def stop() -> None:
        server.task_dispatcher.shutdown()
        server.pull_trigger()
        server.close()

    with _threaded(run, stop):
        yield


@contextlib.contextmanager
def _werkzeug(app: Any, address: Address) -> Iterator[None]:
    host, port = (f"unix://{address}", 0) if isinstance(address, str) else address
    server = werkzeug.serving.make_server(host, port, app)
    with _threaded(server.serve_forever, server.shutdown):
        yield
    server.server_close()


@contextlib.contextmanager
def _wsgiref(app: Any, address: Address) -> Iterator[None]:
    assert not isinstance(address, str)

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with make_server(*address, app, handler_class=Silent) as server, _threaded(server.serve_forever, server.shutdown):
        yield


SERVERS: dict[str, Any] = {"waitress": _waitress, "werkzeug": _werkzeug, "wsgiref": _wsgiref}


def raw(address: Address, *lines: str) -> tuple[int, Any]:
    """One request, its header lines written as they are."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as connection:
        connection.settimeout(15)
        connection.connect(address)
        connection.sendall("\r\n".join(["GET / HTTP/1.0", "Host: x", *lines, "", ""]).encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if status == 200 else body


def wait_for(address: Address) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe:
            return probe.connect_ex(address) == 0

    wait_until(answers, f"somebody listens at {address}")


def lines(said: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in said.items()]


@pytest.mark.parametrize("name", ["waitress", "werkzeug"])
def test_a_unix_socket_is_known(house: House, tmp_path: Path, name: str) -> None:
    address = str(tmp_path / "s")
    said = lines(nginx_says(house.ann))
    for trust, status in (("unix", 200), (["127.0.0.1", "::1"], 403)):
        with SERVERS[name](IdentityMiddleware(echo_wsgi, trust=trust), address):
            assert raw(address, *said)[0] == status
            assert raw(address, *said, "X-Forwarded-For: 192.0.2.1")[0] == status
        Path(address).unlink(missing_ok=True)


@pytest.mark.parametrize("name", SERVERS)
def test_an_address_is_known_and_lies_are_not_believed(house: House, name: str) -> None:
    address = ("127.0.0.1", free_port())
    said = lines({**nginx_says(house.ann), "X-Client-User": "ann"})
    with SERVERS[name](IdentityMiddleware(echo_wsgi, trust="127.0.0.1"), address):
        wait_for(address)
        assert raw(address, *said)[1]["client"]["login"] == "ann"
        for lie in ("X-Client-User: admin", "x-client-user: ann", "X_Client_User: admin", "X-Client-User_: admin", "X-Client-Serial: 1", "X-Client-Cert: x"):
            # The server joins it (then it is refused), drops it or refuses it: it never replaces what the web server said.
            status, saw = raw(address, *said, lie)
            assert status == 400 or saw["client"]["login"] == "ann", lie
            status, saw = raw(address, lie, *said)
            assert status == 400 or saw["client"]["login"] == "ann", lie
    other = ("127.0.0.1", free_port())
    with SERVERS[name](IdentityMiddleware(echo_wsgi, trust=["unix", "10.0.0.0/8"], anonymous=True), other):
        wait_for(other)
        assert raw(other, *said)[1]["client"]["verified"] is False


@pytest.mark.parametrize("unix", [True, False])
def test_gunicorn(house: House, tmp_path: Path, unix: bool) -> None:
    address: Address = str(tmp_path / "s") if unix else ("127.0.0.1", free_port())
    bind = f"unix:{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
    (tmp_path / "hello.py").write_text(
        "from gatekey.identity.wsgi import IdentityMiddleware\nfrom kit.asking import echo_wsgi\n"
        "near = IdentityMiddleware(echo_wsgi, trust='unix')\nfar = IdentityMiddleware(echo_wsgi, trust='127.0.0.1')\n"
    )
    said = lines(nginx_says(house.ann))
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{root / 'src'}:{root / 'tests'}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    for app, status in (("near", 200 if unix else 403), ("far", 403 if unix else 200)):
        words = [program("setpriv"), "--pdeathsig", "TERM", sys.executable, "-m", "gunicorn", f"hello:{app}", "--bind", bind, "--no-control-socket"]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=log, stderr=log) as process:
            try:
                wait_for(address)
                for more in ([], ["X-Forwarded-For: 127.0.0.1"], ["Forwarded: for=unix"]):
                    assert raw(address, *said, *more)[0] == status
                if status == 200:
                    assert raw(address, *said, "X-Client-User: ann", "X-Client-User: ann")[0] == 400
                    assert raw(address, *said, "X_Client_User: admin")[1]["client"]["login"] == "ann"
            finally:
                process.terminate()
