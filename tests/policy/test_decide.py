"""The plan, field by field: what stands in a certificate once nothing speaks against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey import profiles
from gatekey.errors import Refused
from gatekey.model.instants import DAY, HOUR
from gatekey.model.names import Names
from gatekey.model.plan import NameConstraints, Plan, Urls
from gatekey.model.profile import parse_profile
from gatekey.model.request import HolderFacts, IssuerFacts, KeyFacts, Request
from gatekey.policy.decide import decide

SRC = Path(profiles.__file__).parent.parent.parent
NOW = 1_800_000_000
P256 = KeyFacts("p256", "EC P-256", 256, 0, "ab" * 32)
RSA = KeyFacts("rsa-4096", "RSA 4096", 4096, 65537, "cd" * 32)
ISSUER = IssuerFacts("people", NOW + 3650 * DAY, path_length=0, not_before=NOW - 10 * DAY)
URLS = Urls(crl=("http://ca.example/people.crl",), issuer=("http://ca.example/people.crt",), ocsp=("http://ca.example/ocsp",))


def planned(
    profile: str,
    names: Names,
    *,
    key: KeyFacts = P256,
    issuer: IssuerFacts | None = ISSUER,
    now: int = NOW,
    constraints: NameConstraints | None = None,
    **more: Any,
) -> Plan:
    chosen = profiles.built_in(profile)
    more.setdefault("door", chosen.ways[0])
    login = names.common_name or next(iter(names.alternatives), "")
    answer = decide(chosen, Request(profile, names, b"spki", login, **more), key, issuer, HolderFacts(login, "person"), now, urls=URLS, constraints=constraints)
    assert isinstance(answer, Plan), answer
    return answer


def test_a_clients_plan() -> None:
    names = Names("ann", emails=("ann@example.com",))
    profile = profiles.built_in("client")
    assert planned("client", names) == Plan(
        profile="client",
        profile_sha256=profile.sha256,
        issuer="people",
        names=names,
        spki=b"spki",
        not_before=NOW - HOUR,
        not_after=NOW + 365 * DAY - 1,
        key_usage=("digitalSignature",),
        extended=("clientAuth",),
        crl_urls=URLS.crl,
        issuer_urls=URLS.issuer,
        ocsp_urls=URLS.ocsp,
    )


def test_a_servers_plan() -> None:
    found = planned("server", Names(dns=("a.example", "b.example"), ips=("192.0.2.7",)))
    assert found.names == Names("a.example", ("a.example", "b.example"), ("192.0.2.7",))
    assert (found.extended, found.key_usage) == (("serverAuth",), ("digitalSignature",))
    assert found.not_after == NOW + 375 * DAY - 1
    assert planned("server", Names(dns=("a.example",)), key=RSA).key_usage == ("digitalSignature", "keyEncipherment")


@pytest.mark.parametrize("name", ["people-root", "servers-root", "root"])
def test_a_roots_plan(name: str) -> None:
    found = planned(name, Names("kitty-ca"), issuer=None, constraints=NameConstraints(dns=("example.com",)))
    assert found.ca
    assert found.path_length == (0 if name == "root" else 1)
    assert (found.key_usage, found.extended) == (("keyCertSign", "cRLSign"), ())
    assert (found.issuer, found.crl_urls, found.issuer_urls, found.ocsp_urls) == ("", (), (), ())
    assert found.not_after == NOW + 7300 * DAY - 1
    assert found.constraints == NameConstraints(dns=("example.com",))


def test_an_issuing_authoritys_plan() -> None:
    root = IssuerFacts("people-root", NOW + 7300 * DAY, path_length=1)
    found = planned("people", Names("kitty-ca people"), issuer=root, constraints=NameConstraints(dns=("example.com",), no_ips=True))
    assert (found.ca, found.path_length, found.issuer) == (True, 0, "people-root")
    assert found.constraints == NameConstraints(dns=("example.com",), no_ips=True)
    assert found.not_after == NOW + 3650 * DAY - 1
    assert found.crl_urls == URLS.crl


def test_an_ocsp_responders_plan() -> None:
    found = planned("ocsp-responder", Names("kitty-ca people OCSP"))
    assert (found.extended, found.no_check, found.crl_urls, found.ocsp_urls) == (("OCSPSigning",), True, (), ())
    assert found.issuer_urls == URLS.issuer
    assert found.not_after == NOW + 7 * DAY - 1


def test_leaves_are_never_constrained_and_never_authorities() -> None:
    found = planned("client", Names("ann"), constraints=NameConstraints(dns=("example.com",)))
    assert (found.ca, found.path_length, found.constraints, found.no_check) == (False, None, None, False)


def test_an_unrevocable_certificate_points_nowhere() -> None:
    text = '[profile.brief]\nabout = "x"\nusage = ["client-auth"]\nvalidity = "8h"\nkeys = ["p256"]\nno-revocation = true\nextra = ["1.3.6.1.4.1.311.20.2.2"]\n'
    profile = parse_profile("brief", text, source="brief.toml")
    found = decide(profile, Request("brief", Names("ann"), b"", "ann"), P256, ISSUER, HolderFacts("ann", "person"), NOW, urls=URLS)
    assert isinstance(found, Plan)
    assert found.no_revocation
    assert (found.crl_urls, found.ocsp_urls, found.issuer_urls) == ((), (), URLS.issuer)
    assert found.extended == ("clientAuth", "1.3.6.1.4.1.311.20.2.2")
    assert (found.not_before, found.not_after) == (NOW - HOUR, NOW + 7 * HOUR - 1)  # longest = validity = 8h, backdating included


def test_a_default_is_cut_to_the_issuer_and_said() -> None:
    found = planned("client", Names("ann"), issuer=ISSUER._replace(not_after=NOW + 30 * DAY))
    assert found.not_after == NOW + 30 * DAY
    assert found.notes == ("valid until 2027-02-14 only, not until 2028-01-15: the authority people ends then",)


def test_backdating_stops_at_the_issuers_beginning() -> None:
    assert planned("client", Names("ann"), issuer=ISSUER._replace(not_before=NOW - 60)).not_before == NOW - 60
    assert planned("client", Names("ann"), issuer=ISSUER._replace(not_before=NOW + 60)).not_before == NOW  # its clock was ahead; ours is what counts


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [(1, -HOUR, DAY - 1), (396, -HOUR, 396 * DAY - 1), (397, -HOUR, 397 * DAY - HOUR - 1)],
)
def test_397_days_of_a_server_are_397_days_in_all(days: int, first: int, last: int) -> None:
    found = planned("server", Names(dns=("a.example",)), days=days)
    assert (found.not_before - NOW, found.not_after - NOW) == (first, last)
    assert found.not_after - found.not_before + 1 <= 397 * DAY


def test_an_end_that_is_asked_for_is_kept_to_the_second() -> None:
    assert planned("client", Names("ann"), not_after=NOW + 5 * DAY + 17).not_after == NOW + 5 * DAY + 17


def test_a_probe_may_have_expired() -> None:
    found = planned("probe", Names("gatekey-probe"), not_after=NOW - DAY)
    assert (found.not_before, found.not_after) == (NOW - DAY - HOUR, NOW - DAY)
    assert planned("probe", Names("gatekey-probe")).not_after == NOW + HOUR - 1
    assert planned("probe-server", Names("gatekey-probe", dns=("gatekey-probe.invalid",))).extended == ("serverAuth",)


def test_the_common_name_of_a_server() -> None:
    long = "a" * 60 + ".example"
    assert planned("server", Names(dns=(long, "b.example"))).names.common_name == ""
    assert planned("server", Names(dns=(long,))).san_critical
    assert planned("server", Names(dns=(long,))).notes == (f"{long} is longer than the 64 characters of a common name, so the subject is empty",)
    assert planned("server", Names("b.example", dns=("a.example", "b.example"))).names.common_name == "b.example"
    assert planned("server", Names("192.0.2.7", dns=("a.example",), ips=("192.0.2.7",))).names.common_name == "192.0.2.7"
    assert planned("server", Names(ips=("2001:db8::7",))).names.common_name == "2001:db8::7"
    constrained = ISSUER._replace(permitted_dns=("example.com",), permitted_ips=("192.0.2.0/24",))
    assert planned("server", Names(ips=("192.0.2.7",)), issuer=constrained).names == Names("", ips=("192.0.2.7",))


@pytest.mark.parametrize(
    ("common_name", "names"),
    [
        ("picture-server", Names("picture-server", dns=("picture-server",))),
        ("Picture.Example", Names("picture.example", dns=("picture.example",))),
        ("192.0.2.7", Names("192.0.2.7", ips=("192.0.2.7",))),
        ("2001:DB8::7", Names("2001:db8::7", ips=("2001:db8::7",))),
    ],
)
def test_a_request_of_old_gets_its_common_name_as_alternative(common_name: str, names: Names) -> None:
    found = planned("server", Names(common_name))
    assert found.names == names
    assert "stood only in the common name" in found.notes[0]


def test_a_refusal_is_returned_and_not_raised() -> None:
    answer = decide(profiles.built_in("client"), Request("client", Names("ann"), b"", "ann"), P256, None, HolderFacts("ann", "person"), NOW)
    assert isinstance(answer, Refused)


@given(
    st.sampled_from(["client", "device", "server", "ocsp-responder", "probe"]),
    st.integers(0, 2**33),
    st.integers(DAY, 400 * DAY),
    st.one_of(st.none(), st.integers(1, 397)),
)
def test_no_leaf_outlives_its_issuer_or_its_profile(name: str, now: int, left: int, days: int | None) -> None:
    profile = profiles.built_in(name)
    issuer = IssuerFacts("people", now + left, not_before=max(0, now - HOUR))
    names = Names(dns=("a.example",)) if name == "server" else Names("gatekey-probe" if name == "probe" else "ann")
    request = Request(name, names, b"", names.common_name, days=days, door=profile.ways[0])
    answer = decide(profile, request, P256, issuer, HolderFacts(names.common_name, "person"), now)
    if isinstance(answer, Refused):
        assert days is not None
        return
    assert issuer.not_before <= answer.not_before <= now <= answer.not_after <= issuer.not_after
    assert answer.not_after - answer.not_before + 1 <= profile.longest


def test_policy_is_pure() -> None:
    """Nothing but the standard library, errors and model comes in with it, and nothing heavy."""
    code = "import sys; before = set(sys.modules); import gatekey.policy.decide; print(*sorted(set(sys.modules) - before))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SRC)})
    loaded = set(answer.stdout.split())
    assert not loaded & {"cryptography", "sqlite3", "socket", "ssl", "tomllib", "ipaddress", "asyncio", "click"}
    assert {name for name in loaded if name.startswith("gatekey.")} <= {
        "gatekey.errors",
        "gatekey.model",
        "gatekey.model.instants",
        "gatekey.model.keytypes",
        "gatekey.model.names",
        "gatekey.model.plan",
        "gatekey.model.profile",
        "gatekey.model.record",
        "gatekey.model.request",
        "gatekey.model.status",
        "gatekey.policy",
        "gatekey.policy.decide",
        "gatekey.policy.rules",
    }
