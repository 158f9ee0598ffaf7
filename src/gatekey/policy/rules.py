"""The rules of issuing, one small function each, in the table `RULES`. A rule yields its reasons for refusal; it raises, logs and fetches nothing.

The first sentence of a rule's docstring says what must be so; what follows `Source:` says where it is from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Reason
from ..model.instants import DAY, FOREVER, HOUR, day, iso, span
from ..model.keytypes import RSA_MOST_BITS, allows, display
from ..model.names import MAX_NAMES, Names, common_name_problem, covers, email_problem, host_problem, ip_address, login_problem, reserved_problem
from ..model.profile import RSA_LEAST_BITS, Profile
from ..model.record import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..model.request import HolderFacts, IssuerFacts, KeyFacts, Request

#: How a requester can have shown the private key, and through which doors each may come; () means any.
PROOFS: dict[str, tuple[str, ...]] = {
    "csr": (),
    "made-here": (),
    "own-key": (),
    "same-key": (),
    "certified-out-of-band": ("cli", "console", "ceremony", "internal"),
}
EXPONENT_LEAST, EXPONENT_MOST = 65537, 2**32
_SEND_CSR = "send a certificate request (CSR) signed with the key"


class Case(NamedTuple):
    """One request with everything that is known about it. `names`: as they would stand in the certificate. `issuer`: None for a self-signed root."""

    profile: Profile
    request: Request
    key: KeyFacts
    issuer: IssuerFacts | None
    holder: HolderFacts
    now: int
    names: Names

    @property
    def start(self) -> int:
        """The first second of validity: backdated for clocks that are slow, but never before the issuer's own."""
        start = self.now - self.profile.backdate
        return max(start, min(self.issuer.not_before, self.now)) if self.issuer else start

    @property
    def asked_end(self) -> int | None:
        """The last second of validity that was asked for explicitly, or None."""
        if self.request.days is not None:
            return self.now + self.request.days * DAY - 1
        return self.request.not_after

    @property
    def least(self) -> int:
        """The shortest useful validity: a day, or what the profile gives when that is less."""
        return min(DAY, self.profile.validity)


def _no(code: str, message: str, *, hint: str = "", found: object = "", allowed: object = "") -> Reason:
    return Reason(code, message, hint, {"found": found, "allowed": allowed})


def key_is_known(case: Case) -> Iterator[Reason]:
    """The key is of a kind that Gatekey knows. Source: RFC 5280 4.1.2.7; named curves only (RFC 5480 2.1.1)."""
    if not case.key.label:
        message = f"the key is {case.key.described}, which is not known here"
        yield _no("key-unknown", message, hint=_make_another(case), found=case.key.described, allowed=case.profile.keys)


def key_type_is_allowed(case: Case) -> Iterator[Reason]:
    """The profile names the kinds of keys that it takes. Source: RFC 5280 4.1.2.7; ours is the stricter list."""
    label, profile = case.key.label, case.profile
    if not label or (label.startswith("rsa-") and not RSA_LEAST_BITS <= case.key.bits <= RSA_MOST_BITS):
        return
    if label not in profile.keys and not any(allows(entry, label) for entry in profile.keys):
        message = f"the key is {display(label)}; the profile {profile.name} takes {_list(_key_words(entry) for entry in profile.keys)}"
        yield _no("key-not-allowed", message, hint=_make_another(case), found=label, allowed=profile.keys)


def rsa_is_strong_enough(case: Case) -> Iterator[Reason]:
    """An RSA modulus has at least 2048 bits, whatever the profile says. Source: NIST SP 800-131A 3; CA/Browser Forum BR 6.1.5."""
    if case.key.label.startswith("rsa-") and case.key.bits < RSA_LEAST_BITS:
        message = f"the RSA key has {case.key.bits} bits; {RSA_LEAST_BITS} are the least"
        yield _no("key-too-small", message, hint=_make_another(case), found=case.key.bits, allowed=RSA_LEAST_BITS)


