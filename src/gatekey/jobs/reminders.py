"""Who is told that a certificate ends soon, by mail and by webhook, once at each step. A round is short, whatever mail servers do."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..authority import access, jobs
from ..errors import GatekeyError, Refused, Unavailable
from ..model.instants import DAY, day
from ..model.mail import Mail

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..model.holder import Holder
    from ..model.record import CertificateRecord

#: Seconds after which a round begins no further message of a way. The last one may be two letters of a minute (outgoing.mail.WHOLE): together below the lease.
ROUND = 45
#: Certificates in one letter to the administrators; the rest stands in the next one.
TOGETHER = 200


class Mailer(Protocol):
    """Hands in one message dated `at` (POSIX seconds). Raises Unavailable when no other would be taken either, Refused when it is this one.

    `mail-refused` says that this one never will be.
    """

    def send(self, mail: Mail, *, at: int) -> None: ...


class Events(Protocol):
    """Tells the outside of one event. Raises as a Mailer does."""

    def send(self, event: dict[str, Any], *, at: int) -> None: ...


class Ending(NamedTuple):
    """A certificate that ends in `left` seconds and has no successor. `steps`: the configured days that it has reached, the nearest last."""

    record: CertificateRecord
    holder: Holder
    left: int
    steps: tuple[int, ...]

    @property
    def subject(self) -> str:
        """Under what name it stands among what was sent."""
        return "/".join(self.record.id)

    @property
    def when(self) -> str:
        days = self.left // DAY
        return "today" if days < 1 else "tomorrow" if days == 1 else f"in {days} days"


class Message(NamedTuple):
    """What is sent at once, and about which certificates."""

    about: Sequence[Ending]
    send: Callable[[], None]


class Told(NamedTuple):
    """How a round went by one way: messages that were sent, those that were not, and the last reason why."""

    sent: int = 0
    unsent: int = 0
    why: str = ""


def remind(authority: Authority, mailer: Mailer | None, events: Events | None, days: Sequence[int], administrator: str = "") -> str:
    """Tells everybody whose certificate ends soon and has no successor: once at 30, at 14 and at 3 days (or what is configured), where that is less than half
    of its life.

    A letter goes to the holder. What holders without an e-mail address have stands in one letter to `administrator`, or to all administrators with an address;
    so does what a holder has whose address the mail server refuses for good, in a letter of its own.
    Mail and webhook are noted and sent each for itself: what one of them has taken is not sent again because the other was away. Raises Unavailable when
    something was not sent; it stays due.
    """
    found = due(authority, days)
    rounds, nobody = [], 0
    if mailer:
        untold = _untold(authority, "mail", found)
        alone = [one for one in untold if not one.holder.email]
        to = administrator or (_administrators(authority) if alone else "")
        letters = [(one.holder.email, [one]) for one in untold if one.holder.email]
        if to:
            letters += [(to, alone[start : start + TOGETHER]) for start in range(0, len(alone), TOGETHER)]
        else:
            nobody = len(alone)
        made = [Message(about, functools.partial(_write, authority, mailer, email, about, administrator)) for email, about in letters]
        rounds.append(_hand_over(authority, "mail", made))
    if events:
        told = [Message([one], functools.partial(_tell, authority, events, one)) for one in _untold(authority, "webhook", found)]
        rounds.append(_hand_over(authority, "webhook", told))
    sent, unsent = sum(one.sent for one in rounds), sum(one.unsent for one in rounds)
    lost = f"; nobody is told of {nobody}: neither their holders nor any administrator has an e-mail address (mail.administrator)" if nobody else ""
    if unsent:
        why = next(one.why for one in reversed(rounds) if one.unsent)
        raise Unavailable("reminders-failed", f"{unsent} reminders could not be sent ({why}); {sent} were{lost}", hint="they are tried again")
    return f"sent {sent} reminders{lost}"


def due(authority: Authority, days: Sequence[int]) -> list[Ending]:
    """Live certificates of people, devices and servers that have reached one of these steps and have no live successor, those that end first at the front.

    A step counts only for a certificate that lives more than twice as long: a letter in the first half of a life is noise, and what lives for a day or two
    is renewed by a program. What the service issues to itself it renews itself.
    """
    now = authority.now()
    live = authority.reads.certificates("c.state = 'released' AND c.revoked_at IS NULL AND c.not_after >= :now", now=now)
    renewed = {record.renews for record in live if record.renews}
    found = []
    for record in live:
        ours = record.kind in ("person", "device", "service", "server") and not record.profile.startswith("probe") and not record.of_service
        left, life = record.not_after - now, (record.not_after - record.not_before) // DAY
        steps = tuple(sorted({one for one in days if left <= one * DAY and life > 2 * one}, reverse=True))
        if not ours or not steps or record.profile == "ocsp-responder" or "/".join(record.id) in renewed:
            continue
        holder = authority.reads.holder(record.holder)
        if holder and not holder.left_at:
            found.append(Ending(record, holder, left, steps))
    return sorted(found, key=lambda one: (one.left, one.record.serial))


def _untold(authority: Authority, way: str, found: Sequence[Ending]) -> list[Ending]:
    """Those of which nothing was sent at the nearest of their steps."""
    told = {
        step: jobs.noted(authority, _what(way, step), [one.subject for one in found if one.steps[-1] == step]) for step in {one.steps[-1] for one in found}
    }
    return [one for one in found if one.subject not in told[one.steps[-1]]]


def _what(way: str, step: int) -> str:
    return f"reminder-{way}-{step}"


def _administrators(authority: Authority) -> str:
    """The addresses of everybody with the role administrator who has one."""
    holders = [authority.reads.holder(login) for login in access.holders_of(authority, "administrator")]
    return ", ".join(one.email for one in holders if one and one.email and not one.left_at)


def _hand_over(authority: Authority, way: str, messages: Sequence[Message]) -> Told:
    """Sends one after the other, for `ROUND` seconds, and stops when nobody is there to take them: each of the others would wait as long.

    The round begins anywhere among them, so that a few that are slowly refused do not keep back all the others for ever.
    """
    begun, sent, refused, why = authority.now(), 0, 0, ""
    first = int.from_bytes(authority.entropy.bytes(4)) % len(messages) if messages else 0
    for place, message in enumerate([*messages[first:], *messages[:first]]):
        rest = len(messages) - place + refused
        if not 0 <= authority.now() - begun < ROUND:
            return Told(sent, rest, why or f"{way}: a round ends after {ROUND} seconds")
        try:
            sent += _once(authority, way, message)
        except Unavailable as problem:
            return Told(sent, rest, problem.message)
        except GatekeyError as problem:
            refused, why = refused + 1, problem.message
        except Exception as fault:  # noqa: BLE001  a fault of ours or of a library with one letter must not keep back all the others
            refused, why = refused + 1, f"{way}: {type(fault).__name__}"
    return Told(sent, refused, why)


def _once(authority: Authority, way: str, message: Message) -> bool:
    """Sends, unless it was sent at the nearest step before. All steps are noted together: whoever comes late is told once, not three times.

    What could not be sent is free again, whatever went wrong; that error is raised.
    """
    fresh = jobs.note_messages(authority, [(_what(way, step), one.subject) for one in message.about for step in one.steps])
    if not any((_what(way, one.steps[-1]), one.subject) in fresh for one in message.about):
        return False
    try:
        message.send()
    except BaseException:
        jobs.unsent(authority, fresh)
        raise
    return True


def _tell(authority: Authority, events: Events, one: Ending) -> None:
    record = one.record
    told = {"event": "certificate.expiring", "serial": record.serial, "issuer": record.issuer, "holder": one.holder.login, "device": record.device}
    events.send({**told, "not_after": record.not_after, "days_left": one.left // DAY}, at=authority.now())


def _write(authority: Authority, mailer: Mailer, to: str, about: Sequence[Ending], administrator: str) -> None:
    holder, name, now = about[0].holder, authority.config.name, authority.now()
    mail = letter(about[0], name) if holder.email and holder.kind == "person" else notice(about, to, name)
    try:
        mailer.send(mail, at=now)
    except Refused as problem:
        instead = administrator or _administrators(authority)
        if problem.code != "mail-refused" or not holder.email or instead in ("", to):
            raise
        mailer.send(notice(about, instead, name, problem.message), at=now)


def letter(one: Ending, authority: str) -> Mail:
    """The letter to a person, in plain words."""
    record = one.record
    device = f" on your device {record.device}" if record.device else ""
    text = f"""Hello {one.holder.display},

