"""The six steps of an issuance, from any door. One place decides, one place signs, one place records.

1 read      facts about the key, the issuer and the holder
2 decide    policy, pure: a plan, or all the reasons against it
3 draft     to-be-signed bytes; lint reads them back
4 record    durable, with its audit event, before any signature exists
5 sign      exactly the recorded bytes
6 release   durable; only now are there bytes to hand out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import Reason, Refused
from ..lifecycle import Draft, Recorded, Released, Signed
from ..lint.certificates import lint_certificate
from ..model.holder import Holder
from ..model.plan import NameConstraints, Plan, Urls
from ..model.record import AuthorityRecord
from ..model.request import Request
from ..policy.decide import decide
from ..ports import Signer
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, Issuer, encode_tbs
from ..x509.names import encode_name
from ..x509.spki import key_identifier, read_spki
from .facts import Met, holder_facts, key_facts, met
from .reconcile import reconcile

if TYPE_CHECKING:
    from .authority import Authority


Say = Callable[[str], None]


def silent(_: str) -> None:
    """Hears notes and keeps them to itself."""


def issue(authority: Authority, request: Request, holder: Holder, *, alone: bool = False, say: Say = silent) -> Released:
    """Answers one request. Asking again with the same idempotency key gives the same certificate.

    `alone`: a second live certificate for the same holder and device is refused. `say` hears what policy changed, such as a validity that was cut.
    Raises Refused with all reasons, and what store and keys raise.
    """
    return issue_many(authority, [(request, holder)], alone=alone, say=say)[0]


def issue_many(authority: Authority, batch: Sequence[tuple[Request, Holder]], *, alone: bool = False, say: Say = silent) -> list[Released]:
    """Answers a batch through the same six steps with one commit per step: all of it, or the first refusal and nothing of it."""
    now = authority.now()
    if len(batch) == 1 and (earlier := _earlier(authority, batch[0][0], now)):
        return [earlier]
    drafts = []
    known = met(authority, batch)
    for request, holder in batch:
        plan = decide_for(authority, request, holder, now, alone=alone, known=known)  # 1 and 2
        for note in plan.notes:
            say(note)
        drafts.append((draft(authority, request, plan, say), holder))  # 3
    # A key that is away or a wrong passphrase is found out before anything is recorded.
    signers = {issuer: authority.signer(issuer) for issuer in {one.issuer for one, _ in drafts}}
    # The time of the record, not of the question: a person may have thought about a passphrase in between, and the lease begins now.
    recorded = authority.ledger.record_many(drafts, owner=authority.owner, now=authority.now(), alone=alone)  # 4
    signed = [sign(authority, one, signers[one.draft.issuer]) for one in recorded]  # 5
    return authority.ledger.release_many(signed, now=authority.now())  # 6


def found_root(authority: Authority, request: Request, record: AuthorityRecord, constraints: NameConstraints | None) -> Released:
    """The same six steps for a CA: a root, which signs itself, or an issuing CA below one of ours. Its row appears together with its record."""
    now = authority.now()
    holder = Holder(request.holder, "authority", name=request.names.common_name)
    plan = decide_for(authority, request, holder, now, constraints=constraints)
    founding = draft(authority, request, plan)
    record = record._replace(serial=founding.number, created_at=now)
    recorded = authority.ledger.record(founding, holder, owner=authority.owner, now=now, founds=record)
    released = authority.ledger.release(sign(authority, recorded), now=authority.now())
    authority.forget()
    return released


def _earlier(authority: Authority, request: Request, now: int) -> Released | None:
    if not request.idempotency:
        return None
    reconcile(authority)  # an interrupted run with the same key is over as soon as its lease is; nobody else may have come by to say so
    return authority.ledger.earlier(request.requester, request.idempotency, request_digest(request), now)


def decide_for(
    authority: Authority,
    request: Request,
    holder: Holder,
    now: int,
    *,
    alone: bool = False,
    constraints: NameConstraints | None = None,
    known: Met | None = None,
) -> Plan:
    """Steps 1 and 2. `known`: what was asked for a whole batch already. Raises Refused with all reasons."""
    known = known or met(authority, [(request, holder)])
    profile = authority.profile(request.profile)
    self_signed = request.issuer == request.holder.removeprefix("authority:")
    issuer = None if self_signed else authority.issuing(request.issuer)
    decision = decide(
        profile,
        request,
        key_facts(request, holder, known),
        issuer.facts if issuer else None,
        holder_facts(authority, request, holder, known, now, alone=alone),
        now,
        urls=urls_for(authority, request.issuer),
        constraints=constraints,
    )
    if isinstance(decision, Refused):
        raise decision
    return decision


def urls_for(authority: Authority, issuer: str) -> Urls:
    """The addresses that go into certificates of this issuer; none without a URL."""
    base = authority.config.url
    if not base:
        return Urls()
    return Urls(crl=(f"{base}/crl/{issuer}.crl",), issuer=(f"{base}/ca/{issuer}.crt",), ocsp=(f"{base}/ocsp",))


def draft(authority: Authority, request: Request, plan: Plan, say: Say = silent) -> Draft:
    """Step 3. Raises Refused("lint") when the finished bytes are not what they should be: then nothing is recorded and nothing is signed.

    `say` hears what lint has to tell that is no reason to refuse.
    """
    public = read_spki(plan.spki)
    self_signed = request.issuer == request.holder.removeprefix("authority:")
    above: Certificate | None = None
    if self_signed:
        encoding = Issuer(encode_name(plan.names.common_name), key_identifier(plan.spki), x509_signature.algorithm(public.label))
    else:
        issuing = authority.issuing(request.issuer)
        above, encoding = issuing.certificate, issuing.encoding
    serial = draw_serial(authority)
    tbs = encode_tbs(plan, serial, encoding)
    findings = lint_certificate(tbs, above)
    if reasons := tuple(Reason("lint", f"{finding.lint}: {finding.message} ({finding.source})") for finding in findings if finding.severity == "error"):
        raise Refused.because(reasons)
    for finding in findings:
        say(f"{finding.message} ({finding.source})")
    lineage = f"{request.issuer}/{serial}"
    renews = ""
    if request.renews:
        renews = "/".join(request.renews)
        lineage = next((r.lineage for r in authority.reads.by_serial(request.renews.serial) if r.id == request.renews), lineage)
    row: dict[str, object] = {
        "profile": plan.profile,
        "profile_sha256": plan.profile_sha256,
        "holder": request.holder,
        "device": request.device,
        "common_name": plan.names.common_name,
        "alternatives": json.dumps(list(plan.names.alternatives)),
        "not_before": plan.not_before,
        "not_after": plan.not_after,
        "spki_sha256": public.sha256,
        "key_type": public.label,
        "lineage": lineage,
        "renews": renews,
        "requester": request.requester,
        "door": request.door,
        "idempotency": request.idempotency or None,
        "request_sha256": request_digest(request),
    }
    return Draft("certificate", request.issuer, serial, tbs, row)


def draw_serial(authority: Authority) -> str:
    """16 random bytes, the first 01-7F: positive, never short, 126 bits and more of chance (RFC 5280 4.1.2.2)."""
    while True:
        data = authority.entropy.bytes(16)
        if 1 <= data[0] <= 0x7F:
            return data.hex().upper()


def sign(authority: Authority, recorded: Recorded, signer: Signer | None = None) -> Signed:
    """Step 5: the only place where anything is signed with a CA's key, and it takes nothing but what is on record. `signer`: that key, if it is open."""
    signer = signer or authority.signer(recorded.draft.issuer)
    return Signed(recorded, signer.sign(recorded.draft.tbs))


def request_digest(request: Request) -> str:
    """What an idempotency key is bound to: the door's own words if it gave their digest. A key made here is new at each try and therefore left out."""
    if request.asked:
        return request.asked
    spki = "" if request.proof == "made-here" else request.spki.hex()
    said = [
        request.profile,
        request.names,
        spki,
        request.holder,
        request.device,
        request.days,
        request.not_after,
        request.proof,
        request.renews,
        request.issuer,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
