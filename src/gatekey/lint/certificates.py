"""Lints of certificates: what RFC 5280 demands, what servers and browsers silently refuse, what Gatekey promises. Long because the table is one."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import Malformed
from ..model.instants import DAY, iso
from ..model.keytypes import KNOWN, RSA_MOST_BITS
from ..model.names import MAX_COMMON_NAME, email_problem, host_problem, ip_address
from ..x509 import oids
from ..x509.certificate import Certificate, read_tbs
from ..x509.der import GENERALIZED_TIME, PRINTABLE, UTC_TIME, UTF8, Reader, whole
from ..x509.names import GeneralNames, attributes
from ..x509.signature import algorithm, describe
from ..x509.spki import PublicKey, read_spki
from .table import Finding, Lint, applicable, run

_EMPTY_NAME = b"\x30\x00"
#: 2050-01-01T00:00:00Z, from which on GeneralizedTime is used (RFC 5280 4.1.2.5).
YEAR_2050 = 2524608000


class View(NamedTuple):
    """A certificate that was read back. `issuer` is None for one that signs itself; `public` is None when its key cannot be read (`key_problem` says why)."""

    certificate: Certificate
    issuer: Certificate | None
    public: PublicKey | None
    key_problem: str = ""

    @property
    def above(self) -> Certificate:
        """The certificate that holds the signing key."""
        return self.issuer or self.certificate

    @property
    def purposes(self) -> tuple[str, ...]:
        return self.certificate.extended or ()

    @property
    def usages(self) -> tuple[str, ...]:
        return self.certificate.key_usage or ()

    @property
    def label(self) -> str:
        return self.public.label if self.public else ""


def lint_certificate(tbs: bytes, issuer: Certificate | None) -> list[Finding]:
    """Judges a TBSCertificate that `issuer` is about to sign; None means that it signs itself."""
    try:
        certificate = read_tbs(tbs)
    except Malformed as wrong:
        return [Finding("strict-der", "error", wrong.message, _BY_NAME["strict-der"].source)]
    try:
        view = View(certificate, issuer, read_spki(certificate.spki))
    except Malformed as wrong:
        view = View(certificate, issuer, None, wrong.message)
    kind = certificate.ca, view.purposes, issuer is None
    lints = _OF_KIND.get(kind)
    if lints is None:
        lints = _OF_KIND[kind] = applicable(LINTS, view)
    return run(lints, view)


#: The lints for each kind of certificate that was met here (there are few): whether it is an authority, its purposes, and whether it signs itself.
_OF_KIND: dict[tuple[bool, tuple[str, ...], bool], tuple[Lint, ...]] = {}


# To whom a lint applies; these look at nothing but what makes a kind


def every(_: View) -> bool:
    """All certificates."""
    return True


def authorities(view: View) -> bool:
    """Certificates of authorities."""
    return view.certificate.ca


def leaves(view: View) -> bool:
    """Certificates that are no authority's."""
    return not view.certificate.ca


def servers(view: View) -> bool:
    """Certificates with serverAuth."""
    return "serverAuth" in view.purposes


def clients(view: View) -> bool:
    """Certificates with clientAuth."""
    return "clientAuth" in view.purposes


def responders(view: View) -> bool:
    """Certificates with OCSPSigning."""
    return "OCSPSigning" in view.purposes


def issued(view: View) -> bool:
    """Certificates that somebody else signs."""
    return view.issuer is not None


def roots(view: View) -> bool:
    """Certificates that sign themselves."""
    return view.issuer is None


# Head


def is_strict_der(_: View) -> Iterator[str]:
    """It is strict DER in the form of X.509, and no extension stands there twice."""
    yield from ()  # whatever can be read at all is; the reader refuses the rest


def version_is_3(view: View) -> Iterator[str]:
    """The version is 3, as there are extensions."""
    if view.certificate.version != 3:
        yield f"the version is {view.certificate.version}"


def serial_is_positive(view: View) -> Iterator[str]:
    """The serial number is positive."""
    if view.certificate.serial_number <= 0:
        yield f"the serial number is {view.certificate.serial_number}"


def serial_is_short(view: View) -> Iterator[str]:
    """The serial number has at most 20 octets."""
    octets = view.certificate.serial_number.bit_length() // 8 + 1
    if octets > 20:
        yield f"the serial number has {octets} octets"


