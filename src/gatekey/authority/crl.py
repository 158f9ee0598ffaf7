"""Certificate revocation lists: drafted from encoded entries, recorded, signed, released; always complete up to a known revocation number."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import Conflict, Misconfigured, Reason, Refused, Unavailable
from ..lifecycle import Draft
from ..lint.crls import lint_crl
from ..model.instants import DAY, HOUR
from ..x509.crl import encode_tbs_crl
from .issue import sign

if TYPE_CHECKING:
    from .authority import Authority

#: thisUpdate lies this far back, so that a server whose clock is behind does not refuse everybody (seconds).
BACKDATE = HOUR
#: Life of a CRL. A root's is long because its key is meant to be away.
ISSUING_LIFE, ROOT_LIFE = 30 * DAY, 400 * DAY
#: A CRL older than this is signed again by `bundle` even when nothing changed.
REFRESH = DAY
#: Below this much life people are warned.
WARN = 10 * DAY
#: Times that another process may get ahead of us before we say so.
TRIES = 20


class CurrentCrl(NamedTuple):
    """A released CRL. Times in POSIX seconds; `revocation`: the number up to which it is complete."""

    issuer: str
    number: int
    this_update: int
    next_update: int
    revocation: int
    entries: int
    der: bytes


def newest(authority: Authority, name: str) -> CurrentCrl | None:
    """The newest released CRL of a CA as it lies in the ledger, or None."""
    found = authority.ledger.newest_crl(name)
    return CurrentCrl(issuer=name, der=found[1], **found[0]) if found else None


def in_force(one: CurrentCrl, now: int) -> bool:
    """Whether web servers take it at `now` (POSIX seconds)."""
    return one.this_update <= now < one.next_update


def current(authority: Authority, name: str, *, refresh: int = REFRESH) -> CurrentCrl:
    """A CRL that is complete now and younger than `refresh` seconds (0: none is): the newest one if it is, otherwise one signed now.

    When the key is away (a locked-up root) the newest complete one is given as long as it is valid. Raises Misconfigured when there is none.
    """
    held = newest(authority, name)
    now = authority.now()
    complete = held is not None and held.revocation >= authority.reads.revocation_number(name)
    # A thisUpdate in the future would shut everybody out, so a clock that was wrong for a while is mended here as well.
    fresh = refresh > 0 and held is not None and held.this_update <= now < held.this_update + BACKDATE + refresh
    if held and complete and fresh:
        return held
    if not authority.has_key(name):
        if held and complete and in_force(held, now):
            return held
        why = "has expired" if held and complete else "does not know the newest revocation" if held else "does not exist"
        raise Misconfigured(
            "crl-needs-key",
            f"the CRL of {name} {why}, and its key is not here to sign another",
            hint=needs(authority, name),
        )
    return make(authority, name)


def needs(authority: Authority, name: str) -> str:
    """What must be done for a new CRL of a CA whose key is away."""
    keys = authority.config.home / "keys"
    return (
        f"bring {name}.key back into {keys}, run gatekey crl --authority {name}, take it away again;"
        " if its CRLs are signed elsewhere: gatekey authority install FILE"
    )


def make(authority: Authority, name: str) -> CurrentCrl:
    """Signs a new CRL of a CA, or gives the one that another process made since this was asked, if it holds every revocation; tries again if it does not."""
    authority.signer(name)  # before anything is recorded
    begun = authority.reads.newest_crl_number(name)
    for _ in range(TRIES):
        try:
            return _make(authority, name)
        except Conflict as overtaken:
            if overtaken.code != "crl-overtaken":
                raise
        held = newest(authority, name)
        if held and held.number > begun and held.revocation >= authority.reads.revocation_number(name):
            return held
    raise Unavailable("store-locked", f"other processes kept making CRLs of {name}", hint="try again in a moment")


def _make(authority: Authority, name: str) -> CurrentCrl:
    now = authority.now()
    issuing = authority.issuing(name)
    held = newest(authority, name)
    # The number is read before the entries: the list may hold more than it promises, never less.
    revocation = authority.reads.revocation_number(name)
    entries = authority.reads.crl_entries(name, min(held.this_update, now) if held else now - BACKDATE)
    number = authority.reads.newest_crl_number(name) + 1
    this_update, next_update = _after(held, now), now + (ROOT_LIFE if issuing.record.role == "root" else ISSUING_LIFE)
    tbs = encode_tbs_crl(issuing.encoding, number, this_update, next_update, entries)
    findings = [finding for finding in lint_crl(tbs, issuing.certificate) if finding.severity == "error"]
    if findings:
        raise Refused.because(tuple(Reason("lint", f"{finding.lint}: {finding.message} ({finding.source})") for finding in findings))
    row: dict[str, object] = {"this_update": this_update, "next_update": next_update, "revocation": revocation, "entries": len(entries)}
    recorded = authority.ledger.record_crl(Draft("crl", name, str(number), tbs, row), owner=authority.owner, now=now, actor=authority.actor)
    released = authority.ledger.release_crl(sign(authority, recorded), now=authority.now())
    return CurrentCrl(name, number, this_update, next_update, revocation, len(entries), released.der)


def _after(held: CurrentCrl | None, now: int) -> int:
    """The thisUpdate of the CRL that comes after `held`: a later one also within the same second, so that whoever asks by date gets it.

    A minute ahead at most, and not after a clock that was wrong.
    """
    usual = now - BACKDATE
    return held.this_update + 1 if held and usual <= held.this_update < usual + 60 else usual


def warnings(authority: Authority) -> list[str]:
    """A sentence for each CRL with less than ten days to live: when it runs out, nobody gets in any more."""
    now = authority.now()
    said = []
    for record in authority.records():
        held = newest(authority, record.name)
        if held and held.next_update - now < WARN:
            days = (held.next_update - now) // DAY
            left = f"expires in {days} day{'s' if days != 1 else ''}" if days > 0 else "has expired or expires today"
            said.append(f"the CRL of {record.name} {left}; web servers that use it will then refuse everybody (gatekey crl --authority {record.name})")
    return said
