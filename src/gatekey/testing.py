"""For other projects' tests: a real authority in one line, TLS contexts for both sides in one line each, and a clock that stands still.

with gatekey.testing.CA() as ca:
    server = ca.server_context("localhost")     # asks for client certificates and checks the CRL
    ann = ca.client_context("ann")              # trusts the server, presents Ann's certificate
    ca.revoke("ann")                            # server contexts made from now on refuse her
"""

from __future__ import annotations

import shutil
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from .api import Authority, Issued
from .ports import Clock

__all__ = ["CA", "FakeClock", "FakeEntropy"]


class FakeClock:
    """A clock that stands still until it is moved. Starts at 2026-01-01T00:00:00Z unless told otherwise (POSIX seconds)."""

    def __init__(self, at: int = 1767225600) -> None:
        self.at = at

    def now(self) -> int:
        return self.at

    def move(self, *, seconds: int = 0, days: int = 0) -> None:
        """Moves the clock forward, or back with negative numbers."""
        self.at += seconds + 86400 * days


class FakeEntropy:
    """Dice that fall the same way each time: for golden files. Never for real keys; those do not come from here anyway."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._count = 0

    def bytes(self, count: int) -> bytes:
        from hashlib import shake_256

        self._count += 1
        return shake_256(f"{self._seed}/{self._count}".encode()).digest(count)


class CA:
    """A throw-away authority in a temporary folder, with unencrypted keys. `flat`: one CA for both sides."""

    def __init__(self, name: str = "Test CA", *, flat: bool = False, clock: Clock | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatekey-testing-"))
        self.authority = Authority.create(self.folder / "home", name, unencrypted_keys=True, flat=flat, clock=clock)
        self._issued: dict[str, Issued] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Takes everything away."""
        self.authority.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def person(self, login: str, *, email: str = "", groups: tuple[str, ...] = ()) -> Issued:
        """The person's certificate; issued at the first question, the same one afterwards."""
        if login not in self._issued:
            self._issued[login] = self.authority.issue_client(login, email=email, groups=groups)
        return self._issued[login]

    def revoke(self, login: str) -> None:
        """Revokes a person's certificate."""
        self.authority.revoke(login)

    def bundle(self) -> Path:
        """The folder that a web server would get, written now."""
        self.authority.bundle(self.folder / "bundle")
        return self.folder / "bundle"

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """For a TLS server called `hosts` (default localhost and 127.0.0.1): requires a client certificate of ours and checks CRLs as they are now."""
        names = hosts or ("localhost", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if names[0] not in self._issued:
            self._issued[names[0]] = self.authority.issue_server(*names)
        self._load(context, self._issued[names[0]])
        bundle = self.bundle()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(bundle / "people-chain.pem")
        context.load_verify_locations(bundle / "all.crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.options |= ssl.OP_NO_TICKET
        return context

    def client_context(self, login: str | None = None) -> ssl.SSLContext:
        """For a TLS client that trusts our servers and presents this person's certificate (None: no certificate)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority.servers_root.decode())
        if login is not None:
            self._load(context, self.person(login))
        return context

    def _load(self, context: ssl.SSLContext, issued: Issued) -> None:
        file = self.folder / f"{issued.serial}.pem"
        if not file.exists():
            file.touch(0o600)
            file.write_bytes(issued.key + issued.chain)
        context.load_cert_chain(file)
