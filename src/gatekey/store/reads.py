"""Questions to the ledger that change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..model.holder import Holder
from ..model.record import SERVICE, AuthorityRecord, CertificateRecord, CrlRecord, Filter
from . import audit, people
from .admission import AT_WORK, holders_of_keys, newest_crl_number
from .audit import Logged
from .database import Database, Row, Transaction

if TYPE_CHECKING:
    from ..model.standing import Known

_COLUMNS = (
    "c.issuer, c.serial, c.state, c.profile, c.profile_sha256, c.holder, h.kind, c.device, c.common_name, c.alternatives, c.not_before, c.not_after,"
    " c.spki_sha256, c.key_type, c.fingerprint, c.lineage, c.renews, c.requester, c.door, c.recorded_at, c.released_at, c.revoked_at, c.revoked_reason"
)
_NEWEST_CRLS = """
    SELECT a.name FROM authority a
    LEFT JOIN crl c ON c.issuer = a.name AND c.state = 'released'
        AND c.number = (SELECT max(number) FROM crl WHERE issuer = a.name AND state = 'released')
    WHERE c.revocation < (SELECT max(number) FROM revocation_log WHERE issuer = a.name)"""
#: What may open a door at all: no authority's, no web server's and no OCSP responder's certificate.
_A_VISITOR = "h.kind NOT IN ('authority', 'server') AND c.profile NOT IN ('ocsp-responder', 'probe-server')"
_OPENS = f"c.state = 'released' AND c.revoked_at IS NULL AND {_A_VISITOR}"
_DOOR = (
    "c.issuer, c.serial, c.not_before, c.not_after, h.login, h.name, h.email, c.device, c.fingerprint, h.left_at,"
    " (SELECT group_concat(grp, char(10)) FROM membership WHERE login = h.login)"
)
_DOORS = f"SELECT {_DOOR} FROM certificate c JOIN holder h ON h.login = c.holder WHERE {_OPENS} AND c.not_after >= :since"  # noqa: S608
#: The joins are CROSS so that the engine takes them in this order, the few before the many.
_DOORS_AMONG = (
    f"SELECT json_group_array(json_array({_DOOR})) FROM json_each(:which) w CROSS JOIN certificate c"  # noqa: S608
    " ON c.issuer = substr(w.value, 1, instr(w.value, '/') - 1) AND c.serial = substr(w.value, instr(w.value, '/') + 1)"
    f" CROSS JOIN holder h ON h.login = c.holder WHERE {_OPENS}"
)
_FROM = f"SELECT {_COLUMNS} FROM certificate c JOIN holder h ON h.login = c.holder"  # noqa: S608  our own words


def _record(row: Row) -> CertificateRecord:
    values = list(row)
    values[9] = tuple(json.loads(values[9]))
    values[14] = values[14] or ""
    values[16] = values[16] or ""
    return CertificateRecord(*values)


_RELEASED = "c.state = 'released'"
#: Each status of model.status.STATUSES as SQL; tests compare the two.
_STATUS = {
    "valid": f"{_RELEASED} AND c.revoked_at IS NULL AND c.not_before <= :now AND c.not_after >= :now",
    "not-yet-valid": f"{_RELEASED} AND c.revoked_at IS NULL AND c.not_before > :now AND c.not_after >= :now",
    "expired": f"{_RELEASED} AND c.revoked_at IS NULL AND c.not_after < :now",
    "held": f"{_RELEASED} AND c.revoked_at IS NOT NULL AND c.revoked_reason = 'certificate-hold'",
    "revoked": f"{_RELEASED} AND c.revoked_at IS NOT NULL AND c.revoked_reason <> 'certificate-hold'",
    "abandoned": "c.state = 'abandoned'",
}


def _lines(text: str | None) -> tuple[str, ...]:
    """The words that `group_concat` has put one under the other, in their order."""
    return tuple(sorted(text.split("\n"))) if text else ()


def _filters(find: Filter) -> list[tuple[str, bool]]:
    """SQL from our own source, and whether it is wanted."""
    return [
        (_STATUS.get(find.status, "1 = 0"), bool(find.status)),
        ("c.holder = :holder", bool(find.holder)),
        ("c.holder IN (SELECT login FROM membership WHERE grp = :grp)", bool(find.group)),
        (f"{_STATUS['valid']} AND c.not_after <= :end", find.ending_within is not None),
        ("h.kind <> 'authority'", not find.authorities),
        ("c.profile NOT LIKE 'probe%'", not find.probes),
        (f"c.requester <> '{SERVICE}'", not find.services),
    ]


class Reads:
    """Every read of the ledger, by name."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._crls: dict[str, CrlRecord] = {}

    def certificates(self, where: str = "", **values: object) -> list[CertificateRecord]:
        """Certificates in the order in which they were recorded. `where` is SQL from our own source over the columns of `c` and `h`."""
        clause = f" WHERE {where}" if where else ""
        with self._db.read() as tx:
            return [_record(row) for row in tx.all(f"{_FROM}{clause} ORDER BY c.recorded_at, c.serial", **values)]

    def page(self, find: Filter, now: int, *, after: tuple[int, str] = (-1, ""), limit: int) -> list[CertificateRecord]:
        """At most `limit` certificates that `find` describes, in the order of their recording, after the one that was recorded then with that serial."""
        where = [words for words, wanted in _filters(find) if wanted]
        clause = " AND ".join(["c.state <> 'recorded'", "(c.recorded_at, c.serial) > (:at, :serial)", *where])
        values = {"holder": find.holder, "grp": find.group, "now": now, "end": now + (find.ending_within or 0), "at": after[0], "serial": after[1]}
        with self._db.read() as tx:
            return [_record(row) for row in tx.all(f"{_FROM} WHERE {clause} ORDER BY c.recorded_at, c.serial LIMIT :limit", limit=limit, **values)]

    def by_serial(self, serial: str) -> list[CertificateRecord]:
        return self.certificates("c.issuer IN (SELECT name FROM authority) AND c.serial = :serial AND c.state <> 'recorded'", serial=serial)

    def by_fingerprint(self, fingerprint: str) -> list[CertificateRecord]:
        return self.certificates("c.fingerprint = :fingerprint", fingerprint=fingerprint)

    def by_holder(self, login: str) -> list[CertificateRecord]:
        return self.certificates("c.holder = :login AND c.state = 'released'", login=login)

    def by_key(self, spki_sha256: str) -> list[CertificateRecord]:
        return self.certificates("c.spki_sha256 = :key AND c.state <> 'abandoned'", key=spki_sha256)

    def holders_of_keys(self, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """Key (SHA-256 of its SPKI), holder and kind of holder: who has certificates with these keys."""
        with self._db.read() as tx:
            return holders_of_keys(tx, keys)

    def doors(self, which: Sequence[str] | None = None, *, since: int = 0) -> list[tuple[Known, bool]]:
        """What opens a door between its dates, with whether its holder has left: released, neither revoked nor held, and that of a visitor.

        `which`: among these, each as the audit log writes it (ISSUER/SERIAL), in one row as `audit.changes` is; otherwise all that end at `since` or later.
        """
        from ..model.standing import Known  # half a millisecond that no short verb needs

        with self._db.read() as tx:
            if which is None:
                rows = tx.all(_DOORS, since=since)
            else:
                row = tx.one(_DOORS_AMONG, which=json.dumps(which))
                rows = json.loads(row[0]) if row else []
        return [
            (Known(issuer, serial, begins, ends, login, name, email or "", _lines(groups), device, bytes.fromhex(fingerprint)), left is not None)
            for issuer, serial, begins, ends, login, name, email, device, fingerprint, left, groups in rows
        ]

    def revoked(self, issuers: tuple[str, ...], now: int) -> list[tuple[str, str]]:
        """Issuer and serial of everything that must not open a door and has not expired: revoked, held, abandoned."""
        with self._db.read() as tx:
            rows = tx.all("SELECT issuer, serial FROM certificate WHERE revoked_at IS NOT NULL AND not_after >= :now ORDER BY issuer, serial", now=now)
        return [(issuer, serial) for issuer, serial in rows if issuer in issuers]

    def crl_entries(self, issuer: str, since: int) -> list[bytes]:
        """Encoded CRL entries of everything revoked under `issuer` that was still in its validity at `since`.

        RFC 5280 3.3: an entry leaves only after it stood in a CRL that was issued beyond the end of the certificate.
        """
        with self._db.read() as tx:
            return [
                row[0]
                for row in tx.each(
                    "SELECT entry FROM certificate WHERE issuer = :issuer AND revoked_at IS NOT NULL AND not_after >= :since", issuer=issuer, since=since
                )
            ]

    def revocation_number(self, issuer: str = "") -> int:
        """The newest revocation number, of one issuer or of all."""
        with self._db.read() as tx:
            if issuer:
                row = tx.one("SELECT max(number) FROM revocation_log WHERE issuer = :issuer", issuer=issuer)
            else:
                row = tx.one("SELECT max(number) FROM revocation_log")
        return int(row[0] or 0) if row else 0

    def revoked_after(self, number: int, issuer: str = "") -> int | None:
        """When the first revocation after this number was (POSIX seconds), of one issuer or of all; None when there is none."""
        with self._db.read() as tx:
            if issuer:
                row = tx.one("SELECT min(at) FROM revocation_log WHERE issuer = :issuer AND number > :number", issuer=issuer, number=number)
            else:
                row = tx.one("SELECT min(at) FROM revocation_log WHERE number > :number", number=number)
        return int(row[0]) if row and row[0] is not None else None

    def standing(self, issuer: str, serials: Sequence[str]) -> dict[str, tuple[str, int | None, str | None]]:
        """State, time and reason of revocation of the certificates among these serials that there are: all that an OCSP answer needs."""
        sql = "SELECT serial, state, revoked_at, revoked_reason FROM certificate WHERE issuer = :issuer AND serial IN ({})"
        with self._db.read() as tx:
            return {serial: (state, at, reason) for serial, state, at, reason in tx.among(sql, serials, issuer=issuer)}

    def newest_crl(self, issuer: str) -> CrlRecord | None:
        """The newest released CRL of an issuer without its bytes. Asked often: its number comes out of the index alone, and what is released never changes;
        the rest of the row stands behind the bytes, which may be megabytes.
        """
        with self._db.read() as tx:
            row = tx.one("SELECT max(number) FROM crl WHERE issuer = :issuer AND state = 'released'", issuer=issuer)
            number = row[0] if row else None
            if number is None:
                return None
            known = self._crls.get(issuer)
            if known is None or known.number != number:
                columns = "issuer, number, this_update, next_update, revocation, entries"
                row = tx.one(f"SELECT {columns} FROM crl WHERE issuer = :issuer AND number = :number", issuer=issuer, number=number)  # noqa: S608
                if row is None:
                    return None
                known = self._crls[issuer] = CrlRecord(*row)
        return known

    def newest_revocation_at(self) -> int:
        """When the newest revocation was (POSIX seconds); 0 when there is none."""
        with self._db.read() as tx:
            row = tx.one("SELECT at FROM revocation_log ORDER BY number DESC LIMIT 1")
        return int(row[0]) if row else 0

    def newest_event_at(self) -> int:
        """The time of the newest audit event (POSIX seconds); 0 when there is none."""
        with self._db.read() as tx:
            row = tx.one("SELECT at FROM audit ORDER BY number DESC LIMIT 1")
        return int(row[0]) if row else 0

    def snapshot(self, *, tolerant: bool = False) -> AbstractContextManager[Transaction]:
        """Everything that this thread reads inside is one state of the ledger; nothing may be written there.

        `tolerant`: text that is not UTF-8 is no error, so that a damaged ledger can be looked at.
        """
        return self._db.snapshot(tolerant=tolerant)

    def first_revocation_after(self, issuer: str, number: int) -> int:
        """The first revocation of an issuer after this number; 0 when there is none."""
        with self._db.read() as tx:
            row = tx.one("SELECT min(number) FROM revocation_log WHERE issuer = :issuer AND number > :number", issuer=issuer, number=number)
        return int(row[0] or 0) if row else 0

    def newest_crl_number(self, issuer: str) -> int:
        """The highest number that a CRL of this issuer was ever given."""
        with self._db.read() as tx:
            return newest_crl_number(tx, issuer)

    def authorities(self) -> list[AuthorityRecord]:
        """All authorities in the order of their making."""
        with self._db.read() as tx:
            return [AuthorityRecord(*row) for row in tx.all("SELECT name, role, side, parent, serial, created_at FROM authority ORDER BY position")]

    def compromised(self, *keys: str) -> set[str]:
        """Those of these keys (SHA-256 of their SPKI) that were reported as compromised."""
        with self._db.read() as tx:
            return {row[0] for row in tx.among("SELECT spki_sha256 FROM compromised_key WHERE spki_sha256 IN ({})", keys)}

    def holder(self, login: str) -> Holder | None:
        with self._db.read() as tx:
            return people.find(tx, login)

    def holder_by_email(self, email: str) -> Holder | None:
        with self._db.read() as tx:
            return people.find_by_email(tx, email)

    def holders_named(self, logins: Sequence[str]) -> dict[str, Holder]:
        """The holders among these logins, by their login in lower case."""
        with self._db.read() as tx:
            return people.named(tx, logins)

    def holders(self, *kinds: str, group: str = "") -> list[Holder]:
        with self._db.read() as tx:
            return people.listing(tx, kinds, group=group)

    def changes(self, first: int) -> tuple[int, dict[str, list[str]]]:
        """The number of the newest audit event, and the subjects of those from `first` on by their actions, without drafts and new holders."""
        with self._db.read() as tx:
            return audit.changes(tx, first)

    def events(self, first: int = 1) -> Iterator[Logged]:
        """The audit log from event `first` on."""
        with self._db.read() as tx:
            yield from audit.read(tx, first)

    def newest_event(self) -> int:
        """The number of the newest audit event: it grows with every change of anything."""
        with self._db.read() as tx:
            row = tx.one("SELECT max(number) FROM audit")
        return int(row[0] or 0) if row else 0

    def access_changes(self, since: int) -> tuple[int, bool]:
        """The number of the newest audit event, and whether any after `since` may change what somebody may do: all but new certificates, people and CRLs."""
        with self._db.read() as tx:
            row = tx.one(
                "SELECT max(number), max(action NOT IN ('certificate.record', 'certificate.release', 'holder.add', 'crl.record'))"
                " FROM audit WHERE number > :since",
                since=since,
            )
        return (int(row[0]), bool(row[1])) if row and row[0] is not None else (since, False)

    def newest_bundle_event(self) -> tuple[int, int]:
        """Number and time of the newest audit event that changes what web servers must know: certificates, people, authorities."""
        with self._db.read() as tx:
            row = tx.one(
                "SELECT number, at FROM audit WHERE action IN ('certificate.release', 'certificate.abandon', 'certificate.revoke', 'certificate.hold',"
                " 'certificate.unhold') OR (action LIKE 'holder.%' AND action <> 'holder.roles') OR action LIKE 'authority.%' ORDER BY number DESC LIMIT 1"
            )
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def chain_problem(self) -> str | None:
        """Where the audit chain breaks, in words, or None."""
        with self._db.read() as tx:
            return audit.broken(tx)

    def engine_problems(self) -> list[str]:
        """What the database engine finds wrong with its own file."""
        return self._db.problems()

    def in_flight(self, now: int) -> int:
        """Drafts whose lease has run out and that nobody has abandoned yet."""
        with self._db.read() as tx:
            row = tx.one(f"SELECT count(*) FROM certificate WHERE state = 'recorded' AND NOT {AT_WORK}", now=now)  # noqa: S608
        return int(row[0]) if row else 0

    def crls_behind(self, now: int) -> list[str]:
        """Authorities whose newest CRL is missing, does not hold the newest revocation, has expired, or is of a time to come (a clock was ahead)."""
        with self._db.read() as tx:
            return [row[0] for row in tx.all(f"{_NEWEST_CRLS} OR c.number IS NULL OR c.next_update <= :now OR c.this_update > :now", now=now)]

    def crls_incomplete(self) -> list[str]:
        """Authorities whose newest CRL does not hold the newest revocation."""
        with self._db.read() as tx:
            return [row[0] for row in tx.all(_NEWEST_CRLS)]