your certificate{device} from {authority} ends {one.when}, on {day(record.not_after)}.
After that the pages it opens will not let you in, and your browser will not say why.

Please ask your administrator for a new one. It is this certificate: {record.title}, serial {record.serial}.

This message was written by a program.
"""
    return Mail(one.holder.email, f"{authority}: your certificate ends {one.when}", text)


def notice(about: Sequence[Ending], to: str, authority: str, unreached: str = "") -> Mail:
    """The letter to those who look after machines, and after everybody whom no letter reaches: whose certificates end, and what to type.

    `unreached`: why the letter to the holder was not taken.
    """
    first = about[0]
    what = f"the certificate of {first.record.title} ends {first.when}" if len(about) == 1 else f"{len(about)} certificates end soon"
    rows = "\n".join(_row(one) for one in about)
    without = next((one.holder.login for one in about if unreached or not one.holder.email), "")
    why = f"The holder does not know, for {unreached}" if unreached else "Who has no e-mail address is told of here"
    address = f"""
{why}; this gives {"another" if unreached else "one"}:
    gatekey people set {shlex.quote(without)} --email ADDRESS
""" if without else ""  # fmt: skip
    text = f"""Hello,

{what}, issued by {authority} and without a successor.
The line below each makes one with the same key, where the authority is; gatekey renew --help says what else it can do.

{rows}
{address}
This message was written by a program.
"""
    return Mail(to, f"{authority}: {what}", text)


def _row(one: Ending) -> str:
    record = one.record
    whose = f"{record.kind}{f' {one.holder.login}' if one.holder.login != record.title else ''}{f', device {record.device}' if record.device else ''}"
    return f"{record.title} ({whose}) ends {one.when}, on {day(record.not_after)}\n    gatekey renew {record.serial}"
