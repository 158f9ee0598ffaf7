from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed, Misconfigured
from gatekey.identity.bundle import Denied, Issuers, People, Watched, denied_key, read_denied, read_issuers, read_people
from gatekey.model import bundle as model
from kit.house import FAR, ISSUER, House
from kit.servers import wait_until

SERIALS = st.integers(1, 2**160).map(lambda number: f"{number:032X}")


def test_people_are_found_by_fingerprint_and_by_number(house: House) -> None:
    people = read_people((house.bundle / "people.json").read_bytes())
    found = people.by_fingerprint(house.ann.fingerprint)
    assert found is not None
    assert found == people.by_number(ISSUER, house.ann.serial)
    assert found == (ISSUER, house.ann.serial, house.ann.fingerprint, "ann", "Änn Öberg", "ann@example.com", ("staff", "büro 2"), "laptop", FAR)
    assert people.by_number("CN=mallory", house.ann.serial) is None
    assert people.by_number(ISSUER, "0" * 32) is None
    assert len(people) == 2


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", '{"version":2,"people":[]}', '{"people":[]}', '{"version":1}', '{"version":1,"people":{"a":1}}',
        '{"version":1,"people":[7]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_people(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_people(text.encode())
    assert refused.value.code == "identity-bundle"


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 7}, {"serial": "XYZ"}, {"login": None}, {"groups": "staff"}, {"groups": [1]}, {"not_after": "tomorrow"},
        {"not_after": "2030-01-01T00:00:00"}, {"not_after": 7}, {"fingerprint": []}, {"name": {}}, {"device": 1},
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be(house: House, change: dict[str, object]) -> None:
    text = json.loads((house.bundle / "people.json").read_text())
    text["people"][0] |= change
    with pytest.raises(Malformed):
        read_people(json.dumps(text).encode())
    del text["people"][0]["login"]
    with pytest.raises(Malformed):
        read_people(json.dumps(text).encode())


@given(st.lists(st.tuples(st.sampled_from([ISSUER, r"CN=K\C3\A4tzchen\, CA", "CN=a,O=b+OU=c"]), SERIALS), max_size=20), SERIALS)
def test_the_deny_list_is_that_of_the_bundle(numbers: list[tuple[str, str]], other: str) -> None:
    entries = [model.Denied(issuer, serial) for issuer, serial in numbers]
    denied = read_denied(model.revoked_lst(entries).encode())
    for issuer, serial in numbers:
        assert denied_key(issuer, serial) == model.haproxy_key(issuer, serial)
        assert (issuer, serial) in denied
        assert ("", serial) in denied
        assert ("CN=mallory", serial) not in denied
    if other not in {serial for _, serial in numbers}:
        assert (ISSUER, other) not in denied
        assert ("", other) not in denied


@pytest.mark.parametrize("data", [b"\xff", b"0A1B\n", b"0A1B CN=x\n", b"rubbish\n"])
def test_what_is_no_deny_list(data: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        read_denied(data)
    assert refused.value.code == "identity-bundle"


def test_an_empty_deny_list_denies_nobody() -> None:
    for data in (b"", b"# nobody\n", model.revoked_lst([]).encode()):
        denied = read_denied(data)
        assert len(denied) == 0
        assert (ISSUER, "7") not in denied
        assert ("", "7") not in denied


def test_issuers_are_those_of_the_bundle() -> None:
    names = [ISSUER, r"CN=K\C3\A4tzchen\, CA", "CN=a,O=b+OU=c"]
    issuers = read_issuers(model.issuers_lst(names).encode())
    assert all(name in issuers for name in names)
    assert "CN=mallory" not in issuers
    assert "" not in issuers
    for wrong in (b"", b"# nobody\n", b"CN=a b\n", b"\xff\n"):
        with pytest.raises(Malformed):
            read_issuers(wrong)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    for read in (read_people, read_denied, read_issuers):
        try:
            assert isinstance(read(data), (People, Denied, Issuers))
        except Malformed as refused:
            assert refused.code == "identity-bundle"


class Warned(list[str]):
    def __call__(self, sentence: str) -> None:
        self.append(sentence)


def test_a_file_is_read_again_only_when_it_was_replaced(tmp_path: Path) -> None:
    file, read, warned = tmp_path / "f", list[bytes](), Warned()
    file.write_bytes(b"one")

    def reader(data: bytes) -> bytes:
        read.append(data)
        return data

    watched = Watched(file, reader, warned)
    assert [watched.value() for _ in range(3)] == [b"one"] * 3
    fresh = tmp_path / "g"
    fresh.write_bytes(b"two")
    os.utime(fresh, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))  # same size, same time: the inode tells
    fresh.replace(file)
    assert [watched.value() for _ in range(3)] == [b"two"] * 3
    assert read == [b"one", b"two"]
    assert warned == []


