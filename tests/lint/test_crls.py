"""Every lint of CRLs: good lists pass all of them, and for each there is one that trips exactly it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.lint import CRL_LINTS, lint_crl
from gatekey.model.instants import DAY, HOUR
from gatekey.model.status import REASONS
from gatekey.x509 import oids
from gatekey.x509.certificate import Issuer, read_tbs
from gatekey.x509.crl import encode_entry, encode_tbs_crl
from gatekey.x509.der import enumerated, explicit, generalized, implicit, instant, integer, octets, oid, seq
from gatekey.x509.spki import key_identifier
from kit import tbs
from kit.tbs import NOW

CA = read_tbs(tbs.issuing().der)
AKI, NUMBER = tbs.authority_key_id(tbs.spki(which=2)), tbs.extension(oids.CRL_NUMBER, integer(7))
ANN = encode_entry("5A" * 16, NOW, "key-compromise")
BOB = encode_entry("5B" * 16, NOW, None)


def entry(serial: int, reason: int, kind: str = oids.CRL_REASON) -> bytes:
    return seq(integer(serial), instant(NOW), seq(tbs.extension(kind, enumerated(reason))))


def crl(
    *entries: bytes,
    version: bytes = integer(1),
    algorithm: bytes = tbs.ECDSA_SHA256,
    issuer: bytes = CA.subject,
    dates: bytes = instant(NOW - HOUR) + instant(NOW + 30 * DAY),
    extensions: tuple[bytes, ...] = (AKI, NUMBER),
) -> bytes:
    return seq(version, algorithm, issuer, dates, seq(*entries) if entries else b"", explicit(0, seq(*extensions)) if extensions else b"")


def scope(*parts: bytes, critical: bool = True) -> bytes:
    return tbs.extension(oids.ISSUING_DISTRIBUTION_POINT, seq(*parts), critical=critical)


def delta(base: int, *, critical: bool = True) -> bytes:
    return tbs.extension(oids.DELTA_CRL_INDICATOR, integer(base), critical=critical)


SHARD = explicit(0, explicit(0, implicit(6, b"http://ca.example/people-3.crl")))
LATE = 2556144000  # 2051


@pytest.mark.parametrize(
    "good",
    [
        crl(),
        crl(ANN, BOB),
        crl(entry(7, 6), entry(8, 1)),
        crl(ANN, extensions=(AKI, NUMBER, scope(SHARD))),
        crl(ANN, extensions=(AKI, NUMBER, scope(implicit(1, b"\xff")))),
        crl(entry(7, 8), extensions=(AKI, NUMBER, delta(6))),
        encode_tbs_crl(Issuer(CA.subject, key_identifier(CA.spki), CA.algorithm), 1, NOW - HOUR, NOW + 30 * DAY, [ANN, BOB]),
    ],
)
def test_good_lists_have_no_findings(good: bytes) -> None:
    assert lint_crl(good, CA) == []


BAD = [
    (
        "crl-strict-der",
        seq(integer(1), tbs.ECDSA_SHA256, CA.subject, instant(NOW), instant(NOW + DAY), seq(), explicit(0, seq(AKI, NUMBER))),
        "its list of entries is empty",
    ),
    ("crl-strict-der", crl(version=integer(2)), "its version is 3"),
    ("crl-strict-der", crl(extensions=(AKI, NUMBER, NUMBER)), "stands there twice"),
    ("crl-signature-algorithm", crl(algorithm=seq(oid(oids.ECDSA_SHA384))), "is ECDSA with SHA-384; with the issuer's key it is ECDSA with SHA-256"),
    ("crl-issuer-bytes", crl(issuer=tbs.name("kitty-ca")), "differs from the subject"),
    ("crl-dates-order", crl(dates=instant(NOW)), "there is no next update"),
    ("crl-dates-order", crl(dates=instant(NOW) + instant(NOW)), "not after this one"),
    ("crl-dates-encoding", crl(dates=instant(NOW) + generalized(NOW + DAY)), "nextUpdate (2026-11-19T11:06:40Z) is a GeneralizedTime"),
    ("crl-dates-encoding", crl(seq(integer(7), generalized(NOW))), "an entry has a GeneralizedTime before 2050"),
    ("crl-issuer-life", crl(dates=instant(NOW) + instant(NOW + 3651 * DAY)), "after the end of the issuer"),
    ("crl-number", crl(extensions=(AKI,)), "there is no CRL number"),
    ("crl-number", crl(extensions=(AKI, tbs.extension(oids.CRL_NUMBER, integer(0)))), "the CRL number is 0"),
    ("crl-strict-der", crl(extensions=(AKI, tbs.extension(oids.CRL_NUMBER, integer(1 << 159)))), "a number of more than 20 bytes"),
    ("crl-authority-key-id", crl(extensions=(NUMBER,)), "there is no authority key identifier"),
    ("crl-authority-key-id", crl(extensions=(tbs.authority_key_id(tbs.spki()), NUMBER)), "the issuer's key has"),
    ("crl-extensions", crl(extensions=(AKI, NUMBER, tbs.extension("1.2.3.4", octets(b"")))), "there is the extension 1.2.3.4"),
    ("crl-extensions", crl(extensions=(AKI, tbs.extension(oids.CRL_NUMBER, integer(7), critical=True))), "the extension CRL number is critical"),
    ("crl-extensions", crl(extensions=(AKI, NUMBER, scope(SHARD, critical=False))), "the extension issuing distribution point is not critical"),
    ("crl-extensions", crl(extensions=(AKI, NUMBER, delta(3, critical=False))), "the extension delta CRL indicator is not critical"),
    ("crl-extensions", crl(entry(7, 1, "1.2.3.4")), "an entry has other extensions than a reason"),
    ("crl-extensions", crl(ANN, seq(integer(7), instant(NOW), seq(tbs.extension("1.2.3.4", octets(bytes(300))))), BOB), "an entry has other extensions"),
    ("crl-scope", crl(extensions=(AKI, NUMBER, scope(implicit(4, b"\xff")))), "the list is indirect"),
    ("crl-scope", crl(extensions=(AKI, NUMBER, scope(implicit(3, b"\x06\x40")))), "for some reasons only"),
    ("crl-scope", crl(extensions=(AKI, NUMBER, scope(implicit(5, b"\xff")))), "for attribute certificates"),
    ("crl-delta", crl(extensions=(AKI, NUMBER, delta(7))), "the delta has the number 7, its base 7"),
    ("crl-entries-single", crl(ANN, BOB, ANN, encode_entry("5A" * 16, NOW - 1, None)), "2 of 4 entries repeat a serial number"),
    ("crl-reasons", crl(entry(7, 0)), "an entry has the reason code 0"),
    ("crl-reasons", crl(entry(7, 8)), "an entry has the reason code 8"),
    ("crl-reasons", crl(entry(7, 7)), "an entry has the reason code 7"),
]


@pytest.mark.parametrize(("lint", "data", "said"), BAD)
def test_each_lint_is_tripped_alone(lint: str, data: bytes, said: str) -> None:
    findings = lint_crl(data, CA)
    assert {finding.lint for finding in findings} == {lint}, findings
    assert any(said in finding.message for finding in findings), findings


def test_version_1_has_nothing_that_is_needed() -> None:
    assert {finding.lint for finding in lint_crl(crl(version=b"", extensions=()), CA)} == {"crl-version", "crl-number", "crl-authority-key-id"}


def test_an_issuer_that_may_not_sign_lists() -> None:
    leaf = read_tbs(tbs.issuing().instead(oids.KEY_USAGE, tbs.usage("keyCertSign")).der)
    assert [finding.lint for finding in lint_crl(crl(), leaf)] == ["crl-issuer-usage"]


def test_an_issuer_without_a_name() -> None:
    nameless = read_tbs(tbs.issuing().but(subject=tbs.name("")).der)
    assert [finding.message for finding in lint_crl(crl(issuer=tbs.name("")), nameless)] == ["the issuer's name is empty"]


def test_every_lint_is_tripped_somewhere() -> None:
    assert {lint.name for lint in CRL_LINTS} == {lint for lint, *_ in BAD} | {"crl-version", "crl-issuer-usage"}


def test_entries_after_2050_have_generalized_time() -> None:
    late = read_tbs(tbs.issuing().but(validity=tbs.validity(NOW, LATE + 900 * DAY)).der)
    assert lint_crl(crl(encode_entry("5A" * 16, LATE, None), dates=instant(LATE) + instant(LATE + DAY)), late) == []


@given(st.lists(st.tuples(st.integers(1, 2**127), st.sampled_from([None, *REASONS])), max_size=40))
def test_what_our_encoder_writes_passes(rows: list[tuple[int, str | None]]) -> None:
    entries = [encode_entry(f"{serial:X}", NOW - at, reason) for at, (serial, reason) in enumerate(rows)]
    findings = lint_crl(encode_tbs_crl(Issuer(CA.subject, key_identifier(CA.spki), CA.algorithm), 1, NOW, NOW + DAY, entries), CA)
    doubled = len({serial for serial, _ in rows}) < len(rows)
    assert [finding.lint for finding in findings] == (["crl-entries-single"] if doubled else [])


@given(st.data())
def test_damaged_bytes_end_in_findings(data: st.DataObject) -> None:
    damaged = bytearray(crl(ANN, BOB, entry(7, 6)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert all(finding.message for finding in lint_crl(bytes(damaged), CA))


@given(st.binary(max_size=400))
def test_any_bytes_end_in_findings(data: bytes) -> None:
    assert [finding.lint for finding in lint_crl(data, CA)] == ["crl-strict-der"]
