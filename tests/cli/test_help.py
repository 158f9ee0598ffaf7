"""`gatekey help`: other verbs' help, and the steps for each system with names filled in."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from gatekey.model.install import GUIDES
from kit import reference
from kit.administrator import Administrator, Answer, typed

VERBS = {name[1:]: command for name, command, _ in reference.commands()}


@pytest.fixture(autouse=True)
def nobody_lives_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATEKEY_HOME", str(tmp_path / "none"))


def helped(*words: str, code: int = 0) -> Answer:
    answer = typed("help", *words)
    assert answer.code == code, answer.err
    return answer


def test_alone_it_is_the_help_of_the_command() -> None:
    assert helped().out == typed("--help").out


@pytest.mark.parametrize("verb", ["issue", "issue client", "store check", "help", "help install"])
def test_of_another_verb(verb: str) -> None:
    words = verb.split()
    answer = helped(*words) if words[0] != "help" else typed(*words, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: gatekey {verb} ")
    assert answer.out == typed(*words, "--help").out


@pytest.mark.parametrize("words", [("nonsense",), ("issue", "nonsense"), ("demo", "x")])
def test_of_a_verb_that_is_not_there(words: tuple[str, ...]) -> None:
    assert "there is no gatekey" in helped(*words, code=2).err


def test_the_list_of_systems() -> None:
    assert [line.split()[0] for line in helped("install").lines] == list(GUIDES)
    assert [row["target"] for row in helped("install", "--json").json] == list(GUIDES)


@pytest.mark.parametrize("target", GUIDES)
def test_the_steps(target: str) -> None:
    plain, filled = helped("install", target).out, helped("install", target, "ann").out
    for step in GUIDES[target].steps:
        assert step.words in plain
        assert step.command in plain
        assert step.command.replace("NAME", "ann") in filled
    values = helped("install", target, "ann", "--json").json
    assert values["target"] == target
    assert [step["command"] for step in values["steps"]] == [step.command.replace("NAME", "ann") or None for step in GUIDES[target].steps]
    assert not re.search(r"\bNAME\b(?!-OF)", json.dumps(values))


@pytest.mark.parametrize("target", GUIDES)
def test_verbs_and_options_that_are_named_exist(target: str) -> None:
    guide = GUIDES[target]
    lines = [guide.make, *(step.command for step in guide.steps)]
    lines += re.findall(r"`(gatekey [^`]+)`", " ".join([*guide.notes, *(step.words for step in guide.steps)]))
    for line in lines:
        words = shlex.split(line)
        if not words or words[0] != "gatekey":
            continue
        name = tuple(words[1 : 3 if tuple(words[1:3]) in VERBS else 2])
        options = {option for parameter in VERBS[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
    named = re.findall(r"(--for|--key-type) ([a-z0-9-]+)", " ".join([*lines, *guide.notes]))
    client = {option: parameter.type for parameter in VERBS["issue", "client"].params for option in parameter.opts}
    for option, value in named:
        assert value in client[option].choices  # type: ignore[attr-defined]  # a click.Choice


@pytest.mark.parametrize("ref", ["ann", "handover/ann.p12", "ann.crt", "x/y/ann.chain.crt", "ann.mobileconfig", "ann.key"])
def test_names_come_out_of_files(ref: str) -> None:
    assert 'pk12util -d "sql:$HOME/.pki/nssdb" -i "ann.p12"' in helped("install", "nss", ref).out


def test_a_name_that_is_on_record(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--email", "ann@example.com")
    assert "ann.mobileconfig" in admin("help", "install", "ios", "ann@example.com").out


def test_a_name_that_shells_would_misread() -> None:
    answer = helped("install", "nss", "$(reboot).p12", code=1)
    assert "written for shells" in answer.err
    assert answer.out == ""


def test_the_file_for_windows_alone() -> None:
    assert helped("install", "windows-born", "ann", "--file").out == GUIDES["windows-born"].helper.replace("NAME", "ann")
    assert "no file of their own" in helped("install", "ios", "--file", code=2).err


def test_a_system_that_is_not_there() -> None:
    assert "windows-born" in helped("install", "amiga", code=2).err


def test_help_of_a_verb_with_the_options_of_every_verb(tmp_path: Path) -> None:
    asked = typed("help", "issue", "client", "--home", tmp_path / "nowhere", "--quiet")
    assert (asked.code, asked.out) == (0, typed("help", "issue", "client").out)
