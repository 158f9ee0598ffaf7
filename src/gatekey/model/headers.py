"""Names of the request headers in which a web server tells the app who is there, and how their values are written."""

from __future__ import annotations

import re

#: Login of the person: ASCII, as it stands in the certificate's common name; may contain inner spaces, never encoded.
USER = "X-Client-User"
#: Display name in any script, e-mail, device: UTF-8, percent-encoded by `encode`. Groups: each percent-encoded, joined with a comma.
NAME = "X-Client-Name"
EMAIL = "X-Client-Email"
GROUPS = "X-Client-Groups"
DEVICE = "X-Client-Device"
#: Serial number as the server prints it: upper-case hex, two digits per byte. A Gatekey serial has 32 digits.
SERIAL = "X-Client-Serial"
#: Issuer's distinguished name in the form of RFC 2253, as OpenSSL prints it.
ISSUER = "X-Client-Issuer"
#: `SUCCESS` and nothing else: requests that would carry another word are refused by the server.
VERIFY = "X-Client-Verify"
#: The certificate as nginx's $ssl_client_escaped_cert and Traefik write it: PEM, percent-encoded.
CERT = "X-Client-Cert"
#: The certificate as in RFC 9440: base64 of the DER between two colons. HAProxy and Caddy can write it; nginx and Apache cannot.
CLIENT_CERT = "Client-Cert"
CLIENT_CERT_CHAIN = "Client-Cert-Chain"

#: Everything that Gatekey's configurations delete from a request before they set their own.
OURS = (USER, NAME, EMAIL, GROUPS, DEVICE, SERIAL, ISSUER, VERIFY, CERT, CLIENT_CERT, CLIENT_CERT_CHAIN)

#: Where a web server can prove to the app that it is the one that may speak; never taken from a client.
SECRET = "X-Gatekey-Secret"

#: Headers in which other software looks for an identity. Never set, always deleted, so that nobody brings one along.
OTHERS = (
    SECRET,
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-SSL-Client-Cert",
    "X-SSL-Client-Verify",
    "X-SSL-Client-S-DN",
    "X-SSL-Client-Serial",
    "SSL-Client-Cert",
    "SSL-Client-Verify",
    "SSL-Client-S-DN",
    "SSL-Client-S-DN-CN",
    "SSL-Client-I-DN",
    "SSL-Client-M-Serial",
    "SSL-Client-Subject-DN",
    "SSL-Client-Issuer-DN",
    "X-Remote-User",
    "Remote-User",
    "X-Forwarded-User",
    "X-Auth-Request-User",
    "X-WEBAUTH-USER",
)
STRIPPED = (*OURS, *OTHERS)

_ALL_PLAIN = re.compile(r"[A-Za-z0-9._~@+-]*").fullmatch
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@+")


def encode(text: str) -> str:
    """`text` as UTF-8 with everything but `A-Za-z0-9-._~@+` percent-encoded (RFC 3986 2.1): fits any header, any server's map and any log."""
    if _ALL_PLAIN(text):
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
