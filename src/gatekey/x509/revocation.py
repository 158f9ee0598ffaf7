"""Whether a certificate is revoked, out of CRLs that are at hand (RFC 5280 6.3): complete, delta, indirect and partitioned by reason or place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..errors import GatekeyError
from ..model.instants import iso
from . import names
from .certificate import Certificate, DistributionPoint
from .constraints import canonical
from .crl import Crl, Revoked, Scope
from .names import GeneralNames

#: Bits 1 to 8 of ReasonFlags (RFC 5280 4.2.1.13): a certificate is good only if CRLs for each of them say nothing against it.
_ALL_REASONS = frozenset(range(1, 9))

#: The answer of `Trusted` for a CRL that was signed by the very certificate that is asked about: it can condemn it, but not acquit it against others.
CIRCULAR = "its signer cannot be judged without itself"

#: CRLs that are tried for one certificate.
MOST_CRLS = 64

#: Whether a CRL is signed by somebody who may: (the CRL, the certificate it is asked about) -> "" or why not.
Trusted = Callable[[Crl], str]


class _Asked(NamedTuple):
    certificate: Certificate
    crls: Sequence[Crl]
    at: int
    trusted: Trusted


class Status(NamedTuple):
    """`state`: "good", "revoked" or "unknown"; `message` says why in words; `entry` is the entry of a revoked certificate."""

    state: str
    message: str
    entry: Revoked | None = None


def status(certificate: Certificate, crls: Sequence[Crl], *, at: int, trusted: Trusted) -> Status:
    """What `crls` say about `certificate` at the instant `at` (POSIX seconds).

    `trusted` judges who signed a CRL; it is asked only for those that are about this certificate.
    """
    asked = _Asked(certificate, crls, at, trusted)
    covered: set[int] = set()
    circular: set[int] = set()
    why: list[str] = []
    budget = MOST_CRLS
    for point in _points(certificate):
        for crl in crls:
            reasons = _reasons(certificate, point, crl)
            if reasons is None or reasons <= covered:
                continue
            budget -= 1
            if budget < 0:
                return Status("unknown", f"there are more than {MOST_CRLS} CRLs for this certificate")
            entry = crl.find(certificate.serial_number, certificate.issuer)
            problem = _unusable(crl, at) or trusted(crl)
            if problem == CIRCULAR and not entry:
                circular |= reasons
                continue
            if problem and problem != CIRCULAR and not (entry and problem.startswith(_UNKNOWN) and not trusted(crl)):
                why.append(problem)
                continue
            found = _with_delta(asked, crl, entry)
            if found:
                return Status("revoked", _describe(found), found)
            covered |= reasons
    # What only the certificate's own key vouches for counts last, where nobody else speaks (a CRL signer that stands in its own scope).
    if covered | circular >= _ALL_REASONS:
        return Status("good", "not revoked")
    return Status("unknown", _why_unknown(certificate, covered, why))


def _points(certificate: Certificate) -> Iterator[DistributionPoint]:
    """The distribution points, and after them any complete CRL of the certificate's own issuer (RFC 5280 6.3.3, last paragraph)."""
    yield from certificate.crl_points
    yield DistributionPoint(GeneralNames(directory=(certificate.issuer,)), None, None, None)


def _reasons(certificate: Certificate, point: DistributionPoint, crl: Crl) -> frozenset[int] | None:
    """For which reasons this CRL speaks about this certificate at this point; None where it does not (RFC 5280 6.3.3 b and d)."""
    if crl.is_delta:
        return None
    issuers = point.issuer.directory if point.issuer else (certificate.issuer,)
    if canonical(crl.issuer) not in [canonical(name) for name in issuers]:
        return None
    scope = crl.scope or Scope()
    if point.issuer and not scope.indirect:
        return None
    if scope.only_attribute or (scope.only_user and certificate.ca) or (scope.only_ca and not certificate.ca):
        return None
    if (scope.full or scope.relative) and not _same_place(point, scope, crl.issuer):
        return None
    given = _ALL_REASONS if point.reasons is None else frozenset(point.reasons)
    return given & (_ALL_REASONS if scope.only_reasons is None else frozenset(scope.only_reasons))


