"""The scripts of the checkout: what they say where they cannot work, and that nothing is skipped where everything must be proved."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OLD = 'case "$1" in --version) echo "Python 3.9.2"; exit 0;; esac; exit 1'
WITHOUT_VENV = 'case "$1" in --version) echo "Python 3.11.2"; exit 0;; esac; case "$2" in *ensurepip*) exit 1;; esac; exit 0'


@pytest.mark.parametrize(
    ("python", "words"),
    [
        (OLD, "found Python 3.9.2; Gatekey needs Python 3.11 or newer"),
        (WITHOUT_VENV, "sudo apt install python3-venv"),
        (None, "found no python3"),
    ],
    ids=["old", "without venv", "none"],
)
def test_a_machine_without_a_fitting_python_is_told_so(tmp_path: Path, python: str | None, words: str) -> None:
    shutil.copytree(ROOT / "script", tmp_path / "script")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "cksum"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if python:
        (programs / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (programs / "python3").chmod(0o755)
    answer = subprocess.run(["sh", tmp_path / "script" / "demo"], env={"PATH": str(programs)}, capture_output=True, text=True)
    assert answer.returncode == 3
    assert words in answer.stderr
    assert not (tmp_path / ".venv").exists()


def pytest_beside(folder: Path, no_skips: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests in `folder` under our conftest, without the plugins that cost a second each."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    environment = {**os.environ, "GATEKEY_NO_SKIPS": no_skips, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run: list[str] = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("strict", ["1", ""])
@pytest.mark.parametrize(
    "body",
    ["import pytest\ndef test_it(): pytest.skip('no nginx')\n", "import pytest\npytest.skip('no nginx', allow_module_level=True)\n"],
    ids=["test", "module"],
)
def test_a_skip_is_a_failure_where_everything_must_be_proved(tmp_path: Path, strict: str, body: str) -> None:
    (tmp_path / "test_skips.py").write_text(body)
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    answer = pytest_beside(tmp_path, strict)
    assert (answer.returncode == 0) == (not strict), answer.stdout
    assert ("forbids that" in answer.stdout and "no nginx" in answer.stdout) == bool(strict)


def test_a_missing_judge_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_judge.py").write_text("def test_it(program): program('no-such-judge')\n")
    answer = pytest_beside(tmp_path, "")
    assert answer.returncode == 1
    assert "no-such-judge is not installed, and this test needs it as a judge: apt install no-such-judge" in answer.stdout
