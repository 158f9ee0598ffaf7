"""NIST's Public Key Interoperability Test Suite: every case with its expected and its found result; what differs is listed with its reason.

All CA certificates and all CRLs of the suite are thrown into one pool, so that looking for the path is tried too. What a case expects stands in its file's
name; for the cases on policies, whose result depends on what the user of the path demands, it stands in the tables below (NISTIR PKITS 1.0.1, 4.8 to 4.12).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import cryptography_vectors
import pytest

from gatekey.errors import GatekeyError
from gatekey.x509.certificate import Certificate, read_certificate
from gatekey.x509.crl import Crl, read_crl
from gatekey.x509.path import Verdict, validate
from gatekey.x509.policies import ANY, Rules

DATA = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
#: 2020-01-01: inside the dates of the suite (2010 to 2030).
AT = 1_577_836_800
TARGETS = sorted(path.stem for path in (DATA / "certs").iterdir() if path.stem.endswith("EE"))

#: Names without Valid or Invalid in front, under the default demands (any policy, none required).
UNNAMED = {
    "AllCertificatesNoPoliciesTest2EE": True,
    "AllCertificatesSamePoliciesTest10EE": True,
    "AllCertificatesSamePoliciesTest13EE": True,
    "AllCertificatesanyPolicyTest11EE": True,
    "AnyPolicyTest14EE": True,
    "CPSPointerQualifierTest20EE": True,
    "DifferentPoliciesTest12EE": False,
    "DifferentPoliciesTest3EE": True,
    "DifferentPoliciesTest4EE": False,
    "DifferentPoliciesTest5EE": False,
    "DifferentPoliciesTest7EE": False,
    "DifferentPoliciesTest8EE": False,
    "DifferentPoliciesTest9EE": False,
    "OverlappingPoliciesTest6EE": True,
    "UserNoticeQualifierTest15EE": True,
    "UserNoticeQualifierTest16EE": True,
    "UserNoticeQualifierTest17EE": True,
    "UserNoticeQualifierTest18EE": True,
    "UserNoticeQualifierTest19EE": True,
    "inhibitAnyPolicyTest3EE": True,
}

#: Where we decide otherwise than NIST, and why.
DEVIATIONS = {
    "ValidDSASignaturesTest4EE": "DSA is not accepted: FIPS 186-5 has withdrawn it, and no browser or server of today takes it",
    "ValidDSAParameterInheritanceTest5EE": "DSA is not accepted, and no key may inherit its parameters from another certificate",
}

#: Certificates and CRLs of the suite that are refused when they are read, so that no case ever sees them.
UNREADABLE = {
    "BadSignedCACert": "its signature, changed by NIST to be wrong, is no whole number of bytes any more",
    "BadCRLSignatureCACRL": "its signature, changed by NIST to be wrong, is no whole number of bytes any more",
    "InvalidDSASignatureTest6EE": "its signature, changed by NIST to be wrong, is no whole number of bytes any more",
}

#: Which check must find the fault, by what stands in the name. Read in order; the rest is about the path.
CULPRITS = (
    ("CRLnextUpdate", "revocation"),
    ("BasicSelfIssuedCRLSigningKeyTest8", "path"),
    ("notAfter", "dates"),
    ("notBefore", "dates"),
    *((word, "revocation") for word in ("CRL", "cRL", "Revoked", "onlyContains", "onlySomeReasons", "distributionPoint", "SerialNumber")),
    ("BasicSelfIssuedNewWithOldTest5", "revocation"),
    ("BasicSelfIssuedOldWithNewTest2", "revocation"),
)


class Case(NamedTuple):
    """One demand on one target: policies, whether one is required, whether mapping or anyPolicy is forbidden; and what must come of it."""

    target: str
    initial: str
    explicit: bool
    inhibit_mapping: bool
    inhibit_any: bool
    expected: bool

    @property
    def rules(self) -> Rules:
        initial = frozenset(policy(number) for number in self.initial) if self.initial else frozenset((ANY,))
        return Rules(initial, self.explicit, self.inhibit_mapping, self.inhibit_any)


def policy(number: str) -> str:
    return f"2.16.840.1.101.3.2.1.48.{number}"


def case(target: str, initial: str, expected: bool, *, explicit: bool = False, inhibit_mapping: bool = False, inhibit_any: bool = False) -> Case:
    return Case(target + "EE", initial, explicit, inhibit_mapping, inhibit_any, expected)


POLICY_CASES = (
    # 4.8.1: all certificates with the same policy
    case("ValidCertificatePathTest1", "", True, explicit=True),
    case("ValidCertificatePathTest1", "1", True, explicit=True),
    case("ValidCertificatePathTest1", "2", False, explicit=True),
    case("ValidCertificatePathTest1", "12", True, explicit=True),
    # 4.8.2: no policies at all
    case("AllCertificatesNoPoliciesTest2", "", False, explicit=True),
    # 4.8.3 to 4.8.6: different and overlapping policies
    case("DifferentPoliciesTest3", "", False, explicit=True),
    case("DifferentPoliciesTest3", "12", False, explicit=True),
    case("OverlappingPoliciesTest6", "1", True),
    case("OverlappingPoliciesTest6", "2", False),
    # 4.8.10 to 4.8.14: several policies, anyPolicy
    case("AllCertificatesSamePoliciesTest10", "1", True),
    case("AllCertificatesSamePoliciesTest10", "2", True),
    case("AllCertificatesanyPolicyTest11", "1", True),
    case("AllCertificatesSamePoliciesTest13", "1", True),
    case("AllCertificatesSamePoliciesTest13", "2", True),
    case("AllCertificatesSamePoliciesTest13", "3", True),
    case("AnyPolicyTest14", "1", True),
    case("AnyPolicyTest14", "2", False),
    # 4.8.18, 4.8.20: qualifiers decide nothing
    case("UserNoticeQualifierTest18", "1", True),
    case("UserNoticeQualifierTest18", "2", True),
    case("CPSPointerQualifierTest20", "1", True, explicit=True),
    # 4.10: mappings
    case("ValidPolicyMappingTest1", "1", True),
    case("ValidPolicyMappingTest1", "2", False),
    case("ValidPolicyMappingTest1", "", False, inhibit_mapping=True),
    case("InvalidPolicyMappingTest2", "", False, inhibit_mapping=True),
    case("ValidPolicyMappingTest3", "1", False),
    case("ValidPolicyMappingTest3", "2", True),
    case("ValidPolicyMappingTest5", "1", True),
    case("ValidPolicyMappingTest5", "6", False),
    case("ValidPolicyMappingTest6", "1", True),
    case("ValidPolicyMappingTest6", "6", False),
    case("ValidPolicyMappingTest12", "1", True),
    case("ValidPolicyMappingTest12", "2", True),
    # 4.12.3: inhibitAnyPolicy
    case("inhibitAnyPolicyTest3", "", False, inhibit_any=True),
)


@functools.cache
def suite() -> tuple[dict[str, Certificate], tuple[Crl, ...], frozenset[str]]:
    """All certificates by name, all CRLs, and the names of those that cannot be read."""
    certificates: dict[str, Certificate] = {}
    crls: list[Crl] = []
    unreadable: set[str] = set()
    for path in sorted((DATA / "certs").iterdir()):
        try:
            certificates[path.stem] = read_certificate(path.read_bytes())
        except GatekeyError:
            unreadable.add(path.stem)
    for path in sorted((DATA / "crls").iterdir()):
        try:
            crls.append(read_crl(path.read_bytes()))
        except GatekeyError:
            unreadable.add(path.stem)
    return certificates, tuple(crls), frozenset(unreadable)


def judge(target: str, rules: Rules | None = None, *, legacy: bool = False) -> Verdict | None:
    """Our verdict; None for a target that is refused on reading."""
    certificates, crls, _ = suite()
    if target not in certificates:
        return None
    pool = [certificate for name, certificate in certificates.items() if not name.endswith("EE")]
    anchor = certificates["TrustAnchorRootCertificate"]
    return validate(certificates[target], pool, [anchor], at=AT, purpose=None, crls=crls, rules=rules or Rules(), legacy=legacy)


def expected(target: str) -> bool:
    return UNNAMED[target] if target in UNNAMED else target.startswith("Valid")


def test_the_whole_suite_is_here() -> None:
    certificates, crls, unreadable = suite()
    assert len(certificates) + len(crls) + len(unreadable) == 405 + 173
    assert unreadable == set(UNREADABLE)
    assert len(TARGETS) == 223
    assert set(UNNAMED) == {target for target in TARGETS if not target.startswith(("Valid", "Invalid"))}


@pytest.mark.parametrize("target", TARGETS)
def test_case(target: str) -> None:
    verdict = judge(target)
    found = verdict is not None and verdict.ok
    assert found is (expected(target) and target not in DEVIATIONS), verdict and verdict.findings


@pytest.mark.parametrize("target", [target for target in TARGETS if target.startswith("Invalid") and target not in UNREADABLE])
def test_the_right_check_finds_it(target: str) -> None:
    verdict = judge(target)
    assert verdict is not None
    culprit = next((check for word, check in CULPRITS if word in target), "path")
    assert verdict.failed == (culprit,), verdict.findings


@pytest.mark.parametrize("asked", POLICY_CASES, ids=lambda asked: f"{asked.target}-{asked.initial or 'any'}")
def test_policies(asked: Case) -> None:
    verdict = judge(asked.target, asked.rules)
    assert verdict is not None
    assert verdict.ok is asked.expected, verdict.findings
    if not asked.expected:
        assert verdict.failed == ("path",)


def test_policies_that_come_out_are_those_of_the_top() -> None:
    """4.10.1: the leaf has policy 2, which its issuer has mapped from 1; who trusts the anchor knows 1 only."""
    verdict = judge("ValidPolicyMappingTest1EE", Rules(frozenset((policy("1"),)), explicit=True))
    assert verdict is not None
    assert verdict.policies == {policy("1")}


def test_deviations_are_no_more_than_listed() -> None:
    found = {target for target in TARGETS if expected(target) and (verdict := judge(target)) is not None and not verdict.ok}
    assert found == set(DEVIATIONS)


def test_dsa_is_read_when_asked_for() -> None:
    verdict = judge("ValidDSASignaturesTest4EE", legacy=True)
    assert verdict is not None
    assert verdict.ok, verdict.findings
