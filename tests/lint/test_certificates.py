"""Every lint of certificates: a good certificate passes all of them, and for each there is one that trips exactly it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.lint import CERTIFICATE_LINTS, LINTS, lint_certificate
from gatekey.lint.table import SEVERITIES
from gatekey.model.instants import DAY, HOUR
from gatekey.x509 import oids
from gatekey.x509.der import boolean, explicit, generalized, implicit, integer, null, octets, oid, printable, seq, set_of, tlv, utf8
from kit import tbs
from kit.tbs import NOW, Parts

ISSUER = tbs.issuing()


def tripped(parts: Parts, issuer: Parts | None = ISSUER) -> list[str]:
    return [finding.lint for finding in lint_certificate(parts.der, tbs.read(issuer) if issuer else None)]


GOOD: dict[str, tuple[Parts, Parts | None]] = {
    "root": (tbs.root(), None),
    "issuing": (tbs.issuing(), tbs.root()),
    "client": (tbs.client(), ISSUER),
    "server": (tbs.server(), ISSUER),
    "responder": (tbs.responder(), ISSUER),
    "client with addresses": (tbs.client().having(tbs.crl_points("http://ca.example/people.crl"), tbs.access("http://ca.example/ocsp")), ISSUER),
    "server without subject": (tbs.server().but(subject=tbs.name("")).instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("a.example", critical=True)), ISSUER),
    "server of RSA": (
        tbs.server()
        .but(spki=tbs.spki("rsa-2048"))
        .without(oids.SUBJECT_KEY_ID, oids.KEY_USAGE)
        .having(tbs.key_id(tbs.spki("rsa-2048")), tbs.usage("digitalSignature", "keyEncipherment")),
        ISSUER,
    ),
    "unrevocable client": (tbs.client().having(tbs.extension(oids.NO_REV_AVAIL, null())), ISSUER),
    "client after 2050": (tbs.client().but(validity=tbs.validity(2556144000, 2556144000 + DAY)), ISSUER.but(validity=tbs.validity(NOW, 2556144000 + 2 * DAY))),
    "constrained authority": (
        tbs.issuing().having(tbs.constraints(permitted=(implicit(2, b"example.com"), implicit(1, b".example.com")), excluded=(implicit(7, bytes(8)),))),
        tbs.root(),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_certificates_have_no_findings(name: str) -> None:
    parts, issuer = GOOD[name]
    assert lint_certificate(parts.der, tbs.read(issuer) if issuer else None) == []


CONSTRAINED = ISSUER.having(tbs.constraints(permitted=(implicit(2, b"example.com"), implicit(1, b"example.com")), excluded=(implicit(7, bytes(8)),)))
CLIENT, SERVER, ROOT, CA = tbs.client(), tbs.server(), tbs.root(), tbs.issuing()
RSA = seq(oid(oids.RSA_SHA256), null())
UNIVERSAL_CN = seq(set_of(seq(oid(oids.COMMON_NAME), tlv(0x1C, "ann".encode("utf-32-be")))))

#: lint, a certificate that trips it and nothing else, its issuer (None: signs itself), words of the message.
BAD: list[tuple[str, Parts, Parts | None, str]] = [
    ("strict-der", CLIENT.having(tbs.usage("digitalSignature")), ISSUER, "the extension key usage stands there twice"),
    ("strict-der", CLIENT.but(version=explicit(0, integer(3))), ISSUER, "its version is 4"),
    ("strict-der", CLIENT.but(subject=seq(octets(b"ann"))), ISSUER, "tag 0x04 where 0x31 is needed"),
    ("strict-der", CLIENT.but(serial=tlv(2, b"\x00\x5a")), ISSUER, "an INTEGER that is not minimal"),
    (
        "strict-der",
        CLIENT.instead(oids.BASIC_CONSTRAINTS, tbs.extension(oids.BASIC_CONSTRAINTS, seq(boolean(False)), critical=True)),
        ISSUER,
        "a default of FALSE",
    ),
    ("strict-der", CLIENT.but(validity=seq(tlv(0x17, b"2611181106Z"), tlv(0x17, b"271118110640Z"))), ISSUER, "a time that is neither"),
    ("serial-chance", CLIENT.but(serial=integer(4711)), ISSUER, "does not have 16 octets"),
    ("serial-chance", CLIENT.but(serial=integer(1 << 127)), ISSUER, "does not have 16 octets"),
    ("signature-algorithm", CLIENT.but(algorithm=RSA), ISSUER, "is RSA with SHA-256; with the issuer's key it is ECDSA with SHA-256"),
    ("signature-algorithm", CLIENT.but(algorithm=seq(oid(oids.ECDSA_SHA1))), ISSUER, "is ECDSA with SHA-1"),
    ("signature-algorithm", CLIENT.but(algorithm=seq(oid(oids.ECDSA_SHA256), null())), ISSUER, "the signature algorithm is"),
    ("issuer-bytes", CLIENT.but(issuer=seq(set_of(seq(oid(oids.COMMON_NAME), printable("kitty-ca people"))))), ISSUER, "differs from the subject"),
    ("dates-order", CLIENT.but(validity=tbs.validity(NOW + DAY, NOW)), ISSUER, "before it begins"),
    ("dates-encoding", CLIENT.but(validity=seq(generalized(NOW), generalized(NOW + DAY))), ISSUER, "notBefore (2026-11-18T11:06:40Z) is a GeneralizedTime"),
    ("dates-end-in-issuer", CLIENT.but(validity=tbs.validity(NOW, NOW + 3651 * DAY)), ISSUER, "after the issuer's on"),
    ("dates-begin-in-issuer", CLIENT.but(validity=tbs.validity(NOW - DAY, NOW + DAY)), ISSUER, "before the issuer's on"),
    ("server-life", SERVER.but(validity=tbs.validity(NOW, NOW + 397 * DAY)), ISSUER, "the validity is 397.00 days"),
    ("subject", CLIENT.but(subject=tbs.name("x" * 65)), ISSUER, "the common name has 65 characters"),
    ("subject", CLIENT.but(subject=tbs.name("a\nb")), ISSUER, "some that do not print"),
    ("subject", CLIENT.but(subject=seq(set_of(seq(oid("2.5.4.10"), utf8("Kitty"))))), ISSUER, "the subject has O"),
    ("subject", CLIENT.but(subject=seq(*[set_of(seq(oid(oids.COMMON_NAME), utf8("ann")))] * 2)), ISSUER, "the subject has CN, CN"),
    ("subject", CLIENT.but(subject=UNIVERSAL_CN), ISSUER, "the string type 0x1C"),
    ("subject-key-id", CLIENT.without(oids.SUBJECT_KEY_ID), ISSUER, "there is no subject key identifier"),
    ("authority-key-id", CLIENT.without(oids.AUTHORITY_KEY_ID), ISSUER, "there is no authority key identifier"),
    ("authority-key-id", CLIENT.instead(oids.AUTHORITY_KEY_ID, tbs.authority_key_id(tbs.spki())), ISSUER, "the issuer's key has"),
    ("authority-key-id", CLIENT.instead(oids.AUTHORITY_KEY_ID, tbs.extension(oids.AUTHORITY_KEY_ID, seq())), ISSUER, "there is no authority key identifier"),
    ("extensions-known", CLIENT.having(tbs.extension(oids.TLS_FEATURE, seq(integer(5)))), ISSUER, "there is the extension TLS feature"),
    ("extensions-known", CLIENT.having(tbs.extension("1.2.3.4", null())), ISSUER, "there is the extension 1.2.3.4"),
    ("extensions-critical", CLIENT.instead(oids.KEY_USAGE, tbs.usage("digitalSignature", critical=False)), ISSUER, "the extension key usage is not critical"),
    (
        "extensions-critical",
        CLIENT.instead(oids.EXTENDED_KEY_USAGE, tbs.purposes("clientAuth", critical=True)),
        ISSUER,
        "the extension extended key usage is critical",
    ),
    (
        "extensions-critical",
        CA.instead(oids.BASIC_CONSTRAINTS, tbs.basic(ca=True, length=0, critical=False)),
        ROOT,
        "the extension basic constraints is not critical",
    ),
    ("basic-constraints", CLIENT.without(oids.BASIC_CONSTRAINTS), ISSUER, "there are no basic constraints"),
    (
        "authority-usage",
        CLIENT.instead(oids.KEY_USAGE, tbs.usage("digitalSignature", "keyCertSign")),
        ISSUER,
        "this is no authority and has keyCertSign or cRLSign",
    ),
    ("authority-usage", CLIENT.instead(oids.KEY_USAGE, tbs.usage("digitalSignature", "cRLSign")), ISSUER, "this is no authority"),
    ("authority-crl-sign", CA.instead(oids.KEY_USAGE, tbs.usage("keyCertSign")), ROOT, "the key usage lacks cRLSign"),
    ("authority-crl-sign", CA.instead(oids.KEY_USAGE, tbs.usage("keyCertSign", "cRLSign", "nonRepudiation")), ROOT, "the key usage has nonRepudiation"),
    ("strict-der", CLIENT.instead(oids.BASIC_CONSTRAINTS, tbs.basic(ca=False, length=0)), ISSUER, "a path length for something that is not a CA"),
    ("path-length-issuer", CA.instead(oids.BASIC_CONSTRAINTS, tbs.basic(ca=True, length=1)), ROOT, "the path length is 1, the issuer's is 1"),
    ("path-length-issuer", CA.instead(oids.BASIC_CONSTRAINTS, tbs.basic(ca=True)), ROOT, "the path length is unlimited"),
    ("authority-purposes", CA.having(tbs.purposes("clientAuth")), ROOT, "there is an extended key usage: clientAuth"),
    (
        "key-usage-key",
        CLIENT.instead(oids.KEY_USAGE, tbs.usage("digitalSignature", "keyEncipherment")),
        ISSUER,
        "the key is of the kind p256, and the key usage has keyEncipherment",
    ),
    ("leaf-purpose", CLIENT.without(oids.EXTENDED_KEY_USAGE), ISSUER, "there is no extended key usage"),
    ("leaf-signs", CLIENT.instead(oids.KEY_USAGE, tbs.usage("keyAgreement")), ISSUER, "the key usage is keyAgreement"),
    ("any-purpose", CLIENT.instead(oids.EXTENDED_KEY_USAGE, tbs.purposes("anyExtendedKeyUsage")), ISSUER, "has anyExtendedKeyUsage"),
    ("one-side", SERVER.instead(oids.EXTENDED_KEY_USAGE, tbs.purposes("serverAuth", "clientAuth")), ISSUER, "has clientAuth and serverAuth"),
    ("ocsp-nocheck", tbs.responder().without(oids.OCSP_NOCHECK), ISSUER, "there is no id-pkix-ocsp-nocheck"),
    ("ocsp-nocheck", CLIENT.having(tbs.extension(oids.OCSP_NOCHECK, null())), ISSUER, "stands in a certificate without OCSPSigning"),
    ("no-revocation", CLIENT.having(tbs.extension(oids.NO_REV_AVAIL, null()), tbs.crl_points("http://ca.example/x")), ISSUER, "noRevAvail stands beside"),
    ("no-revocation", CA.having(tbs.extension(oids.NO_REV_AVAIL, null())), ROOT, "an authority has noRevAvail"),
    ("alternatives-critical", SERVER.but(subject=tbs.name("")), ISSUER, "the alternative names are not critical, and the subject is empty"),
    (
        "alternatives-critical",
        SERVER.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("a.example", critical=True)),
        ISSUER,
        "are critical, and the subject is not",
    ),
    ("alternatives-critical", CLIENT.but(subject=tbs.name("")).without(oids.SUBJECT_ALT_NAME), ISSUER, "and there are no alternative names"),
    ("alternatives-kinds", CLIENT.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives(others=(implicit(6, b"http://x"),))), ISSUER, "of other kinds"),
    ("alternatives-kinds", SERVER.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("a.example", "a.example")), ISSUER, "'a.example' stands there twice"),
    ("hosts", SERVER.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("a.example", "A.example.")), ISSUER, "has upper-case letters"),
    ("hosts", SERVER.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("a.example", "*.com")), ISSUER, "a wildcard directly under"),
    ("mailboxes", CLIENT.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives(emails=("ann",))), ISSUER, "is not an e-mail address"),
    (
        "server-names",
        SERVER.but(subject=tbs.name("site")).instead(oids.SUBJECT_ALT_NAME, tbs.alternatives(emails=("a@b.example",))),
        ISSUER,
        "neither a host nor an address",
    ),
    ("server-common-name", SERVER.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives("b.example")), ISSUER, "the common name 'a.example' is not among"),
    ("server-common-name", SERVER.but(subject=tbs.name("192.0.2.7")), ISSUER, "the common name '192.0.2.7'"),
    ("names-in-issuer", SERVER, CONSTRAINED, "the host name 'a.example' is outside what an issuer may certify"),
    (
        "names-in-issuer",
        CLIENT.instead(oids.SUBJECT_ALT_NAME, tbs.alternatives(emails=("ann@example.org",))),
        CONSTRAINED,
        "the e-mail address 'ann@example.org'",
    ),
    ("names-in-issuer", CLIENT.but(subject=tbs.name("ann.smith")), CONSTRAINED, "OpenSSL takes the common name for one"),
    (
        "names-in-issuer",
        SERVER.but(subject=tbs.name("")).instead(
            oids.SUBJECT_ALT_NAME, tbs.alternatives("x.example.com", others=(implicit(7, bytes((192, 0, 2, 7))),), critical=True)
        ),
        CONSTRAINED,
        "the address '192.0.2.7' is inside what an issuer must not certify",
    ),
    ("constraints", CLIENT.having(tbs.constraints(permitted=(implicit(2, b"example.com"),))), ISSUER, "this is no authority"),
    ("constraints", CA.having(tbs.constraints(permitted=(implicit(2, b".example.com"),))), ROOT, "the DNS subtree '.example.com' is not a host"),
    ("constraints", CA.having(tbs.constraints(permitted=(implicit(1, b"a b@example.com"),))), ROOT, "the e-mail subtree 'a b@example.com'"),
    ("constraints", CA.having(tbs.constraints(permitted=(implicit(1, b".exa_mple.com"),))), ROOT, "the e-mail subtree '.exa_mple.com'"),
    ("strict-der", CA.having(tbs.constraints(excluded=(implicit(7, bytes((10, 0, 0, 0, 255, 0, 255, 0))),))), ROOT, "has holes"),
    ("addresses", CLIENT.having(tbs.crl_points("ldap://ca.example/x")), ISSUER, "is not an http or https URL"),
    ("addresses", CLIENT.having(tbs.access("http://ca.example/a b")), ISSUER, "is not an http or https URL"),
    ("addresses-plain", CLIENT.having(tbs.crl_points("https://ca.example/x")), ISSUER, "is an https URL"),
]


@pytest.mark.parametrize(("lint", "parts", "issuer", "said"), BAD)
def test_each_lint_is_tripped_alone(lint: str, parts: Parts, issuer: Parts | None, said: str) -> None:
    findings = lint_certificate(parts.der, tbs.read(issuer) if issuer else None)
    assert {finding.lint for finding in findings} == {lint}, findings
    assert any(said in finding.message for finding in findings), findings
    assert all(finding.source for finding in findings)


def keyed(parts: Parts, spki: bytes) -> Parts:
    return parts.but(spki=spki).instead(oids.SUBJECT_KEY_ID, tbs.key_id(spki))


#: The same where one mistake cannot be made alone: the lint, and everything that is found.
TOGETHER: list[tuple[str, Parts, Parts | None, set[str]]] = [
    (
        "version",
        CLIENT.but(version=b"", extensions=()),
        ISSUER,
        {"version", "subject-key-id", "authority-key-id", "basic-constraints", "key-usage", "leaf-signs", "leaf-purpose"},
    ),
    ("serial-positive", CLIENT.but(serial=integer(-(1 << 125))), ISSUER, {"serial-positive", "serial-chance"}),
    ("serial-positive", CLIENT.but(serial=integer(0)), ISSUER, {"serial-positive", "serial-chance"}),
    ("serial-length", CLIENT.but(serial=integer(1 << 160)), ISSUER, {"serial-length", "serial-chance"}),
    ("issuer-named", CLIENT.but(issuer=tbs.name("")), ISSUER, {"issuer-named", "issuer-bytes"}),
    (
        "issuer-authority",
        CLIENT.but(issuer=tbs.name("a.example"), validity=tbs.validity(NOW, NOW + DAY)).instead(oids.AUTHORITY_KEY_ID, tbs.authority_key_id(tbs.spki())),
        SERVER,
        {"issuer-authority"},
    ),
    ("root-authority", CLIENT.but(issuer=tbs.name("ann")).instead(oids.AUTHORITY_KEY_ID, tbs.authority_key_id(tbs.spki())), None, {"root-authority"}),
    ("authority-named", CA.but(subject=tbs.name("")), ROOT, {"authority-named", "alternatives-critical"}),
    ("path-length", CA.instead(oids.KEY_USAGE, tbs.usage("digitalSignature")), ROOT, {"authority-usage", "authority-crl-sign", "path-length"}),
    ("key-usage", CLIENT.without(oids.KEY_USAGE), ISSUER, {"key-usage", "leaf-signs"}),
    ("key", keyed(CLIENT, tbs.rsa_spki(1 << 1023 | 1)), ISSUER, {"key"}),
    ("key", keyed(CLIENT, tbs.rsa_spki(1 << 8192 | 1)), ISSUER, {"key"}),
    ("key", keyed(CLIENT, tbs.rsa_spki(1 << 2047 | 1, 3)), ISSUER, {"key"}),
    ("key", keyed(CLIENT, tbs.rsa_spki(1 << 2047 | 1, 65538)), ISSUER, {"key"}),
    ("key", keyed(CLIENT, tbs.spki()[:-1] + bytes((tbs.spki()[-1] ^ 1,))), ISSUER, {"key"}),
    ("key", keyed(CLIENT, seq(seq(oid(oids.EC), oid("1.3.132.0.10")), tlv(3, b"\x00\x04" + bytes(64)))), ISSUER, {"key"}),
    ("browser-client-key", keyed(CLIENT, tbs.spki("ed25519")), ISSUER, {"browser-client-key"}),
    ("browser-client-key", keyed(CLIENT, tbs.spki("ml-dsa-44")), ISSUER, {"browser-client-key"}),
    ("browser-server-key", keyed(SERVER, tbs.spki("p521")), ISSUER, {"browser-server-key"}),
    ("signature-algorithm", CLIENT, ISSUER.but(spki=tbs.rsa_spki(3)), {"signature-algorithm"}),
]


@pytest.mark.parametrize(("lint", "parts", "issuer", "found"), TOGETHER)
def test_lints_that_come_together(lint: str, parts: Parts, issuer: Parts | None, found: set[str]) -> None:
    assert lint in found
    assert set(tripped(parts, issuer)) == found


def test_every_lint_is_tripped_somewhere() -> None:
    assert {lint.name for lint in CERTIFICATE_LINTS} == {lint for lint, *_ in BAD} | {lint for lint, *_ in TOGETHER}


def test_the_table_is_whole() -> None:
    names = [lint.name for lint in LINTS]
    assert len(set(names)) == len(names)
    for lint in LINTS:
        assert lint.severity in SEVERITIES
        assert lint.source
        assert lint.about.endswith(".")
        assert lint.applies.__doc__


def test_notices_are_few_and_known() -> None:
    assert {lint.name for lint in LINTS if lint.severity == "notice"} == {
        "dates-begin-in-issuer",
        "browser-client-key",
        "browser-server-key",
        "addresses-plain",
        "crl-issuer-life",
    }


def test_a_p521_client_is_offered_by_browsers_and_a_p521_server_is_not_used() -> None:
    assert tripped(keyed(CLIENT, tbs.spki("p521"))) == []
    assert tripped(keyed(SERVER, tbs.spki("p521"))) == ["browser-server-key"]


def test_an_issuer_without_key_identifier_or_key_usage_is_judged_by_what_it_has() -> None:
    bare = ISSUER.without(oids.SUBJECT_KEY_ID, oids.KEY_USAGE)
    assert tripped(CLIENT, bare) == []


def test_directory_names_of_a_corporate_root_bind_too() -> None:
    company = seq(set_of(seq(oid("2.5.4.10"), utf8("Kitty"))))
    issuer = ISSUER.having(tbs.constraints(permitted=(explicit(4, company),)))
    assert tripped(CLIENT, issuer) == ["names-in-issuer"]


@given(st.data())
def test_damaged_bytes_end_in_findings(data: st.DataObject) -> None:
    parts, issuer = data.draw(st.sampled_from(list(GOOD.values())))
    damaged = bytearray(parts.der)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    findings = lint_certificate(bytes(damaged), tbs.read(issuer) if issuer else None)
    assert all(finding.message and finding.severity in SEVERITIES for finding in findings)


@given(st.binary(max_size=400))
def test_any_bytes_end_in_findings(data: bytes) -> None:
    assert [finding.lint for finding in lint_certificate(data, None)] == ["strict-der"]
    assert [finding.lint for finding in lint_certificate(seq(octets(data)), None)] == ["strict-der"]


@given(st.integers(-HOUR, 0), st.integers(1, 3650 * DAY - 1))
def test_clients_of_any_dates_within_the_issuer_pass(first: int, last: int) -> None:
    assert tripped(CLIENT.but(validity=tbs.validity(NOW + first, NOW + last))) == []
