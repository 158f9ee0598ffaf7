"""The per-request decision: a web server asks whether a certificate may enter a site, and learns who it is. Answered from memory, closed when in doubt.

    GET /decision    X-Gatekey-Serial: 5A1B...   X-Gatekey-Issuer: CN=Kitty CA people   X-Gatekey-Site: app.example
    GET /decision    Client-Cert: :MII...:       (or X-Client-Cert: PEM, percent-encoded)

With X-Gatekey-Groups (each percent-encoded, joined with commas) the web server asks for one of these groups beside what gatekey.toml says of the site.

200 with X-Client-User and its kin for those who may enter; 403 with X-Gatekey-Why for those who may not; 401 when no certificate was shown; 503 when this
process has not compared its view with the ledger for five seconds. Only a web server that has proved itself is answered: over the Unix socket, or over
TLS with a certificate whose holder has the role `proxy`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes

from ..errors import GatekeyError, Malformed
from ..model import headers
from ..model.standing import STALE, Decision
from ..x509 import pem
from ..x509.certificate import read_certificate
from ..x509.names import rfc2253
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.standing import Standing

SERIAL, ISSUER, SITE, GROUPS, WHY = "x-gatekey-serial", "x-gatekey-issuer", "x-gatekey-site", "x-gatekey-groups", "x-gatekey-why"
#: Headers in which the certificate itself may stand, and how it is written there.
_CERTIFICATE = ("client-cert", "x-client-cert", "x-forwarded-tls-client-cert")
#: Longest certificate that is looked at, in characters of a header.
_MOST = 32 * 1024
#: Certificates whose issuer and serial are remembered, by their header's text.
_REMEMBERED = 10_000

#: Hears of everybody who was let in: issuer, serial, site. Must not block.
Seen = Callable[[str, str, str], None]


class Door:
    """Answers for one process. `is_proxy` says whether a verified certificate (DER) belongs to a holder with the role `proxy`."""

    def __init__(self, standing: Standing, is_proxy: Callable[[bytes], bool], seen: Seen) -> None:
        self._standing = standing
        self._is_proxy = is_proxy
        self._seen = seen
        self._read: dict[str, tuple[str, str]] = {}

    def answer(self, call: Call) -> Answer:
        """The decision about one request. Never raises: what cannot be read is refused with 400."""
        if not (call.listener == "proxy" or (call.listener == "private" and call.peer.certificate and self._is_proxy(call.peer.certificate))):
            return _no(403, "only a web server with the role proxy is answered here")
        try:
            who = self._named(call)
            site = _host(_once(call, SITE))
            groups = tuple(unquote(group) for group in _once(call, GROUPS).split(",") if group)
        except GatekeyError as wrong:
            return _no(400, wrong.message)
        if who is None:
            return _no(401, "no certificate was shown")
        decision = self._standing.decide(who[0], who[1], site, groups)
        if decision.allowed:
            known = decision.who
            assert known is not None  # noqa: S101  nobody unknown is allowed
            self._seen(known.issuer, known.serial, site)
            return _yes(decision, who[0])
        return _no(503 if decision.why == STALE else 403, decision.why)

    def _named(self, call: Call) -> tuple[str, str] | None:
        """Issuer (RFC 2253 form) and serial that are asked about; None when the web server saw no certificate. Raises Malformed."""
        serial, issuer = _once(call, SERIAL), _once(call, ISSUER)
        if serial or issuer:
            if not (serial and issuer):
                raise Malformed("bad-decision", f"{SERIAL} and {ISSUER} belong together")
            if len(serial) > 64 or not all(char in "0123456789abcdefABCDEF" for char in serial):
                raise Malformed("bad-decision", f"{SERIAL} is not a serial in hex")
            return issuer, serial
        for name in _CERTIFICATE:
            if text := _once(call, name):
                return self._of(name, text)
        return None

    def _of(self, name: str, text: str) -> tuple[str, str]:
        if text not in self._read:
            certificate = read_certificate(_der(name, text))
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            self._read[text] = (rfc2253(certificate.issuer), certificate.serial)
        return self._read[text]


def _once(call: Call, name: str) -> str:
    """A header that may stand there once. Raises Malformed when it is doubled: which of the two is meant, nobody can know."""
    values = [value for key, value in call.headers if key == name]
    if len(values) > 1:
        raise Malformed("bad-decision", f"{name} stands there {len(values)} times")
    return values[0].strip() if values else ""


def _host(site: str) -> str:
    """The host of a Host header: lower case, without port and final dot."""
    bare, colon, port = site.lower().rpartition(":")
    return (bare if colon and port.isdigit() else site.lower()).rstrip(".")


def _der(name: str, text: str) -> bytes:
    if len(text) > _MOST:
        raise Malformed("bad-decision", f"{name} is longer than a certificate can be")
    try:
        if text.startswith(":") and text.endswith(":"):  # RFC 9440 2.2
            return base64.b64decode(text[1:-1], validate=True)
        plain = unquote_to_bytes(text)
        if b"-----BEGIN" in plain:
            return pem.decode(plain)[0][1]
        return base64.b64decode(plain.split(b",", 1)[0], validate=True)
    except (binascii.Error, ValueError, IndexError):
        raise Malformed("bad-decision", f"{name} holds no certificate that can be read") from None


def _yes(decision: Decision, issuer: str) -> Answer:
    who = decision.who
    assert who is not None  # noqa: S101  nobody unknown is allowed
    said = {
        headers.USER: who.login,
        headers.NAME: headers.encode(who.name),
        headers.EMAIL: headers.encode(who.email),
        headers.GROUPS: ",".join(headers.encode(group) for group in who.groups),
        headers.DEVICE: headers.encode(who.device),
        headers.SERIAL: who.serial,
        headers.ISSUER: headers.encode(issuer) if not issuer.isascii() else issuer,
        headers.VERIFY: "SUCCESS",
    }
    return Answer(200, (("cache-control", "no-store"), *((name.lower(), value) for name, value in said.items())))


def _no(status: int, why: str) -> Answer:
    why = why.encode("ascii", "replace").decode()  # a header, and strangers have a say in some sentences
    return Answer(status, (("cache-control", "no-store"), (WHY, why), ("content-type", "text/plain; charset=utf-8")), f"{why}\n".encode())
