"""Certificates: what we write is read the same by others, and what others write we read, or refuse in a sentence."""

from __future__ import annotations

import datetime as dt
import functools
import subprocess
import warnings
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.names import Names
from gatekey.model.plan import NameConstraints, Plan
from gatekey.x509 import certificate, der, names, oids, pem, signature, spki
from kit import objects
from kit.cases import cases
from kit.objects import DAY, NOW

URLS: dict[str, Any] = {
    "crl_urls": ("http://ca.example/people.crl", "http://other.example/people.crl"),
    "issuer_urls": ("http://ca.example/people.crt",),
    "ocsp_urls": ("http://ca.example/ocsp",),
}
BOUNDS = NameConstraints(("example.com",), ("example.com", ".example.com"), ("10.0.0.0/8",))

PLANS: dict[str, Plan] = {
    "root": objects.authority("kitty-ca people root", objects.spki_of(objects.key("p256", 1)), days=7300),
    "issuing": objects.authority("kitty-ca people", objects.spki_of(objects.key("p256", 2)), days=3650, path_length=0, constraints=BOUNDS, **URLS),
    "issuing without addresses": objects.authority(
        "ca", objects.spki_of(objects.key("p256", 2)), days=3650, constraints=NameConstraints(("example.com",), no_ips=True)
    ),
    "client": objects.client(),
    "client with addresses": objects.client(**URLS),
    "client for life": objects.client(not_after=253402300799),
    "server": objects.server("www.example.com", "*.example.com", ips=("10.0.0.1", "2001:db8::1")),
    "server without a subject": objects.server("a" * 60 + ".example.com", common_name=""),
    "OCSP responder": objects.client(Names("ocsp responder"), extended=("OCSPSigning",), no_check=True),
    "short-lived": objects.client(not_after=NOW + DAY - 1, no_revocation=True),
    "RSA": objects.client(key_info=objects.spki_of(objects.key("rsa-2048"))),
    "ML-DSA": objects.client(key_info=objects.spki_of(objects.key("ml-dsa-65"))),
}


@functools.cache
def made(name: str) -> bytes:
    house = objects.house()
    return {"root": house.root_der}.get(name) or house.certificate(PLANS[name])


