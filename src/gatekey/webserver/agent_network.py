"""Bundles from the service, over TLS: asked for with a long poll, so that a revocation arrives at once, and told back when the web server has it.

Nothing that comes from there is believed for coming from there: it passes the same checks as a folder, and a service that plays back, cuts or forges is one
that says nothing new. The agent proves itself with a client certificate of its own (role `proxy`), and renews it when two thirds of its life are over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple

from .. import files
from ..errors import GatekeyError, Malformed, Misconfigured, Refused, Unavailable
from ..model.instants import DAY, HOUR, iso
from ..model.package import unpack
from ..x509 import pem, signature
from ..x509.certificate import Certificate, read_certificate
from .agent_bundle import MOST_BYTES, MOST_FILES, MOST_MANIFEST, read_manifest
from .agent_config import Remote
from .agent_server import MANIFEST

#: Seconds: what the service may wait with its answer, what connecting and each piece of an answer may take, and all of an answer.
WAIT, STEP, WHOLE = 30, 10.0, 300.0
#: Seconds between attempts after one that failed: the first, the longest. Each is drawn between half and one and a half of itself.
FIRST, LONGEST = 0.2, 30.0
#: Seconds of silence of the service that are nothing to talk about, and after which a question counts as lost whatever the connection says.
GRACE, LOST = 10.0, WAIT + STEP + WHOLE
#: Bytes of an answer that is no bundle, and of a packed bundle: the files, a header each, and padding.
_MOST_WORDS, MOST_BODY = 64 * 1024, MOST_BYTES + MOST_MANIFEST + 1024 * (MOST_FILES + 2)

Say = Callable[[str, str], None]


class Reply(NamedTuple):
    """An answer of the service."""

    status: int
    body: bytes


class Line:
    """One connection to the service, opened when it is needed. Certificate, key and roots are read at each opening, so a renewed one counts from then on."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._open: HTTPSConnection | None = None
        self._over = False

    def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes = b"", most: int = _MOST_WORDS, wait: float = 0) -> Reply:
        """One question. Raises Unavailable("service-unreachable"), Refused("service-refuses") for 401 and 403, Misconfigured("agent-certificate")."""
        for attempt in (1, 2):
            used = self._open is not None
            try:
                return self._asked(method, path, headers or {}, body, most, wait)
            except (OSError, HTTPException) as error:
                self.close()
                gone = isinstance(error, (ConnectionError, ssl.SSLEOFError)) or type(error).__name__ == "RemoteDisconnected"
                if not (used and gone and attempt == 1) or self._over:  # a connection that the service had closed meanwhile says nothing
                    raise self._unreachable(error) from error
            except GatekeyError:
                self.close()
                raise
        raise AssertionError  # the second attempt was answered or raised

    def _asked(self, method: str, path: str, headers: dict[str, str], body: bytes, most: int, wait: float) -> Reply:
        connection = self._open or self._connect()
        self._open = connection
        connection.sock.settimeout(STEP)
        connection.request(method, path, body or None, {"User-Agent": "gatekey-agent", "Accept-Encoding": "identity", **headers})
        connection.sock.settimeout(STEP + wait)
        response = connection.getresponse()
        if not response.will_close:  # otherwise the socket is the response's alone
            connection.sock.settimeout(STEP)
        try:
            reply = Reply(response.status, _body(response, most if response.status == 200 else _MOST_WORDS))
        finally:
            response.close()  # otherwise the connection counts as busy
        if response.will_close:
            self.close()
        if reply.status in (401, 403):
            raise Refused("service-refuses", f"{self._remote.url} does not answer this agent: {_said(reply.body)}", hint=_ROLE)
        return reply

    def _connect(self) -> HTTPSConnection:
        remote = self._remote
        connection = HTTPSConnection(remote.host, remote.port, timeout=STEP, context=_context(remote))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        # A network that is gone without a word is noticed while we wait, too.
        for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def close(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    def cut(self) -> None:
        """Ends a question that another thread is waiting with; the last one."""
        self._over = True
        connection = self._open
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _unreachable(self, error: Exception) -> GatekeyError:
        url = self._remote.url
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = f"{self._remote.roots} must hold the root that its certificate comes from: gatekey authority export servers-root --out FILE"
            return Unavailable("service-unreachable", f"{url} is not the service that it should be: {error.verify_message}", hint=hint)
        why = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
        hint = "does gatekey serve run there, and does [private] listen there? The web server goes on with what it has"
        return Unavailable("service-unreachable", f"{url} cannot be reached: {_plain(why)}", hint=hint)


_ROLE = "gatekey people set LOGIN --role proxy gives the role; gatekey show LOGIN says whether the certificate is in force"


def _body(response: HTTPResponse, most: int) -> bytes:
    """All of it. Raises Malformed when it is larger than is read, Unavailable when it takes too long."""
    if (response.length or 0) > most:
        raise Malformed("bundle-damaged", f"the service answers with {response.length} bytes, more than the {most} that are read")
    end = time.monotonic() + WHOLE
    parts, size = [], 0
    while part := response.read1(1024 * 1024):
        parts.append(part)
        size += len(part)
        if size > most:
            raise Malformed("bundle-damaged", f"the service answers with more than the {most} bytes that are read")
        if time.monotonic() > end:
            raise Unavailable("service-unreachable", f"the service took more than {WHOLE:g} s for its answer")
    if response.length:
        raise Unavailable("service-unreachable", f"the service's answer lacks its last {response.length} bytes")
    return b"".join(parts)


def _context(remote: Remote) -> ssl.SSLContext:
    """TLS as a client that believes our roots only. Raises Misconfigured("agent-certificate")."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    hint = f"gatekey issue client NAME --for pem at the authority makes certificate and key; look at {remote.certificate} and {remote.key}"
    try:
        if os.stat(remote.key).st_mode & 0o077:
            raise Misconfigured("agent-certificate", f"others may read the key {remote.key}", hint=f"chmod 600 {remote.key}")
        context.load_cert_chain(remote.certificate, remote.key, password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        message = f"{remote.certificate} and {remote.key} cannot be used as certificate and key: {_plain(getattr(error, 'strerror', '') or str(error))}"
        raise Misconfigured("agent-certificate", message, hint=hint) from error
    try:
        context.load_verify_locations(cafile=remote.roots)
    except OSError as error:
        message = f"{remote.roots} holds no roots that can be read: {_plain(error.strerror or str(error))}"
        raise Misconfigured("agent-certificate", message, hint="gatekey authority export servers-root --out FILE writes it") from error
    return context


def _said(body: bytes) -> str:
    """What a refusal says, as far as a person may see it."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return _plain(str(json.loads(body)["detail"]))
    return "it does not say why"


def _plain(words: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in words[:300])


class Service:
    """A source (see `agent_source.Source`). Two threads: one asks for bundles, one reports. `dice`: random bytes; `now`: POSIX seconds; `say`: the log."""

    def __init__(self, remote: Remote, now: Callable[[], int], dice: Callable[[int], bytes], say: Say) -> None:
        self._remote, self._now, self._dice, self._say = remote, now, dice, say
        self._lock = threading.Lock()
        self._line = Line(remote)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._taken = threading.Event()  # what was brought has been looked at, so that nobody can flood us
        self._taken.set()
        self._news, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._known = b""  # the newest manifest that we have seen, good or bad
        self._brought: dict[str, bytes] | None = None
        self._trouble: GatekeyError | None = None
        self._failing_since = 0.0
        self._heard = 0.0
        self._reporter = Reporter(remote, self._pause, say)
        self._own = Own(remote, now, dice, say)

    @property
    def place(self) -> str:
        return self._remote.url

    def read(self, have: bytes = b"") -> dict[str, bytes] | None:
        if self._thread is None:
            self._known = have
            with contextlib.suppress(GatekeyError):
                self._own.renew_if_due(self._line)  # here, too: `--once` from a timer has no thread, and its certificate ends like any other
            self._fetch(0)
        with self._lock:
            brought, trouble, silent = self._brought, self._trouble, time.monotonic() - self._heard
            self._taken.set()
            if brought is not None and brought[MANIFEST] == have:
                self._brought = brought = None
            if brought is not None:
                return dict(brought)
            if trouble and (not self._heard or time.monotonic() - self._failing_since > GRACE):
                raise trouble
            if self._heard and silent > LOST:
                raise Unavailable("service-unreachable", f"{self.place} has said nothing for {int(silent)} seconds", hint="it is asked again")
            if self._known != have:  # the target has lost what we brought, or another process has put something there
                self._known = b""
        return None

    def wait(self, seconds: float, wake: int = -1) -> bool:
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="service", daemon=True)
            self._thread.start()
        poll = select.poll()
        for handle in (self._news, wake):
            if handle >= 0:
                poll.register(handle, select.POLLIN)
        ready = {handle for handle, _ in poll.poll(max(seconds, 0.001) * 1000)}
        if self._news not in ready:
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._news, 1024):
                pass
        return True

    def took_over(self, number: int, at: int) -> None:
        """The web server refuses everything up to this number since `at` (POSIX seconds); the service is told in the background."""
        self._reporter.tell(number, at)

    def close(self) -> None:
        """Ends the threads; what has not been reported yet is tried once more."""
        self._stop.set()
        self._taken.set()
        self._reporter.close()
        if self._thread:
            self._line.cut()
            self._thread.join(STEP)
        else:
            self._line.close()

    # The thread that asks

    def _follow(self) -> None:
        failed = 0
        while not self._stop.is_set():
            self._taken.wait()
            begun = time.monotonic()
            try:
                with contextlib.suppress(GatekeyError):
                    self._own.renew_if_due(self._line)
                news = self._fetch(WAIT)
                failed = 0
            except GatekeyError as trouble:
                failed += 1
                self._failed(trouble)
                self._stop.wait(self._pause(failed))
            except Exception as fault:  # noqa: BLE001  the thread must live; what it is, is told like any other trouble
                failed += 1
                self._failed(Unavailable("service-unreachable", f"{self.place} answers with something that cannot be read: {type(fault).__name__}"))
                self._stop.wait(self._pause(failed))
            else:
                if news or time.monotonic() - begun < 1:  # nobody who answers all the time makes us ask all the time
                    self._stop.wait(self._pause(1) / 4 if news else self._pause(1))
        self._line.close()

    def _fetch(self, wait: int) -> bool:
        """One question for the bundle; whether there was another one."""
        known = self._known
        headers = {"If-None-Match": f'"{hashlib.sha256(known).hexdigest()}"'} if known else {}
        reply = self._line.ask("GET", f"/agent/bundle?{_query(known)}&wait={wait}", headers=headers, most=MOST_BODY, wait=wait)
        if reply.status == 304 and known:
            self._heard_of(None)
            return False
        if reply.status != 200:
            hint = "is it a Gatekey service of this version, and its private listener?"
            raise Unavailable("service-unreachable", f"{self.place} answers with status {reply.status}: {_said(reply.body)}", hint=hint)
        contents = unpack(reply.body, MOST_FILES + 1)
        if MANIFEST not in contents:
            raise Malformed("bundle-damaged", f"the package of the bundle has no {MANIFEST}")
        if contents[MANIFEST] == known:
            self._heard_of(None)
            return False
        self._heard_of(contents)
        return True

    def _heard_of(self, contents: dict[str, bytes] | None) -> None:
        with self._lock:
            recovered, self._trouble, self._failing_since, self._heard = self._trouble is not None, None, 0.0, time.monotonic()
            if contents is not None:
                self._brought, self._known = contents, contents[MANIFEST]
                if self._thread is not None:
                    self._taken.clear()
        if contents is not None or recovered:
            self._ring()

    def _failed(self, trouble: GatekeyError) -> None:
        with self._lock:
            self._trouble = trouble
            self._failing_since = self._failing_since or time.monotonic()
            visible = not self._heard or time.monotonic() - self._failing_since > GRACE
        if visible:
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._tell, b"!")

    def _pause(self, failed: int) -> float:
        """Seconds until the next attempt, spread so that a thousand agents do not come back at the same instant."""
        longest: float = min(FIRST * 2.0 ** min(failed - 1, 16), LONGEST)
        return longest * (0.5 + int.from_bytes(self._dice(4), "big") / 2**32)