def rsa_is_not_a_burden(case: Case) -> Iterator[Reason]:
    """An RSA modulus has at most 8192 bits. Source: ours; every visitor of the certificate pays for it (CVE-2023-3446, CVE-2024-2511 class)."""
    if case.key.label.startswith("rsa-") and case.key.bits > RSA_MOST_BITS:
        message = f"the RSA key has {case.key.bits} bits; {RSA_MOST_BITS} are the most"
        yield _no("key-too-large", message, hint=_make_another(case), found=case.key.bits, allowed=RSA_MOST_BITS)


def rsa_exponent_is_good(case: Case) -> Iterator[Reason]:
    """An RSA exponent is odd and from 65537 to 2^32; 3 and 17 are refused too. Source: NIST SP 800-89 5.3.3; CA/Browser Forum BR 6.1.6."""
    if not case.key.label.startswith("rsa-"):
        return
    exponent = case.key.exponent
    if exponent % 2 == 0 or not EXPONENT_LEAST <= exponent <= EXPONENT_MOST:
        shown = str(exponent) if exponent <= EXPONENT_MOST else f"a number of {exponent.bit_length()} bits"
        message = f"the RSA exponent is {shown}; an odd one from {EXPONENT_LEAST} to {EXPONENT_MOST} is needed"
        yield _no("key-exponent", message, hint=_make_another(case), found=exponent, allowed=[EXPONENT_LEAST, EXPONENT_MOST])


def key_is_not_weak(case: Case) -> Iterator[Reason]:
    """No known attack finds the private key. Source: CA/Browser Forum BR 6.1.1.3 (3, 4); the tests of badkeys (ROCA, Fermat, small factors, ...)."""
    for finding in case.key.weaknesses:
        yield _no("key-weak", f"the key is weak: {finding}", hint=_make_another(case), found=finding)


def key_was_never_compromised(case: Case) -> Iterator[Reason]:
    """A key that was reported as compromised is never certified again. Source: CA/Browser Forum BR 6.1.1.3 (1, 2)."""
    if case.key.compromised:
        message = f"the key {case.key.sha256[:16].upper()}... was reported as compromised and is never certified again"
        yield _no("key-compromised", message, hint="make a new key", found=case.key.sha256)


def key_is_no_authoritys(case: Case) -> Iterator[Reason]:
    """An authority's own key is in no other certificate. Source: RFC 5280 4.2.1.9: whoever holds a leaf's key must not be able to sign certificates."""
    if case.key.authority and case.profile.kind != "ca":
        message = f"the key is that of the authority {case.key.authority}, which certifies nobody else"
        yield _no("key-of-authority", message, hint="make a new key", found=case.key.authority)


def key_is_nobody_elses(case: Case) -> Iterator[Reason]:
    """A key belongs to one holder; only web servers share one. Source: ours; whom the door lets in must be one person, and a stolen key have one owner."""
    if case.key.other_holder:
        message = f"the key is in a certificate of {case.key.other_holder}; a key has one holder"
        yield _no("key-of-another", message, hint="make a new key", found=case.key.other_holder, allowed=case.holder.login)


def names_are_single(case: Case) -> Iterator[Reason]:
    """No alternative name stands there twice. Source: ours; RFC 5280 4.2.1.6 is silent, and a doubled name is a mistake of whoever asks."""
    names = [name.lower() for name in case.names.alternatives]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield _no("name-twice", f"{name!r} is asked for {names.count(name)} times; once is enough", hint="leave the others out", found=name)


def common_name_is_good(case: Case) -> Iterator[Reason]:
    """A common name has 1 to 64 characters; a client's is a login, which every web server reads alike. Source: RFC 5280 appendix A.1 (ub-common-name)."""
    if case.profile.subject != "common-name":
        return
    name = case.names.common_name
    if case.profile.kind in ("client", "server", "probe"):
        problem, code = login_problem(name), "bad-login"
    else:
        problem, code = common_name_problem(name), "bad-common-name"
    if problem:
        yield _no(code, problem, hint="choose another name", found=name)
    elif not any(covers(pattern, name) for pattern in case.profile.names.login):
        yield _not_in_profile(case, "login", name, case.profile.names.login)


