"""Revocation lists: written by joining, read in place, and believed by the programs that refuse people with them."""

from __future__ import annotations

import datetime as dt
import functools
import subprocess
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.status import REASONS
from gatekey.x509 import certificate, crl, der, names, oids, pem, signature
from gatekey.x509.crl import Revoked
from kit import objects
from kit.cases import cases
from kit.objects import DAY, NOW

Entry = tuple[str, int, str | None]
SOME: tuple[Entry, ...] = (
    ("13" * 16, NOW, "key-compromise"),
    ("14" * 16, NOW - 5, None),
    ("15" * 16, NOW - DAY, "certificate-hold"),
    ("00" * 15 + "05", 0, "superseded"),
    ("7F" * 16, 2_600_000_000, "affiliation-changed"),
    ("16" * 16, 1_709_210_096, "unspecified"),  # 29 February 2024
)


@functools.cache
def made(entries: tuple[Entry, ...] = SOME) -> bytes:
    return objects.house().issuing.crl([crl.encode_entry(*entry) for entry in entries])


def when(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


def by_cryptography(entries: tuple[Entry, ...]) -> x509.CertificateRevocationList:
    """The same list, built by another hand."""
    maker = objects.house().issuing
    flags = {
        "key-compromise": x509.ReasonFlags.key_compromise,
        "certificate-hold": x509.ReasonFlags.certificate_hold,
        "superseded": x509.ReasonFlags.superseded,
        "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    }
    builder = (
        x509.CertificateRevocationListBuilder().issuer_name(x509.Name.from_bytes(maker.issuer.name)).last_update(when(NOW)).next_update(when(NOW + 30 * DAY))
    )
    for serial, at, reason in entries:
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(when(at))
        if reason in flags:
            one = one.add_extension(x509.CRLReason(flags[reason]), critical=False)
        builder = builder.add_revoked_certificate(one.build())
    builder = builder.add_extension(x509.AuthorityKeyIdentifier(maker.issuer.key_id, None, None), critical=False)
    return builder.add_extension(x509.CRLNumber(7), critical=False).sign(maker.private, hashes.SHA256())


@pytest.mark.parametrize("entries", [(), SOME[:1], SOME])
def test_the_same_bytes_as_the_builder_of_cryptography(entries: tuple[Entry, ...]) -> None:
    ours = crl.encode_tbs_crl(objects.house().issuing.issuer, 7, NOW, NOW + 30 * DAY, [crl.encode_entry(*entry) for entry in entries])
    assert ours == by_cryptography(entries).tbs_certlist_bytes


@pytest.mark.parametrize("entries", [(), SOME[:1], SOME])
def test_what_was_written_is_read(entries: tuple[Entry, ...]) -> None:
    read = crl.read_crl(made(entries))
    maker = objects.house().issuing
    assert (read.issuer, read.authority_key_id, read.number, read.version) == (maker.issuer.name, maker.issuer.key_id, 7, 2)
    assert (read.this_update, read.next_update, read.count) == (NOW, NOW + 30 * DAY, len(entries))
    assert (read.is_delta, read.indirect, read.scope, read.unknown_critical, read.freshest) == (False, False, None, (), ())
    assert list(read.entries()) == [Revoked(serial, at, reason or "unspecified") for serial, at, reason in entries]
    assert signature.verify(maker.spki, read.algorithm, read.signature, read.tbs)
    assert crl.read_tbs_crl(read.tbs).tbs == read.tbs


def test_an_empty_list_of_entries_is_left_out() -> None:
    """RFC 5280 5.1.2.6."""
    assert der.seq() not in made(())
    assert crl.read_crl(made(())).count == 0


@pytest.mark.parametrize("reason", [*REASONS, "remove-from-crl", None])
def test_every_reason_comes_back(reason: str | None) -> None:
    entry = crl.encode_entry("1A" * 16, NOW, reason)
    assert (der.oid(oids.CRL_REASON) in entry) is (reason not in (None, "unspecified"))
    assert crl.read_crl(objects.house().issuing.crl([entry])).find(0x1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A) == Revoked("1A" * 16, NOW, reason or "unspecified")


def test_finding_one_among_many() -> None:
    read = crl.read_crl(made())
    for serial, at, reason in SOME:
        assert read.find(int(serial, 16)) == Revoked(serial, at, reason or "unspecified")
    assert read.find(0x1234) is None
    assert read.find(-5) is None
    # Bytes that stand in the list but are no serial number of it: the OID of the reason, a date.
    assert read.find(0x551D15) is None
    own = objects.house()
    assert read.find(0x13131313131313131313131313131313, own.issuing.issuer.name) is not None
    assert read.find(0x13131313131313131313131313131313, own.root.issuer.name) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 2**127 - 1), st.integers(0, 4_000_000_000), st.sampled_from([*REASONS, None])), max_size=12, unique_by=lambda entry: entry[0]
    )
)
@cases(50)
def test_any_list_comes_back_from_both_readers(entries: list[tuple[int, int, str | None]]) -> None:
    encoded = objects.house().issuing.crl([crl.encode_entry(f"{serial:032X}", at, reason) for serial, at, reason in entries])
    ours, theirs = crl.read_crl(encoded), x509.load_der_x509_crl(encoded)
    assert [(int(one.serial, 16), when(one.at)) for one in ours.entries()] == [(one.serial_number, one.revocation_date_utc) for one in theirs]
    for serial, at, reason in entries:
        assert ours.find(serial) == Revoked(f"{serial:032X}", at, reason or "unspecified")


