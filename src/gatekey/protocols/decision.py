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
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from ..errors import GatekeyError, Malformed
from ..model import headers
from ..model.standing import STALE, Known
from ..x509 import pem
from ..x509.certificate import read_certificate
from ..x509.names import rfc2253
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.standing import Standing

SERIAL, ISSUER, SITE, GROUPS, WHY = "x-gatekey-serial", "x-gatekey-issuer", "x-gatekey-site", "x-gatekey-groups", "x-gatekey-why"
#: Headers in which the certificate itself may stand, and how it is written there.
_CERTIFICATE = ("client-cert", "x-client-cert", "x-forwarded-tls-client-cert")
_READ = (SERIAL, ISSUER, SITE, GROUPS, *_CERTIFICATE)
#: Longest certificate that is looked at, in characters of a header.
_MOST = 32 * 1024
#: Certificates, questions and answers that are remembered, each by its text.
_REMEMBERED = 5_000

#: Hears of everybody who was let in: issuer, serial, site. Must not block.
Seen = Callable[[str, str, str], None]


class Question(NamedTuple):
    """What a web server wants to know."""

    issuer: str
    serial: str
    site: str
    groups: tuple[str, ...]


class Door:
    """Answers for one process. `is_proxy` says whether a verified certificate (DER) belongs to a holder with the role `proxy`."""

    def __init__(self, standing: Standing, is_proxy: Callable[[bytes], bool], seen: Seen) -> None:
        self._standing = standing
        self._is_proxy = is_proxy
        self._seen = seen
        self._asked: dict[tuple[str, ...], Question] = {}
        self._yes: dict[tuple[str, str], tuple[Known, Answer]] = {}

    def answer(self, call: Call) -> Answer:
        """The decision about one request. Never raises: what cannot be read is refused with 400."""
        if not (call.listener == "proxy" or (call.listener == "private" and call.peer.certificate and self._is_proxy(call.peer.certificate))):
            return _no(403, "only a web server with the role proxy is answered here")
        try:
            question = self._question(call)
        except GatekeyError as wrong:
            return _no(400, wrong.message)
        if question is None:
            return _no(401, "no certificate was shown")
        decision = self._standing.decide(*question)
        known = decision.who
        if decision.allowed and known is not None:  # nobody unknown is allowed
            self._seen(known.issuer, known.serial, question.site)
            kept = self._yes.get((known.issuer, known.serial))
            if kept is None or kept[0] is not known:  # the same object as long as nothing has happened to it
                kept = (known, _yes(known, question.issuer))
                self._yes = {} if len(self._yes) >= _REMEMBERED else self._yes
                self._yes[known.issuer, known.serial] = kept
            return kept[1]
        return _no(503 if decision.why == STALE else 403, decision.why)

    def _question(self, call: Call) -> Question | None:
        """What is asked; None when the web server saw no certificate. Raises Malformed.

        A header that stands there twice is refused: which of the two is meant, nobody can know.
        """
        said: dict[str, str] = {}
        for name, value in call.headers:
            if name in _READ:
                if name in said:
                    raise Malformed("bad-decision", f"{name} stands there {sum(one == name for one, _ in call.headers)} times")
                said[name] = value
        key = tuple(said.get(name, "") for name in _READ)
        question = self._asked.get(key)
        if question is None:
            serial, issuer, site, groups, *certificates = (value.strip() for value in key)
            who = _named(serial, issuer, certificates)
            if who is None:
                return None
            question = Question(*who, _host(site), tuple(unquote(group) for group in groups.split(",") if group))
            self._asked = {} if len(self._asked) >= _REMEMBERED else self._asked
            self._asked[key] = question
        return question


def _named(serial: str, issuer: str, certificates: list[str]) -> tuple[str, str] | None:
    """Issuer (RFC 2253 form) and serial that are asked about. Raises Malformed."""
    if serial or issuer:
        if not (serial and issuer):
            raise Malformed("bad-decision", f"{SERIAL} and {ISSUER} belong together")
        if len(serial) > 64 or not all(char in "0123456789abcdefABCDEF" for char in serial):
            raise Malformed("bad-decision", f"{SERIAL} is not a serial in hex")
        return issuer, serial
    for name, text in zip(_CERTIFICATE, certificates, strict=True):
        if text:
            return _of(name, text)
    return None


def _of(name: str, text: str) -> tuple[str, str]:
    certificate = read_certificate(_der(name, text))
    return rfc2253(certificate.issuer), certificate.serial


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


def _yes(who: Known, issuer: str) -> Answer:
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