def serial_is_random(view: View) -> Iterator[str]:
    """The serial number has exactly 16 octets, the first from 01 to 7F, so that all of them can be random and it is written the same way everywhere."""
    if not 1 << 120 <= view.certificate.serial_number < 1 << 127:
        yield f"the serial number {view.certificate.serial} does not have 16 octets"


def algorithm_fits_the_issuers_key(view: View) -> Iterator[str]:
    """The signature algorithm is the one that Gatekey uses with the issuer's kind of key."""
    yield from algorithm_problems(view.certificate.algorithm, view.above.spki)


def algorithm_problems(found: bytes, spki: bytes) -> Iterator[str]:
    """Why `found` is not the AlgorithmIdentifier for signatures with this key."""
    try:
        wanted = _algorithm_of(spki)
    except Malformed as wrong:
        yield f"the issuer's key cannot sign: {wrong.message}"
        return
    if found != wanted:
        yield f"the signature algorithm is {describe(found)}; with the issuer's key it is {describe(wanted)}"


@functools.lru_cache(maxsize=64)
def _algorithm_of(spki: bytes) -> bytes:
    return algorithm(read_spki(spki).label)


def issuer_is_named(view: View) -> Iterator[str]:
    """The issuer's name is not empty."""
    if view.certificate.issuer == _EMPTY_NAME:
        yield "the issuer's name is empty"


def issuer_is_byte_equal(view: View) -> Iterator[str]:
    """The issuer's name is, byte for byte, the subject of the issuer's certificate: some verifiers compare nothing but bytes."""
    if view.certificate.issuer != view.above.subject:
        yield "the issuer's name differs from the subject of the issuer's certificate"


def root_is_an_authority(view: View) -> Iterator[str]:
    """What signs itself is an authority."""
    if not view.certificate.ca:
        yield "the certificate signs itself but is no authority's"


def issuer_is_an_authority(view: View) -> Iterator[str]:
    """The issuer is an authority that may sign certificates."""
    if not view.above.ca:
        yield "the issuer is no authority (basicConstraints)"
    if view.above.key_usage is not None and "keyCertSign" not in view.above.key_usage:
        yield "the issuer's key usage lacks keyCertSign"


# Dates


def dates_are_in_order(view: View) -> Iterator[str]:
    """The validity does not end before it begins."""
    one = view.certificate
    if one.not_after < one.not_before:
        yield f"the validity ends on {iso(one.not_after)}, before it begins on {iso(one.not_before)}"


def dates_are_encoded_well(view: View) -> Iterator[str]:
    """Dates are UTCTime up to the year 2049 and GeneralizedTime from 2050 on."""
    yield from _date_problems(view.certificate.validity)


@functools.lru_cache(maxsize=256)
def _date_problems(validity: bytes) -> tuple[str, ...]:
    """Kept: certificates that are issued together have their dates in common."""
    dates = whole(validity)
    return tuple(f"{what} {problem}" for what in ("notBefore", "notAfter") if (problem := time_problem(dates)))


def time_problem(reader: Reader) -> str:
    """Reads the next time; what is wrong with its type, or ""."""
    tag = reader.peek()
    at = reader.instant()
    wanted = UTC_TIME if at < YEAR_2050 else GENERALIZED_TIME
    return "" if tag == wanted else f"({iso(at)}) is a {'UTCTime' if tag == UTC_TIME else 'GeneralizedTime'}, which is for the other side of 2050"


def ends_within_the_issuer(view: View) -> Iterator[str]:
    """The validity does not end after the issuer's."""
    if view.certificate.not_after > view.above.not_after:
        yield f"the validity ends on {iso(view.certificate.not_after)}, after the issuer's on {iso(view.above.not_after)}"


def begins_within_the_issuer(view: View) -> Iterator[str]:
    """The validity does not begin before the issuer's; RFC 5280 does not ask for it, some verifiers do."""
    if view.certificate.not_before < view.above.not_before:
        yield f"the validity begins on {iso(view.certificate.not_before)}, before the issuer's on {iso(view.above.not_before)}"


