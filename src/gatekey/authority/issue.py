"""The six steps of an issuance, from any door, for one request or for many at once. One place decides, one place signs, one place records.

1 read      facts about the key, the issuer and the holder
2 decide    policy, pure: a plan, or all the reasons against it
3 draft     to-be-signed bytes; lint reads them back
4 record    durable, with its audit event, before any signature exists
5 sign      exactly the recorded bytes
6 release   durable; only now are there bytes to hand out

A durable commit costs milliseconds, a signature a fraction of one: what is asked for together goes through each step together and shares its commits, and a
bad request spoils nothing. CRLs go through the same last three steps in `crl.py`. With an authority's key nothing else is signed but its own request
(`corporate.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Reason, Refused, Unavailable
from ..lifecycle import Draft, Recorded, Released, Signed
from ..lint.certificates import lint_certificate
from ..model.access import Shown
from ..model.holder import Holder
from ..model.plan import NameConstraints, Plan, Urls
from ..model.record import AuthorityRecord, CertificateRecord
from ..model.request import Request
from ..model.status import RELEASED
from ..policy.decide import decide
from ..ports import Signer
from ..store.dialect import TROUBLE
from ..store.ledger import fingerprint
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, Issuer, encode_tbs
from ..x509.names import encode_name
from ..x509.spki import key_identifier, read_spki
from .answers import issued, issued_meanwhile
from .authority import Say, silent
from .facts import Met, holder_facts, key_facts, met
from .steps import Steps, together

if TYPE_CHECKING:
    from .authority import Authority


class Asked(NamedTuple):
    """One request. `alone`: a second live certificate for the same holder and device is refused.

    `founds`: the authority that comes into being with this certificate, its serial still open; `constraints` bind it. `shown`: what the asker has signed in
    with, where somebody has: it must still be in force when this is recorded.
    """

    request: Request
    holder: Holder
    alone: bool = False
    founds: AuthorityRecord | None = None
    constraints: NameConstraints | None = None
    shown: Shown | None = None


class Outcome(NamedTuple):
    """What became of it: `released` with its row, or `refused`. `notes`: what policy and lint had to say."""

    released: Released | None = None
    record: CertificateRecord | None = None
    refused: GatekeyError | None = None
    notes: tuple[str, ...] = ()


class _Drafted(NamedTuple):
    place: int
    draft: Draft
    asked: Asked
    notes: tuple[str, ...]


def issue(authority: Authority, request: Request, holder: Holder, *, alone: bool = False, say: Say = silent) -> Released:
    """Answers one request. Asking again with the same idempotency key gives the same certificate.

    `alone`: a second live certificate for the same holder and device is refused. `say` hears what policy changed, such as a validity that was cut.
    Raises Refused with all reasons, and what store and keys raise.
    """
    if request.idempotency and (earlier := issued(authority, request.idempotency, request_digest(request))):
        return earlier
    try:
        return _only(authority, Asked(request, holder, alone), say)
    except GatekeyError as refused:
        if request.idempotency and (earlier := issued_meanwhile(authority, request.idempotency, request_digest(request), refused)):
            return earlier
        raise


def issued_anyway(authority: Authority, request: Request, trouble: BaseException) -> Released | None:
    """The certificate that exists although its issuance ended in `trouble`, or None when nothing was issued.

    The answer alone may be lost: Ctrl-C, or an error of the disk, right after the commit. Raises what the ledger says where it cannot tell.
    """
    if isinstance(trouble, Refused | Conflict | Malformed | Misconfigured | NotFound) and trouble.code not in (*TROUBLE, "store-error"):
        return None
    try:
        return authority.ledger.earlier(request.requester, request.idempotency, request_digest(request), authority.now())
    except Unavailable as under_way:
        if under_way.code != "idempotency-in-use":
            raise
        return None  # recorded by us and not released: nobody will sign it any more


def found_root(authority: Authority, request: Request, record: AuthorityRecord, constraints: NameConstraints | None, *, say: Say = silent) -> Released:
    """The same for a CA: a root, which signs itself, or an issuing CA below one of ours. Its row appears together with its record."""
    holder = Holder(request.holder, "authority", name=request.names.common_name)
    released = _only(authority, Asked(request, holder, founds=record, constraints=constraints), say)
    authority.forget()
    return released


def _only(authority: Authority, asked: Asked, say: Say) -> Released:
    (outcome,) = issue_each(authority, [asked])
    for note in outcome.notes:
        say(note)
    if outcome.refused is not None:
        raise outcome.refused
    assert outcome.released is not None  # noqa: S101  it is the one or the other
    return outcome.released


def issue_each(authority: Authority, batch: Sequence[Asked]) -> list[Outcome]:
    """Answers each request for itself, in order, with one commit per step for all that can be issued. A refusal stands in the outcome of its request.

    Idempotency keys were looked up before, since an answer that was given already needs none of this; that none is used twice is seen to in step 4.
    """
    outcomes = [Outcome()] * len(batch)
    drafts: list[_Drafted] = []
    signers: dict[str, Signer] = {}
    notes: list[list[str]] = [[] for _ in batch]
    now = authority.now()
    try:
        known = met(authority, [(asked.request, asked.holder) for asked in batch])  # 1, as far as the ledger is asked
    except GatekeyError as refused:
        return [Outcome(refused=refused)] * len(batch)
    done = together([_drafted(authority, asked, now, known, signers, said.append) for asked, said in zip(batch, notes, strict=True)])  # 1 to 3
    for place, (asked, drafted, said) in enumerate(zip(batch, done, notes, strict=True)):
        if isinstance(drafted, GatekeyError):
            outcomes[place] = Outcome(refused=drafted, notes=tuple(said))
        else:
            drafts.append(_Drafted(place, drafted, asked, tuple(said)))
    if drafts:
        _record(authority, drafts, signers, outcomes)
    return outcomes


def _drafted(authority: Authority, asked: Asked, now: int, known: Met, signers: dict[str, Signer], say: Say) -> Steps[Draft | GatekeyError]:
    """Steps 1 to 3 of one of a batch: the draft, or why there is none. Its issuer is among the `signers` then."""
    try:
        plan = decide_for(authority, asked.request, asked.holder, now, alone=asked.alone, constraints=asked.constraints, known=known)
        for note in plan.notes:
            say(note)
        yield
        drafted = yield from draft(authority, asked.request, plan, say)
        if drafted.issuer not in signers:
            signers[drafted.issuer] = authority.signer(drafted.issuer)  # a key that is away or a wrong passphrase: before anything is recorded
    except GatekeyError as refused:
        return refused
    return drafted


def _record(authority: Authority, drafts: list[_Drafted], signers: dict[str, Signer], outcomes: list[Outcome]) -> None:
    """Step 4. What one request alone does wrong shows here, and all of the batch comes to nothing: then each is tried for itself."""
    # The time of the record, not of the question: a person may have thought about a passphrase in between, and the lease begins now.
    now = authority.now()
    pairs = [(one.draft, one.asked.holder) for one in drafts]
    founds = [one.asked.founds._replace(serial=one.draft.number, created_at=now) for one in drafts if one.asked.founds]
    alone, shown = [one.asked.alone for one in drafts], {one.asked.shown for one in drafts if one.asked.shown}
    try:
        recorded = authority.ledger.record_many(pairs, owner=authority.owner, now=now, alone=alone, founds=founds, shown=shown)  # 4
    except GatekeyError as refused:
        if _everybodys(refused, drafts, outcomes):
            return
        for one in drafts:
            _record(authority, [one], signers, outcomes)
        return
    _release(authority, drafts, recorded, signers, outcomes)


def _release(authority: Authority, drafts: list[_Drafted], recorded: list[Recorded], signers: dict[str, Signer], outcomes: list[Outcome]) -> None:
    """Steps 5 and 6. What is recorded and comes to nothing here is closed when its lease is over."""
    try:
        signed = [sign(authority, one, signers[one.draft.issuer]) for one in recorded]  # 5
        released = authority.ledger.release_many(signed, now=authority.now())  # 6
    except GatekeyError as refused:
        if _everybodys(refused, drafts, outcomes):
            return
        for one, its in zip(drafts, recorded, strict=True):
            _release(authority, [one], [its], signers, outcomes)
        return
    for one, done in zip(drafts, released, strict=True):
        outcomes[one.place] = Outcome(done, record_of(one.draft, done, one.asked.holder.kind, authority.now()), notes=one.notes)


def _everybodys(refused: GatekeyError, drafts: list[_Drafted], outcomes: list[Outcome]) -> bool:
    """Whether this would meet each of the batch by itself as well; then it is the outcome of all. Only trouble of the ledger itself is of that kind."""
    if len(drafts) > 1 and refused.code not in TROUBLE:
        return False
    for one in drafts:
        outcomes[one.place] = Outcome(refused=refused, notes=one.notes)
    return True


def record_of(draft: Draft, released: Released, kind: str, now: int) -> CertificateRecord:
    """The row of a certificate that was released a moment ago, without asking the ledger for what we have just told it."""
    more = {"issuer": draft.issuer, "serial": draft.number, "state": RELEASED, "kind": kind, "fingerprint": fingerprint(released.der)}
    row: dict[str, Any] = {**draft.row, **more, "recorded_at": now, "released_at": now, "revoked_at": None, "revoked_reason": None}
    row["alternatives"] = tuple(json.loads(row["alternatives"]))
    return CertificateRecord._make(map(row.__getitem__, CertificateRecord._fields))


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


def draft(authority: Authority, request: Request, plan: Plan, say: Say = silent) -> Steps[Draft]:
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
    yield
    findings = lint_certificate(tbs, above)
    if reasons := tuple(Reason("lint", f"{finding.lint}: {finding.message} ({finding.source})") for finding in findings if finding.severity == "error"):
        raise Refused.because(reasons)
    for finding in findings:
        say(f"{finding.message} ({finding.source})")
    yield
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
    """Step 5: the only place where certificates and CRLs are signed, and it takes nothing but what is on record. `signer`: that key, if it is open."""
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
