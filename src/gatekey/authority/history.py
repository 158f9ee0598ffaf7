"""The rows of the ledger against what the audit log tells of them: nothing came in unrecorded, nothing is gone, nothing was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..store.audit import Logged
    from ..store.reads import Standing
    from .authority import Authority


class Told(NamedTuple):
    """What the log tells of one certificate. `recorded`, `released`: the facts of those events, or None. `standing`: in words."""

    recorded: dict[str, object] | None
    released: dict[str, object] | None
    standing: str


def contradictions(authority: Authority) -> Iterator[str]:
    """Where rows and log do not agree, in words."""
    matched = 0
    for row in authority.reads.standings():
        told = _told(authority.reads.events_about(f"{row.issuer}/{row.serial}"))
        where = f"{row.issuer}/{row.serial}"
        if told.recorded is None:
            if not row.holder.startswith("authority:"):  # a CA that was signed elsewhere was installed, not recorded
                yield f"{where} stands in the ledger, and the audit log does not know it"
            continue
        matched += 1
        yield from (f"{where}: {problem}" for problem in _problems(row, told))
    if matched < authority.reads.count_of_events("certificate.record"):
        known = {f"{row.issuer}/{row.serial}" for row in authority.reads.standings()}
        for event in authority.reads.events_of("certificate.record"):
            if event.subject not in known:
                yield f"{event.subject} is gone: the audit log knows it, the ledger does not"


def _told(events: Iterator[Logged]) -> Told:
    recorded = released = None
    standing = "in force"
    for event in events:
        match event.action:
            case "certificate.record":
                recorded = event.facts
            case "certificate.release":
                released = event.facts
            case "certificate.revoke":
                standing = f"revoked ({event.facts.get('reason')})"
            case "certificate.hold":
                standing = "held"
            case "certificate.unhold":
                standing = "in force"
            case "certificate.abandon":
                standing = "abandoned" if standing == "in force" else standing
    return Told(recorded, released, standing)


def _problems(row: Standing, told: Told) -> Iterator[str]:
    facts = told.recorded or {}
    as_recorded = (facts.get("profile"), facts.get("holder"), facts.get("device"), facts.get("key"), facts.get("tbs"))
    if as_recorded != (row.profile, row.holder, row.device, row.spki_sha256, hashlib.sha256(row.tbs).hexdigest()):
        yield "the row does not say what the audit log says"
    if (told.released is not None) != (row.state == "released"):
        yield f"the row says {row.state}, the audit log says {'released' if told.released is not None else 'not released'}"
    elif told.released is not None and told.released.get("fingerprint") != row.fingerprint:
        yield "the row does not say what the audit log says"
    if (now := _standing(row)) != told.standing:
        yield f"the row says {now}, the audit log says {told.standing}"
    elif row.revoked_reason is not None and not row.logged:
        yield "the list of revocations does not know it"


def _standing(row: Standing) -> str:
    if row.revoked_reason is None:
        return "in force"
    if row.revoked_reason == "certificate-hold":
        return "held"
    if row.state == "abandoned" and row.revoked_reason == "unspecified":
        return "abandoned"
    return f"revoked ({row.revoked_reason})"