def common_name_is_the_holders(case: Case) -> Iterator[Reason]:
    """A client's common name is its holder's login. Source: ours; it is what nginx hands to the application as the person."""
    name, login = case.names.common_name, case.holder.login
    if case.profile.kind == "client" and case.profile.subject == "common-name" and name != login:
        message = f"the common name {name!r} is asked for {login!r}; it must be the login itself"
        yield _no("not-the-holder", message, hint=f"ask with the common name {login!r}, or without one", found=name, allowed=login)


def common_name_is_among_the_names(case: Case) -> Iterator[Reason]:
    """A server's common name is one of its hosts or addresses. Source: CA/Browser Forum BR 7.1.4.3; clients read only the alternative names (RFC 9525 2)."""
    asked = case.request.names.common_name
    names = tuple(name.lower() for name in (*case.names.dns, *case.names.ips))
    if case.profile.subject == "first-host" and asked and asked.lower() not in names and (ip_address(asked) or asked) not in names:
        message = f"the common name {asked!r} is neither a host nor an address"
        yield _no("bad-common-name", message, hint="ask with a host as the common name, or without one", found=asked, allowed=names)


def hosts_are_good(case: Case) -> Iterator[Reason]:
    """A host is letters, digits and hyphens, international ones in xn-- form; wildcards where the profile says so.

    Source: RFC 5280 4.2.1.6; RFC 5891; RFC 9525 6.3.
    """
    for host in case.names.dns:
        if problem := host_problem(host, wildcard=case.profile.names.wildcard):
            yield _no("bad-host", problem, hint=_host_hint(host), found=host)


def addresses_are_good(case: Case) -> Iterator[Reason]:
    """An address is one IPv4 or IPv6 address in its shortest form. Source: RFC 5280 4.2.1.6, RFC 5952."""
    for ip in case.names.ips:
        canonical = ip_address(ip)
        if canonical is None:
            yield _no("bad-address", f"{ip!r} is not an IP address", hint="write 192.0.2.7 or 2001:db8::7", found=ip)
        elif canonical != ip:
            yield _no("bad-address", f"{ip!r} is not in its shortest form", hint=f"write {canonical}", found=ip, allowed=canonical)


def emails_are_good(case: Case) -> Iterator[Reason]:
    """An e-mail address is an ASCII mailbox. Source: RFC 5280 4.2.1.6 (rfc822Name), RFC 5321 4.1.2."""
    for email in case.names.emails:
        if problem := email_problem(email):
            yield _no("bad-email", problem, hint="write name@example.com", found=email)


def names_are_allowed(case: Case) -> Iterator[Reason]:
    """The profile says which kinds of names, and by pattern which names, it gives. Source: the profile."""
    rules = case.profile.names
    for host in case.names.dns:
        if not any(covers(pattern, host) for pattern in rules.host):
            yield _not_in_profile(case, "host", host, rules.host)
    for email in case.names.emails:
        if not any(covers(pattern, email) for pattern in rules.email):
            yield _not_in_profile(case, "e-mail address", email, rules.email)
    for ip in case.names.ips:
        if not _in_blocks(ip, rules.ip):
            yield _not_in_profile(case, "address", ip, rules.ip)


def names_are_few(case: Case) -> Iterator[Reason]:
    """There are no more alternative names than the profile allows. Source: the profile."""
    count, most = len(case.names.alternatives), case.profile.names.max
    if most < count <= MAX_NAMES:
        message = f"{count} alternative names are asked for; the profile {case.profile.name} allows {most}"
        yield _no("names-too-many", message, hint="ask for fewer, or for several certificates", found=count, allowed=most)


def names_are_there(case: Case) -> Iterator[Reason]:
    """A server has at least one host or address. Source: RFC 9525 2; CA/Browser Forum BR 7.1.2.7.12."""
    if case.profile.subject == "first-host" and not (case.names.dns or case.names.ips):
        yield _no("name-missing", "no host or address is asked for; a server needs at least one", hint="name the host that people type")


