"""Is the ledger whole? Everything that was promised, looked at once more: engine, audit chain, bytes against rows, rows against the log, CRLs, keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import GatekeyError
from ..store import evidence
from ..store.ledger import fingerprint
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, assemble, read_certificate
from ..x509.crl import encode_entry, read_crl
from ..x509.spki import read_spki
from . import crl, history
from .ceremony import files_missing, write_files
from .reconcile import CaughtUp, catch_up, published_behind, reconcile

if TYPE_CHECKING:
    from ..model.record import AuthorityRecord
    from ..store.database import Transaction
    from ..store.evidence import CrlRow, Row
    from .authority import Authority

#: Most findings that are told one by one.
MOST = 50
#: How long a process may take between a revocation and its CRL before it counts as interrupted, and how long we sleep before we look again (seconds).
AT_WORK, _PAUSE = 5.0, 0.25


def findings(authority: Authority, progress: Callable[[int], None] = lambda _: None) -> list[str]:
    """What is wrong, in words; an empty list means that the ledger is whole. `progress` hears the number of certificates looked at."""
    found = [f"the database file is damaged: {problem}" for problem in authority.reads.engine_problems()]
    if found:
        return found
    with authority.reads.snapshot(tolerant=True) as tx:  # other processes may be at work
        if broken := authority.reads.chain_problem():
            found.append(f"the audit log does not hold: {broken}")
        found += _looked("the certificates", _certificates(authority, tx, progress))
        told = history.Replayed()
        found += _looked("the audit log", history.replay(tx, told))
        found += _looked("the list of revocations", history.revocations(tx))
        found += _looked("the people", history.holders(tx, told))
        found += _looked("roles and tokens", history.access(tx, told))
        found += _looked("the authorities", _authorities(authority, tx, told))
        for record in authority.records():
            found += _looked(f"the CRL of {record.name}", _crl(authority, tx, told, record.name))
        found += _keys(authority)
        if left := authority.reads.in_flight(authority.now()):
            found.append(f"{left} draft{'s' if left > 1 else ''} of an interrupted run {'are' if left > 1 else 'is'} not closed yet (--repair does it)")
    found += _looked("the authorities", _files(authority))
    found += _looked("the newest revocations", _untold(authority))
    return list(dict.fromkeys(found))[:MOST]


def _looked(what: str, look: Iterator[str]) -> list[str]:
    """What one look finds; where it falls over a damaged cell, that is a finding too, and the others go on."""
    found: list[str] = []
    try:
        found.extend(look)
    except GatekeyError as unreadable:
        found.append(f"{what} cannot be read: {unreadable.message}")
    except Exception as damaged:  # noqa: BLE001  whatever somebody has written into a cell
        found.append(f"{what} cannot be read: {damaged}")
    return found


def repair(authority: Authority) -> CaughtUp:
    """Mends what can be mended without losing anything: closes interrupted drafts, writes entries for the CRL anew where the log confirms the revocation, signs
    CRLs that are behind or not what was recorded, writes what is missing or old on the disk.
    """
    from .revoke import tell

    closed = [f"closed {one.serial} of {one.issuer}: recorded, never signed" for one in reconcile(authority)]
    with authority.reads.snapshot(tolerant=True) as tx:
        wrong, rows = _mendable(authority, tx)
    if wrong or any(problem.right for problem in rows.values()):
        crls = [(name, *problem.right) for name, problem in rows.items() if problem.right]
        authority.ledger.mend(wrong, crls, now=authority.now(), actor=authority.actor, entry=encode_entry)
    lists = {name for name in (*rows, *(which.issuer for which, _, _ in wrong)) if authority.has_key(name)}
    owed = [trouble.message for trouble in tell(authority, lists)] if lists else []
    mended = [f"wrote the entry of {which.issuer}/{which.serial} for the CRL anew" for which, _, _ in wrong]
    if not owed:
        mended += [f"signed the CRL of {name}" for name in sorted(lists)]
    caught_up = catch_up(authority)
    written = [f"wrote authorities/{name}.crt" for name in write_files(authority)]
    return CaughtUp([*closed, *mended, *caught_up.done, *written], [*owed, *caught_up.owed])


def _mendable(authority: Authority, tx: Transaction) -> tuple[list[history.Wrong], dict[str, history.CrlProblem]]:
    """Entries to write anew, and CRLs that another one makes good. What cannot be read cannot be mended; `findings` tells of it."""
    told = history.Replayed()
    try:
        list(history.replay(tx, told))
        rows = {record.name: _crl_row(authority, tx, told, record.name) for record in authority.records()}
        return list(history.wrong_entries(tx)), {name: problem for name, problem in rows.items() if problem.words and problem.mendable}
    except (GatekeyError, ValueError, TypeError):
        return [], {}


def _certificates(authority: Authority, tx: Transaction, progress: Callable[[int], None]) -> Iterator[str]:
    """Every certificate: cells, bytes, signature, and what the log tells of it."""
    issuers: dict[str, Certificate | None] = {}
    serials: set[str] = set()
    matched = 0
    for count, row in enumerate(evidence.certificates(tx), start=1):
        progress(count)
        if damaged := evidence.damage(row):
            yield f"the row {row.issuer}/{row.serial} cannot be read: {damaged}"
            continue
        if row.serial in serials:
            yield f"serial {row.serial} stands there twice"
        serials.add(row.serial)
        if row.issuer not in issuers:
            issuers[row.issuer] = None
            try:
                issuers[row.issuer] = authority.issuing(row.issuer).certificate
            except GatekeyError as missing:
                yield f"the certificate of the authority {row.issuer} cannot be read: {missing.message}"
        yield from _bytes(row, issuers[row.issuer])
        told = history.told_of(tx, row)
        matched += told.recorded is not None
        yield from history.problems(tx, row, told)
    yield from history.gone(tx, matched)


def _bytes(row: Row, above: Certificate | None) -> Iterator[str]:
    """The row against the certificate, and the certificate against its issuer (None: unknown)."""
    if row.signature is None:
        return
    where = f"{row.issuer}/{row.serial}"
    try:
        der = assemble(row.tbs, row.signature)
        certificate = read_certificate(der)
        spki = read_spki(certificate.spki)
    except GatekeyError as unreadable:
        yield f"{where} cannot be read: {unreadable.message}"
        return
    names = [*certificate.names.dns, *certificate.names.ips, *certificate.names.emails]
    told = (certificate.serial, certificate.not_before, certificate.not_after, spki.sha256, spki.label, certificate.common_name, fingerprint(der))
    stands = (row.serial, row.not_before, row.not_after, row.spki_sha256, row.key_type, row.common_name, row.fingerprint)
    if told != stands or (names != json.loads(row.alternatives) and row.profile != "foreign"):
        yield f"{where}: the row does not say what the certificate says"
    if above is None:
        return
    if certificate.issuer != above.subject or not x509_signature.verify(above.spki, certificate.algorithm, certificate.signature, certificate.tbs):
        yield f"{where}: the signature is not that of {row.issuer}"


def _files(authority: Authority) -> Iterator[str]:
    for name in files_missing(authority):
        yield f"authorities/{name}.crt is missing (--repair writes it)"


def _authorities(authority: Authority, tx: Transaction, told: history.Replayed) -> Iterator[str]:
    """Each authority is what the log says, and has a certificate of its own."""
    stands = {record.name: record for record in authority.reads.authorities()}
    for name in sorted(told.authorities.keys() - stands.keys()):
        yield f"the authority {name} is gone: the audit log knows it, the ledger does not"
    for record in stands.values():
        if problem := _authority(tx, record, told.authorities.get(record.name)):
            yield f"the authority {record.name} {problem}"


def _authority(tx: Transaction, record: AuthorityRecord, facts: dict[str, object] | None) -> str:
    if facts is None:
        return "stands in the ledger, and the audit log does not know it"
    named = {"role": record.role, "side": record.side, "parent": record.parent, "serial": record.serial}
    if differ := [f"the {word}" for word, value in named.items() if word in facts and facts[word] != value]:
        return f"is not what the audit log says: {', '.join(differ)}"
    if evidence.holder_of(tx, record.parent, record.serial) != f"authority:{record.name}":
        return f"has no certificate: {record.serial} of {record.parent} is not its own"
    return ""


def _crl(authority: Authority, tx: Transaction, told: history.Replayed, name: str) -> Iterator[str]:
    """The newest CRL of a CA: its row against the log and its bytes, its signature, its dates, and what it must list."""
    another = "(--repair signs another)" if authority.has_key(name) else f"(its key is away: {crl.needs(authority, name)})"
    held = crl.newest(authority, name)
    if held is None:
        yield f"there is no CRL of {name} {another.replace('another', 'one')}"
        return
    if (problem := _crl_row(authority, tx, told, name)).words:
        yield f"the CRL of {name}{problem.words} {another if problem.mendable else ''}".rstrip()
    listed = read_crl(held.der)
    if held.next_update <= authority.now():
        yield f"the CRL of {name} has expired {another}"
    if held.this_update > authority.now():
        yield f"the CRL of {name} is of a time to come: a clock was ahead {another}"
    issuer = authority.issuing(name).certificate
    if not x509_signature.verify(issuer.spki, listed.algorithm, listed.signature, listed.tbs):
        yield f"the signature of the CRL of {name} does not hold"
    lost = [serial for _, serial in authority.reads.revoked((name,), authority.now()) if listed.find(int(serial, 16)) is None]
    if lost and held.revocation >= authority.reads.revocation_number(name):
        yield f"{len(lost)} revoked certificates are not in the CRL of {name}, first {lost[0]}"


def _crl_row(authority: Authority, tx: Transaction, told: history.Replayed, name: str) -> history.CrlProblem:
    """What the rows say of the newest CRL of a CA that neither the log nor the CRL itself says."""
    newest: CrlRow | None = next((row for row in reversed(evidence.crls(tx)) if row.issuer == name), None)
    if (problem := history.crl_problem(newest, told.crls.get(name))).words:
        return problem
    if held := crl.newest(authority, name):
        listed = read_crl(held.der)
        if (held.this_update, held.next_update, held.entries) != (listed.this_update, listed.next_update, listed.count):
            return history.CrlProblem(": the row does not say what the CRL says")
    return history.CrlProblem()


def _untold(authority: Authority) -> Iterator[str]:
    """What the ledger knows and the web servers do not. Who revokes at this very moment has a little time to tell them."""
    waits = AT_WORK if 0 <= authority.now() - authority.reads.newest_revocation_at() <= AT_WORK else 0.0
    while True:
        incomplete = authority.reads.crls_incomplete()
        found = [f"the CRL of {name} does not hold the newest revocation (--repair signs another)" for name in incomplete]
        if published_behind(authority):
            found.append(f"{authority.config.publish} does not hold what the ledger holds (--repair rewrites it)")
        if not found or waits <= 0:
            yield from found
            return
        time.sleep(_PAUSE)
        waits -= _PAUSE


def _keys(authority: Authority) -> list[str]:
    here = authority.keyring.labels()
    found = []
    for record in authority.records():
        if record.name not in here:
            if record.role != "root":
                found.append(f"the key of {record.name} is missing: nothing can be issued or revoked with it")
            continue
        try:
            authority.signer(record.name)
        except GatekeyError as problem:
            found.append(f"the key of {record.name}: {problem.message}")
    return found
