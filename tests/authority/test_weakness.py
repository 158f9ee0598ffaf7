"""Keys that are really weak, built from their numbers, and the words for each; the block list where somebody has fetched one."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import gmpy2
import pytest

from gatekey.authority.weakness import PRIME, TESTS, block_list_folder, weaknesses
from gatekey.errors import CODES, Misconfigured
from gatekey.x509.spki import PublicKey, key_bits, read_spki
from kit import tbs

DICE = random.Random(20261123)  # the same numbers at each run
SMALL_PRIMES = [p for p in range(3, 200) if gmpy2.is_prime(p)]


def next_prime(n: int) -> int:
    return int(gmpy2.next_prime(n))


def prime(bits: int) -> int:
    return next_prime(DICE.getrandbits(bits) | 3 << (bits - 2))


def roca_prime(bits: int) -> int:
    """k * M + (65537^a mod M), as Infineon's library chose its primes (M: product of the first primes)."""
    product = 2
    for p in SMALL_PRIMES[:38]:
        product *= p
    return next(
        candidate
        for _ in count()
        if gmpy2.is_prime(
            candidate := DICE.getrandbits(bits - product.bit_length()) * product
            + (3 << (bits - 2)) // product * product
            + pow(65537, DICE.getrandbits(200), product)
        )
    )


def rsa(modulus: int, exponent: int = 65537) -> PublicKey:
    return read_spki(tbs.rsa_spki(modulus, exponent))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and a badkeys that has loaded no list yet."""
    import badkeys.utils
    from badkeys.allkeys import block

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    badkeys.utils._cachedir.cache_clear()
    monkeypatch.setattr(block, "_bldata", False)
    monkeypatch.setattr(block, "_blmeta", False)
    yield tmp_path / "badkeys"
    if block._bldata:
        block._bldata.close()


P, Q = prime(1024), prime(1024)


def test_good_keys_have_no_findings() -> None:
    assert weaknesses(rsa(P * Q)) == ()
    assert weaknesses(read_spki(tbs.real_rsa())) == ()
    for key_type in ("p256", "p384", "p521", "ed25519", "ed448", "ml-dsa-44"):
        assert weaknesses(read_spki(tbs.spki(key_type))) == ()


def test_roca() -> None:
    assert weaknesses(rsa(roca_prime(1024) * roca_prime(1024))) == (TESTS["roca"],)


def test_primes_that_are_close() -> None:
    assert weaknesses(rsa(P * next_prime(P + 2))) == (TESTS["fermat"],)
    assert weaknesses(rsa(P * P)) == (TESTS["fermat"],)


@pytest.mark.parametrize("factor", [2, 3, 65537])
def test_small_factors(factor: int) -> None:
    assert weaknesses(rsa(prime(2040) * factor)) == (TESTS["smallfactors"],)


def test_shared_primes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of primes inside badkeys cannot be taken apart again, so one of ours is put beside it."""
    import badkeys.rsakeys.sharedprimes  # noqa: F401  the package's attribute of this name is the function

    module = sys.modules["badkeys.rsakeys.sharedprimes"]
    key = rsa(P * Q)
    monkeypatch.setattr(module, "_moduli", {2048: gmpy2.mpz(P * prime(1024))})
    assert weaknesses(key) == (TESTS["sharedprimes"],)


def test_patterns_of_zeros() -> None:
    """Two primes of few bits in each 32-bit word multiply to a modulus that can be read as a polynomial."""
    words = [sum(DICE.getrandbits(9) << (32 * n) for n in range(1, 32)) | 1 << 1023 for _ in range(2)]
    p, q = (next(word + step for step in range(1, 9999, 2) if gmpy2.is_prime(word + step)) for word in words)
    assert weaknesses(rsa(p * q)) == (TESTS["rsapoly"],)


def test_a_modulus_that_is_prime() -> None:
    assert weaknesses(rsa(prime(2048))) == (PRIME,)


def test_small_private_exponent_is_left_to_policy() -> None:
    """Wiener's method needs a public exponent of the size of the modulus, which policy refuses beforehand."""
    private = DICE.getrandbits(200) | 1
    exponent = pow(private, -1, (P - 1) * (Q - 1))
    assert weaknesses(rsa(P * Q, exponent)) == ()


