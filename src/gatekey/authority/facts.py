"""Step 1 of an issuance: what the ledger and the weak-key tests know of the keys and holders that are asked for; a batch is asked about at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..model.holder import Holder
from ..model.request import HolderFacts, KeyFacts, Request
from ..x509.spki import PublicKey, read_spki

if TYPE_CHECKING:
    from .authority import Authority


class Met(NamedTuple):
    """What the ledger has met of a batch. `keys`: (holder, kind) of each certificate with a key; `holders` by login in lower case."""

    keys: dict[str, list[tuple[str, str]]]
    compromised: set[str]
    holders: dict[str, Holder]


def met(authority: Authority, batch: Sequence[tuple[Request, Holder]]) -> Met:
    """Asks the ledger about all keys and holders of a batch."""
    digests = [hashlib.sha256(request.spki).hexdigest() for request, _ in batch]
    keys: dict[str, list[tuple[str, str]]] = {}
    for key, holder, kind in authority.reads.holders_of_keys(digests):
        keys.setdefault(key, []).append((holder, kind))
    return Met(keys, authority.reads.compromised(*digests), authority.reads.holders_named([holder.login for _, holder in batch]))


def key_facts(request: Request, holder: Holder, known: Met) -> KeyFacts:
    """What the key is, whether it is weak, and where the ledger has met it. Raises Malformed for what is no key."""
    public = read_spki(request.spki)
    digest = public.sha256
    certified = known.keys.get(digest, [])
    own = next((login.removeprefix("authority:") for login, kind in certified if kind == "authority"), "")
    # Web servers may share a key, as nodes of one site do; people and devices may not.
    others = (login for login, kind in certified if kind != "authority" and login != request.holder and not kind == holder.kind == "server")
    return KeyFacts(
        label=public.label,
        described=public.described,
        bits=public.bits,
        exponent=public.exponent,
        sha256=digest,
        weaknesses=_weaknesses(request, public),
        compromised=digest in known.compromised,
        # A CA's key may be certified again as that same CA, never as anything else.
        authority="" if request.holder == f"authority:{own}" else own,
        other_holder=next(others, ""),
    )


def _weaknesses(request: Request, public: PublicKey) -> tuple[str, ...]:
    """Only keys that come from outside: ours were made by OpenSSL a moment ago."""
    if request.proof == "made-here":
        return ()
    from .weakness import weaknesses  # loads badkeys, 0.1 s, for RSA keys and where there is a block list

    return weaknesses(public)


def holder_facts(authority: Authority, request: Request, holder: Holder, known: Met, now: int, *, alone: bool) -> HolderFacts:
    """Whether the holder has left, and, if there may be one certificate only, which is there for this device under another lineage."""
    person = known.holders.get(holder.login.lower())
    live = ""
    if alone and person and person.kind == holder.kind:
        records = authority.reads.by_holder(person.login)
        lineage = next((record.lineage for record in records if record.id == request.renews), "")
        same = [record.serial for record in records if record.device == request.device and record.alive(now) and record.lineage != lineage]
        live = same[-1] if same else ""
    return HolderFacts(holder.login, holder.kind, left=bool(person and person.left_at), live=live)