def server_lives_397_days_at_most(view: View) -> Iterator[str]:
    """A server's certificate lives 397 days at most, both ends counted."""
    life = view.certificate.not_after - view.certificate.not_before + 1
    if life > 397 * DAY:
        yield f"the validity is {life / DAY:.2f} days"


# Subject and key


def authority_is_named(view: View) -> Iterator[str]:
    """An authority has a subject."""
    if view.certificate.subject == _EMPTY_NAME:
        yield "the subject is empty"


def subject_is_one_common_name(view: View) -> Iterator[str]:
    """The subject is empty or one commonName of 1 to 64 characters, a UTF8String or PrintableString."""
    subject = view.certificate.subject
    if subject == _EMPTY_NAME:
        return
    found = [attribute for rdn in attributes(subject) for attribute in rdn]
    if [kind for kind, _, _ in found] != [oids.COMMON_NAME]:
        yield f"the subject has {', '.join(oids.name(kind) for kind, _, _ in found)}"
        return
    text = view.certificate.common_name
    if not 1 <= len(text) <= MAX_COMMON_NAME or not text.isprintable():
        yield f"the common name has {len(text)} characters, or some that do not print"
    _, tag, _ = found[0]
    if tag not in (UTF8, PRINTABLE):
        yield f"the common name has the string type 0x{tag:02X}"


def key_is_known_and_strong(view: View) -> Iterator[str]:
    """The key is of a known kind and well formed; RSA has 2048 to 8192 bits and an odd exponent from 65537 to 2^32."""
    public = view.public
    if public is None:
        yield view.key_problem
    elif not public.modulus:
        if public.label not in KNOWN:
            yield f"the key is {public.described}"
    elif not 2048 <= public.bits <= RSA_MOST_BITS:
        yield f"the RSA key has {public.bits} bits"
    elif public.exponent % 2 == 0 or not 65537 <= public.exponent <= 2**32:
        yield f"the RSA exponent is {public.exponent}"


def key_type_is_one_that_browsers_offer(view: View) -> Iterator[str]:
    """The key is of a kind that browsers use: P-256, P-384 or RSA, for clients also P-521."""
    offered = ("p256", "p384", "p521") if clients(view) else ("p256", "p384")
    if view.label and not view.label.startswith("rsa-") and view.label not in offered:
        yield f"no browser uses a certificate with a key of the kind {view.label}; programs may"


# Identifiers


def subject_key_is_identified(view: View) -> Iterator[str]:
    """There is a subject key identifier."""
    if not view.certificate.key_id:
        yield "there is no subject key identifier"


def authority_key_is_identified(view: View) -> Iterator[str]:
    """There is an authority key identifier, and it is the issuer's subject key identifier."""
    found, wanted = view.certificate.authority_key_id, view.above.key_id
    if not found:
        yield "there is no authority key identifier"
    elif wanted is not None and found != wanted:
        yield f"the authority key identifier is {found.hex()}, the issuer's key has {wanted.hex()}"


# Extensions as such

#: Extensions that Gatekey writes: identifier -> whether critical; None where either is right.
_CRITICAL: dict[str, bool | None] = {
    oids.BASIC_CONSTRAINTS: True,
    oids.KEY_USAGE: True,
    oids.NAME_CONSTRAINTS: True,
    oids.SUBJECT_ALT_NAME: None,
    oids.EXTENDED_KEY_USAGE: False,
    oids.SUBJECT_KEY_ID: False,
    oids.AUTHORITY_KEY_ID: False,
    oids.CRL_DISTRIBUTION_POINTS: False,
    oids.FRESHEST_CRL: False,
    oids.AUTHORITY_INFO_ACCESS: False,
    oids.OCSP_NOCHECK: False,
    oids.NO_REV_AVAIL: False,
}


def extensions_are_ours(view: View) -> Iterator[str]:
    """Every extension is one that Gatekey writes: nobody has decided about any other."""
    for one in view.certificate.extensions:
        if one.oid not in _CRITICAL:
            yield f"there is the extension {oids.name(one.oid)}"


def extensions_are_critical_as_they_should(view: View) -> Iterator[str]:
    """Basic constraints, key usage and name constraints are critical; identifiers, pointers and purposes are not."""
    for one in view.certificate.extensions:
        wanted = _CRITICAL.get(one.oid)
        if wanted is not None and one.critical != wanted:
            yield f"the extension {oids.name(one.oid)} is {'critical' if one.critical else 'not critical'}"


