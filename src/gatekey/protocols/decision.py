"""The per-request decision: a web server asks whether a certificate may enter a site, and learns who it is. Answered from memory, closed when in doubt.

    GET /decision    X-Gatekey-Serial: 5A1B...   X-Gatekey-Issuer: CN=Kitty CA people   X-Gatekey-Site: app.example
    GET /decision    Client-Cert: :MII...:       (or X-Client-Cert: PEM, percent-encoded)

A certificate is believed by its bytes: its SHA-256 must be that of the ledger, so nobody needs to have verified it before. All that is given must agree.

With X-Gatekey-Groups (each percent-encoded, joined with commas) the web server asks for one of these groups beside what gatekey.toml says of the site.

200 with X-Client-User and its kin for those who may enter; 403 with X-Gatekey-Why for those who may not; 503 when this process has not compared its view with
the ledger for five seconds. Only a web server that has proved itself is answered: over the Unix socket, or over TLS with a certificate whose holder has the
role `proxy`.

Never 401, also where no certificate was shown: it must carry a challenge (RFC 9110 15.5.2), web servers hand that on (auth_request, forwardAuth), and the
browser would ask for a password that does not exist. TLS asks for certificates, HTTP does not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from ..errors import GatekeyError, Malformed
from ..model import headers
from ..model.standing import STALE, Known, host_of
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
#: Questions and answers that are remembered, each by its text; the longest of these texts.
_REMEMBERED, _MOST_REMEMBERED = 5_000, 8 * 1024

#: Hears of everybody who was let in: issuer, serial, site. Must not block.
Seen = Callable[[str, str, str], None]
#: Hears of everybody who was not: the call, the reason in a word, and what was asked, if that could be read. Must not block.
Refusals = Callable[[Call, str, "Question | None"], None]


class Question(NamedTuple):
    """What a web server wants to know. `fingerprint`: SHA-256 of the certificate, or b"" when only its issuer and serial were given."""

    issuer: str
    serial: str
    site: str
    groups: tuple[str, ...]
    fingerprint: bytes = b""


class Door:
    """Answers for one process. `is_proxy` says whether a verified certificate (DER) belongs to a holder with the role `proxy`."""

    def __init__(
        self, standing: Standing, is_proxy: Callable[[bytes], bool], seen: Seen, counts: Counter[tuple[str, ...]] | None = None, refused: Refusals | None = None
    ) -> None:
        self._standing = standing
        self._is_proxy = is_proxy
        self._seen = seen
        self._counts: Counter[tuple[str, ...]] = Counter() if counts is None else counts
        self._refused = refused
        self._asked: dict[tuple[str | None, ...], Question] = {}
        self._yes: dict[tuple[str, str], tuple[Known, Answer]] = {}

    def answer(self, call: Call) -> Answer:
        """The decision about one request. Never raises: what cannot be read is refused with 400."""
        if not (call.listener == "proxy" or (call.listener == "private" and call.peer.certificate and self._is_proxy(call.peer.certificate))):
            return self._no(call, 403, "not-a-proxy")
        try:
            question = self._question(call)
        except GatekeyError as wrong:
            return self._no(call, 400, "malformed", words=wrong.message)
        if question is None:
            return self._no(call, 403, "no-certificate")
        decision = self._standing.decide(*question)
        known = decision.who
        if decision.allowed and known is not None:  # nobody unknown is allowed
            self._counts["gatekey_decisions", "let-in"] += 1
            self._seen(known.issuer, known.serial, question.site)
            kept = self._yes.get((known.issuer, known.serial))
            if kept is None or kept[0] is not known:  # the same object as long as nothing has happened to it
                kept = (known, _yes(known, question.issuer))
                self._yes = {} if len(self._yes) >= _REMEMBERED else self._yes
                self._yes[known.issuer, known.serial] = kept
            return kept[1]
        return self._no(call, 503 if decision.why == STALE else 403, decision.why, question)

    def _no(self, call: Call, status: int, why: str, question: Question | None = None, *, words: str = "") -> Answer:
        """A refusal: counted by its reason, and told."""
        self._counts["gatekey_decisions", why] += 1
        if self._refused is not None:
            self._refused(call, why, question)
        return _no(status, words or why)

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
        key = tuple(said.get(name) for name in _READ)
        question = self._asked.get(key)
        if question is None:
            certificates = {name: said[name].strip() for name in _CERTIFICATE if name in said}
            who = _named(said.get(SERIAL, "").strip(), said.get(ISSUER, "").strip(), certificates)
            if who is None:
                return None
            question = Question(who[0], who[1], _host(said.get(SITE)), _groups(said.get(GROUPS)), who[2])
            if sum(len(text) for text in key if text) <= _MOST_REMEMBERED:
                self._asked = {} if len(self._asked) >= _REMEMBERED else self._asked
                self._asked[key] = question
        return question


def _named(serial: str, issuer: str, certificates: dict[str, str]) -> tuple[str, str, bytes] | None:
    """Issuer (RFC 2253 form), serial and fingerprint that are asked about; None when nothing was given. Raises Malformed, also when two of them differ."""
    if bool(serial) != bool(issuer):
        raise Malformed("bad-decision", f"{SERIAL} and {ISSUER} belong together")
    if len(serial) > 64 or not all(char in "0123456789abcdefABCDEF" for char in serial):
        raise Malformed("bad-decision", f"{SERIAL} is not a serial in hex")
    full = {name: text for name, text in certificates.items() if text}
    if full and len(full) < len(certificates):  # a web server that says "nobody" in its own header has let another's through
        empty = next(name for name in certificates if name not in full)
        raise Malformed("bad-decision", f"{empty} says that there is no certificate, and {next(iter(full))} has one")
    ders = {_der(name, text) for name, text in full.items()}
    if len(ders) > 1:
        raise Malformed("bad-decision", "two certificates were given, and they differ")
    if not ders:
        return (issuer, serial, b"") if serial else None
    (der,) = ders
    certificate = read_certificate(der)
    whose = rfc2253(certificate.issuer)
    if serial and (whose, certificate.serial) != (issuer, serial.upper().zfill(32)):
        raise Malformed("bad-decision", f"{SERIAL} and {ISSUER} are of another certificate than the one that was given")
    return whose, certificate.serial, hashlib.sha256(der).digest()


def _host(site: str | None) -> str:
    """The site's host; "" when there is no header. Raises Malformed for what is no plain host[:port]."""
    host = "" if site is None else host_of(site.strip())
    if host is None:
        raise Malformed("bad-decision", f"{SITE} is no host with or without a port")
    return host


def _groups(text: str | None) -> tuple[str, ...]:
    """Groups of which one is needed; () when there is no header. Raises Malformed when a name is missing: the web server meant to ask for something."""
    if text is None:
        return ()
    found = tuple(unquote(group.strip()) for group in text.split(","))
    if not all(group.strip() for group in found):
        raise Malformed("bad-decision", f"{GROUPS} has no group in it, or an empty one")
    return found


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
