"""The benchmark of issuing runs for everybody who is installed, and calls the others missing. Its figures stand in docs/figures.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ISSUE = Path(__file__).parent.parent / "bench" / "issue.py"


@pytest.mark.slow
@pytest.mark.interop
def test_issue(program: Callable[[str], str]) -> None:
    program("openssl")
    program("easyrsa")
    done = subprocess.run([sys.executable, ISSUE, "--rounds", "1"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = dict(re.findall(r"^(\S.+?) {2,}([0-9.]+|MISSING)\b", done.stdout, re.MULTILINE))
    for name in ("bare cryptography program", "gatekey issue client", "gatekey issue client, encrypted key", "openssl req + ca + pkcs12"):
        assert float(measured[name]) > 0
    assert float(measured["easy-rsa build-client-full + export-p12"]) > 0
    assert len(measured) == 4 + 5, measured
    assert re.search(r"^gatekey --help: \d+ ms CPU \(limit 100\)$", done.stdout, re.MULTILINE)


def test_every_benchmark_is_told_of() -> None:
    told = (ISSUE.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(ISSUE.parent.glob("*.py")) if f"`{path.name}`" not in told] == []