# Authorities


def basic_constraints_are_there(view: View) -> Iterator[str]:
    """Basic constraints say whether this is an authority."""
    if not view.certificate.extension(oids.BASIC_CONSTRAINTS):
        yield "there are no basic constraints"


def authority_and_key_usage_agree(view: View) -> Iterator[str]:
    """An authority may sign certificates, and nobody else may sign certificates or CRLs."""
    if view.certificate.ca and "keyCertSign" not in view.usages:
        yield "this is an authority without keyCertSign"
    if not view.certificate.ca and {"keyCertSign", "cRLSign"} & set(view.usages):
        yield "this is no authority and has keyCertSign or cRLSign"


def authority_signs_crls(view: View) -> Iterator[str]:
    """An authority may sign CRLs, and uses its key for nothing but its work."""
    if "cRLSign" not in view.usages:
        yield "the key usage lacks cRLSign"
    if others := set(view.usages) - {"keyCertSign", "cRLSign", "digitalSignature"}:
        yield f"the key usage has {', '.join(sorted(others))}"


def path_length_is_for_authorities(view: View) -> Iterator[str]:
    """Only an authority with keyCertSign has a path length."""
    if view.certificate.path_length is not None and not (view.certificate.ca and "keyCertSign" in view.usages):
        yield f"there is a path length of {view.certificate.path_length}"


def path_length_fits_the_issuer(view: View) -> Iterator[str]:
    """An authority below another has a shorter path length than that."""
    limit, found = view.above.path_length, view.certificate.path_length
    if view.certificate.ca and limit is not None and (found is None or found >= limit):
        yield f"the path length is {'unlimited' if found is None else found}, the issuer's is {limit}"


def authority_has_no_purposes(view: View) -> Iterator[str]:
    """An authority has no extended key usage: Go and others let no certificate below have a purpose that it lacks."""
    if view.certificate.extended is not None:
        yield f"there is an extended key usage: {', '.join(view.purposes)}"


# Usages and purposes


def key_usage_is_there(view: View) -> Iterator[str]:
    """There is a key usage, and it is not empty."""
    if not view.certificate.key_usage:
        yield "there is no key usage, or it is empty"


def leaf_signs(view: View) -> Iterator[str]:
    """A leaf has digitalSignature: browsers hide a certificate without it, and TLS 1.3 needs it."""
    if "digitalSignature" not in view.usages:
        yield f"the key usage is {', '.join(view.usages) or 'missing'}"


def key_usage_fits_the_key(view: View) -> Iterator[str]:
    """A key is not said to be for what it cannot do: only RSA keys encipher, only EC keys agree."""
    label, usages = view.label, set(view.usages)
    wrong = usages & {"keyEncipherment", "dataEncipherment"} if not label.startswith("rsa-") else set()
    if label not in ("p256", "p384", "p521"):
        wrong |= usages & {"keyAgreement", "encipherOnly", "decipherOnly"}
    if wrong:
        yield f"the key is of the kind {label or 'unknown'}, and the key usage has {', '.join(sorted(wrong))}"


def leaf_has_a_purpose(view: View) -> Iterator[str]:
    """A leaf says what it is for."""
    if not view.certificate.extended:
        yield "there is no extended key usage"


def purpose_is_not_any(view: View) -> Iterator[str]:
    """No certificate is for any purpose: browsers hide such a one, and it would be a key to everything."""
    if "anyExtendedKeyUsage" in view.purposes:
        yield "the extended key usage has anyExtendedKeyUsage"


def purposes_are_of_one_side(view: View) -> Iterator[str]:
    """A certificate is a server's or a client's or an OCSP responder's, never two of these."""
    purposes = view.purposes
    sides = [side for side in ("clientAuth", "serverAuth", "OCSPSigning") if side in purposes]
    if len(sides) > 1:
        yield f"the extended key usage has {' and '.join(sides)}"


