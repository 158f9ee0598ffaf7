"""The one place that decides: a request and what is known about it in, a plan or a refusal with all its reasons out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Reason, Refused
from ..model.instants import day
from ..model.names import MAX_COMMON_NAME, MAX_NAMES, Names, host_problem, ip_address
from ..model.plan import NameConstraints, Plan, Urls
from .rules import RULES, Case

if TYPE_CHECKING:
    from ..model.profile import Profile
    from ..model.request import HolderFacts, IssuerFacts, KeyFacts, Request

_NO_URLS = Urls()


def decide(
    profile: Profile,
    request: Request,
    key: KeyFacts,
    issuer: IssuerFacts | None,
    holder: HolderFacts,
    now: int,
    *,
    urls: Urls = _NO_URLS,
    constraints: NameConstraints | None = None,
) -> Plan | Refused:
    """The plan for a certificate, or a Refused (returned, not raised) with every reason at once; judged at `now` (POSIX seconds).

    `issuer` is None for a root that signs itself. `urls` are the issuer's. `constraints` bind an authority that is being made (profiles of kind `ca`).
    More than 100 names are refused before anything else is looked at.
    """
    count = len(request.names.alternatives)
    if count > MAX_NAMES:
        message = f"{count} alternative names are asked for; {MAX_NAMES} are the most of any request"
        return Refused("names-too-many", message, hint="ask for several certificates", found=count, allowed=MAX_NAMES)
    names, notes = _names(profile, request.names, issuer)
    case = Case(profile, request, key, issuer, holder, now, names)
    reasons: tuple[Reason, ...] = tuple(reason for rule in RULES for reason in rule(case))
    if reasons:
        return Refused.because(reasons)
    not_before, not_after, cut = _dates(case)
    revocable = not profile.no_revocation
    return Plan(
        profile=profile.name,
        profile_sha256=profile.sha256,
        issuer=issuer.name if issuer else "",
        names=names,
        spki=request.spki,
        not_before=not_before,
        not_after=not_after,
        key_usage=profile.key_usage(key.label),
        extended=(*profile.extended, *profile.extra),
        ca=profile.kind == "ca",
        path_length=profile.path_length,
        crl_urls=urls.crl if revocable and profile.kind != "ocsp" and issuer else (),
        issuer_urls=urls.issuer if issuer else (),
        ocsp_urls=urls.ocsp if revocable and profile.kind != "ocsp" and issuer else (),
        constraints=constraints if profile.kind == "ca" else None,
        no_check=profile.kind == "ocsp",
        no_revocation=profile.no_revocation,
        notes=(*notes, *cut),
    )


def _names(profile: Profile, asked: Names, issuer: IssuerFacts | None) -> tuple[Names, tuple[str, ...]]:
    """The names as they would stand in the certificate, and what a person should be told about it.

    A server's common name is the name that was asked for as such, otherwise its first host or address; the subject is empty where that does not fit. A host
    that is asked for only as the common name, as in requests of old, is put among the alternative names: browsers read nothing else (RFC 9525 2).
    """
    if profile.subject != "first-host":
        return asked, ()
    name, notes = asked.common_name.lower(), []
    if name and not (asked.dns or asked.ips):
        if address := ip_address(name):
            asked = asked._replace(ips=(address,))
        elif host_problem(name) is None:
            asked = asked._replace(dns=(name,))
        if asked.alternatives:
            notes.append(f"{name} stood only in the common name; it was put among the alternative names, which alone are read today")
    listed = (*asked.dns, *asked.ips)
    first = name if name in listed else next(iter(listed), "")
    if len(first) > MAX_COMMON_NAME:
        notes.append(f"{first} is longer than the {MAX_COMMON_NAME} characters of a common name, so the subject is empty")
        first = ""
    elif not asked.dns and issuer and issuer.permitted_dns is not None:
        first = ""  # OpenSSL would read the address as a host outside the issuer's name constraints
    return asked._replace(common_name=first), tuple(notes)


def _dates(case: Case) -> tuple[int, int, tuple[str, ...]]:
    """First and last second of validity, both included (RFC 5280 4.1.2.5), and a note where a default was cut.

    The last second is `days * 86400 - 1` after now. From the backdated first second to it is never more than the profile's longest: 397 days of a server
    are 397 days in all, and its last hour goes to the clocks that are slow.
    """
    start, end = case.start, case.asked_end
    if end is not None:
        return min(start, end - case.profile.backdate), min(end, start + case.profile.longest - 1), ()
    end = min(case.now + case.profile.validity - 1, start + case.profile.longest - 1)
    if case.issuer and end > case.issuer.not_after:
        last = case.issuer.not_after
        return start, last, (f"valid until {day(last)} only, not until {day(end)}: the authority {case.issuer.name} ends then",)
    return start, end, ()
