"""Lints of certificate revocation lists: a list that some server cannot use shuts everybody out, and one that says too little lets the revoked in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import Malformed
from ..model.instants import iso
from ..x509 import oids
from ..x509.certificate import Certificate
from ..x509.crl import Crl, read_tbs_crl
from ..x509.der import GENERALIZED_TIME, SEQUENCE, UTC_TIME, Reader, whole
from .certificates import algorithm_problems, time_problem
from .table import Finding, Lint, applicable, run

#: crlEntryExtensions with a reason and nothing else, up to its code (RFC 5280 5.3.1).
_REASON = bytes.fromhex("300C300A0603551D1504030A01")
#: Codes of a full list: 0 must be left out, 7 is nothing, 8 (removeFromCRL) is for deltas.
_REASONS, _REMOVE = frozenset((1, 2, 3, 4, 5, 6, 9, 10)), 8


class Entries(NamedTuple):
    """What the entries say together: how many there are, how many of them repeat a serial number, their distinct extensions, and misplaced dates."""

    total: int = 0
    repeated: int = 0
    extensions: frozenset[bytes] = frozenset()
    early_generalized: bool = False


class View(NamedTuple):
    """A list that was read back."""

    crl: Crl
    tbs: bytes
    issuer: Certificate
    entries: Entries


def lint_crl(tbs: bytes, issuer: Certificate) -> list[Finding]:
    """Judges a TBSCertList that `issuer` is about to sign. A million entries take some seconds."""
    try:
        crl = read_tbs_crl(tbs)
    except Malformed as wrong:
        return [Finding("crl-strict-der", "error", wrong.message, LINTS[0].source)]
    view = View(crl, tbs, issuer, _entries(tbs))
    return run(applicable(LINTS, view), view)


def _dates(tbs: bytes) -> Reader:
    """A Reader at thisUpdate."""
    reader = whole(tbs)
    while reader.peek() not in (UTC_TIME, GENERALIZED_TIME):
        reader.raw()
    return reader


def _entries(tbs: bytes) -> Entries:
    """Walks over the entries, of which `read_tbs_crl` has made sure that they are DER; the loop is bare because a list may have a million."""
    reader = _dates(tbs)
    while reader.peek() in (UTC_TIME, GENERALIZED_TIME):
        reader.raw()
    if reader.peek() != SEQUENCE:
        return Entries()
    listed = reader.inside()
    data, at, end = tbs, listed.pos, listed.end
    serials: set[bytes] = set()
    extensions: set[bytes] = set()
    generalized: set[bytes] = set()
    count = 0
    while at < end:
        count += 1
        body, size = at + 2, data[at + 1]
        if size & 0x80:
            body += size & 0x7F
            size = int.from_bytes(data[at + 2 : body], "big")
        when = body + 2 + data[body + 1]
        serials.add(data[body:when])
        if data[when] == GENERALIZED_TIME:
            generalized.add(data[when + 2 : when + 6])
        at = body + size
        extensions.add(data[when + 2 + data[when + 1] : at])
    return Entries(count, count - len(serials), frozenset(extensions - {b""}), any(year < b"2050" for year in generalized))


def every(_: View) -> bool:
    """All lists."""
    return True




def deltas(view: View) -> bool:
    """Deltas."""
    return view.crl.is_delta


def is_strict_der(_: View) -> Iterator[str]:
    """It is strict DER in the form of a CRL; an empty list of entries is left out."""
    yield from ()  # whatever can be read at all is; the reader refuses the rest


def version_is_2(view: View) -> Iterator[str]:
    """The version is 2, as there are extensions."""
    if view.crl.version != 2:
        yield f"the version is {view.crl.version}"


def algorithm_fits_the_issuers_key(view: View) -> Iterator[str]:
    """The signature algorithm is the one that Gatekey uses with the issuer's kind of key."""
    yield from algorithm_problems(view.crl.algorithm, view.issuer.spki)


def issuer_is_byte_equal(view: View) -> Iterator[str]:
    """The issuer's name is not empty and is, byte for byte, the subject of the issuer's certificate."""
    if view.crl.issuer != view.issuer.subject:
        yield "the issuer's name differs from the subject of the issuer's certificate"
    if view.crl.issuer == b"\x30\x00":
        yield "the issuer's name is empty"


def issuer_may_sign_lists(view: View) -> Iterator[str]:
    """The issuer's key may sign CRLs: OpenSSL ignores the list otherwise, and then refuses everybody."""
    if view.issuer.key_usage is not None and "cRLSign" not in view.issuer.key_usage:
        yield "the issuer's key usage lacks cRLSign"


def dates_are_in_order(view: View) -> Iterator[str]:
    """There is a next update, and it is after this one."""
    this, following = view.crl.this_update, view.crl.next_update
    if following is None:
        yield "there is no next update"
    elif following <= this:
        yield f"the next update is on {iso(following)}, not after this one on {iso(this)}"


def dates_are_encoded_well(view: View) -> Iterator[str]:
    """Dates are UTCTime up to the year 2049 and GeneralizedTime from 2050 on."""
    reader = _dates(view.tbs)
    for what in ("thisUpdate", "nextUpdate"):
        if reader.peek() in (UTC_TIME, GENERALIZED_TIME) and (problem := time_problem(reader)):
            yield f"{what} {problem}"
    if view.entries.early_generalized:
        yield "an entry has a GeneralizedTime before 2050"