# Lists of other people


def entry(*extensions: bytes, serial: bytes = der.integer(5), at: bytes = der.instant(NOW)) -> bytes:
    return der.seq(serial, at, der.seq(*extensions) if extensions else b"")


def listed(*entries: bytes, extensions: tuple[bytes, ...] | None = None, version: bytes = der.integer(1), **changed: bytes) -> bytes:
    """A CRL of these parts under the issuing CA's name; not really signed."""
    issuer = objects.house().issuing.issuer
    if extensions is None:
        extensions = (certificate.authority_key_id(issuer.key_id), certificate.extension(oids.CRL_NUMBER, der.integer(7)))
    parts = {
        "version": version,
        "algorithm": issuer.algorithm,
        "issuer": issuer.name,
        "this": der.instant(NOW),
        "next": der.instant(NOW + DAY),
        "entries": der.seq(*entries) if entries else b"",
        "extensions": der.explicit(0, der.seq(*extensions)) if extensions else b"",
    }
    return certificate.assemble(der.seq(*(parts | changed).values()), b"not verified here")


def test_entries_of_unusual_forms_are_read_too() -> None:
    hold = certificate.extension(oids.CRL_REASON, der.enumerated(6))
    long_ago = certificate.extension(oids.INVALIDITY_DATE, der.generalized(NOW - DAY))
    unknown = certificate.extension("1.2.3", b"x")
    read = crl.read_crl(
        listed(
            entry(),
            entry(hold, long_ago, serial=der.integer(2**150)),
            entry(unknown, serial=der.integer(-7), at=der.generalized(NOW)),
            entry(serial=der.integer(0)),
            entry(certificate.extension(oids.CRL_REASON, der.enumerated(7)), serial=der.integer(9)),
            entry(certificate.extension(oids.CRL_REASON, der.enumerated(0)), serial=der.integer(10)),
        )
    )
    assert read.count == 6
    assert [one.reason for one in read.entries()] == ["unspecified", "certificate-hold", "unspecified", "unspecified", "unknown (7)", "unspecified"]
    assert [read.find(number) is not None for number in (5, 2**150, -7, 0, 9, 10, 11)] == [True] * 6 + [False]
    assert read.find(-7) == Revoked("-" + "0" * 30 + "7", NOW, "unspecified")


