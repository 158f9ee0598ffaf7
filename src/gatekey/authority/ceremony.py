"""Making authorities: the two hierarchies of `init`, or the one flat CA. Each goes through the same six steps as every certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import files
from ..config import url_problem
from ..errors import Reason, Refused
from ..lifecycle import Released
from ..model.names import Names, common_name_problem, host_problem
from ..model.plan import NameConstraints
from ..model.record import AuthorityRecord
from ..model.request import Request
from ..store import audit
from ..x509 import pem
from . import crl
from .authority import Say, silent
from .issue import found_root

if TYPE_CHECKING:
    from .authority import Authority


class Founding(NamedTuple):
    """One CA to be made: short name, its place, and what its subject says after the authority's name."""

    name: str
    role: str
    side: str
    parent: str
    title: str


#: Parents before children. Web servers trust the people side only, browsers the servers side only, so neither can stand in for the other.
TWO_HIERARCHIES = (
    Founding("people-root", "root", "people", "people-root", "people root"),
    Founding("people", "issuing", "people", "people-root", "people"),
    Founding("servers-root", "root", "servers", "servers-root", "servers root"),
    Founding("servers", "issuing", "servers", "servers-root", "servers"),
)
FLAT = (Founding("root", "flat", "both", "root", ""),)


def refuse_words(name: str, url: str, domains: tuple[str, ...], ips: tuple[str, ...], *, flat: bool) -> None:
    """Refuses what could not stand in the certificates of a new authority, with all reasons. Asked before anything is made."""
    import ipaddress

    longest = name if flat else f"{name} servers root"
    problems = [
        ("bad-name", common_name_problem(name) or (common_name_problem(longest) and f"{name!r} is too long: with what is added it has more than 64 characters"))
    ]
    problems.append(("bad-url", url_problem(url) if url else None))
    problems += [("bad-host", host_problem(domain, wildcard=False)) for domain in domains]
    for block in ips:
        try:
            ipaddress.ip_network(block)
        except ValueError as error:
            problems.append(("bad-ip", f"{block!r} is not a block of addresses: {error}"))
    reasons = tuple(Reason(code, problem) for code, problem in problems if problem)
    if reasons:
        raise Refused.because(reasons)


def found(
    authority: Authority, *, flat: bool, key_type: str, days: int | None, constraints: NameConstraints | None, say: Say = silent
) -> list[Released]:
    """Makes all CAs with their keys and first CRLs. `days`: life of the roots; None leaves it to the profile. Constraints go onto what issues leaves.

    `say` hears each note once, whatever the number of CAs that it is about.
    """
    heard = _Once(say)
    return [_found(authority, founding, key_type, days, constraints, heard) for founding in (FLAT if flat else TWO_HIERARCHIES)]


class _Once:
    """Says everything once."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self._say(note)


def _found(authority: Authority, founding: Founding, key_type: str, days: int | None, constraints: NameConstraints | None, say: Say) -> Released:
    signer = authority.keyring.make(founding.name, key_type)
    title = f"{authority.config.name} {founding.title}".strip()
    is_root = founding.parent == founding.name
    request = Request(
        profile=founding.name,
        names=Names(common_name=title),
        spki=signer.spki,
        holder=f"authority:{founding.name}",
        days=days if is_root else None,
        requester=authority.actor,
        door="ceremony",
        issuer=founding.parent,
    )
    record = AuthorityRecord(founding.name, founding.role, founding.side, founding.parent, "", 0)
    released = found_root(authority, request, record, None if founding.role == "root" else constraints, say=say)
    crl.make(authority, founding.name)
    return released


def files_missing(authority: Authority) -> list[str]:
    """Our CAs whose certificate does not lie in `authorities/` of the home, where `trust` sends people: an `authority install` was interrupted."""
    return [record.name for record in authority.records() if not _file(authority, record.name).exists()]


def write_files(authority: Authority) -> list[str]:
    """Writes the certificates that `files_missing` names; says which. Raises what the disk says."""
    missing = files_missing(authority)
    for name in missing:
        files.create(_file(authority, name), pem.encode("CERTIFICATE", authority.issuing(name).certificate.der))
    return missing


def _file(authority: Authority, name: str) -> Path:
    return authority.config.home / "authorities" / f"{name}.crt"


def note(authority: Authority, action: str, subject: str, *, actor: str = "", once: str = "", **facts: str) -> None:
    """Writes something that changes us outside the ledger, or weakens us, into the audit log. `once`: an id, of which there is one event, however often."""
    event = audit.Event(actor or authority.actor, action, subject, {**facts, "id": once} if once else facts)
    with authority.ledger.db.transaction("audit note") as tx:
        if not (once and audit.has(tx, event)):
            audit.append(tx, authority.now(), event)