def next_update_is_in_the_issuers_life(view: View) -> Iterator[str]:
    """The list does not promise more than the issuer's own certificate can keep."""
    following = view.crl.next_update
    if following is not None and following > view.issuer.not_after:
        yield f"the next update is on {iso(following)}, after the end of the issuer on {iso(view.issuer.not_after)}"


def number_is_there(view: View) -> Iterator[str]:
    """There is a CRL number, from 1 up."""
    number = view.crl.number
    if number is None:
        yield "there is no CRL number"
    elif number < 1:
        yield f"the CRL number is {number}"


def authority_key_is_identified(view: View) -> Iterator[str]:
    """There is an authority key identifier, and it is the issuer's subject key identifier."""
    found, wanted = view.crl.authority_key_id, view.issuer.key_id
    if not found:
        yield "there is no authority key identifier"
    elif wanted is not None and found != wanted:
        yield f"the authority key identifier is {found.hex()}, the issuer's key has {wanted.hex()}"


#: Extensions of a CRL that Gatekey writes: identifier -> whether critical (RFC 5280 5.2).
_CRITICAL = {
    oids.AUTHORITY_KEY_ID: False,
    oids.CRL_NUMBER: False,
    oids.FRESHEST_CRL: False,
    oids.DELTA_CRL_INDICATOR: True,
    oids.ISSUING_DISTRIBUTION_POINT: True,
}


def extensions_are_ours(view: View) -> Iterator[str]:
    """Every extension is one that Gatekey writes, critical as it should be; entries have a reason or nothing."""
    for one in view.crl.extensions:
        if one.oid not in _CRITICAL:
            yield f"there is the extension {oids.name(one.oid)}"
        elif one.critical != _CRITICAL[one.oid]:
            yield f"the extension {oids.name(one.oid)} is {'critical' if one.critical else 'not critical'}"
    if any(len(one) != len(_REASON) + 1 or not one.startswith(_REASON) for one in view.entries.extensions):
        yield "an entry has other extensions than a reason"


def scope_is_whole(view: View) -> Iterator[str]:
    """A list is about certificates of its own issuer and about every reason: web servers misread anything else."""
    scope = view.crl.scope
    if scope is not None and (scope.indirect or scope.only_reasons is not None or scope.only_attribute):
        yield "the list is indirect, for some reasons only, or for attribute certificates"


def delta_follows_its_base(view: View) -> Iterator[str]:
    """A delta has a higher number than its base."""
    base, number = view.crl.base_number, view.crl.number
    if base is not None and number is not None and base >= number:
        yield f"the delta has the number {number}, its base {base}"


def entries_are_single(view: View) -> Iterator[str]:
    """No serial number stands there twice."""
    if view.entries.repeated:
        yield f"{view.entries.repeated} of {view.entries.total} entries repeat a serial number"


def reasons_are_allowed(view: View) -> Iterator[str]:
    """Reasons are those of RFC 5280; unspecified is left out, removeFromCRL is for deltas alone."""
    allowed = _REASONS | {_REMOVE} if view.crl.is_delta else _REASONS
    codes = {one[-1] for one in view.entries.extensions if one.startswith(_REASON) and len(one) == len(_REASON) + 1}
    for code in sorted(codes - allowed):
        yield f"an entry has the reason code {code}"


_RFC = "RFC 5280"

#: Every lint of CRLs.
LINTS: tuple[Lint, ...] = (
    Lint("crl-strict-der", "error", "X.690 8-11; RFC 5280 5.1", every, is_strict_der),
    Lint("crl-version", "error", f"{_RFC} 5.1.2.1", every, version_is_2),
    Lint("crl-signature-algorithm", "error", f"{_RFC} 5.1.2.2; RFC 4055 5, 5758 3.2, 8410 3, 9881 2", every, algorithm_fits_the_issuers_key),
    Lint("crl-issuer-bytes", "error", f"{_RFC} 5.1.2.3, 6.3.3 (b)(1)", every, issuer_is_byte_equal),
    Lint("crl-issuer-usage", "error", f"{_RFC} 4.2.1.3, 6.3.3 (f)", every, issuer_may_sign_lists),
    Lint("crl-dates-order", "error", f"{_RFC} 5.1.2.4, 5.1.2.5", every, dates_are_in_order),
    Lint("crl-dates-encoding", "error", f"{_RFC} 5.1.2.4, 5.1.2.5, 5.1.2.6", every, dates_are_encoded_well),
    Lint("crl-issuer-life", "notice", "Gatekey", every, next_update_is_in_the_issuers_life),
    Lint("crl-number", "error", f"{_RFC} 5.2.3", every, number_is_there),
    Lint("crl-authority-key-id", "error", f"{_RFC} 5.2.1", every, authority_key_is_identified),
    Lint("crl-extensions", "error", f"{_RFC} 5.2, 5.3; Gatekey", every, extensions_are_ours),
    Lint("crl-scope", "error", f"{_RFC} 5.2.5; measured with OpenSSL 3.0", every, scope_is_whole),
    Lint("crl-delta", "error", f"{_RFC} 5.2.4", deltas, delta_follows_its_base),
    Lint("crl-entries-single", "error", f"{_RFC} 5.1.2.6; ours is the stricter reading", every, entries_are_single),
    Lint("crl-reasons", "error", f"{_RFC} 5.3.1", every, reasons_are_allowed),
)