def names_fit_the_issuer(case: Case) -> Iterator[Reason]:
    """Every name lies within the issuer's name constraints. Source: RFC 5280 4.2.1.10; web servers refuse the whole certificate otherwise."""
    issuer = case.issuer
    if issuer is None:
        return
    outside = [("host", name, issuer.permitted_dns) for name in case.names.dns if not _within(name, issuer.permitted_dns, _dns_below)]
    outside += [("e-mail address", name, issuer.permitted_emails) for name in case.names.emails if not _within(name, issuer.permitted_emails, _email_below)]
    if issuer.permitted_ips is not None:
        outside += [("address", name, issuer.permitted_ips) for name in case.names.ips if not _in_blocks(name, issuer.permitted_ips)]
    for kind, name, permitted in outside:
        message = f"the {kind} {name!r} is outside what the authority {issuer.name} may certify: {_list(permitted or ()) or f'no {kind} at all'}"
        yield _no("outside-constraints", message, hint="ask for a name inside, or make an authority that may", found=name, allowed=permitted)


def common_name_fits_the_issuer(case: Case) -> Iterator[Reason]:
    """A login that looks like a host lies within the issuer's DNS constraints.

    Source: OpenSSL crypto/x509/v3_ncons.c, NAME_CONSTRAINTS_check_CN: nginx and Apache read a dotted common name as a host when there is no dNSName, and
    refuse the certificate.
    """
    name, issuer = case.names.common_name, case.issuer
    if issuer is None or case.names.dns or case.profile.kind == "ca" or not looks_like_host(name) or _within(name, issuer.permitted_dns, _dns_below):
        return
    permitted = _list(issuer.permitted_dns or ()) or "no host at all"
    message = f"the common name {name!r} looks like a host to OpenSSL and is outside what the authority {issuer.name} may certify: {permitted}"
    hint = f"choose a login without dots, such as {name.replace('.', '_')!r}, or one with an @"
    yield _no("outside-constraints", message, hint=hint, found=name, allowed=issuer.permitted_dns)


def dates_are_asked_once(case: Case) -> Iterator[Reason]:
    """The end of validity is given as days or as a date, not as both. Source: ours."""
    if case.request.days is not None and case.request.not_after is not None:
        yield _no("dates-twice", "both days and a last date are asked for", hint="give one of them")


def validity_is_a_day_at_least(case: Case) -> Iterator[Reason]:
    """A validity that is asked for is a day or more, and lies ahead; only probes may have ended. Source: ours; RFC 5280 4.1.2.5 asks for order alone."""
    end, days = case.asked_end, case.request.days
    if days is not None:
        if days < 1:
            yield _no("days-too-few", f"{days} days are asked for; 1 is the least", hint="ask for 1 day or more", found=days, allowed=1)
    elif end is not None and end < case.now + case.least - 1 and case.profile.kind != "probe":
        message = f"an end on {_instant(end)} is asked for, which is {'past' if end < case.now else 'less than a day ahead'}"
        yield _no("days-too-few", message, hint=f"ask for {iso(case.now + case.least)} or later", found=end, allowed=case.now + case.least)


def validity_is_not_too_long(case: Case) -> Iterator[Reason]:
    """The whole validity is no longer than the profile's longest. Source: the profile; servers never above 397 days (CA/Browser Forum BR 6.3.2 until 2026)."""
    profile, end, days = case.profile, case.asked_end, case.request.days
    too_long = days * DAY > profile.longest if days is not None else end is not None and end > case.start + profile.longest - 1
    if too_long:
        most = span(profile.longest) if profile.longest < DAY else f"{profile.longest // DAY} days"
        message = f"{_asked(case)} asked for; the profile {profile.name} allows {most}"
        yield _no("days-too-many", message, hint=f"ask for {most} or fewer", found=end, allowed=profile.longest)


def validity_is_within_the_issuers(case: Case) -> Iterator[Reason]:
    """An end that is asked for lies within the issuer's own validity; a default is cut instead. Source: ours; who outlives the issuer is believed by nobody."""
    issuer, end = case.issuer, case.asked_end
    if issuer is None or end is None or end <= issuer.not_after or issuer.not_after < case.now + case.least:
        return
    most = (issuer.not_after + 1 - case.now) // DAY
    message = f"{_asked(case)} asked for, which is after the end of the authority {issuer.name} on {day(issuer.not_after)}"
    yield _no("beyond-issuer", message, hint=f"ask for {most} days or fewer, or for none: then it is cut to fit", found=end, allowed=issuer.not_after)


