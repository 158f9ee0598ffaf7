"""Private keys: every type is made, written, loaded and signs what others verify; a P-256 command loads no more of `cryptography` than it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Refused
from gatekey.keys import material
from gatekey.model import keytypes
from gatekey.x509 import der, pkcs8, signature, spki
from kit import objects

SRC = Path(__file__).parent.parent.parent / "src"
TYPES = ("p256", "p384", "p521", "rsa-2048", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


@pytest.mark.parametrize("key_type", TYPES)
def test_made_written_loaded(key_type: str) -> None:
    made = material.make(key_type)
    assert made.key_type == key_type
    assert spki.read_spki(made.spki).label == key_type
    again = material.load(made.pkcs8())
    assert (again.key_type, again.spki, again.pkcs8()) == (made.key_type, made.spki, made.pkcs8())
    assert material.load(pkcs8.to_pem(made.pkcs8())).spki == made.spki


@pytest.mark.parametrize("key_type", TYPES)
def test_the_library_reads_what_we_write(key_type: str) -> None:
    made = material.make(key_type)
    loaded = serialization.load_der_private_key(made.pkcs8(), None)
    assert loaded.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) == made.pkcs8()
    assert loaded.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) == made.spki


@pytest.mark.parametrize("key_type", TYPES)
def test_signatures_hold(key_type: str) -> None:
    made = material.make(key_type)
    signed = made.sign(b"to be signed")
    assert signature.verify(made.spki, signature.algorithm(key_type), signed, b"to be signed")
    assert not signature.verify(made.spki, signature.algorithm(key_type), signed, b"to be signet")


@pytest.mark.parametrize("key_type", [key_type for key_type in keytypes.MADE_HERE if key_type not in {"rsa-3072", "rsa-4096"}])
def test_every_key_is_another(key_type: str) -> None:
    assert material.make(key_type).spki != material.make(key_type).spki


def test_rsa_is_made_with_the_usual_exponent() -> None:
    read = spki.read_spki(material.make("rsa-2048").spki)
    assert (read.exponent, read.bits) == (65537, 2048)


@pytest.mark.parametrize(
    "key_type", ["", "p-256", "P256", "rsa", "rsa-", "rsa-1024", "rsa-2049", "rsa-99999", "rsa--2048", "dsa", "x25519", "ml-dsa-99", "secp256k1"]
)
def test_unknown_types(key_type: str) -> None:
    with pytest.raises(Refused) as caught:
        material.make(key_type)
    assert caught.value.code == "unknown-key-type"
    assert caught.value.hint


def test_a_key_does_not_show_itself() -> None:
    made = material.make("p256")
    assert repr(made) == str(made) == "<PrivateKey p256>"
    assert made.pkcs8().hex() not in repr(vars(type(made)))


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "rsa-2048"])
def test_old_forms_are_loaded(key_type: str) -> None:
    key = objects.key(key_type)
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    assert material.load(data).spki == objects.spki_of(key)


def test_encrypted_keys_are_loaded() -> None:
    made = material.make("p256")
    sealed = pkcs8.encrypt(made.pkcs8(), b"pw", salt=b"s" * 16, iv=b"i" * 16, iterations=5)
    assert material.load(sealed, b"pw").spki == made.spki
    assert material.load(pkcs8.to_pem(sealed), b"pw").spki == made.spki


def pkcs8_of(key: object) -> bytes:
    made: bytes = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())  # type: ignore[attr-defined]  # any key
    return made


def test_kinds_that_are_not_accepted_are_named() -> None:
    for key, words in (
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ec.generate_private_key(ec.SECP224R1()), "P-224"),
        (dsa.generate_private_key(1024), "a DSA key"),
    ):
        with pytest.raises(Malformed) as caught:
            material.load(pkcs8_of(key))
        assert caught.value.code == "unsupported-key"
        assert words in caught.value.message


def test_rsa_sizes() -> None:
    assert material.load(pkcs8_of(rsa.generate_private_key(65537, 1024))).key_type == "rsa-1024", "policy refuses it, not the loader"


def test_a_public_key_that_does_not_belong_is_found() -> None:
    info, other = pkcs8.read(material.make("p256").pkcs8()), pkcs8.read_ec(pkcs8.read(material.make("p256").pkcs8()))
    mixed = pkcs8.encode_ec(other.curve, pkcs8.read_ec(info).value, 32, other.point)
    with pytest.raises(Malformed) as caught:
        material.load(mixed)
    assert caught.value.code == "bad-private-key"


def test_the_public_key_may_be_missing_or_compressed() -> None:
    made = material.make("p256")
    parts = pkcs8.read_ec(pkcs8.read(made.pkcs8()))
    bare = der.seq(der.integer(1), der.octets(parts.value.to_bytes(32, "big")))
    assert material.load(pkcs8.encode(pkcs8.EC, der.oid(parts.curve), bare)).spki == made.spki
    compressed = bytes([2 + (parts.point[-1] & 1)]) + parts.point[1:33]
    assert material.load(pkcs8.encode_ec(parts.curve, parts.value, 32, compressed)).spki == made.spki
    wrong = bytes([3 - (parts.point[-1] & 1)]) + parts.point[1:33]
    with pytest.raises(Malformed):
        material.load(pkcs8.encode_ec(parts.curve, parts.value, 32, wrong))


@pytest.mark.parametrize("value", [0, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551])
def test_numbers_outside_the_curve(value: int) -> None:
    inner = der.seq(der.integer(1), der.octets(value.to_bytes(32, "big")))
    with pytest.raises(Malformed) as caught:
        material.load(pkcs8.encode(pkcs8.EC, der.oid("1.2.840.10045.3.1.7"), inner))
    assert caught.value.code == "bad-private-key"


def test_rsa_with_composite_factors_is_refused_from_outside() -> None:
    """Their arithmetic holds, but p is 3 times 5 times ...: only the test of the primes finds it."""
    p, q = 3 * 5 * 7 * 11 * 2**1000 + 1, 2**1020 + 643
    e = 65537
    try:
        d = pow(e, -1, (p - 1) * (q - 1))
        numbers = (p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    except ValueError:
        pytest.fail("the numbers of this test must have inverses")
    key = pkcs8.encode(pkcs8.RSA, der.null(), der.seq(der.integer(0), *(der.integer(number) for number in numbers)))
    pkcs8.read_rsa(pkcs8.read(key))
    with pytest.raises(Malformed) as caught:
        material.load(key)
    assert caught.value.code == "bad-private-key"


@given(st.binary(max_size=200))
def test_garbage_ends_in_a_sentence(data: bytes) -> None:
    with pytest.raises(GatekeyError):
        material.load(data, b"x")
    with pytest.raises(GatekeyError):
        material.load(der.seq(der.integer(0), data), b"x")


@given(st.sampled_from(TYPES), st.integers(0, 10_000), st.integers(0, 255))
def test_damage_ends_in_a_sentence_or_in_a_key_that_signs(key_type: str, place: int, byte: int) -> None:
    whole = _keys(key_type)
    place %= len(whole)
    try:
        loaded = material.load(whole[:place] + bytes([byte]) + whole[place + 1 :])
    except GatekeyError as refused:
        assert refused.message
    else:
        assert signature.verify(loaded.spki, signature.algorithm(loaded.key_type), loaded.sign(b"x"), b"x")


_KEYS: dict[str, bytes] = {}


def _keys(key_type: str) -> bytes:
    if key_type not in _KEYS:
        _KEYS[key_type] = pkcs8_of(objects.key(key_type))
    return _KEYS[key_type]


def test_a_p256_key_costs_few_imports() -> None:
    """`serialization` alone costs a short command 15 ms, `cryptography.x509` 90."""
    script = """
import sys
from gatekey.keys import material
from gatekey.x509 import pkcs8
made = material.make("p256")
sealed = pkcs8.to_pem(pkcs8.encrypt(made.pkcs8(), b"pw", salt=b"s" * 16, iv=b"i" * 16, iterations=2))
material.load(sealed, b"pw").sign(b"x")
heavy = ["cryptography.x509", "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.primitives.asymmetric.rsa", "dataclasses", "asyncio", "ssl"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
