"""OCSP requests out of strangers' bytes, and answers, judged by `cryptography`."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as judge
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.keys import material
from gatekey.x509 import ocsp
from gatekey.x509.der import explicit, generalized, implicit, integer, null, octets, oid, seq
from gatekey.x509.signature import algorithm
from gatekey.x509.spki import key_bits

AT = 1_800_000_000


def authority(key: material.PrivateKey) -> x509.Certificate:
    """A CA's certificate for this key, made by the judge."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    private = load_der_private_key(key.pkcs8(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Judge")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key()).serial_number(7)
    builder = builder.not_valid_before(start).not_valid_after(start + dt.timedelta(days=900))
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False).sign(private, hashes.SHA256())


KEY = material.make("p256")
ISSUER = authority(KEY)
NAME = ISSUER.subject.public_bytes()
IDS = {one[0]: one for one in ocsp.issuer_ids(NAME, key_bits(KEY.spki))}
HASHES: dict[str, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def asked_by_judge(kind: str, nonce: bytes | None = None) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = judge.OCSPRequestBuilder().add_certificate(ISSUER, ISSUER, HASHES[kind])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


@pytest.mark.parametrize("kind", HASHES)
@pytest.mark.parametrize("nonce", [None, b"n" * 16, b"x", b"y" * 128])
def test_reads_what_the_judge_writes(kind: str, nonce: bytes | None) -> None:
    found = ocsp.read_request(asked_by_judge(kind, nonce))
    assert found.nonce == nonce
    assert found.ids[0].issuer == IDS[kind]
    assert found.ids[0].serial == 7


@pytest.mark.parametrize("kind", HASHES)
def test_the_judge_reads_what_we_write(kind: str) -> None:
    found = judge.load_der_ocsp_request(ocsp.encode_request([ocsp.encode_id(IDS[kind], 7)], b"nonce"))
    assert (found.serial_number, found.issuer_name_hash, found.issuer_key_hash) == (7, IDS[kind][1], IDS[kind][2])
    assert found.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"nonce"


def test_several_in_one() -> None:
    ids = [ocsp.encode_id(IDS[kind], serial) for kind, serial in (("sha1", 1), ("sha256", 2), ("sha1", 2**120))]
    assert [one.serial for one in ocsp.read_request(ocsp.encode_request(ids)).ids] == [1, 2, 2**120]
    with pytest.raises(Malformed, match="more than 100"):
        ocsp.read_request(ocsp.encode_request(ids * 34))


def request(*, version: bytes = b"", ids: bytes | None = None, extensions: bytes = b"", rest: bytes = b"", inner: bytes = b"") -> bytes:
    one = seq(ocsp.encode_id(IDS["sha256"], 7), inner)
    return seq(seq(version, seq(one) if ids is None else ids, extensions), rest)


def extension(name: str, value: bytes, *critical: bytes) -> bytes:
    return seq(oid(name), *critical, octets(value))


TRUE, FALSE = b"\x01\x01\xff", b"\x01\x01\x00"


@pytest.mark.parametrize(
    "der",
    [
        request(version=explicit(0, integer(0))),
        request(extensions=explicit(2, seq(extension(ocsp.NONCE, octets(b"n"), TRUE)))),
        request(extensions=explicit(2, seq(extension("1.3.6.1.5.5.7.48.1.4", seq(oid(ocsp.BASIC)))))),
        request(extensions=explicit(2, seq(extension("1.2.3.4", b"whatever")))),
        request(inner=explicit(0, seq(extension("1.3.6.1.5.5.7.48.1.7", b"service locator")))),
        seq(seq(explicit(1, implicit(6, b"uri:me")), seq(seq(ocsp.encode_id(IDS["sha1"], 1))))),
        request(rest=explicit(0, seq(seq(oid("1.2.3")), b"\x03\x02\x00\x01"))),
    ],
    ids=["version", "critical nonce", "acceptable responses", "unknown extension", "service locator", "requestor name", "signed"],
)
def test_what_the_standard_allows(der: bytes) -> None:
    assert ocsp.read_request(der).ids


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"hello",
        request() + b"\0",
        request(version=explicit(0, integer(1))),
        request(ids=seq()),
        request(extensions=explicit(2, seq(extension("1.2.3.4", b"x", TRUE)))),
        request(extensions=explicit(2, seq(extension(ocsp.NONCE, octets(b""))))),
        request(extensions=explicit(2, seq(extension(ocsp.NONCE, octets(b"n" * 129))))),
        request(extensions=explicit(2, seq(extension(ocsp.NONCE, b"not wrapped")))),
        request(extensions=explicit(2, seq(extension(ocsp.NONCE, octets(b"a")), extension(ocsp.NONCE, octets(b"b"))))),
        request(extensions=explicit(2, seq(*(extension(f"1.2.3.{n}", b"") for n in range(17))))),
        request(inner=explicit(0, seq(extension("1.2.3.4", b"x", TRUE)))),
        seq(seq(seq(seq(seq(seq(oid("1.3.14.3.2.26"), null(), null()), octets(b"a"), octets(b"b"), integer(1)))))),
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80" + request()[2:] + b"\0\0",
        b"\0" * (ocsp.MAX_BYTES + 1),
    ],
    ids=range(16),
)
def test_what_it_does_not_allow(der: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        ocsp.read_request(der)
    assert refused.value.code in ("bad-ocsp-request", "bad-der")
    with pytest.raises(Malformed):
        ocsp.read_again(der)


@given(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, 90), st.binary(min_size=1, max_size=4)).map(lambda cut: mutated(*cut))))
def test_whatever_comes_ends_in_words(data: bytes) -> None:
    try:
        slow = ocsp.read_request(data)
    except GatekeyError:
        with pytest.raises(GatekeyError):
            ocsp.read_again(data)
    else:
        assert ocsp.read_again(data) == slow


BASE = ocsp.encode_request([ocsp.encode_id(IDS["sha256"], 7)], b"0123456789abcdef")


def mutated(at: int, by: bytes) -> bytes:
    return BASE[:at] + by + BASE[at + len(by) :]


@given(st.lists(st.tuples(st.binary(min_size=0, max_size=130), st.integers(0, 3)), min_size=1, max_size=12))
def test_reading_again_is_reading(nonces: list[tuple[bytes, int]]) -> None:
    """The quick way must never take what the slow way refuses, nor read anything else out of it; also when lengths and octets do not belong together."""
    for nonce, cut in nonces:
        der = ocsp.encode_request([ocsp.encode_id(IDS["sha1"], 5)], nonce)
        der = der[: len(der) - cut] if cut else der
        try:
            slow: object = ocsp.read_request(der)
        except GatekeyError as error:
            slow = error.code
        try:
            quick: object = ocsp.read_again(der)
        except GatekeyError as error:
            quick = error.code
        assert quick == slow


def test_what_only_looks_like_the_nonce_is_not_taken_for_it() -> None:
    """Octets at the end that are the nonce's by chance: of another extension, or of a signature. The next request differs in them, its nonce is the same."""
    nonce = b"0123456789abcdef"

    def behind(last: bytes) -> bytes:
        extensions = explicit(2, seq(extension(ocsp.NONCE, octets(nonce)), extension("1.2.3.4", last)))
        return seq(seq(seq(seq(ocsp.encode_id(IDS["sha256"], 7))), extensions))

    def signed(last: bytes) -> bytes:
        asked = seq(seq(seq(ocsp.encode_id(IDS["sha256"], 7))), explicit(2, seq(extension(ocsp.NONCE, octets(nonce)))))
        return seq(asked, explicit(0, seq(seq(oid("1.2.3")), b"\x03\x11\x00" + last)))

    for form in (behind, signed):
        for last in (nonce, b"fedcba9876543210"):
            assert ocsp.read_again(form(last)).nonce == nonce, form.__name__


