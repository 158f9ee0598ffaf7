"""A ClientHello of the old TLS versions, written by hand: the local OpenSSL may no longer speak them, and whether a server does must not depend on that."""

from __future__ import annotations

import contextlib
import socket

from .answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, TIMEOUT, UNREADABLE, Answer
from .knock import Budget

#: Versions that RFC 8996 forbids, as they stand in a ClientHello.
OLD = {"TLSv1.0": 0x0301, "TLSv1.1": 0x0302}

_SUITES = bytes.fromhex("c009c00ac013c0140033003900 2f0035000a00ff".replace(" ", ""))
#: supported_groups: x25519, P-256, P-384; ec_point_formats: uncompressed.
_GROUPS = bytes.fromhex("000a00080006001d00170018 000b00020100".replace(" ", ""))


def client_hello(version: int, sni: str, random: bytes) -> bytes:
    """A ClientHello whose highest version is `version`, in one record (RFC 4346 7.4.1.2). `random`: 32 bytes; `sni`: "" for none."""
    extensions = _GROUPS
    if sni:
        name = sni.encode("ascii", "replace")
        entry = b"\x00" + len(name).to_bytes(2, "big") + name
        listed = len(entry).to_bytes(2, "big") + entry
        extensions = b"\x00\x00" + len(listed).to_bytes(2, "big") + listed + extensions
    body = version.to_bytes(2, "big") + random + b"\x00" + len(_SUITES).to_bytes(2, "big") + _SUITES + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def say_hello(address: tuple[str, int], sni: str, version: int, random: bytes, budget: Budget) -> Answer:
    """What the server says to it: ANSWERED with `tls` when it agrees to an old version, otherwise the way in which it does not."""
    budget.spend()
    try:
        with socket.create_connection(address, budget.patience) as sock:
            sock.settimeout(budget.patience)
            sock.sendall(client_hello(version, sni, random))
            reply = _read(sock, 11)
    except TimeoutError:
        return Answer(TIMEOUT, words=f"no answer within {budget.patience:g} s")
    except ConnectionRefusedError:
        return Answer(NOT_LISTENING, words="nothing listens there")
    except OSError:
        return Answer(CLOSED, words="closed without an answer")
    return read_reply(reply)


def read_reply(reply: bytes) -> Answer:
    """The first bytes of the server's answer: an alert, a ServerHello with its version, or something else."""
    if len(reply) >= 7 and reply[0] == 21:
        return Answer(ALERT, alert=reply[6])
    if len(reply) >= 11 and reply[0] == 22 and reply[5] == 2:
        agreed = int.from_bytes(reply[9:11], "big")
        name = next((name for name, number in OLD.items() if number == agreed), f"version 0x{agreed:04X}")
        return Answer(ANSWERED, tls=name, words=f"agrees to {name}")
    if not reply:
        return Answer(CLOSED, words="closed without an answer")
    return Answer(UNREADABLE, words=f"an answer that is not TLS: {reply[:11].hex()}")


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < count and (piece := sock.recv(count - len(data))):
            data += piece
            if len(data) >= 7 and data[0] == 21:
                break
    return data
