"""The tables, as ordered steps that only ever grow. Each ledger says which steps it has taken."""

from __future__ import annotations

from ..errors import Misconfigured
from .database import Database, Transaction

#: One entry per step; `{blob}` and `{bigint}` are spelled by the dialect. Times are POSIX seconds.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE holder (
             login TEXT PRIMARY KEY,
             kind TEXT NOT NULL CHECK (kind IN ('person', 'device', 'service', 'server', 'authority')),
             name TEXT NOT NULL DEFAULT '',
             email TEXT,
             created_at {bigint} NOT NULL,
             left_at {bigint})""",
        "CREATE UNIQUE INDEX holder_by_login ON holder (lower(login))",
        "CREATE UNIQUE INDEX holder_by_email ON holder (lower(email)) WHERE email IS NOT NULL",
        """CREATE TABLE membership (
             login TEXT NOT NULL REFERENCES holder (login),
             grp TEXT NOT NULL,
             PRIMARY KEY (login, grp))""",
        """CREATE TABLE device (
             login TEXT NOT NULL REFERENCES holder (login),
             device TEXT NOT NULL,
             added_at {bigint} NOT NULL,
             PRIMARY KEY (login, device))""",
        """CREATE TABLE authority (
             name TEXT PRIMARY KEY,
             role TEXT NOT NULL CHECK (role IN ('root', 'issuing', 'flat')),
             side TEXT NOT NULL CHECK (side IN ('people', 'servers', 'both')),
             parent TEXT NOT NULL,
             position {bigint} NOT NULL,
             serial TEXT NOT NULL,
             created_at {bigint} NOT NULL)""",
        """CREATE TABLE certificate (
             issuer TEXT NOT NULL,
             serial TEXT NOT NULL,
             state TEXT NOT NULL CHECK (state IN ('recorded', 'released', 'abandoned')),
             tbs {blob} NOT NULL,
             signature {blob},
             profile TEXT NOT NULL,
             profile_sha256 TEXT NOT NULL,
             holder TEXT NOT NULL REFERENCES holder (login),
             device TEXT NOT NULL,
             common_name TEXT NOT NULL,
             alternatives TEXT NOT NULL,
             not_before {bigint} NOT NULL,
             not_after {bigint} NOT NULL,
             spki_sha256 TEXT NOT NULL,
             key_type TEXT NOT NULL,
             fingerprint TEXT,
             lineage TEXT NOT NULL,
             renews TEXT,
             requester TEXT NOT NULL,
             door TEXT NOT NULL,
             idempotency TEXT,
             request_sha256 TEXT NOT NULL,
             owner TEXT NOT NULL,
             lease_until {bigint} NOT NULL,
             recorded_at {bigint} NOT NULL,
             released_at {bigint},
             revoked_at {bigint},
             revoked_reason TEXT,
             revocation {bigint},
             entry {blob},
             PRIMARY KEY (issuer, serial),
             CHECK ((state = 'released') = (signature IS NOT NULL)),
             CHECK ((state = 'released') = (fingerprint IS NOT NULL)),
             CHECK ((revoked_at IS NULL) = (entry IS NULL)),
             CHECK ((revoked_at IS NULL) = (revocation IS NULL)))""",
        "CREATE INDEX certificate_by_holder ON certificate (holder, device)",
        "CREATE INDEX certificate_by_key ON certificate (spki_sha256)",
        "CREATE INDEX certificate_by_end ON certificate (not_after)",
        "CREATE INDEX certificate_by_lineage ON certificate (lineage)",
        "CREATE UNIQUE INDEX certificate_by_fingerprint ON certificate (fingerprint) WHERE fingerprint IS NOT NULL",
        "CREATE UNIQUE INDEX certificate_by_idempotency ON certificate (requester, idempotency) WHERE idempotency IS NOT NULL AND state <> 'abandoned'",
        "CREATE INDEX certificate_in_flight ON certificate (lease_until) WHERE state = 'recorded'",
        "CREATE INDEX certificate_revoked ON certificate (issuer, not_after) WHERE revoked_at IS NOT NULL",
        """CREATE TABLE crl (
             issuer TEXT NOT NULL,
             number {bigint} NOT NULL,
             state TEXT NOT NULL CHECK (state IN ('recorded', 'released', 'abandoned')),
             tbs {blob} NOT NULL,
             signature {blob},
             this_update {bigint} NOT NULL,
             next_update {bigint} NOT NULL,
             revocation {bigint} NOT NULL,
             entries {bigint} NOT NULL,
             owner TEXT NOT NULL,
             lease_until {bigint} NOT NULL,
             PRIMARY KEY (issuer, number),
             CHECK ((state = 'released') = (signature IS NOT NULL)))""",
        """CREATE TABLE revocation_log (
             number {bigint} PRIMARY KEY,
             issuer TEXT NOT NULL,
             serial TEXT NOT NULL,
             move TEXT NOT NULL CHECK (move IN ('revoke', 'hold', 'unhold', 'abandon')),
             reason TEXT NOT NULL,
             at {bigint} NOT NULL,
             actor TEXT NOT NULL)""",
        """CREATE TABLE compromised_key (
             spki_sha256 TEXT PRIMARY KEY,
             at {bigint} NOT NULL,
             actor TEXT NOT NULL)""",
        """CREATE TABLE audit (
             number {bigint} PRIMARY KEY,
             at {bigint} NOT NULL,
             actor TEXT NOT NULL,
             action TEXT NOT NULL,
             subject TEXT NOT NULL,
             facts TEXT NOT NULL,
             hash TEXT NOT NULL)""",
    ),
    (  # the service: roles, tokens, jobs, and what was seen at the doors
        """CREATE TABLE role (
             login TEXT NOT NULL REFERENCES holder (login),
             role TEXT NOT NULL CHECK (role IN ('auditor', 'operator', 'administrator', 'proxy')),
             PRIMARY KEY (login, role))""",
        """CREATE TABLE token (
             id TEXT PRIMARY KEY,
             secret_sha256 TEXT NOT NULL,
             login TEXT NOT NULL REFERENCES holder (login),
             scopes TEXT NOT NULL,
             about TEXT NOT NULL,
             created_at {bigint} NOT NULL,
             expires_at {bigint} NOT NULL,
             revoked_at {bigint},
             used_at {bigint})""",
        """CREATE TABLE job (
             name TEXT PRIMARY KEY,
             owner TEXT NOT NULL,
             lease_until {bigint} NOT NULL,
             due_at {bigint} NOT NULL,
             done_at {bigint},
             outcome TEXT NOT NULL)""",
        """CREATE TABLE sent (
             what TEXT NOT NULL,
             subject TEXT NOT NULL,
             at {bigint} NOT NULL,
             PRIMARY KEY (what, subject))""",
        """CREATE TABLE seen (
             issuer TEXT NOT NULL,
             serial TEXT NOT NULL,
             at {bigint} NOT NULL,
             site TEXT NOT NULL,
             PRIMARY KEY (issuer, serial))""",
        """CREATE TABLE takeover (
             place TEXT NOT NULL,
             number {bigint} NOT NULL,
             at {bigint} NOT NULL,
             PRIMARY KEY (place, number))""",
        """CREATE TABLE answer (
             requester TEXT NOT NULL,
             idempotency TEXT NOT NULL,
             digest TEXT NOT NULL,
             status {bigint} NOT NULL,
             body TEXT NOT NULL,
             at {bigint} NOT NULL,
             PRIMARY KEY (requester, idempotency))""",
        "CREATE INDEX audit_by_subject ON audit (subject)",
    ),
    (  # what every verb that writes asks first: does a CRL lag behind? Without these the question reads through lists of megabytes
        "CREATE INDEX revocation_by_issuer ON revocation_log (issuer, number)",
        "CREATE INDEX crl_newest ON crl (issuer, state, number, this_update, next_update, revocation)",
    ),
    (  # lists are read page by page, in the order of recording
        "CREATE INDEX certificate_by_recording ON certificate (recorded_at, serial)",
    ),
    (  # every worker begins with the certificates that open doors: a few among perhaps a million revoked ones
        "CREATE INDEX certificate_alive ON certificate (not_after) WHERE state = 'released' AND revoked_at IS NULL",
        "CREATE INDEX certificate_by_serial ON certificate (serial)",
    ),
    (  # nothing ever looked for a lineage, and each certificate paid for it with a page
        "DROP INDEX certificate_by_lineage",
    ),
    (  # nor for what ends when it was taken away; a serial is found under its issuer, and within a second the order of recording is sorted when it is asked for
        "DROP INDEX certificate_by_end",
        "DROP INDEX certificate_by_serial",
        "DROP INDEX certificate_by_recording",
        "CREATE INDEX certificate_by_recording ON certificate (recorded_at)",
    ),
)


def create(db: Database) -> None:
    """All steps, in a new ledger."""
    db.create()
    with db.transaction("create schema") as tx:
        tx.run("CREATE TABLE schema_step (step INTEGER PRIMARY KEY)")
        _take(db, tx, 0)


def upgrade(db: Database) -> None:
    """The steps that this ledger has not taken yet. Raises Misconfigured when a newer Gatekey has been here."""
    with db.read() as tx:
        taken = _taken(tx)
    if taken > len(STEPS):
        raise Misconfigured(
            "store-newer", f"the ledger was written by a newer Gatekey (step {taken}, this one knows {len(STEPS)})", hint="use that version, or a newer one"
        )
    if taken < len(STEPS):
        with db.transaction("upgrade schema") as tx:
            _take(db, tx, _taken(tx))


def _taken(tx: Transaction) -> int:
    row = tx.one("SELECT max(step) FROM schema_step")
    return int(row[0]) if row and row[0] is not None else 0


def _take(db: Database, tx: Transaction, first: int) -> None:
    for number, statements in enumerate(STEPS[first:], start=first + 1):
        for statement in statements:
            tx.run(statement.format_map(db.dialect.types))
        tx.insert("schema_step", {"step": number})
