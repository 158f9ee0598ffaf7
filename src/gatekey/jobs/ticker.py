"""Runs what is due, one lease at a time. Called about once a second by every process of the service; an injected clock makes it testable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import GatekeyError

if TYPE_CHECKING:
    from ..authority.authority import Authority

#: A job that takes longer than this is anybody's again (seconds). Every job can bear to be run twice.
LEASE = 300
#: After a failure a job comes round again this soon (seconds).
RETRY = 60


class Job(NamedTuple):
    """`run` does the work and answers with one sentence; `every`: seconds until it is due again."""

    name: str
    every: int
    run: Callable[[Authority], str]


class Ran(NamedTuple):
    """How a job ended. `failed`: the sentence of its refusal, or "". `fault`: what was raised, if anything."""

    name: str
    said: str
    failed: str = ""
    fault: Exception | None = None


class Ticker:
    """The jobs of one process."""

    def __init__(self, authority: Authority, jobs: tuple[Job, ...]) -> None:
        self._authority = authority
        self._jobs = jobs

    def tick(self) -> list[Ran]:
        """Runs every job that is due and that nobody else holds. A failure is told, kept in the job's row, and tried again soon; it never ends the others."""
        done = []
        for job in self._jobs:
            try:
                ran = self._run(job)
            except GatekeyError as problem:  # the row itself cannot be written now: its lease ends, and then the job is anybody's
                ran = Ran(job.name, "", problem.message, problem)
            if ran:
                done.append(ran)
        return done

    def _run(self, job: Job) -> Ran | None:
        """None when it is not due, or held. Raises what the store raises."""
        from ..authority import jobs as rows

        if not rows.claim(self._authority, job.name, LEASE):
            return None
        try:
            ran = Ran(job.name, job.run(self._authority))
        except GatekeyError as problem:
            ran = Ran(job.name, "", problem.message, problem)
        except Exception as fault:  # noqa: BLE001  a bug in one job must neither hold its row nor keep the others from running
            ran = Ran(job.name, "", f"a fault in the program ({type(fault).__name__})", fault)
        rows.finish(self._authority, job.name, RETRY if ran.failed else job.every, f"failed: {ran.failed}" if ran.failed else ran.said)
        return ran
