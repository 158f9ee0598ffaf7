"""The service's own certificate: issued and recorded like every other, its key in memory only.

It belongs to a name of its own, not to its host: whatever becomes of a holder who is called like the host, the service can start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..model.holder import Holder
from ..model.names import ITSELF
from ..model.record import SERVICE
from ..ports import PortableKey
from ..x509 import pem
from ..x509.certificate import read_certificate
from . import requests
from .issue import issue

if TYPE_CHECKING:
    from .authority import Authority

#: Whom the service answers as when nobody says otherwise.
HOSTS = ("localhost", "127.0.0.1", "::1")
#: Its key lies in the memory of a process, and renewal costs nothing: so its life is short.
DAYS = 30


def server_certificate(authority: Authority, hosts: Sequence[str], new_key: Callable[[], PortableKey]) -> tuple[bytes, bytes, int, int]:
    """Chain and key in PEM, and the times of beginning and end, of a new certificate of the profile `server`. Raises what issuing raises."""
    key = new_key()
    request, _ = requests.server(authority, tuple(hosts) or HOSTS, key.spki, days=DAYS, door="api")
    released = issue(authority, request._replace(holder=ITSELF, requester=SERVICE), Holder(ITSELF, "server", name="the service itself"))
    chain = [released.der, *(certificate.der for certificate in authority.chain(released.issuer)[:-1])]
    certificate = read_certificate(released.der)
    return b"".join(pem.encode("CERTIFICATE", der) for der in chain), pem.encode("PRIVATE KEY", key.pkcs8()), certificate.not_before, certificate.not_after
