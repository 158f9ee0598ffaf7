"""Private keys as bytes: what openssl writes we read, what we write openssl reads; wrong passwords and damage end in a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.x509 import der, pbe, pkcs8
from kit import objects
from kit.cases import cases

PASSWORD = b"correct horse"


def plain(key_type: str = "p256") -> bytes:
    made: bytes = objects.key(key_type).private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made


def sealed(key: bytes | None = None, iterations: int = 10) -> bytes:
    return pkcs8.encrypt(key or plain(), PASSWORD, salt=b"s" * 16, iv=b"i" * 16, iterations=iterations)


@pytest.mark.parametrize("key_type", objects.KEY_TYPES)
def test_encrypt_and_decrypt(key_type: str) -> None:
    made = sealed(plain(key_type))
    assert pkcs8.is_encrypted(made)
    assert not pkcs8.is_encrypted(plain(key_type))
    assert pkcs8.decrypt(made, PASSWORD) == plain(key_type)
    loaded = serialization.load_der_private_key(made, PASSWORD)
    assert loaded.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) == plain(key_type)


def test_the_form_is_what_the_text_says() -> None:
    scheme, _ = pkcs8.encryption(sealed(iterations=12_345))
    assert scheme.described == "PBES2, AES-256-CBC, PBKDF2-HMAC-SHA256"
    assert (scheme.iterations, scheme.salt, scheme.iv) == (12_345, b"s" * 16, b"i" * 16)


@pytest.mark.parametrize("wrong", [b"", b"correct horsf", b"\xff\xfe", "größer".encode()])
def test_wrong_passphrase(wrong: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        pkcs8.decrypt(sealed(), wrong)
    assert caught.value.code == "wrong-passphrase"


def test_no_passphrase() -> None:
    with pytest.raises(Malformed) as caught:
        pkcs8.unlock(sealed(), None)
    assert caught.value.code == "passphrase-needed"


@pytest.mark.parametrize("key_type", ["p256", "p384", "p521", "rsa-2048"])
def test_older_forms(key_type: str) -> None:
    key = objects.key(key_type)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        data = key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        found = pkcs8.unlock(data, None)
        assert serialization.load_der_private_key(found, None).public_key() == key.public_key()


def test_old_encrypted_pem() -> None:
    """As easy-rsa and older openssl wrote it (`Proc-Type: 4,ENCRYPTED`)."""
    data = objects.key("rsa-2048").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(PASSWORD)
    )
    assert b"Proc-Type" in data
    assert pkcs8.unlock(data, PASSWORD) == plain("rsa-2048")
    for password, code in ((b"wrong", "wrong-passphrase"), (None, "passphrase-needed")):
        with pytest.raises(Malformed) as caught:
            pkcs8.unlock(data, password)
        assert caught.value.code == code


SCHEMES = [
    ["-v2", "aes256"],
    ["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
    ["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA1"],
    ["-v2", "des3"],
    ["-v1", "PBE-SHA1-3DES"],
    ["-scrypt", "-scrypt_N", "1024"],
    ["-v2", "aes256", "-iter", "1"],
]


@pytest.mark.interop
@pytest.mark.parametrize("scheme", SCHEMES, ids=" ".join)
@pytest.mark.parametrize("outform", ["PEM", "DER"])
def test_what_openssl_encrypts(scheme: list[str], outform: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    (tmp_path / "plain.der").write_bytes(plain())
    command = [
        program("openssl"),
        "pkcs8",
        "-topk8",
        "-inform",
        "DER",
        "-in",
        "plain.der",
        "-outform",
        outform,
        "-out",
        "out",
        "-passout",
        "pass:correct horse",
    ]
    subprocess.run([*command, *scheme], cwd=tmp_path, check=True, capture_output=True)
    data = (tmp_path / "out").read_bytes()
    assert pkcs8.unlock(data, PASSWORD) == plain()
    with pytest.raises(Malformed) as caught:
        pkcs8.unlock(data, b"wrong")
    assert caught.value.code == "wrong-passphrase"


@pytest.mark.interop
@pytest.mark.parametrize("key_type", ["p256", "rsa-2048", "ed25519"])
def test_openssl_reads_ours(key_type: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    (tmp_path / "ours.pem").write_bytes(pkcs8.to_pem(sealed(plain(key_type))))
    command = [program("openssl"), "pkey", "-in", "ours.pem", "-passin", "pass:correct horse", "-outform", "DER", "-out", "plain.der"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert serialization.load_der_private_key((tmp_path / "plain.der").read_bytes(), None).public_key() == objects.key(key_type).public_key()


@pytest.mark.interop
@pytest.mark.parametrize("old", ["PBE-MD5-DES", "PBE-SHA1-RC4-128", "PBE-SHA1-RC2-40"])
def test_old_ciphers_are_named(old: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    (tmp_path / "plain.der").write_bytes(plain())
    command = [program("openssl"), "pkcs8", "-topk8", "-inform", "DER", "-in", "plain.der", "-v1", old, "-out", "out", "-passout", "pass:x"]
    subprocess.run([*command, "-provider", "legacy", "-provider", "default"], cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(Malformed) as caught:
        pkcs8.unlock((tmp_path / "out").read_bytes(), b"x")
    assert caught.value.code == "unsupported-encryption"
    assert old.split("-")[2] in caught.value.message


MISTAKES = [
    (b"", "not-a-key", "empty"),
    (b"hello", "not-a-key", "neither PEM nor DER"),
    (b"x" * 100_000, "not-a-key", "too many"),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not-a-key", "it holds certificate"),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "not-a-key", "without an end"),
    (b"-----BEGIN PRIVATE KEY-----\n%%%\n-----END PRIVATE KEY-----\n", "bad-private-key", "not base64"),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" * 2, "bad-private-key", "2 private keys"),
    (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "unsupported-key", "OPENSSH"),
]


@pytest.mark.parametrize(("data", "code", "words"), MISTAKES, ids=[words for _, _, words in MISTAKES])
def test_mistakes_are_told(data: bytes, code: str, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        pkcs8.unlock(data, None)
    assert caught.value.code == code
    assert words in caught.value.message


def test_many_beginnings_without_an_end_are_no_work() -> None:
    import time

    started = time.process_time()
    with pytest.raises(Malformed):
        pkcs8.unlock((b"-----BEGIN A-----\n" * 3600)[: pkcs8.MOST_BYTES], None)
    assert time.process_time() - started < 1


def test_a_key_beside_its_certificate_is_found() -> None:
    text = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + pkcs8.to_pem(plain())
    assert pkcs8.unlock(text, None) == plain()
    assert pkcs8.unlock(text.replace(b"\n", b"\r\n"), None) == plain()
    assert pkcs8.unlock(b"-----BEGIN CERTIFICATE-----\ncut\n" + pkcs8.to_pem(plain()), None) == plain()


@pytest.mark.parametrize("iterations", [0, -1, pbe.MOST_ITERATIONS + 1, 2**62])
def test_iterations_have_a_limit(iterations: int) -> None:
    inner = der.seq(der.octets(b"s" * 8), der.integer(iterations), der.seq(der.oid(pbe.HMAC_SHA256), der.null()))
    params = der.seq(der.seq(der.oid(pbe.PBKDF2), inner), der.seq(der.oid(pbe.AES_256_CBC), der.octets(b"i" * 16)))
    with pytest.raises(Malformed) as caught:
        pkcs8.decrypt(der.seq(der.seq(der.oid(pbe.PBES2), params), der.octets(b"x" * 32)), b"")
    assert caught.value.code == "bad-encryption"


@pytest.mark.parametrize(("n", "r", "p"), [(2**30, 8, 1), (1024, 0, 1), (1000, 8, 1), (1024, 65, 1), (1024, 8, 10_000)])
def test_scrypt_has_a_limit(n: int, r: int, p: int) -> None:
    kdf = der.seq(der.oid(pbe.SCRYPT), der.seq(der.octets(b"s" * 8), der.integer(n), der.integer(r), der.integer(p)))
    params = der.seq(kdf, der.seq(der.oid(pbe.AES_256_CBC), der.octets(b"i" * 16)))
    with pytest.raises(Malformed) as caught:
        pkcs8.decrypt(der.seq(der.seq(der.oid(pbe.PBES2), params), der.octets(b"x" * 32)), b"")
    assert caught.value.code == "bad-encryption"


def test_rsa_numbers_must_belong_together() -> None:
    info = pkcs8.read(plain("rsa-2048"))
    numbers = pkcs8.read_rsa(info)
    for place in range(8):
        changed = list(numbers)
        changed[place] += 2
        broken = info._replace(key=der.seq(der.integer(0), *(der.integer(number) for number in changed)))
        with pytest.raises(Malformed) as caught:
            pkcs8.read_rsa(broken)
        assert caught.value.code == "bad-private-key"


def test_curves_written_out_are_refused() -> None:
    with pytest.raises(Malformed) as caught:
        pkcs8.read_ec(pkcs8.PrivateKeyInfo(pkcs8.EC, der.seq(der.integer(1)), b""))
    assert caught.value.code == "unsupported-key"


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_garbage_ends_in_a_sentence(data: bytes, password: bytes) -> None:
    for given_data in (data, b"\x30" + data, b"-----BEGIN PRIVATE KEY-----\n" + data + b"\n-----END PRIVATE KEY-----"):
        with pytest.raises(GatekeyError):
            pkcs8.unlock(given_data, password)


@given(st.one_of(*(objects.damaged(whole) for whole in (sealed(iterations=1), plain("rsa-2048"), plain("p256"), plain("ed25519")))))
def test_damage_ends_in_a_sentence(changed: bytes) -> None:
    try:
        pkcs8.unlock(changed, PASSWORD)
    except GatekeyError as refused:
        assert refused.message


@given(st.binary(max_size=64), st.binary(min_size=1, max_size=64), st.integers(1, 5), st.integers(1, 60), st.sampled_from(["sha1", "sha256", "sha512"]))
@cases(50)
def test_key_derivation_of_pkcs12_as_the_library_does_it(salt: bytes, password: bytes, iterations: int, size: int, name: str) -> None:
    """RFC 7292 appendix B.2 by the letter, block by block with big numbers, against the quick one."""
    import hashlib

    digest = hashlib.new(name)
    u, v = digest.digest_size, digest.block_size

    def stretch(data: bytes) -> bytes:
        return bytes(data[i % len(data)] for i in range(-(-len(data) // v) * v)) if data else b""

    state, out = stretch(salt) + stretch(password), b""
    while len(out) < size:
        a = bytes([3]) * v + state
        for _ in range(iterations):
            a = hashlib.new(name, a).digest()
        out += a
        b = int.from_bytes((a * (v // u + 1))[:v], "big") + 1
        state = b"".join(((int.from_bytes(state[at : at + v], "big") + b) % 2 ** (8 * v)).to_bytes(v, "big") for at in range(0, len(state), v))
    assert pbe.pkcs12_key(password, salt, 3, iterations, size, name) == out[:size]
