"""The TLS of the listeners: contexts whose certificate can be changed while they serve, from files or from memory."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path

from ..authority.health import FAIL, OK, WARN, Finding
from ..errors import Misconfigured


def context(people: bytes = b"") -> ssl.SSLContext:
    """A server's context without a certificate yet. `people`: PEM of the people's chain; then a client certificate is asked for, and may be missing.

    No resumption by tickets. Revocation is not looked at here: it is decided at each request, so that it also ends what was resumed or is still open.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    if people:
        ask_for(made, people)
    return made


class People:
    """Whose certificates a listener asks for. `chain`: PEM of the people's side now; taken in again when an authority was installed while we serve."""

    def __init__(self, chain: Callable[[], bytes], listener: ssl.SSLContext) -> None:
        self._chain = chain
        self._listener = listener
        self._taken = b""
        self.follow()

    def follow(self, new: bool = True) -> None:
        """After each comparison with the ledger. Connections from here on are asked for certificates of all authorities that there are."""
        chain = self._chain() if new else b""
        if chain and chain != self._taken:
            ask_for(self._listener, chain)
            self._taken = chain


def ask_for(made: ssl.SSLContext, people: bytes) -> None:
    """Asks for a client certificate below these authorities (PEM), which may be missing. What was believed before stays believed."""
    made.load_verify_locations(cadata=people.decode("ascii"))
    made.verify_mode = ssl.CERT_OPTIONAL


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

    def __init__(self, certificate: Path, key: Path, contexts: list[ssl.SSLContext]) -> None:
        self._files = (certificate, key)
        self._contexts = contexts
        self._seen = self._stamp()
        self._problem = ""
        try:
            self._load()
        except OSError as error:  # ssl.SSLError is one
            message = f"{certificate} and {key} cannot be used as certificate and key: {error.strerror or error}"
            raise Misconfigured("service-certificate", message, hint="service.certificate and service.key in gatekey.toml") from error

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for file in self._files:
            with contextlib.suppress(OSError):
                stat = file.stat()
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def _load(self) -> None:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(*self._files)  # a pair that does not belong together must not half replace one that does
        for one in self._contexts:
            one.load_cert_chain(*self._files)

    def look(self) -> None:
        """Once a second."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._load()
            self._problem = ""
        except OSError as error:
            self._problem = str(error.strerror or error)

    def check(self) -> Finding:
        if self._problem:
            return Finding(WARN, f"the new certificate files cannot be used: {self._problem}", f"look at {self._files[0]} and {self._files[1]}")
        return Finding(OK)


class Own:
    """A certificate that the authority issues to itself: its key lives in this process only, and it is renewed when two thirds of its life are over.

    `issue` answers with chain and key in PEM, and the times of its beginning and end.
    """

    def __init__(self, issue: Callable[[], tuple[bytes, bytes, int, int]], now: Callable[[], int], contexts: list[ssl.SSLContext]) -> None:
        self._issue = issue
        self._now = now
        self._contexts = contexts
        self._renew_at = self._ends = 0
        self._try_at = 0
        self.renew()

    def renew(self) -> None:
        """Issues and swaps now. Raises what issuing raises."""
        now = self._now()
        self._try_at = now + 60
        chain, key, _, ends = self._issue()
        for one in self._contexts:
            load_from_memory(one, chain, key)
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
