"""The jobs that need nobody outside. Each is a function of the authority, and can bear to be run twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..authority import bundle, crl, jobs
from ..authority.reconcile import reconcile
from ..model.instants import DAY, HOUR

if TYPE_CHECKING:
    from ..authority.authority import Authority

#: Answers to idempotency keys are kept for a week.
KEEP = 7 * DAY
#: A CRL is signed again at this age, though it is good for thirty days.
CRL_AGE = 12 * HOUR


def refresh_crls(authority: Authority) -> str:
    """Signs every CRL that is half a day old or incomplete, where the key is here, and writes the published folder anew."""
    signed, away = [], []
    for record in authority.records():
        if not authority.has_key(record.name):
            away.append(record.name)
            continue
        held = crl.newest(authority, record.name)
        fresh = crl.current(authority, record.name, refresh=CRL_AGE)
        if held is None or held.number != fresh.number:
            signed.append(record.name)
    if authority.config.publish:
        bundle.publish(authority, authority.config.publish)
    said = f"signed the CRLs of {', '.join(signed)}" if signed else "every CRL is fresh, none was signed"
    return f"{said}{f'; keys away: {chr(44).join(away)}' if away else ''}"


def close_drafts(authority: Authority) -> str:
    """Abandons drafts whose lease is over, and forgets old answers."""
    closed = reconcile(authority)
    gone = jobs.sweep(authority, keep=KEEP)
    return f"closed {len(closed)} drafts, forgot {gone} old answers"
