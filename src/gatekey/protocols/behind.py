"""The private listener behind a web server that ends TLS itself: whose certificate it hands on, and why we believe it.

Believed is only a connection that comes from an address in `private.behind-proxy` *and* has proved itself: by a client certificate of a holder with the role
`proxy`, or by being able to open our Unix socket. Such a connection speaks for others only: without a certificate in its header nobody is there, so that a
visitor never passes for the web server. The certificate must be one of ours, signed by one of our authorities; whether it still counts is decided as always.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ..errors import GatekeyError, Malformed, Misconfigured, Refused
from ..model.headers import CERT, CLIENT_CERT
from ..x509 import pem
from ..x509 import signature as x509_signature
from ..x509.certificate import read_certificate
from .message import Call

if TYPE_CHECKING:
    from ..authority.authority import Authority

#: Longest header that is read as a certificate; certificates whose signature was verified and that are remembered.
MAX_BYTES, MOST = 16 * 1024, 1000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(words: Sequence[str]) -> list[Network]:
    """The networks among these addresses, networks, or `unix`. Raises Misconfigured for a word that is none of these."""
    found: list[Network] = []
    for word in words:
        try:
            found += [ipaddress.ip_network(word)] if word != "unix" else []
        except ValueError as error:
            message = f"private.behind-proxy: {word!r} is no address and no network"
            raise Misconfigured("listen", message, hint='behind-proxy = ["127.0.0.1", "10.1.0.0/16", "unix"]') from error
    return found


class Behind:
    """`words`: addresses, networks, or `unix`. `is_proxy`: whether a certificate that TLS has verified belongs to a web server of ours.

    Raises Misconfigured for a word that is none of these.
    """

    def __init__(self, authority: Authority, words: Sequence[str], is_proxy: Callable[[bytes], bool]) -> None:
        self._authority = authority
        self._is_proxy = is_proxy
        self._unix = "unix" in words
        self._networks = networks(words)
        self._verified: set[bytes] = set()

    def concerns(self, call: Call) -> bool:
        """Whether this connection speaks for others."""
        if call.peer.address == "unix":
            return self._unix
        if not self._networks or not call.peer.certificate or not self._near(call.peer.address):
            return False
        return self._is_proxy(call.peer.certificate)

    def _near(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = ip.ipv4_mapped if ip.version == 6 else None
        return any((mapped or ip) in network for network in self._networks)

    def see(self, call: Call) -> Call:
        """The call as of the one for whom the web server speaks. Raises Malformed or Refused when what it hands on is no certificate of ours."""
        found = [(name, value) for name, value in call.headers if name in (CLIENT_CERT.lower(), CERT.lower())]
        given = [(name, value) for name, value in found if value.strip()]
        if given and len(found) > 1:  # also an empty one: there the web server says "nobody", and has let another header through
            what = "more than once" if len(given) > 1 else f"in {given[0][0]}, and another header says that there is none"
            raise Malformed("identity-doubled", f"the client's certificate stands there {what}", hint="the web server must delete what strangers send")
        der = self._certificate(*given[0]) if given else b""
        return call._replace(peer=call.peer._replace(certificate=der))

    def _certificate(self, name: str, value: str) -> bytes:
        der = _decode(name, value)
        if der not in self._verified:
            self._verify(der)
            if len(self._verified) >= MOST:
                self._verified.clear()
            self._verified.add(der)
        return der

    def _verify(self, der: bytes) -> None:
        certificate = read_certificate(der)
        for record in self._authority.side("people"):
            above = self._authority.issuing(record.name).certificate
            if above.subject == certificate.issuer and x509_signature.verify(above.spki, certificate.algorithm, certificate.signature, certificate.tbs):
                return
        raise Refused("sign-in", "the certificate that was handed on is none of ours", hint="the web server must ask for certificates of our people's side")


def _decode(name: str, value: str) -> bytes:
    """RFC 9440: base64 between colons; or nginx's percent-encoded PEM. Raises Malformed."""
    if len(value) > MAX_BYTES:
        raise Malformed("identity-malformed", f"the client's certificate is longer than {MAX_BYTES} characters")
    try:
        if name == CLIENT_CERT.lower():
            if not (value.startswith(":") and value.endswith(":") and len(value) > 2):
                raise ValueError
            return base64.b64decode(value[1:-1], validate=True)
        ((label, der),) = pem.decode(unquote_to_bytes(value))
    except (ValueError, binascii.Error, GatekeyError):
        raise Malformed("identity-malformed", f"{name} is not a certificate in its form", hint="RFC 9440, or nginx's $ssl_client_escaped_cert") from None
    if label != "CERTIFICATE":
        raise Malformed("identity-malformed", f"{name} holds something else than a certificate")
    return der
