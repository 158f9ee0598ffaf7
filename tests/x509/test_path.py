"""Paths: each thing that can be wrong is found by its check and told in words; hostile pools end soon; openssl agrees."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.model.names import Names
from gatekey.x509 import certificate as certificates
from gatekey.x509 import der, names, oids, pem
from gatekey.x509.certificate import Certificate, read_certificate
from gatekey.x509.crl import Crl, read_crl
from gatekey.x509.path import Verdict, describe, validate
from kit import objects, pki

DAY = 86_400
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def read(cert: x509.Certificate) -> Certificate:
    return read_certificate(cert.public_bytes(serialization.Encoding.DER))


def crls(text: bytes) -> list[Crl]:
    return [read_crl(body) for _, body in pem.decode(text)] if text else []


class House:
    """A people PKI, and verdicts about what it issued."""

    def __init__(self, *, flat: bool = False) -> None:
        self.pki = pki.make_pki(flat=flat)
        self.root = read(self.pki.root.certificate)
        self.issuing = read(self.pki.issuing.certificate)

    def judge(self, leaf: pki.Leaf, purpose: str | None = "client", *, lists: list[Crl] | None = None, at: int | None = None) -> Verdict:
        return validate(read(leaf.certificate), [self.issuing], [self.root], at=at or self.pki.now, purpose=purpose, crls=lists)


@pytest.fixture
def house() -> House:
    return House()


def only(verdict: Verdict) -> tuple[str, str]:
    """Check and code of the one finding."""
    assert len(verdict.findings) == 1, verdict.findings
    return verdict.findings[0].check, verdict.findings[0].code


def test_a_good_one(house: House) -> None:
    verdict = house.judge(house.pki.client("ann"), lists=crls(house.pki.crls()))
    assert verdict.ok
    assert [one.common_name for one in verdict.path] == ["ann", "kitty-ca people", "kitty-ca people root"]
    assert verdict.checked == ("path", "dates", "usage", "revocation")
    assert describe(verdict)[0] == "path: passed (CN=kitty-ca people root <- CN=kitty-ca people <- CN=ann)"


def test_flat() -> None:
    house = House(flat=True)
    verdict = house.judge(house.pki.client("ann"), lists=crls(house.pki.crls()))
    assert verdict.ok
    assert len(verdict.path) == 2


def test_json_has_every_check(house: House) -> None:
    told = house.judge(house.pki.client("ann", expired=True)).as_dict()
    assert told["checks"] == {"path": "passed", "dates": "failed", "usage": "passed", "revocation": "not-checked"}
    assert told["ok"] is False
    assert told["findings"][0]["code"] == "expired"


@pytest.mark.parametrize(
    ("expired", "not_yet", "code", "words"), [(True, False, "expired", "it has expired on "), (False, True, "not-yet-valid", "it is not valid before ")]
)
def test_dates_of_the_leaf(house: House, expired: bool, not_yet: bool, code: str, words: str) -> None:
    verdict = house.judge(house.pki.client("ann", expired=expired, not_yet=not_yet))
    assert only(verdict) == ("dates", code)
    assert verdict.findings[0].message.startswith(words)
    assert verdict.findings[0].subject == "CN=ann"


def test_dates_are_inclusive(house: House) -> None:
    leaf = house.pki.client("ann")
    end = read(leaf.certificate).not_after
    assert house.judge(leaf, at=end).ok
    assert only(house.judge(leaf, at=end + 1)) == ("dates", "expired")


def test_dates_of_issuers_and_anchor_count(house: House) -> None:
    verdict = house.judge(house.pki.client("ann", days=9000), at=house.pki.now + 8000 * DAY)
    assert {(finding.check, finding.subject) for finding in verdict.findings} == {("dates", "CN=kitty-ca people"), ("dates", "CN=kitty-ca people root")}


def test_a_server_certificate_is_no_client(house: House) -> None:
    verdict = house.judge(house.pki.server("www.example.com"))
    assert only(verdict) == ("usage", "extended-usage")
    assert verdict.findings[0].message == "it is not for a client: its extended key usage is serverAuth"
    assert house.judge(house.pki.server("www.example.com"), "server").ok
    assert house.judge(house.pki.server("www.example.com"), None).ok


def test_any_usage_alone_is_no_client(house: House) -> None:
    """Browsers hide it and openssl refuses it."""
    assert only(house.judge(house.pki.client("ann", usage=(ANY,)))) == ("usage", "extended-usage")


def test_no_extended_usage_is_a_client(house: House) -> None:
    assert house.judge(house.pki.client("ann", usage=())).ok


def test_a_foreign_ca_with_the_same_names(house: House) -> None:
    verdict = house.judge(house.pki.foreign().client("ann"))
    assert only(verdict) == ("path", "bad-signature")
    assert verdict.findings[0].message == "its signature was not made by the key of CN=kitty-ca people"


def test_an_unknown_ca(house: House) -> None:
    verdict = house.judge(pki.make_pki("mallory").client("ann"))
    assert only(verdict) == ("path", "no-issuer")
    assert verdict.findings[0].message == "its issuer CN=mallory is not known here"


def test_self_signed(house: House) -> None:
    verdict = house.judge(pki.self_signed("ann"))
    assert only(verdict) == ("path", "no-issuer")
    assert "signed by itself" in verdict.findings[0].message


def test_a_missing_intermediate_is_named(house: House) -> None:
    verdict = validate(read(house.pki.client("ann").certificate), [], [house.root], at=house.pki.now, purpose="client", crls=None)
    assert verdict.findings[0].message == "its issuer CN=kitty-ca people is not known here"


def test_the_anchor_itself(house: House) -> None:
    assert validate(house.root, [], [house.root], at=house.pki.now, purpose=None, crls=[]).ok
    assert validate(house.issuing, [], [house.root], at=house.pki.now, purpose=None, crls=crls(house.pki.crls())).ok


def test_an_intermediate_may_be_the_anchor(house: House) -> None:
    verdict = validate(
        read(house.pki.client("ann").certificate), [house.root], [house.issuing], at=house.pki.now, purpose="client", crls=crls(house.pki.crls())
    )
    assert verdict.ok
    assert len(verdict.path) == 2


# Revocation


def test_revoked(house: House) -> None:
    ann, bob = house.pki.client("ann"), house.pki.client("bob")
    house.pki.revoke(bob)
    lists = crls(house.pki.crls())
    assert house.judge(ann, lists=lists).ok
    verdict = house.judge(bob, lists=lists)
    assert only(verdict) == ("revocation", "revoked")
    assert verdict.findings[0].message.startswith("revoked on ")
    assert verdict.findings[0].message.endswith("reason: key compromise")
    assert verdict.findings[0].facts["serial"] == bob.serial


@pytest.mark.parametrize(
    ("root", "issuing", "words"),
    [
        ("fresh", "missing", "there is no CRL of CN=kitty-ca people for it"),
        ("missing", "fresh", "there is no CRL of CN=kitty-ca people root for it"),
        ("fresh", "expired", "the CRL of CN=kitty-ca people has expired on "),
        ("expired", "fresh", "the CRL of CN=kitty-ca people root has expired on "),
        ("fresh", "not-yet", "the CRL of CN=kitty-ca people is not valid before "),
        ("fresh", "bad-signature", "the signature of the CRL of CN=kitty-ca people is wrong"),
        ("fresh", "foreign", "there is no CRL of CN=kitty-ca people for it"),
    ],
)
def test_states_of_crls(house: House, root: str, issuing: str, words: str) -> None:
    verdict = house.judge(house.pki.client("ann"), lists=crls(house.pki.crls(root=root, issuing=issuing)))
    assert only(verdict) == ("revocation", "revocation-unknown")
    assert words in verdict.findings[0].message


def test_a_good_crl_beside_bad_ones_is_enough(house: House) -> None:
    lists = crls(house.pki.crls(issuing="expired") + house.pki.crls(issuing="bad-signature") + house.pki.crls())
    assert house.judge(house.pki.client("ann"), lists=lists).ok


def test_several_things_at_once(house: House) -> None:
    bob = house.pki.server("bob.example.com", expired=True)
    house.pki.revoke(bob)
    verdict = house.judge(bob, lists=crls(house.pki.crls()))
    assert verdict.failed == ("dates", "usage", "revocation")


# Certificates made with our own encoder


class Maker:
    """Certificates with any extensions, each under its own key or a given one."""

    def __init__(self) -> None:
        self.keys = 0

    def __call__(
        self,
        subject: str,
        issuer: Certificate | None,
        *,
        key: int,
        signer: int,
        ca: bool = True,
        length: int | None = None,
        extra: tuple[tuple[str, bool, bytes], ...] = (),
        usage: tuple[str, ...] = ("keyCertSign", "cRLSign"),
    ) -> Certificate:
        self.keys += 1
        spki = objects.spki_of(objects.key("p256", key))
        basic = der.seq(der.boolean(True), der.integer(length) if length is not None else b"") if ca else der.seq()
        bits = der.named_bits([oids.KEY_USAGES.index(use) for use in usage])
        extensions = [
            certificates.extension(oids.BASIC_CONSTRAINTS, basic, critical=True),
            certificates.extension(oids.KEY_USAGE, bits, critical=True),
            *(certificates.extension(dotted, value, critical=critical) for dotted, critical, value in extra),
        ]
        name = names.encode_name(subject)
        tbs = der.seq(
            der.explicit(0, der.integer(2)),
            der.integer(self.keys),
            der.seq(der.oid(oids.ECDSA_SHA256)),
            issuer.subject if issuer else name,
            der.seq(der.instant(objects.NOW - DAY), der.instant(objects.NOW + DAY)),
            name,
            spki,
            der.explicit(3, der.seq(*extensions)),
        )
        return read_certificate(certificates.assemble(tbs, objects.sign(objects.key("p256", signer), tbs)))


@pytest.fixture
def make() -> Maker:
    return Maker()


def judge(leaf: Certificate, pool: list[Certificate], anchor: Certificate, purpose: str | None = None) -> Verdict:
    return validate(leaf, pool, [anchor], at=objects.NOW, purpose=purpose, crls=None)


def test_a_leaf_that_signs(make: Maker) -> None:
    root = make("root", None, key=0, signer=0)
    ann = make("ann", root, key=1, signer=0, ca=False, usage=("digitalSignature",))
    evil = make("evil", ann, key=2, signer=1, ca=False)
    verdict = judge(evil, [ann], root)
    assert {(finding.code, finding.subject) for finding in verdict.findings} == {("not-a-ca", "CN=ann"), ("no-cert-sign", "CN=ann")}


def test_path_length(make: Maker) -> None:
    root = make("root", None, key=0, signer=0, length=0)
    middle = make("middle", root, key=1, signer=0)
    leaf = make("ann", middle, key=2, signer=1, ca=False)
    assert only(judge(leaf, [middle], root)) == ("path", "path-length")
    assert judge(middle, [], root).ok


@pytest.mark.parametrize("critical", [True, False])
def test_unknown_extensions(make: Maker, critical: bool) -> None:
    root = make("root", None, key=0, signer=0)
    leaf = make("ann", root, key=1, signer=0, ca=False, extra=(("1.2.3.4", critical, b"\x05\x00"),))
    verdict = judge(leaf, [], root)
    assert verdict.ok is not critical
    if critical:
        assert only(verdict) == ("path", "unknown-critical")
        assert "1.2.3.4" in verdict.findings[0].message


def test_name_constraints_of_the_anchor_count(make: Maker) -> None:
    value = der.seq(der.explicit(0, der.seq(der.implicit(2, b"example.com"))))
    root = make("root", None, key=0, signer=0, extra=((oids.NAME_CONSTRAINTS, True, value),))

    def leaf(host: str) -> Certificate:
        san = names.encode_general_names(Names(dns=(host,)))
        return make("", root, key=1, signer=0, ca=False, extra=((oids.SUBJECT_ALT_NAME, True, san),))

    assert judge(leaf("www.example.com"), [], root).ok
    verdict = judge(leaf("www.example.org"), [], root)
    assert only(verdict) == ("path", "name-constraints")
    assert verdict.findings[0].subject == "www.example.org"


def test_unreadable_policies_are_a_finding(make: Maker) -> None:
    root = make("root", None, key=0, signer=0)
    leaf = make("ann", root, key=1, signer=0, ca=False, extra=((oids.CERTIFICATE_POLICIES, False, b"\x05\x00"),))
    assert only(judge(leaf, [], root)) == ("path", "bad-policies")


def test_issuers_must_allow_the_usage(make: Maker) -> None:
    server_only = (oids.EXTENDED_KEY_USAGE, False, der.seq(der.oid(oids.SERVER_AUTH)))
    both = (oids.EXTENDED_KEY_USAGE, False, der.seq(der.oid(oids.ANY_EKU)))
    root = make("root", None, key=0, signer=0)
    narrow = make("middle", root, key=1, signer=0, extra=(server_only,))
    wide = make("middle", root, key=1, signer=0, extra=(both,))
    leaf = make("ann", narrow, key=2, signer=1, ca=False, usage=("digitalSignature",))
    assert only(judge(leaf, [narrow], root, "client")) == ("usage", "issuer-usage")
    assert judge(leaf, [narrow], root, "server").ok
    assert judge(leaf, [narrow, wide], root, "client").ok, "the other path is good"


@pytest.mark.parametrize(
    ("usage", "client", "server"), [(("keyAgreement",), False, True), (("keyEncipherment",), False, True), (("digitalSignature",), True, True)]
)
def test_key_usage(make: Maker, usage: tuple[str, ...], client: bool, server: bool) -> None:
    root = make("root", None, key=0, signer=0)
    leaf = make("ann", root, key=1, signer=0, ca=False, usage=usage)
    assert judge(leaf, [], root, "client").ok is client
    assert judge(leaf, [], root, "server").ok is server


def test_cross_certificates_in_a_circle_end(make: Maker) -> None:
    root = make("root", None, key=0, signer=0)
    other = make("other", None, key=9, signer=9)
    a_by_b = make("a", make("b", None, key=2, signer=2), key=1, signer=2)
    b_by_a = make("b", a_by_b, key=2, signer=1)
    b_by_root = make("b", root, key=2, signer=0)
    leaf = make("ann", a_by_b, key=3, signer=1, ca=False)
    assert not judge(leaf, [a_by_b, b_by_a], other).ok
    assert judge(leaf, [a_by_b, b_by_a, b_by_root], root).ok


def test_a_long_chain_is_refused(make: Maker) -> None:
    chain = [make("ca 0", None, key=0, signer=0)]
    for number in range(1, 20):
        chain.append(make(f"ca {number}", chain[-1], key=number % 2, signer=(number - 1) % 2))
    verdict = judge(chain[-1], chain[1:-1], chain[0])
    assert only(verdict) == ("path", "too-long")


def test_a_thousand_namesakes_end_soon(make: Maker) -> None:
    """Every issuer could be signed by every issuer of the level above: without a budget this takes for ever (webpki's Budget)."""
    root = make("root", None, key=0, signer=0)
    levels: list[list[Certificate]] = [[make("ca", None, key=1, signer=1)]]
    for _ in range(8):
        levels.append([make("ca", levels[-1][0], key=number % 6, signer=(number + 1) % 6) for number in range(25)])
    leaf = make("ann", levels[-1][0], key=3, signer=1, ca=False)
    started = time.process_time()
    verdict = judge(leaf, [one for level in levels for one in level], root)
    assert time.process_time() - started < 5
    assert not verdict.ok
    assert "path" in verdict.failed


def test_sha1_needs_to_be_asked_for(house: House) -> None:
    import cryptography_vectors

    folder = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data" / "certs"
    dsa = read_certificate((folder / "DSACACert.crt").read_bytes())
    assert only(judge(read_certificate((folder / "ValidDSASignaturesTest4EE.crt").read_bytes()), [], dsa)) == ("path", "bad-signature")


POOL = st.lists(st.sampled_from(["root", "issuing", "foreign root", "foreign", "ann", "expired", "server", "self"]), max_size=8)


@given(POOL, POOL, st.sampled_from(["ann", "expired", "server", "self", "root", "issuing"]), st.sampled_from([None, "client", "server", "1.2.3"]))
def test_no_pool_upsets_it(pool: list[str], anchors: list[str], target: str, purpose: str | None) -> None:
    every = _zoo()
    verdict = validate(every[target], [every[name] for name in pool], [every[name] for name in anchors], at=int(time.time()), purpose=purpose, crls=_ZOO_CRLS)
    assert set(verdict.failed) <= set(verdict.checked)
    assert verdict.path[0] == every[target]
    assert describe(verdict)
    if verdict.ok:
        assert verdict.path[-1] in [every[name] for name in anchors]


_ZOO: dict[str, Certificate] = {}
_ZOO_CRLS: list[Crl] = []


def _zoo() -> dict[str, Certificate]:
    if not _ZOO:
        people = pki.make_pki()
        foreign = people.foreign()
        made = {
            "root": people.root.certificate,
            "issuing": people.issuing.certificate,
            "foreign root": foreign.root.certificate,
            "foreign": foreign.issuing.certificate,
            "ann": people.client("ann").certificate,
            "expired": people.client("bob", expired=True).certificate,
            "server": people.server("a.test").certificate,
            "self": pki.self_signed("ann").certificate,
        }
        _ZOO.update({name: read(made_one) for name, made_one in made.items()})
        _ZOO_CRLS.extend(crls(people.crls()))
    return _ZOO


# Another judge


@pytest.mark.interop
@pytest.mark.parametrize("which", ["good", "expired", "server", "foreign", "revoked", "any", "no-usage", "stale-crl", "no-root-crl"])
def test_openssl_agrees(house: House, which: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    people = house.pki
    leaf = {
        "expired": lambda: people.client("ann", expired=True),
        "server": lambda: people.server("a.test"),
        "foreign": lambda: people.foreign().client("ann"),
        "any": lambda: people.client("ann", usage=(ANY,)),
        "no-usage": lambda: people.client("ann", usage=()),
    }.get(which, lambda: people.client("ann"))()
    if which == "revoked":
        people.revoke(leaf)
    text = people.crls(root="missing" if which == "no-root-crl" else "fresh", issuing="expired" if which == "stale-crl" else "fresh")
    for name, data in (("leaf.pem", leaf.certificate_pem), ("root.pem", people.root.pem), ("issuing.pem", people.issuing.pem), ("crls.pem", text)):
        (tmp_path / name).write_bytes(data)
    command = [program("openssl"), "verify", "-x509_strict", "-purpose", "sslclient", "-crl_check_all", "-CRLfile", "crls.pem", "-CAfile", "root.pem"]
    done = subprocess.run([*command, "-untrusted", "issuing.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, check=False)
    verdict = house.judge(leaf, lists=crls(text))
    assert verdict.ok is (done.returncode == 0), (done.stdout, done.stderr, verdict.findings)
