"""Certificate policies: the graph stays small where the tree of RFC 5280 explodes, and the extensions are read strictly. PKITS has the many cases."""

from __future__ import annotations

import time

import pytest

from gatekey.errors import Malformed
from gatekey.x509 import der, oids
from gatekey.x509.certificate import Certificate, Extension, read_certificate
from gatekey.x509.policies import ANY, PolicyGraph, Rules, Said, read
from kit import pki

NOTHING = Said(None, (), None, None, None)


def said(*policies: str, mappings: tuple[tuple[str, str], ...] = (), explicit: int | None = None) -> Said:
    return Said(frozenset(policies), mappings, explicit, None, None)


def walk(rules: Rules, *steps: Said) -> PolicyGraph:
    graph = PolicyGraph(rules, len(steps))
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        graph.enter(step, self_issued=False, last=last)
        if last:
            graph.leave(step)
        else:
            graph.prepare(step, self_issued=False)
    return graph


def test_nothing_demanded_nothing_said() -> None:
    graph = walk(Rules(), NOTHING, NOTHING)
    assert graph.problem == ""
    assert graph.accepted() == frozenset()


def test_a_demand_without_policies() -> None:
    assert "required" in walk(Rules(explicit=True), NOTHING, NOTHING).problem


def test_any_policy_stands_for_what_is_asked() -> None:
    graph = walk(Rules(frozenset(("1.2.3",)), explicit=True), said(ANY), said(ANY))
    assert graph.problem == ""
    assert graph.accepted() == {"1.2.3"}


def test_a_ca_can_require_a_policy_below_itself() -> None:
    assert walk(Rules(), said("1.2.3", explicit=0), NOTHING).problem
    assert walk(Rules(), said("1.2.3", explicit=2), said("1.2.3"), NOTHING).problem
    assert not walk(Rules(), said("1.2.3", explicit=3), said("1.2.3"), NOTHING).problem
    assert not walk(Rules(), said("1.2.3", explicit=0), said("1.2.3")).problem


def test_mappings_lead_back_to_the_words_of_the_top() -> None:
    steps = (said("1.1", mappings=(("1.1", "2.1"),)), said("2.1", mappings=(("2.1", "2.2"),)), said("2.2"))
    assert walk(Rules(frozenset(("1.1",)), explicit=True), *steps).accepted() == {"1.1"}
    assert walk(Rules(frozenset(("2.2",)), explicit=True), *steps).problem


def test_no_explosion() -> None:
    """Every policy is mapped to every other one at each step: a tree would have 40 to the 20th nodes (RFC 9618 1)."""
    policies = [f"1.2.{number}" for number in range(40)]
    mappings = tuple((one, other) for one in policies for other in policies)
    step = said(*policies, mappings=mappings)
    started = time.process_time()
    graph = walk(Rules(explicit=True), *([step] * 20), said(*policies))
    assert graph.problem == ""
    assert graph.accepted() == set(policies)
    assert time.process_time() - started < 5


def extended(dotted: str, value: bytes) -> Certificate:
    return read_certificate(pki.make_pki().client("ann").der)._replace(extensions=(Extension(dotted, False, value),))


def listed(*policies: str) -> bytes:
    return der.seq(*(der.seq(der.oid(policy)) for policy in policies))


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        (oids.CERTIFICATE_POLICIES, der.seq()),
        (oids.CERTIFICATE_POLICIES, listed("1.2.3", "1.2.3")),
        (oids.CERTIFICATE_POLICIES, listed(*(f"1.2.{number}" for number in range(300)))),
        (oids.CERTIFICATE_POLICIES, listed("1.2.3") + b"\0"),
        (oids.CERTIFICATE_POLICIES, b""),
        (oids.POLICY_MAPPINGS, der.seq()),
        (oids.POLICY_MAPPINGS, der.seq(der.seq(der.oid("1.2.3")))),
        (oids.POLICY_CONSTRAINTS, der.seq()),
        (oids.POLICY_CONSTRAINTS, der.seq(der.tlv(0x80, b"\xff"))),
        (oids.INHIBIT_ANY_POLICY, der.integer(-1)),
        (oids.INHIBIT_ANY_POLICY, der.null()),
    ],
)
def test_bad_extensions_are_told(dotted: str, value: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read(extended(dotted, value))
    assert "policy extensions" in caught.value.message


def test_good_extensions_are_read() -> None:
    qualified = der.seq(der.seq(der.oid("1.2.3"), der.seq(der.seq(der.oid("1.3.6.1.5.5.7.2.1"), der.tlv(der.IA5, b"https://cps.example/")))))
    assert read(extended(oids.CERTIFICATE_POLICIES, qualified)).policies == frozenset(("1.2.3",))
    assert read(extended(oids.POLICY_MAPPINGS, der.seq(der.seq(der.oid("1.2"), der.oid("1.3"))))).mappings == (("1.2", "1.3"),)
    assert read(extended(oids.POLICY_CONSTRAINTS, der.seq(der.tlv(0x80, b"\x00"), der.tlv(0x81, b"\x02")))) == Said(None, (), 0, 2, None)
    assert read(extended(oids.INHIBIT_ANY_POLICY, der.integer(3))).inhibit_any == 3
