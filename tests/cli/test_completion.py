"""Completion scripts load into their shells and offer verbs, options and the words that options take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.administrator import COMMAND, SRC, typed

#: What a person has typed, and some of what is offered then.
OFFERS = [
    ("gatekey ", {"init", "issue", "list", "revoke"}),
    ("gatekey i", {"init", "issue"}),
    ("gatekey issue ", {"client", "server"}),
    ("gatekey issue client ann --key", {"--key-type"}),
    ("gatekey issue client ann --key-type ", {"p256", "rsa-4096", "ed25519"}),
    ("gatekey issue client ann --for m", {"modern"}),
    ("gatekey revoke ann --reason ", {"key-compromise", "superseded"}),
    ("gatekey list --status ", {"valid", "held"}),
    ("gatekey people ", {"add", "list", "set", "show"}),
    ("gatekey store ", {"check"}),
    ("gatekey completion ", {"bash", "zsh", "fish"}),
]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which `gatekey` is a command."""
    command = tmp_path / "bin" / "gatekey"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec {COMMAND[0]} -c '{COMMAND[2]}' \"$@\"\n")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(SRC)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    answer = typed("completion", shell)
    assert "_GATEKEY_COMPLETE" in answer.out
    assert answer.err == ""


def test_bash_loads_it_and_offers_words(installed: dict[str, str], tmp_path: Path) -> None:
    """Bash with the script of the program, asked as the Tab key would."""
    lines = "\n".join(
        f"""COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; read -ra COMP_WORDS <<< "$COMP_LINE"; {'COMP_WORDS+=("");' if line.endswith(" ") else ""}
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); _gatekey_completion gatekey; echo "${{COMPREPLY[*]}}" """
        for line, _ in OFFERS
    )
    script = f'set -eu\neval "$(gatekey completion bash)"\n{lines}\n'
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, env=installed, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    offered = done.stdout.splitlines()
    assert len(offered) == len(OFFERS)
    for (line, wanted), words in zip(OFFERS, offered, strict=True):
        assert wanted <= set(words.split()), (line, words)


def test_nothing_is_imported_for_it_that_is_not_needed(installed: dict[str, str]) -> None:
    """A Tab that takes a second is no help: listing verbs reads no verb's file."""
    environment = {**installed, "_GATEKEY_COMPLETE": "bash_complete", "COMP_WORDS": "gatekey i", "COMP_CWORD": "1"}
    script = "import sys, atexit; atexit.register(lambda: print([m for m in sys.modules if m.startswith('gatekey.')], file=sys.stderr))\n"
    script += "from gatekey.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "init" in done.stdout
    assert "cryptography" not in done.stderr
    assert "gatekey.authority" not in done.stderr
