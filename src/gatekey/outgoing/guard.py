"""Fetching from an address that somebody else has named: only public addresses, only http and https, the address that was checked is the one that is called.

SSRF rules: every address of the name must be allowed before one is used, the connection goes to that very address (no second look at DNS), redirects are not
followed, sizes and times are bounded. DNS alone has limits of its own: those of this machine's resolver.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from ..errors import Refused, Unavailable
from .deadline import Deadline

#: Seconds for the whole exchange, and bytes of the answer that are read.
PATIENCE = 10.0
MOST_BYTES = 1024 * 1024
#: Not public although `is_global` of some Python says so: shared, protocol, benchmark, 6to4 (RFC 7526), site-local (RFC 3879), documentation (RFC 9637),
#: segment routing (RFC 9602).
_NEVER = tuple(
    ipaddress.ip_network(block)
    for block in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2002::/16", "2001::/23", "fec0::/10", "3fff::/20", "5f00::/16")
)
#: Never called, whatever is allowed: "this network" (RFC 1122 3.2.1.3), broadcast, and the prefix for translators (RFC 8215): what stands behind, nobody knows.
_HERE = tuple(ipaddress.ip_network(block) for block in ("0.0.0.0/8", "255.255.255.255/32", "64:ff9b:1::/48"))
#: IPv6 addresses that mean the IPv4 address in their last 32 bits: mapped and compatible (RFC 4291 2.5.5), translated (RFC 2765 2.1), NAT64 (RFC 6052 2.1).
_MEANS_V4 = tuple(ipaddress.IPv6Network(block) for block in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]


class Response(NamedTuple):
    """What came back: status, headers with lower-case names, and at most `MOST_BYTES` of body."""

    status: int
    headers: dict[str, str]
    body: bytes


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, as DNS and the hosts file say. Raises Unavailable."""
    try:
        return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    except UnicodeError as error:  # of the codec for host names: an empty part, or one of more than 63 characters
        raise Unavailable("fetch-no-address", f"{host[:80]} is no name of a host", hint="correct the name") from error
    except OSError as error:
        raise Unavailable("fetch-no-address", f"{host} has no address: {error.strerror or error}", hint="check the name and the DNS of this machine") from error


def address_problem(address: str, *, private: bool, loopback: bool = False) -> str | None:
    """Why this address must not be called, or None. `private`: whether addresses of one's own network are allowed; `loopback`: this machine itself.

    What is link-local never is: there lie the services that tell a rented machine its secrets (169.254.169.254).
    """
    return next((problem for ip in _meant(address) if (problem := _problem(ip, address, private=private, loopback=loopback))), None)


def _meant(address: str) -> list[_Ip]:
    """The address, and what it would reach through a translator or a tunnel."""
    ip: _Ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if int(ip) > 1 and any(ip in block for block in _MEANS_V4):
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    tunnelled = [ip.sixtofour, *(ip.teredo or ())]
    return [ip, *(one for one in tunnelled if one is not None)]


def _problem(ip: _Ip, address: str, *, private: bool, loopback: bool = False) -> str | None:
    if ip.is_loopback and loopback:
        return None
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or _among(ip, _HERE):
        return f"{address} is an address of this machine or this wire"
    if not private and (not ip.is_global or _among(ip, _NEVER)):
        return f"{address} is not a public address"
    return None


def _among(ip: _Ip, blocks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(ip in block for block in blocks if block.version == ip.version)


def refuse(host: str, addresses: Sequence[str], networks: Sequence[str] = ()) -> None:
    """Refuses a name one of whose addresses is neither public nor in one of these networks, which an administrator has named in the configuration.

    Raises Refused("fetch-forbidden"). Whoever calls afterwards must use these addresses, and not ask DNS again.
    """
    allowed = [ipaddress.ip_network(network) for network in networks]
    for address in addresses:
        problem = next((why for ip in _meant(address) if not _among(ip, allowed) and (why := _problem(ip, address, private=False))), None)
        if problem:
            hint = "only public addresses are called, and those in the networks that check.networks names"
            raise Refused("fetch-forbidden", f"{host} leads to {problem}", hint=hint, address=address)


def fetch(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    private: bool = False,
    loopback: bool = False,
    resolver: Resolve = resolve,
    context: ssl.SSLContext | None = None,
) -> Response:
    """One request, without redirects. Raises Refused("fetch-forbidden") for a place that must not be called, Unavailable when it does not answer.

    `private` and `loopback` allow one's own network and this machine itself: for tests, and for what an administrator has named in the configuration.
    """
    parts, port = _parts(url)
    host = parts.hostname or ""
    addresses = resolver(host, port)
    if not addresses:
        raise Unavailable("fetch-no-address", f"{host} has no address")
    for address in addresses:
        problem = address_problem(address, private=private, loopback=loopback)
        if problem:
            raise Refused("fetch-forbidden", f"{host} leads to {problem}", hint="only public addresses are called", address=address)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with Deadline(PATIENCE) as deadline:
        connection = _Pinned(host, port, addresses[0], (context or ssl.create_default_context()) if parts.scheme == "https" else None, deadline)
        try:
            answer = _exchange(connection, method, target, body, headers or {})
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"it took longer than {PATIENCE:g} seconds" if deadline.over else str(error) or type(error).__name__
            raise Unavailable("fetch-failed", f"{host} does not answer: {why}", hint="try again later") from error
    if deadline.over:  # what was there by then may look like a whole answer
        raise Unavailable("fetch-failed", f"{host} does not answer: it took longer than {PATIENCE:g} seconds", hint="try again later")
    return answer


def _parts(url: str) -> tuple[SplitResult, int]:
    """The parts of an address that may be called at all, and its port. Raises Refused."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        right = parts.scheme in ("http", "https") and parts.hostname and not parts.username and not parts.password
    except ValueError:
        right = False
    if not right or not url.isascii() or not url.isprintable():
        raise Refused("fetch-forbidden", f"{url!r} is not an http:// or https:// address without a user name", hint="correct the address")
    return parts, port


class _Pinned(http.client.HTTPConnection):
    """Speaks to the address that was checked, whatever DNS says by now."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        super().__init__(host, port, timeout=PATIENCE)
        self._address = address
        self._context = context
        self._deadline = deadline

    def connect(self) -> None:
        self.sock = self._deadline.connect(self._address, self.port, PATIENCE)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def _exchange(connection: _Pinned, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
    try:
        connection.request(method, target, body=body or None, headers={"User-Agent": "Gatekey", "Connection": "close", **headers})
        answer = connection.getresponse()
        data = answer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Unavailable("fetch-too-large", f"{connection.host} answers with more than {MOST_BYTES // 1024} KiB")
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)
    finally:
        connection.close()
