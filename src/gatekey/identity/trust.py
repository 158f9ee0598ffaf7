"""Who may speak for others: a Unix socket, an address or network, a shared secret. Named by the operator, never guessed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Misconfigured

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

#: A secret shorter than this can be guessed over a network.
MIN_SECRET = 20


class Peer(NamedTuple):
    """The other end of the connection on which a request came.

    `proven` says that `host` and `unix` were read from the socket itself. Otherwise the app server said so, and some of them put an address there that
    they took from X-Forwarded-For (uvicorn with --proxy-headers, which is its default).
    """

    host: str = ""
    unix: bool = False
    proven: bool = False


class Secret:
    """A secret that the web server sends in X-Gatekey-Secret with each request. Compared in constant time; never printed."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if len(value) < MIN_SECRET or not value.isascii() or not value.isprintable() or " " in value:
            raise Misconfigured(
                "identity-trust",
                f"the shared secret has {len(value)} characters; it needs at least {MIN_SECRET}, printable ASCII without spaces",
                hint="make one: openssl rand -hex 32",
            )
        self._value = value.encode("ascii")

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Secret:
        """The secret that a file holds, outer white space left out. Raises Misconfigured if it cannot be read or it is open to everybody."""
        try:
            with open(path, encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096).strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise Misconfigured("identity-trust", f"the secret in {os.fspath(path)} cannot be read: {_why(problem)}") from None
        if mode & 0o006:
            raise Misconfigured("identity-trust", f"the secret in {os.fspath(path)} is open to everybody", hint=f"chmod o= {os.fspath(path)}")
        return cls(text)

    def matches(self, said: str) -> bool:
        from hmac import compare_digest

        return compare_digest(said.encode("latin-1", "replace"), self._value)

    def __repr__(self) -> str:
        return "Secret(...)"


_PUNCTUATION = str.maketrans(dict.fromkeys(',;="[]', " "))

Place = str
Speakers = Place | Secret | Iterable[Place | Secret]


class Trust:
    """The places from which identity headers are believed (any of them), and the secret that must come along if one is named.

    Raises Misconfigured("identity-trust") for a word that is neither `unix` nor an address nor a network, and for a network that is everybody.
    """

    def __init__(self, speakers: Speakers) -> None:
        named = (speakers,) if isinstance(speakers, str | Secret) else tuple(speakers)
        secrets = [one for one in named if isinstance(one, Secret)]
        places = [one for one in named if isinstance(one, str)]
        if len(secrets) > 1 or len(secrets) + len(places) != len(named):
            raise Misconfigured("identity-trust", "trust takes places (text) and at most one Secret")
        self.secret = secrets[0] if secrets else None
        self.unix = "unix" in places
        self._networks = tuple(_network(place) for place in places if place != "unix")
        self._decided: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return self.unix or bool(self._networks) or self.secret is not None

    def allows(self, peer: Peer, secret: str | None, forwarded: str | None) -> bool:
        """Whether what `peer` says counts. `forwarded`: X-Forwarded-For and Forwarded, against servers that take the peer's address from there."""
        if self.secret is not None and (secret is None or not self.secret.matches(secret)):
            return False
        if self.unix or self._networks:
            return self._from_a_named_place(peer) and (peer.proven or not peer.host or forwarded is None or not _stands_in(peer.host, forwarded))
        return self.secret is not None

    def _from_a_named_place(self, peer: Peer) -> bool:
        if peer.unix:
            return self.unix
        try:
            return self._decided[peer.host]
        except KeyError:
            address = _address(peer.host)
            decided = address is not None and any(address in network for network in self._networks)
            if len(self._decided) >= 1024:
                self._decided.clear()
            self._decided[peer.host] = decided
            return decided


def _network(place: str) -> IPv4Network | IPv6Network:
    import ipaddress

    hint = 'name "unix", an address ("127.0.0.1"), a network ("10.1.2.0/24") or a Secret'
    if place == "localhost":
        raise Misconfigured("identity-trust", "trust names localhost, which is a name and not an address", hint='write trust=["127.0.0.1", "::1"]')
    try:
        network = ipaddress.ip_network(place)
    except ValueError as problem:
        raise Misconfigured("identity-trust", f"trust names {place!r}, which is no place: {problem}", hint=hint) from None
    if network.prefixlen == 0:
        raise Misconfigured("identity-trust", f"trust names {place}, which is everybody; then anybody may say who he is", hint=hint)
    return network


def _address(host: str) -> IPv4Address | IPv6Address | None:
    import ipaddress

    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _stands_in(host: str, forwarded: str) -> bool:
    """Whether `host` is one of the addresses in an X-Forwarded-For or Forwarded, with or without a port."""
    words = forwarded.translate(_PUNCTUATION).split()
    return any(host in (word, word.rpartition(":")[0]) for word in words)


def _why(problem: Exception) -> str:
    return (problem.strerror or "no reason given").lower() if isinstance(problem, OSError) else "it is not ASCII"