def test_invalid_exponents() -> None:
    assert weaknesses(rsa(P * Q, 1)) == (TESTS["rsainvalid"],)
    assert weaknesses(rsa(P * Q, 2)) == (TESTS["rsainvalid"],)


@pytest.mark.parametrize("modulus", [1, 2, 3, 4, 15, 2**64, 1 << 511 | 1])
def test_tiny_moduli_do_no_harm(modulus: int) -> None:
    assert all(words in (*TESTS.values(), PRIME) for words in weaknesses(rsa(modulus)))


def test_oversized_keys_are_not_even_tried() -> None:
    assert weaknesses(rsa(1 << 8192 | 1)) == ()


# The block list


def listed_value(public: PublicKey) -> bytes:
    """What badkeys hashes for its list, computed here another way than in the code."""
    if public.modulus:
        return public.modulus.to_bytes((public.bits + 7) // 8, "big")
    bits = key_bits(public.spki)
    return (bits[1 : 1 + len(bits) // 2] if bits[0] == 4 and public.label.startswith("p") else bits).lstrip(
        b"\0" if not public.label.startswith("ml-") else b""
    )


def write_list(folder: Path, *values: bytes) -> None:
    folder.mkdir()
    rows = sorted(hashlib.sha256(value).digest()[:15] + b"\x07" for value in (*values, b"another", b"and another"))
    (folder / "blocklist.dat").write_bytes(b"".join(rows))
    (folder / "badkeysdata.json").write_text(json.dumps({"bkformat": 0, "blocklists": [{"id": 7, "name": "debianssl", "repo": "", "path": ""}]}))


@pytest.mark.parametrize("key_type", ["rsa-2048", "p256", "p384", "p521", "ed25519", "ed448", "ml-dsa-44"])
def test_a_listed_key_is_found(cache: Path, key_type: str) -> None:
    public = read_spki(tbs.spki(key_type))
    write_list(cache, listed_value(public))
    assert weaknesses(public) == ("it is on the list of compromised keys, under 'debianssl'",)
    assert weaknesses(read_spki(tbs.spki(key_type, which=9))) == ()


def test_the_list_comes_after_the_other_findings(cache: Path) -> None:
    public = rsa(P * P)
    write_list(cache, listed_value(public))
    assert weaknesses(public) == (TESTS["fermat"], "it is on the list of compromised keys, under 'debianssl'")


def test_half_a_list_is_none(cache: Path) -> None:
    write_list(cache)
    (cache / "blocklist.dat").unlink()
    assert weaknesses(rsa(P * Q)) == ()


@pytest.mark.parametrize(("name", "content"), [("blocklist.dat", b""), ("badkeysdata.json", b"{"), ("badkeysdata.json", b"{}"), ("badkeysdata.json", b"\xff")])
def test_a_damaged_list_is_said(cache: Path, name: str, content: bytes) -> None:
    write_list(cache)
    (cache / name).write_bytes(content)
    with pytest.raises(Misconfigured, match="cannot be used") as caught:
        weaknesses(rsa(P * Q))
    assert caught.value.code in CODES
    assert str(cache) in caught.value.message
    assert "badkeys --update-bl" in caught.value.hint


def test_where_the_list_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert block_list_folder() == str(tmp_path / "badkeys")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert block_list_folder() == str(tmp_path / ".cache" / "badkeys")


def test_badkeys_is_not_loaded_without_need() -> None:
    """Its import costs a tenth of a second; keys of other kinds need it only where there is a block list."""
    code = (
        "import sys; from gatekey.x509.spki import read_spki; from gatekey.authority.weakness import weaknesses; "
        f"print(weaknesses(read_spki(bytes.fromhex('{tbs.spki().hex()}'))), 'badkeys' in sys.modules)"
    )
    source = Path(__file__).parents[2] / "src"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source), "HOME": "/nonexistent"})
    assert answer.stdout.split("\n")[0] == "() False"