def _query(manifest: bytes) -> str:
    """What we have, in the words of the service."""
    try:
        known = read_manifest(manifest)
    except GatekeyError:
        return "after=-1&made=0"
    return f"after={known.number}&made={known.made_at}"


class Reporter:
    """Tells the service what the web server has taken over: the newest number, until it is heard, on a connection of its own."""

    def __init__(self, remote: Remote, pause: Callable[[int], float], say: Say) -> None:
        self._remote, self._pause, self._say = remote, pause, say
        self._line = Line(remote)
        self._due: tuple[int, int] | None = None
        self._told = -1
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, number: int, at: int) -> None:
        if number <= self._told or (self._due and self._due[0] == number):
            return
        self._due = (number, at)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="reports", daemon=True)
            self._thread.start()
        self._bell.set()

    def close(self) -> None:
        self._stop.set()
        self._bell.set()
        if self._thread:
            self._thread.join(STEP)
        self._line.close()

    def _work(self) -> None:
        failed = 0
        while not self._stop.is_set() or self._due:
            self._bell.wait()
            self._bell.clear()
            while self._due:
                try:
                    self._send(*self._due)
                    failed = 0
                except GatekeyError:  # who asks for bundles says what is wrong with the service
                    failed += 1
                    if self._stop.is_set():
                        return
                    self._stop.wait(self._pause(failed))

    def _send(self, number: int, at: int) -> None:
        body = json.dumps({"number": number, "at": at, "name": self._remote.name}).encode()
        # Reports are rare: a connection that nobody reads from would hold up a service that wants to end.
        reply = self._line.ask("POST", "/agent/report", headers={"Content-Type": "application/json", "Connection": "close"}, body=body)
        if reply.status >= 500:
            raise Unavailable("service-unreachable", f"{self._remote.url} answers a report with status {reply.status}")
        if reply.status >= 400:
            self._say("warning", f"{self._remote.url} does not take the report of revocation {number}: {_said(reply.body)}")
        self._told = number
        if self._due == (number, at):
            self._due = None


