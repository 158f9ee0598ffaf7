"""REF: what a person calls a certificate. File, full serial, fingerprint, login, e-mail, in this order; a renewed lineage means its newest.

And what one is that nobody was let in with.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..errors import Conflict, NotFound
from ..model.instants import day, iso
from ..model.record import CertificateRecord
from ..model.status import ABANDONED, EXPIRED, HELD, NOT_YET, REVOKED, VALID
from ..x509 import certificate as x509_certificate
from ..x509.sniff import sniff
from .people import meant

if TYPE_CHECKING:
    from .authority import Authority

_SERIAL = re.compile(r"(0x)?([0-9A-Fa-f]{2}[:]?){1,20}")


def one(authority: Authority, ref: str, *, wanted: tuple[str, ...] = (), files_too: bool = True) -> CertificateRecord:
    """The one certificate that `ref` means. `wanted`: statuses that can be meant when several could be (the verb's own sense).

    `files_too`: `ref` may be the path of a file. Never so for words that came over a network.

    Raises NotFound; Conflict when several remain, listing them.
    """
    found = candidates(authority, ref, files_too=files_too)
    now = authority.now()
    exact = _exact(authority, ref, files_too=files_too)
    if not exact and wanted and len(found) > 1:
        narrowed = _without_bygones([record for record in found if record.status(now) in wanted], now)
        found = narrowed or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(
            "no-certificate",
            f"no certificate answers to {ref!r}",
            hint="gatekey list; a REF is a serial, a fingerprint, a login, an e-mail or a certificate file",
        )
    raise _ambiguous(authority, f"{ref!r} can mean {len(found)} certificates", found)


def _ambiguous(authority: Authority, message: str, found: list[CertificateRecord]) -> Conflict:
    now = authority.now()
    listed = [f"{record.serial}  {record.title}  {record.device or '-'}  {record.status(now)} until {day(record.not_after)}" for record in found]
    return Conflict("ambiguous", message, hint="say which, by its serial:\n  " + "\n  ".join(listed), candidates=[r.serial for r in found])


def _without_bygones(records: list[CertificateRecord], now: int) -> list[CertificateRecord]:
    """Without expired ones that nobody means: where the same device has a live one, or one that expired later. Short-lived certificates leave many behind."""
    newest: dict[str, CertificateRecord] = {}
    for record in records:
        if record.status(now) != EXPIRED or record.device not in newest or record.not_after > newest[record.device].not_after:
            newest[record.device] = record
    live = {record.device for record in records if record.status(now) != EXPIRED}
    return [record for record in records if record.status(now) != EXPIRED or (record.device not in live and record is newest[record.device])]


def candidates(authority: Authority, ref: str, *, files_too: bool = True) -> list[CertificateRecord]:
    """Everything that `ref` can mean: of the first kind that answers, the newest of each lineage.

    Raises Conflict when it is the login of one and the e-mail of another, listing what both have.
    """
    exact = _exact(authority, ref, files_too=files_too)
    if exact:
        return exact
    try:
        holder = meant(authority, ref)
    except Conflict as two:
        theirs = [record for login in two.facts["candidates"] for record in newest_of_lineages(authority.reads.by_holder(login), authority.now())]
        raise _ambiguous(authority, two.message, theirs) from None
    if holder is None:
        return []
    return newest_of_lineages(authority.reads.by_holder(holder.login), authority.now())


def _exact(authority: Authority, ref: str, *, files_too: bool) -> list[CertificateRecord]:
    path = Path(ref)
    if files_too and ref and (path.is_file() or "/" in ref):
        return [_from_file(authority, path)]
    digits = ref.replace(":", "").removeprefix("0x").upper()
    if _SERIAL.fullmatch(ref) and len(digits) >= 16:
        found = authority.reads.by_serial(digits.zfill(32)) or authority.reads.by_serial(digits)
        if found:
            return found
    if re.fullmatch(r"[0-9A-F]{64}", digits):
        return authority.reads.by_fingerprint(digits)
    return []


def _from_file(authority: Authority, path: Path) -> CertificateRecord:
    for kind, der in sniff(files.read(path)):
        if kind == "certificate":
            certificate = x509_certificate.read_certificate(der)
            found = authority.reads.by_fingerprint(certificate.fingerprint)
            if found:
                return found[0]
            raise NotFound("not-ours", f"the certificate in {path} ({certificate.common_name or certificate.serial}) was not issued here")
    raise NotFound("no-certificate", f"there is no certificate in {path}", hint="give NAME.crt")


def newest_of_lineages(records: list[CertificateRecord], now: int) -> list[CertificateRecord]:
    """One per lineage: the newest that is not revoked, or the newest at all. Newest is what nothing of the same lineage renews."""
    rank = {VALID: 3, HELD: 3, NOT_YET: 3, EXPIRED: 2, REVOKED: 1, ABANDONED: 0}
    renewed = {record.renews for record in records}

    def weight(record: CertificateRecord) -> tuple[int, bool, int]:
        return rank[record.status(now)], "/".join(record.id) not in renewed, record.recorded_at

    best: dict[str, CertificateRecord] = {}
    for record in records:
        held = best.get(record.lineage)
        if held is None or weight(record) > weight(held):
            best[record.lineage] = record
    return list(best.values())


def of_stranger(authority: Authority, issuer: str, serial: str, fingerprint: bytes = b"") -> dict[str, str]:
    """What a certificate is that no door knows, for the log: a lost laptop, a forgery, or one that was never made.

    `issuer` in RFC 2253 form; `fingerprint`: its SHA-256, when all of it was shown. Told are `what`, and of one of ours `holder`, `device`, and `since` where
    it was revoked or held or has ended. Raises what the store raises.
    """
    from ..x509.names import rfc2253

    name = next((one.name for one in authority.records() if rfc2253(authority.issuing(one.name).certificate.subject) == issuer), None)
    if name is None:
        return {"what": "of another authority"}
    record = next((one for one in authority.reads.by_serial(serial.upper().zfill(32)) if one.issuer == name), None)
    if record is None:
        return {"what": "never issued here"}
    if fingerprint and record.fingerprint and fingerprint.hex() != record.fingerprint.lower():
        return {"what": "another certificate under a serial of ours"}
    status = record.status(authority.now())
    opens = record.kind != "authority" and record.profile != "ocsp-responder" and authority.record(name).side != "servers"
    told = {"what": status if opens or status != VALID else "no certificate for doors", "holder": record.holder, "device": record.device}
    if record.revoked_at is not None:
        told |= {"since": iso(record.revoked_at), "reason": record.revoked_reason or ""}
    elif status == EXPIRED:
        told["since"] = iso(record.not_after)
    return {key: value for key, value in told.items() if value}
