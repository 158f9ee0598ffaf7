"""The doorman: takes what a request says and who says it, and answers with a Client, or refuses. No sockets, no frameworks; the adapters bring both.

What is looked at, in this order: 1 who speaks (trust), 2 what is said (source), 3 the certificate, 4 people.json, 5 that all of it agrees, 6 the issuer,
7 the dates, 8 the deny list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypedDict

from ..errors import Malformed, Misconfigured, Refused
from .bundle import Watched, read_denied, read_issuers, read_people
from .certificates import Cache, Facts
from .client import NOBODY, Client
from .headers import SECRET, Names
from .sources import Claim, Source, source_called
from .trust import Peer, Speakers, Trust

if TYPE_CHECKING:
    from .bundle import Denied, Issuers, People, Person

_NO_FACTS = Facts("", "", "", "", "", 0, 0)
#: How many claims are remembered, and how many characters one may have.
_REMEMBERED, _WORDS = 4096, 16 * 1024


class Options(TypedDict, total=False):
    """The arguments of Doorman, for middleware that passes them on."""

    trust: Speakers
    source: str | Source
    bundle: str | os.PathLike[str] | None
    deny: bool
    anonymous: bool
    keep: Iterable[str]
    clock: Callable[[], float]


class Doorman:
    """Says who is calling.

    `trust`: who may speak for others: "unix", an address, a network, a Secret, or several (places are alternatives, a Secret is needed as well).
    `source`: what the web server is, a name of `sources.SOURCES` or a `certificate_header(...)`.
    `bundle`: the bundle folder; gives names, groups and devices, and the deny list (`deny=False` leaves that to the web server alone).
    `anonymous`: whether requests without a client pass (as a Client that is not verified) instead of being refused with 403.
    `keep`: identity headers of other software that the app wants to see although nobody vouches for them; never those of the source.

    Raises Misconfigured for what cannot work. `identify` raises Malformed (400) and Refused (403).
    """

    def __init__(
        self,
        *,
        trust: Speakers = (),
        source: str | Source = "gatekey",
        bundle: str | os.PathLike[str] | None = None,
        deny: bool = True,
        anonymous: bool = False,
        keep: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = source_called(source) if isinstance(source, str) else source
        self.trust = Trust(trust)
        if bool(self.trust) is bool(self.source.inside):
            raise _wrong_trust(inside=bool(self.source.inside))
        self.anonymous = anonymous
        keep = tuple(name.lower() for name in keep)
        if wrong := {SECRET, *self.source.names}.intersection(keep):
            raise Misconfigured("identity-source", f"{min(wrong)} is what the source reads; it cannot be kept from anybody who sends it")
        self.names = Names(() if self.source.inside else self.source.names, keep)
        self._own = frozenset(self.source.names) - {SECRET}
        self._people: Watched[People] | None = None
        self._denied: Watched[Denied] | None = None
        self._issuers: Watched[Issuers] | None = None
        if bundle is not None:
            self._people = Watched(os.path.join(bundle, "people.json"), read_people, warn)
            self._denied = Watched(os.path.join(bundle, "revoked.lst"), read_denied, warn) if deny else None
            if self.source.inside == "tls":  # otherwise the web server looks at the issuer
                self._issuers = Watched(os.path.join(bundle, "issuers.lst"), read_issuers, warn)
        elif self.source.inside == "tls":
            warn("no bundle is named: revoked certificates are let in until they expire")
        self._clock = clock
        self._cache = Cache()
        self._claims: dict[tuple[str | None, ...], tuple[Claim, Facts]] = {}
        self._noted: set[str] = set()

    def identify(self, said: dict[str, str], peer: Peer, *, inside: Claim | None = None, forwarded: str | None = None) -> Client:
        """Who is calling.

        `said`: the request's identity headers (`headers.sort_out`); `peer`: who sent them; `inside`: what the app server itself knows (TLS, mod_wsgi);
        `forwarded`: X-Forwarded-For and Forwarded as they came.
        """
        read = None
        if self.source.inside:
            read = (inside, self._facts(inside)) if inside is not None else None
        elif self.trust.allows(peer, said.get(SECRET), forwarded):
            read = self._read(said)
        elif said:
            self._note_stranger(said, peer)
        if read is not None:
            return self._client(*read)
        if self.anonymous:
            return NOBODY
        raise Refused("identity-nobody", "no client certificate stands behind this request", hint="come through the web server, with a client certificate")

    def still_welcome(self, client: Client) -> bool:
        """Whether a client that was let in earlier (an open WebSocket) is not on the deny list by now."""
        return self._denied is None or not client.verified or (client.issuer, client.serial) not in self._denied.value()

    def removed(self, said: dict[str, str], client: Client) -> set[str]:
        """The names among `said` that must not reach the app: all but what a trusted speaker said about a verified client, and the secret always."""
        return said.keys() - self._own if client.verified else set(said)

    def _read(self, said: dict[str, str]) -> tuple[Claim, Facts] | None:
        """What a trusted speaker says and the facts of its certificate. Remembered by the very words, since the same client comes again."""
        words = tuple(map(said.get, self.source.names))
        try:
            return self._claims[words]
        except KeyError:
            claim = self.source.read(said)
            if claim is None:
                return None
            read = (claim, self._facts(claim))
            if sum(len(word) for word in words if word) <= _WORDS:
                if len(self._claims) >= _REMEMBERED:
                    self._claims.clear()
                self._claims[words] = read
            return read

    def _facts(self, claim: Claim) -> Facts:
        return self._cache.facts(claim.header, claim.certificate) if claim.certificate else _NO_FACTS

    def _client(self, claim: Claim, facts: Facts) -> Client:
        person = self._person(claim, facts)
        _agree(claim, facts, person)
        serial = facts.serial or claim.serial or (person.serial if person else "")
        issuer = facts.issuer or claim.issuer or (person.issuer_dn if person else "")
        if self._issuers is not None and issuer not in self._issuers.value():
            raise Refused("identity-nobody", "the client certificate was issued by an authority that does not sign people", issuer=issuer)
        now = self._clock()
        not_after = facts.not_after or (person.not_after if person else 0)
        if not_after and now > not_after:
            raise Refused("identity-expired", "the client certificate has expired", hint="renew it", not_after=not_after)
        if now < facts.not_before:
            raise Refused("identity-expired", "the client certificate is not valid yet", hint="compare the clocks", not_before=facts.not_before)
        if self._denied is not None:
            if not serial:
                self._note_once("", "the web server does not say the serial number; the deny list cannot be asked")
            elif (issuer, serial) in self._denied.value():
                raise Refused("identity-denied", "the client certificate was taken back", hint="ask for a new one", serial=serial)
        if person is not None:
            return Client(person.login, person.name, person.email, person.groups, serial, issuer, person.device, True)
        login = claim.login or facts.common_name or facts.email
        if not login:
            raise Refused("identity-nobody", "the client certificate names nobody, and people.json does not know it", serial=serial)
        return Client(login, claim.name, claim.email or facts.email, claim.groups, serial, issuer, claim.device, True)

    def _person(self, claim: Claim, facts: Facts) -> Person | None:
        if self._people is None:
            return None
        people = self._people.value()
        # A fingerprint cannot be borrowed by another authority of the same name; issuer and serial are second best, where no certificate came.
        if fingerprint := facts.fingerprint or claim.fingerprint:
            return people.by_fingerprint(fingerprint)
        return people.by_number(claim.issuer, claim.serial) if claim.serial and claim.issuer else None

    def _note_stranger(self, said: dict[str, str], peer: Peer) -> None:
        """Says that a stranger claimed an identity, so that a wrong `trust` is found."""
        if not self._own.isdisjoint(said):
            whom = "a unix socket" if peer.unix else ascii(peer.host[:60]) if peer.host else "an unknown address"
            why = "trust does not name it, its secret is wrong, or its address may come from X-Forwarded-For"
            self._note_once(whom, f"identity headers from {whom} were removed: {why}")

    def _note_once(self, about: str, sentence: str) -> None:
        # Bounded: strangers choose how often and from where they come.
        if about not in self._noted and len(self._noted) < 100:
            self._noted.add(about)
            warn(sentence)


def warn(sentence: str) -> None:
    """A line in the log of the app, under the name gatekey.identity."""
    import logging

    logging.getLogger("gatekey.identity").warning(sentence)


def _agree(claim: Claim, facts: Facts, person: Person | None) -> None:
    """Refuses a request whose parts name different certificates or people: somebody's header got past a door that only guards the others."""
    pairs = [
        ("serial numbers", claim.serial, facts.serial),
        ("fingerprints", claim.fingerprint, facts.fingerprint),
        ("logins", claim.login, person.login if person else facts.common_name),
    ]
    for what, said, known in pairs:
        if said and known and said != known:
            raise Malformed("identity-contradiction", f"the request names two different {what}", hint="one of its headers was not set by the web server")


def _wrong_trust(*, inside: bool) -> Misconfigured:
    if inside:
        return Misconfigured("identity-trust", "this source needs no trust: the app server itself says who is there", hint="leave trust out")
    return Misconfigured(
        "identity-trust",
        "nobody is named who may say who is calling",
        hint='name the web server: trust="unix", trust="127.0.0.1", a network, or trust=Secret.file("/etc/gatekey/app.secret")',
    )
