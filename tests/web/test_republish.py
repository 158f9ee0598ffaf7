"""CRLs of a real `gatekey serve` follow the ledger, whoever revokes and whoever dies."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.api import Authority
from gatekey.authority import access
from gatekey.x509.crl import read_crl
from kit.servers import wait_until
from kit.service import ROOT, Service, client_context, serving

pytestmark = pytest.mark.slow

#: Commits a revocation; then its process is killed, with the lease of the service's own work in its hands if it is told to.
_DIES = """
import os, signal, sys
from gatekey.api import Authority
from gatekey.authority import jobs
from gatekey.authority.republish import NAME
from gatekey.x509.crl import encode_entry
core = Authority.open(sys.argv[1])._core
(record,) = core.reads.by_serial(sys.argv[2])
while sys.argv[3] == "lease" and not jobs.claim(core, NAME, 60):
    pass
core.ledger.revoke(record.id, "unspecified", at=core.now(), actor="test", entry=encode_entry)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("republish")) as running:
        yield running


def published(service: Service) -> tuple[int, set[str]]:
    """Number and entries of the CRL that web servers get."""
    held = read_crl(service.get("/crl/people.crl")[2])
    assert held.number is not None
    return held.number, {entry.serial for entry in held.entries()}


@pytest.mark.parametrize("how", ["alone", "lease"])
def test_a_revocation_whose_process_dies_is_in_the_crl_within_seconds(service: Service, how: str) -> None:
    with service.authority() as authority:
        serial = authority.issue_client(f"dies-{how}").serial
    done = subprocess.run([sys.executable, "-c", _DIES, str(service.home), serial, how], env={"PYTHONPATH": str(ROOT / "src")}, check=False)
    assert done.returncode == -9
    begun = time.monotonic()
    wait_until(lambda: serial in published(service)[1], "the CRL", 20)
    assert time.monotonic() - begun < 10, "a second or two on an idle machine"


def test_a_burst_shares_its_crls(service: Service, tmp_path: Path) -> None:
    with service.authority() as authority:
        serials = [authority.issue_client(f"burst{number}").serial for number in range(20)]
        core = authority._core
        authority.issue_client("boss")
        access.set_roles(core, "boss", add=["administrator"])
        token = access.make_token(core, "boss", ["revoke"])[1]
        context = client_context(authority, tmp_path)
    before = published(service)[0]

    def revoke(serial: str) -> int:
        connection = http.client.HTTPSConnection("localhost", service.private, context=context, timeout=30)
        connection.request("POST", f"/v1/certificates/{serial}/revoke", b"{}", {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, told
        return int(told["number"])

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        numbers = list(pool.map(revoke, serials))
    took = time.monotonic() - begun
    with Authority.open(service.home) as authority:
        assert max(numbers) <= authority._core.reads.revocation_number()
    wait_until(lambda: set(serials) <= published(service)[1], "all of them in the CRL", 20)
    made = published(service)[0] - before
    assert made <= 3 + took, f"{made} CRLs for 20 revocations in {took:.1f} seconds"