def test_a_delta_tells_its_base() -> None:
    delta = certificate.extension(oids.DELTA_CRL_INDICATOR, der.integer(3), critical=True)
    read = crl.read_crl(listed(extensions=(certificate.extension(oids.CRL_NUMBER, der.integer(9)), delta)))
    assert (read.is_delta, read.base_number, read.number) == (True, 3, 9)


def test_a_list_of_limited_scope_tells_it() -> None:
    scope = der.seq(
        der.explicit(0, der.explicit(0, der.implicit(6, b"http://ca.example/7.crl"))), der.implicit(2, b"\xff"), der.implicit(3, der.named_bits([1, 2])[2:])
    )
    read = crl.read_crl(listed(extensions=(certificate.extension(oids.ISSUING_DISTRIBUTION_POINT, scope, critical=True),)))
    assert read.scope is not None
    assert read.scope.full is not None
    assert (read.scope.full.uris, read.scope.only_ca, read.scope.only_user, read.scope.only_reasons) == (("http://ca.example/7.crl",), True, False, (1, 2))
    assert read.unknown_critical == ()
    freshest = der.seq(der.seq(der.explicit(0, der.explicit(0, der.implicit(6, b"http://ca.example/d.crl")))))
    read = crl.read_crl(listed(extensions=(certificate.extension(oids.FRESHEST_CRL, freshest),)))
    assert read.freshest[0].full is not None
    assert read.freshest[0].full.uris == ("http://ca.example/d.crl",)


def test_an_indirect_list_carries_its_issuers_on() -> None:
    """RFC 5280 5.3.3: an entry without a certificate issuer has that of the entry before it."""
    other = names.encode_name("another CA")
    given_issuer = certificate.extension(oids.CERTIFICATE_ISSUER, der.seq(der.explicit(4, other)), critical=True)
    scope = certificate.extension(oids.ISSUING_DISTRIBUTION_POINT, der.seq(der.implicit(4, b"\xff")), critical=True)
    read = crl.read_crl(listed(entry(), entry(given_issuer, serial=der.integer(6)), entry(serial=der.integer(7)), extensions=(scope,)))
    assert read.indirect
    assert [one.issuer for one in read.entries()] == [None, other, other]
    own = objects.house().issuing.issuer.name
    assert [read.find(5) is not None, read.find(6) is not None, read.find(7, own) is not None] == [True, False, False]
    assert read.find(7, other) == Revoked("0" * 31 + "7", NOW, "unspecified", other)
    assert read.find(5, other) is None


def test_critical_extensions_that_nobody_knows_are_named() -> None:
    """RFC 5280 5.2 and 5.3: such a list must not be used."""
    read = crl.read_crl(
        listed(
            entry(certificate.extension("1.2.3", b"", critical=True)),
            entry(certificate.extension("1.2.4", b"")),
            extensions=(certificate.extension("1.2.5", b"", critical=True), certificate.extension("1.2.6", b"")),
        )
    )
    assert read.unknown_critical == ("1.2.3", "1.2.5")


def test_version_1_is_read() -> None:
    read = crl.read_crl(listed(entry(), version=b"", extensions=()))
    assert (read.version, read.number, read.count, read.extensions) == (1, None, 1, ())
    assert crl.read_crl(listed(extensions=(), next=b"")).next_update is None


