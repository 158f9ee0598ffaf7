"""Known weaknesses of public keys that come from outside, found offline by the kept library badkeys; each as half a sentence for people."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from ..errors import Misconfigured
from ..model.keytypes import RSA_MOST_BITS
from ..x509.spki import key_bits

if TYPE_CHECKING:
    from ..x509.spki import PublicKey

#: The tests of badkeys that are made on every RSA key, with what a finding means. Its warnings and its tests with false positives are left out.
TESTS = {
    "roca": "it was made by a chip with the ROCA flaw (CVE-2017-15361), and its private key can be computed",
    "fermat": "its two primes are so close together that Fermat's method finds them (CVE-2022-26320)",
    "smallfactors": "its modulus has a small prime factor",
    "sharedprimes": "it shares a prime with another key, so that anybody can compute both private keys",
    "rsapoly": "its modulus has a pattern of zeros that lets it be factored",
    "smalld": "its private exponent is so small that Wiener's method finds it",
    "rsainvalid": "its exponent is not a valid one",
}
PRIME = "its modulus is a prime, so that everybody knows the private key"
#: Larger exponents and moduli are refused by policy in any case; testing them would only cost time. The test for a prime is 0.13 s at 4096 bits.
_EXPONENT_MOST, _PRIME_BITS_MOST = 2**32, 4096


def weaknesses(public: PublicKey) -> tuple[str, ...]:
    """What is known to be wrong with this key, in words; empty when nothing is.

    RSA keys take the offline tests (importing badkeys costs 0.1 s; keys made here need none of this). Keys of every kind are looked up in the block list of
    compromised keys where the operator has fetched it with `badkeys --update-bl`. Nothing is ever fetched from here.
    Raises Misconfigured("bad-block-list") when there is a block list that cannot be used.
    """
    found = _rsa_findings(public) if public.modulus else []
    return (*found, *_blocked(public))


def _rsa_findings(public: PublicKey) -> list[str]:
    modulus, exponent = public.modulus, public.exponent
    if public.bits > RSA_MOST_BITS or exponent > _EXPONENT_MOST:
        return []
    from badkeys.checks import checkrsa  # with it come gmpy2, pyOpenSSL and cryptography.x509

    results = checkrsa(modulus, exponent, checks=TESTS)
    found = [TESTS[test] for test in TESTS if test in results]
    if public.bits <= _PRIME_BITS_MOST and modulus > 2 and pow(2, modulus - 1, modulus) == 1:
        found.append(PRIME)
    return found


def block_list_folder() -> str:
    """Where badkeys keeps its block list for the user that runs this: `$XDG_CACHE_HOME/badkeys`, otherwise `~/.cache/badkeys`."""
    return _folder(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"))


@functools.lru_cache(maxsize=8)
def _folder(cache: str | None, home: str | None) -> str:
    """Kept, as it is asked for at every key; without $HOME the system knows the user's home."""
    return os.path.join(cache or os.path.join(home or os.path.expanduser("~"), ".cache"), "badkeys")


def _blocked(public: PublicKey) -> list[str]:
    folder = block_list_folder()
    files = (f"{folder}/badkeysdata.json", f"{folder}/blocklist.dat")
    there = all(os.access(file, os.F_OK) and os.path.isfile(file) for file in files)  # where there is nothing, `access` says so at a third of the cost
    value = _listed_value(public) if there else None
    if value is None:
        return []
    from badkeys.allkeys import blocklist

    try:
        result = blocklist(value)
    except (Exception, SystemExit) as wrong:  # whatever a damaged file makes of it
        hint = "fetch it again with `badkeys --update-bl`, or remove it"
        raise Misconfigured("bad-block-list", f"the block list of compromised keys in {folder} cannot be used", hint=hint, folder=folder) from wrong
    return [f"it is on the list of compromised keys, under {result['subtest']!r}"] if result else []


def _listed_value(public: PublicKey) -> int | bytes | None:
    """What the block list hashes: an RSA modulus, the x of an EC point, an Edwards key as one number, an ML-DSA key as it is."""
    if public.modulus:
        return public.modulus
    key = key_bits(public.spki)
    if public.label in ("p256", "p384", "p521"):
        return int.from_bytes(key[1 : 1 + len(key) // 2], "big")
    if public.label in ("ed25519", "ed448"):
        return int.from_bytes(key, "big")
    return key if public.label.startswith("ml-dsa-") else None
