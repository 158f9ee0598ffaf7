"""Fetching from an address that somebody else has named: only public addresses, only http and https, the address that was checked is the one that is called.

SSRF rules: every address of the name must be allowed before one is used, the connection goes to that very address (no second look at DNS), redirects are not
followed, sizes and times are bounded.
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

#: Seconds for the whole exchange, and bytes of the answer that are read.
PATIENCE = 10.0
MOST_BYTES = 1024 * 1024
#: Networks that `is_global` of older Pythons takes for public ones.
_NEVER = tuple(ipaddress.ip_network(block) for block in ("100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"))

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
    except OSError as error:
        raise Unavailable("fetch-no-address", f"{host} has no address: {error.strerror or error}", hint="check the name and the DNS of this machine") from error


def address_problem(address: str, *, private: bool) -> str | None:
    """Why this address must not be called, or None. `private`: whether addresses of one's own network are allowed; loopback and link-local never are."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return f"{address} is an address of this machine or this wire"
    if not private and (not ip.is_global or any(ip in block for block in _NEVER if block.version == ip.version)):
        return f"{address} is not a public address"
    return None


def refuse(host: str, addresses: Sequence[str], networks: Sequence[str] = ()) -> None:
    """Refuses a name one of whose addresses is neither public nor in one of these networks, which an administrator has named in the configuration.

    Raises Refused("fetch-forbidden"). Whoever calls afterwards must use these addresses, and not ask DNS again.
    """
    allowed = [ipaddress.ip_network(network) for network in networks]
    for address in addresses:
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
        ip = ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
        problem = None if any(ip in network for network in allowed if network.version == ip.version) else address_problem(address, private=False)
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

    `loopback` allows this machine itself and everything else: for tests, and for what an administrator has named in the configuration.
    """
    parts, port = _parts(url)
    host = parts.hostname or ""
    addresses = resolver(host, port)
    if not addresses:
        raise Unavailable("fetch-no-address", f"{host} has no address")
    for address in addresses:
        problem = None if loopback else address_problem(address, private=private)
        if problem:
            raise Refused("fetch-forbidden", f"{host} leads to {problem}", hint="only public addresses are called", address=address)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return _exchange(method, parts.scheme, host, port, addresses[0], target, body, headers or {}, context)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable("fetch-failed", f"{host} does not answer: {str(error) or type(error).__name__}", hint="try again later") from error


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

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=PATIENCE)
        self._address = address
        self._context = context

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def _exchange(
    method: str, scheme: str, host: str, port: int, address: str, target: str, body: bytes, headers: dict[str, str], context: ssl.SSLContext | None
) -> Response:
    connection = _Pinned(host, port, address, (context or ssl.create_default_context()) if scheme == "https" else None)
    try:
        connection.request(method, target, body=body or None, headers={"User-Agent": "Gatekey", "Connection": "close", **headers})
        answer = connection.getresponse()
        data = answer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Unavailable("fetch-too-large", f"{host} answers with more than {MOST_BYTES // 1024} KiB")
        return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)
    finally:
        connection.close()
