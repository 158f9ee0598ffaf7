"""Real browsers without a window: Debian's Chromium (by Playwright) and Firefox ESR (by Marionette, its own protocol), each with a home of its own.

    store = Store(tmp_path / "db"); store.trust(root); store.take_in(p12, password_file)
    with firefox(profile, {"app.example"}) as browser:
        assert "I see you as ann" in browser.open("https://app.example:8443/")
        browser.picture("firefox-ann")

Both look for certificates in an NSS database, as the browsers of people on Linux do. Neither calls home.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from kit.servers import PATIENCE, free_port, program, wait_until

#: Where CI finds what the browsers showed.
ARTEFACTS = Path(__file__).parent.parent.parent / "artefacts"
POLICIES = Path("/etc/chromium/policies/managed")
#: One process at a time may write policies: Chromium reads the folder at its start, and takes one file's word for each policy.
_LOCK = Path("/tmp/gatekey-test-chromium.lock")


class Browser(Protocol):
    """An open browser."""

    def open(self, url: str) -> str:
        """What a person reads on the page; for a page that could not be had, what the browser says instead."""

    def picture(self, name: str) -> Path:
        """A screenshot, kept as an artefact."""


class Store:
    """An NSS database: `$HOME/.pki/nssdb`, or a Firefox profile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._run("certutil", "-N", "--empty-password")

    def trust(self, root: Path) -> None:
        """As `gatekey trust` tells people to."""
        self._run("certutil", "-A", "-t", "C,,", "-n", root.stem, "-i", str(root))

    def take_in(self, p12: Path, password_file: Path) -> None:
        said = self._run("pk12util", "-i", str(p12), "-w", str(password_file))
        assert "PKCS12 IMPORT SUCCESSFUL" in said

    def listed(self) -> str:
        return self._run("certutil", "-L")

    def _run(self, name: str, *words: str) -> str:
        done = subprocess.run([program(name), *words, "-d", f"sql:{self.folder}"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{name} {words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def kept(name: str, data: bytes) -> Path:
    ARTEFACTS.mkdir(exist_ok=True)
    path = ARTEFACTS / f"{name}.png"
    path.write_bytes(data)
    return path


# Chromium

_QUIET = (
    "--no-sandbox",  # as root there is none
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,CertificateTransparencyComponentUpdater",
)


class Chromium:
    """A page of Chromium."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def open(self, url: str) -> str:
        from playwright.sync_api import Error

        try:
            self._page.goto(url, timeout=PATIENCE * 1000)
        except Error as error:
            return error.message
        return str(self._page.inner_text("body"))

    def picture(self, name: str) -> Path:
        return kept(name, self._page.screenshot())


@contextlib.contextmanager
def selecting(sites: Iterable[str]) -> Iterator[None]:
    """Chromium sends the certificate that fits without asking: a policy, as an administrator would write it. Needs root; other policies stay."""
    assert os.access(POLICIES.parent.parent.parent, os.W_OK) or os.geteuid() == 0, f"only root can write Chromium's policies in {POLICIES}"
    made = [folder for folder in (POLICIES, *POLICIES.parents) if not folder.exists()]
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = POLICIES / "gatekey-test.json"
        POLICIES.mkdir(parents=True, exist_ok=True)
        # Each entry is a string that holds JSON.
        file.write_text(json.dumps({"AutoSelectCertificateForUrls": [json.dumps({"pattern": site, "filter": {}}) for site in sites]}))
        try:
            yield
        finally:
            file.unlink()
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


@contextlib.contextmanager
def chromium(home: Path, hosts: Iterable[str]) -> Iterator[Chromium]:
    """Chromium of the user who lives in `home`; `hosts` are on loopback."""
    from playwright.sync_api import sync_playwright

    rules = ",".join(f"MAP {host} 127.0.0.1" for host in hosts)
    environment: dict[str, str | float | bool] = {**os.environ, "HOME": str(home)}
    environment |= {"XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
    for proxy in [name for name in environment if name.lower().endswith("_proxy")]:
        del environment[proxy]
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile", executable_path=program("chromium"), args=[*_QUIET, f"--host-resolver-rules={rules}"], env=environment, timeout=PATIENCE * 1000
        )
        try:
            yield Chromium(context.pages[0])
        finally:
            context.close()


# Firefox

_PREFERENCES: dict[str, object] = {
    "security.default_personal_cert": "Select Automatically",
    "app.update.enabled": False,
    "browser.aboutConfig.showWarning": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "network.trr.mode": 5,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """Firefox at the other end of a Marionette connection: `LENGTH:[0, id, command, parameters]` there, `LENGTH:[1, id, error, result]` back."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line.makefile("rwb")
        self._number = 0
        self._hear()  # who it is
        self.ask("WebDriver:NewSession", capabilities={"alwaysMatch": {"pageLoadStrategy": "normal", "timeouts": {"pageLoad": int(PATIENCE * 1000)}}})

    def ask(self, command: str, **parameters: object) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._line.write(b"%d:%s" % (len(message), message))
        self._line.flush()
        kind, number, error, result = self._hear()
        assert (kind, number) == (1, self._number)
        if error:
            raise RuntimeError(f"{error['error']}: {error['message']}")
        return result

    def _hear(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            byte = self._line.read(1)
            assert byte, "Firefox hung up"
            size += byte
        return json.loads(self._line.read(int(size[:-1])))

    def open(self, url: str) -> str:
        try:
            self.ask("WebDriver:Navigate", url=url)
        except RuntimeError as error:
            return str(error)
        return str(self.ask("WebDriver:ExecuteScript", script="return document.body.innerText", args=[])["value"])

    def picture(self, name: str) -> Path:
        return kept(name, base64.b64decode(self.ask("WebDriver:TakeScreenshot", full=False, hash=False)["value"]))


@contextlib.contextmanager
def firefox(profile: Path, hosts: Iterable[str]) -> Iterator[Firefox]:
    """Firefox with the profile folder `profile`, which is a `Store` too; `hosts` are on loopback."""
    port = free_port()
    preferences = {**_PREFERENCES, "marionette.port": port, "network.dns.localDomains": ",".join(hosts)}
    (profile / "user.js").write_text("".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()))
    home = profile.with_name(profile.name + "-home")
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_HEADLESS_WIDTH": "1280", "MOZ_HEADLESS_HEIGHT": "900"}
    command = [program("setpriv"), "--pdeathsig", "KILL", program("firefox-esr"), "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    with (profile / "output.log").open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:

        def reached() -> socket.socket | None:
            assert process.poll() is None, f"Firefox ended by itself:\n{(profile / 'output.log').read_text(errors='replace')[-2000:]}"
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), PATIENCE)
            return None

        with wait_until(reached, "Firefox answers") as line:
            browser = Firefox(line)
            try:
                yield browser
            finally:
                with contextlib.suppress(Exception):
                    browser.ask("Marionette:Quit", flags=["eForceQuit"])
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)
        shutil.rmtree(home, ignore_errors=True)


def visible(text: str) -> str:
    """Text with its blanks evened out."""
    return re.sub(r"\s+", " ", text)
