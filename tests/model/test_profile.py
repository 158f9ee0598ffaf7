"""Profiles as people write them: checked once, all mistakes at once, and a canonical form that does not move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Misconfigured
from gatekey.model.instants import DAY, HOUR
from gatekey.model.profile import NameRules, Profile, canonical, nearest, parse_profile

GOOD = """
[profile.visitor]
about    = "A visitor's tablet"
usage    = ["client-auth"]
issuer   = "people"
validity = "30d"
longest  = "60d"
keys     = ["p256", "rsa-3072"]
names    = { email = ["*@example.com"], login = ["visitor-1", "*.example.com"], max = 1 }
ways     = ["cli", "est"]
"""


def parse(text: str, name: str = "visitor") -> Profile:
    return parse_profile(name, text, source=f"{name}.toml")


def mistakes(text: str, name: str = "visitor") -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        parse(text, name)
    assert caught.value.code == "bad-profile"
    assert caught.value.exit_code == 3
    return list(caught.value.facts.get("mistakes", [caught.value.message]))


def test_a_profile_is_read() -> None:
    profile = parse(GOOD)
    assert profile == Profile(
        name="visitor",
        about="A visitor's tablet",
        kind="client",
        issuer="people",
        validity=30 * DAY,
        longest=60 * DAY,
        backdate=HOUR,
        keys=("p256", "rsa-3072"),
        subject="common-name",
        names=NameRules(email=("*@example.com",), login=("visitor-1", "*.example.com"), max=1),
        extended=("clientAuth",),
        ways=("cli", "est"),
        sha256=profile.sha256,
    )
    assert len(profile.sha256) == 64


def test_defaults_are_good() -> None:
    profile = parse('[profile.visitor]\nabout = "x"\nusage = ["server-auth"]\nvalidity = "30d"\nkeys = ["p256"]\nnames = { host = ["*"] }')
    assert (profile.kind, profile.subject, profile.longest, profile.backdate, profile.ways) == ("server", "first-host", 30 * DAY, HOUR, ("cli",))
    assert profile.names == NameRules(host=("*",))
    assert not profile.names.wildcard


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('abuot = "x"', "profile.visitor.abuot is not a known key; did you mean 'about'?"),
        ('valdity = "3d"', "did you mean 'validity'?"),
        ('zzz = "3d"', "profile.visitor.zzz is not a known key; known are"),
        ('about = ""', "profile.visitor.about is empty"),
        ('longest = ""', "profile.visitor.longest is ''; write a number and a unit"),
        ("about = 3", "profile.visitor.about is 3; it must be a text"),
        ('about = "a\\u0007b"', "profile.visitor.about has control characters"),
        ('validity = "1 year"', "profile.visitor.validity is '1 year'; write a number and a unit"),
        ('validity = "0d"', "profile.visitor.validity is '0d'; write a number and a unit"),
        ('validity = "30s"', "profile.visitor.validity is '30s'; 1m to 36500d are allowed"),
        ("validity = 30", "profile.visitor.validity is 30; it must be a text"),
        ('longest = "1d"', "profile.visitor.longest is '1d', less than validity = '30d'"),
        ('backdate = "9d"', "profile.visitor.backdate is '9d'; 1m to 3d are allowed"),
        ("keys = []", "profile.visitor.keys is empty"),
        ('keys = "p256"', "profile.visitor.keys is 'p256'; it must be a list of texts"),
        ('keys = ["ec:p256"]', "has 'ec:p256', which is not known; did you mean 'p256'?"),
        ('keys = ["rsa-1024"]', "has 'rsa-1024', which is not allowed; RSA keys have 2048 to 8192 bits"),
        ('keys = ["rsa-16384"]', "RSA keys have 2048 to 8192 bits"),
        ('keys = ["p256", "p256"]', "profile.visitor.keys has 'p256' twice"),
        ("keys = [256]", "profile.visitor.keys has 256, which is not a text"),
        ('usage = ["client-auht"]', "has 'client-auht', which is not known; did you mean 'client-auth'?"),
        ('usage = ["client-auth", "server-auth"]', "a certificate is for one side of the door only"),
        ("usage = []", "profile.visitor.usage is empty"),
        ('kind = "ca"', "profile.visitor.kind is 'ca'; with this usage it is client or probe"),
        ('subject = "common-nmae"', "profile.visitor.subject is 'common-nmae', which is not known; did you mean 'common-name'?"),
        ('subject = "first-host"', "allows neither hosts nor addresses, which subject = 'first-host' needs"),
        ('ways = ["cil"]', "has 'cil', which is not known; did you mean 'cli'?"),
        ("names = 3", "profile.visitor.names is 3; it must be a table"),
        ("names = { mail = [] }", "profile.visitor.names.mail is not a known key; did you mean 'email'?"),
        ("names = { max = 101 }", "profile.visitor.names.max is 101; 0 to 100 are allowed"),
        ("names = { max = true }", "profile.visitor.names.max is True; it must be a whole number"),
        ("names = { wildcard = 1 }", "profile.visitor.names.wildcard is 1; it must be true or false"),
        ('names = { host = ["Example.COM"] }', "has 'Example.COM', which is not a pattern: 'Example.COM' has upper-case letters"),
        ('names = { email = ["example.com"] }', "has 'example.com', which is not a pattern; write ann@example.com, *@example.com or *"),
        ('names = { ip = ["10.0.0.1/8"] }', "has '10.0.0.1/8', which is not a pattern: 10.0.0.1/8 has host bits set"),
        ('names = { login = ["ä"] }', "has 'ä', which is not a pattern"),
        ('extra = ["smartcard"]', "has 'smartcard', which is not an OID"),
        ('extra = ["1.3.6.1.5.5.7.3.1"]', "has '1.3.6.1.5.5.7.3.1', which is given by `usage` or not at all"),
        ('extra = ["2.5.29.37.0"]', "has '2.5.29.37.0', which is given by `usage` or not at all"),
        ("path-length = 1", "profile.visitor.path-length is not a known key"),
        ("no-revocation = true", "profile.visitor.validity is '30d'; 1m to 1d are allowed"),
        ('issuer = "servers"', "profile.visitor.issuer is 'servers', which does not certify clients; leave it out, or write 'people'"),
        ('issuer = "people-root"', "profile.visitor.issuer is 'people-root', which does not certify clients"),
        ('holder = "persno"', "profile.visitor.holder is 'persno', which is not known; did you mean 'person'?"),
        ('holder = "server"', "profile.visitor.holder is 'server', which is not known"),
        ("no-revocation = 1", "profile.visitor.no-revocation is 1; it must be true or false"),
    ],
)
def test_each_mistake_has_its_words(wrong: str, said: str) -> None:
    key = wrong.partition(" ")[0]
    lines = [line for line in GOOD.splitlines() if not line.startswith(key)]
    found = mistakes("\n".join([*lines, wrong]))
    assert any(said in one for one in found), found


@pytest.mark.parametrize("key", ["about", "usage", "validity", "keys"])
def test_what_is_missing_is_said(key: str) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(key))
    assert f"profile.visitor.{key} is missing" in mistakes(text)


def test_all_mistakes_at_once() -> None:
    found = mistakes('[profile.visitor]\nabuot = 1\nkeys = ["p25"]\nvalidity = "x"\nnames = { max = -1, mail = 3 }\n[other]\n[profile.guest]\n')
    for piece in (
        "[profile.guest] does not belong",
        "other is not a known table",
        "abuot",
        "'p25'",
        "'x'",
        "max is -1",
        "mail",
        "about is missing",
        "usage is missing",
    ):
        assert any(piece in one for one in found), (piece, found)


def test_the_file_holds_its_own_profile_only() -> None:
    assert mistakes("[profile.guest]\nabout = 'x'") == ["[profile.visitor] is missing"]
    assert "[profile.visitor] is missing" in mistakes("")
    assert "[profile.visitor] is missing" in mistakes("profile = 3")
    assert "not TOML" in mistakes("[profile.visitor\n")[0]
    assert "cannot be a profile's name" in mistakes(GOOD, "Visitor!")[0]
    assert mistakes("profile.visitor = 3") == ["profile.visitor is not a table", *mistakes("[profile.visitor]")]


def test_servers_and_unrevocable_ones_have_a_ceiling() -> None:
    server = '[profile.s]\nabout = "x"\nusage = ["server-auth"]\nkeys = ["p256"]\nnames = { host = ["*"] }\n'
    assert parse(server + 'validity = "397d"', "s").longest == 397 * DAY
    assert any("validity is '398d'; 1m to 397d are allowed" in one for one in mistakes(server + 'validity = "398d"', "s"))
    assert parse(server + 'validity = "1d"\nno-revocation = true', "s").no_revocation
    ca = '[profile.c]\nabout = "x"\nusage = ["sign-certificates"]\nkeys = ["p256"]\nvalidity = "1d"\n'
    assert parse(ca, "c").path_length == 0
    assert parse(ca + "path-length = 2", "c").path_length == 2
    assert any("not for authorities" in one for one in mistakes(ca + "no-revocation = true", "c"))
    assert any("extra is not for authorities" in one for one in mistakes(ca + 'extra = ["1.2.3.4"]', "c"))
    assert any("path-length is 9; 0 to 8" in one for one in mistakes(ca + "path-length = 9", "c"))


def test_holders_follow_the_kind() -> None:
    base = '[profile.p]\nabout = "x"\nkeys = ["p256"]\nvalidity = "1d"\nnames = { host = ["*"] }\n'
    for usage, kind in [("server-auth", "server"), ("ocsp-signing", "service"), ("sign-certificates", "authority"), ("client-auth", "person")]:
        assert parse(base + f'usage = ["{usage}"]', "p").holder_kind == kind
    assert parse(GOOD + 'holder = "device"').holder_kind == "device"
    assert "holder = 'device'" in canonical(parse(GOOD + 'holder = "device"'))
    assert parse(GOOD + 'holder = "person"').sha256 == parse(GOOD).sha256
    assert any("profile.p.holder is not a known key" in one for one in mistakes(base + 'usage = ["server-auth"]\nholder = "person"', "p"))


def test_each_side_has_its_issuers_and_authorities_their_ceremonies() -> None:
    server = '[profile.s]\nabout = "x"\nusage = ["server-auth"]\nkeys = ["p256"]\nvalidity = "1d"\nnames = { host = ["*"] }\n'
    assert any("'people', which does not certify servers; leave it out, or write 'servers'" in one for one in mistakes(server + 'issuer = "people"', "s"))
    assert parse(server + 'issuer = "servers-2030"', "s").issuer == "servers-2030"
    assert parse(server + 'issuer = "people"\nkind = "probe"', "s").issuer == "people"
    ca = '[profile.c]\nabout = "x"\nusage = ["sign-certificates"]\nkeys = ["p256"]\nvalidity = "1d"\n'
    assert parse(ca, "c").ways == ("ceremony",)
    assert any("profile.c.ways is not for authorities" in one for one in mistakes(ca + 'ways = ["cli"]', "c"))


def test_a_key_is_not_called_unknown_where_the_usage_is() -> None:
    found = mistakes(GOOD.replace("client-auth", "client") + 'holder = "device"\npath-length = 1\n')
    assert len(found) == 1
    assert "did you mean 'client-auth'" in found[0]


def test_key_usage_follows_kind_and_key() -> None:
    base = '[profile.p]\nabout = "x"\nkeys = ["p256"]\nvalidity = "1d"\nnames = { host = ["*"] }\n'
    assert parse(base + 'usage = ["sign-certificates"]', "p").key_usage("p256") == ("keyCertSign", "cRLSign")
    assert parse(base + 'usage = ["server-auth"]', "p").key_usage("rsa-2048") == ("digitalSignature", "keyEncipherment")
    assert parse(base + 'usage = ["server-auth"]', "p").key_usage("p256") == ("digitalSignature",)
    assert parse(base + 'usage = ["client-auth"]', "p").key_usage("rsa-2048") == ("digitalSignature",)


def test_the_canonical_form_forgets_order_comments_and_defaults() -> None:
    lines = GOOD.strip().splitlines()
    shuffled = "\n".join(["# a comment", lines[0], *reversed(lines[1:]), 'backdate = "60m"'])
    assert parse(shuffled).sha256 == parse(GOOD).sha256
    assert parse(GOOD.replace("A visitor's tablet", "Somebody")).sha256 == parse(GOOD).sha256
    for old, new in [('"60d"', '"61d"'), ("max = 1", "max = 2"), ('"est"', '"scep"'), ('"p256"', '"p384"'), ('"people"', '"others"')]:
        assert parse(GOOD.replace(old, new)).sha256 != parse(GOOD).sha256
    assert canonical(parse(GOOD)).splitlines() == [
        "backdate = 3600",
        "extended = ['clientAuth']",
        "issuer = 'people'",
        "keys = ['p256', 'rsa-3072']",
        "kind = 'client'",
        f"longest = {60 * DAY}",
        "name = 'visitor'",
        "names.email = ['*@example.com']",
        "names.login = ['visitor-1', '*.example.com']",
        "names.max = 1",
        "subject = 'common-name'",
        f"validity = {30 * DAY}",
        "ways = ['cli', 'est']",
    ]


def test_nearest() -> None:
    assert nearest("clinet", ("server", "client")) == "client"
    assert nearest("qqq", ("server", "client")) == ""
    assert nearest("x", ()) == ""


KEYS = (
    "about",
    "usage",
    "kind",
    "issuer",
    "validity",
    "longest",
    "backdate",
    "keys",
    "subject",
    "names",
    "ways",
    "extra",
    "no-revocation",
    "path-length",
    "holder",
    "what",
)
VALUES = st.sampled_from(
    ["3", "true", '"365d"', '"client-auth"', '["client-auth"]', '["p256"]', "{ max = 3 }", "{ host = ['*'] }", "[[1]]", "1.5", "1979-05-27", '"first-host"']
)


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), unique_by=lambda pair: pair[0]))
def test_any_table_ends_in_a_profile_or_in_words(lines: list[tuple[str, str]]) -> None:
    text = "[profile.visitor]\n" + "\n".join(f"{key} = {value}" for key, value in lines)
    try:
        profile = parse(text)
    except Misconfigured as wrong:
        assert wrong.facts["mistakes"]
    else:
        assert profile.keys
        assert 0 < profile.validity <= profile.longest


@given(st.text(max_size=200))
def test_any_text_ends_in_words(text: str) -> None:
    for wrong in (text, "[profile.visitor]\n" + text):
        try:
            parse(wrong)
        except GatekeyError as error:
            assert error.code == "bad-profile"


BREAKING = ["x = " + "9" * 5000, "x = " + "[" * 20000, "x = 1979-13-40", "\0", '"\\ud800" = 1', "x = 1e99999", "[[profile]]", "profile.a.b.c = 1"]


@pytest.mark.parametrize("text", BREAKING)
def test_what_breaks_readers_of_toml_ends_in_words(text: str) -> None:
    assert mistakes(text)
