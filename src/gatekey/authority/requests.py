"""The everyday questions, translated into one Request each: a person's certificate, a server's, one from a CSR, a renewal.

The holder beside it is what the asker has said of him, never what was read: recorded later, that would put back what was taken from him meanwhile.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import Conflict, Refused
from ..model.holder import Holder, each_once
from ..model.names import Names, host_problem, ip_address, login_problem
from ..model.record import CertificateRecord
from ..model.request import Request
from ..model.status import HELD, REVOKED
from ..store import people
from ..x509.certificate import read_certificate

if TYPE_CHECKING:
    from ..model.profile import Profile
    from ..x509.csr import Csr
    from .authority import Authority

Asked = tuple[Request, Holder]


def client(
    authority: Authority,
    login: str,
    spki: bytes,
    *,
    email: str = "",
    name: str = "",
    device: str = "",
    groups: Sequence[str] = (),
    days: int | None = None,
    proof: str = "made-here",
    door: str = "cli",
    idempotency: str = "",
    profile: str = "client",
) -> Asked:
    """A person's certificate for one device (or a machine's, if the profile is one of machines). The holder is taken from the ledger, or appears with it.

    A profile that gives no e-mail at all leaves it out of the certificate. Raises Conflict when the login has another e-mail already, Refused when the login
    cannot be one or the profile is not for clients.
    """
    words = profile_of(authority, profile, "client")
    if problem := login_problem(login):
        raise Refused("bad-login", problem, hint="for example ann or ann-miller; the display name may be in any script: gatekey people set LOGIN --name ...")
    known = authority.reads.holder(login)
    if known and known.kind != words.holder_kind:
        raise Conflict("holder-kind", f"{known.login!r} is a {known.kind} already, not a {words.holder_kind}", hint="choose another name")
    if known and email and known.email and known.email.lower() != email.lower():
        raise people.other_email(known, email)
    login = known.login if known else login
    holder = Holder(login, words.holder_kind, name=name, email=email, groups=each_once(groups, "groups"))
    names = Names(common_name=login, emails=_emails(words, known.email if known and known.email else email))
    request = Request(
        words.name, names, spki, login, device, days, None, proof, authority.actor, door, idempotency, issuer=authority.issuer_for(words)
    )  # fmt: skip
    return request, holder


def profile_of(authority: Authority, name: str, kind: str) -> Profile:
    """The profile `name`, which must be of this kind (client or server). Raises NotFound, Misconfigured, Refused("wrong-profile")."""
    profile = authority.profile(name)
    if profile.kind != kind or (kind == "client" and profile.subject != "common-name"):
        what = {"ca": "authorities", "ocsp": "OCSP responders", "probe": "test identities"}.get(profile.kind, f"{profile.kind}s")
        found = f"for {what}" if profile.kind != kind else "for clients that are called by their host"
        hint = "gatekey sign takes it" if profile.kind in ("client", "server") else "gatekey profile list says which there are"
        raise Refused("wrong-profile", f"the profile {name} is {found}; one for {kind}s is needed", hint=hint, found=profile.kind, allowed=kind)
    return profile


def _emails(profile: Profile, email: str) -> tuple[str, ...]:
    """The e-mail as far as the profile has room for one at all; whether it may be this one is for policy to say."""
    return (email,) if email and profile.names.email and profile.names.max else ()


def server(
    authority: Authority,
    hosts: Sequence[str],
    spki: bytes,
    *,
    ips: Sequence[str] = (),
    days: int | None = None,
    proof: str = "made-here",
    door: str = "cli",
    idempotency: str = "",
    profile: str = "server",
) -> Asked:
    """A web server's certificate. An address among `hosts` becomes an iPAddress; the first name is the common name and the holder.

    Raises Refused when the profile is not for servers.
    """
    words = profile_of(authority, profile, "server")
    names = server_names(hosts, ips)
    first = names.common_name or next(iter(names.alternatives), "")
    request = Request(
        words.name, names, spki, first, "", days, None, proof, authority.actor, door, idempotency, issuer=authority.issuer_for(words)
    )  # fmt: skip
    return request, Holder(first, "server")


def server_names(hosts: Sequence[str], ips: Sequence[str] = ()) -> Names:
    """Names of a server out of words: lower case, no final dot, addresses told from host names, the first one also as common name if it fits."""
    dns: list[str] = []
    addresses: list[str] = []
    order: list[str] = []
    for word in (*hosts, *ips):
        address = ip_address(word)
        value = address or (word if word in ips else word.lower().removesuffix("."))
        target = addresses if address or word in ips else dns
        if value not in target:
            target.append(value)
            order.append(value)
    first = order[0] if order else ""
    return Names(common_name=first if len(first) <= 64 else "", dns=tuple(dns), ips=tuple(addresses))


def from_csr(
    authority: Authority, profile_name: str, csr: Csr, *, days: int | None = None, door: str = "cli", device: str = "", idempotency: str = ""
) -> Asked:
    """What a CSR asks for under a profile: its public key, common name and alternative names; never its extensions, usages or dates.

    Raises Conflict for an e-mail that is not the holder's but somebody else's.
    """
    profile = authority.profile(profile_name)
    asked = csr.names
    kind = profile.holder_kind if profile.kind != "ca" else "service"  # policy refuses what no ceremony makes
    if profile.subject == "first-host":
        hosts = list(asked.dns)
        common = asked.common_name
        if common and common.lower() not in hosts and not ip_address(common) and host_problem(common.lower()) is None:
            hosts.insert(0, common.lower())
        names = server_names(hosts, asked.ips)._replace(emails=asked.emails)
        if common and common.lower() not in names.alternatives:
            names = names._replace(common_name=common)
        login = next(iter(names.alternatives), common)
    else:
        names, login = asked, asked.common_name
    known = authority.reads.holder(login) if login else None
    said = asked.emails[0] if kind == "person" and asked.emails else ""
    if kind == "person" and known and known.email and not names.emails:
        names = names._replace(emails=_emails(profile, known.email))
    if kind == "person" and known and known.email and names.emails and names.emails[0].lower() != known.email.lower():
        raise people.other_email(known, names.emails[0])
    login = known.login if known else login
    _refuse_anothers(authority, login, names.emails[1:] if kind == "person" else names.emails)
    holder = Holder(login, known.kind if known else kind, email=said)
    request = Request(
        profile.name, names, csr.spki, holder.login, device, days, None, "csr", authority.actor, door, idempotency, issuer=authority.issuer_for(profile)
    )  # fmt: skip
    return request, holder


def _refuse_anothers(authority: Authority, login: str, emails: Sequence[str]) -> None:
    """An e-mail of somebody else is in no certificate; the one e-mail of a person is compared when she is recorded. Raises Conflict."""
    if emails:
        with authority.ledger.db.read() as tx:
            people.refuse_anothers(people.called(tx, [], emails), login, emails)


def _anew(old: CertificateRecord) -> str:
    """The command that gives the same holder another certificate."""
    kind = "server" if old.kind == "server" else "client"
    names = [old.common_name or old.holder, *old.alternatives] if kind == "server" else [old.holder]
    words = ["gatekey", "issue", kind, *dict.fromkeys(names)]
    if old.profile != kind:
        words += ["--profile", old.profile]
    if kind == "client" and old.device:
        words += ["--device", old.device]
    return shlex.join(words)


def renewal(
    authority: Authority,
    old: CertificateRecord,
    spki: bytes | None,
    *,
    proof: str = "same-key",
    days: int | None = None,
    door: str = "cli",
    idempotency: str = "",
) -> Asked:
    """A successor of `old` with the same key (`spki` None) or another one. Raises Refused when the old one was taken away: renewing must not undo that."""
    now = authority.now()
    standing = old.status(now)
    if standing in (REVOKED, HELD):
        word = "held" if standing == HELD else f"revoked ({old.revoked_reason})"
        hint = f"gatekey unhold {old.serial}" if standing == HELD else f"issue a new one with a new key: {_anew(old)}"
        raise Refused("renew-revoked", f"{old.title} ({old.serial}) is {word} and cannot be renewed", hint=hint)
    certificate = read_certificate(authority.ledger.der(old.id))
    general = certificate.names
    names = Names(certificate.common_name, tuple(general.dns), tuple(general.ips), tuple(general.emails))
    known = authority.reads.holder(old.holder)
    profile = authority.profile(old.profile)
    if known and known.kind == "person":
        names = names._replace(emails=_emails(profile, known.email))
    else:
        _refuse_anothers(authority, old.holder, names.emails)
    request = Request(
        profile.name, names, spki or certificate.spki, old.holder, old.device, days, None, proof, authority.actor, door, idempotency,
        renews=old.id, issuer=authority.issuer_for(profile),
    )  # fmt: skip
    return request, Holder(old.holder, old.kind)
