"""Whether drafts may be recorded, asked inside the transaction that records them: what policy saw may have changed since. What a lease is, as SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import Conflict, Refused, Unavailable
from ..lifecycle import Draft
from ..model.holder import Holder
from . import people
from .audit import Event
from .database import Transaction

#: How long a draft may stay unsigned before anybody may abandon it (seconds).
LEASE = 120
#: A lease that ends later than this beyond a whole one was given by a clock that was ahead; it counts as over, or the draft would stay for ever (seconds).
AHEAD = 3600
#: How long the answer to an idempotency key is kept (seconds).
IDEMPOTENCY = 7 * 86400
#: SQL: whether a draft's process may still be at work. Nobody is harmed where clocks jump and this is wrong: a release and an abandoning exclude each other.
AT_WORK = f"lease_until BETWEEN :now AND :now + {LEASE + AHEAD}"
#: SQL: a certificate that can still open a door, now or after `unhold`.
ALIVE = "state <> 'abandoned' AND (revoked_at IS NULL OR revoked_reason = 'certificate-hold') AND not_after >= :now"


class Live(NamedTuple):
    """A certificate that opens a door, or is about to."""

    lineage: str
    serial: str
    state: str


class Room(NamedTuple):
    """What the ledger holds of the holders, keys and serials of a batch; each admission adds what it takes.

    `owners`: login and kind of everybody who has a certificate with a key. `live` by holder and device, `asked`: requester and idempotency key of this batch.
    """

    people: people.Called
    owners: dict[str, set[tuple[str, str]]]
    compromised: set[str]
    serials: set[tuple[str, str]]
    live: dict[tuple[str, str], list[Live]]
    asked: set[tuple[str, str]]


def room(tx: Transaction, drafts: Sequence[tuple[Draft, Holder]], alone: Sequence[bool], now: int) -> Room:
    """Asks for all of a batch at once, in a few questions however large it is. `alone`: which of them must be the only one of their holder and device."""
    keys = [str(draft.row["spki_sha256"]) for draft, _ in drafts]
    live: dict[tuple[str, str], list[Live]] = {}
    for holder, device, *rest in tx.among(
        f"SELECT holder, device, lineage, serial, state FROM certificate WHERE holder IN ({{}}) AND {ALIVE} AND (state = 'released' OR {AT_WORK})",  # noqa: S608
        [holder.login for (_, holder), only in zip(drafts, alone, strict=True) if only],
        now=now,
    ):
        live.setdefault((holder, device), []).append(Live(*rest))
    owners: dict[str, set[tuple[str, str]]] = {}
    for key, login, kind in holders_of_keys(tx, keys):
        owners.setdefault(key, set()).add((login, kind))
    return Room(
        people.called(tx, [holder for _, holder in drafts], [email for draft, holder in drafts for email in _emails(draft) if email != holder.email]),
        owners,
        {row[0] for row in tx.among("SELECT spki_sha256 FROM compromised_key WHERE spki_sha256 IN ({})", keys)},
        _taken(tx, [(draft.issuer, draft.number) for draft, _ in drafts]),
        live,
        set(),
    )


def _emails(draft: Draft) -> list[str]:
    """The e-mails in a draft: no other name has an @."""
    names = str(draft.row["alternatives"])
    return [name for name in json.loads(names) if "@" in name] if "@" in names else []


def _taken(tx: Transaction, ids: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these issuers and serials are there already."""
    sql = "SELECT issuer, serial FROM certificate WHERE issuer = :issuer AND serial IN ({})"
    return {(name, serial) for name in {name for name, _ in ids} for _, serial in tx.among(sql, [serial for one, serial in ids if one == name], issuer=name)}


