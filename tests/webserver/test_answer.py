"""HTTP answers: read within bounds, whatever a server sends, and named so that a person knows what happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.webserver.answer import ALERT, ANSWERED, CLOSED, MOST_BODY, MOST_HEAD, Answer, read_response


def stream(*pieces: bytes) -> Callable[[int], bytes]:
    """A socket that gives these pieces, cut to what is asked for, and then ends."""
    left = list(pieces)

    def receive(count: int) -> bytes:
        while left and not left[0]:
            left.pop(0)
        if not left:
            return b""
        piece, left[0] = left[0][:count], left[0][count:]
        return piece

    return receive


@pytest.mark.parametrize(
    ("sent", "status", "body", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", 200, b"hi", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", 200, b"cut", False),
        (b"HTTP/1.0 403 No\n\nuntil the end", 403, b"until the end", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 200, b"abc", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\nabc", 200, b"", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x04tick", 101, b"", True),
        (b"HTTP/1.1 444\r\nContent-Length: 0\r\n\r\n", 444, b"", True),
    ],
)
def test_answers(sent: bytes, status: int, body: bytes, reusable: bool) -> None:
    for pieces in ((sent,), tuple(sent[i : i + 1] for i in range(len(sent)))):
        response = read_response(stream(*pieces), "GET")
        assert (response.status, response.body, response.reusable) == (status, body, reusable)


def test_head_has_no_body() -> None:
    assert read_response(stream(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD").body == b""


def test_headers_are_lower_case_and_in_order() -> None:
    response = read_response(stream(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie:b=2\r\nContent-Length: 0\r\n\r\n"), "GET")
    assert response.headers == (("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "0"))
    assert Answer(ANSWERED, 200, headers=response.headers).header("set-cookie") == "a=1"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "no-answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n", "bad-answer"),
        (b"HTTP/2 200\r\n\r\n", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\nHalf: a head", "bad-answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, "bad-answer"),
    ],
)
def test_what_is_no_answer(sent: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_response(stream(sent), "GET")
    assert caught.value.code == code


def test_endless_answers_are_cut() -> None:
    taken = 0

    def endless(count: int) -> bytes:
        nonlocal taken
        piece = (b"HTTP/1.1 200 OK\r\n\r\n" if not taken else b"") + b"x" * count
        taken += len(piece)
        return piece[:count] if taken > count else piece

    assert len(read_response(endless, "GET").body) == MOST_BODY
    assert taken < MOST_BODY + MOST_HEAD + 32_768


@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from(["GET", "HEAD", "OPTIONS"]))
def test_any_bytes_are_an_answer_or_refused(pieces: list[bytes], method: str) -> None:
    try:
        response = read_response(stream(*pieces), method)
    except Malformed as error:
        assert error.code in {"no-answer", "bad-answer"}
    else:
        assert 100 <= response.status <= 999
        assert len(response.body) <= MOST_BODY


@given(st.binary(max_size=400))
def test_any_body_after_a_good_head(body: bytes) -> None:
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"):
        assert len(read_response(stream(head + body), "GET").body) <= MOST_BODY


def test_faces() -> None:
    assert Answer(ANSWERED, 403, "Forbidden").face == "HTTP 403 Forbidden"
    assert Answer(ANSWERED, 200, "OK", resumed=True).face == "HTTP 200 OK, resumed session"
    assert Answer(ALERT, alert=116).face == "TLS alert 116 certificate required"
    assert Answer(ALERT, alert=250).face == "TLS alert 250"
    assert Answer(CLOSED, words="closed without an answer").face == "closed without an answer"