def issuer_lives(case: Case) -> Iterator[Reason]:
    """The issuer's own certificate is valid, and for a day more at least. Source: RFC 5280 6.1.3 (a)(2)."""
    issuer = case.issuer
    if issuer is not None and issuer.not_after < case.now + case.least:
        message = f"the authority {issuer.name} {'ended' if issuer.not_after < case.now else 'ends'} on {iso(issuer.not_after)}"
        longer = "give the root a longer life: gatekey init NAME --days 7300, or without --days"
        hint = longer if case.profile.kind == "ca" else "make another authority: gatekey --home NEW init NAME"
        yield _no("issuer-expired", message, hint=hint, found=issuer.not_after, allowed=case.now + case.least)
    if issuer is not None and case.now < issuer.not_before - HOUR:  # clocks that differ a little do no harm
        message = f"the authority {issuer.name} begins on {iso(issuer.not_before)}, and the clock of this machine says {iso(case.now)}"
        yield _no("issuer-not-yet", message, hint="set the clock right", found=case.now, allowed=issuer.not_before)


def issuer_may_sign_it(case: Case) -> Iterator[Reason]:
    """A CA below an issuer fits its path length, and only a CA signs itself. Source: RFC 5280 4.2.1.9."""
    issuer, profile = case.issuer, case.profile
    if issuer is None:
        if profile.kind != "ca":
            message = f"the profile {profile.name} is not for a self-signed certificate"
            yield _no("no-issuer", message, hint="name an authority that signs it", found=profile.kind, allowed="ca")
    elif profile.kind == "ca" and issuer.path_length is not None and (profile.path_length is None or profile.path_length >= issuer.path_length):
        needed = "any number" if profile.path_length is None else profile.path_length + 1
        message = f"the authority {issuer.name} may have {issuer.path_length} authorities below it; the profile {profile.name} needs {needed}"
        yield _no("path-too-long", message, hint="sign it with the root", found=profile.path_length, allowed=issuer.path_length)


def holder_is_here(case: Case) -> Iterator[Reason]:
    """Whoever has left gets no certificate. Source: ours; leaving takes everything away for good."""
    if case.holder.left:
        hint = f"gatekey people set {case.holder.login} --back, or ask for somebody else"
        yield _no("holder-left", f"{case.holder.login} has left", hint=hint, found=case.holder.login)


def holder_is_not_the_service(case: Case) -> Iterator[Reason]:
    """What the service calls itself is nobody else's name. Source: ours; who holds such a name could keep the service from getting its own certificates."""
    problem = reserved_problem(case.holder.login)
    if problem and case.request.door != "internal" and case.request.requester != SERVICE:
        yield _no("name-reserved", problem, hint="choose another name", found=case.holder.login)


def device_has_one(case: Case) -> Iterator[Reason]:
    """A person has one live certificate per device. Source: ours; a lost laptop is then one revocation."""
    if case.profile.kind == "client" and case.holder.live:
        where = f" for the device {case.request.device!r}" if case.request.device else ""
        message = f"{case.holder.login} has a live certificate{where} already: {case.holder.live}"
        yield _no("device-has-one", message, hint=f"renew it with `gatekey renew {case.holder.live}`, or name another device", found=case.holder.live)


def door_is_a_way(case: Case) -> Iterator[Reason]:
    """The profile names the ways by which it can be asked for. Source: the profile."""
    if case.request.door not in case.profile.ways:
        message = f"the profile {case.profile.name} cannot be had by way of {case.request.door}; its ways are {_list(case.profile.ways)}"
        yield _no("door-not-allowed", message, hint="ask another way, or with another profile", found=case.request.door, allowed=case.profile.ways)


def possession_is_proved(case: Case) -> Iterator[Reason]:
    """Whoever asks has shown the private key, or a trusted operator vouches for it. Source: RFC 2986 4.2, RFC 4211 4; CA/Browser Forum BR 3.2.1."""
    proof, door = case.request.proof, case.request.door
    if proof not in PROOFS or (PROOFS[proof] and door not in PROOFS[proof]):
        message = f"possession of the private key was {f'shown by {proof}, which is not enough by way of {door}' if proof in PROOFS else 'not shown'}"
        yield _no("proof-missing", message, hint=_SEND_CSR, found=proof, allowed=tuple(PROOFS))
    elif proof == "same-key" and case.request.renews is None:
        yield _no("proof-missing", "the same key is offered again, but no certificate is being renewed", hint=_SEND_CSR, found=proof)


