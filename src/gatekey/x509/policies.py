"""Certificate policies along a path (RFC 5280 6.1), kept as the graph of RFC 9618: it grows with the certificates, not exponentially."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Malformed
from . import oids
from .certificate import Certificate
from .der import Reader, whole

ANY = oids.ANY_POLICY

#: Policies or mappings in one certificate.
MOST_POLICIES = 256


class Rules(NamedTuple):
    """What the user of a path demands (RFC 5280 6.1.1 c, e, f, g). The defaults demand nothing.

    `initial`: acceptable policies, dotted; `explicit`: one of them must be valid all along the path; the others forbid mapping and anyPolicy.
    """

    initial: frozenset[str] = frozenset((ANY,))
    explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


class Said(NamedTuple):
    """What one certificate says about policies. `policies` is None without the extension; the three numbers are None where they are missing."""

    policies: frozenset[str] | None
    mappings: tuple[tuple[str, str], ...]
    require_explicit: int | None
    inhibit_mapping: int | None
    inhibit_any: int | None


def read(certificate: Certificate) -> Said:
    """The four extensions of RFC 5280 4.2.1.4, 4.2.1.5, 4.2.1.11 and 4.2.1.14. Raises Malformed("bad-certificate")."""
    try:
        policies = _policies(certificate)
        mappings = _mappings(certificate)
        require, inhibit = _constraints(certificate)
        found = certificate.extension(oids.INHIBIT_ANY_POLICY)
        inhibit_any = _number(Reader(found.value)) if found else None
    except Malformed as problem:
        raise Malformed("bad-certificate", f"its policy extensions cannot be read: {problem.message}") from None
    return Said(policies, mappings, require, inhibit, inhibit_any)


def _policies(certificate: Certificate) -> frozenset[str] | None:
    found = certificate.extension(oids.CERTIFICATE_POLICIES)
    if not found:
        return None
    reader = whole(found.value)
    policies: list[str] = []
    while reader:
        information = reader.inside()
        policies.append(information.oid())
        if information:
            information.inside()  # qualifiers decide nothing
        information.finish()
    if not policies or len(policies) > MOST_POLICIES or len(set(policies)) != len(policies):
        raise Malformed("bad-der", f"{len(policies)} policies, none, too many or one twice")
    return frozenset(policies)


def _mappings(certificate: Certificate) -> tuple[tuple[str, str], ...]:
    found = certificate.extension(oids.POLICY_MAPPINGS)
    if not found:
        return ()
    reader = whole(found.value)
    mappings: list[tuple[str, str]] = []
    while reader:
        pair = reader.inside()
        mappings.append((pair.oid(), pair.oid()))
        pair.finish()
    if not mappings or len(mappings) > MOST_POLICIES:
        raise Malformed("bad-der", f"{len(mappings)} policy mappings, none or too many")
    return tuple(mappings)


def _constraints(certificate: Certificate) -> tuple[int | None, int | None]:
    found = certificate.extension(oids.POLICY_CONSTRAINTS)
    if not found:
        return None, None
    reader = whole(found.value)
    require = _number(reader, 0x80) if reader.peek() == 0x80 else None
    inhibit = _number(reader, 0x81) if reader.peek() == 0x81 else None
    reader.finish()
    if require is None and inhibit is None:
        raise Malformed("bad-der", "empty policy constraints")
    return require, inhibit


def _number(reader: Reader, tag: int = 0x02) -> int:
    value = reader.integer(tag)
    if value < 0:
        raise Malformed("bad-der", "a number of certificates below zero")
    return value


class _Node:
    """One policy at one depth: the policies that its children may have, and its parents at the depth above."""

    __slots__ = ("expected", "parents")

    def __init__(self, expected: set[str], parents: set[str]) -> None:
        self.expected = expected
        self.parents = parents


class PolicyGraph:
    """Walks down the path with `enter` for each certificate and `prepare` between them; at the end `leave` and `accepted`.

    `valid` turns false for good when a policy is required and none is left (RFC 5280 6.1.3 f), or when a mapping is forbidden (6.1.4 a).
    """

    def __init__(self, rules: Rules, length: int) -> None:
        """`length`: certificates from below the anchor to the target (n in RFC 5280 6.1)."""
        self._rules = rules
        self._explicit = 0 if rules.explicit else length + 1
        self._inhibit_any = 0 if rules.inhibit_any else length + 1
        self._mapping = 0 if rules.inhibit_mapping else length + 1
        self._levels: list[dict[str, _Node]] = [{ANY: _Node({ANY}, set())}]  # empty when no policy is valid any more
        self.problem = ""

    def enter(self, said: Said, *, self_issued: bool, last: bool) -> None:
        """RFC 5280 6.1.3 d to f."""
        if said.policies is None:
            self._levels = []
        elif self._levels:
            self._grow(said.policies, any_counts=self._inhibit_any > 0 or (self_issued and not last))
        if self._explicit == 0 and not self._levels:
            self._refuse("a certificate policy is required here, and none is valid all along the path")

    def _refuse(self, why: str) -> None:
        self.problem = self.problem or why

    def _grow(self, policies: frozenset[str], *, any_counts: bool) -> None:
        """6.1.3 d 1 to 3 in the form of RFC 9618 5.2."""
        above = self._levels[-1]
        level: dict[str, _Node] = {}
        for policy in sorted(policies - {ANY}):
            parents = {name for name, node in above.items() if policy in node.expected}
            if not parents and ANY in above:
                parents = {ANY}
            if parents:
                level[policy] = _Node({policy}, parents)
        if ANY in policies and any_counts:
            for policy in sorted(set().union(*(node.expected for node in above.values())) - set(level)):
                level[policy] = _Node({policy}, {name for name, node in above.items() if policy in node.expected})
        self._levels.append(level)
        self._prune()

    def _prune(self) -> None:
        """Drops nodes without children above the last level; without any node left there is no valid policy."""
        for depth in range(len(self._levels) - 2, -1, -1):
            needed = set().union(*(node.parents for node in self._levels[depth + 1].values()))
            self._levels[depth] = {name: node for name, node in self._levels[depth].items() if name in needed}
        if not self._levels[-1]:
            self._levels = []

    def prepare(self, said: Said, *, self_issued: bool) -> None:
        """RFC 5280 6.1.4 a, b and h to j."""
        if any(ANY in pair for pair in said.mappings):
            self._refuse("an issuer maps from or to anyPolicy, which RFC 5280 forbids")
        elif said.mappings and self._levels:
            self._map(said.mappings)
        if not self_issued:
            self._explicit = max(self._explicit - 1, 0)
            self._mapping = max(self._mapping - 1, 0)
            self._inhibit_any = max(self._inhibit_any - 1, 0)
        self._explicit = _lower(self._explicit, said.require_explicit)
        self._mapping = _lower(self._mapping, said.inhibit_mapping)
        self._inhibit_any = _lower(self._inhibit_any, said.inhibit_any)

    def _map(self, mappings: tuple[tuple[str, str], ...]) -> None:
        level = self._levels[-1]
        targets: dict[str, set[str]] = {}
        for policy, target in mappings:
            targets.setdefault(policy, set()).add(target)
        for policy, mapped in targets.items():
            if self._mapping == 0:
                level.pop(policy, None)
            elif policy in level:
                level[policy].expected = mapped
            elif ANY in level:
                level[policy] = _Node(mapped, {ANY})  # the anyPolicy of a level always hangs below that of the level above
        if self._mapping == 0:
            self._prune()

    def leave(self, said: Said) -> None:
        """RFC 5280 6.1.5 a, b and g, for the last certificate."""
        self._explicit = max(self._explicit - 1, 0)
        if said.require_explicit == 0:
            self._explicit = 0
        if self._explicit == 0 and not self.accepted():
            self._refuse("a certificate policy is required, and no acceptable one is valid all along the path")

    def accepted(self) -> frozenset[str]:
        """The user-constrained policy set: policies, in the words of the domain at the top, that are valid along the path and acceptable (RFC 9618 5.4)."""
        if not self._levels:
            return frozenset()
        authority = {name for level in self._levels[1:] for name, node in level.items() if name != ANY and ANY in node.parents}
        if ANY in self._levels[-1]:
            authority.add(ANY)
        if ANY in self._rules.initial:
            return frozenset(authority)
        return self._rules.initial if ANY in authority else frozenset(authority & self._rules.initial)


def _lower(counter: int, given: int | None) -> int:
    return counter if given is None else min(counter, given)
