"""What is heard of a handshake: messages taken apart by hand, anything else passed over, and a real handshake on both versions."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.webserver.ear import Heard

TLS12, TLS13 = 0x0303, 0x0304
HANDSHAKE, ALERT = 22, 21


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def heard(kind: int, version: int, body: bytes) -> Heard:
    ear = Heard()
    ear._message(None, "read", version, HANDSHAKE, kind, bytes((kind,)) + vector(3, body))
    return ear


def test_certificate_request_of_tls13() -> None:
    names = vector(2, b"0\x00") + vector(2, b"0\x03abc")
    body = vector(1, b"ctx") + vector(2, b"\x00\x0d" + vector(2, b"sigs") + b"\x00\x2f" + vector(2, vector(2, names)))
    ear = heard(13, TLS13, body)
    assert ear.works
    assert ear.asked
    assert not ear.asked_later
    assert ear.authorities == (b"0\x00", b"0\x03abc")
    assert heard(13, TLS13, vector(1, b"") + vector(2, b"")).authorities == ()


def test_certificate_request_of_tls12() -> None:
    body = vector(1, b"\x40") + vector(2, b"\x04\x03") + vector(2, vector(2, b"0\x00"))
    assert heard(13, TLS12, body).authorities == (b"0\x00",)


def test_certificates() -> None:
    assert heard(11, TLS13, vector(1, b"") + vector(3, vector(3, b"one") + vector(2, b"ext") + vector(3, b"two") + vector(2, b""))).chain == (b"one", b"two")
    assert heard(11, TLS12, vector(3, vector(3, b"one") + vector(3, b"two"))).chain == (b"one", b"two")


@pytest.mark.parametrize(
    ("extension", "allowed"),
    [(b"", False), (b"\x00\x2a" + vector(2, b"\x00\x00\x40\x00"), True), (b"\x00\x2a" + vector(2, bytes(4)), False)],
)
def test_tickets(extension: bytes, allowed: bool) -> None:
    ear = heard(4, TLS13, bytes(8) + vector(1, b"nonce") + vector(2, b"ticket") + vector(2, extension))
    assert (ear.tickets, ear.early_data) == (1, allowed)
    assert heard(4, TLS12, bytes(8)).tickets == 0


def test_a_request_after_the_handshake_is_told_apart() -> None:
    ear = Heard()
    ear._message(None, "write", TLS13, HANDSHAKE, 20, b"\x14\x00\x00\x00")
    ear._message(None, "read", TLS13, HANDSHAKE, 13, b"\x0d" + vector(3, vector(1, b"") + vector(2, b"")))
    assert (ear.asked, ear.asked_later) == (False, True)


def test_only_fatal_alerts_count() -> None:
    ear = Heard()
    ear._message(None, "read", TLS12, ALERT, 112, b"\x01\x70")
    assert ear.alert == -1
    ear._message(None, "read", TLS12, ALERT, 40, b"\x02\x28")
    assert ear.alert == 40


@given(st.sampled_from(["read", "write"]), st.sampled_from([TLS12, TLS13, 0]), st.integers(0, 300), st.integers(0, 300), st.binary(max_size=120))
def test_anything_may_come(direction: str, version: int, content_type: int, msg_type: int, data: bytes) -> None:
    Heard()._message(None, direction, version, content_type, msg_type, data)


@given(st.sampled_from([0, 4, 11, 13, 20]), st.sampled_from([TLS12, TLS13]), st.binary(max_size=120))
def test_any_body_of_a_known_message(kind: int, version: int, body: bytes) -> None:
    assert heard(kind, version, body).works


def test_a_python_without_the_private_callback_is_deaf_and_says_so() -> None:
    class Context:
        __slots__ = ()

    ear = Heard()
    ear.listen(Context())  # type: ignore[arg-type]
    assert not ear.works


def test_this_python_has_it() -> None:
    ear, context = Heard(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ear.listen(context)
    assert context._msg_callback == ear._message  # type: ignore[attr-defined]