NUMBER = certificate.extension(oids.CRL_NUMBER, der.integer(7))
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the value ends"),
    "cut": (made()[:-1], "longer than what holds it"),
    "something behind it": (made() + b"\0", "left over"),
    "a certificate": (objects.house().root_der, "tag 0xA0"),
    "two signature algorithms": (der.seq(crl.read_crl(made()).tbs, signature.algorithm("rsa-2048"), der.bits(b"x")), "two signature algorithms differ"),
    "version 3": (listed(version=der.integer(2)), "its version is 3"),
    "an empty list of entries": (listed(entries=der.seq()), "must be left out"),
    "broken issuer": (listed(issuer=der.seq(der.seq())), "tag 0x30 where 0x31"),
    "no date": (listed(this=b"", next=b""), "a time that is neither"),
    "extensions in version 1": (listed(version=b""), "left over"),
    "entry extensions in version 1": (
        listed(entry(certificate.extension(oids.CRL_REASON, der.enumerated(6)), certificate.extension("1.2.3", b"")), version=b"", extensions=()),
        "version 1 does not know",
    ),
    "reason in version 1": (listed(crl.encode_entry("1A" * 16, NOW, "superseded"), version=b"", extensions=()), "version 1 does not know"),
    "extension twice": (listed(extensions=(NUMBER, NUMBER)), "CRL number stands there twice"),
    "negative number": (listed(extensions=(certificate.extension(oids.CRL_NUMBER, der.integer(-1)),)), "CRL number: a number below zero"),
    "long number": (listed(extensions=(certificate.extension(oids.CRL_NUMBER, der.integer(2**200)),)), "more than 20 bytes"),
    "entry without date": (listed(der.seq(der.integer(5))), "the value ends"),
    "entry with an impossible date": (listed(entry(at=b"\x17\x0d260230000000Z")), "calendar"),
    "entry with too much": (listed(der.seq(der.integer(5), der.instant(NOW), der.seq(), der.null())), "left over|empty"),
    "entry with no extensions in the list": (listed(der.seq(der.integer(5), der.instant(NOW), der.seq())), "list of extensions is empty"),
    "serial that is not minimal": (listed(entry(serial=b"\x02\x02\x00\x05")), "not minimal"),
    "empty serial": (listed(entry(serial=b"\x02\x00")), "empty INTEGER"),
    "reason of another type": (listed(entry(certificate.extension(oids.CRL_REASON, der.integer(1)))), "tag 0x02 where 0x0A"),
    "certificate issuer without a name": (
        listed(entry(certificate.extension(oids.CERTIFICATE_ISSUER, der.seq(der.implicit(2, b"a"))))),
        "not one distinguished name",
    ),
    "scope of two kinds": (
        listed(
            extensions=(certificate.extension(oids.ISSUING_DISTRIBUTION_POINT, der.seq(der.implicit(1, b"\xff"), der.implicit(2, b"\xff")), critical=True),)
        ),
        "two kinds of certificates",
    ),
    "scope with FALSE": (
        listed(extensions=(certificate.extension(oids.ISSUING_DISTRIBUTION_POINT, der.seq(der.implicit(1, b"\0")), critical=True),)),
        "not TRUE",
    ),
    "too many extensions": (listed(extensions=tuple(certificate.extension(f"1.2.{n}", b"") for n in range(65))), "more than 64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_crl_is_refused_in_a_sentence(name: str) -> None:
    encoded, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as refusal:
        crl.read_crl(encoded)
    assert refusal.value.code == "bad-crl"
    assert refusal.value.message.startswith("this is not a CRL that can be read: ")


@given(st.data())
def test_damaged_lists_end_in_a_list_or_a_sentence(data: st.DataObject) -> None:
    encoded = data.draw(objects.damaged(made()))
    for read in (crl.read_crl, crl.read_tbs_crl):
        try:
            found = read(encoded)
        except GatekeyError as error:
            assert error.code == "bad-crl"
        else:
            # What was read without complaint can be walked without complaint.
            assert len(list(found.entries())) == found.count
            for one in found.entries():
                assert found.indirect or found.find(int(one.serial, 16)) is not None


@given(st.data())
def test_damaged_entries_are_read_alike_on_both_ways(data: st.DataObject) -> None:
    """The quick recognition of usual entries must never read what the strict reader would refuse."""
    one = data.draw(objects.damaged(crl.encode_entry("1A" * 16, NOW, data.draw(st.sampled_from([None, "superseded"])))))
    try:
        expected = crl._slow(der.whole(one)).revoked
    except GatekeyError:
        expected = None
    try:
        read = crl.read_crl(listed(one))
    except GatekeyError:
        assert expected is None or not one
    else:
        if expected is not None:
            assert list(read.entries()) == [expected]


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_sentence(data: bytes) -> None:
    with pytest.raises(Malformed):
        crl.read_crl(data)


def _many(count: int) -> bytes:
    """Entries of serials 1A...0, 1A...1 and so on, every other with a reason."""
    models = [crl.encode_entry("1A" + "00" * 15, NOW, reason) for reason in ("superseded", None)]
    entries = [models[number % 2][:12] + number.to_bytes(8, "big") + models[number % 2][20:] for number in range(count)]
    return objects.house().issuing.crl(entries)


def test_reading_a_long_list_takes_no_memory_for_its_entries() -> None:
    encoded = _many(20_000)

    def peak() -> int:
        tracemalloc.start()
        try:
            read = crl.read_crl(encoded)
            assert read.find(0x1A << 120 | 19_999) is not None
            assert read.count == 20_000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # What other threads of the test run take at the same moment counts, too; they do not take it each time.
    assert any(peak() < 100_000 for _ in range(5)), "the entries stay where they are"


@pytest.mark.slow
def test_a_million_entries() -> None:
    encoded = _many(1_000_000)
    read = crl.read_crl(encoded)
    assert read.count == 1_000_000
    assert read.find(0x1A << 120 | 999_999) == Revoked(f"1A{999_999:030X}", NOW, "unspecified")
    assert read.find(1) is None
    assert signature.verify(objects.house().issuing.spki, read.algorithm, read.signature, read.tbs)


# Outside judges

VECTORS = Path(cryptography_vectors.__path__[0]) / "x509"

#: Lists of cryptography's collection that it loads and we refuse, with the words of our reason.
STRICTER = {
    "PKITS_data/crls/BadCRLSignatureCACRL.crl": "whole number of bytes",  # the signature was damaged into 7 unused bits
    "custom/crl_dup_entry_ext.pem": "CRL reason stands there twice",
    "custom/crl_inval_cert_issuer_entry_ext.pem": "the value ends",
    "custom/crl_inval_date_fractional_seconds.der": "a time that is neither",  # RFC 5280 5.3.2: no fractions
}


def test_lists_of_the_whole_world_are_read_as_cryptography_reads_them() -> None:
    refused, count = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(VECTORS.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            try:
                theirs = x509.load_pem_x509_crl(content) if b"-----BEGIN X509 CRL" in content else x509.load_der_x509_crl(content)
                assert theirs.extensions is not None
            except (ValueError, x509.InvalidVersion):
                continue
            count += 1
            try:
                ours = crl.read_crl(theirs.public_bytes(serialization.Encoding.DER))
            except Malformed as error:
                refused[str(path.relative_to(VECTORS))] = error.message
                continue
            agree(ours, theirs)
    assert count > 180
    assert refused.keys() == STRICTER.keys()
    for name, words in STRICTER.items():
        assert words in refused[name]


def agree(ours: crl.Crl, theirs: x509.CertificateRevocationList) -> None:
    """Every field that both sides have."""
    assert ours.tbs == theirs.tbs_certlist_bytes
    assert ours.signature == theirs.signature
    assert ours.issuer == theirs.issuer.public_bytes()
    assert when(ours.this_update) == theirs.last_update_utc
    assert (when(ours.next_update) if ours.next_update is not None else None) == theirs.next_update_utc
    assert ours.count == len(theirs)
    assert [(int(one.serial, 16), when(one.at)) for one in ours.entries()] == [(one.serial_number, one.revocation_date_utc) for one in theirs]
    assert [extension.oid for extension in ours.extensions] == [extension.oid.dotted_string for extension in theirs.extensions]
    for extension in theirs.extensions:
        match extension.value:
            case x509.CRLNumber() as value:
                assert ours.number == value.crl_number
            case x509.DeltaCRLIndicator() as value:
                assert ours.base_number == value.crl_number
            case x509.AuthorityKeyIdentifier() as value:
                assert ours.authority_key_id == value.key_identifier
            case x509.IssuingDistributionPoint() as value:
                assert ours.scope is not None
                assert (ours.scope.only_user, ours.scope.only_ca) == (value.only_contains_user_certs, value.only_contains_ca_certs)
                assert (ours.scope.indirect, ours.scope.only_attribute) == (value.indirect_crl, value.only_contains_attribute_certs)
                assert len(set(ours.scope.only_reasons or ()) - {0}) == len(value.only_some_reasons or ())  # bit 0 means nothing


@pytest.mark.interop
@pytest.mark.parametrize("entries", [(), SOME])
def test_pkilint_finds_nothing(entries: tuple[Entry, ...]) -> None:
    assert findings(made(entries)) == []


@pytest.mark.interop
def test_pkilint_would_find_something() -> None:
    assert "pkix.crl_number_missing" in findings(listed(extensions=()))


def findings(encoded: bytes) -> list[str]:
    """What `lint_crl lint -t CRL -p PKIX -s NOTICE` prints, as codes."""
    from pkilint import loader, pkix
    from pkilint.pkix import crl as judge
    from pkilint.pkix import extension, name
    from pkilint.validation import ValidationFindingSeverity

    validator = judge.create_pkix_crl_validator_container(
        [pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS), pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)],
        [judge.create_issuer_validator_container([]), judge.create_validity_validator_container(), judge.create_extensions_validator_container([])],
    )
    results = validator.validate(loader.load_crl(encoded, "made here").root)
    described = [one.finding for result in results for one in result.finding_descriptions]
    return [one.code for one in described if one.severity <= ValidationFindingSeverity.NOTICE]