def test_a_switched_folder_is_seen_through_its_links(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    (tmp_path / ".current").symlink_to("a")
    (tmp_path / "f").symlink_to(".current/f")
    watched = Watched(tmp_path / "f", bytes, Warned())
    assert watched.value() == b"a"
    (tmp_path / ".next").symlink_to("b")
    (tmp_path / ".next").replace(tmp_path / ".current")
    assert watched.value() == b"b"


def test_what_goes_away_or_breaks_keeps_its_last_state(house: House) -> None:
    file, warned = house.bundle / "revoked.lst", Warned()
    house.revoke(house.bob)
    watched = Watched(file, read_denied, warned)
    text = file.read_bytes()
    file.unlink()
    for _ in range(3):
        assert (ISSUER, house.bob.serial) in watched.value()
    assert len(warned) == 1
    assert "is gone" in warned[0]
    file.write_bytes(b"rubbish")
    for _ in range(3):
        assert (ISSUER, house.bob.serial) in watched.value()
    assert len(warned) == 2
    assert "cannot be read" in warned[1]
    file.write_bytes(text + b"# more\n")
    assert (ISSUER, house.bob.serial) in watched.value()
    file.unlink()
    watched.value()
    assert len(warned) == 3


def test_a_big_file_is_read_beside_the_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "BIG", 4)
    file, warned, go = tmp_path / "f", Warned(), threading.Event()
    file.write_bytes(b"first")

    def slow(data: bytes) -> bytes:
        assert go.wait(30)
        if data == b"broken":
            raise Malformed("identity-bundle", "broken")
        return data

    go.set()
    watched = Watched(file, slow, warned)
    go.clear()
    file.write_bytes(b"second")
    assert [watched.value() for _ in range(5)] == [b"first"] * 5
    assert [thread.name for thread in threading.enumerate()].count(f"gatekey reads {file}") == 1
    go.set()
    wait_until(lambda: watched.value() == b"second", "the second state")
    file.write_bytes(b"broken")
    wait_until(lambda: (watched.value(), len(warned)) == (b"second", 1), "the warning")
    for _ in range(3):
        watched.value()
    assert len(warned) == 1


def test_what_cannot_be_read_at_first_is_said_at_once(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing", tmp_path):
        with pytest.raises(Misconfigured) as refused:
            Watched(wrong, read_people, Warned())
        assert refused.value.code == "identity-bundle"
        assert "gatekey bundle" in refused.value.hint
    (tmp_path / "people.json").write_text("{")
    with pytest.raises(Misconfigured, match="not a list of people"):
        Watched(tmp_path / "people.json", read_people, Warned())


def test_many_threads_see_a_whole_file(tmp_path: Path) -> None:
    file, warned, seen, wrong = tmp_path / "f", Warned(), set[bytes](), list[bytes]()
    texts = [bytes([65 + i]) * 4096 for i in range(20)]
    file.write_bytes(texts[0])
    watched = Watched(file, bytes, warned)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            value = watched.value()
            seen.add(value)
            if value not in texts:
                wrong.append(value)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for text in random.Random(7).sample(texts, len(texts)):
        (tmp_path / "g").write_bytes(text)
        (tmp_path / "g").replace(file)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert warned == []
    assert watched.value() == file.read_bytes()
