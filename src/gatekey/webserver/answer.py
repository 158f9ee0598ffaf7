"""What a door answered: an HTTP/1.1 response read within bounds (RFC 9112), or the way in which there was none, and its name among people."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..errors import Malformed
from .ear import Heard

#: Budgets for one answer. What is longer is cut: a check needs to recognise a page, not to have it.
MOST_HEAD = 32 * 1024
MOST_BODY = 64 * 1024

#: Kinds of `Answer`. Only the first carries a status.
ANSWERED, ALERT, CLOSED, TIMEOUT, NOT_LISTENING, UNREACHABLE, NOT_TLS, UNREADABLE = (
    "answered", "alert", "closed", "timeout", "not-listening", "unreachable", "not-tls", "unreadable",
)  # fmt: skip

#: TLS alerts by number (RFC 8446 6, RFC 5246 7.2), in the words of the standard.
ALERTS = {
    0: "close notify", 10: "unexpected message", 20: "bad record mac", 22: "record overflow", 40: "handshake failure", 42: "bad certificate",
    43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired", 46: "certificate unknown", 47: "illegal parameter",
    48: "unknown ca", 49: "access denied", 50: "decode error", 51: "decrypt error", 70: "protocol version", 71: "insufficient security",
    80: "internal error", 86: "inappropriate fallback", 90: "user canceled", 109: "missing extension", 110: "unsupported extension",
    112: "unrecognized name", 113: "bad certificate status response", 115: "unknown psk identity", 116: "certificate required",
    120: "no application protocol",
}  # fmt: skip


class Answer(NamedTuple):
    """One answer. `kind` is one of the constants above; `status` 0 and empty fields where there was no HTTP.

    `headers`: names in lower case, in order. `body`: at most MOST_BODY bytes, without chunk framing. `alert`: number of the TLS alert, or -1.
    `tls`: "TLSv1.3", ... or "" without TLS. `resumed`: the TLS session was an old one. `words`: why there was no answer.
    """

    kind: str
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    alert: int = -1
    tls: str = ""
    resumed: bool = False
    words: str = ""
    heard: Heard | None = None

    def header(self, name: str) -> str:
        """The first value of a header, or "". `name` in lower case."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def face(self) -> str:
        """How a person would name it: `HTTP 403 Forbidden`, `TLS alert 116 certificate required`, `closed without an answer`."""
        again = ", resumed session" if self.resumed else ""
        if self.kind == ANSWERED:
            return f"HTTP {self.status} {self.reason}".rstrip() + again
        if self.kind == ALERT:
            return f"TLS alert {self.alert} {ALERTS.get(self.alert, '')}".rstrip() + again
        return (self.words or self.kind) + again


class Response(NamedTuple):
    """An HTTP response. `reusable`: the connection may carry another request (RFC 9112 9.3)."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    reusable: bool


def read_response(receive: Callable[[int], bytes], method: str) -> Response:
    """The final response to a `method` request; `receive(n)` gives up to n bytes, and nothing at the end.

    Raises Malformed("no-answer") when not one byte comes, Malformed("bad-answer") for what is not HTTP/1.
    A body that is cut or too long is kept as far as it came: it is evidence either way.
    """
    stream = _Stream(receive)
    while True:
        status, reason, headers = _head(stream)
        if status == 101 or status >= 200:
            break
    if method == "HEAD" or status in (101, 204, 304):
        return Response(status, reason, headers, b"", reusable=_stays_open(headers))
    named = dict(reversed(headers))
    if "chunked" in named.get("transfer-encoding", "").lower():
        body, whole = _chunked(stream)
    elif (length := named.get("content-length", "")).isdecimal() and length.isascii() and len(length) <= 12:
        body = stream.take(min(int(length), MOST_BODY))
        whole = len(body) == int(length)
    else:
        body, whole = stream.take(MOST_BODY), False
    return Response(status, reason, headers, body, reusable=whole and _stays_open(headers))


def _stays_open(headers: tuple[tuple[str, str], ...]) -> bool:
    return not any(key == "connection" and "close" in value.lower() for key, value in headers)


def _head(stream: _Stream) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    lines = stream.until_blank().decode("latin-1").split("\n")
    start = lines[0].rstrip("\r").split(" ", 2)
    if not start[0].startswith("HTTP/1.") or len(start) < 2 or len(start[1]) != 3 or not (start[1].isascii() and start[1].isdecimal()):
        raise Malformed("bad-answer", f"the answer does not begin like HTTP/1: {lines[0][:60]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.rstrip("\r").partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return int(start[1]), start[2].strip() if len(start) > 2 else "", tuple(headers)


def _chunked(stream: _Stream) -> tuple[bytes, bool]:
    """The chunks' content (RFC 9112 7.1), and whether the last chunk was seen."""
    body = b""
    while True:
        size_text = stream.line(1024).split(b";")[0].strip()
        if not size_text or len(size_text) > 8 or size_text.strip(b"0123456789abcdefABCDEF"):
            return body, False
        size = int(size_text, 16)
        if size == 0:
            return body, stream.line(1024) == b""
        piece = stream.take(min(size, MOST_BODY - len(body)))
        body += piece
        if len(piece) < size or len(body) >= MOST_BODY:
            return body, False
        stream.line(1024)


class _Stream:
    """Bounded reading from a socket-like function."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self.receive = receive
        self.buffer = b""
        self.read = 0

    def _more(self) -> bool:
        piece = self.receive(16384)
        self.buffer += piece
        self.read += len(piece)
        return bool(piece)

    def until_blank(self) -> bytes:
        """A head without its blank line."""
        while True:
            ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := self.buffer.find(mark)) >= 0]
            if ends:
                at, size = min(ends)
                head, self.buffer = self.buffer[:at], self.buffer[at + size :]
                return head
            if len(self.buffer) > MOST_HEAD:
                raise Malformed("bad-answer", f"the head of the answer is longer than {MOST_HEAD} bytes")
            if not self._more():
                if not self.read:
                    raise Malformed("no-answer", "the connection ended without an answer")
                raise Malformed("bad-answer", f"the answer ends after {self.read} bytes, within its head")

    def line(self, most: int) -> bytes:
        """The next line without its end, cut at `most` bytes or at the end of the connection."""
        while b"\n" not in self.buffer and len(self.buffer) <= most and self._more():
            pass
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.rstrip(b"\r")[:most]

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count and self._more():
            pass
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken
