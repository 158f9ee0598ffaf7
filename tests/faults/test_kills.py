"""kill -9 at random instants of eight issuers and two revokers on one ledger. The long run: PYTHONPATH=src:tests python -m kit.kills 200"""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import kills


@pytest.mark.slow
def test_twenty_kills(template: Path, tmp_path: Path) -> None:
    home, folder = kills.prepare(tmp_path, template)
    report = kills.run(home, folder, kills=20, seed=20)
    assert report.kills >= 20
    assert report.issued > 8
    assert report.revoked > 0
    print(report)
