"""Is the ledger whole? Everything that was promised, looked at once more: engine, audit chain, bytes against rows, signatures, revocations, CRLs, keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import GatekeyError
from ..store.ledger import fingerprint
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, assemble, read_certificate
from ..x509.crl import read_crl
from ..x509.spki import read_spki
from . import crl
from .ceremony import files_missing, write_files
from .history import contradictions
from .reconcile import CaughtUp, catch_up, published_behind, reconcile

if TYPE_CHECKING:
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
    with authority.reads.snapshot():  # other processes may be at work
        if broken := authority.reads.chain_problem():
            found.append(f"the audit log does not hold: {broken}")
        found += _certificates(authority, progress)
        found += contradictions(authority)
        found += _crls(authority)
        found += _keys(authority)
        if left := authority.reads.in_flight(authority.now()):
            found.append(f"{left} draft{'s' if left > 1 else ''} of an interrupted run {'are' if left > 1 else 'is'} not closed yet (--repair does it)")
    found += [f"authorities/{name}.crt is missing (--repair writes it)" for name in files_missing(authority)]
    found += _untold(authority)
    return found[:MOST]


def repair(authority: Authority) -> CaughtUp:
    """Mends what can be mended without losing anything: closes interrupted drafts, signs CRLs that are behind, writes what is missing or old on the disk."""
    closed = [f"closed {one.serial} of {one.issuer}: recorded, never signed" for one in reconcile(authority)]
    caught_up = catch_up(authority)
    written = [f"wrote authorities/{name}.crt" for name in write_files(authority)]
    return caught_up._replace(done=[*closed, *caught_up.done, *written])


def _certificates(authority: Authority, progress: Callable[[int], None]) -> list[str]:
    found = []
    issuers: dict[str, Certificate] = {}
    serials: set[str] = set()
    for count, row in enumerate(authority.reads.signed_pairs(), start=1):
        issuer, serial, tbs, signature, print_, not_before, not_after, key, common_name, alternatives = row
        progress(count)
        where = f"{issuer}/{serial}"
        if serial in serials:
            found.append(f"serial {serial} stands there twice")
        serials.add(serial)
        try:
            if issuer not in issuers:
                issuers[issuer] = authority.issuing(issuer).certificate
            der = assemble(tbs, signature)
            certificate = read_certificate(der)
            spki = read_spki(certificate.spki)
        except GatekeyError as unreadable:
            found.append(f"{where} cannot be read: {unreadable.message}")
            continue
        told = (
            certificate.serial,
            certificate.not_before,
            certificate.not_after,
            spki.sha256,
            certificate.common_name,
            [*certificate.names.dns, *certificate.names.ips, *certificate.names.emails],
            fingerprint(der),
        )
        if told != (serial, not_before, not_after, key, common_name, json.loads(alternatives), print_):
            found.append(f"{where}: the row does not say what the certificate says")
        above = issuers[issuer]
        if certificate.issuer != above.subject or not x509_signature.verify(above.spki, certificate.algorithm, certificate.signature, certificate.tbs):
            found.append(f"{where}: the signature is not that of {issuer}")
    return found


def _crls(authority: Authority) -> list[str]:
    found = []
    for record in authority.records():
        try:
            held = crl.newest(authority, record.name)
            listed = read_crl(held.der) if held else None
        except GatekeyError as unreadable:
            found.append(f"the CRL of {record.name} cannot be read: {unreadable.message}")
            continue
        if held is None or listed is None:
            found.append(f"there is no CRL of {record.name} (--repair signs one)")
            continue
        if held.next_update <= authority.now():
            found.append(f"the CRL of {record.name} has expired (--repair signs another)")
        if held.this_update > authority.now():
            found.append(f"the CRL of {record.name} is of a time to come: a clock was ahead (--repair signs another)")
        issuer = authority.issuing(record.name).certificate
        if not x509_signature.verify(issuer.spki, listed.algorithm, listed.signature, listed.tbs):
            found.append(f"the signature of the CRL of {record.name} does not hold")
        missing = authority.reads.revoked((record.name,), authority.now())
        lost = [serial for _, serial in missing if listed.find(int(serial, 16)) is None]
        if lost and held.revocation >= authority.reads.revocation_number(record.name):
            found.append(f"{len(lost)} revoked certificates are not in the CRL of {record.name}, first {lost[0]}")
    return found


def _untold(authority: Authority) -> list[str]:
    """What the ledger knows and the web servers do not. Who revokes at this very moment has a little time to tell them."""
    waits = AT_WORK if 0 <= authority.now() - authority.reads.newest_revocation_at() <= AT_WORK else 0.0
    while True:
        incomplete = authority.reads.crls_incomplete()
        found = [f"the CRL of {name} does not hold the newest revocation (--repair signs another)" for name in incomplete]
        if published_behind(authority):
            found.append(f"{authority.config.publish} does not hold what the ledger holds (--repair rewrites it)")
        if not found or waits <= 0:
            return found
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
            if authority.signer(record.name).spki != authority.issuing(record.name).certificate.spki:
                found.append(f"the key file of {record.name} is not the key of its certificate")
        except GatekeyError as problem:
            found.append(f"the key of {record.name}: {problem.message}")
    return found
