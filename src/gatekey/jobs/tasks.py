"""The jobs themselves. Each is a function of the authority and what it speaks through, and can bear to be run twice."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..authority import bundle, crl, jobs
from ..authority.reconcile import reconcile
from ..errors import GatekeyError, Unavailable
from ..model.instants import DAY, HOUR, day
from ..model.mail import Mail
from ..model.record import CertificateRecord

if TYPE_CHECKING:
    from ..authority.authority import Authority

#: Answers to idempotency keys are kept for a week.
KEEP = 7 * DAY
#: A CRL is signed again at this age, though it is good for thirty days.
CRL_AGE = 12 * HOUR


class Mailer(Protocol):
    """Hands in one message dated `at` (POSIX seconds). Raises Unavailable."""

    def send(self, mail: Mail, *, at: int) -> None: ...


class Events(Protocol):
    """Tells the outside of one event. Raises Unavailable or Refused."""

    def send(self, event: dict[str, Any], *, at: int) -> None: ...


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
    return f"signed the CRLs of {', '.join(signed) or 'nobody'}{f'; keys away: {chr(44).join(away)}' if away else ''}"


def close_drafts(authority: Authority) -> str:
    """Abandons drafts whose lease is over, and forgets old answers."""
    closed = reconcile(authority)
    gone = jobs.sweep(authority, keep=KEEP)
    return f"closed {len(closed)} drafts, forgot {gone} old answers"


def remind(authority: Authority, mailer: Mailer | None, events: Events | None, days: Sequence[int]) -> str:
    """Writes to everybody whose certificate ends soon and has no successor: once at 30, at 14 and at 3 days (or what is configured).

    Mail and webhook are claimed and sent each for itself: what one of them has taken is not sent again because the other was away. Raises Unavailable when
    something could not be sent; everything else was tried.
    """
    sent, troubles = 0, []
    for record, left in due(authority, days):
        holder = authority.reads.holder(record.holder)
        if holder is None or holder.left_at:
            continue
        ways: dict[str, Callable[[], None]] = {}
        if mailer and holder.email:
            ways["mail"] = functools.partial(mailer.send, reminder(record, holder.display, holder.email, authority.config.name, left), at=authority.now())
        if events:
            told = {"event": "certificate.expiring", "serial": record.serial, "issuer": record.issuer, "holder": holder.login, "device": record.device}
            ways["webhook"] = functools.partial(events.send, {**told, "not_after": record.not_after, "days_left": left // DAY}, at=authority.now())
        for way, send in ways.items():
            try:
                sent += _once(authority, f"reminder-{way}", "/".join(record.id), [one for one in days if left <= one * DAY], send)
            except GatekeyError as problem:
                troubles.append(problem.message)
            except Exception as fault:  # noqa: BLE001  a fault of ours or of a library with one letter must not keep back all the others
                troubles.append(f"{way}: {type(fault).__name__}")
    if troubles:
        raise Unavailable("reminders-failed", f"{len(troubles)} reminders could not be sent ({troubles[-1]}); {sent} were", hint="they are tried again")
    return f"sent {sent} reminders"


def _once(authority: Authority, what: str, subject: str, steps: Sequence[int], send: Callable[[], None]) -> bool:
    """Sends, unless it was sent at the nearest of these steps before. All of them are claimed together: whoever comes late is told once, not three times.

    What could not be sent is free again, whatever went wrong; that error is raised.
    """
    fresh = [one for one in steps if jobs.claim_message(authority, f"{what}-{one}", subject)]
    if min(steps) not in fresh:
        return False
    try:
        send()
    except BaseException:
        for one in fresh:
            jobs.unsent(authority, f"{what}-{one}", subject)
        raise
    return True


def due(authority: Authority, days: Sequence[int]) -> list[tuple[CertificateRecord, int]]:
    """Live certificates of people and devices that end within the longest step and have no live successor, with the seconds that are left."""
    now = authority.now()
    longest = max(days, default=0) * DAY
    live = authority.reads.certificates("c.state = 'released' AND c.revoked_at IS NULL AND c.not_after >= :now", now=now)
    renewed = {record.renews for record in live if record.renews}
    found = []
    for record in live:
        ours = record.kind in ("person", "device", "service", "server") and not record.profile.startswith("probe") and record.profile != "ocsp-responder"
        # A certificate for a day or two is renewed by a program; nobody wants a letter about it.
        short = record.not_after - record.not_before < 2 * longest
        if ours and not short and record.not_after - now <= longest and "/".join(record.id) not in renewed:
            found.append((record, record.not_after - now))
    return found


def reminder(record: CertificateRecord, name: str, email: str, authority: str, left: int) -> Mail:
    """The letter, in plain words."""
    days = left // DAY
    when = "today" if days < 1 else "tomorrow" if days == 1 else f"in {days} days"
    device = f" on your device {record.device}" if record.device else ""
    text = f"""Hello {name},

your certificate{device} from {authority} ends {when}, on {day(record.not_after)}.
After that the pages it opens will not let you in, and your browser will not say why.

Please ask your administrator for a new one. It is this certificate: {record.title}, serial {record.serial}.

This message was written by a program.
"""
    return Mail(email, f"{authority}: your certificate ends {when}", text)
