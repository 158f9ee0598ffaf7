"""Public keys of every kind, and the second encodings of the same key that must not get in."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model import keytypes
from gatekey.x509 import der, oids, spki
from kit import objects

DESCRIBED = {
    "p256": "EC P-256",
    "p384": "EC P-384",
    "p521": "EC P-521",
    "rsa-2048": "RSA 2048",
    "ed25519": "Ed25519",
    "ed448": "Ed448",
    "ml-dsa-65": "ML-DSA-65",
}
BITS = {"p256": 256, "p384": 384, "p521": 521, "rsa-2048": 2048, "ed25519": 256, "ed448": 456}


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
def test_every_key_type_is_known_by_its_label(key_type: str) -> None:
    made = objects.spki_of(objects.key(key_type))
    read = spki.read_spki(made)
    assert read.label == key_type
    assert read.spki == made
    assert read.sha256 == hashlib.sha256(made).hexdigest()
    assert key_type in keytypes.KNOWN
    assert read.described == DESCRIBED.get(key_type, read.described)
    assert read.bits == BITS.get(key_type, read.bits)


def test_rsa_numbers_are_those_of_the_key() -> None:
    private = objects.key("rsa-2048")
    read = spki.read_spki(objects.spki_of(private))
    numbers = private.public_key().public_numbers()
    assert (read.modulus, read.exponent) == (numbers.n, numbers.e)


def test_the_label_of_rsa_is_the_size_of_the_modulus() -> None:
    numbers = rsa.RSAPublicNumbers(65537, 2**2046 + 1)
    info = numbers.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert spki.read_spki(info).label == "rsa-2047"


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "rsa-2048", "ed25519", "ed448", "ml-dsa-44"])
def test_the_key_identifier_is_the_first_of_rfc_7093(key_type: str) -> None:
    """The leftmost 160 bits of SHA-256 over the key bits alone, computed here from another encoding of the key."""
    public = objects.key(key_type).public_key()
    if key_type.startswith("p"):
        key_bits = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    elif key_type.startswith("rsa"):
        key_bits = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    else:
        key_bits = public.public_bytes_raw()
    info = objects.spki_of(objects.key(key_type))
    assert spki.key_identifier(info) == hashlib.sha256(key_bits).digest()[:20] == spki.read_spki(info).key_id


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1(), ec.BrainpoolP256R1()])
def test_other_curves_have_no_label(curve: Any) -> None:
    read = spki.read_spki(objects.spki_of(ec.generate_private_key(curve)))
    assert read.label == ""
    assert "elliptic curve" in read.described


def test_other_algorithms_have_no_label_and_a_name() -> None:
    assert spki.read_spki(objects.spki_of(x25519.X25519PrivateKey.generate()))[:2] == ("", "the algorithm X25519")
    assert spki.read_spki(der.seq(der.seq(der.oid("1.2.3.4")), der.bits(b"k")))[:2] == ("", "the algorithm 1.2.3.4")


def _ec(point: bytes, curve: bytes | None = None) -> bytes:
    return der.seq(der.seq(der.oid(oids.EC), curve or der.oid(oids.P256)), der.bits(point))


def _rsa(*numbers: int, parameters: bytes = der.null(), unused: int = 0) -> bytes:
    return der.seq(der.seq(der.oid(oids.RSA), parameters), der.bits(der.seq(*(der.integer(number) for number in numbers)), unused))


POINT = objects.key("p256").public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
COMPRESSED = objects.key("p256").public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)

REFUSED = {
    "empty": (b"", "the value ends"),
    "compressed point": (_ec(COMPRESSED), "compressed"),
    "hybrid point": (_ec(b"\x06" + POINT[1:]), "not an uncompressed"),
    "point of another curve": (_ec(POINT, der.oid(oids.P384)), "not an uncompressed one of P-384"),
    "cut point": (_ec(POINT[:-1]), "not an uncompressed"),
    "point at infinity": (_ec(b"\x00"), "not an uncompressed"),
    "point beside the curve": (_ec(POINT[:-1] + bytes((POINT[-1] ^ 1,))), "not on the curve"),
    "coordinate beyond the field": (_ec(b"\x04" + b"\xff" * 64), "not on the curve"),
    "curve as parameters": (_ec(POINT, der.seq(der.integer(1))), "not given by name"),
    "curve left out": (der.seq(der.seq(der.oid(oids.EC)), der.bits(POINT)), "not given by name"),
    "RSA without NULL": (_rsa(2**2047 + 1, 65537, parameters=b""), "value ends"),
    "RSA with three numbers": (_rsa(2**2047 + 1, 65537, 5), "left over"),
    "RSA with a negative modulus": (_rsa(-(2**2047), 65537), "not a positive number"),
    "RSA with exponent zero": (_rsa(2**2047 + 1, 0), "not a positive number"),
    "Ed25519 with NULL": (der.seq(der.seq(der.oid(oids.ED25519), der.null()), der.bits(bytes(32))), "there must be none"),
    "Ed25519 too short": (der.seq(der.seq(der.oid(oids.ED25519)), der.bits(bytes(31))), "has 32 bytes, this one has 31"),
    "ML-DSA-44 too long": (der.seq(der.seq(der.oid(oids.ML_DSA_44)), der.bits(bytes(1313))), "has 1312 bytes"),
    "bits that are not bytes": (der.seq(der.seq(der.oid(oids.ED25519)), der.bits(bytes(32), 3)), "whole number of bytes"),
    "something behind it": (objects.spki_of(objects.key("p256")) + b"\0", "left over"),
    "too long": (_rsa(2**40000 + 1, 3), "more than the 4096"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_second_encodings_and_broken_keys_are_refused(name: str) -> None:
    info, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as refusal:
        spki.read_spki(info)
    assert refusal.value.code == "bad-key"


@given(st.data(), st.sampled_from(["p256", "rsa-2048", "ed25519"]))
def test_damaged_keys_end_in_a_key_or_a_sentence(data: st.DataObject, key_type: str) -> None:
    info = data.draw(objects.damaged(objects.spki_of(objects.key(key_type))))
    try:
        read = spki.read_spki(info)
    except GatekeyError as error:
        assert error.message.startswith("this is not a public key")
        return
    # What is read as a known key is one for the library that will use it, too.
    if read.label in ("p256", "p384", "p521", "ed25519"):
        assert serialization.load_der_public_key(info) is not None


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_sentence(data: bytes) -> None:
    with pytest.raises(GatekeyError):
        spki.read_spki(b"\x30" + data[:1] + data)
