"""What machines must trust to believe our web servers: the roots of the servers' side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFound
from ..x509 import pem
from ..x509.certificate import Certificate

if TYPE_CHECKING:
    from .authority import Authority


def root(authority: Authority) -> tuple[str, Certificate]:
    """Short name and certificate of the root of the servers' side. Raises NotFound while its certificate is not here yet."""
    for record in authority.side("servers"):
        if record.is_root:
            return record.name, authority.issuing(record.name).certificate
    raise NotFound("no-authority", "there is no root of the servers' side here yet", hint=authority.waits("servers").hint)


def roots(authority: Authority) -> bytes:
    """All roots of the servers' side in PEM, as programs want them."""
    return b"".join(pem.encode("CERTIFICATE", authority.issuing(r.name).certificate.der) for r in authority.side("servers") if r.is_root)
