"""Who signs OCSP answers: a delegated responder for each CA, with a key in this process's memory and a short-lived certificate (RFC 6960 4.2.2.2).

The certificate is issued and recorded like every other. Answers are read from the ledger, signed and cached; they are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import GatekeyError
from ..model.holder import Holder
from ..model.keytypes import is_ml_dsa
from ..model.names import OCSP, Names
from ..model.request import Request
from ..ports import PortableKey
from ..x509 import ocsp
from ..x509.certificate import read_certificate
from ..x509.signature import algorithm
from ..x509.spki import key_bits
from .health import OK, WARN, Finding, worst
from .issue import issue

if TYPE_CHECKING:
    from .authority import Authority

#: Seconds until a renewal that failed is tried again.
AGAIN = 60


class Responder(NamedTuple):
    """Signs for one CA, with everything encoded that stands in each of its answers. Times in POSIX seconds."""

    sign: Callable[[bytes], bytes]
    algorithm: bytes
    id: bytes
    certificates: bytes
    renew_at: int
    ends: int


class Responders:
    """The responders of one process. `renew` must be called often; `find` and `status` are for the moment of an answer."""

    def __init__(self, authority: Authority, new_key: Callable[[str], PortableKey]) -> None:
        self._authority = authority
        self._new_key = new_key
        self._by_ca: dict[str, Responder] = {}
        self._ca_of: dict[tuple[str, bytes, bytes], str] = {}
        self._again: dict[str, int] = {}
        self._problems: dict[str, str] = {}

    def renew(self) -> None:
        """Makes what is missing, and what has lived two thirds of its life. A CA whose key is away has no responder. Never raises what issuing raises."""
        now = self._authority.now()
        for record in self._authority.records():
            name = record.name
            held = self._by_ca.get(name)
            if (held and now < held.renew_at) or now < self._again.get(name, 0):
                continue
            issuing = self._authority.issuing(name).certificate
            for one in ocsp.issuer_ids(issuing.subject, key_bits(issuing.spki)):
                self._ca_of[one] = name
            self._again[name] = now + AGAIN
            if not self._authority.has_key(name):
                continue
            try:
                self._by_ca[name] = self._make(name, now)
                self._problems.pop(name, None)
            except GatekeyError as error:
                self._problems[name] = f"no certificate for the OCSP responder of {name}: {error.message}{f'; {error.hint}' if error.hint else ''}"
                continue
            self._again.pop(name, None)

    def _make(self, name: str, now: int) -> Responder:
        authority = self._authority
        kind = authority.issuing(name).key_type
        key = self._new_key(kind if is_ml_dsa(kind) else "p256")  # as strong against quantum computers as what it speaks for; otherwise fast
        asked = Request("ocsp-responder", Names(OCSP), key.spki, OCSP, requester=authority.actor, door="internal", issuer=name)
        released = issue(authority, asked, Holder(OCSP, "service", name="OCSP responder"))
        ends = read_certificate(released.der).not_after
        id_ = ocsp.responder_id(key_bits(key.spki))
        return Responder(key.sign, algorithm(key.key_type), id_, ocsp.with_certificates(released.der), now + 2 * (ends - now) // 3, ends)

    def ca_of(self, issuer: tuple[str, bytes, bytes]) -> str:
        """The CA that a request means, or "" for a stranger's."""
        return self._ca_of.get(issuer, "")

    def find(self, name: str) -> Responder | None:
        """Who signs for this CA now, or None."""
        found = self._by_ca.get(name)
        return found if found and self._authority.now() < found.ends else None

    def statuses(self, name: str, serials: Sequence[int]) -> dict[int, bytes]:
        """CertStatus of certificates, read from the ledger now, in one question.

        What was only recorded was never issued; what was abandoned is revoked, without a reason.
        """
        rows = self._authority.reads.standing(name, [f"{serial:032X}" for serial in serials if serial > 0])
        return {serial: _status(rows.get(f"{serial:032X}")) for serial in serials}

    def check(self) -> Finding:
        """Every issuing CA whose key is here has a responder."""
        now = self._authority.now()
        findings = [Finding(WARN, problem, "without it answers stop when the old certificate ends") for problem in self._problems.values()]
        for name, held in self._by_ca.items():
            if now >= held.ends:
                findings.append(Finding(WARN, f"the certificate of the OCSP responder of {name} has expired", "the log says why it is not renewed"))
        return worst(findings) if findings else Finding(OK)


def _status(row: tuple[str, int | None, str | None] | None) -> bytes:
    """Out of state, time and reason of a revocation."""
    if row is None or (row[1] is None and row[0] != "released"):
        return ocsp.UNKNOWN
    return ocsp.GOOD if row[1] is None else ocsp.revoked(row[1], row[2] if row[0] == "released" else None)