def holders_of_keys(tx: Transaction, keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """Key (SHA-256 of its SPKI), holder and kind of holder, for each holder of a certificate with one of these keys; what came to nothing does not count."""
    sql = (
        "SELECT DISTINCT c.spki_sha256, c.holder, h.kind FROM certificate c JOIN holder h ON h.login = c.holder"
        " WHERE c.spki_sha256 IN ({}) AND c.state <> 'abandoned' ORDER BY c.holder"
    )
    return [(key, holder, kind) for key, holder, kind in tx.among(sql, keys)]


def newest_crl_number(tx: Transaction, issuer: str) -> int:
    """The highest number that a CRL of this issuer was ever given, 0 for none. Rows may be lost, the log still knows them: no number comes twice."""
    row = tx.one("SELECT max(number) FROM crl WHERE issuer = :issuer", issuer=issuer)
    number = int(row[0] or 0) if row else 0
    while tx.one("SELECT 1 FROM audit WHERE subject = :subject AND action LIKE 'crl.%'", subject=f"{issuer}/{number + 1}"):
        number += 1
    return number


def admit(tx: Transaction, known: Room, draft: Draft, holder: Holder, now: int, *, alone: bool) -> list[Event]:
    """Makes room for a draft: its holder and device are there, and nothing speaks against it. Answers with what to log.

    Raises Refused (he left, the key was reported or is somebody else's, there is a certificate already, what it renews was taken away), Conflict (also for
    an e-mail of somebody else, or one that is hers no more), Unavailable (in flight).
    """
    row, device = draft.row, str(draft.row["device"])
    requester, key = str(row["requester"]), row["idempotency"]
    if key:  # first: whoever asks twice at once must not hear that somebody has what she is about to get
        _refuse_asked(tx, known, requester, str(key), now)
    stands, events = people.ensure(tx, holder, known.people, requester, now)
    emails = _emails(draft)
    people.refuse_another(stands, emails)
    people.refuse_anothers(known.people, stands.login, emails)
    if device and device not in stands.devices:
        people.ensure_device(tx, stands.login, device, now)
        known.people.take(stands._replace(devices=(*stands.devices, device)))
    if row["spki_sha256"] in known.compromised:
        raise Refused("key-compromised", "this key was reported as compromised while the request was under way", hint="make a new key")
    _refuse_anothers_key(known, str(row["spki_sha256"]), stands)
    if (draft.issuer, draft.number) in known.serials:
        raise Conflict("serial-used", f"serial {draft.number} exists already; it is never used twice", hint="try again")
    known.serials.add((draft.issuer, draft.number))
    if alone:
        live = known.live.setdefault((holder.login, device), [])
        _refuse_second([one for one in live if one.lineage != row["lineage"]], holder.login)
        live.append(Live(str(row["lineage"]), draft.number, "recorded"))
    if row["renews"]:
        issuer, _, serial = str(row["renews"]).partition("/")
        if tx.one("SELECT 1 FROM certificate WHERE issuer = :issuer AND serial = :serial AND revoked_at IS NOT NULL", issuer=issuer, serial=serial):
            raise Refused("renew-revoked", f"{serial} was taken away while its successor was under way", hint="issue a new one with a new key")
    return [*events, Event(requester, "certificate.record", f"{draft.issuer}/{draft.number}", _facts(row, holder.login, draft.tbs))]


def _facts(row: Mapping[str, object], login: str, tbs: bytes) -> dict[str, object]:
    """What the audit log tells of a draft."""
    told = {"profile": row["profile"], "profile_sha256": row["profile_sha256"], "holder": login, "device": row["device"], "door": row["door"]}
    told |= {"key": row["spki_sha256"], "tbs": hashlib.sha256(tbs).hexdigest()}
    return {**told, "renews": row["renews"]} if row["renews"] else told


def _refuse_anothers_key(known: Room, key: str, holder: Holder) -> None:
    """A key has one holder, but for web servers, which may share one; an authority's is in its own certificates only. Raises Refused."""
    owners = known.owners.setdefault(key, set())
    for login, kind in owners:
        if login == holder.login or kind == holder.kind == "server":
            continue
        if kind == "authority":
            raise Refused("key-of-authority", f"the key is that of the {login.replace(':', ' ')}, which certifies nobody else", hint="make a new key")
        raise Refused("key-of-another", f"the key is in a certificate of {login}; a key has one holder", hint="make a new key", found=login)
    owners.add((holder.login, holder.kind))


def _refuse_second(others: Sequence[Live], login: str) -> None:
    """One holder and one device have certificates of one lineage. Raises Refused, or Unavailable while the other one may still come to nothing."""
    if released := [one.serial for one in others if one.state == "released"]:
        raise Refused("certificate-exists", f"{login} got a certificate for this device a moment ago", hint=f"gatekey renew {released[0]}")
    if others:
        raise Unavailable(
            "certificate-in-flight",
            f"another process is making a certificate for {login} and this device, or was interrupted",
            hint=f"try again in a moment; what was interrupted is out of the way after {LEASE} seconds",
        )


def _refuse_asked(tx: Transaction, known: Room, requester: str, key: str, now: int) -> None:
    """An idempotency key is in use for 7 days, and free again afterwards. Raises Unavailable, Conflict when something else was asked under it."""
    if taken(tx, requester, key, now):
        raise reused()
    tx.run(
        "UPDATE certificate SET idempotency = NULL WHERE requester = :requester AND idempotency = :key AND recorded_at < :old",
        requester=requester,
        key=key,
        old=now - IDEMPOTENCY,
    )
    used = "SELECT 1 FROM certificate WHERE requester = :requester AND idempotency = :key AND state <> 'abandoned'"
    if (requester, key) in known.asked or tx.one(used, requester=requester, key=key):
        raise in_use(LEASE + 1, dead=False)
    known.asked.add((requester, key))


def taken(tx: Transaction, requester: str, key: str, now: int) -> bool:
    """Whether the key belongs to a request that issued nothing."""
    found = tx.one(
        "SELECT 1 FROM answer WHERE requester = :requester AND idempotency = :key AND at >= :old", requester=requester, key=key, old=now - IDEMPOTENCY
    )
    return found is not None


def reused() -> Conflict:
    """The same key for another request."""
    return Conflict("idempotency-reused", "this idempotency key was used for another request", hint="use a new key for a new request")


def in_use(rest: int, *, dead: bool) -> Unavailable:
    """The same request is under way. `rest`: seconds after which that is over at the latest. `dead`: whoever was at it is gone, so it takes that long.

    Otherwise it is worth asking again after as long as it has taken already: usually that is an instant.
    """
    if dead:
        message = "the same request was being answered by a process that is gone"
        return Unavailable("idempotency-in-use", message, hint=f"ask again in {rest} seconds", retry_after=rest)
    hint = f"ask again in a moment; if whoever was answering it was interrupted, that is over in {rest} seconds"
    wait = max(1, min(rest, LEASE - rest))
    return Unavailable("idempotency-in-use", "the same request is being answered at this moment", hint=hint, retry_after=wait)
