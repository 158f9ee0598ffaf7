"""docs/identity.md says what the code does: every source, option, refusal and taken header, and its Python runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gatekey.errors import CODES
from gatekey.identity import Client, headers
from gatekey.identity.doorman import Options
from gatekey.identity.sources import SOURCES
from kit.asking import asgi_scope, ask_asgi
from kit.house import House, nginx_says

TEXT = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")


def test_everything_is_in_the_documentation() -> None:
    said = set(re.findall(r"`([^`\n]+)`", TEXT))
    assert {f'"{source}"' for source in SOURCES} <= said
    assert {code for code in CODES if code.startswith("identity-")} <= said
    assert set(Client._fields) <= said
    assert all(re.search(rf"\b{option}=", TEXT) or option == "clock" for option in Options.__annotations__)


def test_every_header_that_is_taken_out_is_named() -> None:
    families = ("x-client-", "x-ssl-client-", "ssl-client-", "client-cert")
    named = TEXT.lower()
    assert [name for name in headers.PROTECTED if not name.startswith(families) and name not in named] == []


def test_the_fastapi_example_runs(house: House) -> None:
    block = re.search(r"^FastAPI:\n\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert block
    names: dict[str, object] = {"__name__": "docs_example"}
    sys.modules.setdefault("docs_example", sys.modules[__name__])
    exec(block[1].replace("/etc/gatekey/bundle", str(house.bundle)), names)
    assert ask_asgi(names["app"], asgi_scope(nginx_says(house.ann).items(), unix=True)).saw == "Hello Änn Öberg"
    assert ask_asgi(names["app"], asgi_scope(nginx_says(house.ann).items())).status == 403
