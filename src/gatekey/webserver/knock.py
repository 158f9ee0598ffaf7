"""One knock at a door: TLS with every knob that a check needs (name, certificate, version, old session), one HTTP/1.1 request, one `Answer`.

Server certificates are not judged here: a door must be shut whatever it is called. Nothing raises for what a server does; every failure is an `Answer`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import Malformed, Unavailable
from .answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, NOT_TLS, TIMEOUT, UNREACHABLE, UNREADABLE, Answer, read_response
from .ear import Heard

USER_AGENT = "gatekey-check"

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Identity(NamedTuple):
    """A certificate with its key, as values. `chain`: PEM, leaf first, without the root. `key`: PEM, not encrypted. `label`: what people call it."""

    chain: bytes
    key: bytes
    label: str = "a certificate"


class Knock(NamedTuple):
    """What is tried. `sni` "": no name is sent. `tls`: "1.2", "1.3" or "" for what comes; `plain`: no TLS at all.

    `host` is the Host header; further ones may stand in `headers`. `path` may be an absolute URI. `keep`: the connection shall stay open.
    `alpn`: protocols offered in TLS; none by default, which means HTTP/1.1.
    """

    address: str
    port: int
    sni: str = ""
    host: str = ""
    identity: Identity | None = None
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    tls: str = ""
    plain: bool = False
    keep: bool = False
    alpn: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The whole attempt in one line."""
        where = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        if self.plain:
            tls = "plain HTTP"
        else:
            name = f"SNI {self.sni}" if self.sni else "no SNI"
            tls = f"TLS{' ' + self.tls if self.tls else ''}, {name}, {self.identity.label if self.identity else 'no certificate'}"
        more = "".join(f", {key}: {value}" for key, value in self.headers)
        return f"{where}, {tls}: {self.method} {self.path}, Host: {self.host}{more}"

    def request(self) -> bytes:
        """The request as it goes over the wire."""
        upgrade = any(key.lower() == "connection" for key, _ in self.headers)
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.host}", f"User-Agent: {USER_AGENT}", "Accept: */*"]
        lines += [f"{key}: {value}" for key, value in self.headers]
        if not upgrade:
            lines.append(f"Connection: {'keep-alive' if self.keep else 'close'}")
        if self.method in ("POST", "PUT", "PATCH", "DELETE"):
            lines.append("Content-Length: 0")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Budget:
    """How much knocking there may be: a number of connections and an end. Shared by all checks of a run.

    `patience`: seconds for one connection and its answer.
    """

    def __init__(self, connections: int, seconds: float, patience: float) -> None:
        self.allowed = connections
        self.used = 0
        self.end = time.monotonic() + seconds  # measures a span; what time it is comes from the caller
        self.patience = patience
        self._lock = threading.Lock()

    def spend(self) -> None:
        """Takes one connection. Raises Unavailable("check-budget") when there is none left, or no time."""
        with self._lock:
            if self.used >= self.allowed or time.monotonic() > self.end:
                raise Unavailable("check-budget", f"stopped after {self.used} connections: a check is bounded", hint="run the rest with --only")
            self.used += 1


class Line:
    """An open connection that has a TLS session and can carry one or more requests."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None, heard: Heard, patience: float) -> None:
        self.sock = sock
        self.context = context
        self.heard = heard
        self.patience = patience
        self.end = 0.0
        # Asked now: after an alert OpenSSL no longer knows.
        self.tls = (sock.version() or "") if isinstance(sock, ssl.SSLSocket) else ""
        self.resumed = isinstance(sock, ssl.SSLSocket) and bool(sock.session_reused)
        self._kept: ssl.SSLSession | None = None

    @property
    def session(self) -> ssl.SSLSession | None:
        """The newest session that the server handed out, also after `close`; over TLS 1.3 there is one only after something was read."""
        if isinstance(self.sock, ssl.SSLSocket):
            self._kept = self.sock.session or self._kept  # a closed socket has none
        return self._kept

    @property
    def alpn(self) -> str:
        return (self.sock.selected_alpn_protocol() or "") if isinstance(self.sock, ssl.SSLSocket) else ""

    def ask(self, knock: Knock) -> Answer:
        """Sends the request and reads the answer. The connection stays open; `close` is the caller's business."""
        self.end = time.monotonic() + self.patience
        try:
            # A server that has refused already may have closed: what it said before that still waits to be read.
            with contextlib.suppress(ssl.SSLError, OSError):
                self._set_timeout()
                self.sock.sendall(knock.request())
            response = read_response(self._receive, knock.method)
        except Malformed as error:
            if error.code == "no-answer":
                return self._told(Answer(ALERT, alert=self.heard.alert) if self.heard.alert >= 0 else Answer(CLOSED, words="closed without an answer"))
            return self._told(Answer(UNREADABLE, words=error.message))
        except (ssl.SSLError, OSError) as error:
            return self._told(_failure(error, self.heard, self.patience))
        return self._told(Answer(ANSWERED, response.status, response.reason, response.headers, response.body))

    def ends_within(self, seconds: float) -> bool:
        """Whether the other side closes the connection in that time; whatever it says until then is thrown away."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv(16384):
                    return True
        except TimeoutError:
            return False
        except (ssl.SSLError, OSError):
            return True
        return False

    def close(self) -> None:
        self._kept = self.session
        with contextlib.suppress(OSError):
            self.sock.close()

    def _receive(self, count: int) -> bytes:
        self._set_timeout()
        try:
            return self.sock.recv(count)
        except (ssl.SSLEOFError, ConnectionError):
            if self.heard.alert >= 0:
                raise
            return b""

    def _set_timeout(self) -> None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)

    def _told(self, answer: Answer) -> Answer:
        return answer._replace(tls=self.tls, resumed=self.resumed, heard=self.heard)


def knock(what: Knock, budget: Budget) -> Answer:
    """Connects, asks, closes."""
    line = connect(what, budget)
    if isinstance(line, Answer):
        return line
    try:
        return line.ask(what)
    finally:
        line.close()


def connect(what: Knock, budget: Budget, *, resume: Line | None = None) -> Line | Answer:
    """An open connection, or the `Answer` that tells why there is none.

    `resume`: an earlier connection whose session is offered; it must have been made with the same identity. Raises Unavailable when the budget is spent.
    """
    budget.spend()
    heard = Heard()
    context = None
    if not what.plain:
        context = resume.context if resume and resume.context else _context(what)
        heard.listen(context)
    end = time.monotonic() + budget.patience
    try:
        sock = socket.create_connection((what.address, what.port), budget.patience)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
        return _failure(error, heard, budget.patience)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock.settimeout(max(0.01, end - time.monotonic()))
            session = resume.session if resume else None
            sock = context.wrap_socket(sock, server_hostname=what.sni or None, session=session)
    except (ssl.SSLError, OSError, ValueError) as error:  # ValueError: a name that cannot be an SNI
        sock.close()
        return _failure(error, heard, budget.patience)
    return Line(sock, context, heard, budget.patience)


def check_identity(identity: Identity) -> None:
    """Raises Malformed("bad-identity") when OpenSSL cannot use it: key and certificate do not belong together, an encrypted key, damaged PEM."""
    try:
        _context(Knock("", 0, identity=identity))
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        hint = "the first certificate must belong to the key, and the key must not be encrypted"
        raise Malformed("bad-identity", f"{identity.label} cannot be used for a handshake: {reason}", hint=hint) from None


def _context(what: Knock) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a door is tried, nothing is confided to it
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # an old server must be reached to be judged
    context.minimum_version = VERSIONS.get(what.tls, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = VERSIONS.get(what.tls, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    if what.alpn:
        context.set_alpn_protocols(list(what.alpn))
    if what.identity is not None:
        # The callback keeps an encrypted key from asking on the terminal.
        with _as_file(what.identity.chain + b"\n" + what.identity.key) as path:
            context.load_cert_chain(path, password=lambda: b"")
    return context


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which `data` can be read while the block lasts: in memory where the system can, otherwise a 0600 file in a 0700 folder."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("gatekey-check")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="gatekey-check-") as folder:  # mkdtemp: 0700
        path = os.path.join(folder, "identity.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        yield path


def _failure(error: Exception, heard: Heard, patience: float) -> Answer:
    """The `Answer` for an exception of connect, handshake, send or receive."""
    if isinstance(error, TimeoutError):
        return Answer(TIMEOUT, words=f"no answer within {patience:g} s", heard=heard)
    if isinstance(error, ConnectionRefusedError):
        return Answer(NOT_LISTENING, words="nothing listens there", heard=heard)
    if isinstance(error, ssl.SSLError):
        alert = heard.alert if heard.alert >= 0 else _alert_in(error)
        if alert >= 0:
            return Answer(ALERT, alert=alert, heard=heard)
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Answer(CLOSED, words="closed during the handshake", heard=heard)
        words = (error.reason or str(error)).lower().replace("_", " ")
        kind = NOT_TLS if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE") else CLOSED
        return Answer(kind, words=f"no TLS handshake: {words}", heard=heard)
    if isinstance(error, ConnectionError):
        alert = heard.alert
        return Answer(ALERT, alert=alert, heard=heard) if alert >= 0 else Answer(CLOSED, words="closed without an answer", heard=heard)
    return Answer(UNREACHABLE, words=f"unreachable: {getattr(error, 'strerror', '') or error}", heard=heard)


#: Names of alerts as OpenSSL writes them in the reason of an error, where the ear is deaf.
_OPENSSL_ALERTS = {
    "HANDSHAKE_FAILURE": 40, "BAD_CERTIFICATE": 42, "UNSUPPORTED_CERTIFICATE": 43, "CERTIFICATE_REVOKED": 44, "CERTIFICATE_EXPIRED": 45,
    "CERTIFICATE_UNKNOWN": 46, "UNKNOWN_CA": 48, "ACCESS_DENIED": 49, "DECRYPT_ERROR": 51, "PROTOCOL_VERSION": 70, "INTERNAL_ERROR": 80,
    "UNRECOGNIZED_NAME": 112, "CERTIFICATE_REQUIRED": 116,
}  # fmt: skip


def _alert_in(error: ssl.SSLError) -> int:
    reason = error.reason or ""
    if "ALERT" not in reason and "UNRECOGNIZED_NAME" not in reason:
        return -1
    return next((number for name, number in _OPENSSL_ALERTS.items() if reason.endswith(name)), -1)