def when(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


# What cryptography's builder makes of the same plan


def by_cryptography(plan: Plan, serial: str, maker: objects.Maker) -> x509.Certificate:
    """The same content in the same order, built by another hand."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, plan.names.common_name)] if plan.names.common_name else [])
    builder = (
        x509.CertificateBuilder()
        .serial_number(int(serial, 16))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, maker.name)]))
        .subject_name(subject)
        .not_valid_before(when(plan.not_before))
        .not_valid_after(when(plan.not_after))
        .public_key(serialization.load_der_public_key(plan.spki))  # type: ignore[arg-type]  # keys of certificates only
    )
    for extension, critical in expected_extensions(plan, maker):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(maker.private, hashes.SHA256())


def expected_extensions(plan: Plan, maker: objects.Maker) -> Iterator[tuple[x509.ExtensionType, bool]]:
    yield x509.BasicConstraints(plan.ca, plan.path_length), True
    words = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    yield x509.KeyUsage(**{word: usage in plan.key_usage for word, usage in zip(words, oids.KEY_USAGES, strict=True)}), True
    if plan.extended:
        usages = {"clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH, "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING}
        yield x509.ExtendedKeyUsage([usages[usage] for usage in plan.extended]), False
    yield x509.AuthorityKeyIdentifier(maker.issuer.key_id, None, None), False
    if plan.constraints is not None:
        yield _constraints(plan.constraints), True
    if plan.crl_urls:
        yield x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in plan.crl_urls], None, None, None)]), False
    methods = [(AuthorityInformationAccessOID.OCSP, url) for url in plan.ocsp_urls] + [
        (AuthorityInformationAccessOID.CA_ISSUERS, url) for url in plan.issuer_urls
    ]
    if methods:
        yield x509.AuthorityInformationAccess([x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in methods]), False
    if plan.no_check:
        yield x509.OCSPNoCheck(), False
    if plan.no_revocation:
        yield x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00"), False
    yield x509.SubjectKeyIdentifier(spki.key_identifier(plan.spki)), False
    asked: list[x509.GeneralName] = [x509.DNSName(name) for name in plan.names.dns]
    asked += [x509.IPAddress(ip_address(ip)) for ip in plan.names.ips]
    asked += [x509.RFC822Name(email) for email in plan.names.emails]
    if asked:
        yield x509.SubjectAlternativeName(asked), not plan.names.common_name


def _constraints(asked: NameConstraints) -> x509.NameConstraints:
    permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in asked.dns]
    permitted += [x509.RFC822Name(email) for email in asked.emails]
    permitted += [x509.IPAddress(ip_network(block)) for block in asked.ips]
    everything = [x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0"))]
    return x509.NameConstraints(permitted, everything if asked.no_ips else None)


@pytest.mark.parametrize("name", PLANS)
def test_the_same_bytes_as_the_builder_of_cryptography(name: str) -> None:
    maker = objects.house().root if name == "root" else objects.house().issuing
    ours = certificate.encode_tbs(PLANS[name], "1A" * 16, maker.issuer)
    assert ours == by_cryptography(PLANS[name], "1A" * 16, maker).tbs_certificate_bytes


@pytest.mark.parametrize("name", PLANS)
def test_cryptography_reads_every_field_as_we_do(name: str) -> None:
    encoded = made(name)
    theirs, ours, plan = x509.load_der_x509_certificate(encoded), certificate.read_certificate(encoded), PLANS[name]
    agree(ours, theirs)
    assert (ours.not_before, ours.not_after) == (plan.not_before, plan.not_after)
    assert ours.names == names.GeneralNames(plan.names.dns, plan.names.ips, plan.names.emails)
    assert (ours.common_name, ours.ca, ours.path_length) == (plan.names.common_name, plan.ca, plan.path_length)
    assert (ours.key_usage, ours.extended) == (plan.key_usage, plan.extended or None)
    assert (ours.crl_urls, ours.issuer_urls, ours.ocsp_urls) == (plan.crl_urls, plan.issuer_urls, plan.ocsp_urls)
    assert (ours.extension(oids.OCSP_NOCHECK) is not None, ours.extension(oids.NO_REV_AVAIL) is not None) == (plan.no_check, plan.no_revocation)
    assert signature.verify(objects.house().root.spki if name == "root" else objects.house().issuing.spki, ours.algorithm, ours.signature, ours.tbs)
    assert certificate.read_tbs(ours.tbs) == ours._replace(der=b"", signature=b"")


def agree(ours: certificate.Certificate, theirs: x509.Certificate) -> None:
    """Every field that both sides have."""
    assert ours.der == theirs.public_bytes(serialization.Encoding.DER)
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert ours.serial_number == theirs.serial_number
    assert int(ours.serial, 16) == theirs.serial_number
    assert when(ours.not_before) == theirs.not_valid_before_utc
    assert when(ours.not_after) == theirs.not_valid_after_utc
    assert ours.fingerprint == theirs.fingerprint(hashes.SHA256()).hex().upper()
    assert ours.version - 1 == theirs.version.value
    assert ours.issuer == theirs.issuer.public_bytes()
    assert ours.subject == theirs.subject.public_bytes()
    assert [extension.oid for extension in ours.extensions] == [extension.oid.dotted_string for extension in theirs.extensions]
    assert [extension.critical for extension in ours.extensions] == [extension.critical for extension in theirs.extensions]
    for extension in theirs.extensions:
        agree_on(ours, extension.value)


def agree_on(ours: certificate.Certificate, value: Any) -> None:
    """The fields that come out of one extension."""
    match value:
        case x509.BasicConstraints():
            assert (ours.ca, ours.path_length) == (value.ca, value.path_length)
        case x509.SubjectKeyIdentifier():
            assert ours.key_id == value.digest
        case x509.AuthorityKeyIdentifier():
            assert ours.authority_key_id == value.key_identifier
        case x509.ExtendedKeyUsage():
            assert [oids.EXTENDED.get(usage, usage) for usage in ours.extended or ()] == [usage.dotted_string for usage in value]
        case x509.KeyUsage():
            assert ("digitalSignature" in (ours.key_usage or ()), "keyCertSign" in (ours.key_usage or ())) == (value.digital_signature, value.key_cert_sign)
        case x509.SubjectAlternativeName():
            assert list(ours.names.dns) == value.get_values_for_type(x509.DNSName)
            assert list(ours.names.emails) == value.get_values_for_type(x509.RFC822Name)
            assert list(ours.names.uris) == value.get_values_for_type(x509.UniformResourceIdentifier)
            assert [ip_address(ip) for ip in ours.names.ips] == value.get_values_for_type(x509.IPAddress)
            assert list(ours.names.directory) == [name.public_bytes() for name in value.get_values_for_type(x509.DirectoryName)]
        case x509.CRLDistributionPoints():
            theirs = [name.value for point in value for name in point.full_name or () if isinstance(name, x509.UniformResourceIdentifier)]
            assert list(ours.crl_urls) == theirs
        case x509.AuthorityInformationAccess():
            theirs = [
                one.access_location.value
                for one in value
                if one.access_method == AuthorityInformationAccessOID.OCSP and isinstance(one.access_location, x509.UniformResourceIdentifier)
            ]
            assert list(ours.ocsp_urls) == theirs
        case x509.NameConstraints():
            assert ours.constraints is not None
            for mine, other in ((ours.constraints.permitted, value.permitted_subtrees), (ours.constraints.excluded, value.excluded_subtrees)):
                assert mine.total == len(other or ())
                assert [ip_network(ip) for ip in mine.ips] == [name.value for name in other or () if isinstance(name, x509.IPAddress)]
                assert list(mine.dns) == [name.value for name in other or () if isinstance(name, x509.DNSName)]


def test_critical_flags_are_those_of_rfc_5280() -> None:
    """Section 4.2, and RFC 9608 4, RFC 6960 4.2.2.2.1 for the last two."""
    critical: dict[str, set[bool]] = {}
    for name in PLANS:
        for extension in certificate.read_certificate(made(name)).extensions:
            critical.setdefault(oids.name(extension.oid), set()).add(extension.critical)
    assert critical == {
        "basic constraints": {True},
        "key usage": {True},
        "name constraints": {True},
        "extended key usage": {False},
        "subject key identifier": {False},
        "authority key identifier": {False},
        "CRL distribution points": {False},
        "authority information access": {False},
        "OCSP no check": {False},
        "no revocation available": {False},
        "subject alternative names": {True, False},
    }


def test_alternative_names_are_critical_only_without_a_subject() -> None:
    for name in PLANS:
        read = certificate.read_certificate(made(name))
        names_extension = read.extension(oids.SUBJECT_ALT_NAME)
        if names_extension is not None:
            assert names_extension.critical is (read.subject == b"\x30\x00")


def test_what_certificates_share_is_encoded_once() -> None:
    certificate._fixed.cache_clear()
    house = objects.house()
    for number in range(20):
        certificate.encode_tbs(objects.client(Names(f"person {number}")), f"{number + 1:032X}", house.issuing.issuer)
    assert certificate._fixed.cache_info().misses == 1


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
def test_every_key_type_signs_certificates(key_type: str) -> None:
    house = objects.house(key_type)
    read = certificate.read_certificate(house.issuing_der)
    assert signature.verify(house.root.spki, read.algorithm, read.signature, read.tbs)
    x509.load_der_x509_certificate(house.issuing_der).verify_directly_issued_by(x509.load_der_x509_certificate(house.root_der))


@given(
    common_name=st.text("abcdefghijklmnopqrstuvwxyz ABC._@-0123456789ëß猫", max_size=20),
    dns=st.lists(st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,8}){1,3}", fullmatch=True), max_size=5),
    ips=st.lists(st.ip_addresses().map(str), max_size=4),
    emails=st.lists(st.from_regex(r"[a-z0-9.]{1,12}@[a-z]{1,8}\.[a-z]{2,4}", fullmatch=True), max_size=3),
    serial=st.integers(1, 2**127 - 1),
    start=st.integers(0, 4_000_000_000),
    days=st.integers(1, 20000),
    usage=st.sets(st.sampled_from(oids.KEY_USAGES), min_size=1),
    extended=st.lists(st.sampled_from(sorted(oids.EXTENDED)), unique=True, max_size=4),
)
@cases(60)
def test_any_plan_comes_back_from_both_readers(
    common_name: str, dns: list[str], ips: list[str], emails: list[str], serial: int, start: int, days: int, usage: set[str], extended: list[str]
) -> None:
    asked = Names(common_name, tuple(dns), tuple(ips), tuple(emails))
    key_usage = tuple(sorted(usage, key=oids.KEY_USAGES.index))
    plan = objects.client(asked, not_before=start, not_after=start + days * DAY, key_usage=key_usage, extended=tuple(extended))
    encoded = objects.house().certificate(plan, f"{serial:032X}")
    read = certificate.read_certificate(encoded)
    assert (read.serial, read.common_name, read.names) == (f"{serial:032X}", common_name, names.GeneralNames(asked.dns, asked.ips, asked.emails))
    assert (read.not_before, read.not_after, read.key_usage, read.extended) == (plan.not_before, plan.not_after, key_usage, tuple(extended) or None)
    if {"encipherOnly", "decipherOnly"} & usage and "keyAgreement" not in usage:
        return  # cryptography refuses what RFC 5280 4.2.1.3 leaves undefined
    agree(read, x509.load_der_x509_certificate(encoded))


# Reading strictly


def tbs_parts(**changed: bytes) -> bytes:
    """A to-be-signed client certificate with some of its parts replaced; `b""` leaves one out."""
    plan, issuer = objects.client(), objects.house().issuing.issuer
    parts = {
        "version": der.explicit(0, der.integer(2)),
        "serial": der.integer(5),
        "algorithm": issuer.algorithm,
        "issuer": issuer.name,
        "validity": der.seq(der.instant(plan.not_before), der.instant(plan.not_after)),
        "subject": names.encode_name("ann"),
        "spki": plan.spki,
        "unique": b"",
        "extensions": der.explicit(3, der.seq(certificate.extension(oids.BASIC_CONSTRAINTS, der.seq(), critical=True))),
    }
    return der.seq(*(parts | changed).values())


def signed(tbs: bytes) -> bytes:
    return certificate.assemble(tbs, b"not verified here")


def with_extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    return signed(tbs_parts(extensions=der.explicit(3, der.seq(certificate.extension(dotted, value, critical=critical)))))


BASIC = certificate.extension(oids.BASIC_CONSTRAINTS, der.seq(), critical=True)
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the value ends"),
    "cut": (made("client")[:-1], "longer than what holds it"),
    "something behind it": (made("client") + b"\0", "left over"),
    "too long": (bytes(300_000), "more than the 262144"),
    "two signature algorithms": (der.seq(tbs_parts(), signature.algorithm("rsa-2048"), der.bits(b"x")), "two signature algorithms differ"),
    "version 4": (signed(tbs_parts(version=der.explicit(0, der.integer(3)))), "its version is 4"),
    "version 1 written out": (signed(tbs_parts(version=der.explicit(0, der.integer(0)))), "its version is 1"),
    "version 1 with extensions": (signed(tbs_parts(version=b"")), "left over"),
    "long serial": (signed(tbs_parts(serial=der.integer(2**600))), "serial number of more than 64"),
    "no serial": (signed(tbs_parts(serial=b"\x02\x00")), "empty INTEGER"),
    "wrong time": (signed(tbs_parts(validity=der.seq(der.instant(0), der.octets(b"x")))), "a time that is neither"),
    "broken subject": (signed(tbs_parts(subject=der.seq(der.seq()))), "tag 0x30 where 0x31"),
    "broken issuer": (signed(tbs_parts(issuer=der.seq(der.seq()))), "tag 0x30 where 0x31"),
    "no extensions in the list": (signed(tbs_parts(extensions=der.explicit(3, der.seq()))), "list of extensions is empty"),
    "extension twice": (signed(tbs_parts(extensions=der.explicit(3, der.seq(BASIC, BASIC)))), "basic constraints stands there twice"),
    "too many extensions": (
        signed(tbs_parts(extensions=der.explicit(3, der.seq(*(certificate.extension(f"1.2.{n}", b"") for n in range(65)))))),
        "more than 64 extensions",
    ),
    "critical written out as false": (
        signed(tbs_parts(extensions=der.explicit(3, der.seq(der.seq(der.oid("1.2.3"), der.boolean(False), der.octets(b"")))))),
        "default of FALSE",
    ),
    "CA written out as false": (with_extension(oids.BASIC_CONSTRAINTS, der.seq(der.boolean(False))), "basic constraints: .*default of FALSE"),
    "path length without CA": (with_extension(oids.BASIC_CONSTRAINTS, der.seq(der.integer(0))), "path length for something that is not a CA"),
    "negative path length": (with_extension(oids.BASIC_CONSTRAINTS, der.seq(der.boolean(True), der.integer(-1))), "path length that is negative"),
    "absurd path length": (with_extension(oids.BASIC_CONSTRAINTS, der.seq(der.boolean(True), der.integer(2**40))), "path length that is negative or absurd"),
    "usage with zeros behind": (with_extension(oids.KEY_USAGE, bytes.fromhex("03020080")), "trailing zero bits"),
    "usage that means nothing": (with_extension(oids.KEY_USAGE, der.named_bits([9])), "bit 9"),
    "no extended usage": (with_extension(oids.EXTENDED_KEY_USAGE, der.seq()), "extended key usage: it is empty"),
    "no alternative names": (with_extension(oids.SUBJECT_ALT_NAME, der.seq()), "list of names is empty"),
    "no issuer names": (with_extension(oids.ISSUER_ALT_NAME, der.seq()), "list of names is empty"),
    "zero byte in a host": (with_extension(oids.SUBJECT_ALT_NAME, der.seq(der.implicit(2, b"a\0b"))), "not printable ASCII"),
    "no points": (with_extension(oids.CRL_DISTRIBUTION_POINTS, der.seq()), "CRL distribution points: it is empty"),
    "no access": (with_extension(oids.AUTHORITY_INFO_ACCESS, der.seq()), "authority information access: it is empty"),
    "no constraints": (with_extension(oids.NAME_CONSTRAINTS, der.seq()), "name constraints: it is empty"),
    "constraint with a minimum": (
        with_extension(oids.NAME_CONSTRAINTS, der.seq(der.explicit(0, der.seq(der.implicit(2, b"a"), der.implicit(0, b"\x01"))))),
        "minimum or maximum",
    ),
    "mask with holes": (
        with_extension(oids.NAME_CONSTRAINTS, der.seq(der.explicit(0, der.seq(der.implicit(7, bytes.fromhex("0a000000ff00ff00")))))),
        "mask 255.0.255.0 has holes",
    ),
    "key identifier of another type": (with_extension(oids.SUBJECT_KEY_ID, der.integer(1)), "subject key identifier"),
    "too many usages": (with_extension(oids.EXTENDED_KEY_USAGE, der.seq(*(der.oid(f"1.2.{n}") for n in range(200)))), "left over"),
    "signature of half a byte": (der.seq(tbs_parts(), objects.house().issuing.issuer.algorithm, der.bits(b"\xf0", 4)), "whole number of bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_certificate_is_refused_in_a_sentence(name: str) -> None:
    encoded, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as refusal:
        certificate.read_certificate(encoded)
    assert refusal.value.code == "bad-certificate"
    assert refusal.value.message.startswith("this is not a certificate that can be read: ")
    assert refusal.value.message.count("this is not") == 1


def test_serials_of_every_size_are_written_in_hex() -> None:
    for number, expected in ((5, "0" * 31 + "5"), (2**127 - 1, "7" + "F" * 31), (2**150, "4" + "0" * 37), (-5, "-" + "0" * 30 + "5"), (0, "0" * 32)):
        read = certificate.read_certificate(signed(tbs_parts(serial=der.integer(number))))
        assert (read.serial, read.serial_number) == (expected, number)


def test_old_versions_are_read() -> None:
    first = certificate.read_certificate(signed(tbs_parts(version=b"", extensions=b"")))
    assert (first.version, first.extensions, first.ca) == (1, (), False)
    unique = certificate.read_certificate(signed(tbs_parts(version=der.explicit(0, der.integer(1)), unique=der.implicit(1, b"\0x"), extensions=b"")))
    assert unique.version == 2


def test_unknown_extensions_are_kept_unread() -> None:
    read = certificate.read_certificate(with_extension("1.2.3.4", b"\xff\xff", critical=True))
    assert read.extensions == (certificate.Extension("1.2.3.4", True, b"\xff\xff"),)


def test_points_of_every_form_are_read() -> None:
    directory = names.encode_name("crl issuer")
    points = der.seq(
        der.seq(der.explicit(0, der.explicit(0, der.implicit(6, b"http://a/")))),
        der.seq(der.explicit(0, der.explicit(1, der.seq(der.oid(oids.COMMON_NAME), der.utf8("shard 7")))), der.explicit(2, der.explicit(4, directory))),
        der.seq(der.explicit(0, der.explicit(0, der.explicit(4, directory))), der.implicit(1, der.named_bits([1, 2])[2:])),
    )
    read = certificate.read_certificate(with_extension(oids.CRL_DISTRIBUTION_POINTS, points))
    first, second, third = read.crl_points
    assert read.crl_urls == ("http://a/",)
    assert first.full is not None
    assert (first.full.uris, first.reasons, first.issuer) == (("http://a/",), None, None)
    assert second.relative is not None
    assert second.issuer is not None
    assert names.read_name(der.seq(second.relative)) == (((oids.COMMON_NAME, "shard 7"),),)
    assert second.issuer.directory == (directory,)
    assert third.reasons == (1, 2)


def test_who_signs_itself_is_seen_through_other_spellings() -> None:
    assert certificate.read_certificate(objects.house().root_der).self_issued
    assert not certificate.read_certificate(objects.house().issuing_der).self_issued
    printable = der.seq(der.tlv(der.SET, der.seq(der.oid(oids.COMMON_NAME), der.printable("KITTY-CA  people"))))
    assert certificate.read_certificate(signed(tbs_parts(subject=printable))).self_issued


@given(st.data(), st.sampled_from(["client with addresses", "issuing", "server"]))
def test_damaged_certificates_end_in_a_certificate_or_a_sentence(data: st.DataObject, name: str) -> None:
    encoded = data.draw(objects.damaged(made(name)))
    for read in (certificate.read_certificate, certificate.read_tbs):
        try:
            found = read(encoded)
        except GatekeyError as error:
            assert error.code == "bad-certificate"
        else:
            # If it can still be read, everything that people are shown of it can be shown.
            assert names.display(found.issuer) + names.rfc2253(found.subject) + found.fingerprint
            assert found.self_issued in (True, False)


@given(st.data())
def test_damaged_extensions_end_in_a_certificate_or_a_sentence(data: st.DataObject) -> None:
    """Damage inside one extension, with all lengths around it right: the outer layers cannot catch it."""
    extension = data.draw(st.sampled_from(certificate.read_certificate(made("issuing")).extensions + certificate.read_certificate(made("server")).extensions))
    try:
        certificate.read_certificate(with_extension(extension.oid, data.draw(objects.damaged(extension.value))))
    except GatekeyError as error:
        assert error.code == "bad-certificate"


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_sentence(data: bytes) -> None:
    with pytest.raises(Malformed):
        certificate.read_certificate(data)


def test_assembling_reads_the_algorithm_out_of_the_bytes() -> None:
    assert certificate.assemble(tbs_parts(), b"s").endswith(objects.house().issuing.issuer.algorithm + der.bits(b"s"))
    assert certificate.assemble(tbs_parts(version=b""), b"s").endswith(objects.house().issuing.issuer.algorithm + der.bits(b"s"))
    with pytest.raises(Malformed):
        certificate.assemble(b"\x30\x00", b"s")


# Outside judges

VECTORS = Path(cryptography_vectors.__path__[0]) / "x509"

#: Certificates of cryptography's collection that it reads and we refuse, with the words of our reason.
STRICTER = {
    "PKITS_data/certs/BadSignedCACert.crt": "whole number of bytes",  # the signature was damaged into 7 unused bits
    "PKITS_data/certs/InvalidDSASignatureTest6EE.crt": "whole number of bytes",
    "custom/alternate-rsa-sha1-oid.der": "trailing zero bits",  # no DER (X.690 11.2.2)
    "custom/mismatch_inner_outer_sig_algorithm.der": "signature algorithms differ",  # RFC 5280 4.1.1.2
    "custom/rsa_pss_cert_invalid_mgf.der": "signature algorithms differ",
    "custom/rsa_pss_cert_no_sig_params.der": "signature algorithms differ",
    "custom/rsa_pss_cert_unsupported_mgf_hash.der": "signature algorithms differ",
    "utf8-dnsname.pem": "not printable ASCII",  # a dNSName is ASCII
    "v1_cert.pem": "signature algorithms differ",
}


def vectors() -> Iterator[tuple[str, bytes, x509.Certificate]]:
    """Every certificate there that cryptography reads in full."""
    for path in sorted(VECTORS.rglob("*")):
        if path.suffix not in (".pem", ".crt", ".der"):
            continue
        content = path.read_bytes()
        load = x509.load_pem_x509_certificate if b"-----BEGIN" in content else x509.load_der_x509_certificate
        try:
            theirs = load(content)
            assert theirs.extensions is not None
            assert theirs.subject is not None
            assert theirs.issuer is not None
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion):
            continue
        yield str(path.relative_to(VECTORS)), theirs.public_bytes(serialization.Encoding.DER), theirs


def test_certificates_of_the_whole_world_are_read_as_cryptography_reads_them() -> None:
    refused, count = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the oddities for which these files were made
        for name, encoded, theirs in vectors():
            count += 1
            try:
                ours = certificate.read_certificate(encoded)
            except Malformed as error:
                refused[name] = error.message
                continue
            agree(ours, theirs)
    assert count > 400
    assert refused.keys() == STRICTER.keys()
    for name, words in STRICTER.items():
        assert words in refused[name]


#: What pkilint finds in ours, each with the reason why it stays.
ARGUED = {
    # RFC 5280 4.2.1.6 leaves wildcards open; RFC 9525 6.3 defines them, and every browser takes them.
    "server": ["pkix.invalid_domain_name_syntax"],
}


@pytest.mark.interop
@pytest.mark.parametrize("name", PLANS)
def test_pkilint_finds_nothing_that_is_not_argued(name: str) -> None:
    assert findings(made(name)) == ARGUED.get(name, [])


def findings(encoded: bytes) -> list[str]:
    """What `lint_pkix_cert lint -s NOTICE` prints, as codes; in this process, as starting that program takes a second."""
    from pkilint import loader
    from pkilint.pkix import certificate as judge
    from pkilint.pkix import extension, name
    from pkilint.validation import ValidationFindingSeverity

    validator = judge.create_pkix_certificate_validator_container(
        judge.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            judge.create_issuer_validator_container([]),
            judge.create_validity_validator_container(),
            judge.create_subject_validator_container([]),
            judge.create_extensions_validator_container([]),
            judge.create_spki_validator_container([]),
        ],
    )
    results = validator.validate(loader.load_certificate(encoded, "made here").root)
    described = [one.finding for result in results for one in result.finding_descriptions]
    return [one.code for one in described if one.severity <= ValidationFindingSeverity.NOTICE]


@pytest.mark.interop
def test_pkilint_would_find_something() -> None:
    """A judge that never speaks is no judge."""
    assert "pkix.authority_key_identifier_extension_absent" in findings(signed(tbs_parts()))


@pytest.mark.interop
@pytest.mark.parametrize(
    ("plan", "purpose"), [("client", "sslclient"), ("client with addresses", "sslclient"), ("server", "sslserver"), ("server without a subject", "sslserver")]
)
@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa-2048", "ed25519"])
def test_openssl_verifies_the_whole_path(plan: str, purpose: str, key_type: str, program: Callable[[str], str], tmp_path: Path) -> None:
    house = objects.house(key_type)
    for name, encoded in (("root", house.root_der), ("issuing", house.issuing_der), ("leaf", house.certificate(PLANS[plan]))):
        (tmp_path / f"{name}.pem").write_bytes(pem.encode("CERTIFICATE", encoded))
    told = subprocess.run(
        [
            program("openssl"),
            "verify",
            "-x509_strict",
            "-attime",
            str(NOW + DAY),
            "-purpose",
            purpose,
            "-CAfile",
            "root.pem",
            "-untrusted",
            "issuing.pem",
            "leaf.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (told.stdout, told.stderr, told.returncode) == ("leaf.pem: OK\n", "", 0)


@pytest.mark.interop
def test_openssl_enforces_our_name_constraints(program: Callable[[str], str], tmp_path: Path) -> None:
    house = objects.house()
    plan = objects.authority(
        house.issuing.name, house.issuing.spki, days=3650, path_length=0, constraints=NameConstraints(("example.com",), ("example.com",), no_ips=True)
    )
    (tmp_path / "root.pem").write_bytes(pem.encode("CERTIFICATE", house.root_der))
    (tmp_path / "issuing.pem").write_bytes(pem.encode("CERTIFICATE", house.root.issue(plan, "12" * 16)))
    results = {}
    for name, leaf in {
        "inside": objects.server("www.example.com"),
        "outside": objects.server("www.example.org"),
        "address": objects.server("www.example.com", ips=("10.0.0.1",)),
        "mailbox": objects.client(Names("ann", emails=("ann@example.org",))),
    }.items():
        (tmp_path / "leaf.pem").write_bytes(pem.encode("CERTIFICATE", house.certificate(leaf)))
        told = subprocess.run(
            [program("openssl"), "verify", "-x509_strict", "-attime", str(NOW + DAY), "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        results[name] = told.returncode == 0 or told.stderr.split("\n")[1].rpartition(": ")[2]
    assert results["inside"] is True
    assert results["outside"] == results["mailbox"] == "permitted subtree violation"
    assert results["address"] == "excluded subtree violation"


@pytest.mark.interop
@pytest.mark.parametrize("name", PLANS)
def test_openssl_prints_what_we_wrote(name: str, program: Callable[[str], str], tmp_path: Path) -> None:
    encoded, plan = made(name), PLANS[name]
    (tmp_path / "c.der").write_bytes(encoded)
    shown = subprocess.run(
        [program("openssl"), "x509", "-inform", "DER", "-in", "c.der", "-noout", "-text"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "Version: 3 (0x2)" in shown
    assert ("CA:TRUE" in shown) is plan.ca
    for url in (*plan.crl_urls, *plan.issuer_urls, *plan.ocsp_urls):
        assert f"URI:{url}" in shown
    for host in plan.names.dns:
        assert f"DNS:{host}" in shown
    assert ("OCSP No Check" in shown) is plan.no_check
