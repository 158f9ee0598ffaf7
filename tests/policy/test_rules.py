"""Every rule of policy with a request that it refuses, in words, and one beside it that it lets through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey import profiles
from gatekey.errors import CODES, Reason, Refused
from gatekey.model.instants import DAY, HOUR
from gatekey.model.names import Names
from gatekey.model.plan import Plan
from gatekey.model.profile import Profile, parse_profile
from gatekey.model.request import CertificateId, HolderFacts, IssuerFacts, KeyFacts, Request
from gatekey.policy.decide import decide
from gatekey.policy.rules import RULES, looks_like_host

NOW = 1_800_000_000
P256 = KeyFacts("p256", "EC P-256", 256, 0, "ab" * 32)
RSA = KeyFacts("rsa-2048", "RSA 2048", 2048, 65537, "cd" * 32)
PEOPLE = IssuerFacts("people", NOW + 3650 * DAY, path_length=0, not_before=NOW - DAY)
ANN = HolderFacts("ann", "person")
SITE = HolderFacts("a.example", "server")
CONSTRAINED = PEOPLE._replace(permitted_dns=("example.com",), permitted_emails=("example.com", ".example.com"), permitted_ips=())


def own(text: str) -> Profile:
    return parse_profile("own", f'[profile.own]\nabout = "x"\nvalidity = "30d"\nkeys = ["p256"]\n{text}', source="own.toml")


def ask(
    profile: str | Profile, names: Names, *, key: KeyFacts = P256, issuer: IssuerFacts | None = PEOPLE, holder: HolderFacts | None = None, **more: Any
) -> Plan | Refused:
    chosen = profiles.built_in(profile) if isinstance(profile, str) else profile
    holder = holder or HolderFacts(names.common_name or next(iter(names.alternatives), "x"), "person")
    more.setdefault("door", chosen.ways[0])
    return decide(chosen, Request(chosen.name, names, b"spki", holder.login, **more), key, issuer, holder, NOW)


def client(names: Names | None = None, **more: Any) -> Plan | Refused:
    return ask("client", names or Names("ann", emails=("ann@example.com",)), **more)


def server(*hosts: str, ips: tuple[str, ...] = (), common_name: str = "", **more: Any) -> Plan | Refused:
    return ask("server", Names(common_name, dns=hosts, ips=ips), **more)


def reasons(answer: Plan | Refused) -> tuple[Reason, ...]:
    assert isinstance(answer, Refused), answer
    assert answer.exit_code == 1
    for reason in answer.reasons:
        assert reason.code in CODES
        assert reason.message == reason.message.rstrip(".")
        assert "found" in reason.facts
    return answer.reasons


def only(answer: Plan | Refused) -> Reason:
    found = reasons(answer)
    assert len(found) == 1, found
    return found[0]


def plan(answer: Plan | Refused) -> Plan:
    assert isinstance(answer, Plan), answer
    return answer


# Each row: what is asked, the code, words of the sentence, words of the hint.
KEYS = [
    (
        P256._replace(label="", described="the elliptic curve secp256k1"),
        "key-unknown",
        "the key is the elliptic curve secp256k1, which is not known here",
        "make a new key",
    ),
    (
        P256._replace(label="ed448"),
        "key-not-allowed",
        "the key is Ed448; the profile client takes EC P-256, EC P-384, EC P-521, RSA 2048 or more",
        "make a new key",
    ),
    (RSA._replace(label="rsa-1024", bits=1024), "key-too-small", "the RSA key has 1024 bits; 2048 are the least", "make a new key, such as EC P-256"),
    (RSA._replace(label="rsa-2047", bits=2047), "key-too-small", "the RSA key has 2047 bits; 2048 are the least", ""),
    (RSA._replace(label="rsa-8193", bits=8193), "key-too-large", "the RSA key has 8193 bits; 8192 are the most", ""),
    (RSA._replace(exponent=1), "key-exponent", "the RSA exponent is 1; an odd one from 65537 to 4294967296 is needed", ""),
    (RSA._replace(exponent=3), "key-exponent", "the RSA exponent is 3;", ""),
    (RSA._replace(exponent=65538), "key-exponent", "the RSA exponent is 65538;", ""),
    (RSA._replace(exponent=2**32 + 1), "key-exponent", "the RSA exponent is a number of 33 bits;", ""),
    (RSA._replace(weaknesses=("it has the ROCA flaw",)), "key-weak", "the key is weak: it has the ROCA flaw", "make a new key"),
    (
        P256._replace(compromised=True),
        "key-compromised",
        "the key ABABABABABABABAB... was reported as compromised and is never certified again",
        "make a new key",
    ),
    (P256._replace(authority="people"), "key-of-authority", "the key is that of the authority people", "make a new key"),
    (P256._replace(other_holder="bob"), "key-of-another", "the key is in a certificate of bob; a key has one holder", "make a new key"),
]


@pytest.mark.parametrize(("key", "code", "said", "hint"), KEYS)
def test_keys(key: KeyFacts, code: str, said: str, hint: str) -> None:
    reason = only(client(key=key))
    assert reason.code == code
    assert said in reason.message
    assert hint in reason.hint


@pytest.mark.parametrize(
    "key",
    [
        P256,
        RSA,
        RSA._replace(label="rsa-8192", bits=8192),
        RSA._replace(exponent=2**32 - 1),
        RSA._replace(label="rsa-3000", bits=3000),
        P256._replace(label="ml-dsa-65"),
    ],
)
def test_good_keys(key: KeyFacts) -> None:
    plan(client(key=key))


def test_the_profile_may_want_longer_rsa_keys() -> None:
    profile = own('usage = ["client-auth"]')._replace(keys=("rsa-3072",))
    assert only(ask(profile, Names("ann"), key=RSA)).message == "the key is RSA 2048; the profile own takes RSA 3072 or more"
    plan(ask(profile, Names("ann"), key=RSA._replace(label="rsa-4096", bits=4096)))


def test_an_authoritys_key_may_be_certified_again_as_an_authority() -> None:
    root = Names("kitty-ca")
    plan(ask("root", root, issuer=None, key=P256._replace(authority="root")))


NAMES = [
    ("server", Names(), "name-missing", "no host or address is asked for", "name the host that people type"),
    ("server", Names(dns=("Example.com",)), "bad-host", "'Example.com' has upper-case letters", "write example.com"),
    ("server", Names(dns=("example.com.",)), "bad-host", "ends with a dot", "write example.com"),
    ("server", Names(dns=("bücher.example",)), "bad-host", "give it in its xn-- form: xn--bcher-kva.example", ""),
    ("server", Names(dns=("a_b.example",)), "bad-host", "a label is letters, digits and inner hyphens", ""),
    ("server", Names(dns=("*.com",)), "bad-host", "a wildcard directly under a top-level name", ""),
    ("server", Names(dns=("192.0.2.7",)), "bad-host", "would be read as an address", ""),
    ("server", Names(ips=("example",)), "bad-address", "'example' is not an IP address", "write 192.0.2.7"),
    ("server", Names(ips=("2001:DB8::7",)), "bad-address", "not in its shortest form", "write 2001:db8::7"),
    ("server", Names(dns=("a.example", "a.example")), "name-twice", "'a.example' is asked for 2 times", "leave the others out"),
    (
        "server",
        Names(dns=("a.example",), emails=("a@b.example",)),
        "name-not-allowed",
        "the e-mail address 'a@b.example' is not among what the profile server gives: no",
        "",
    ),
    (
        "server",
        Names("Picture Server", dns=("a.example",)),
        "bad-common-name",
        "the common name 'Picture Server' is neither a host nor an address",
        "or without one",
    ),
    ("server", Names("b.example", dns=("a.example",)), "bad-common-name", "the common name 'b.example' is neither", ""),
    ("client", Names(""), "bad-login", "the login is empty", "choose another name"),
    ("client", Names("änn"), "bad-login", "beyond ASCII", ""),
    ("client", Names("a" * 65), "bad-login", "longer than the 64 characters", ""),
    ("client", Names("ann,o=x"), "bad-login", "has ',='", ""),
    (
        "client",
        Names("ann", dns=("a.example",)),
        "name-not-allowed",
        "the host 'a.example' is not among what the profile client gives: no host at all",
        "leave it out",
    ),
    ("client", Names("ann", ips=("192.0.2.7",)), "name-not-allowed", "the address '192.0.2.7' is not among", ""),
    ("client", Names("ann", emails=("änn@b.example",)), "bad-email", "beyond ASCII", "write name@example.com"),
    (
        "client",
        Names("ann", emails=("a@b.example", "c@b.example")),
        "names-too-many",
        "2 alternative names are asked for; the profile client allows 1",
        "ask for fewer",
    ),
    ("device", Names("printer", dns=("*.example.com",)), "bad-host", "a wildcard, which is not allowed here", ""),
    ("ocsp-responder", Names(""), "bad-common-name", "the common name is empty", ""),
    ("ocsp-responder", Names("x" * 65), "bad-common-name", "longer than 64 characters", ""),
    ("probe", Names("ann"), "name-not-allowed", "the login 'ann' is not among what the profile probe gives: gatekey-probe", ""),
]


@pytest.mark.parametrize(("profile", "names", "code", "said", "hint"), NAMES)
def test_names(profile: str, names: Names, code: str, said: str, hint: str) -> None:
    reason = only(ask(profile, names, holder=HolderFacts(names.common_name, "person")))
    assert reason.code == code
    assert said in reason.message
    assert hint in reason.hint


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        ("server", Names(dns=("picture-server",))),
        ("server", Names(dns=("*.example.com", "example.com"))),
        ("server", Names(dns=("xn--bcher-kva.example",))),
        ("server", Names(ips=("192.0.2.7", "2001:db8::7"))),
        ("server", Names("A.example", dns=("a.example",))),
        ("client", Names("ann")),
        ("client", Names("Ann Miller@x_y", emails=("ann@example.com",))),
        ("device", Names("printer-3", dns=("printer-3.example.com",))),
        ("ocsp-responder", Names("Kätzchen people OCSP")),
        ("probe", Names("gatekey-probe")),
        ("probe-server", Names("gatekey-probe", dns=("gatekey-probe.invalid",))),
    ],
)
def test_good_names(profile: str, names: Names) -> None:
    plan(ask(profile, names))


def test_a_common_name_that_is_no_host_does_not_become_one() -> None:
    assert [reason.code for reason in reasons(ask("server", Names("Picture Server")))] == ["name-missing", "bad-common-name"]


def test_the_name_budget_comes_before_everything_else() -> None:
    many = Names(dns=tuple(f"h{n}.example" for n in range(101)))
    assert only(ask("server", many)).message == "101 alternative names are asked for; 100 are the most of any request"
    plan(ask("server", Names(dns=many.dns[:100])))


def test_a_client_asks_under_the_holders_login() -> None:
    reason = only(client(Names("ann"), holder=HolderFacts("bob", "person")))
    assert reason.code == "not-the-holder"
    assert reason.message == "the common name 'ann' is asked for 'bob'; it must be the login itself"
    assert "'bob'" in reason.hint


def test_own_patterns() -> None:
    profile = own('usage = ["server-auth"]\nnames = { host = ["*.example.com", "example.com"], ip = ["10.0.0.0/8", "2001:db8::/32"], max = 3 }')
    plan(ask(profile, Names(dns=("example.com", "a.example.com"), ips=("10.1.2.3",))))
    plan(ask(profile, Names(ips=("2001:db8::1",))))
    for names, said in [
        (Names(dns=("example.org",)), "the host 'example.org' is not among what the profile own gives: *.example.com, example.com"),
        (Names(dns=("badexample.com",)), "the host 'badexample.com'"),
        (Names(ips=("192.0.2.7",)), "the address '192.0.2.7' is not among what the profile own gives: 10.0.0.0/8, 2001:db8::/32"),
    ]:
        assert said in only(ask(profile, names)).message
    assert {reason.code for reason in reasons(ask(profile, Names(dns=("*.example.com",))))} == {"bad-host"}
    people = own('usage = ["client-auth"]\nnames = { email = ["*@example.com"], max = 1 }')
    plan(ask(people, Names("ann", emails=("ann@example.com",))))
    assert only(ask(people, Names("ann", emails=("ann@evil.com",)))).code == "name-not-allowed"


OUTSIDE = [
    ("server", Names(dns=("example.org",)), "the host 'example.org' is outside what the authority people may certify: example.com"),
    ("server", Names(dns=("badexample.com",)), "the host 'badexample.com'"),
    (
        "server",
        Names(dns=("a.example.com",), ips=("192.0.2.7",)),
        "the address '192.0.2.7' is outside what the authority people may certify: no address at all",
    ),
    (
        "client",
        Names("ann", emails=("ann@example.org",)),
        "the e-mail address 'ann@example.org' is outside what the authority people may certify: example.com, .example.com",
    ),
    (
        "client",
        Names("ann.smith"),
        "the common name 'ann.smith' looks like a host to OpenSSL and is outside what the authority people may certify: example.com",
    ),
]


@pytest.mark.parametrize(("profile", "names", "said"), OUTSIDE)
def test_names_stay_within_the_issuers_constraints(profile: str, names: Names, said: str) -> None:
    reason = only(ask(profile, names, issuer=CONSTRAINED))
    assert reason.code == "outside-constraints"
    assert said in reason.message
    plan(ask(profile, names))


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        ("server", Names(dns=("example.com", "*.example.com", "a.b.example.com"))),
        ("client", Names("ann", emails=("ann@example.com",))),
        ("client", Names("ann", emails=("ann@a.example.com",))),
        ("client", Names("ann.smith@example.org")),
        ("client", Names("ann_smith")),
        ("client", Names("ann.example.com")),
        ("device", Names("ann.smith", dns=("a.example.com",))),
    ],
)
def test_names_within_the_issuers_constraints(profile: str, names: Names) -> None:
    plan(ask(profile, names, issuer=CONSTRAINED))


def test_the_hint_for_a_dotted_login_works() -> None:
    assert "'ann_smith'" in only(ask("client", Names("ann.smith"), issuer=CONSTRAINED)).hint


def test_constraints_by_mailbox_block_and_dot() -> None:
    issuer = PEOPLE._replace(permitted_dns=(".example.com", ""), permitted_emails=("ann@example.com",), permitted_ips=("10.0.0.0/8",))
    plan(server("anything.example.org", ips=("10.1.1.1",), issuer=issuer))
    assert only(server("a.example", ips=("11.1.1.1",), issuer=issuer)).code == "outside-constraints"
    plan(client(issuer=issuer))
    assert only(client(Names("bob", emails=("bob@example.com",)), issuer=issuer)).code == "outside-constraints"
    assert only(server("example.com", issuer=PEOPLE._replace(permitted_dns=(".example.com",)))).code == "outside-constraints"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("ann", False),
        ("ann.smith", True),
        ("ann_smith", False),
        ("ann@foo.org", False),
        ("ann smith.x", False),
        ("192.0.2.1", True),
        ("a-.b", False),
        ("a--b.c", True),
        ("ann.", False),
        ("-a.b", False),
        ("a_.b", True),
        ("a..b", False),
    ],
)
def test_what_openssl_takes_for_a_host(name: str, host: bool) -> None:
    """Measured with `openssl verify` 3.0 against a CA with a DNS constraint."""
    assert looks_like_host(name) == host


DAYS = [
    ("client", {"days": 0}, "days-too-few", "0 days are asked for; 1 is the least", "ask for 1 day or more"),
    ("client", {"days": -3}, "days-too-few", "-3 days are asked for", ""),
    ("client", {"not_after": NOW - 1}, "days-too-few", "which is past", "ask for 2027-01-16T08:00:00Z or later"),
    ("client", {"not_after": NOW + HOUR}, "days-too-few", "which is less than a day ahead", ""),
    ("client", {"not_after": -(10**18)}, "days-too-few", "an end on 1970-01-01T00:00:00Z is asked for, which is past", ""),
    ("client", {"days": 3, "not_after": NOW + 3 * DAY}, "dates-twice", "both days and a last date are asked for", "give one of them"),
    ("server", {"days": 398}, "days-too-many", "398 days are asked for; the profile server allows 397 days", "ask for 397 days or fewer"),
    ("server", {"not_after": NOW + 397 * DAY}, "days-too-many", "the profile server allows 397 days", ""),
    ("client", {"days": 3651}, "days-too-many", "3651 days are asked for; the profile client allows 3650 days", ""),
]


@pytest.mark.parametrize(("profile", "asked", "code", "said", "hint"), DAYS)
def test_days(profile: str, asked: dict[str, Any], code: str, said: str, hint: str) -> None:
    names = Names(dns=("a.example",)) if profile == "server" else Names("ann")
    far = PEOPLE._replace(not_after=NOW + 9000 * DAY)
    reason = only(ask(profile, names, issuer=far, **asked))
    assert reason.code == code
    assert said in reason.message
    assert hint in reason.hint


@pytest.mark.parametrize("asked", [{"days": 10**12}, {"not_after": 10**15}])
def test_absurd_days_are_refused_too(asked: dict[str, Any]) -> None:
    assert {reason.code for reason in reasons(client(**asked))} == {"days-too-many", "beyond-issuer"}


def test_days_within_the_issuer() -> None:
    issuer = PEOPLE._replace(not_after=NOW + 100 * DAY)
    plan(client(days=100, issuer=issuer))
    reason = only(client(days=101, issuer=issuer))
    assert reason.code == "beyond-issuer"
    assert reason.message == "101 days are asked for, which is after the end of the authority people on 2027-04-25"
    assert reason.hint == "ask for 100 days or fewer, or for none: then it is cut to fit"
    assert only(client(not_after=issuer.not_after + 1, issuer=issuer)).code == "beyond-issuer"
    assert plan(client(not_after=issuer.not_after, issuer=issuer)).not_after == issuer.not_after


@pytest.mark.parametrize(
    ("left", "said"), [(-1, "the authority people ended on 2027-01-15T07:59:59Z"), (HOUR, "the authority people ends on 2027-01-15T09:00:00Z")]
)
def test_the_issuer_lives(left: int, said: str) -> None:
    issuer = PEOPLE._replace(not_after=NOW + left)
    for days in (None, 30):
        reason = only(client(days=days, issuer=issuer))
        assert reason.code == "issuer-expired"
        assert reason.message == said
    plan(client(issuer=PEOPLE._replace(not_after=NOW + DAY)))


def test_only_authorities_sign_themselves() -> None:
    assert only(client(issuer=None)).code == "no-issuer"
    plan(ask("people-root", Names("kitty-ca people root"), issuer=None))


def test_path_lengths() -> None:
    root = IssuerFacts("people-root", NOW + 7300 * DAY, path_length=1)
    plan(ask("people", Names("kitty-ca people"), issuer=root))
    plan(ask("people", Names("kitty-ca people"), issuer=root._replace(path_length=None)))
    reason = only(ask("people", Names("kitty-ca people"), issuer=root._replace(path_length=0)))
    assert reason.code == "path-too-long"
    assert reason.message == "the authority people-root may have 0 authorities below it; the profile people needs 1"


def test_who_has_left_gets_nothing() -> None:
    reason = only(client(holder=ANN._replace(left=True)))
    assert (reason.code, reason.message) == ("holder-left", "ann has left")


def test_what_the_service_calls_itself_is_nobody_elses() -> None:
    reason = only(client(Names("Gatekey-OCSP"), holder=HolderFacts("Gatekey-OCSP", "person")))
    assert (reason.code, reason.message, reason.hint) == ("name-reserved", "'Gatekey-OCSP' is a name that the service uses for itself", "choose another name")
    assert only(server("gatekey-probe", holder=HolderFacts("gatekey-probe", "server"))).code == "name-reserved"
    plan(server("gatekey-probe.example", holder=HolderFacts("gatekey-probe.example", "server")))
    plan(server("pki.example", holder=HolderFacts("gatekey-service", "server"), requester="service"))


def test_one_live_certificate_per_device() -> None:
    reason = only(client(device="laptop", holder=ANN._replace(live="1F" * 16)))
    assert reason.code == "device-has-one"
    assert reason.message == f"ann has a live certificate for the device 'laptop' already: {'1F' * 16}"
    assert f"`gatekey renew {'1F' * 16}`" in reason.hint
    assert only(client(holder=ANN._replace(live="1F" * 16))).message == f"ann has a live certificate already: {'1F' * 16}"
    plan(server("a.example", holder=SITE._replace(live="1F" * 16)))


def test_doors() -> None:
    reason = only(client(door="acme"))
    assert reason.code == "door-not-allowed"
    assert reason.message.startswith("the profile client cannot be had by way of acme; its ways are cli, api")
    for name in ("people", "people-root", "root", "ocsp-responder", "probe"):
        assert "door-not-allowed" in {reason.code for reason in reasons(ask(name, Names("gatekey-probe"), issuer=None, door="cli"))}


PROOFS = [
    ({"proof": ""}, "possession of the private key was not shown"),
    ({"proof": "trust-me"}, "possession of the private key was not shown"),
    ({"proof": "certified-out-of-band", "door": "est"}, "possession of the private key was shown by certified-out-of-band, which is not enough by way of est"),
    ({"proof": "same-key"}, "the same key is offered again, but no certificate is being renewed"),
]


@pytest.mark.parametrize(("asked", "said"), PROOFS)
def test_possession(asked: dict[str, Any], said: str) -> None:
    reason = only(client(**asked))
    assert reason.code == "proof-missing"
    assert reason.message == said
    assert "CSR" in reason.hint


@pytest.mark.parametrize(
    "asked",
    [
        {"proof": "csr"},
        {"proof": "made-here"},
        {"proof": "own-key"},
        {"proof": "certified-out-of-band"},
        {"proof": "same-key", "renews": CertificateId("people", "1F" * 16)},
    ],
)
def test_possession_shown(asked: dict[str, Any]) -> None:
    plan(client(**asked))


def test_all_reasons_at_once() -> None:
    key = RSA._replace(label="rsa-1024", bits=1024, exponent=3, weaknesses=("one", "two"), compromised=True)
    answer = ask(
        "client", Names("änn", dns=("B",), emails=("x",)), key=key, holder=HolderFacts("bob", "person", left=True, live="AA"), days=0, proof="", door="acme"
    )
    found = [reason.code for reason in reasons(answer)]
    assert found == [
        "door-not-allowed",
        "holder-left",
        "key-too-small",
        "key-exponent",
        "key-weak",
        "key-weak",
        "key-compromised",
        "proof-missing",
        "names-too-many",
        "bad-login",
        "not-the-holder",
        "bad-host",
        "bad-email",
        "name-not-allowed",
        "days-too-few",
        "device-has-one",
    ]
    assert isinstance(answer, Refused)
    assert answer.code == "door-not-allowed"
    assert all(reason.message in answer.message for reason in answer.reasons)


def test_every_rule_has_a_sentence_and_a_source() -> None:
    for rule in RULES:
        text = " ".join((rule.__doc__ or "").split())
        sentence, _, source = text.partition(" Source: ")
        assert sentence.endswith("."), rule.__name__
        assert source.endswith("."), rule.__name__
    assert len(set(RULES)) == len(RULES)


ODD = st.sampled_from(["", "ann", "a.example", "*.example.com", "192.0.2.7", "::1", "ä", "a@b", "x" * 70, "\0", "-", ".", "@", "*", "1.1", "xn--a", "A.B"])


@given(
    st.sampled_from(profiles.NAMES),
    ODD,
    st.lists(ODD, max_size=3),
    st.lists(ODD, max_size=2),
    st.lists(ODD, max_size=2),
    st.one_of(st.none(), st.integers()),
    st.one_of(st.none(), st.integers()),
    st.sampled_from([None, PEOPLE, CONSTRAINED]),
)
def test_any_request_ends_in_a_plan_or_in_reasons(
    profile: str, common_name: str, dns: list[str], ips: list[str], emails: list[str], days: int | None, not_after: int | None, issuer: IssuerFacts | None
) -> None:
    answer = ask(profile, Names(common_name, tuple(dns), tuple(ips), tuple(emails)), issuer=issuer, days=days, not_after=not_after)
    if isinstance(answer, Refused):
        assert answer.reasons
    else:
        chosen = profiles.built_in(profile)
        assert answer.not_before <= answer.not_after
        assert answer.not_after - answer.not_before < chosen.longest
        assert issuer is None or answer.not_after <= issuer.not_after
