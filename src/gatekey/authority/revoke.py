"""Taking certificates away and giving held ones back. The ledger changes in one transaction; CRLs and the published folder follow at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import GatekeyError, NotFound, Refused
from ..model.names import ITSELF, reserved_problem
from ..model.record import Taken
from ..model.request import CertificateId
from ..model.status import REVOKE_REASONS
from ..store.ledger import HOLD
from ..x509.crl import encode_entry
from . import access, bundle, crl

if TYPE_CHECKING:
    from ..store.database import Transaction
    from .authority import Authority


def revoke(authority: Authority, which: CertificateId, reason: str = "unspecified") -> list[Taken]:
    """Revokes one certificate; with key-compromise every live one with the same key, under every issuer, and the key is never certified again.

    Raises Refused for a reason that is not one, NotFound, Conflict when it is revoked already.
    """
    if reason not in REVOKE_REASONS:
        raise Refused("bad-reason", f"{reason!r} is not a reason", hint=f"reasons are {', '.join(REVOKE_REASONS)}; to take it away for a while: gatekey hold")
    return _take(authority, which, reason)


def hold(authority: Authority, which: CertificateId) -> list[Taken]:
    """Takes a certificate away until `unhold`. Raises NotFound, Conflict when it is held or revoked already."""
    return _take(authority, which, HOLD)


def unhold(authority: Authority, which: CertificateId) -> None:
    """Gives a held certificate back. Raises NotFound, Conflict when it is not held, Refused when its holder has left."""
    record = next((r for r in authority.reads.by_serial(which.serial) if r.id == which), None)
    holder = authority.reads.holder(record.holder) if record else None
    if holder and holder.left_at:
        raise Refused("holder-left", f"{holder.login} has left", hint=f"gatekey people set {holder.login} --back")
    authority.ledger.unhold(which, at=authority.now(), actor=authority.actor)
    follow(authority, {which.issuer})


def leave(authority: Authority, login: str, *, even_last_administrator: bool = False) -> list[Taken]:
    """Marks a person as gone and takes everything she has, in one transaction.

    `even_last_administrator`: also when nobody would be administrator any more; then only the command line on this machine can make another one.
    Raises NotFound, Refused when she left before or is the only administrator, and for what is the service's own.
    """
    holder = authority.reads.holder(login)
    if holder is None or holder.kind == "authority":
        raise NotFound("no-holder", f"nobody is called {login!r}", hint="gatekey people list")
    if holder.left_at:
        raise Refused("holder-left", f"{holder.login} has left already", hint=f"gatekey people show {holder.login}")

    _not_the_service(authority, holder.login)

    def may(tx: Transaction) -> None:
        if not even_last_administrator:
            access.keep_one(tx, holder.login, f"; gatekey leave {holder.login} on the authority's own machine does it all the same")

    taken = authority.ledger.leave(holder.login, at=authority.now(), actor=authority.actor, entry=encode_entry, may=may)
    follow(authority, {one.id.issuer for one in taken})
    return taken


def follow(authority: Authority, issuers: set[str]) -> None:
    """What follows from a change that stands in the ledger: new CRLs of these CAs, and the published folder.

    In a service they may follow a moment after this returns: what comes in one second is gathered (`republish.py`).
    A crash, or trouble, leaves CRL or folder behind the ledger; the next verb that writes and `store check --repair` go through `tell` again.
    """
    authority.ledger.db.afterwards(lambda: _follow(authority, issuers))


def _follow(authority: Authority, issuers: set[str]) -> None:
    troubles = tell(authority, issuers) if authority.republish is None else authority.republish()
    if troubles:
        first = troubles[0]
        first.message = f"it stands in the ledger, but the web servers were not told: {first.message}"
        first.hint = f"{first.hint}{'; ' if first.hint else ''}the next verb that writes tries again, or: gatekey store check --repair"
        raise first


def tell(authority: Authority, issuers: set[str], *, refresh: int | None = 0) -> list[GatekeyError]:
    """Signs the CRLs and writes the published folder. All of it is tried; answers with what failed. `refresh` None: only what is incomplete is signed."""
    troubles = []
    for issuer in sorted(issuers):
        try:
            crl.current(authority, issuer, refresh=crl.REFRESH if refresh is None else refresh)
        except GatekeyError as trouble:
            troubles.append(trouble)
    if authority.config.publish:
        try:
            bundle.publish(authority, authority.config.publish, signed=refresh is None and not troubles)
        except GatekeyError as trouble:
            troubles.append(trouble)
    return troubles


def _take(authority: Authority, which: CertificateId, reason: str) -> list[Taken]:
    _not_a_ca(authority, which)
    authority.signer(which.issuer)  # before anything changes: a revocation whose CRL cannot be signed would leave web servers behind
    taken = authority.ledger.revoke(which, reason, at=authority.now(), actor=authority.actor, entry=encode_entry)
    follow(authority, {one.id.issuer for one in taken})
    return taken


def _not_the_service(authority: Authority, login: str) -> None:
    """Refuses to let go whom the service needs: it could not get its next certificate in that name."""
    now = authority.now()
    own = next((record for record in authority.reads.by_holder(login) if record.of_service and record.alive(now)), None)
    if reserved_problem(login):
        hint = "certificates of the service are taken away one by one, gatekey revoke SERIAL; it makes new ones"
        raise Refused("service-stays", f"{login} is the service itself, which does not leave", hint=hint)
    if own is not None:
        hint = f"start the service again, so that it has a certificate of {ITSELF}; then gatekey revoke {own.serial}, and leave again"
        raise Refused("service-stays", f"{login} has a certificate that the service has issued to itself, {own.serial}", hint=hint)


def _not_a_ca(authority: Authority, which: CertificateId) -> None:
    for record in authority.records():
        if which == (record.parent, record.serial):
            raise Refused(
                "revoke-authority",
                f"{which.serial} is the certificate of the authority {record.name}",
                hint="an authority is not revoked like a leaf; retire it instead",
            )
