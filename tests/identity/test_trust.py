from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Misconfigured
from gatekey.identity.trust import Peer, Secret, Speakers, Trust

WORD = "correct-horse-battery-staple"


def allows(speakers: Speakers, peer: Peer, secret: str | None = None, forwarded: str | None = None) -> bool:
    return Trust(speakers).allows(peer, secret, forwarded)


def test_a_unix_socket_is_only_believed_where_it_is_named() -> None:
    assert allows("unix", Peer(unix=True))
    assert not allows("unix", Peer("127.0.0.1"))
    assert not allows("unix", Peer())
    assert not allows("127.0.0.1", Peer(unix=True))


@pytest.mark.parametrize(
    ("place", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "::1", False),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.1.2.0/24", "10.1.2.255", True),
        ("10.1.2.0/24", "10.1.3.0", False),
        ("10.1.2.0/24", "", False),
        ("10.1.2.0/24", "unix:", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "127.0.0.1, 192.0.2.1", False),
        ("127.0.0.1", "0177.0.0.1", False),
        ("127.0.0.1", "2130706433", False),
    ],
)
def test_addresses_and_networks(place: str, host: str, expected: bool) -> None:
    trust = Trust(place)
    assert trust.allows(Peer(host), None, None) is expected
    assert trust.allows(Peer(host), None, None) is expected  # remembered


def test_several_places_are_alternatives() -> None:
    trust = Trust(["unix", "10.0.0.0/8", "::1"])
    assert [trust.allows(peer, None, None) for peer in (Peer(unix=True), Peer("10.9.9.9"), Peer("::1"), Peer("11.0.0.1"))] == [True, True, True, False]


def test_a_secret_alone_is_believed_from_anywhere_and_is_needed_beside_a_place() -> None:
    alone, both = Trust(Secret(WORD)), Trust(["unix", Secret(WORD)])
    assert alone.allows(Peer("203.0.113.9"), WORD, None)
    assert both.allows(Peer(unix=True), WORD, None)
    assert not both.allows(Peer("203.0.113.9"), WORD, None)
    for wrong in (None, "", WORD[:-1], f"{WORD}x", WORD.upper(), f"{WORD},{WORD}", "ä" * 28):
        assert not alone.allows(Peer("203.0.113.9"), wrong, None)
        assert not both.allows(Peer(unix=True), wrong, None)


@pytest.mark.parametrize(
    "forwarded",
    ["127.0.0.1", "198.51.100.1, 127.0.0.1", "127.0.0.1:4444", "[127.0.0.1]:80", "for=127.0.0.1;proto=https", 'for="127.0.0.1:80"', " 127.0.0.1 ,x"],
)
def test_an_address_that_may_come_from_a_header_is_no_proof(forwarded: str) -> None:
    # uvicorn with forwarded_allow_ips="*" puts what a stranger wrote into scope["client"].
    assert not allows("127.0.0.1", Peer("127.0.0.1"), None, forwarded)
    assert allows("127.0.0.1", Peer("127.0.0.1", proven=True), None, forwarded)
    assert allows("127.0.0.1", Peer("127.0.0.1"), None, "198.51.100.1")
    assert allows("127.0.0.1", Peer("127.0.0.1"), None, "127.0.0.11")


def test_an_ipv6_address_in_brackets_is_seen() -> None:
    for forwarded in ("::1", "[::1]:99", 'for="[::1]:99"'):
        assert not allows("::1", Peer("::1"), None, forwarded)


@pytest.mark.parametrize("place", ["", "*", "0.0.0.0/0", "::/0", "localhost", "app.test", "10.0.0.1/24", "unix:/run/app.sock", "127.0.0.1 ", "UNIX"])
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Trust(place)
    assert refused.value.code == "identity-trust"
    assert refused.value.hint


def test_nothing_named_is_nobody() -> None:
    assert not Trust(())
    assert not Trust(()).allows(Peer("127.0.0.1"), WORD, None)
    assert not Trust(()).allows(Peer(unix=True), WORD, None)


def test_a_secret_is_long_and_stays_secret(tmp_path: Path) -> None:
    for wrong in ("", "short", "x" * 19, f"{WORD} with spaces", "ü" * 30, f"{WORD}\n"):
        with pytest.raises(Misconfigured) as refused:
            Secret(wrong)
        assert not wrong or wrong not in str(refused.value)
    assert WORD not in repr(Secret(WORD))
    with pytest.raises(Misconfigured):
        Trust([Secret(WORD), Secret(WORD)])


def test_a_secret_comes_from_a_file_that_is_not_everybodys(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{WORD}\n")
    file.chmod(0o640)
    assert Secret.file(file).matches(WORD)
    file.chmod(0o644)
    with pytest.raises(Misconfigured, match="open to everybody"):
        Secret.file(file)
    with pytest.raises(Misconfigured, match="cannot be read"):
        Secret.file(tmp_path / "nothing")
    file.write_bytes(b"\xff" * 40)
    file.chmod(0o600)
    with pytest.raises(Misconfigured, match="cannot be read"):
        Secret.file(file)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_peer_and_no_header_crashes(host: str, forwarded: str) -> None:
    trust = Trust(["10.0.0.0/8"])
    assert trust.allows(Peer(host), forwarded, forwarded) in (True, False)
    assert trust.allows(Peer(host), None, None) is False or host.startswith(("10.", "::ffff:"))


def test_what_is_remembered_about_peers_is_bounded() -> None:
    trust = Trust("10.0.0.0/8")
    for i in range(3000):
        trust.allows(Peer(f"192.0.2.{i}"), None, None)
    assert len(trust._decided) <= 1024