def responder_is_not_checked(view: View) -> Iterator[str]:
    """An OCSP responder's certificate, and no other, has id-pkix-ocsp-nocheck: it is short-lived instead of checked."""
    there = view.certificate.extension(oids.OCSP_NOCHECK) is not None
    if there != responders(view):
        yield "id-pkix-ocsp-nocheck stands in a certificate without OCSPSigning" if there else "there is no id-pkix-ocsp-nocheck"


def unrevocable_says_so_alone(view: View) -> Iterator[str]:
    """A certificate with noRevAvail is no authority's and points to no CRL and no OCSP responder."""
    one = view.certificate
    if not view.certificate.extension(oids.NO_REV_AVAIL):
        return
    if one.ca:
        yield "an authority has noRevAvail"
    if one.crl_points or one.ocsp_urls or view.certificate.extension(oids.FRESHEST_CRL):
        yield "noRevAvail stands beside a CRL distribution point or an OCSP address"


# Names


def alternatives_are_critical_without_a_subject(view: View) -> Iterator[str]:
    """Without a subject there are alternative names, and they are critical; with a subject they are not."""
    found, empty = view.certificate.extension(oids.SUBJECT_ALT_NAME), view.certificate.subject == _EMPTY_NAME
    if empty and not found:
        yield "the subject is empty, and there are no alternative names"
    elif found and found.critical != empty:
        yield f"the alternative names are {'critical' if found.critical else 'not critical'}, and the subject is {'empty' if empty else 'not'}"


def alternatives_are_hosts_addresses_and_mailboxes(view: View) -> Iterator[str]:
    """Alternative names are hosts, addresses and e-mail addresses, each once."""
    names = view.certificate.names
    if names.uris or names.directory or names.others:
        yield "there are alternative names of other kinds than hosts, addresses and e-mail addresses"
    plain = [name.lower() for name in (*names.dns, *names.ips, *names.emails)]
    for name in dict.fromkeys(name for name in plain if plain.count(name) > 1):
        yield f"{name!r} stands there twice"


def hosts_are_well_formed(view: View) -> Iterator[str]:
    """Hosts are in lower case and the preferred name syntax, international ones in xn-- form, wildcards as the whole left-most label."""
    yield from (problem for host in view.certificate.names.dns if (problem := host_problem(host)))


def mailboxes_are_well_formed(view: View) -> Iterator[str]:
    """E-mail addresses are ASCII mailboxes."""
    yield from (problem for email in view.certificate.names.emails if (problem := email_problem(email)))


def server_has_alternatives(view: View) -> Iterator[str]:
    """A server has a host or an address among its alternative names: clients look nowhere else."""
    if not (view.certificate.names.dns or view.certificate.names.ips):
        yield "there is neither a host nor an address"


def common_name_is_an_alternative(view: View) -> Iterator[str]:
    """What looks like a host or an address in a server's subject is also among its alternative names."""
    name, names = view.certificate.common_name.lower(), view.certificate.names
    hostlike = name and (ip_address(name) or ("." in name and host_problem(name) is None))
    if hostlike and name not in (*(host.lower() for host in names.dns), *names.ips):
        yield f"the common name {name!r} is not among the alternative names"


def names_are_within_the_issuers_constraints(view: View) -> Iterator[str]:
    """Every name lies within the issuer's name constraints, also a common name that OpenSSL takes for a host."""
    one, constraints = view.certificate, view.above.constraints
    if constraints is None or view.issuer is None:
        return
    from ..x509.constraints import Subtrees  # few authorities are constrained

    subtrees = Subtrees()
    subtrees.add(constraints)
    if problem := subtrees.problem(one):
        yield problem
    if not one.ca and not one.names.dns and "." in one.common_name and re.fullmatch(_HOST_LIKE, one.common_name):
        as_host = one._replace(names=GeneralNames(dns=(one.common_name,)), subject=_EMPTY_NAME)
        if problem := subtrees.problem(as_host):
            yield f"{problem}; OpenSSL takes the common name for one"


def constraints_are_for_authorities(view: View) -> Iterator[str]:
    """Name constraints stand in certificates of authorities only, and say what is permitted in the form of RFC 5280."""
    constraints = view.certificate.constraints
    if constraints is None:
        return
    if not view.certificate.ca:
        yield "there are name constraints, and this is no authority"
    for side in (constraints.permitted, constraints.excluded):
        yield from _subtree_problems(side)


