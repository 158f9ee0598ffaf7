"""What /metrics tells of how things stand: the findings of the checks, and what the housekeeping thread has read in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .metrics import STATES, Levels

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from .health import Health


class Gauges:
    """One worker's gauges. `look` reads the ledger, `levels` only memory."""

    def __init__(self, authority: Authority, health: Health) -> None:
        self._authority = authority
        self._health = health
        self._read: Levels = {}

    def look(self) -> None:
        """Once a second: a few reads of 20 us. Raises what the store raises; then the last ones stand."""
        reads = self._authority.reads
        held = [(record.name, reads.newest_crl(record.name)) for record in self._authority.records()]
        found: Levels = {("gatekey_crl_next_update_seconds", name): one.next_update for name, one in held if one}
        self._read = found | {("gatekey_newest_revocation_seconds",): reads.newest_revocation_at()}

    def levels(self) -> Levels:
        """All of them: of a check the rank of its state, where what nobody has looked at for long counts as failed."""
        return self._read | {("gatekey_check", name): STATES.index(finding.state) for name, finding in self._health.findings.items()}
