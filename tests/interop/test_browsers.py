"""Real Chromium and real Firefox: the PKCS#12 that `gatekey issue client` wrote is imported, the page is had from nginx with Gatekey's own configuration, and
after the revocation the same open browser is shown the page for those who are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gatekey.cli.demo_servers import page
from gatekey.webserver import nginx as writer
from gatekey.webserver import page as refused
from gatekey.webserver.site import Site
from kit import browsers
from kit.administrator import Administrator
from kit.browsers import Browser, Store, visible
from kit.pki import make_pki
from kit.servers import Nginx, free_ports, nginx, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

HOST = "pictures.example"


class _App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = page(self.headers.get("X-Client-User", "")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextlib.contextmanager
def app() -> Iterator[str]:
    """The page full of pictures, which says whom the web server let in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _App)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Story:
    """An authority, a site behind nginx, and Ann."""

    def __init__(self, admin: Administrator, server: Nginx, url: str) -> None:
        self.admin = admin
        self.server = server
        self.url = url

    @property
    def root(self) -> Path:
        return self.admin.home / "authorities" / "servers-root.crt"

    def gives(self, login: str, *options: str) -> tuple[Path, Path]:
        """What Ann is handed: a PKCS#12 and, another way, its password."""
        password = self.admin.folder / f"{login}.pw"
        self.admin("issue", "client", login, "--password-file", password, *options)
        return self.admin.folder / f"{login}.p12", password

    def foreign(self) -> tuple[Path, Path]:
        """A PKCS#12 of somebody else's authority, and its password."""
        file, password = self.admin.folder / "mallory.p12", self.admin.folder / "mallory.pw"
        file.write_bytes(make_pki("somebody else").client("mallory").pkcs12("geheim"))
        password.write_text("geheim\n")
        return file, password

    def publish(self) -> None:
        self.admin("bundle", "--out", self.admin.folder / "bundle")

    def revokes(self, login: str) -> None:
        self.admin("revoke", login)
        self.publish()
        self.server.reload()


@pytest.fixture
def story(admin: Administrator, tmp_path: Path) -> Iterator[Story]:
    port, plain = free_ports(2)
    with app() as upstream:
        admin("issue", "server", HOST, "--out", admin.folder / "site")
        admin("bundle", "--out", admin.folder / "bundle")
        site = Site(
            HOST,
            upstream,
            certificate=str(admin.folder / "site" / f"{HOST}.chain.crt"),
            key=str(admin.folder / "site" / f"{HOST}.key"),
            folder=str(admin.folder / "gatekey"),
            bundle=str(admin.folder / "bundle"),
            listen=(f"127.0.0.1:{port}",),
            plain=(f"127.0.0.1:{plain}",),
            contact="ann@pictures.example",
        )
        with nginx(writer.configuration(site).whole, tmp_path, [port, plain], main=writer.main_level()) as server:
            yield Story(admin, server, f"https://{HOST}:{port}/")


def tell(story: Story, name: str, store: Store, start: Callable[[], AbstractContextManager[Browser]], *options: str) -> None:
    """What a person sees: refused, let in, and refused again. A certificate of another authority lies in the store all the time, and is never offered."""
    store.trust(story.root)
    store.take_in(*story.foreign())
    with start() as browser:
        text = visible(browser.open(story.url))
        assert refused.NO_CERTIFICATE in text
        browser.picture(f"{name}-1-without")
    store.take_in(*story.gives("ann", "--device", "laptop", "--group", "staff", *options))
    story.publish()
    story.server.reload()
    with start() as browser:
        text = visible(browser.open(story.url))
        assert "I see you as ann" in text, text
        browser.picture(f"{name}-2-ann")
        story.revokes("ann")
        text = wait_until(lambda: (seen := visible(browser.open(story.url))) and "I see you as" not in seen and seen, f"{name} is refused", 10)
        assert refused.WITHDRAWN in text, text
        assert "Whom to ask: ann@pictures.example" in text
        browser.picture(f"{name}-3-revoked")


def test_chromium(story: Story, tmp_path: Path) -> None:
    home = tmp_path / "chromium"
    store = Store(home / ".pki" / "nssdb")
    with browsers.selecting([story.url]):
        tell(story, "chromium", store, lambda: browsers.chromium(home, [HOST]), "--for", "any")


def test_firefox(story: Story, tmp_path: Path) -> None:
    profile = tmp_path / "firefox"
    tell(story, "firefox", Store(profile), lambda: browsers.firefox(profile, [HOST]), "--for", "modern", "--key-type", "rsa-2048")
