"""Jobs in real worker processes: however many there are, and whatever restarts come between, each job runs once and each letter goes out once."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from gatekey import app
from gatekey.api import Authority
from gatekey.authority import requests
from gatekey.authority.issue import issue
from gatekey.keys import material
from gatekey.model.instants import DAY
from gatekey.testing import FakeClock
from kit.front import Front, front
from kit.post import MailServer
from kit.servers import wait_until

pytestmark = pytest.mark.slow

WORKERS, PEOPLE = 4, 12
JOBS = ("clean-up", "crl-refresh", "reminders")


def rows(f: Front, statement: str, *values: object) -> list[tuple[object, ...]]:
    """In the ledger, past the program."""
    with contextlib.closing(sqlite3.connect(f.service.home / "ledger.db", timeout=30)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def runs(f: Front) -> Counter[str]:
    """How often each job has run, by the logs of all processes that ever were."""
    found: Counter[str] = Counter()
    for log in f.folder.glob("log-*"):
        before, f.service.log_file = f.service.log_file, log
        found.update(str(line["job"]) for line in f.service.log() if line["event"] in ("job-done", "job-failed"))
        f.service.log_file = before
    return found


def all_are_due(f: Front) -> None:
    """As if an hour had passed since the last time; every worker looks once a second."""
    rows(f, "UPDATE job SET due_at = 0 WHERE owner = ''")


def crl_numbers(f: Front) -> dict[object, object]:
    return dict(rows(f, "SELECT issuer, max(number) FROM crl GROUP BY issuer"))  # type: ignore[arg-type]


def test_many_workers_run_each_job_once_and_write_each_letter_once(tmp_path: Path) -> None:
    """The authority was founded 340 days ago: its CRLs are long over, and twelve certificates end in 25 days. Whoever ran a job twice is seen a round later."""
    past = FakeClock(int(time.time()) - 340 * DAY)
    expected: dict[str, int] = {}
    founded: dict[object, object] = {}

    def prepare(authority: Authority) -> None:
        for number in range(PEOPLE):
            authority.issue_client(f"p{number}", email=f"p{number}@kitty.example")
            expected[f"p{number}@kitty.example"] = 1
        founded.update({record.name: authority._core.reads.newest_crl_number(record.name) for record in authority._core.records()})

    with MailServer() as post:
        mail = {"server": post.place, "from": "ca@kitty.example", "security": "none"}
        with front(tmp_path, workers=WORKERS, clock=past, prepare=prepare, tables={"mail": mail}) as f:

            def rounds(*numbers: int) -> None:
                for number in numbers:
                    if number > 1:
                        all_are_due(f)
                    wait_until(lambda number=number: all(runs(f)[job] >= number for job in JOBS), f"round {number}")  # type: ignore[misc]
                    assert runs(f) == dict.fromkeys(JOBS, number)
                    assert Counter(letter["To"] for letter in post.letters) == expected

            rounds(1)
            refreshed = crl_numbers(f)
            assert refreshed == {name: int(str(number)) + 1 for name, number in founded.items()}, "each CRL was signed again, once"
            rounds(2, 3)
            f.reload()
            rounds(4, 5)
            f.stop()
            with contextlib.closing(app.open_authority(f.service.home, clock=past)) as authority:
                issue(authority, *requests.client(authority, "late", material.make("p256").spki, email="late@kitty.example"))
            expected["late@kitty.example"] = 1
            all_are_due(f)
            f.start(f.service.public, f.service.private)
            rounds(6, 7, 8)
            assert crl_numbers(f) == refreshed, "a fresh CRL is not signed again"
