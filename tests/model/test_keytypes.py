"""Key types: what an entry of a profile covers, and how people write them."""

from __future__ import annotations

import pytest

from gatekey.model.keytypes import DEFAULT, KNOWN, MADE_HERE, allows, display


def test_what_is_made_here_is_known() -> None:
    assert set(MADE_HERE) <= set(KNOWN)
    assert DEFAULT == MADE_HERE[0] == "p256"


@pytest.mark.parametrize(
    ("entry", "label", "allowed"),
    [
        ("p256", "p256", True),
        ("p256", "p384", False),
        ("rsa-2048", "rsa-2048", True),
        ("rsa-2048", "rsa-4096", True),
        ("rsa-2048", "rsa-2047", False),
        ("rsa-4096", "rsa-2048", False),
        ("rsa-2048", "p256", False),
        ("p256", "rsa-2048", False),
        ("p256", "", False),
    ],
)
def test_entries(entry: str, label: str, allowed: bool) -> None:
    assert allows(entry, label) == allowed


def test_words() -> None:
    assert [display(label) for label in ("p256", "rsa-2048", "ed25519", "ml-dsa-65")] == ["EC P-256", "RSA 2048", "Ed25519", "ML-DSA-65"]
