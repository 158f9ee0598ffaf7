"""The only writer of certificates, CRLs and revocations. Recorded and Released are made here and nowhere else.

Each method says what a crash in its middle means. Each write is one named transaction, with its audit event inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..errors import Conflict, NotFound, Refused
from ..lifecycle import Draft, Recorded, Released, Signed
from ..model.access import Shown
from ..model.holder import Holder
from ..model.record import AuthorityRecord, Taken
from ..model.request import CertificateId
from . import access, admission, audit, people, takeover
from .admission import AHEAD, ALIVE, AT_WORK, IDEMPOTENCY, LEASE
from .audit import Event
from .database import Database, Transaction

#: Released CRLs of an issuer that are kept besides the newest.
OLD_CRLS = 2

Entry = Callable[[str, int, str | None], bytes]
HOLD = "certificate-hold"

class Ledger:
    """Certificates, CRLs and revocations. `assemble(tbs, signature)` puts the DER together (x509 does it; the store does not speak ASN.1)."""

    def __init__(self, db: Database, assemble: Callable[[bytes, bytes], bytes]) -> None:
        self.db = db
        self._assemble = assemble

    def record(self, draft: Draft, holder: Holder, *, owner: str, now: int, alone: bool = False) -> Recorded:
        """Makes a certificate's draft durable, with its holder if he is new. `alone`: refuse a second live certificate for the same holder and device.

        A crash before the commit: nothing happened. After it: a record without a signature, which `abandon` closes once its lease is over.
        Raises Conflict, Refused (the holder left or the key was compromised since policy looked), or what the database says.
        """
        return self.record_many([(draft, holder)], owner=owner, now=now, alone=alone)[0]

    def record_many(
        self,
        drafts: Sequence[tuple[Draft, Holder]],
        *,
        owner: str,
        now: int,
        alone: bool | Sequence[bool] = False,
        founds: Sequence[AuthorityRecord] = (),
        shown: Collection[Shown] = (),
    ) -> list[Recorded]:
        """`record` for several drafts in one commit: all or none. `alone`: for all of them, or for each. `founds`: authorities that appear with them.

        `shown`: what those have signed in with who asked; all of it must be in force at this very moment.
        """
        each = [alone] * len(drafts) if isinstance(alone, bool) else alone
        with self.db.transaction("record certificates") as tx:
            access.insist(tx, shown, now)
            for founded in founds:
                tx.insert("authority", {**founded._asdict(), "position": _count(tx, "authority")})
            room = admission.room(tx, drafts, each, now)
            events = [event for (draft, holder), only in zip(drafts, each, strict=True) for event in admission.admit(tx, room, draft, holder, now, alone=only)]
            more = {"state": "recorded", "owner": owner, "lease_until": now + LEASE, "recorded_at": now}
            events += [_founded(one, str(drafts[0][0].row["requester"])) for one in founds]
            tx.insert("certificate", *({**draft.row, **more, "issuer": draft.issuer, "serial": draft.number, "tbs": draft.tbs} for draft, _ in drafts))
            audit.append(tx, now, *events)
        return [Recorded(draft, owner) for draft, _ in drafts]

    def release(self, signed: Signed, *, now: int) -> Released:
        """The signature becomes durable, and only now are there bytes to hand out.

        A crash before the commit: the record stays unsigned and is abandoned later; the signature was never shown to anybody. After it: the certificate
        is known, and asking again with the same idempotency key gives it. Raises Refused("release-lost") when the record is no longer ours.
        """
        return self.release_many([signed], now=now)[0]

    def release_many(self, batch: Sequence[Signed], *, now: int) -> list[Released]:
        """`release` for several in one commit: all or none."""
        done = [self._released(signed) for signed in batch]
        prints = [fingerprint(released.der) for released in done]
        rows = [
            {"signature": one.signature, "print": print_, "now": now, "issuer": released.issuer, "serial": released.number, "owner": one.recorded.owner}
            for one, released, print_ in zip(batch, done, prints, strict=True)
        ]
        events = [
            Event(str(one.recorded.draft.row["requester"]), "certificate.release", f"{released.issuer}/{released.number}", {"fingerprint": print_})
            for one, released, print_ in zip(batch, done, prints, strict=True)
        ]
        with self.db.transaction("release certificates") as tx:
            changed = tx.run_each(
                "UPDATE certificate SET state = 'released', signature = :signature, fingerprint = :print, released_at = :now"
                " WHERE issuer = :issuer AND serial = :serial AND state = 'recorded' AND owner = :owner",
                rows,
            )
            if changed != len(batch):
                lost = _not_released(tx, done, prints)
                raise Refused("release-lost", f"serial {lost} took longer than {LEASE} s and was abandoned; nothing was issued", hint="try again")
            audit.append(tx, now, *events)
        return done

    def _released(self, signed: Signed) -> Released:
        draft = signed.recorded.draft
        return Released(draft.kind, draft.issuer, draft.number, self._assemble(draft.tbs, signed.signature))

    def earlier(self, requester: str, key: str, request_sha256: str, now: int, *, lives: Callable[[str], bool] = lambda _: True) -> Released | None:
        """The answer that this requester got to this idempotency key within the last 7 days, or None.

        Raises Conflict when it belonged to another request, Unavailable while it is still being answered; that says how long it takes when the process that
        was at it is gone (`lives` says so).
        """
        with self.db.read() as tx:
            row = tx.one(
                "SELECT issuer, serial, state, tbs, signature, request_sha256, lease_until, owner FROM certificate"
                " WHERE requester = :requester AND idempotency = :key AND state <> 'abandoned' AND recorded_at >= :old",
                requester=requester,
                key=key,
                old=now - IDEMPOTENCY,
            )
        if row is None:
            return None
        issuer, serial, state, tbs, signature, digest, lease_until, owner = row
        if digest != request_sha256:
            raise Conflict("idempotency-reused", "this idempotency key was used for another request", hint="use a new key for a new request")
        if state == "released":
            return Released("certificate", issuer, serial, self._assemble(tbs, signature))
        if now <= lease_until <= now + LEASE + AHEAD:
            raise admission.in_use(lease_until + 1 - now, dead=not lives(owner))
        return None

    def abandon(self, *, now: int, entry: Entry, actor: str) -> list[CertificateId]:
        """Closes every draft whose lease is over: it will never be signed, its serial stands in the CRL without a reason, its idempotency key is free.

        Safe beside live issuances: a release and this update exclude each other. A crash here means that the next start does it again.
        """
        over = f"state = 'recorded' AND NOT {AT_WORK}"
        with self.db.read() as tx:
            stale = tx.one(f"SELECT 1 FROM certificate WHERE {over}", now=now)  # noqa: S608
            stale_crl = tx.one(f"SELECT 1 FROM crl WHERE {over}", now=now)  # noqa: S608
        if not stale and not stale_crl:
            return []
        with self.db.transaction("abandon drafts") as tx:
            tx.run(f"UPDATE crl SET state = 'abandoned' WHERE {over}", now=now)  # noqa: S608
            rows = tx.all(f"SELECT issuer, serial, revoked_at FROM certificate WHERE {over} ORDER BY recorded_at, serial", now=now)  # noqa: S608
            for issuer, serial, revoked_at in rows:
                tx.run(
                    "UPDATE certificate SET state = 'abandoned', idempotency = NULL WHERE issuer = :issuer AND serial = :serial AND state = 'recorded'",
                    issuer=issuer,
                    serial=serial,
                )
                if revoked_at is None:
                    self._enter(tx, issuer, serial, "abandon", "unspecified", now, actor, entry)
                audit.append(tx, now, Event(actor, "certificate.abandon", f"{issuer}/{serial}"))
        return [CertificateId(issuer, serial) for issuer, serial, _ in rows]

    def _enter(self, tx: Transaction, issuer: str, serial: str, move: str, reason: str, at: int, actor: str, entry: Entry) -> None:
        number = _next_revocation(tx)
        tx.run(
            "UPDATE certificate SET revoked_at = :at, revoked_reason = :reason, revocation = :number, entry = :entry"
            " WHERE issuer = :issuer AND serial = :serial",
            at=at,
            reason=reason,
            number=number,
            entry=entry(serial, at, reason),
            issuer=issuer,
            serial=serial,
        )
        row = {"number": number, "issuer": issuer, "serial": serial, "move": move, "reason": reason, "at": at, "actor": actor}
        tx.insert("revocation_log", row)

    def revoke(self, which: CertificateId, reason: str, *, at: int, actor: str, entry: Entry) -> list[Taken]:
        """Takes one certificate away (or holds it); for key-compromise every live certificate with the same key, under every issuer, and bars the key.

        One transaction: after a crash either all of it is in force or none of it. CRLs follow from the revocation number.
        Raises NotFound, or Conflict when it is revoked already.
        """
        with self.db.transaction("revoke", joins=True) as tx:
            row = _certificate(tx, which)
            state, revoked_at, was, key = row
            if state == "abandoned" or (revoked_at is not None and (was == reason or (was != HOLD and reason != "key-compromise"))):
                word = "held" if was == HOLD else "revoked"
                hint = _already(which.serial, was or "abandoned")
                raise Conflict("already-revoked", f"{which.serial} is {word} already ({was or 'abandoned'})", hint=hint, serial=which.serial)
            rows = [which]
            if reason == "key-compromise":
                self._bar_key(tx, key, at, actor)
                rows += [CertificateId(*found) for found in _same_key(tx, key, at, which)]
            return self._take(tx, rows, reason, at, actor, entry)

    def _bar_key(self, tx: Transaction, key: str, at: int, actor: str) -> None:
        if not tx.one("SELECT 1 FROM compromised_key WHERE spki_sha256 = :key", key=key):
            tx.insert("compromised_key", {"spki_sha256": key, "at": at, "actor": actor})
            audit.append(tx, at, Event(actor, "key.compromised", key))

    def _take(self, tx: Transaction, which: Sequence[CertificateId], reason: str, at: int, actor: str, entry: Entry) -> list[Taken]:
        taken = []
        move = "hold" if reason == HOLD else "revoke"
        for issuer, serial in which:
            self._enter(tx, issuer, serial, move, reason, at, actor, entry)
            row = tx.one("SELECT holder, device, common_name FROM certificate WHERE issuer = :issuer AND serial = :serial", issuer=issuer, serial=serial)
            assert row is not None  # noqa: S101  we have just written it
            audit.append(tx, at, Event(actor, f"certificate.{move}", f"{issuer}/{serial}", {"reason": reason, "holder": row[0]}))
            taken.append(Taken(CertificateId(issuer, serial), *row))
        return taken

    def unhold(self, which: CertificateId, *, at: int, actor: str) -> None:
        """Gives a held certificate back. Raises NotFound, or Conflict when it is not held."""
        with self.db.transaction("unhold", joins=True) as tx:
            _, revoked_at, was, _ = _certificate(tx, which)
            if revoked_at is None or was != HOLD:
                raise Conflict(
                    "not-held", f"{which.serial} is not held; it is {'revoked for good' if revoked_at is not None else 'in force'}", serial=which.serial
                )
            number = _next_revocation(tx)
            tx.run(
                "UPDATE certificate SET revoked_at = NULL, revoked_reason = NULL, revocation = NULL, entry = NULL WHERE issuer = :issuer AND serial = :serial",
                issuer=which.issuer,
                serial=which.serial,
            )
            row = {"number": number, "issuer": which.issuer, "serial": which.serial, "move": "unhold", "reason": "", "at": at, "actor": actor}
            tx.insert("revocation_log", row)
            audit.append(tx, at, Event(actor, "certificate.unhold", f"{which.issuer}/{which.serial}"))

    def leave(self, login: str, *, at: int, actor: str, entry: Entry, may: Callable[[Transaction], None] = lambda _: None) -> list[Taken]:
        """Marks a person as gone and takes every live certificate, in one transaction, so that nothing she has survives it.

        `may` is asked inside it, before anything changes, and raises what stands against it.
        """
        with self.db.transaction("leave", joins=True) as tx:
            may(tx)
            people.mark_left(tx, login, at, actor)
            rows = tx.all(f"SELECT issuer, serial FROM certificate WHERE holder = :holder AND {ALIVE} ORDER BY recorded_at", holder=login, now=at)  # noqa: S608
            return self._take(tx, [CertificateId(*row) for row in rows], "affiliation-changed", at, actor, entry)

    def mend(
        self, entries: Sequence[tuple[CertificateId, int, str | None]], crls: Sequence[tuple[str, int, int, int]], *, now: int, actor: str, entry: Entry
    ) -> None:
        """Writes anew what follows from something else: entries for the CRL out of time and reason of each revocation (what has changed meanwhile is left
        alone), and how far CRLs go out of the audit log (issuer, number, revocation, entries).
        """
        with self.db.transaction("mend") as tx:
            for issuer, number, revocation, count in crls:
                sql = "UPDATE crl SET revocation = :revocation, entries = :count WHERE issuer = :issuer AND number = :number"
                tx.run(sql, issuer=issuer, number=number, revocation=revocation, count=count)
                audit.append(tx, now, Event(actor, "crl.mend", issuer, {"number": number}))
            for which, at, reason in entries:
                changed = tx.run(
                    "UPDATE certificate SET entry = :entry WHERE issuer = :issuer AND serial = :serial AND revoked_at = :at AND revoked_reason = :reason",
                    entry=entry(which.serial, at, reason),
                    at=at,
                    reason=reason,
                    **which._asdict(),
                )
                if changed:
                    audit.append(tx, now, Event(actor, "certificate.mend", f"{which.issuer}/{which.serial}"))

    def record_crl(self, draft: Draft, *, owner: str, now: int, actor: str) -> Recorded:
        """Makes a CRL's draft durable. Raises Conflict when another process got ahead; read the entries again then.

        The revocation number may only grow with the CRL number: a list that is behind must never look newer than one that is ahead.
        """
        row = draft.row
        with self.db.transaction("record CRL") as tx:
            ahead = tx.one(
                "SELECT 1 FROM crl WHERE issuer = :issuer AND state <> 'abandoned' AND (number >= :number OR revocation > :revocation)",
                issuer=draft.issuer,
                number=int(draft.number),
                revocation=row["revocation"],
            )
            if ahead or int(draft.number) <= admission.newest_crl_number(tx, draft.issuer):
                raise Conflict("crl-overtaken", f"another process made a CRL of {draft.issuer} at the same moment", hint="try again")
            more = {"issuer": draft.issuer, "number": int(draft.number), "state": "recorded", "tbs": draft.tbs, "owner": owner, "lease_until": now + LEASE}
            tx.insert("crl", {**row, **more})
            audit.append(tx, now, Event(actor, "crl.record", f"{draft.issuer}/{draft.number}", {"entries": row["entries"], "revocation": row["revocation"]}))
        return Recorded(draft, owner)

    def release_crl(self, signed: Signed, *, now: int) -> Released:
        """The CRL becomes durable with its signature, and the clock notes it; long superseded ones go. Raises Refused("release-lost") when it was abandoned."""
        released = self._released(signed)
        with self.db.transaction("release CRL") as tx:
            changed = tx.run(
                "UPDATE crl SET state = 'released', signature = :signature"
                " WHERE issuer = :issuer AND number = :number AND state = 'recorded' AND owner = :owner",
                signature=signed.signature,
                issuer=released.issuer,
                number=int(released.number),
                owner=signed.recorded.owner,
            )
            if changed != 1:
                raise Refused("release-lost", f"CRL {released.number} took longer than {LEASE} s and was abandoned", hint="try again")
            takeover.note(tx, f"CRL {released.issuer}", int(str(signed.recorded.draft.row["revocation"])), now)
            old = int(released.number) - OLD_CRLS
            tx.run("DELETE FROM crl WHERE issuer = :issuer AND number < :old AND state <> 'recorded'", issuer=released.issuer, old=old)
        return released

    def install(self, record: AuthorityRecord, tbs: bytes, signature: bytes, der: bytes, row: dict[str, object], *, now: int) -> None:
        """Takes in the certificate of an authority that was signed elsewhere, with the authority's row. One transaction; raises Conflict when it is here."""
        who = str(row["requester"])
        with self.db.transaction("install authority") as tx:
            if tx.one("SELECT 1 FROM authority WHERE name = :name", name=record.name):
                raise Conflict("authority-exists", f"the authority {record.name} has its certificate already")
            holder = Holder(str(row["holder"]), "authority", name=str(row["common_name"]))
            _, events = people.ensure(tx, holder, people.called(tx, [holder]), who, now)
            tx.insert("authority", {**record._asdict(), "position": _count(tx, "authority")})
            more = {"issuer": record.parent, "serial": record.serial, "state": "released", "tbs": tbs, "signature": signature, "fingerprint": fingerprint(der)}
            tx.insert("certificate", {**row, **more, "owner": "", "lease_until": now, "recorded_at": now, "released_at": now})
            audit.append(tx, now, *events, Event(who, "authority.install", record.name, {**_founded(record, who).facts, "fingerprint": fingerprint(der)}))

    def install_crl(self, issuer: str, tbs: bytes, signature: bytes, this_update: int, next_update: int, entries: int, *, now: int, actor: str) -> None:
        """Takes in the CRL of an authority whose key is not here. Its place in our order is behind all that came before."""
        with self.db.transaction("install CRL") as tx:
            number = admission.newest_crl_number(tx, issuer) + 1
            row = {"issuer": issuer, "number": number, "state": "released", "tbs": tbs, "signature": signature, "this_update": this_update}
            more = {"next_update": next_update, "revocation": 0, "entries": entries, "owner": "", "lease_until": now}
            tx.insert("crl", {**row, **more})
            audit.append(tx, now, Event(actor, "crl.install", f"{issuer}/{number}", {"entries": entries}))

    def der(self, which: CertificateId) -> bytes:
        """A released certificate's DER. Raises NotFound."""
        with self.db.read() as tx:
            row = tx.one("SELECT tbs, signature FROM certificate WHERE issuer = :issuer AND serial = :serial AND state = 'released'", **which._asdict())
        if row is None:
            raise NotFound("no-certificate", f"there is no certificate {which.serial} of {which.issuer}")
        return self._assemble(row[0], row[1])

    def newest_crl(self, issuer: str) -> tuple[dict[str, Any], bytes] | None:
        """The newest released CRL of an issuer: its row (number, this_update, next_update, revocation, entries) and its DER; None when there is none."""
        with self.db.read() as tx:
            row = tx.one(
                "SELECT number, this_update, next_update, revocation, entries, tbs, signature FROM crl"
                " WHERE issuer = :issuer AND state = 'released' ORDER BY number DESC LIMIT 1",
                issuer=issuer,
            )
        if row is None:
            return None
        names = ("number", "this_update", "next_update", "revocation", "entries")
        return dict(zip(names, row[:5], strict=True)), self._assemble(row[5], row[6])


