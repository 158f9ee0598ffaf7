"""Tokens in words: what is their short name, and that nothing else of them is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.model.access import token_id, without_tokens

ID, SECRET = "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz234567abcdefgh"
TOKEN = f"gkt_{ID}_{SECRET}"


@pytest.mark.parametrize(("text", "found"), [(ID, ID), (TOKEN, ID), (f"gkt_{ID}", ID), ("", ""), ("a_b", "a_b"), ("gkt_", ""), ("xgkt_a_b", "xgkt_a_b")])
def test_the_short_name_is_in_the_token(text: str, found: str) -> None:
    assert token_id(text) == found


@pytest.mark.parametrize(("text", "told"), [
    (f"/v1/tokens/{TOKEN}", f"/v1/tokens/gkt_{ID}***"),
    (f"/v1/tokens/{TOKEN}/x?y", f"/v1/tokens/gkt_{ID}***/x?y"),
    (f"nobody is called '{TOKEN}'", f"nobody is called 'gkt_{ID}***'"),
    (f"token={TOKEN}&again={TOKEN.replace('_', '%5F')}", f"token=gkt_{ID}***&again=gkt%5F{ID}***"),
    (TOKEN.upper(), f"GKT_{ID.upper()}***"),
    (f"gkt_{SECRET}", "gkt_***"),
    (f"gkt_{ID[1:]}_{SECRET}", "gkt_***"),
    (f"gkt_{ID}", f"gkt_{ID}"),
    ("Authorization: Bearer gkt_...", "Authorization: Bearer gkt_..."),
    ("there is no token 'x' in force", "there is no token 'x' in force"),
])  # fmt: skip
def test_only_the_short_name_is_told(text: str, told: str) -> None:
    assert without_tokens(text) == told


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_words_around_it_keep_it(before: str, after: str) -> None:
    assert SECRET not in without_tokens(f"{before}{TOKEN}{after}")
