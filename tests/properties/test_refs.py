"""REF: every way of writing what names a certificate finds it, nothing else does, and no text whatever breaks the search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.authority import lookup
from gatekey.authority.authority import Authority
from gatekey.errors import GatekeyError
from gatekey.model.record import CertificateRecord
from kit import administrator
from kit.administrator import Administrator

PEOPLE = {"ann": "ann@example.com", "Bob Miller": "bob.miller@example.com", "c@example.com": "", "deadbeefdeadbeef": ""}


@pytest.fixture(scope="module")
def house(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Authority, dict[str, CertificateRecord]]]:
    """An authority with a certificate for each of these, and one server."""
    folder = tmp_path_factory.mktemp("refs")
    admin = Administrator(administrator.copied(template, folder / "home"), folder)
    for login, email in PEOPLE.items():
        admin("issue", "client", login, "--out", folder, *(["--email", email] if email else []))
    admin("issue", "server", "app.example", "--out", folder)
    with admin.open() as authority:
        records = authority.reads.certificates("c.state = 'released'")
        yield authority, {record.holder: record for record in records if record.kind != "authority"}


def spelled(draw: st.DrawFn, digits: str) -> str:
    """Hex as people copy it: any case, with or without colons or 0x."""
    text = draw(st.sampled_from([digits, digits.lower(), digits.swapcase()]))
    how = draw(st.integers(0, 2))
    if how == 1:
        return ":".join(text[i : i + 2] for i in range(0, len(text), 2))
    return f"0x{text}" if how == 2 and len(digits) == 32 else text


@st.composite
def refs(draw: st.DrawFn) -> tuple[str, str]:
    """A holder, and how his certificate is asked for: a recipe that the test fills in."""
    login = draw(st.sampled_from([*PEOPLE, "app.example"]))
    return login, draw(st.sampled_from(["serial", "fingerprint", "login", "email"]))


@given(which=refs(), data=st.data())
def test_every_spelling_finds_it(house: tuple[Authority, dict[str, CertificateRecord]], which: tuple[str, str], data: st.DataObject) -> None:
    authority, records = house
    login, how = which
    record = records[login]
    text = {"serial": record.serial, "fingerprint": record.fingerprint, "login": login, "email": PEOPLE.get(login) or login}[how]
    if how in ("serial", "fingerprint"):
        text = data.draw(st.composite(spelled)(text))
    else:
        text = data.draw(st.sampled_from([text, text.upper(), text.lower(), text.title()]))
    assert [found.id for found in lookup.candidates(authority, text)] == [record.id], text
    assert lookup.one(authority, text).id == record.id


@given(st.data())
def test_a_part_of_a_serial_finds_nothing(house: tuple[Authority, dict[str, CertificateRecord]], data: st.DataObject) -> None:
    authority, records = house
    digits = data.draw(st.sampled_from([text for record in records.values() for text in (record.serial, record.fingerprint)]))
    start, end = sorted(data.draw(st.lists(st.integers(0, len(digits)), min_size=2, max_size=2)))
    if 0 < end - start < len(digits):
        assert lookup.candidates(authority, digits[start:end]) == []


HEX = st.text(alphabet="0123456789abcdefABCDEF:x", max_size=70)


@given(st.text(max_size=80) | HEX | st.from_regex(r"\.{0,2}/[a-z./\x00]{0,20}", fullmatch=True))
def test_any_text_finds_ours_or_nothing_or_ends_in_words(house: tuple[Authority, dict[str, CertificateRecord]], text: str) -> None:
    authority, records = house
    try:
        found = lookup.candidates(authority, text)
    except GatekeyError as refused:
        assert refused.message
        return
    assert {record.id for record in found} <= {record.id for record in records.values()}