@pytest.mark.interop
@pytest.mark.parametrize("key_type", ["p256", "rsa-2048", "ed25519"])
def test_openssl_refuses_the_revoked_and_nobody_else(key_type: str, program: Callable[[str], str], tmp_path: Path) -> None:
    house = objects.house(key_type)
    revoked = [crl.encode_entry("13" * 16, NOW, "key-compromise"), crl.encode_entry("15" * 16, NOW, "certificate-hold")]
    for name, encoded in (("root", house.root_der), ("issuing", house.issuing_der)):
        (tmp_path / f"{name}.pem").write_bytes(pem.encode("CERTIFICATE", encoded))
    (tmp_path / "crls.pem").write_bytes(pem.encode("X509 CRL", house.root.crl()) + pem.encode("X509 CRL", house.issuing.crl(revoked)))
    results = {}
    for serial in ("13" * 16, "14" * 16, "15" * 16):
        (tmp_path / "leaf.pem").write_bytes(pem.encode("CERTIFICATE", house.certificate(serial=serial)))
        command = [program("openssl"), "verify", "-x509_strict", "-attime", str(NOW + DAY), "-crl_check_all", "-CRLfile", "crls.pem", "-CAfile", "root.pem"]
        told = subprocess.run([*command, "-untrusted", "issuing.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, text=True)
        results[serial[:2]] = told.stdout.strip() or told.stderr.split("\n")[1].rpartition(": ")[2]
    assert results == {"13": "certificate revoked", "14": "leaf.pem: OK", "15": "certificate revoked"}


@pytest.mark.interop
def test_openssl_prints_what_we_wrote(program: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "c.crl").write_bytes(made())
    (tmp_path / "ca.pem").write_bytes(pem.encode("CERTIFICATE", objects.house().issuing_der))
    told = subprocess.run(
        [program("openssl"), "crl", "-inform", "DER", "-in", "c.crl", "-CAfile", "ca.pem", "-noout", "-text"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "verify OK" in told.stderr
    assert "X509v3 CRL Number: \n                7\n" in told.stdout
    for serial, _, _ in SOME:
        assert f"Serial Number: {int(serial, 16):032X}" in told.stdout or f"Serial Number: {int(serial, 16):02X}" in told.stdout
    for words in ("Key Compromise", "Certificate Hold", "Superseded", "Affiliation Changed"):
        assert words in told.stdout
    assert "Unspecified" not in told.stdout
