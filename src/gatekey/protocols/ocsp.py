"""OCSP over HTTP (RFC 6960 A; RFC 5019 and RFC 9919 for caches; RFC 9654 for nonces): a Call in, an Answer out.

An answer without a nonce is kept until something happens to its certificate, or half its life is over. The view of the ledger must be fresh; when it is not,
everybody is told to try later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

from ..authority.standing import STALE_AFTER
from ..errors import Malformed
from ..x509 import ocsp
from ..x509.der import generalized
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.ocsp import Responder, Responders

#: Seconds that an answer is good for, and that an HTTP cache may give it without asking again.
LIFE, AGE = 900, 10
#: Answers that are kept, and events that are followed one by one before everything is dropped.
MOST, MOST_EVENTS = 20_000, 2_000

_KIND = ("content-type", "application/ocsp-response")
_ERRORS = {
    status: Answer(200, (_KIND, ("cache-control", "no-store")), ocsp.encode_error(status))
    for status in (ocsp.MALFORMED_REQUEST, ocsp.INTERNAL_ERROR, ocsp.TRY_LATER, ocsp.UNAUTHORIZED)
}

Subject = tuple[str, int]


class Kept(NamedTuple):
    """An answer that may be given again until `until` (POSIX seconds)."""

    answer: Answer
    until: int
    etag: str
    about: tuple[Subject, ...]


class Ocsp:
    """`fresh` says whether the view of the ledger is. `count` is told how each answer came about."""

    def __init__(self, authority: Authority, responders: Responders, fresh: Callable[[], bool], counts: Counter[tuple[str, ...]]) -> None:
        self._authority = authority
        self._responders = responders
        self._fresh = fresh
        self._counts = counts
        self._kept: dict[bytes | str, Kept] = {}
        self._by_subject: dict[Subject, list[bytes | str]] = {}
        self._statuses: dict[Subject, bytes] = {}
        self._second: tuple[int, dict[tuple[bytes, ...], bytes]] = (0, {})
        self._event = -1
        self._followed_at = 0
        self._generation = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def follow(self, new: bool = True) -> None:
        """Drops the answers about every certificate to which something has happened. Called after each comparison with the ledger, from its thread."""
        del new  # the number tells more: nothing is missed when an earlier call broke off
        now = self._authority.now()
        newest = self._authority.reads.newest_event()
        if newest != self._event:
            self._drop(newest)
        self._followed_at = now

    def _drop(self, newest: int) -> None:
        with self._lock:
            self._generation += 1
        if self._event < 0 or newest - self._event > MOST_EVENTS:
            subjects = None
        else:
            changes = self._authority.reads.changes(self._event + 1)
            subjects = [subject.partition("/") for _, action, subject in changes if action.startswith("certificate.")]
        with self._lock:
            if subjects is None:
                self._clear()
            else:
                for name, _, serial in subjects:
                    subject = (name, int(serial, 16))
                    self._statuses.pop(subject, None)
                    for key in self._by_subject.pop(subject, ()):
                        self._kept.pop(key, None)
            self._event = newest

    def _clear(self) -> None:
        self._kept.clear()
        self._by_subject.clear()
        self._statuses.clear()

    def answer(self, call: Call) -> Answer:
        """Always an OCSP response with status 200, as RFC 6960 A.2 wants it; 304 for a cache that has it already."""
        key: bytes | str = call.body if call.method == "POST" else call.path
        kept = self._kept.get(key)
        if not self._fresh() or not self._followed_at <= self._authority.now() <= self._followed_at + STALE_AFTER:
            return self._error(ocsp.TRY_LATER, "stale")
        if kept is not None and self._authority.now() < kept.until:
            self._counts["gatekey_ocsp_answers", "kept"] += 1
            return self._conditional(kept, call)
        try:
            der = call.body if call.method == "POST" else _from_path(call.path)
            asked = ocsp.read_again(der)
        except Malformed:
            return self._error(ocsp.MALFORMED_REQUEST, "malformed")
        return self._answer(asked, key, call)

    def _error(self, status: int, how: str) -> Answer:
        self._counts["gatekey_ocsp_answers", how] += 1
        return _ERRORS[status]

    def _conditional(self, kept: Kept, call: Call) -> Answer:
        if call.method != "POST" and kept.etag in (tag.strip() for tag in call.header("if-none-match").split(",")):
            return Answer(304, kept.answer.headers)
        return kept.answer

    def _answer(self, asked: ocsp.OcspRequest, key: bytes | str, call: Call) -> Answer:
        names = {self._responders.ca_of(one.issuer) for one in asked.ids}
        if len(names) != 1 or "" in names:  # a stranger's certificate, or several issuers, for whom no one responder may speak (RFC 6960 4.2.2.2)
            return self._error(ocsp.UNAUTHORIZED, "stranger")
        name = names.pop()
        responder = self._responders.find(name)
        if responder is None:
            return self._error(ocsp.UNAUTHORIZED, "no-responder")
        generation = self._generation
        now = self._authority.now()
        statuses = [self._status((name, one.serial), generation) for one in asked.ids]
        data = ocsp.encode_data(self._answered(responder, asked.ids, statuses, now), asked.nonce)
        body = ocsp.encode_response(data, responder.algorithm, responder.sign(data), responder.certificates)
        if asked.nonce is not None or ocsp.UNKNOWN in statuses:
            self._counts["gatekey_ocsp_answers", "nonce" if asked.nonce is not None else "unknown"] += 1
            return Answer(200, (_KIND, ("cache-control", "no-store")), body)
        self._counts["gatekey_ocsp_answers", "signed"] += 1
        kept = _kept(body, now, min(now + LIFE // 2, responder.ends), tuple((name, one.serial) for one in asked.ids))
        self._keep(key, kept, generation)
        return self._conditional(kept, call)

    def _status(self, subject: Subject, generation: int) -> bytes:
        """From memory, or from the ledger. What nobody has issued yet is not remembered: strangers could fill the memory with it."""
        if (known := self._statuses.get(subject)) is not None:
            return known
        found = self._responders.status(*subject)
        if found != ocsp.UNKNOWN:
            with self._lock:
                if generation == self._generation:
                    if len(self._statuses) >= 5 * MOST:
                        self._statuses.clear()
                    self._statuses[subject] = found
        return found

    def _answered(self, responder: Responder, ids: tuple[ocsp.CertId, ...], statuses: list[bytes], now: int) -> bytes:
        """What is signed, up to the nonce: the same for everybody who asks for the same in the same second."""
        if self._second[0] != now:
            self._second = (now, {})
        key = (responder.id, *(one.raw for one in ids), *statuses)
        found = self._second[1].get(key)
        if found is None:
            times = ocsp.update(now, min(now + LIFE, responder.ends))
            singles = [ocsp.single(one.raw, status, times) for one, status in zip(ids, statuses, strict=True)]
            found = ocsp.encode_answered(responder.id, generalized(now), singles)
            self._second[1][key] = found
        return found

    def _keep(self, key: bytes | str, kept: Kept, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # something happened while we read: what we read may be from before
            if len(self._kept) >= MOST:
                self._clear()
            self._kept[key] = kept
            for one in kept.about:
                keys = self._by_subject.setdefault(one, [])
                if key not in keys:
                    keys.append(key)


def _kept(body: bytes, now: int, until: int, about: tuple[Subject, ...]) -> Kept:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = (
        _KIND,
        ("cache-control", f"public, max-age={AGE}, must-revalidate, no-transform"),
        ("etag", etag),
        ("last-modified", formatdate(now, usegmt=True)),
    )
    return Kept(Answer(200, headers, body), until, etag, about)


def _from_path(path: str) -> bytes:
    """The request of a GET: base64 in the path (RFC 6960 A.1). Raises Malformed."""
    text = path.removeprefix("/ocsp/").lstrip("/")
    if len(text) > ocsp.MAX_BYTES:
        raise Malformed("bad-ocsp-request", "the request is too long")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("bad-ocsp-request", "the path is not base64") from None
