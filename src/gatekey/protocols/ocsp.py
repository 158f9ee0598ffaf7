"""OCSP over HTTP (RFC 6960 A; RFC 5019 and RFC 9919 for caches; RFC 9654 for nonces): a Call in, an Answer out.

An answer about one certificate, without a nonce, is kept until something happens to the certificate, or half its life is over. What is kept is found by the
plainest request for it (`encode_request`, by POST or GET): strangers can ask in a thousand forms and fill nothing with them. The view of the ledger must be
fresh; when it is not, or when the ledger cannot be read, everybody is told to try later.
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

from ..authority.standing import STALE_AFTER, Changes
from ..errors import GatekeyError, Malformed
from ..x509 import ocsp
from ..x509.der import generalized
from .conditions import not_changed
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.ocsp import Responder, Responders

#: Seconds that an answer is good for, and that an HTTP cache may give it without asking again.
LIFE, AGE = 900, 10
#: Bytes of the answers that are kept, statuses that are remembered, and events that are followed one by one before everything is dropped.
MOST_BYTES, MOST_STATUSES, MOST_EVENTS = 32 * 1024 * 1024, 100_000, 2_000

_KIND = ("content-type", "application/ocsp-response")
_ERRORS = {
    status: Answer(200, (_KIND, ("cache-control", "no-store")), ocsp.encode_error(status))
    for status in (ocsp.MALFORMED_REQUEST, ocsp.INTERNAL_ERROR, ocsp.TRY_LATER, ocsp.UNAUTHORIZED)
}

#: Answers that wait for their nonce, in one second.
_MOST_IN_A_SECOND = 4096


class Kept(NamedTuple):
    """An answer that may be given again until `until` (POSIX seconds), to whoever asks with one of `keys`. `modified`: by this date it is confirmed."""

    answer: Answer
    until: int
    etag: str
    modified: int
    keys: tuple[bytes | str, ...]

    @property
    def size(self) -> int:
        """Bytes, with what Python's objects around them take."""
        return len(self.answer.body) + sum(len(key) for key in self.keys) + 2048


