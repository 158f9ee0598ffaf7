"""The folder of files that a web server needs: trust chain, every CRL of it, deny lists, who is who."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import files
from ..errors import GatekeyError
from ..model.bundle import Denied, Known, manifest, texts
from ..model.keytypes import ML_DSA_OPENSSL, display, is_ml_dsa
from ..x509 import pem
from ..x509.names import rfc2253
from . import clock, crl

if TYPE_CHECKING:
    from .authority import Authority


class Bundle(NamedTuple):
    """Contents by file name, the revocation number up to which they are complete, and until when CRLs and authorities are good (POSIX seconds)."""

    contents: dict[str, bytes]
    number: int
    made_at: int
    fresh_until: int
    crls: list[crl.CurrentCrl]


def make(authority: Authority) -> Bundle:
    """The bundle of the people side as it stands now; CRLs older than a day or incomplete are signed again first.

    Raises Misconfigured when a CRL is missing or stale and its key is away: an incomplete bundle shuts everybody out, so there is none.
    """
    _sign(authority)
    return _as_it_is(authority)


def _sign(authority: Authority, *, only_missing: bool = False) -> None:
    """Sees to it that there is a CRL of every authority; `only_missing`: one in force is good enough, whatever was revoked since."""
    for record in authority.need("people"):
        held = crl.newest(authority, record.name) if only_missing else None
        if held is None or not crl.in_force(held, authority.now()):
            crl.current(authority, record.name)


def _as_it_is(authority: Authority) -> Bundle:
    """Of one state of the ledger, and signs nothing: where others go on revoking, each try would find one more."""
    with authority.reads.snapshot():
        found = [one for record in authority.need("people") if (one := crl.newest(authority, record.name))]
        return compose(authority, complete_to(authority, found), found, authority.now())


def complete_to(authority: Authority, crls: list[crl.CurrentCrl]) -> int:
    """The revocation number up to which these CRLs hold everything."""
    missing = [first for one in crls if (first := authority.reads.first_revocation_after(one.issuer, one.revocation))]
    return min(missing) - 1 if missing else authority.reads.revocation_number()


def compose(authority: Authority, number: int, crls: list[crl.CurrentCrl], now: int) -> Bundle:
    """The bundle out of these CRLs, which are complete up to `number`, and out of what the ledger holds now of people and revocations, as of `now` (POSIX
    seconds): the lists may hold more than the CRLs, never less.
    """
    cas = authority.need("people")
    names = {record.name: rfc2253(authority.issuing(record.name).certificate.subject) for record in cas}
    denied = [Denied(names[issuer], serial) for issuer, serial in authority.reads.revoked(tuple(names), now)]
    contents = {
        "people-chain.pem": b"".join(pem.encode("CERTIFICATE", authority.issuing(record.name).certificate.der) for record in cas),
        "all.crl.pem": b"".join(pem.encode("X509 CRL", one.der) for one in crls),
    }
    leaf_issuers = [names[record.name] for record in cas if record.role != "root"]
    chain = [authority.issuing(record.name).certificate.der for record in cas]
    for name, text in texts(denied, _known(authority, names, now), leaf_issuers, now, chain).items():
        contents[name] = text.encode()
    # No CRL is good for longer than the authority that signed it, whatever it says itself.
    fresh_until = min(*(one.next_update for one in crls), *(authority.issuing(record.name).certificate.not_after for record in cas))
    contents["manifest.json"] = manifest(number, now, fresh_until, contents).encode()
    return Bundle(contents, number, now, fresh_until, crls)


def counts(authority: Authority) -> tuple[int, int]:
    """How long a web server's lists are now: certificates on the deny list, and those that let somebody in."""
    now = authority.now()
    issuers = tuple(record.name for record in authority.side("people"))
    return len(authority.reads.revoked(issuers, now)), sum(one.issuer in issuers and one.not_before <= now for one, _ in authority.reads.doors(since=now))


def _known(authority: Authority, names: dict[str, str], now: int) -> list[Known]:
    return [
        Known(
            names[one.issuer], one.issuer, one.serial, one.fingerprint.hex().upper(), one.login, one.name, one.email, one.groups, one.device, one.not_after
        )
        for one, left in authority.reads.doors(since=now)
        if one.issuer in names and one.not_before <= now and not left
    ]


def publish(authority: Authority, out: Path, *, force: bool = False, signed: bool = False) -> Bundle:
    """Writes the bundle into a folder and switches to it as a whole. Raises what `make` and the file system raise; the old files then stay.

    Other people's files of these names are refused with Conflict; with `force` they are replaced. `signed`: whoever calls has just signed what was
    incomplete, and what was revoked since is left to the next time.

    Read and switched under one lock: who switches last has read last, so that no process puts an older state over a revocation.
    """
    _sign(authority, only_missing=signed)  # what is signed, or asks for a passphrase, comes before others have to wait
    with files.alone(out):
        made = _as_it_is(authority)
        files.switch(out, made.contents, f"{made.number}-{made.made_at}", over=made.contents if force else copied(out))
    if out == authority.config.publish:
        with contextlib.suppress(GatekeyError):  # the web servers have what they need; only the clock lacks a line
            clock.note(authority, clock.FOLDER, made.number)
    return made


def copied(out: Path) -> frozenset[str]:
    """Names of files in a folder that are copies of a bundle of ours, as a backup or a copying of links brings them back: its manifest has their hashes."""
    import json
    from hashlib import sha256

    try:
        listed = json.loads((out / "manifest.json").read_bytes())["files"]
        found = {name for name, about in listed.items() if sha256((out / name).read_bytes()).hexdigest() == about["sha256"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return frozenset()
    return frozenset(name for name in (*found, "manifest.json") if not (out / name).is_symlink())


def warnings(authority: Authority) -> list[str]:
    """Which web servers cannot use the bundle, in words."""
    kinds = {authority.issuing(record.name).key_type for record in authority.side("people")}
    found = ", ".join(display(kind) for kind in sorted(kinds) if is_ml_dsa(kind))
    if not found:
        return []
    sentence = (
        f"the chain and the CRLs are signed with {found}, which OpenSSL reads from {ML_DSA_OPENSSL} on: clients with an older one (Debian 12 has 3.0) "
        "cannot load their certificates, and nginx, Apache and HAProxy with an older one load this chain without a word and then refuse everybody"
    )
    return [sentence]