def _subtree_problems(side: GeneralNames) -> Iterator[str]:
    for host in side.dns:
        if host and (problem := host_problem(host, wildcard=False)):
            yield f"the DNS subtree {host!r} is not a host: {problem}"
    for email in side.emails:
        problem = email_problem(email) if "@" in email else host_problem(email.removeprefix("."), wildcard=False)
        if problem:
            yield f"the e-mail subtree {email!r} is neither a mailbox nor a host: {problem}"


# Pointers


def addresses_can_be_fetched(view: View) -> Iterator[str]:
    """Addresses of CRLs, issuers and OCSP responders are absolute http or https URLs of printable ASCII."""
    one = view.certificate
    for url in (*one.crl_urls, *one.issuer_urls, *one.ocsp_urls):
        if not re.fullmatch(_URL, url):
            yield f"{url[:100]!r} is not an http or https URL"


def addresses_need_no_tls(view: View) -> Iterator[str]:
    """Addresses of CRLs, issuers and OCSP responders are plain http: over https a client would need the answer to ask the question, and many do not ask."""
    one = view.certificate
    for url in (*one.crl_urls, *one.issuer_urls, *one.ocsp_urls):
        if url.startswith("https:"):
            yield f"{url[:100]!r} is an https URL"


# Rarely asked, so compiled when they are: `re` keeps them.
_URL = r"https?://[A-Za-z0-9._~\[\]:-]+(/[!-~]*)?"
_HOST_LIKE = r"[A-Za-z0-9_]+(-+[A-Za-z0-9_]+)*(\.[A-Za-z0-9_]+(-+[A-Za-z0-9_]+)*)+"


_RFC, _OURS = "RFC 5280", "Gatekey"
_BROWSERS = "measured with Chromium 156 and Firefox 153"

