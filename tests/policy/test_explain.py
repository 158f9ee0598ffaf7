"""A profile explained: every rule has its sentence and its source, and what a profile says about it is what the rule asks."""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest

from gatekey import profiles
from gatekey.model.profile import Profile, parse_profile
from gatekey.policy.explain import SAME, WORDS, explain, outline, sentences, words
from gatekey.policy.rules import RULES, Case

#: What a rule can read of the profile: directly, or by what a Case makes of it.
OF_THE_PROFILE = {"profile", "least", "start"}


def reads_the_profile(rule: object) -> bool:
    """Whether a rule's own lines ask the profile (a hint may: `_make_another` names a key that would do)."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(rule)))  # type: ignore[arg-type]  # our own functions
    return any(isinstance(node, ast.Attribute) and node.attr in OF_THE_PROFILE for node in ast.walk(tree))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_has_a_sentence_and_a_source(rule: object) -> None:
    must, source = sentences(rule)  # type: ignore[arg-type]
    assert must.endswith(".")
    assert must[0].isupper()
    assert source
    assert "Source:" not in must + source


def test_rules_that_ask_the_profile_are_told_in_its_words() -> None:
    asking = {rule.__name__ for rule in RULES if reads_the_profile(rule)}
    assert asking - set(WORDS) == set()
    assert set(WORDS) <= {rule.__name__ for rule in RULES}
    assert "profile" in Case._fields
    assert all(hasattr(Case, name) for name in OF_THE_PROFILE)


@pytest.mark.parametrize("name", profiles.NAMES)
def test_every_profile_can_be_explained(name: str) -> None:
    profile = profiles.built_in(name)
    found = explain(profile)
    assert [one.rule.replace(" ", "_") for one in found] == [rule.__name__ for rule in RULES]
    assert all(one.says for one in found)
    assert all(text for _, text in outline(profile))


def says(profile: Profile, rule: str) -> str:
    return next(one.says for one in explain(profile) if one.rule == rule)


def test_what_a_profile_says() -> None:
    client, short, server, people = (profiles.built_in(name) for name in ("client", "client-short", "server", "people"))
    assert says(client, "validity is not too long") == "365 days by default, 3650 days at most"
    assert says(short, "validity is not too long") == "10h by default, 1 day at most"
    assert says(server, "hosts are good") == "wildcards are allowed"
    assert says(client, "hosts are good") == "no wildcards"
    assert says(client, "names are allowed") == "hosts: none; addresses: none; e-mail addresses: any"
    assert says(people, "issuer may sign it") == "no further authority"
    assert says(people, "door is a way") == "ceremony"
    assert says(client, "key was never compromised") == SAME
    assert says(server, "common name is the holders") == "does not apply to this kind"
    assert dict(outline(server))["key usage"] == "digitalSignature (critical); with an RSA key also keyEncipherment"
    assert dict(outline(client))["key usage"] == "digitalSignature (critical)"
    assert "RFC 9608" in dict(outline(short))["revocation"]
    assert dict(outline(profiles.built_in("people-root")))["below it"] == "1 further authority in a row"
    assert dict(outline(profiles.built_in("device")))["kind"] == "client, of a device"


def test_patterns_are_told() -> None:
    text = '[profile.p]\nabout = "x"\nusage = ["client-auth"]\nvalidity = "90m"\nkeys = ["rsa-3072", "p256"]\n'
    text += 'names = { login = ["ann", "*.b.example"], max = 0 }\n'
    profile = parse_profile("p", text, source="p.toml")
    assert says(profile, "common name is good") == "a login; ann, *.b.example"
    assert says(profile, "key type is allowed") == "RSA 3072 or more, EC P-256"
    assert says(profile, "names are few") == "0 at most"
    assert dict(outline(profile))["lives"] == "90m; 90m at most; begins 1h before it is made"
    assert (words(86400), words(2 * 86400), words(3600)) == ("1 day", "2 days", "1h")
