"""Every code that is raised anywhere stands in the table of codes, and nothing in the table is a dead letter."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gatekey import errors
from gatekey.errors import CODES, Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Reason, Refused, Unavailable

SRC = Path(errors.__file__).parent
FAMILY = {"Refused", "Malformed", "NotFound", "Conflict", "Misconfigured", "Unavailable", "Reason"}


def raised() -> dict[str, set[str]]:
    """Code -> files that make an error or a reason with it."""
    found: dict[str, set[str]] = {}
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", getattr(node.func, "attr", "")) in FAMILY:
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.setdefault(code.value, set()).add(str(path.relative_to(SRC)))
    return found


def test_every_code_is_in_the_table() -> None:
    assert {code: files for code, files in raised().items() if code not in CODES} == {}


def test_no_code_is_a_dead_letter() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SRC.rglob("*.py") if path.name != "errors.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []


def test_codes_and_their_meanings_are_well_formed() -> None:
    for code, meaning in CODES.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
        assert meaning
        assert not meaning.endswith(".")
        assert meaning[0].islower() or not meaning.split()[0][1:].islower(), meaning  # a name may stand first: HAProxy


def test_exit_codes() -> None:
    assert {kind.__name__: kind.exit_code for kind in (Refused, Malformed, NotFound, Conflict, Misconfigured, Unavailable)} == {
        "Refused": 1, "Malformed": 1, "NotFound": 1, "Conflict": 1, "Misconfigured": 3, "Unavailable": 4,
    }  # fmt: skip


def test_all_reasons_at_once() -> None:
    one, two = Reason("key-weak", "one", "mend it"), Reason("bad-host", "two")
    refused = Refused.because((one, two))
    assert (refused.code, refused.message, refused.hint, refused.reasons) == ("key-weak", "one; two", "mend it", (one, two))
    alone = Refused("key-weak", "one", hint="mend it", found=7)
    assert alone.reasons == (Reason("key-weak", "one", "mend it", {"found": 7}),)
    assert isinstance(alone, GatekeyError)
    assert str(alone) == "one"