#: Every lint of certificates.
LINTS: tuple[Lint, ...] = (
    Lint("strict-der", "error", "X.690 8-11; RFC 5280 4.1, 4.2", every, is_strict_der),
    Lint("version", "error", f"{_RFC} 4.1.2.1", every, version_is_3),
    Lint("serial-positive", "error", f"{_RFC} 4.1.2.2", every, serial_is_positive),
    Lint("serial-length", "error", f"{_RFC} 4.1.2.2", every, serial_is_short),
    Lint("serial-chance", "error", f"{_OURS}; CA/Browser Forum BR 7.1 (64 bits at least)", every, serial_is_random),
    Lint("signature-algorithm", "error", f"{_RFC} 4.1.2.3; RFC 4055 5, 5758 3.2, 8410 3, 9881 2", every, algorithm_fits_the_issuers_key),
    Lint("issuer-named", "error", f"{_RFC} 4.1.2.4", every, issuer_is_named),
    Lint("issuer-bytes", "error", f"{_RFC} 6.1.3 (a)(4); CA/Browser Forum BR 7.1.4.1", every, issuer_is_byte_equal),
    Lint("issuer-authority", "error", f"{_RFC} 6.1.4 (k), (n)", issued, issuer_is_an_authority),
    Lint("root-authority", "error", f"{_OURS}", roots, root_is_an_authority),
    Lint("dates-order", "error", f"{_RFC} 4.1.2.5", every, dates_are_in_order),
    Lint("dates-encoding", "error", f"{_RFC} 4.1.2.5", every, dates_are_encoded_well),
    Lint("dates-end-in-issuer", "error", f"{_OURS}; {_RFC} 6.1.3 (a)(2) makes the rest useless", issued, ends_within_the_issuer),
    Lint("dates-begin-in-issuer", "notice", f"{_OURS}; shell model of validity", issued, begins_within_the_issuer),
    Lint("server-life", "error", f"{_OURS}; CA/Browser Forum BR 6.3.2 until March 2026; Apple 103769 (825 days)", servers, server_lives_397_days_at_most),
    Lint("authority-named", "error", f"{_RFC} 4.1.2.6", authorities, authority_is_named),
    Lint("subject", "error", f"{_RFC} 4.1.2.4, 4.1.2.6, appendix A.1 (ub-common-name)", every, subject_is_one_common_name),
    Lint("key", "error", f"{_RFC} 4.1.2.7; RFC 5480 2; NIST SP 800-131A 3, SP 800-89 5.3.3", every, key_is_known_and_strong),
    Lint("browser-client-key", "notice", _BROWSERS, clients, key_type_is_one_that_browsers_offer),
    Lint("browser-server-key", "notice", "CA/Browser Forum BR 6.1.5; cabforum/servercert#451", servers, key_type_is_one_that_browsers_offer),
    Lint("subject-key-id", "error", f"{_RFC} 4.2.1.2", every, subject_key_is_identified),
    Lint("authority-key-id", "error", f"{_RFC} 4.2.1.1", every, authority_key_is_identified),
    Lint("extensions-known", "error", _OURS, every, extensions_are_ours),
    Lint("extensions-critical", "error", f"{_RFC} 4.2.1, 4.2.2; RFC 6960 4.2.2.2.1; RFC 9608 2", every, extensions_are_critical_as_they_should),
    Lint("basic-constraints", "error", f"{_RFC} 4.2.1.9", every, basic_constraints_are_there),
    Lint("authority-usage", "error", f"{_RFC} 4.2.1.3, 4.2.1.9", every, authority_and_key_usage_agree),
    Lint("authority-crl-sign", "error", f"{_RFC} 4.2.1.3", authorities, authority_signs_crls),
    Lint("path-length", "error", f"{_RFC} 4.2.1.9", every, path_length_is_for_authorities),
    Lint("path-length-issuer", "error", f"{_RFC} 6.1.4 (m)", issued, path_length_fits_the_issuer),
    Lint("authority-purposes", "error", f"{_OURS}; Go crypto/x509 nests purposes", authorities, authority_has_no_purposes),
    Lint("key-usage", "error", f"{_RFC} 4.2.1.3", every, key_usage_is_there),
    Lint("leaf-signs", "error", f"{_BROWSERS}; RFC 8446 4.4.2.2", leaves, leaf_signs),
    Lint("key-usage-key", "error", "RFC 5480 3; RFC 8410 5; RFC 9881 5; RFC 4055 1.2", every, key_usage_fits_the_key),
    Lint("leaf-purpose", "error", f"{_OURS}; {_RFC} 4.2.1.12", leaves, leaf_has_a_purpose),
    Lint("any-purpose", "error", f"{_BROWSERS}; CA/Browser Forum BR 7.1.2.7.10", every, purpose_is_not_any),
    Lint("one-side", "error", f"{_OURS}; {_BROWSERS}", every, purposes_are_of_one_side),
    Lint("ocsp-nocheck", "error", "RFC 6960 4.2.2.2.1", every, responder_is_not_checked),
    Lint("no-revocation", "error", "RFC 9608 2, 3", every, unrevocable_says_so_alone),
    Lint("alternatives-critical", "error", f"{_RFC} 4.2.1.6", every, alternatives_are_critical_without_a_subject),
    Lint("alternatives-kinds", "error", _OURS, every, alternatives_are_hosts_addresses_and_mailboxes),
    Lint("hosts", "error", f"{_RFC} 4.2.1.6; RFC 1034 3.5; RFC 5891; RFC 9525 6.3", every, hosts_are_well_formed),
    Lint("mailboxes", "error", f"{_RFC} 4.2.1.6; RFC 5321 4.1.2", every, mailboxes_are_well_formed),
    Lint("server-names", "error", "RFC 9525 2; CA/Browser Forum BR 7.1.2.7.12", servers, server_has_alternatives),
    Lint("server-common-name", "error", "CA/Browser Forum BR 7.1.4.3", servers, common_name_is_an_alternative),
    Lint("names-in-issuer", "error", f"{_RFC} 4.2.1.10; OpenSSL NAME_CONSTRAINTS_check_CN", every, names_are_within_the_issuers_constraints),
    Lint("constraints", "error", f"{_RFC} 4.2.1.10", every, constraints_are_for_authorities),
    Lint("addresses", "error", f"{_RFC} 4.2.1.13, 4.2.2.1; RFC 6960 A.1", every, addresses_can_be_fetched),
    Lint("addresses-plain", "notice", f"{_RFC} 8; CA/Browser Forum BR 7.1.2.11.2", every, addresses_need_no_tls),
)
_BY_NAME = {lint.name: lint for lint in LINTS}
