"""What comes from outside, as Protocols, with the one real clock and the one real dice. Below `app.py` nobody asks the system itself."""

from __future__ import annotations

import os
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Seconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX time)."""
        ...


class Entropy(Protocol):
    """Rolls the dice."""

    def bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes, fit for serial numbers and passwords."""
        ...


class Signer(Protocol):
    """A private key that signs bytes and is never seen.

    `key_type` is one of the labels of `gatekey.model.keytypes`; `spki` is its SubjectPublicKeyInfo in DER (RFC 5280 4.1.2.7).
    """

    @property
    def key_type(self) -> str: ...

    @property
    def spki(self) -> bytes: ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data` with the one algorithm of this key type, as X.509 wants it (ECDSA: DER of r and s)."""
        ...


class PortableKey(Signer, Protocol):
    """A private key that may be written out: one that was made for somebody else, never an authority's."""

    def pkcs8(self) -> bytes:
        """PKCS#8 PrivateKeyInfo in DER, not encrypted (RFC 5958)."""
        ...


class Keyring(Protocol):
    """Where private keys live: a folder of encrypted files, or a PKCS#11 token."""

    def make(self, label: str, key_type: str) -> Signer:
        """A new key, durable before this returns. Raises Conflict when `label` exists."""
        ...

    def open(self, label: str) -> Signer:
        """The key called `label`. Raises NotFound, or Misconfigured when the passphrase is wrong."""
        ...

    def labels(self) -> list[str]:
        """The names of all keys here, sorted."""
        ...


class SystemClock:
    """The one real clock."""

    def now(self) -> int:
        return int(time.time())


def owner(entropy: Entropy) -> str:
    """This process, as it stands in leases."""
    return f"{os.uname().nodename}:{os.getpid()}:{entropy.bytes(8).hex()}"


def lives(owner: str) -> bool:
    """Whether a process that holds a lease may still be there. Of other nodes nobody here knows; a number that is another's by now counts as alive."""
    node, _, pid = owner.rpartition(":")[0].rpartition(":")
    if node != os.uname().nodename or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class SystemEntropy:
    """The one real dice: the kernel's."""

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)
