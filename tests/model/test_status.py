"""How a certificate stands, and the reasons of RFC 5280 by word and number."""

from __future__ import annotations

import pytest

from gatekey.model.status import (
    ABANDONED,
    EXPIRED,
    HELD,
    MOVES,
    NOT_YET,
    REASONS,
    RECORDED,
    RELEASED,
    REVOKE_REASONS,
    REVOKED,
    STATUSES,
    VALID,
    reason_word,
    status,
)


@pytest.mark.parametrize(
    ("state", "revoked_at", "reason", "now", "stands"),
    [
        (RELEASED, None, None, 50, VALID),
        (RELEASED, None, None, 10, VALID),
        (RELEASED, None, None, 100, VALID),
        (RELEASED, None, None, 9, NOT_YET),
        (RELEASED, None, None, 101, EXPIRED),
        (RELEASED, 40, "superseded", 50, REVOKED),
        (RELEASED, 40, "certificate-hold", 50, HELD),
        (RELEASED, 40, "superseded", 101, REVOKED),
        (ABANDONED, None, None, 50, ABANDONED),
    ],
)
def test_status(state: str, revoked_at: int | None, reason: str | None, now: int, stands: str) -> None:
    assert status(state, 10, 100, revoked_at, reason, now) == stands
    assert stands in STATUSES


def test_moves_end() -> None:
    assert MOVES[RECORDED] == (RELEASED, ABANDONED)
    assert not MOVES[RELEASED]
    assert not MOVES[ABANDONED]


def test_reasons() -> None:
    assert sorted(REASONS.values()) == [0, 1, 2, 3, 4, 5, 6, 9, 10]
    assert all(reason_word(code) == word for word, code in REASONS.items())
    assert reason_word(8) == "remove-from-crl"
    assert reason_word(7) == "unknown (7)"
    assert set(REVOKE_REASONS) < set(REASONS)
    assert "certificate-hold" not in REVOKE_REASONS
