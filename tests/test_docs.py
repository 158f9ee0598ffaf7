"""The documentation says what the program says: every verb, error code, config key, profile and lint; no dead link, no verb that is not there."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from kit import reference

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
REFERENCES = sorted(reference.REFERENCE.glob("*.md"))

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The names under which GitHub reaches the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def shell_commands(page: Path) -> Iterator[list[str]]:
    """Every `gatekey ...` in the sh blocks of a page, as words."""
    for language, block in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|\||;|\|", line):
                    words = shlex.split(part, comments=True) if "gatekey" in part else []  # other programs may be given ; and | in quotes
                    if "gatekey" in words[:2]:
                        yield words[words.index("gatekey") + 1 :]


@cache
def verbs() -> dict[tuple[str, ...], click.Command]:
    return {name[1:]: command for name, command, _ in reference.commands()}


def unknown_words(words: list[str]) -> list[str]:
    """Words of a command line that the command does not know: a verb that is not there, an option that it does not take."""
    options = {"--help", "--home", "--json", "--quiet"}
    name: tuple[str, ...] = ()
    rest = list(words)
    while rest and isinstance(verbs()[name], click.Group):
        word = rest.pop(0)
        if word.startswith("-"):
            continue
        if (*name, word) not in verbs():
            return [word]
        name = (*name, word)
    options |= {option for parameter in verbs()[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in rest if word.startswith("-") and word.split("=")[0] not in options]


def test_every_verb_has_a_route_or_a_reason_why_not() -> None:
    """docs/api.md says where in the API a verb is found, or why it is not there; and every route that it names is one."""
    from gatekey.protocols.api import table

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Verbs and routes")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {verb for row in rows for verb in re.findall(r"`([a-z0-9 ]+)`", row[0])}
    leaves = {" ".join(name) for name, command in verbs().items() if name and (not isinstance(command, click.Group) or name[0] in ("agent", "help"))}
    assert (leaves - told, told - leaves) == (set(), set())
    paths = {route.path for route in table.ROUTES}
    named = {path for row in rows if len(row) == 3 for path in re.findall(r"(/v1/[^`,]*)`", row[1])}
    assert [path for path in named if path not in paths and not any(one.startswith(path.removesuffix("...")) for one in paths)] == []


def test_every_check_of_health_is_explained() -> None:
    from gatekey.authority.health import CHECKS

    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8").partition("| check | is red when |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == sorted([*CHECKS, "config", "view", "ocsp", "certificate"])


def test_every_metric_is_explained() -> None:
    """With its labels; and the alerts that are proposed ask for metrics that there are."""
    from gatekey.web.metrics import COUNTERS, GAUGES

    text = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(gatekey_[a-z_]+)` \| ([^|]*)\|", text, re.MULTILINE)
    there = {f"{name}_total": labels for name, (_, labels) in COUNTERS.items()} | {name: labels for name, (_, labels) in GAUGES.items()}
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == there
    asked = {name for line in text.splitlines() if "alert:" in line for name in re.findall(r"gatekey_[a-z_]+", line)}
    assert asked <= there.keys()


@pytest.mark.parametrize("page", REFERENCES, ids=[page.name for page in REFERENCES])
def test_reference_pages_are_those_of_the_program(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == reference.refreshed(text), f"{page.name} is behind the program; run script/docs"


def test_every_copied_part_has_its_page() -> None:
    found = re.findall(r"<!-- from the program: ([a-z]+) -->", "".join(page.read_text(encoding="utf-8") for page in REFERENCES))
    assert sorted(found) == sorted(reference.PARTS)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT) or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_the_documentation_exist(page: Path) -> None:
    assert [(words, unknown) for words in shell_commands(page) if (unknown := unknown_words(words))] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    first = next(block for language, block in _FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8")) if language == "sh")
    assert [line.split()[0] for line in first.splitlines()] == ["script/demo", "script/test"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            links = _LINK.findall(page.read_text(encoding="utf-8"))
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if not re.match(r"[a-z]+:|#", link)]
    assert {page for page in PAGES if page not in seen} == set()


def test_glossary_and_command_line_agree() -> None:
    glossary = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").split("## Glossary")[1]
    rows = [line.strip("|").split("|") for line in glossary.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]
    words = [row[0].strip() for row in rows]
    assert len(words) == len(set(words))
    assert {verb for row in rows for verb in re.findall(r"`([a-z0-9-]+)`", row[2])} == {name[0] for name in verbs() if name}


def test_every_verb_says_what_it_does() -> None:
    assert [" ".join(name) for name, command in verbs().items() if not (command.help or "").strip()] == []
    options = [(name, option) for name, command in verbs().items() for option in command.params if isinstance(option, click.Option)]
    assert [f"{' '.join(name)} {option.name}" for name, option in options if not option.help] == []


def test_every_file_of_the_bundle_is_explained() -> None:
    from gatekey.testing import CA

    page = (reference.REFERENCE / "files.md").read_text(encoding="utf-8")
    with CA() as ca:
        assert [file.name for file in ca.bundle().iterdir() if not file.name.startswith(".") and f"`{file.name}`" not in page] == []


def test_examples_in_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False, report=True)
    assert done.attempted > 10
    assert done.failed == 0