#: Every rule, in the order in which its reasons are told.
RULES: tuple[Callable[[Case], Iterator[Reason]], ...] = (
    door_is_a_way,
    holder_is_here,
    holder_is_not_the_service,
    issuer_lives,
    issuer_may_sign_it,
    key_is_known,
    key_type_is_allowed,
    rsa_is_strong_enough,
    rsa_is_not_a_burden,
    rsa_exponent_is_good,
    key_is_not_weak,
    key_was_never_compromised,
    key_is_no_authoritys,
    key_is_nobody_elses,
    possession_is_proved,
    names_are_there,
    names_are_few,
    names_are_single,
    common_name_is_good,
    common_name_is_the_holders,
    common_name_is_among_the_names,
    hosts_are_good,
    addresses_are_good,
    emails_are_good,
    names_are_allowed,
    names_fit_the_issuer,
    common_name_fits_the_issuer,
    dates_are_asked_once,
    validity_is_a_day_at_least,
    validity_is_not_too_long,
    validity_is_within_the_issuers,
    device_has_one,
)


_HOST_LIKE = r"[A-Za-z0-9_]+(-+[A-Za-z0-9_]+)*(\.[A-Za-z0-9_]+(-+[A-Za-z0-9_]+)*)+"


def looks_like_host(name: str) -> bool:
    """Whether OpenSSL takes this common name for a host: two labels or more of letters, digits, underscores and inner hyphens."""
    return "." in name and bool(re.fullmatch(_HOST_LIKE, name))


def _within(name: str, permitted: tuple[str, ...] | None, below: Callable[[str, str], bool]) -> bool:
    return permitted is None or any(below(name, subtree) for subtree in permitted)


def _dns_below(host: str, subtree: str) -> bool:
    host, subtree = host.lower(), subtree.lower()
    return not subtree or host == subtree or host.endswith(subtree if subtree.startswith(".") else f".{subtree}")


def _email_below(email: str, subtree: str) -> bool:
    local, _, domain = email.rpartition("@")
    domain, subtree_local, _, subtree_domain = domain.lower(), *subtree.rpartition("@")
    if subtree_local:
        return (local, domain) == (subtree_local, subtree_domain.lower())
    return domain.endswith(subtree.lower()) if subtree.startswith(".") else domain == subtree.lower()


def _in_blocks(ip: str, blocks: tuple[str, ...]) -> bool:
    if "*" in blocks:
        return True
    import ipaddress  # 10 ms, and most certificates have no address

    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return True  # addresses_are_good says so
    return any(address in ipaddress.ip_network(block, strict=False) for block in blocks)


def _not_in_profile(case: Case, kind: str, name: str, patterns: tuple[str, ...]) -> Reason:
    message = f"the {kind} {name!r} is not among what the profile {case.profile.name} gives: {_list(patterns) or f'no {kind} at all'}"
    return _no("name-not-allowed", message, hint="leave it out, or ask with another profile", found=name, allowed=patterns)


def _host_hint(host: str) -> str:
    if host != host.lower() and host_problem(host.lower()) is None:
        return f"write {host.lower()}"
    if host.endswith(".") and host_problem(host[:-1]) is None:
        return f"write {host[:-1]}"
    return "ask for a host name that a DNS server could answer for"


def _make_another(case: Case) -> str:
    return f"make a new key, such as {_key_words(case.profile.keys[0])}"


def _key_words(entry: str) -> str:
    return f"{display(entry)} or more" if entry.startswith("rsa-") else display(entry)


def _instant(at: int) -> str:
    """ISO form of any integer, also of one beyond the calendar."""
    return iso(max(0, min(at, FOREVER)))


def _asked(case: Case) -> str:
    return f"{case.request.days} days are" if case.request.days is not None else f"an end on {_instant(case.request.not_after or 0)} is"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
