"""The TLS of the listeners: certificate and authorities can be changed while they serve, from files or from memory."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from .. import files
from ..authority.health import FAIL, OK, WARN, Finding
from ..authority.standing import Changes, happened
from ..errors import GatekeyError, Misconfigured

#: Bytes of a file with a certificate or key.
_MOST = 1024 * 1024


class Tls:
    """What one listener speaks TLS with. `context` is for new connections; a change makes another one and puts it in its place as a whole.

    A context that is in use is never changed: OpenSSL takes certificate and key one after the other, and a handshake in between would fail.
    """

    def __init__(self) -> None:
        self._people = b""
        self._pair: tuple[bytes, bytes] | None = None
        self.context = self._made()

    def ask_for(self, people: bytes) -> None:
        """Asks for a client certificate below these authorities (PEM), which may be missing."""
        self._people = people
        self.context = self._made()

    def show(self, chain: bytes, key: bytes) -> None:
        """Shows this certificate (PEM) from now on. Raises ssl.SSLError when the two do not belong together; then the old one stays."""
        before, self._pair = self._pair, (chain, key)
        try:
            self.context = self._made()
        except ssl.SSLError:
            self._pair = before
            raise

    def _made(self) -> ssl.SSLContext:
        """No resumption by tickets. Revocation is not looked at here: it is decided at each request, so that it also ends what was resumed or is still open."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.num_tickets = 0
        made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        made.set_alpn_protocols(["http/1.1"])
        if self._people:
            made.load_verify_locations(cadata=self._people.decode("ascii"))
            made.verify_mode = ssl.CERT_OPTIONAL
        if self._pair:
            load_from_memory(made, *self._pair)
        return made


class People:
    """Whose certificates a listener asks for. `chain`: PEM of the people's side now; taken in again when an authority was installed while we serve."""

    def __init__(self, chain: Callable[[], bytes], listener: Tls) -> None:
        self._chain = chain
        self._listener = listener
        self._taken = b""
        self.follow()

    def follow(self, changes: Changes | None = None) -> None:
        """After each comparison with the ledger. Connections from here on are asked for certificates of all authorities that there are."""
        chain = self._chain() if happened(changes, "authority.") else b""
        if chain and chain != self._taken:
            self._listener.ask_for(chain)
            self._taken = chain


def load_from_memory(made: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """A certificate and its key that never touch a disk: Python reads files only, so they are given one that is memory."""
    fd = os.memfd_create("gatekey", os.MFD_CLOEXEC)
    try:
        os.write(fd, key + chain)
        made.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class Files:
    """A certificate in files, read again when they change. What cannot be read leaves the old one in its place, and health says so."""

    def __init__(self, certificate: Path, key: Path, listeners: list[Tls]) -> None:
        self._files = (certificate, key)
        self._listeners = listeners
        self._seen = self._stamp()
        self._problem = ""
        if problem := self._load():
            message = f"{certificate} and {key} cannot be used as certificate and key: {problem}"
            raise Misconfigured("service-certificate", message, hint="service.certificate and service.key in gatekey.toml")

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for file in self._files:
            with contextlib.suppress(OSError):
                stat = file.stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _load(self) -> str:
        """Reads the files once, for all listeners; why they cannot be used, or ""."""
        try:
            chain, key = (files.read(file, _MOST) for file in self._files)
            for one in self._listeners:
                one.show(chain, key)
        except GatekeyError as error:
            return error.message
        except OSError as error:  # ssl.SSLError is one
            return str(error.strerror or error)
        return ""

    def look(self) -> None:
        """Once a second."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._problem = self._load()

    def check(self) -> Finding:
        if self._problem:
            return Finding(WARN, f"the new certificate files cannot be used: {self._problem}", f"look at {self._files[0]} and {self._files[1]}")
        return Finding(OK)


class Own:
    """A certificate that the authority issues to itself: its key lives in this process only, and it is renewed when two thirds of its life are over.

    `issue` answers with chain and key in PEM, and the times of its beginning and end.
    """

    def __init__(self, issue: Callable[[], tuple[bytes, bytes, int, int]], now: Callable[[], int], listeners: list[Tls]) -> None:
        self._issue = issue
        self._now = now
        self._listeners = listeners
        self._renew_at = self._ends = 0
        self._try_at = 0
        self.renew()

    def renew(self) -> None:
        """Issues and swaps now. Raises what issuing raises."""
        now = self._now()
        self._try_at = now + 60
        chain, key, _, ends = self._issue()
        for one in self._listeners:
            one.show(chain, key)
        self._renew_at, self._ends = now + 2 * (ends - now) // 3, ends

    def look(self) -> None:
        """Once a second. When a renewal fails, the next try is a minute later."""
        now = self._now()
        if now >= self._renew_at and now >= self._try_at:
            self.renew()

    def check(self) -> Finding:
        now = self._now()
        if now >= self._ends:
            return Finding(FAIL, "the service's own certificate has expired", "the log says why it is not renewed")
        if now >= self._renew_at + 3600:
            return Finding(WARN, "the service's own certificate is not renewed", "the log says why")
        return Finding(OK)
