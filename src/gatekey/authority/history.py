"""The rows of the ledger against what the audit log tells of them: nothing came in unrecorded, nothing is gone, nothing was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.holder import KINDS
from ..model.instants import iso
from ..model.request import CertificateId
from ..store import evidence, people
from ..store.access import digest_of
from ..x509.crl import encode_entry

if TYPE_CHECKING:
    from ..model.holder import Holder
    from ..store.audit import Logged
    from ..store.database import Transaction
    from ..store.evidence import CrlRow, Move, Row, TokenRow


class Told(NamedTuple):
    """What the log tells of one certificate. `recorded`, `released`: the facts of those events, or None. `standing`: in words; `at`: since when it is so."""

    recorded: dict[str, object] | None
    released: dict[str, object] | None
    standing: str
    at: int
    by: str


def told_of(tx: Transaction, row: Row) -> Told:
    """What the log tells of one certificate."""
    return _told(evidence.about(tx, f"{row.issuer}/{row.serial}"))


def problems(tx: Transaction, row: Row, told: Told) -> Iterator[str]:
    """Where one certificate's row and the log do not agree, in words."""
    where = f"{row.issuer}/{row.serial}"
    if told.recorded is None:
        if not (row.holder.startswith("authority:") and _installed(tx, row)):
            yield f"{where} stands in the ledger, and the audit log does not know it"
        return
    yield from (f"{where}: {problem}" for problem in _problems(row, told))
    if row.lineage != _lineage(tx, row):
        yield f"{where}: its lineage is not that of what it renews"
    if entry_is_wrong(row, told):
        yield f"{where}: its entry for the CRL does not say what the row says (--repair writes it anew)"


def entry_is_wrong(row: Row, told: Told) -> bool:
    """Whether a certificate's entry for the CRL is not what its revocation says, and that is what the log says: then it can be written anew."""
    if row.revoked_at is None or (_standing(row), row.revoked_at) != (told.standing, told.at):
        return False
    return row.entry != encode_entry(row.serial, row.revoked_at, row.revoked_reason)


def _installed(tx: Transaction, row: Row) -> bool:
    """A CA that was signed elsewhere was installed, not recorded."""
    events = evidence.about(tx, row.holder.removeprefix("authority:"))
    return any(event.action == "authority.install" and event.facts.get("fingerprint") == row.fingerprint for event in events)


def _lineage(tx: Transaction, row: Row) -> str:
    """What the lineage of a certificate must be: that of its predecessor, or its own name."""
    issuer, _, serial = (row.renews or "").partition("/")
    return evidence.lineage_of(tx, issuer, serial) or f"{row.issuer}/{row.serial}"


def _told(events: Iterator[Logged]) -> Told:
    recorded = released = None
    standing, at, by = "in force", 0, ""
    for event in events:
        match event.action:
            case "certificate.record":
                recorded, by = event.facts, event.actor
            case "certificate.release":
                released = event.facts
            case "certificate.revoke":
                standing, at = f"revoked ({event.facts.get('reason')})", event.at
            case "certificate.hold":
                standing, at = "held", event.at
            case "certificate.unhold":
                standing, at = "in force", 0
            case "certificate.abandon" if standing == "in force":
                standing, at = "abandoned", event.at
    return Told(recorded, released, standing, at, by)


def _problems(row: Row, told: Told) -> Iterator[str]:
    facts = told.recorded or {}
    as_recorded = (facts.get("profile"), facts.get("holder"), facts.get("device"), facts.get("key"), facts.get("tbs"), facts.get("door"), told.by)
    stands = (row.profile, row.holder, row.device, row.spki_sha256, hashlib.sha256(row.tbs).hexdigest(), row.door, row.requester)
    later = "profile_sha256" in facts and (facts["profile_sha256"], facts.get("renews", "")) != (row.profile_sha256, row.renews or "")  # not in logs of old
    if as_recorded != stands or later:
        yield "the row does not say what the audit log says"
    if (told.released is not None) != (row.state == "released"):
        yield f"the row says {row.state}, the audit log says {'released' if told.released is not None else 'not released'}"
    elif told.released is not None and told.released.get("fingerprint") != row.fingerprint:
        yield "the row does not say what the audit log says"
    if (now := _standing(row)) != told.standing:
        yield f"the row says {now}, the audit log says {told.standing}"
    elif row.revoked_at is not None and row.revoked_at != told.at:
        yield f"the row says {now} at {iso(row.revoked_at)}, the audit log says {iso(told.at)}"
    elif row.revoked_at is not None and not row.logged:
        yield "the list of revocations does not know it"


