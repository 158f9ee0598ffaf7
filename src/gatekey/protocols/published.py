"""What anybody may fetch over plain HTTP: the certificates of our authorities and their CRLs, as files that stay in memory until there are newer ones.

/ca/NAME.crt and /ca/NAME.pem, /crl/NAME.crl and /crl/NAME.pem (RFC 5280 4.2.1.13, 4.2.2.1; RFC 2585), with conditional requests (RFC 9110 13).
"""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

from ..authority import crl
from ..authority.standing import Changes, happened
from ..errors import NotFound
from ..x509 import pem
from .conditions import UNTOLD, not_changed
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.authority import Authority

#: Seconds that a cache may answer without asking again. A revocation waits this long at most behind a cache; asking again costs a 304.
CRL_AGE, CA_AGE = 30, 3600
#: Comparisons after the draft of a CRL during which it is looked for each time: a second.
_SOON = 50


class File(NamedTuple):
    """A file with what caches want to know of it. `modified` in POSIX seconds."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    etag: str
    modified: int


def file(body: bytes, kind: str, modified: int, age: int, name: str) -> File:
    """A file that a cache may keep for `age` seconds."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = (
        ("etag", etag),
        ("last-modified", formatdate(modified, usegmt=True)),
        ("cache-control", f"public, max-age={age}, must-revalidate, no-transform"),
        ("content-type", kind),
        ("content-disposition", f'attachment; filename="{name}"'),
        ("x-content-type-options", "nosniff"),
    )
    return File(body, headers, etag, modified)


def answer(found: File, call: Call, now: int) -> Answer:
    """The file, or 304 when the asker has it already. Raises Refused("precondition-failed").

    A CRL has a later date than the one before, also within the same second (authority/crl.py); until that has come, it has none (RFC 9110 8.8.2.1).
    """
    dated = found.modified <= now
    headers = found.headers if dated else tuple(header for header in found.headers if header[0] != "last-modified")
    if not_changed(found.etag, found.modified if dated else UNTOLD, call):
        return Answer(304, headers[: 3 if dated else 2])
    return Answer(200, headers, found.body)


class Published:
    """The files of all our authorities. `refresh` compares with the ledger; answers never do."""

    def __init__(self, authority: Authority, *, every: int = 1) -> None:
        """`every`: of so many calls of `refresh`, one looks for CRLs, whose release is no event of its own; each does soon after the draft of one, which is."""
        self._authority = authority
        self._every = every
        self._turn = 0
        self._files: dict[str, File] = {}
        self._numbers: dict[str, int] = {}
        self._known: tuple[str, ...] = ()

    def refresh(self, changes: Changes | None = None) -> None:
        """Takes in new CRLs and new authorities. Raises what the store raises; what was there stays."""
        authority = self._authority
        self._turn = 0 if happened(changes, "crl.", "authority.") else self._turn + 1
        if self._turn > _SOON and self._turn % self._every:
            return
        if happened(changes, "authority.") or not self._known:
            authority.look()
            records = tuple(record.name for record in authority.records())
            if records != self._known:
                for name in records:
                    self._take_authority(name)
                self._known = records
        for name in self._known:
            held = authority.reads.newest_crl(name)
            if held and held.number != self._numbers.get(name):
                self._take_crl(name)

    def _take_authority(self, name: str) -> None:
        certificate = self._authority.issuing(name).certificate
        self._files[f"/ca/{name}.crt"] = file(certificate.der, "application/pkix-cert", certificate.not_before, CA_AGE, f"{name}.crt")
        text = pem.encode("CERTIFICATE", certificate.der)
        self._files[f"/ca/{name}.pem"] = file(text, "application/x-pem-file", certificate.not_before, CA_AGE, f"{name}.pem")

    def _take_crl(self, name: str) -> None:
        held = crl.newest(self._authority, name)
        if held is None:
            return
        made = held.this_update + crl.BACKDATE  # when it was signed
        self._files[f"/crl/{name}.crl"] = file(held.der, "application/pkix-crl", made, CRL_AGE, f"{name}.crl")
        self._files[f"/crl/{name}.pem"] = file(pem.encode("X509 CRL", held.der), "application/x-pem-file", made, CRL_AGE, f"{name}.crl.pem")
        self._numbers[name] = held.number

    def answer(self, call: Call) -> Answer:
        """Raises NotFound with the names that there are; Refused("precondition-failed")."""
        found = self._files.get(call.path)
        if found is None:
            hint = f"there are {', '.join(sorted(self._files))}" if self._files else "there is nothing yet"
            raise NotFound("no-page", "there is nothing at this address", hint=hint)
        return answer(found, call, self._authority.now())
