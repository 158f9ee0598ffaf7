"""Every line knows its room: who may import whom, and the few things that may stand in one place only. Read from the source, not from memory."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "gatekey"
FILES = sorted(SRC.rglob("*.py"))

#: docs/architecture.md has the same table. A room may always import itself, `errors` (the one family) and `files` (how bytes reach a disk).
MAY_IMPORT = {
    "errors": "",
    "files": "",
    "ports": "",
    "model": "",
    "lifecycle": "model",
    "policy": "model",
    "x509": "model",
    "lint": "x509 model",
    "keys": "ports x509.pkcs8",
    "store": "lifecycle model",
    "authority": "policy lint x509 store lifecycle ports config model",
    "protocols": "authority x509 lifecycle model ports profiles policy.explain",
    "webserver": "x509 model",
    "identity": "x509",
    "outgoing": "ports model",
    "jobs": "authority outgoing store.reads model",
    "web": "protocols authority store.reads config model",
    "config": "model",
    "profiles": "model",
    "api": "app authority keys lifecycle model ports x509",
    "testing": "api authority keys ports model x509",
    "app": "authority config identity jobs keys lifecycle lint model outgoing policy ports profiles protocols store web webserver x509",
    "cli": "app authority store.reads web.unit webserver x509 model config testing keys.material lifecycle ports policy.explain profiles",
}

#: What each room may have from outside the standard library; every other room has nothing.
FROM_OUTSIDE = {
    "x509": "cryptography",
    "keys": "cryptography pkcs11",
    "authority": "cryptography badkeys",
    "store": "psycopg",
    "cli": "click rich",
    "webserver": "cryptography",  # `check` knocks with certificates that it forges
    "testing": "cryptography",
    "web": "fastapi httptools prometheus_client pydantic starlette structlog uvicorn",
    "identity": "asgiref django flask litestar starlette uvicorn werkzeug",  # each in a file of its own, for those who have it already
}

#: The clock and the dice live in ports.py. Whoever else asks the system says here why.
ASKS_THE_SYSTEM = {
    "identity/doorman.py",  # lives alone in other people's apps; its clock is an argument, with the real one as the default
}
CLOCK_AND_DICE = re.compile(
    r"^(time\.(time|time_ns|localtime|ctime)|datetime\.(datetime\.)?(now|utcnow|today)|date(time)?\.(date\.)?(now|utcnow|today)|os\.(urandom|getrandom)|"
    r"uuid\.uuid[14]|ssl\.RAND_bytes|(secrets|random)(\..*)?)$"
)

#: Importing cryptography.x509 costs every command dearly; gatekey.x509 does its work. Strangers' PKCS#12 is the exception: its loader brings it along.
BRINGS_X509 = re.compile(r"^cryptography\.(x509|hazmat\.primitives\.serialization\.(pkcs12|pkcs7))(\.|$)")
MAY_BRING_X509 = {"x509/pkcs12.py"}

#: Values of gatekey.lifecycle and the one file that makes them.
MADE_ONLY_IN = {"Recorded": "store/ledger.py", "Released": "store/ledger.py", "Signed": "authority/issue.py"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def room(path: Path) -> str:
    return place(path).split("/")[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every imported name of a file in full ("gatekey.model.names.Names"), wherever it stands: at the top, in a function or under TYPE_CHECKING."""
    package = ["gatekey", *path.relative_to(SRC).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def violations(path: Path) -> Iterator[str]:
    home = room(path)
    allowed = [home, "errors", "files", *MAY_IMPORT[home].split()]
    outside = FROM_OUTSIDE.get(home, "").split()
    for name in imports(path):
        top, _, inner = name.partition(".")
        if top == "gatekey":
            if not any(f"{inner}.".startswith(f"{one}.") for one in allowed):
                yield f"{place(path)} imports {name}; {home} may import {', '.join(allowed)}"
        elif top not in sys.stdlib_module_names and top != "__future__" and top not in outside:
            yield f"{place(path)} imports {name}; from outside {home} may have {', '.join(outside) or 'nothing'}"


def test_every_room_is_in_the_table() -> None:
    assert {room(path) for path in FILES} - {"__init__", "__main__"} <= MAY_IMPORT.keys()


def test_the_table_in_the_documentation_is_this_one() -> None:
    page = (SRC.parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("| room | may import |")[2].partition("\n\n")[0]
    told: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        rooms, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        told |= {one.strip(): set() if allowed == "nothing" else {word.strip() for word in allowed.split(",")} for one in rooms.split(",")}
    assert told == {one: set(allowed.split()) for one, allowed in MAY_IMPORT.items() if one not in ("errors", "files")}


def test_imports_go_one_way() -> None:
    assert [line for path in FILES if room(path) not in {"__init__", "__main__"} for line in violations(path)] == []


def test_the_test_would_see_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SRC", tmp_path)
    wrong = tmp_path / "policy" / "rules.py"
    wrong.parent.mkdir()
    wrong.write_text("from ..store import ledger\nfrom ..model import plan\nimport click, re\ndef f():\n    from gatekey.x509.der import seq\n")
    assert [line.split(";")[0] for line in violations(wrong)] == [
        "policy/rules.py imports gatekey.store.ledger",
        "policy/rules.py imports click",
        "policy/rules.py imports gatekey.x509.der.seq",
    ]


def test_states_are_made_in_one_place() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = dotted(node.func).removesuffix("._make").split(".")[-1]
                if place(path) != MADE_ONLY_IN.get(name, place(path)):
                    found.append(f"{place(path)}:{node.lineno} makes a {name}; only {MADE_ONLY_IN[name]} may")
    assert found == []


def test_nobody_else_asks_for_time_or_chance() -> None:
    found = []
    for path in FILES:
        if place(path) in {"ports.py", *ASKS_THE_SYSTEM}:
            continue
        found += [f"{place(path)} imports {name}" for name in imports(path) if CLOCK_AND_DICE.match(name)]
        asked = {dotted(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        modules = {name.split(".")[0] for name in imports(path)}
        found += [f"{place(path)} asks {name}" for name in asked if CLOCK_AND_DICE.match(name) and name.split(".")[0] in {*modules, "datetime", "date"}]
    assert found == []


def test_cryptography_x509_is_not_on_the_way() -> None:
    assert [f"{place(path)} imports {name}" for path in FILES for name in imports(path) if BRINGS_X509.match(name) and place(path) not in MAY_BRING_X509] == []


def test_names_and_sizes() -> None:
    names = {"utils", "util", "common", "helpers", "helper", "base", "manager", "managers", "misc"}
    assert [place(path) for path in FILES if path.stem.strip("_") in names] == []
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > 500:
            assert "long because" in lines[0].lower(), f'{place(path)} has {len(lines)} lines: its first line must say why ("... Long because ...")'


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("gatekey", "cryptography click rich sqlite3 asyncio"),
        ("gatekey.identity", "cryptography click rich sqlite3"),
        ("gatekey.policy", "cryptography click sqlite3"),
        ("gatekey.cli", "cryptography rich sqlite3 asyncio hashlib badkeys"),
    ],
)
def test_a_fresh_interpreter_stays_light(module: str, absent: str) -> None:
    if not (SRC / module.partition(".")[2]).exists() and not (SRC / f"{module.partition('.')[2]}.py").exists():
        pytest.fail(f"{module} is not there")
    code = f"import sys, {module}; print(*(name for name in {absent.split()!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SRC.parent)})
    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, "", "")