def _standing(row: Row) -> str:
    if row.revoked_reason is None:
        return "in force"
    if row.revoked_reason == "certificate-hold":
        return "held"
    if row.state == "abandoned" and row.revoked_reason == "unspecified":
        return "abandoned"
    return f"revoked ({row.revoked_reason})"


def gone(tx: Transaction, matched: int) -> Iterator[str]:
    """Certificates that the log knows and the ledger does not. `matched`: how many rows the log knows."""
    if matched < evidence.recorded(tx):
        known = evidence.ids(tx)
        for event in evidence.of(tx, "certificate.record"):
            if event.subject not in known:
                yield f"{event.subject} is gone: the audit log knows it, the ledger does not"


def revocations(tx: Transaction) -> Iterator[str]:
    """The list of revocations is what the log makes of it, line by line, with numbers that have no gap."""
    for number, (stands, told) in enumerate(zip_longest(evidence.moves(tx), _moves(tx)), start=1):
        if stands is None or (told is not None and stands.number > number):
            yield f"revocation {number} ({told.serial if told else '?'}) is gone from the list of revocations, and perhaps later ones"
            return
        if told is None:
            yield f"revocation {stands.number} ({stands.serial}) is in the list of revocations, and the audit log does not know it"
        elif stands != told._replace(number=number):
            yield f"revocation {number} ({told.serial}): the list of revocations does not say what the audit log says"


def _moves(tx: Transaction) -> Iterator[Move]:
    actions = ("certificate.revoke", "certificate.hold", "certificate.unhold", "certificate.abandon")
    for event in evidence.of(tx, *actions):
        issuer, _, serial = event.subject.partition("/")
        move = event.action.removeprefix("certificate.")
        reason = {"unhold": "", "abandon": "unspecified"}.get(move, event.facts.get("reason"))
        if move == "abandon" and _told(one for one in evidence.about(tx, event.subject) if one.number < event.number).standing != "in force":
            continue  # it was taken away while it was made, and stands in the list since then
        yield evidence.Move(0, issuer, serial, move, str(reason), event.at, event.actor)


class _Person(NamedTuple):
    """A holder as the log tells of him."""

    kind: str = ""
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    left_at: int = 0


class _Token(NamedTuple):
    """A token as the log tells of it. `secret`: a digest of what is kept of its secret; "" in logs of old."""

    login: str
    scopes: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    secret: str


class Replayed:
    """Everything else that the log tells, as it should stand now. `authorities`: name -> role, side, parent and serial, or {} in logs of old."""

    def __init__(self) -> None:
        self.people: dict[str, _Person] = {}
        self.roles: dict[str, set[str]] = {}
        self.tokens: dict[str, _Token] = {}
        self.barred: dict[str, tuple[int, str]] = {}
        self.authorities: dict[str, dict[str, Any]] = {}
        self.crls: dict[str, tuple[int, dict[str, Any]]] = {}

    def take(self, event: Logged) -> None:
        """One more event."""
        facts, subject = event.facts, event.subject
        match event.action:
            case "holder.add":
                self.people[subject] = _person(_Person(), facts)
                if facts.get("kind") == "authority":
                    self.authorities.setdefault(subject.removeprefix("authority:"), {})
            case "holder.change":
                self.people[subject] = _person(self.people.get(subject, _Person()), facts)
            case "holder.leave":
                self.people[subject] = self.people.get(subject, _Person())._replace(left_at=event.at)
                self.roles.pop(subject, None)
                for key, token in self.tokens.items():
                    if token.login == subject and token.revoked_at is None:
                        self.tokens[key] = token._replace(revoked_at=event.at)
            case "holder.roles":
                self.roles[subject] = set(facts.get("after", ()))
            case "token.add":
                scopes = " ".join(facts.get("scopes", ()))
                self.tokens[subject] = _Token(str(facts.get("login")), scopes, event.at, int(facts.get("expires", 0)), None, str(facts.get("secret", "")))
            case "token.revoke" if subject in self.tokens:
                self.tokens[subject] = self.tokens[subject]._replace(revoked_at=event.at)
            case "key.compromised":
                self.barred[subject] = event.at, event.actor
            case "authority.found" | "authority.install":
                self.authorities[subject] = facts
            case "crl.record" | "crl.install":
                issuer, _, number = subject.rpartition("/")
                if int(number) >= self.crls.get(issuer, (0, {}))[0]:  # the newest alone counts; older ones are swept
                    self.crls[issuer] = int(number), facts


#: The events that `Replayed` understands.
_REPLAYED = (
    "holder.add", "holder.change", "holder.leave", "holder.roles", "token.add", "token.revoke", "key.compromised", "authority.found", "authority.install",
    "crl.record", "crl.install",
)  # fmt: skip


