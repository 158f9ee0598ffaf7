"""Listens to the TLS messages of one connection: was a certificate asked for, whose names were given, which chain was shown, is 0-RTT on, which alert fell.

Python shows these only through the private `SSLContext._msg_callback`. Where that is missing or gives something else, `Heard.works` stays False
and whoever needs the ear says "cannot tell".
"""

from __future__ import annotations

import ssl

_HANDSHAKE, _ALERT = 22, 21
_HELLO_REQUEST, _TICKET, _CERTIFICATE, _CERTIFICATE_REQUEST, _FINISHED = 0, 4, 11, 13, 20
_EXT_EARLY_DATA, _EXT_AUTHORITIES = 42, 47
_TLS13 = 0x0304


class Heard:
    """What was heard on one connection.

    `asked`: a certificate was asked for in the handshake; `asked_later`: after it (renegotiation, post-handshake authentication).
    `authorities`: the DER names in the request, None when there was no request. `chain`: the server's certificates in DER, leaf first.
    `tickets`: sessions handed out over TLS 1.3; `early_data`: one of them allows 0-RTT. `alert`: the last fatal alert, or -1.
    """

    def __init__(self) -> None:
        self.works = False
        self.asked = False
        self.asked_later = False
        self.authorities: tuple[bytes, ...] | None = None
        self.chain: tuple[bytes, ...] = ()
        self.tickets = 0
        self.early_data = False
        self.alert = -1
        self.done = False

    def listen(self, context: ssl.SSLContext) -> None:
        """Attaches to `context` instead of whoever listened there before; it must serve one connection at a time."""
        try:
            context._msg_callback = self._message  # type: ignore[attr-defined]  # noqa: SLF001  private, and guarded: see the module
        except (AttributeError, TypeError):
            return

    def _message(self, _conn: object, direction: str, version: int, content_type: int, msg_type: int, data: bytes) -> None:  # noqa: ARG002
        # An exception in here would come out of the next read as if the network had failed.
        try:
            if direction == "read" and int(content_type) == _HANDSHAKE:
                self.works = True
                self._handshake(int(version), bytes(data))
            elif direction == "read" and int(content_type) == _ALERT and len(data) == 2 and data[0] == 2:
                self.alert = data[1]
            elif direction == "write" and int(content_type) == _HANDSHAKE and data[:1] == bytes((_FINISHED,)):
                self.done = True
        except (ValueError, TypeError, IndexError):
            return

    def _handshake(self, version: int, data: bytes) -> None:
        kind, body = data[0], data[4:]
        if kind == _HELLO_REQUEST:
            self.asked_later = True
        elif kind == _CERTIFICATE_REQUEST:
            self.asked_later |= self.done
            self.asked |= not self.done
            self.authorities = _authorities(body, tls13=version >= _TLS13)
        elif kind == _CERTIFICATE and not self.chain:
            self.chain = _chain(body, tls13=version >= _TLS13)
        elif kind == _TICKET and version >= _TLS13:
            self.tickets += 1
            self.early_data |= _allows_early_data(body)


def _authorities(body: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    """The distinguished names of a CertificateRequest (RFC 8446 4.3.2 and 4.2.4, RFC 5246 7.4.4)."""
    reader = _Bytes(body)
    if tls13:
        reader.vector(1)
        return next((_names(value) for kind, value in _extensions(reader) if kind == _EXT_AUTHORITIES), ())
    reader.vector(1)
    reader.vector(2)
    return _names(reader.rest())


def _names(data: bytes) -> tuple[bytes, ...]:
    inner = _Bytes(_Bytes(data).vector(2))
    found = []
    while inner.left:
        found.append(inner.vector(2))
    return tuple(found)


def _chain(body: bytes, *, tls13: bool) -> tuple[bytes, ...]:
    """The certificates of a Certificate message (RFC 8446 4.4.2, RFC 5246 7.4.2)."""
    reader = _Bytes(body)
    if tls13:
        reader.vector(1)
    inner = _Bytes(reader.vector(3))
    found = []
    while inner.left:
        found.append(inner.vector(3))
        if tls13:
            inner.vector(2)
    return tuple(found)


def _allows_early_data(body: bytes) -> bool:
    """Whether a NewSessionTicket carries early_data with room for at least one byte (RFC 8446 4.6.1)."""
    reader = _Bytes(body)
    reader.take(8)
    reader.vector(1)
    reader.vector(2)
    return any(kind == _EXT_EARLY_DATA and any(value) for kind, value in _extensions(reader))


def _extensions(reader: _Bytes) -> list[tuple[int, bytes]]:
    inner = _Bytes(reader.vector(2))
    found = []
    while inner.left:
        kind = int.from_bytes(inner.take(2), "big")
        found.append((kind, inner.vector(2)))
    return found


class _Bytes:
    """Reads TLS vectors; a cut one raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("a TLS message is cut")
        self.at += count
        return self.data[self.at - count : self.at]

    def vector(self, width: int) -> bytes:
        """A vector whose length stands in the first `width` bytes."""
        return self.take(int.from_bytes(self.take(width), "big"))

    def rest(self) -> bytes:
        return self.take(self.left)
