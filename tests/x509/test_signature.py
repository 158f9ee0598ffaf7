"""Signature algorithms: what we sign with, what we verify, and what never counts as a signature."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.x509 import der, oids, signature
from kit import objects
from kit.cases import cases

DATA = b"to be signed"


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
def test_what_each_key_signs_is_verified(key_type: str) -> None:
    private, algorithm = objects.key(key_type), signature.algorithm(key_type)
    made = objects.sign(private, DATA)
    info = objects.spki_of(private)
    assert signature.verify(info, algorithm, made, DATA)
    assert not signature.verify(info, algorithm, made, DATA + b"!")
    assert not signature.verify(info, algorithm, made[:-1] + bytes((made[-1] ^ 1,)), DATA)
    assert not signature.verify(info, algorithm, made[:-1], DATA)
    assert not signature.verify(info, algorithm, b"", DATA)
    assert signature.supported(algorithm)


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
def test_no_other_algorithm_verifies_it(key_type: str) -> None:
    private = objects.key(key_type)
    made = objects.sign(private, DATA)
    for other in objects.KEY_TYPES:
        if other != key_type:
            assert not signature.verify(objects.spki_of(private), signature.algorithm(other), made, DATA), other
            assert not signature.verify(objects.spki_of(objects.key(other)), signature.algorithm(key_type), made, DATA), other


EXPECTED = {
    "p256": ("300a06082a8648ce3d040302", "ECDSA with SHA-256"),
    "p384": ("300a06082a8648ce3d040303", "ECDSA with SHA-384"),
    "p521": ("300a06082a8648ce3d040304", "ECDSA with SHA-512"),
    "rsa-2048": ("300d06092a864886f70d01010b0500", "RSA with SHA-256"),
    "rsa-4096": ("300d06092a864886f70d01010b0500", "RSA with SHA-256"),
    "ed25519": ("300506032b6570", "Ed25519"),
    "ed448": ("300506032b6571", "Ed448"),
    "ml-dsa-44": ("300b0609608648016503040311", "ML-DSA-44"),
    "ml-dsa-65": ("300b0609608648016503040312", "ML-DSA-65"),
    "ml-dsa-87": ("300b0609608648016503040313", "ML-DSA-87"),
}


@pytest.mark.parametrize("key_type", EXPECTED)
def test_identifiers_are_those_of_the_standards(key_type: str) -> None:
    """RFC 4055 5, 5758 3.2, 8410 3, 9881 2."""
    encoded, described = EXPECTED[key_type]
    assert signature.algorithm(key_type).hex() == encoded
    assert signature.describe(signature.algorithm(key_type)) == described


def test_an_unknown_key_type_is_refused_in_words() -> None:
    with pytest.raises(Malformed, match="'dsa'"):
        signature.algorithm("dsa")


def _hash(name: str) -> Any:
    return getattr(hashes, name.upper())()


@pytest.mark.parametrize(
    ("dotted", "digest", "legacy"),
    [
        (oids.RSA_SHA256, "sha256", False),
        (oids.RSA_SHA384, "sha384", False),
        (oids.RSA_SHA512, "sha512", False),
        (oids.RSA_SHA1, "sha1", True),
        (oids.RSA_SHA224, "sha224", True),
    ],
)
def test_rsa_with_other_hashes(dotted: str, digest: str, legacy: bool) -> None:
    private = objects.key("rsa-2048")
    made = private.sign(DATA, padding.PKCS1v15(), _hash(digest))
    algorithm = der.seq(der.oid(dotted), der.null())
    assert signature.verify(objects.spki_of(private), algorithm, made, DATA, legacy=True)
    assert signature.verify(objects.spki_of(private), algorithm, made, DATA) is not legacy
    assert signature.supported(algorithm) is not legacy
    # Without its NULL it is another, unknown algorithm (RFC 4055 5).
    assert not signature.verify(objects.spki_of(private), der.seq(der.oid(dotted)), made, DATA, legacy=True)


@pytest.mark.parametrize(
    ("dotted", "digest", "legacy"), [(oids.ECDSA_SHA512, "sha512", False), (oids.ECDSA_SHA1, "sha1", True), (oids.ECDSA_SHA224, "sha224", True)]
)
def test_ecdsa_with_other_hashes(dotted: str, digest: str, legacy: bool) -> None:
    private = objects.key("p256")
    made = private.sign(DATA, ec.ECDSA(_hash(digest)))
    assert signature.verify(objects.spki_of(private), der.seq(der.oid(dotted)), made, DATA, legacy=True)
    assert signature.verify(objects.spki_of(private), der.seq(der.oid(dotted)), made, DATA) is not legacy
    # Parameters must be absent (RFC 5758 3.2).
    assert not signature.verify(objects.spki_of(private), der.seq(der.oid(dotted), der.null()), made, DATA, legacy=True)


def test_dsa_is_for_old_archives_only() -> None:
    private = dsa.generate_private_key(2048)
    made = private.sign(DATA, hashes.SHA256())
    algorithm = der.seq(der.oid(oids.DSA_SHA256))
    assert signature.verify(objects.spki_of(private), algorithm, made, DATA, legacy=True)
    assert not signature.verify(objects.spki_of(private), algorithm, made, DATA)


def _pss(digest: str, salt: int, *, mask: str | None = None, trailer: bytes = b"") -> bytes:
    def hashed(name: str) -> bytes:
        return der.seq(der.oid(getattr(oids, name.upper())), der.null())

    return der.seq(
        der.oid(oids.RSA_PSS),
        der.seq(
            der.explicit(0, hashed(digest)), der.explicit(1, der.seq(der.oid(oids.MGF1), hashed(mask or digest))), der.explicit(2, der.integer(salt)), trailer
        ),
    )


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("salt", [20, 32])
def test_rsa_pss(digest: str, salt: int) -> None:
    private = objects.key("rsa-2048")
    made = private.sign(DATA, padding.PSS(padding.MGF1(_hash(digest)), salt), _hash(digest))
    assert signature.verify(objects.spki_of(private), _pss(digest, salt), made, DATA)
    assert not signature.verify(objects.spki_of(private), _pss(digest, salt + 1), made, DATA)
    assert not signature.verify(objects.spki_of(private), _pss(digest, salt, mask="sha1"), made, DATA)
    assert signature.describe(_pss(digest, salt)) == f"RSA-PSS with {digest.upper().replace('SHA', 'SHA-')}"


def test_rsa_pss_of_defaults_is_sha_1_and_only_legacy() -> None:
    private = objects.key("rsa-2048")
    made = private.sign(DATA, padding.PSS(padding.MGF1(hashes.SHA1()), 20), hashes.SHA1())
    defaults = der.seq(der.oid(oids.RSA_PSS), der.seq())
    assert signature.verify(objects.spki_of(private), defaults, made, DATA, legacy=True)
    assert not signature.verify(objects.spki_of(private), defaults, made, DATA)
    assert not signature.supported(_pss("sha256", 32, trailer=der.explicit(3, der.integer(2))))


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (b"", "unreadable"),
        (b"\x30\x00", "unreadable"),
        (der.seq(der.oid("1.2.3.4")), "unknown algorithm (1.2.3.4)"),
        (der.seq(der.oid(oids.RSA_MD5), der.null()), "RSA with MD5"),
    ],
)
def test_what_is_not_known_is_described_and_never_verifies(algorithm: bytes, words: str) -> None:
    assert words in signature.describe(algorithm)
    assert not signature.supported(algorithm, legacy=True)
    assert not signature.verify(objects.spki_of(objects.key("p256")), algorithm, b"", DATA, legacy=True)


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
@cases(60)
def test_garbage_is_never_a_signature(info: bytes, algorithm: bytes, made: bytes) -> None:
    good_info, good_algorithm = objects.spki_of(objects.key("p256")), signature.algorithm("p256")
    assert not signature.verify(info, good_algorithm, made, DATA)
    assert not signature.verify(good_info, algorithm, made, DATA)
    assert not signature.verify(good_info, good_algorithm, made, DATA)
    signature.describe(algorithm)
