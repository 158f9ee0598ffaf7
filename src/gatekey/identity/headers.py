"""The request headers that can carry an identity: which they are, what looks like one of them, and what is taken out of a request.

Nothing here knows who may be believed; that is `trust`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import Malformed

# The names are those of gatekey.model.headers, restated so that this room imports nothing; a test compares.
USER, NAME, EMAIL, GROUPS, DEVICE = "x-client-user", "x-client-name", "x-client-email", "x-client-groups", "x-client-device"
SERIAL, ISSUER, VERIFY, CERT = "x-client-serial", "x-client-issuer", "x-client-verify", "x-client-cert"
CLIENT_CERT, CLIENT_CERT_CHAIN = "client-cert", "client-cert-chain"
XFCC = "x-forwarded-client-cert"
TRAEFIK_CERT, TRAEFIK_INFO = "x-forwarded-tls-client-cert", "x-forwarded-tls-client-cert-info"

#: Where a web server proves that it is the one that may speak. Never reaches the app.
SECRET = "x-gatekey-secret"

#: Every name in which some software looks for an identity. What nobody vouches for is taken out of the request.
PROTECTED = frozenset({
    *(USER, NAME, EMAIL, GROUPS, DEVICE, SERIAL, ISSUER, VERIFY, CERT, CLIENT_CERT, CLIENT_CERT_CHAIN, XFCC, TRAEFIK_CERT, TRAEFIK_INFO, SECRET),
    *("x-ssl-client-cert", "x-ssl-client-verify", "x-ssl-client-s-dn", "x-ssl-client-serial", "ssl-client-cert", "ssl-client-verify"),
    *("ssl-client-s-dn", "ssl-client-s-dn-cn", "ssl-client-i-dn", "ssl-client-m-serial", "ssl-client-subject-dn", "ssl-client-issuer-dn"),
    *("x-remote-user", "remote-user", "x-forwarded-user", "x-auth-request-user", "x-webauth-user"),
})  # fmt: skip

#: Longest value that is read at all: a chain of post-quantum certificates fits.
MAX_VALUE = 64 * 1024

_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789"
_FOLD = bytes(byte if byte in _LETTERS else 0x2D for byte in range(256))
#: How many names are remembered, and how long one may be.
_REMEMBERED, _LONGEST = 1024, 128


class Names(dict[bytes, str | None]):
    """Tells identity headers from others, and from names that only look like one: other punctuation, underscores in front or behind.

    `names[header]` is the identity header that a request calls by this name (ASGI: bytes), or None; `names.of_environ[key]` the same for a WSGI
    environ, where `-` and `_` are one. Both raise Malformed("identity-look-alike") for a name that only looks like one. What was found out about a name is
    remembered. `spelled` are the names as the chosen source spells them (mod_ssl's have underscores); `keep` are names that the app wants left alone.
    """

    def __init__(self, spelled: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        super().__init__()
        exact = {_folded(name.encode("latin-1")): name for name in (*sorted(PROTECTED), *spelled)}
        for name in keep:
            exact.pop(_folded(name.lower().encode("latin-1")), None)
        self._exact = exact
        self.of_environ = EnvironNames(exact)

    def __missing__(self, header: bytes) -> str | None:
        lower = header.lower()
        found = self._exact.get(_folded(lower))
        if found is not None and lower != found.encode("latin-1"):
            raise _look_alike(header.decode("latin-1"), found)
        # The names come from strangers: what is remembered about them is bounded.
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(header) <= _LONGEST:
            self[header] = found
        return found


class EnvironNames(dict[str, str | None]):
    """The names of `Names` by their keys in a WSGI environ."""

    def __init__(self, exact: dict[bytes, str]) -> None:
        super().__init__()
        self._exact = exact

    def __missing__(self, key: str) -> str | None:
        found = self._exact.get(_folded(key[5:].lower().encode("latin-1", "replace"))) if key.startswith("HTTP_") else None
        if found is not None and key != environ_key(found):
            raise _look_alike(key, found)
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(key) <= _LONGEST:
            self[key] = found
        return found


def environ_key(name: str) -> str:
    """How a WSGI environ calls the header `name` (RFC 3875 4.1.18)."""
    return "HTTP_" + name.upper().replace("-", "_")


def sort_out(headers: Iterable[tuple[bytes, bytes]], names: Names) -> dict[str, str]:
    """The identity headers of a request by name. Raises Malformed for one that stands there twice, is too long or only looks like one."""
    found: dict[str, str] = {}
    for header, value in headers:
        name = names[header]
        if name is not None:
            if name in found:
                raise Malformed("identity-doubled", f"the header {name} stands in the request twice; it may stand there once", header=name)
            if len(value) > MAX_VALUE:
                raise too_long(name, len(value))
            found[name] = value.decode("latin-1")
    return found


def sort_out_environ(environ: Iterable[tuple[str, object]], names: Names) -> dict[str, str]:
    """The same for a WSGI environ. There doubled headers arrive joined with a comma, which the readers of the values refuse."""
    found: dict[str, str] = {}
    keys = names.of_environ
    for key, value in environ:
        name = keys[key]
        if name is not None:
            found[name] = text = str(value)
            if len(text) > MAX_VALUE:
                raise too_long(name, len(text))
    return found


def too_long(name: str, size: int) -> Malformed:
    """The refusal of a value that is longer than anything honest."""
    return Malformed("identity-malformed", f"the header {name} has {size} characters, which is more than the {MAX_VALUE} that are read", header=name)


def _folded(name: bytes) -> bytes:
    parts = name.translate(_FOLD).split(b"-")
    return b"-".join(part for part in parts if part)


def _look_alike(name: str, meant: str) -> Malformed:
    sentence = f"the header {name[:60]!r} looks like {meant} and is not; only the exact name may be sent"
    return Malformed("identity-look-alike", sentence, header=name[:60], meant=meant)
