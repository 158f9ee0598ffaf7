"""The agent's own certificate ends like any other: before a real service it gets a successor in the last third of its life, and goes on with that."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatekey import app
from gatekey.authority import access, requests
from gatekey.authority.issue import issue
from gatekey.keys import material
from gatekey.model.instants import DAY, HOUR
from gatekey.testing import FakeClock
from gatekey.x509 import pem
from kit.administrator import COMMAND, NAME
from kit.asked import Service
from kit.faraway import remote
from kit.servers import program, wait_until

pytestmark = pytest.mark.slow

#: Seconds until two thirds of a certificate's life are over.
SOON = 4


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Before an authority that is two days old, so that it may have issued something yesterday."""
    running = Service(tmp_path_factory.mktemp("served"))
    said = (running.admin.home / "gatekey.toml").read_bytes()
    shutil.rmtree(running.admin.home)
    app.create_authority(running.admin.home, app.Founding(NAME, unencrypted_keys=True), clock=FakeClock(int(time.time()) - 2 * DAY)).close()
    (running.admin.home / "gatekey.toml").write_bytes(said)
    try:
        running.start()
        running.admin.process("authority", "export", "servers-root", "--out", running.folder / "servers-root.crt")
        yield running
    finally:
        running.stop()
        shutil.rmtree(running.short, ignore_errors=True)


class Host:
    """An agent of a process of its own; its web server is one that needs no reload. Its certificate is `SOON` from being renewed, or is so already."""

    def __init__(self, served: Service, folder: Path, login: str, soon: int) -> None:
        self.served, self.folder, self.login = served, folder, login
        self.certificate, self.key = served.folder / f"{login}.crt", served.folder / f"{login}.key"
        key = material.make("p256")
        # One day is the least that policy gives, and an hour before it: issued so long ago that two thirds of them are over in `soon` seconds.
        with served.admin.open(FakeClock(int(time.time()) + soon - 2 * (DAY + HOUR) // 3 + HOUR)) as authority:
            released = issue(authority, *requests.client(authority, login, key.spki, days=1))
            access.set_roles(authority, login, add=["proxy"])
        self.first = released.number
        self.certificate.write_bytes(pem.encode("CERTIFICATE", released.der))
        self.key.touch(0o600)
        self.key.write_bytes(pem.encode("PRIVATE KEY", key.pkcs8()))
        said = {**remote(served, login), "target": str(folder / "bundle"), "server": "other", "reload": []}
        (folder / "agent.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items()))
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [program("setpriv"), "--pdeathsig", "TERM", *COMMAND, "agent", "--config", str(self.folder / "agent.toml"), *words]

    def once(self) -> int:
        with self.log.open("ab") as log:
            return subprocess.run(self.command("--once"), env=self.served.admin.environment(), stdout=log, stderr=log, timeout=60, check=False).returncode

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.served.admin.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            assert self.process.wait(20) == 0, self.log.read_text()
            self.process = None

    @property
    def shown(self) -> x509.Certificate:
        """What the agent would show now."""
        return x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]

    @property
    def serial(self) -> str:
        return f"{self.shown.serial_number:032X}"

    @property
    def deny_list(self) -> str:
        """The deny list that it has brought."""
        place = self.folder / "bundle" / "revoked.txt"
        return place.read_text() if place.exists() else ""

    def brings(self, login: str, seconds: float = 5) -> None:
        """Somebody is revoked, and the agent brings that and tells the service."""
        served = self.served
        served.admin.process("issue", "client", login, "--out", served.folder)
        serial = served.show(login)["serial"]
        served.admin.process("revoke", login)
        begun = time.monotonic()
        wait_until(lambda: serial in self.deny_list, f"the agent brings the revocation of {login}")
        assert time.monotonic() - begun < seconds
        place = f"agent {self.login}"
        wait_until(lambda: place in [tick["place"] for tick in served.show(serial)["clock"]["taken_over"]], "it has told the service")

    def rows(self) -> list[dict[str, Any]]:
        """Its certificates in the ledger, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.served.admin.process("list", "--holder", self.login, "--json").stdout)
        return sorted(found, key=lambda row: str(row["issued_at"]))


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_running_agent_renews_and_goes_on_with_the_new_one(served: Service, tmp_path: Path) -> None:
    host = Host(served, tmp_path, "web1", SOON)
    before, key = host.shown, host.key.read_bytes()
    due = time.monotonic() + SOON + 1
    host.start()
    try:
        host.brings("p1")
        assert host.serial == host.first, "two thirds are not over yet"
        wait_until(lambda: time.monotonic() > due, "two thirds of its life are over")
        host.brings("p2")  # what ends a long poll, so that the test need not wait for its half minute
        wait_until(lambda: host.serial != host.first, "the certificate is another one")
        after = host.shown
        assert (spki(after), after.subject, host.key.read_bytes()) == (spki(before), before.subject, key)
        assert after.not_valid_after_utc > before.not_valid_after_utc
        assert "the agent's certificate was renewed" in host.log.read_text()
        assert len(x509.load_pem_x509_certificates(host.certificate.read_bytes())) == 2  # with its issuer
        rows = host.rows()
        assert [(row["serial"], row["status"]) for row in rows] == [(host.first, "valid"), (host.serial, "valid")]
        assert rows[1]["renews"] == host.first

        served.admin.process("revoke", host.first)  # whoever has the old one has nothing any more, and the agent does not need it
        host.brings("p3")
        host.stop()
        served.stop()
        served.start()
        host.start()
        host.brings("p4")
        assert len(host.rows()) == 2, "it is renewed once"
    finally:
        host.stop()


def test_it_is_renewed_without_a_service_of_its_own(served: Service, tmp_path: Path) -> None:
    """`gatekey agent --once` from a timer; a second run, and one whose answer was lost, make no second successor."""
    host = Host(served, tmp_path, "web2", -1)
    old = host.certificate.read_bytes()
    assert host.once() == 0, host.log.read_text()
    renewed = host.certificate.read_bytes()
    assert host.serial != host.first
    assert host.once() == 0
    assert host.certificate.read_bytes() == renewed
    host.certificate.write_bytes(old)  # as if the machine had lost its power before the new one was in its place
    assert host.once() == 0
    assert host.certificate.read_bytes() == renewed
    assert [row["status"] for row in host.rows()] == ["valid", "valid"]


def test_what_cannot_be_renewed_stays_and_says_so(served: Service, tmp_path: Path) -> None:
    """The role was taken away for a while."""
    host = Host(served, tmp_path, "web3", -1)
    served.admin.process("people", "set", "web3", "--no-role", "proxy")
    assert host.once() == 1
    assert host.serial == host.first
    assert "was not renewed" in host.log.read_text()
    assert f"gatekey renew {host.first} --out DIR at the authority" in host.log.read_text()
    served.admin.process("people", "set", "web3", "--role", "proxy")
    assert host.once() == 0
    assert host.serial != host.first