def _person(before: _Person, facts: dict[str, Any]) -> _Person:
    more = {name: facts[name] for name in ("kind", "name", "email", "left_at") if name in facts}
    groups = tuple(sorted(set(facts["groups"]))) if "groups" in facts else before.groups
    return before._replace(**more, groups=groups)


def replay(tx: Transaction, told: Replayed) -> Iterator[str]:
    """Takes in the whole log, but for certificates; says which events make no sense."""
    for event in evidence.of(tx, *_REPLAYED):
        try:
            told.take(event)
        except (ValueError, TypeError, AttributeError) as damaged:
            yield f"audit event {event.number} cannot be read: {damaged}"


def holders(tx: Transaction, told: Replayed) -> Iterator[str]:
    """People, with their groups, are what the log says; their devices are notes that nothing hangs on."""
    people_told = dict(told.people)
    for holder in people.listing(tx, KINDS):
        person = people_told.pop(holder.login, None)
        if person is None:
            yield f"{holder.login} stands among the people, and the audit log does not know it"
        elif differ := _differ(holder, person):
            yield f"{holder.login}: the row does not say what the audit log says of {', '.join(differ)}"
    for login in people_told:
        yield f"{login} is gone: the audit log knows it, the ledger does not"


def _differ(holder: Holder, told: _Person) -> list[str]:
    stands = _Person(holder.kind, holder.name, holder.email, tuple(sorted(holder.groups)), holder.left_at)
    words = ("the kind", "the name", "the e-mail", "the groups", "the leaving")
    return [word for word, one, other in zip(words, stands, told, strict=True) if one != other]


def access(tx: Transaction, told: Replayed) -> Iterator[str]:
    """Roles, tokens and keys that are never certified again."""
    roles = evidence.roles(tx)
    for login in sorted(roles.keys() | told.roles.keys()):
        stands, said = sorted(roles.get(login, ())), sorted(told.roles.get(login, ()))
        if stands != said:
            yield f"the roles of {login} are {', '.join(stands) or 'none'}, the audit log says {', '.join(said) or 'none'}"
    tokens = {row.id: row for row in evidence.tokens(tx)}
    for key in sorted(tokens.keys() | told.tokens.keys()):
        if problem := _token_problem(tokens.get(key), told.tokens.get(key)):
            yield f"the token {key} {problem}"
    barred = evidence.compromised(tx)
    for key in sorted(barred.keys() | told.barred.keys()):
        if barred.get(key) != told.barred.get(key):
            what = "is gone from" if key not in barred else "is not what the audit log says in"
            yield f"the key {key[:16].upper()}... {what} the list of compromised keys"


def _token_problem(stands: TokenRow | None, told: _Token | None) -> str:
    if stands is None:
        return "is gone: the audit log knows it, the ledger does not"
    if told is None:
        return "stands in the ledger, and the audit log does not know it"
    secret = digest_of(stands.secret_sha256) if told.secret else ""
    if told != _Token(stands.login, stands.scopes, stands.created_at, stands.expires_at, stands.revoked_at, secret):
        return "is not what the audit log says"
    return ""


class CrlProblem(NamedTuple):
    """What is wrong with the newest row among the CRLs of an authority, in words that follow its name; "" when nothing is.

    `mendable`: another CRL makes it good. `right`: number, revocation and entries as the log has them, where the row has others.
    """

    words: str = ""
    mendable: bool = True
    right: tuple[int, int, int] | None = None


def crl_problem(row: CrlRow | None, told: tuple[int, dict[str, Any]] | None) -> CrlProblem:
    """The newest row among the CRLs of an authority against the log."""
    number, facts = told or (0, {})
    if number > (row.number if row else 0):
        return CrlProblem(f" is gone: the audit log knows number {number}")
    if row and row.number > number:
        return CrlProblem(f" has the number {row.number}, and the audit log does not know it", mendable=False)
    if row and (row.revocation, row.entries) != (facts.get("revocation", 0), facts.get("entries")):
        return CrlProblem(": the row does not say what the audit log says", right=(number, int(facts.get("revocation", 0)), int(facts.get("entries", 0))))
    return CrlProblem()


Wrong = tuple[CertificateId, int, str | None]


def wrong_entries(tx: Transaction) -> Iterator[Wrong]:
    """What `entry_is_wrong` is true of, with time and reason of the revocation."""
    for row in evidence.certificates(tx):
        if row.revoked_at is not None and not evidence.damage(row) and entry_is_wrong(row, told_of(tx, row)):
            yield CertificateId(row.issuer, row.serial), row.revoked_at, row.revoked_reason
