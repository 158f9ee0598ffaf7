"""What earlier runs left half done. Every verb that writes begins with it, so it loads and costs next to nothing when there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.request import CertificateId

if TYPE_CHECKING:
    from .authority import Authority


def reconcile(authority: Authority) -> list[CertificateId]:
    """Closes drafts whose lease is over: they are abandoned, and their serials stand in the next CRL. Harmless beside live issuances."""
    return authority.ledger.abandon(now=authority.now(), entry=_entry, actor=authority.actor)


def _entry(serial: str, at: int, reason: str | None) -> bytes:
    from ..x509.crl import encode_entry

    return encode_entry(serial, at, reason)
