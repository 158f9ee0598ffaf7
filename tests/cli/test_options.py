"""--home, --json and --quiet before and after the verb; what --json says parses, and never holds a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kit import administrator, town
from kit.administrator import Administrator, typed

READING = [
    ["list"],
    ["list", "--authorities", "--probes"],
    ["show", "ann"],
    ["show", "gus"],
    ["show", "ann.crt"],
    ["show", "ann.chain.crt"],
    ["show", "ann.key"],
    ["show", "ann.p12", "--password-file", "ann.pw"],
    ["show", "bob.csr"],
    ["show", "people.crl"],
    ["show", "sealed.key"],
    ["people", "list"],
    ["people", "list", "--all"],
    ["people", "show", "ann"],
    ["authority", "list"],
    ["authority", "show", "people"],
    ["trust"],
    ["verify", "ann.crt"],
    ["verify", "ann.crt", "eve-phone/eve.crt"],
    ["store", "check"],
    ["doctor"],
    ["profile", "list"],
    ["profile", "show", "client"],
    ["profile", "explain", "client"],
    ["token", "list"],
    ["crl"],
]

WRITING = [
    ["issue", "client", "kim", "--out", "out"],
    ["issue", "client", "lou", "--out", "out", "--password-file", "lou.pw"],
    ["issue", "client", "max", "--out", "out", "--for", "pem"],
    ["issue", "server", "kim.example", "--out", "out"],
    ["request", "nan", "--out", "out"],
    ["sign", "shop.example.csr", "--profile", "server", "--out", "out/shop.crt"],
    ["renew", "ann", "--new-key", "--out", "out"],
    ["p12", "ann.crt", "--key", "ann.key", "--out", "out/ann2.p12"],
    ["people", "add", "hal"],
    ["people", "set", "hal", "--group", "x"],
    ["hold", "kim"],
    ["unhold", "kim"],
    ["revoke", "kim"],
    ["leave", "lou", "--yes"],
    ["bundle", "--out", "out/bundle"],
    ["authority", "export", "--out", "out/all.pem"],
]

SECRETS = re.compile(r"PRIVATE KEY|\b[a-z0-9]{5}(?:-[a-z0-9]{5}){3}\b")


@pytest.fixture
def inhabited(admin: Administrator) -> Administrator:
    town.build(admin)
    return admin


def test_json_of_every_reading_verb(inhabited: Administrator) -> None:
    for words in READING:
        answer = inhabited(*words, "--json")
        told = answer.json
        assert isinstance(told, (dict, list)), words
        assert not SECRETS.search(answer.out), words
        assert inhabited(*words, "--json", "--quiet").json.__class__ is told.__class__


def test_json_of_every_writing_verb(inhabited: Administrator) -> None:
    for words in WRITING:
        answer = inhabited(*words, "--json")
        assert isinstance(answer.json, (dict, list)), words
        assert not SECRETS.search(answer.out), words
    assert inhabited("store", "check", "--json").json == {"whole": True, "findings": [], "repaired": []}


def test_a_password_that_is_shown_is_shown_on_stderr_also_when_quiet(admin: Administrator) -> None:
    answer = admin("--quiet", "--json", "issue", "client", "ann")
    assert "password of ann.p12:" in answer.err
    assert "password" not in answer.out


def test_quiet_says_only_results(inhabited: Administrator) -> None:
    shows_a_password = [words for words in WRITING if words[0] in ("p12", "issue", "renew")]
    for words in shows_a_password:
        inhabited(*words)
    for words in [*READING, *(words for words in WRITING if words not in shows_a_password)]:
        answer = inhabited(*words, "--quiet") if words != ["crl"] else inhabited("crl", "--pem", "--quiet")
        assert answer.err == "", words


@pytest.mark.parametrize("place", ["before", "after", "inside", "environment"])
def test_home_before_and_after_the_verb(admin: Administrator, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ["--home", str(admin.home)]
    if place == "environment":
        monkeypatch.setenv("GATEKEY_HOME", str(admin.home))
        home = []
    lines = {
        "before": [*home, "people", "list", "--json"],
        "inside": ["people", *home, "list", "--json"],
        "after": ["people", "list", "--json", *home],
        "environment": ["people", "list", "--json"],
    }
    answer = typed(*lines[place])
    assert (answer.code, answer.json) == (0, [])


def test_the_option_outranks_the_environment(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEKEY_HOME", "/nowhere")
    assert typed("list").code == 3
    assert typed("list", "--home", admin.home).code == 0


def test_the_last_home_counts(admin: Administrator) -> None:
    assert typed("--home", "/nowhere", "list", "--home", admin.home).code == 0


def test_the_default_home_is_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert f"there is no authority in {tmp_path}/data/gatekey" in typed("list").err
    administrator.found(tmp_path / "data" / "gatekey")
    assert typed("list").code == 0


@pytest.mark.parametrize("words", [["--json", "list"], ["list", "--json"], ["--json", "list", "--json"]])
def test_json_before_and_after_the_verb(admin: Administrator, words: list[str]) -> None:
    assert admin(*words).json == []


@pytest.mark.parametrize("words", [["--quiet", "list"], ["list", "-q"], ["-q", "people", "list"], ["people", "-q", "list"]])
def test_quiet_before_and_after_the_verb(admin: Administrator, words: list[str]) -> None:
    assert admin(*words) == administrator.Answer(0, b"", "")


def test_a_refusal_as_json(admin: Administrator) -> None:
    answer = admin("--json", "issue", "server", "a_b.example", "c_d.example", code=1)
    told = json.loads(answer.err)["error"]
    assert [reason["code"] for reason in told["reasons"]] == ["bad-host", "bad-host"]
    assert told["reasons"][0]["facts"] == {"found": "a_b.example", "allowed": ""}
    assert answer.stdout == b""


@pytest.mark.parametrize("words", [["list", "--frob", "--json"], ["--json", "lst"], ["renew", "ann", "--key-type", "p384", "--json"]])
def test_a_wrong_command_line_as_json(admin: Administrator, words: list[str]) -> None:
    """Whoever reads JSON reads it of every refusal, also of one that was found before --json was read."""
    told = json.loads(admin(*words, code=2).err)["error"]
    assert told["code"] == "usage"
    assert told["message"]
    assert told["hint"].endswith("--help says how it is used")


def test_init_as_json(tmp_path: Path) -> None:
    answer = typed("--home", tmp_path / "new", "init", "Kitty CA", "--unencrypted-keys", "--json")
    told = answer.json
    assert told["name"] == "Kitty CA"
    assert [one["authority"] for one in told["authorities"]] == ["people-root", "people", "servers-root", "servers"]


def test_init_with_an_administrator_is_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = typed("--home", tmp_path / "new", "init", "Kitty CA", "--unencrypted-keys", "--admin", "boss", "--json").json
    assert told["administrator"]["holder"] == "boss"
    assert told["administrator"]["files"] == ["boss.key", "boss.crt", "boss.chain.crt", "boss.p12"]
    assert typed("--home", tmp_path / "new", "people", "show", "boss", "--json").json["roles"] == ["administrator"]


def test_help_of_every_verb_can_be_had_without_an_authority() -> None:
    from kit import reference

    for name, _, _ in reference.commands():
        answer = typed(*name[1:], "--help")
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: {' '.join(name)} ")
        assert answer.err == ""
        assert typed(*name[1:], "-h").out == answer.out