class Ocsp:
    """`fresh` says whether the view of the ledger is. `count` is told how each answer came about."""

    def __init__(self, authority: Authority, responders: Responders, fresh: Callable[[], bool], counts: Counter[tuple[str, ...]]) -> None:
        self._authority = authority
        self._responders = responders
        self._fresh = fresh
        self._counts = counts
        self._kept: dict[bytes | str, Kept] = {}
        self._by_subject: dict[str, set[bytes | str]] = {}
        self._size = 0
        self._statuses: dict[str, bytes] = {}
        self._second: tuple[int, dict[tuple[bytes, ...], bytes]] = (0, {})
        self._followed_at = self._news_at = 0
        self._generation = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return self._size

    def __len__(self) -> int:
        return len(self._kept)

    def follow(self, changes: Changes | None = None) -> None:
        """Drops the answers about every certificate to which something has happened. Called after each comparison with the ledger, from its thread."""
        now = self._authority.now()
        if changes is None:
            self._drop(None, now)
        elif subjects := [subject for action, some in changes.items() if action.startswith("certificate.") for subject in some]:
            self._drop(subjects, now)
        self._followed_at = now

    def _drop(self, subjects: list[str] | None, now: int) -> None:
        """Whoever has read the ledger for an answer before the changes were read keeps it before this, and it goes; or after this, and may not."""
        with self._lock:
            self._generation += 1
            if subjects is None or len(subjects) > MOST_EVENTS:
                self._clear()
            else:
                for subject in subjects:
                    self._statuses.pop(subject, None)
                    for key in self._by_subject.pop(subject, ()):
                        self._forget(key)
            self._news_at = now

    def _clear(self) -> None:
        self._kept.clear()
        self._by_subject.clear()
        self._statuses.clear()
        self._size = 0

    def _forget(self, key: bytes | str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            for other in kept.keys:
                self._kept.pop(other, None)
            self._size -= kept.size

    def answer(self, call: Call) -> Answer:
        """An OCSP response with status 200, as RFC 6960 A.2 wants it; 304 for a cache that has it already. Raises Refused("precondition-failed") alone."""
        kept = self._kept.get(call.body if call.method == "POST" else call.path)
        now = self._authority.now()
        if not self._fresh() or not self._followed_at <= now <= self._followed_at + STALE_AFTER:
            return self._error(ocsp.TRY_LATER, "stale")
        if kept is not None and now < kept.until:
            self._counts["gatekey_ocsp_answers", "kept"] += 1
            return self._conditional(kept, call)
        try:
            asked = ocsp.read_again(call.body if call.method == "POST" else _from_path(call.path))
        except Malformed:
            return self._error(ocsp.MALFORMED_REQUEST, "malformed")
        try:
            made = self._answer(asked)
        except GatekeyError:  # the ledger cannot be read now; nobody is called good because of that
            return self._error(ocsp.TRY_LATER, "failed")
        return made if isinstance(made, Answer) else self._conditional(made, call)

    def _error(self, status: int, how: str) -> Answer:
        self._counts["gatekey_ocsp_answers", how] += 1
        return _ERRORS[status]

    def _conditional(self, kept: Kept, call: Call) -> Answer:
        if call.method != "POST" and not_changed(kept.etag, kept.modified, call):
            return Answer(304, kept.answer.headers[1:])
        return kept.answer

    def _answer(self, asked: ocsp.OcspRequest) -> Answer | Kept:
        """Raises what the store raises."""
        names = {self._responders.ca_of(one.issuer) for one in asked.ids}
        if len(names) != 1 or "" in names:  # a stranger's certificate, or several issuers, for whom no one responder may speak (RFC 6960 4.2.2.2)
            return self._error(ocsp.UNAUTHORIZED, "stranger")
        name = names.pop()
        responder = self._responders.find(name)
        if responder is None:
            return self._error(ocsp.UNAUTHORIZED, "no-responder")
        now = self._authority.now()
        alone = asked.ids[0] if asked.nonce is None and len(asked.ids) == 1 else None
        plain = ocsp.encode_request([alone.raw]) if alone else b""
        kept = self._kept.get(plain)
        if kept is not None and now < kept.until:  # asked for in another form
            self._counts["gatekey_ocsp_answers", "kept"] += 1
            return kept
        generation = self._generation
        statuses = self._all(name, [one.serial for one in asked.ids], generation)
        data = ocsp.encode_data(self._answered(responder, asked.ids, statuses, now), asked.nonce)
        body = ocsp.encode_response(data, responder.algorithm, responder.sign(data), responder.certificates)
        if alone is None or ocsp.UNKNOWN in statuses:
            how = "nonce" if asked.nonce is not None else "unknown" if ocsp.UNKNOWN in statuses else "several"
            self._counts["gatekey_ocsp_answers", how] += 1
            return Answer(200, (_KIND, ("cache-control", "no-store")), body)
        self._counts["gatekey_ocsp_answers", "signed"] += 1
        tag = hashlib.sha256(b"".join((name.encode(), alone.raw, statuses[0], b"%d" % (now // (LIFE // 2))))).hexdigest()[:32]
        # A date tells seconds apart and nothing finer: within one in which something happened, it confirms nothing.
        kept = _kept(body, now, responder.ends, tag, modified=now if now > self._news_at + 1 else now + 1, plain=plain)
        self._keep(_subject(name, alone.serial), kept, generation)
        return kept

    def _all(self, name: str, serials: list[int], generation: int) -> list[bytes]:
        """From memory, or from the ledger: one question for all. What nobody has issued yet is not remembered: strangers could fill the memory with it."""
        known = {serial: status for serial in serials if (status := self._statuses.get(_subject(name, serial)))}
        if missing := [serial for serial in dict.fromkeys(serials) if serial not in known]:
            found = self._responders.statuses(name, missing)
            known |= found
            with self._lock:
                if generation == self._generation:
                    if len(self._statuses) >= MOST_STATUSES:
                        self._statuses.clear()
                    self._statuses.update({_subject(name, serial): status for serial, status in found.items() if status != ocsp.UNKNOWN})
        return [known[serial] for serial in serials]

    def _answered(self, responder: Responder, ids: tuple[ocsp.CertId, ...], statuses: list[bytes], now: int) -> bytes:
        """What is signed, up to the nonce: the same for everybody who asks for the same in the same second."""
        if self._second[0] != now:
            self._second = (now, {})
        second, made = self._second
        key = (responder.id, ids[0].raw, statuses[0])
        found = made.get(key) if len(ids) == 1 else None
        if found is None:
            times = ocsp.update(now, min(now + LIFE, responder.ends))
            singles = [ocsp.single(one.raw, status, times) for one, status in zip(ids, statuses, strict=True)]
            found = ocsp.encode_answered(responder.id, generalized(now), singles)
            if len(ids) == 1 and second == now and len(made) < _MOST_IN_A_SECOND:
                made[key] = found
        return found

    def _keep(self, subject: str, kept: Kept, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # something happened while we read: what we read may be from before
            self._forget(kept.keys[0])
            if self._size + kept.size > MOST_BYTES:
                self._clear()
            for key in kept.keys:
                self._kept[key] = kept
            self._by_subject.setdefault(subject, set()).update(kept.keys)
            self._size += kept.size


def _subject(name: str, serial: int) -> str:
    """A certificate as the audit log writes it."""
    return f"{name}/{serial:032X}"


def _kept(body: bytes, now: int, ends: int, tag: str, *, modified: int, plain: bytes) -> Kept:
    """The tag is the same in every worker: what they say differs in signature and seconds only, which is what a weak one means (RFC 9110 8.8.1)."""
    etag = f'W/"{tag}"'
    headers = (
        _KIND,
        ("cache-control", f"public, max-age={AGE}, must-revalidate, no-transform"),
        ("etag", etag),
        ("last-modified", formatdate(now, usegmt=True)),  # thisUpdate and nextUpdate: RFC 5019 6.2
        ("expires", formatdate(min(now + LIFE, ends), usegmt=True)),
    )
    keys = (plain, "/ocsp/" + base64.b64encode(plain).decode())
    return Kept(Answer(200, headers, body), min(now + LIFE // 2, ends - AGE), etag, modified, keys)


def _from_path(path: str) -> bytes:
    """The request of a GET: base64 in the path (RFC 6960 A.1). Raises Malformed."""
    text = path.removeprefix("/ocsp/").lstrip("/")
    if len(text) > ocsp.MAX_BYTES:
        raise Malformed("bad-ocsp-request", "the request is too long")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("bad-ocsp-request", "the path is not base64") from None