def _same_place(point: DistributionPoint, scope: Scope, crl_issuer: bytes) -> bool:
    """Whether one of the names of the CRL's own distribution point is one of the certificate's (6.3.3 b 2 i)."""
    theirs = _places(scope.full, scope.relative, crl_issuer)
    if point.full or point.relative:
        base = point.issuer.directory[0] if point.issuer and point.issuer.directory else crl_issuer
        return bool(theirs & _places(point.full, point.relative, base))
    return bool(point.issuer and theirs & _places(point.issuer, None, crl_issuer))


def _places(full: GeneralNames | None, relative: bytes | None, base: bytes) -> set[object]:
    if relative:
        from .der import seq, whole

        inside = whole(base)
        return {canonical(seq(inside.data[inside.pos : inside.end], relative))}
    if not full:
        return set()
    return {*full.dns, *full.emails, *full.uris, *full.ips, *(canonical(name) for name in full.directory)}


_UNKNOWN = "it has critical extensions that are not understood"


def _unusable(crl: Crl, at: int) -> str:
    """Why the CRL as such cannot be used at `at`, or ""."""
    if crl.this_update > at:
        return f"the CRL of {names.display(crl.issuer)} is not valid before {iso(crl.this_update)}"
    if crl.next_update is None:
        return f"the CRL of {names.display(crl.issuer)} does not say how long it holds"
    if crl.next_update < at:
        return f"the CRL of {names.display(crl.issuer)} has expired on {iso(crl.next_update)}"
    if crl.unknown_critical:
        return f"{_UNKNOWN} ({', '.join(crl.unknown_critical)}): the CRL of {names.display(crl.issuer)}"
    return ""


def _with_delta(asked: _Asked, crl: Crl, entry: Revoked | None) -> Revoked | None:
    """The entry after the newest delta for this CRL, if there is one (RFC 5280 6.3.3 c, i and j).

    A delta only ever adds to a complete CRL that holds by itself; alone it says nothing.
    """
    deltas = [other for other in asked.crls if _is_delta_of(other, crl) and not _unusable(other, asked.at)]
    for delta in sorted(deltas, key=lambda other: other.number or 0, reverse=True):
        if asked.trusted(delta):
            continue
        changed = delta.find(asked.certificate.serial_number, asked.certificate.issuer)
        if changed:
            return None if changed.reason == "remove-from-crl" else changed
        break
    return entry


def _is_delta_of(delta: Crl, crl: Crl) -> bool:
    """Same issuer, key and scope; based on this CRL or an older one, and newer than it (RFC 5280 5.2.4)."""
    if delta.base_number is None or crl.number is None or delta.number is None:
        return False
    same = canonical(delta.issuer) == canonical(crl.issuer) and delta.authority_key_id == crl.authority_key_id and delta.scope == crl.scope
    return same and delta.base_number <= crl.number < delta.number


def _describe(entry: Revoked) -> str:
    if entry.reason == "certificate-hold":
        return f"on hold since {iso(entry.at)}"
    because = "" if entry.reason == "unspecified" else f", reason: {entry.reason.replace('-', ' ')}"
    return f"revoked on {iso(entry.at)}{because}"


def _why_unknown(certificate: Certificate, covered: set[int], why: list[str]) -> str:
    if why:
        return "; ".join(dict.fromkeys(why))
    if covered:
        return "the CRLs at hand do not cover every reason for a revocation"
    return f"there is no CRL of {names.display(certificate.issuer)} for it"


def signed_by(crl: Crl, signer: Certificate, *, legacy: bool) -> str:
    """Whether this certificate's key signed the CRL and may do so: "" or why not (RFC 5280 6.3.3 f and g)."""
    from . import signature

    if canonical(signer.subject) != canonical(crl.issuer):
        return "it names another issuer"
    if signer.key_usage is not None and "cRLSign" not in signer.key_usage:
        return f"{names.display(signer.subject)} may not sign CRLs: its key usage lacks cRLSign"
    try:
        holds = signature.verify(signer.spki, crl.algorithm, crl.signature, crl.tbs, legacy=legacy)
    except GatekeyError as problem:
        return problem.message
    return "" if holds else f"the signature of the CRL of {names.display(crl.issuer)} is wrong"