def test_nothing_of_a_strangers_is_remembered() -> None:
    before = len(ocsp._heads), ocsp._cert_id.cache_info().currsize
    for number in range(20):
        named = explicit(1, implicit(6, b"uri:%d" % number))
        der = seq(seq(named, seq(seq(ocsp.encode_id(IDS["sha256"], 7))), explicit(2, seq(extension(ocsp.NONCE, octets(b"n" * 16))))))
        assert ocsp.read_again(der).nonce == b"n" * 16
    assert len(ocsp._heads) == before[0]
    assert ocsp._cert_id.cache_info().currsize <= before[1] + 1
    with pytest.raises(Malformed, match="a CertID of"):
        ocsp.read_request(ocsp.encode_request([ocsp.encode_id(IDS["sha256"], 1 << 8000)]))
    assert ocsp.read_request(ocsp.encode_request([ocsp.encode_id(IDS["sha512"], (1 << 160) - 1)])).ids


GONE = ocsp.revoked(AT - 5, "key-compromise")


@pytest.mark.parametrize("status", [ocsp.GOOD, ocsp.UNKNOWN, GONE, ocsp.revoked(AT - 5, None), ocsp.revoked(AT, "certificate-hold")])
@pytest.mark.parametrize("nonce", [None, b"n", b"n" * 128])
def test_the_judge_reads_answers(status: bytes, nonce: bytes | None) -> None:
    asked = ocsp.read_request(ocsp.encode_request([ocsp.encode_id(IDS["sha256"], 7)], nonce))
    singles = [ocsp.single(one.raw, status, ocsp.update(AT, AT + 900)) for one in asked.ids]
    data = ocsp.encode_data(ocsp.encode_answered(ocsp.responder_id(key_bits(KEY.spki)), generalized(AT), singles), nonce)
    from cryptography.hazmat.primitives.serialization import Encoding

    found = judge.load_der_ocsp_response(
        ocsp.encode_response(data, algorithm("p256"), KEY.sign(data), ocsp.with_certificates(ISSUER.public_bytes(Encoding.DER)))
    )
    assert found.response_status is judge.OCSPResponseStatus.SUCCESSFUL
    assert found.tbs_response_bytes == data
    key = ISSUER.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(found.signature, found.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    assert found.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(ISSUER.public_key()).digest
    assert found.certificates == [ISSUER]
    assert found.serial_number == 7
    assert found.next_update_utc is not None
    assert (found.this_update_utc.timestamp(), found.next_update_utc.timestamp(), found.produced_at_utc.timestamp()) == (AT, AT + 900, AT)
    wanted = {ocsp.GOOD: judge.OCSPCertStatus.GOOD, ocsp.UNKNOWN: judge.OCSPCertStatus.UNKNOWN}.get(status, judge.OCSPCertStatus.REVOKED)
    assert found.certificate_status is wanted
    if status == GONE:
        assert found.revocation_reason is x509.ReasonFlags.key_compromise
        assert found.revocation_time_utc is not None
        assert found.revocation_time_utc.timestamp() == AT - 5
    if nonce is not None:
        assert found.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (ocsp.MALFORMED_REQUEST, judge.OCSPResponseStatus.MALFORMED_REQUEST),
        (ocsp.INTERNAL_ERROR, judge.OCSPResponseStatus.INTERNAL_ERROR),
        (ocsp.TRY_LATER, judge.OCSPResponseStatus.TRY_LATER),
        (ocsp.SIG_REQUIRED, judge.OCSPResponseStatus.SIG_REQUIRED),
        (ocsp.UNAUTHORIZED, judge.OCSPResponseStatus.UNAUTHORIZED),
    ],
)
def test_answers_that_answer_nothing(status: int, word: judge.OCSPResponseStatus) -> None:
    assert judge.load_der_ocsp_response(ocsp.encode_error(status)).response_status is word
