"""Certificates keep their bits: what every built-in profile gives today is what it gave when the golden files were written.

A difference is either a fault or a decision. After a decision: `PYTHONPATH=src:tests python -m kit.golden`, and a line in the changelog.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gatekey import profiles
from gatekey.testing import FakeClock
from gatekey.x509 import pem
from kit import golden

CASES = sorted(path.stem for path in golden.GOLDEN.glob("*.txt"))
LEAVES = {"client": "people", "client-short": "people", "device": "people", "device-csr": "people", "server": "servers", "server-rsa": "servers"}
LEAVES |= {"server-long": "servers", "probe": "people", "probe-server": "people", "ocsp-responder": "people"}


@cache
def made() -> dict[str, str]:
    return golden.files()


def test_every_built_in_profile_is_here() -> None:
    assert set(profiles.NAMES) <= set(CASES)
    assert {f"{case}.{ending}" for case in CASES for ending in ("pem", "txt")} == set(made())


@pytest.mark.parametrize("case", CASES)
def test_bits_are_those_of_the_golden_file(case: str) -> None:
    assert pem.decode(made()[f"{case}.pem"].encode()) == pem.decode((golden.GOLDEN / f"{case}.pem").read_bytes())


@pytest.mark.parametrize("case", CASES)
def test_words_are_those_of_the_golden_file(case: str) -> None:
    assert made()[f"{case}.txt"] == (golden.GOLDEN / f"{case}.txt").read_text(encoding="utf-8")


def test_keys_and_dice_are_fixed() -> None:
    assert golden.objects() == golden.objects()


@pytest.mark.interop
@pytest.mark.parametrize("case", LEAVES)
def test_openssl_believes_the_golden_chains(case: str, program: Callable[[str], str], tmp_path: Path) -> None:
    """OpenSSL's strict reading, on the day after the golden clock's."""
    issuer = LEAVES[case]
    at = str(FakeClock().now() + 86400)
    command = [program("openssl"), "verify", "-x509_strict", "-attime", at, "-CAfile", f"{issuer}-root.pem", "-untrusted", f"{issuer}.pem", f"{case}.pem"]
    said = subprocess.run(command, cwd=golden.GOLDEN, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, f"{case}.pem: OK\n"), said.stderr