class Own:
    """The agent's certificate, renewed with the same key when two thirds of its life are over."""

    def __init__(self, remote: Remote, now: Callable[[], int], dice: Callable[[int], bytes], say: Say) -> None:
        self._remote, self._now, self._dice, self._say = remote, now, dice, say
        self._next = 0
        self._said = -DAY

    def renew_if_due(self, line: Line) -> None:
        """Raises nothing: what is wrong is said once a day, and tried again an hour later."""
        now = self._now()
        if now < self._next:
            return
        try:
            own = leaf(files.read(self._remote.certificate))
        except GatekeyError:
            return  # connecting says it better
        due = own.not_before + 2 * (own.not_after - own.not_before) // 3
        if now < due:
            self._next = min(due, now + HOUR)  # somebody may put another one there
            return
        self._next = now + HOUR // 2 + int.from_bytes(self._dice(2), "big") * HOUR // 2**16
        try:
            successor = self._ask(line, own)
            files.replace(self._remote.certificate, successor, os.stat(self._remote.certificate).st_mode & 0o777)
            line.close()
            self._next = 0
            self._say("info", f"the agent's certificate was renewed; it is good until {iso(leaf(successor).not_after)}")
        except (GatekeyError, OSError) as error:
            if now - self._said >= DAY:
                self._said = now
                why = error.message if isinstance(error, GatekeyError) else str(error.strerror or error)
                hint = f"gatekey renew {own.serial} --out DIR at the authority, and copy the certificate to {self._remote.certificate}"
                self._say("warning", f"the agent's certificate ends at {iso(own.not_after)} and was not renewed: {why} ({hint})")

    def _ask(self, line: Line, own: Certificate) -> bytes:
        reply = line.ask("POST", "/agent/renew")
        if reply.status != 200:
            raise Unavailable("service-unreachable", f"{self._remote.url} answers with status {reply.status}: {_said(reply.body)}")
        fresh = leaf(reply.body)
        chain = [read_certificate(der) for _, der in pem.decode(reply.body)[1:]]
        signed = any(one.subject == fresh.issuer and signature.verify(one.spki, fresh.algorithm, fresh.signature, fresh.tbs) for one in chain)
        # With --flat the chain is the leaf alone.
        if fresh.spki != own.spki or fresh.not_after <= own.not_after or fresh.subject != own.subject or (chain and not signed):
            raise Malformed("agent-certificate", "what the service sends is no successor of the agent's certificate")
        return reply.body


def leaf(data: bytes) -> Certificate:
    """The first certificate of a file. Raises Malformed."""
    for label, der in pem.decode(data):
        if label == "CERTIFICATE":
            return read_certificate(der)
    raise Malformed("agent-certificate", "there is no certificate in the agent's certificate file")
