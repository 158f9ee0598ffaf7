"""Whoever types from the documentation takes every block, and moves what stands in it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import typist

PAGE = """# A page

```sh
# no heading
gatekey list
```

## Below

```toml
[a]
```

```sh
true
```
"""


def test_blocks_are_found_below_their_headings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typist, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    found = typist.sections("page.md")
    assert {title: section.left for title, section in found.items()} == {"A page": [("sh", "# no heading")], "Below": [("toml", "[a]"), ("sh", "true")]}
    assert found["Below"].take("sh") == "true\n"
    assert found["Below"].left == [("toml", "[a]")]
    with pytest.raises(AssertionError, match="no further sh block"):
        found["Below"].take("sh")
    (tmp_path / "docs" / "page.md").write_text(PAGE.replace("```toml", "```"))
    with pytest.raises(AssertionError, match="does not say its language"):
        typist.sections("page.md")


def test_what_is_moved_is_moved_once_and_the_longest_first() -> None:
    table = {"/etc/": "/x/etc/", "b.example": "localhost", "b.example:1": "/etc/"}
    assert typist.moved("/etc/a /etc/ b.example:1 b.example", table) == "/x/etc/a /x/etc/ /etc/ localhost"
