"""What a profile means, rule by rule: what must be so, where that is from, and what this profile says about it. Pure, like the rules themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..model.instants import DAY, span
from ..model.keytypes import RSA_MOST_BITS, display
from ..model.profile import RSA_LEAST_BITS, Profile
from .rules import EXPONENT_LEAST, PROOFS, RULES, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..errors import Reason


class Explained(NamedTuple):
    """One rule. `must`: what must be so. `source`: where that is from. `says`: what the profile says about it, or that it says nothing."""

    rule: str
    must: str
    source: str
    says: str


#: What stands where a profile has no word on a rule.
SAME = "the same for every profile"


def explain(profile: Profile) -> list[Explained]:
    """Every rule in the order in which it is asked."""
    return [Explained(rule.__name__.replace("_", " "), *sentences(rule), WORDS.get(rule.__name__, _same)(profile)) for rule in RULES]


def sentences(rule: Callable[[Case], Iterator[Reason]]) -> tuple[str, str]:
    """What a rule's docstring says: what must be so, and its source."""
    must, _, source = " ".join((rule.__doc__ or "").split()).partition(" Source: ")
    return must, source.removesuffix(".")


def outline(profile: Profile) -> list[tuple[str, str]]:
    """What every certificate under this profile is, as lines of (name, text). The extensions follow from it; a profile does not list them."""
    lines = [
        ("about", profile.about),
        ("kind", f"{profile.kind}, of a {profile.holder_kind}" if profile.kind != "ca" else "an authority"),
        ("issued by", profile.issuer or {"client": "people", "server": "servers"}.get(profile.kind, "whoever the request says")),
        ("lives", f"{words(profile.validity)}; {words(profile.longest)} at most; begins {words(profile.backdate)} before it is made"),
        ("key usage", _key_usage(profile)),
        ("extended key usage", ", ".join((*profile.extended, *profile.extra)) or "none"),
        ("revocation", _revocation(profile)),
    ]
    if profile.kind == "ca":
        lines.append(("below it", "any number of authorities" if profile.path_length is None else _below(profile.path_length)))
    return lines


def words(seconds: int) -> str:
    """A span for people: `365 days`, `10h`."""
    days, rest = divmod(seconds, DAY)
    return span(seconds) if rest else f"{days} day{'' if days == 1 else 's'}"


def _below(count: int) -> str:
    return "no further authority" if count == 0 else f"{count} further authorit{'y' if count == 1 else 'ies'} in a row"


def _key_usage(profile: Profile) -> str:
    usual, rsa = profile.key_usage("p256"), profile.key_usage("rsa-2048")
    more = f"; with an RSA key also {', '.join(word for word in rsa if word not in usual)}" if rsa != usual else ""
    return f"{', '.join(usual)} (critical){more}"


def _revocation(profile: Profile) -> str:
    if profile.no_revocation:
        return "nobody publishes it (noRevAvail, RFC 9608); our own deny list and `gatekey verify` still know it"
    if profile.kind == "ocsp":
        return "not asked for (id-pkix-ocsp-nocheck, RFC 6960 4.2.2.2.1)"
    return "by CRL and deny list; the certificate says where the CRL is when the authority has a URL"


def _same(_: Profile) -> str:
    return SAME


def _patterns(patterns: tuple[str, ...]) -> str:
    return "any" if "*" in patterns else ", ".join(patterns) or "none"


def _keys(profile: Profile) -> str:
    return ", ".join(f"{display(entry)} or more" if entry.startswith("rsa-") else display(entry) for entry in profile.keys)


def _names(profile: Profile) -> str:
    rules = profile.names
    return f"hosts: {_patterns(rules.host)}; addresses: {_patterns(rules.ip)}; e-mail addresses: {_patterns(rules.email)}"


def _common_name(profile: Profile) -> str:
    if profile.subject == "first-host":
        return "does not apply: the subject is the first host or address"
    what = "the authority's name" if profile.kind == "ca" else "a login"
    return f"{what}; {_patterns(profile.names.login)}"


def _only(condition: bool, says: str) -> str:
    return says if condition else "does not apply to this kind"


#: Rule -> what a profile says about it. A rule that is not here asks nothing of the profile; a test reads the rules to make sure.
WORDS: dict[str, Callable[[Profile], str]] = {
    "door_is_a_way": lambda p: ", ".join(p.ways),
    "issuer_lives": lambda p: f"for {words(min(DAY, p.validity))} more at least",
    "issuer_may_sign_it": lambda p: _below(p.path_length) if p.path_length is not None else "it is no authority, so somebody else signs it",
    "key_is_known": _keys,
    "key_type_is_allowed": _keys,
    "rsa_is_strong_enough": lambda p: f"{_same(p)}: {RSA_LEAST_BITS} bits",
    "rsa_is_not_a_burden": lambda p: f"{_same(p)}: {RSA_MOST_BITS} bits",
    "rsa_exponent_is_good": lambda p: f"{_same(p)}: {EXPONENT_LEAST} or more, odd",
    "key_is_no_authoritys": lambda p: "an authority's own key may be certified again" if p.kind == "ca" else "no authority's key",
    "possession_is_proved": lambda p: f"{_same(p)}: {', '.join(PROOFS)}",
    "names_are_there": lambda p: _only(p.subject == "first-host", "at least one host or address"),
    "names_are_few": lambda p: f"{p.names.max} at most",
    "common_name_is_good": _common_name,
    "common_name_is_the_holders": lambda p: _only(p.kind == "client" and p.subject == "common-name", "the common name is the login"),
    "common_name_is_among_the_names": lambda p: _only(p.subject == "first-host", "the common name is the first host or address, or left out"),
    "hosts_are_good": lambda p: "wildcards are allowed" if p.names.wildcard else "no wildcards",
    "names_are_allowed": _names,
    "common_name_fits_the_issuer": lambda p: _only(p.kind != "ca", _same(p)),
    "validity_is_a_day_at_least": lambda p: "it may have ended" if p.kind == "probe" else f"{words(min(DAY, p.validity))} or more",
    "validity_is_not_too_long": lambda p: f"{words(p.validity)} by default, {words(p.longest)} at most",
    "validity_is_within_the_issuers": lambda p: f"{_same(p)}: a default is cut to fit, an end that is asked for is refused",
    "device_has_one": lambda p: _only(p.kind == "client", "one live certificate per holder and device"),
}