def _not_released(tx: Transaction, done: Sequence[Released], prints: Sequence[str]) -> str:
    """The serial of the first of a batch that did not become what it should."""
    kept = {row[0] for row in tx.among("SELECT fingerprint FROM certificate WHERE fingerprint IN ({})", prints)}
    return next((released.number for released, print_ in zip(done, prints, strict=True) if print_ not in kept), "")


def fingerprint(der: bytes) -> str:
    """SHA-256 of the whole certificate, upper-case hex."""
    return hashlib.sha256(der).hexdigest().upper()


def _founded(record: AuthorityRecord, actor: str) -> Event:
    """What the log keeps of an authority's place."""
    return Event(actor, "authority.found", record.name, {"role": record.role, "side": record.side, "parent": record.parent, "serial": record.serial})


def _count(tx: Transaction, table: str) -> int:
    row = tx.one(f"SELECT count(*) FROM {table}")  # noqa: S608  a name from our own source
    return int(row[0]) if row else 0


def _next_revocation(tx: Transaction) -> int:
    row = tx.one("SELECT max(number) FROM revocation_log")
    return int(row[0] or 0) + 1 if row else 1


def _already(serial: str, was: str) -> str:
    """What can still be done with a certificate that was taken away. `was`: its reason, or abandoned."""
    if was == HOLD:
        return f"gatekey unhold {serial} gives it back; gatekey revoke {serial} takes it away for good"
    if was == "abandoned":
        return "it was never signed, so there is nothing to take away"
    if was == "key-compromise":
        return "this is for good, and its key is never certified again"
    return f"this is for good, and its reason stays; only if its key is in wrong hands: gatekey revoke {serial} --reason key-compromise"


def _certificate(tx: Transaction, which: CertificateId) -> Any:
    row = tx.one("SELECT state, revoked_at, revoked_reason, spki_sha256 FROM certificate WHERE issuer = :issuer AND serial = :serial", **which._asdict())
    if row is None:
        raise NotFound("no-certificate", f"there is no certificate {which.serial} of {which.issuer}")
    return row


def _same_key(tx: Transaction, key: str, now: int, but: CertificateId) -> list[Any]:
    # A CA's own certificate is never among them: no leaf is given a CA's key, and a CA is not revoked in this way.
    return tx.all(
        f"SELECT issuer, serial FROM certificate WHERE spki_sha256 = :key AND {ALIVE} AND NOT (issuer = :issuer AND serial = :serial) ORDER BY recorded_at",  # noqa: S608
        key=key,
        now=now,
        issuer=but.issuer,
        serial=but.serial,
    )
