"""Test identities for `gatekey check`: short-lived certificates of `gatekey-probe`, issued and recorded like all others. Their keys exist in memory only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import GatekeyError
from ..model.holder import Holder
from ..model.names import PROBE, Names
from ..model.request import CertificateId, Request
from ..ports import PortableKey
from ..x509 import pem
from . import bundle, revoke
from .issue import issue

if TYPE_CHECKING:
    from pathlib import Path

    from .authority import Authority


class Probe(NamedTuple):
    """A certificate with its key. `chain`: PEM, leaf first, without the root. `key`: PEM, not encrypted."""

    id: CertificateId
    chain: bytes
    key: bytes


class Probes(NamedTuple):
    """`good` is let in; `expired`; `server`: of the servers' side; `wrong_usage`: of the people's side, but for servers; `canary`: good until it is revoked."""

    good: Probe
    expired: Probe
    server: Probe
    wrong_usage: Probe
    canary: Probe


def make(authority: Authority, new_key: Callable[[], PortableKey]) -> Probes:
    """One of each, good for an hour (the expired one: for no time at all), each with a key of its own. Raises what issuing raises."""
    now = authority.now()
    people = authority.issuer_for(authority.profile("probe"))
    servers = authority.issuer_for(authority.profile("server"))
    return Probes(
        good=_probe(authority, new_key(), "probe", people),
        expired=_probe(authority, new_key(), "probe", people, not_after=now - 60),
        server=_probe(authority, new_key(), "probe-server", servers),
        wrong_usage=_probe(authority, new_key(), "probe-server", people),
        canary=_probe(authority, new_key(), "probe", people),
    )


def _host(authority: Authority, issuer: str) -> str:
    """A host that nobody has; below a permitted one where the authority is bound to some."""
    permitted = authority.issuing(issuer).facts.permitted_dns
    return f"{PROBE}.{permitted[0] if permitted else 'invalid'}"


def _probe(authority: Authority, key: PortableKey, profile: str, issuer: str, *, not_after: int | None = None) -> Probe:
    names = Names(PROBE, dns=(_host(authority, issuer),)) if profile == "probe-server" else Names(PROBE)
    request = Request(profile, names, key.spki, PROBE, not_after=not_after, requester=authority.actor, door="internal", issuer=issuer)
    released = issue(authority, request, Holder(PROBE, "service", name="gatekey check"))
    chain = [released.der, *(certificate.der for certificate in authority.chain(issuer)[:-1])]
    return Probe(released.id, b"".join(pem.encode("CERTIFICATE", der) for der in chain), pem.encode("PRIVATE KEY", key.pkcs8()))


def take_away(authority: Authority, probe: Probe, published: Path | None) -> None:
    """Revokes a canary and publishes that, as it is done for a person: into the configured folder, and into `published` if it is another."""
    revoke.revoke(authority, probe.id, "superseded")
    if published is not None and published != authority.config.publish:
        bundle.publish(authority, published)


def possible(authority: Authority) -> str:
    """Why no probes can be made here, in words, or ""."""
    try:
        for profile in ("probe", "server"):
            authority.signer(authority.issuer_for(authority.profile(profile)))
    except GatekeyError as problem:
        return problem.message
    return ""
