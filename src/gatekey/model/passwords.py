"""Passwords that Gatekey makes up for PKCS#12 files, and what a passphrase that people choose must be.

People never choose the former: with 100 random bits the cipher of the file does not matter.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Refused

#: 32 characters that nobody mistakes for one another when reading aloud or copying: no 0 and o, no 1 and l, no capitals.
#: Neither shells nor forms nor foreign keyboards trip over them.
ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"
GROUPS, GROUP = 4, 5
#: Fewest characters of a new passphrase of keys.
FEWEST = 12


def generate(random: Callable[[int], bytes]) -> str:
    """A new password such as `k7dmp-wq3xz-r9fht-2vbnc`, uniform over 2^100. `random` is asked once, for 20 unpredictable bytes."""
    letters = [ALPHABET[byte & 31] for byte in random(GROUPS * GROUP)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, GROUPS * GROUP, GROUP))


def chosen(passphrase: bytes) -> bytes:
    """A new passphrase of the keys, from wherever it comes. Raises Refused("passphrase-short")."""
    count = len(passphrase.decode("utf-8", "replace"))
    if count < FEWEST:
        message = f"the passphrase has {count} character{'' if count == 1 else 's'}; {FEWEST} or more are needed"
        raise Refused("passphrase-short", message, hint="a sentence of five words is easy to keep", found=count, allowed=FEWEST)
    return passphrase
