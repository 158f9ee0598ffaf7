"""Generated passwords: their form, their alphabet, and that every random bit ends up in them."""

from __future__ import annotations

import math
import os
import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gatekey.model import passwords


def test_the_form() -> None:
    assert re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){3}", passwords.generate(os.urandom))
    assert passwords.generate(bytes) == "22222-22222-22222-22222"


def test_nothing_that_is_mistaken_for_something_else() -> None:
    assert not set("01oOlI") & set(passwords.ALPHABET)
    assert len(set(passwords.ALPHABET)) == 32
    assert passwords.GROUPS * passwords.GROUP * math.log2(len(passwords.ALPHABET)) == 100


@given(st.binary(min_size=20, max_size=20))
def test_uniform(random: bytes) -> None:
    """256 is a multiple of 32: each character stands for exactly eight byte values, and is decided by its own byte alone."""
    made = passwords.generate(lambda count: random[:count]).replace("-", "")
    assert made == "".join(passwords.ALPHABET[byte % 32] for byte in random)


def test_each_character_has_the_same_number_of_bytes() -> None:
    counts = Counter(passwords.generate(bytes([byte]).__mul__)[0] for byte in range(256))
    assert set(counts.values()) == {8}


def test_no_shell_trips_over_it() -> None:
    assert re.fullmatch(r"[A-Za-z0-9-]+", passwords.ALPHABET)
