"""Configurations that ask the decision endpoint, as texts and through the command line; and the program that asks for Apache."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Refused
from gatekey.webserver import apache, apache_decision, caddy, envoy, haproxy, nginx, traefik
from gatekey.webserver.site import CRL_MOST, Site
from kit.administrator import Administrator, found
from kit.cases import cases

ASKING = Site("app.example", decision="unix:/run/gatekey/proxy.sock", groups=("staff", "büro 2"))
WRITERS: dict[str, Any] = {"nginx": nginx, "apache": apache, "haproxy": haproxy, "caddy": caddy}


@pytest.mark.parametrize("kind", WRITERS)
def test_no_list_is_read_and_no_crl(kind: str) -> None:
    written = WRITERS[kind].configuration(ASKING)
    for name in ("revoked.", "people.", "issuers.", "all.crl.pem"):
        assert name not in written.whole.replace("people-chain.pem", ""), name
    assert "/run/gatekey/proxy.sock" in written.whole
    assert "staff,b%C3%BCro%202" in written.whole
    with_crl = WRITERS[kind].configuration(ASKING._replace(crl=True)).whole
    assert ("all.crl.pem" in with_crl) == (kind != "caddy")
    assert "all.crl.pem" not in WRITERS[kind].configuration(ASKING._replace(crl=True, revoked=CRL_MOST + 1)).whole


@pytest.mark.parametrize("address", ["/run/x.sock", "http://ca.example:8080", "unix:run/x", "https://ca.example/decision", "unix:/run/a b", "https://a;b:1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(Refused, match="decision endpoint"):
        nginx.configuration(Site("app.example", decision=address))


def test_traefik_asks_by_https_and_envoy_cannot() -> None:
    text = traefik.configuration(ASKING._replace(decision="https://ca.example:8443")).text
    assert 'address: "https://ca.example:8443/decision"' in text
    assert text.index("-strip:") < text.index("-certificate:") < text.index("-decision:")
    with pytest.raises(Refused, match="https only"):
        traefik.configuration(ASKING)
    with pytest.raises(Refused, match="cannot ask"):
        envoy.configuration(ASKING._replace(groups=()))


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("kind", ["haproxy", "caddy"])
def test_it_is_installed_with_its_script(kind: str, tmp_path: Path) -> None:
    admin = Administrator(tmp_path / "home", tmp_path)
    found(admin.home)
    admin("issue", "server", "app.example", "--out", tmp_path)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    names = ("--certificate", tmp_path / "app.example.chain.crt", "--key", tmp_path / "app.example.key")
    admin("webserver", kind, "--site", "app.example", "--decision", "--install", folder, *names)
    assert (folder / "gatekey" / "decision.lua").exists() == (kind == "haproxy")


@pytest.mark.parametrize("kind", WRITERS)
def test_the_script_alone(kind: str, tmp_path: Path) -> None:
    admin = Administrator(tmp_path / "home", tmp_path)
    said = admin("webserver", kind, "--script", code=0 if kind in ("haproxy", "apache") else 2)
    assert ("/decision" in said.out) == (kind in ("haproxy", "apache"))
    assert "say which site" in admin("webserver", kind, code=2).err


class Fake:
    """A service that answers what the test wants."""

    def __init__(self, path: Path) -> None:
        self.status, self.headers, self.asked = 200, {"X-Client-User": "ann b"}, []  # type: tuple[int, dict[str, str], list[dict[str, str]]]
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.asked.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(fake.status)
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def address_string(self) -> str:
                return "unix"

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        self.server = UnixStreamServer(str(path), Handler)
        path.chmod(0o666)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Fake, apache_decision.Asker]]:
    monkeypatch.setattr(apache_decision, "become_nobody", lambda _: None)  # the test itself must go on as it is
    monkeypatch.chdir(tmp_path)  # a short name: the kernel takes 107 bytes
    made = Fake(Path("s"))
    asker = apache_decision.Asker("unix:s", "app.example", {"--groups": "staff"})
    yield made, asker
    if asker._open:
        asker._open.close()
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def test_what_the_program_for_apache_says(fake: tuple[Fake, apache_decision.Asker]) -> None:
    service, asker = fake
    assert asker.answer("5A_CN=a%20b") == "ann%20b;;;;"
    assert service.asked[-1]["x-gatekey-issuer"] == "CN=a b"
    assert service.asked[-1]["x-gatekey-serial"] == "5A"
    assert service.asked[-1]["x-gatekey-site"] == "app.example"
    assert service.asked[-1]["x-gatekey-groups"] == "staff"
    service.status = 403
    service.headers = {"X-Gatekey-Why": "wrong-group"}
    assert asker.answer("5A_CN=a") == "!wrong-group"
    for status in (200, 201, 204, 302, 401, 400, 500, 503):  # 200 without a name is no answer
        service.status = status
        assert asker.answer("5A_CN=a").startswith("!")


@cases(50)
@given(question=st.text(max_size=60))
def test_the_program_answers_every_line_with_one_line(question: str) -> None:
    asker = apache_decision.Asker("unix:/nonexistent/s", "app.example", {})
    assert asker.answer(question) == "!stale"


def test_the_program_reads_lines_until_apache_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("5A_CN=a\nrubbish\n\n"))
    apache_decision.main(["--groups", "x", "unix:/nonexistent/s", "app.example"])
    assert capsys.readouterr().out == "!stale\n" * 3
