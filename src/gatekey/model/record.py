"""What the ledger tells about certificates, CRLs and authorities: rows as values."""

from __future__ import annotations

from typing import NamedTuple

from .request import CertificateId
from .status import HELD, NOT_YET, VALID, status

#: Who asks when the service acts for itself.
SERVICE = "service"


class CertificateRecord(NamedTuple):
    """A certificate as the ledger knows it. Times in POSIX seconds; `revoked_at` None unless revoked or held; `fingerprint` "" before release."""

    issuer: str
    serial: str
    state: str
    profile: str
    profile_sha256: str
    holder: str
    kind: str
    device: str
    common_name: str
    alternatives: tuple[str, ...]
    not_before: int
    not_after: int
    spki_sha256: str
    key_type: str
    fingerprint: str
    lineage: str
    renews: str
    requester: str
    door: str
    recorded_at: int
    released_at: int | None
    revoked_at: int | None
    revoked_reason: str | None

    @property
    def id(self) -> CertificateId:
        return CertificateId(self.issuer, self.serial)

    def status(self, now: int) -> str:
        """How it stands at `now`: one of `model.status.STATUSES`."""
        return status(self.state, self.not_before, self.not_after, self.revoked_at, self.revoked_reason, now)

    def alive(self, now: int) -> bool:
        """Whether it opens a door, or could: after `unhold`, or when its time comes. One that is held and past its end cannot."""
        return self.status(now) in (VALID, HELD, NOT_YET) and self.not_after >= now

    @property
    def of_service(self) -> bool:
        """Whether the service has issued it to itself: for its listeners, or for its OCSP responders."""
        return self.requester == SERVICE

    @property
    def title(self) -> str:
        """What a person calls it: its common name, or its first other name."""
        return self.common_name or (self.alternatives[0] if self.alternatives else self.serial)


class Filter(NamedTuple):
    """Which certificates are looked for; "" and None mean any. `status`: of `model.status.STATUSES`. `ending_within`: valid ones that end so soon (seconds).

    `probes`, `authorities` and `services`: also test identities, our CAs, and what the service has issued to itself.
    """

    status: str = ""
    holder: str = ""
    group: str = ""
    ending_within: int | None = None
    probes: bool = False
    authorities: bool = False
    services: bool = False


class CrlRecord(NamedTuple):
    """A CRL as the ledger knows it. `revocation`: the revocation number up to which it is complete."""

    issuer: str
    number: int
    this_update: int
    next_update: int
    revocation: int
    entries: int


class AuthorityRecord(NamedTuple):
    """An authority. `role`: root, issuing or flat. `side`: people, servers or both. `parent`: the authority that signed it (itself for a root)."""

    name: str
    role: str
    side: str
    parent: str
    serial: str
    created_at: int

    @property
    def is_root(self) -> bool:
        return self.parent == self.name


class Taken(NamedTuple):
    """A certificate that was just revoked or held."""

    id: CertificateId
    holder: str
    device: str
    common_name: str
