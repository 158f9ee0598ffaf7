"""What policy lets through, lint finds good, the encoder writes, the reader reads back and another library reads alike; what it refuses, it refuses in words.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import Any

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from gatekey import profiles
from gatekey.authority.authority import issuer_facts
from gatekey.errors import CODES, Refused
from gatekey.lint.certificates import lint_certificate
from gatekey.model.instants import DAY
from gatekey.model.names import Names
from gatekey.model.plan import NameConstraints, Plan, Urls
from gatekey.model.profile import Profile
from gatekey.model.request import HolderFacts, KeyFacts, Request
from gatekey.policy.decide import decide
from gatekey.x509.certificate import encode_tbs, read_certificate
from kit import objects

URLS = Urls(crl=("http://ca.example/people.crl",), issuer=("http://ca.example/people.crt",), ocsp=())
KEY = objects.spki_of(objects.key("p256", 3))
FACTS = KeyFacts("p256", "EC P-256", 256, 0, "ab" * 32)
#: Issuing authorities: free, and bound to example.com without addresses.
FREE = objects.house()
BOUND = FREE.root.issue(
    objects.authority(
        FREE.issuing.name,
        FREE.issuing.spki,
        days=3650,
        path_length=0,
        constraints=NameConstraints(dns=("example.com",), emails=("example.com", ".example.com"), no_ips=True),
    ),
    "13" * 16,
)
ISSUERS = {False: read_certificate(FREE.issuing_der), True: read_certificate(BOUND)}

ODD = ["xn--bcher-kva", "xn--", "a" * 63, "a" * 64, "*", "-a", "A", "", "_a", "ü"]
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True) | st.sampled_from(ODD)
TOPS = st.sampled_from(["example.com", "com", "example.org", "123", "local", ""])
HOSTS = st.builds(lambda labels, top: ".".join([*labels, *([top] if top else [])]), st.lists(LABELS, max_size=4), TOPS) | st.text(max_size=12)
IPS = st.ip_addresses().map(str) | st.sampled_from(["192.0.2.7", "2001:DB8::7", "::ffff:192.0.2.7", "1.2.3", "[::1]", "fe80::1%eth0"]) | st.text(max_size=8)
LOCALS = st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,12}", fullmatch=True)
EMAILS = st.builds(lambda local, host: f"{local}@{host}", LOCALS, HOSTS) | st.text(max_size=12)
LOGINS = st.from_regex(r"[A-Za-z0-9._@ -]{1,66}", fullmatch=True) | HOSTS | EMAILS | st.text(max_size=70)


@st.composite
def asked(draw: st.DrawFn) -> Names:
    few = st.integers(0, 3)
    return Names(
        draw(LOGINS | st.just("")),
        tuple(draw(st.lists(HOSTS, max_size=draw(few)))),
        tuple(draw(st.lists(IPS, max_size=draw(few)))),
        tuple(draw(st.lists(EMAILS, max_size=draw(few)))),
    )


def decided(profile: Profile, names: Names, *, bound: bool, **more: Any) -> Plan | Refused:
    issuer = issuer_facts("people", ISSUERS[bound])
    login = names.common_name if profile.subject == "common-name" else next(iter(names.alternatives), "")
    request = Request(profile.name, names, KEY, login, door=profile.ways[0], **more)
    return decide(profile, request, FACTS, issuer, HolderFacts(login, "person"), objects.NOW, urls=URLS)


def well_written(plan: Plan, *, bound: bool) -> None:
    issuer = ISSUERS[bound]
    tbs = encode_tbs(plan, "1A" * 16, FREE.issuing.issuer)
    assert [finding for finding in lint_certificate(tbs, issuer) if finding.severity == "error"] == []
    der = FREE.issuing.sign(tbs)
    ours = read_certificate(der)
    assert ours.der == der
    assert ours.tbs == tbs
    assert Names(ours.common_name, tuple(ours.names.dns), tuple(ours.names.ips), tuple(ours.names.emails)) == plan.names
    assert (ours.not_before, ours.not_after, ours.key_usage, ours.extended) == (plan.not_before, plan.not_after, plan.key_usage, plan.extended)
    agreed(x509.load_der_x509_certificate(der), plan)


def agreed(theirs: x509.Certificate, plan: Plan) -> None:
    """`cryptography` reads the same."""
    assert [one.value for one in theirs.subject] == ([plan.names.common_name] if plan.names.common_name else [])
    assert theirs.not_valid_before_utc == dt.datetime.fromtimestamp(plan.not_before, dt.UTC)
    assert theirs.not_valid_after_utc == dt.datetime.fromtimestamp(plan.not_after, dt.UTC)
    if plan.names.alternatives:
        found = theirs.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert found.critical == (not plan.names.common_name)
        assert tuple(found.value.get_values_for_type(x509.DNSName)) == plan.names.dns
        assert tuple(found.value.get_values_for_type(x509.IPAddress)) == tuple(map(ipaddress.ip_address, plan.names.ips))
        assert tuple(found.value.get_values_for_type(x509.RFC822Name)) == plan.names.emails


@pytest.mark.parametrize("profile", ["client", "client-short", "device", "server"])
@given(names=asked(), bound=st.booleans())
@example(names=Names("ann.miller", (), (), ("ann@example.com",)), bound=True)
@example(names=Names("", ("*.example.com", "example.com")), bound=True)
@example(names=Names("", ("a" * 63 + ".example.com",)), bound=False)
def test_any_names(profile: str, names: Names, bound: bool) -> None:
    answer = decided(profiles.built_in(profile), names, bound=bound)
    if isinstance(answer, Refused):
        assert answer.reasons
        assert all(reason.code in CODES and reason.message and reason.message.isprintable() for reason in answer.reasons), answer.reasons
    else:
        well_written(answer, bound=bound)


GOOD = {"client": Names("ann"), "client-short": Names("ann"), "device": Names("printer"), "server": Names("", ("app.example.com",))}


@pytest.mark.parametrize("profile", GOOD)
@given(days=st.none() | st.integers(-3, 4000) | st.integers(), end=st.none() | st.integers(objects.NOW - DAY, objects.NOW + 5000 * DAY) | st.integers())
def test_any_dates(profile: str, days: int | None, end: int | None) -> None:
    answer = decided(profiles.built_in(profile), GOOD[profile], bound=False, days=days, not_after=end)
    if isinstance(answer, Refused):
        assert answer.reasons
        assert all(reason.code in CODES for reason in answer.reasons)
        assert days is not None or end is not None
    else:
        well_written(answer, bound=False)
        one = profiles.built_in(profile)
        assert answer.not_after - answer.not_before + 1 <= one.longest
        assert answer.not_after <= ISSUERS[False].not_after
