"""Distinguished names and general names: written, read, and printed exactly as OpenSSL-based web servers print them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Malformed
from . import oids
from .der import BMP, IA5, SEQUENCE, SET, T61, UNIVERSAL, UTF8, Reader, dotted, explicit, implicit, oid, seq, string, tlv, utf8, whole

if TYPE_CHECKING:
    from ..model.names import Names
    from ..model.plan import NameConstraints

#: Budgets of what is read: attributes of one distinguished name, bytes of one distinguished name, general names in one extension.
MAX_ATTRIBUTES = 64
MAX_NAME_BYTES = 16384
MAX_GENERAL_NAMES = 1024

Rdns = tuple[tuple[tuple[str, str], ...], ...]
_EMPTY = b"\x30\x00"
_TEXTS = (UTF8, 0x12, 0x13, T61, IA5, 0x1A, UNIVERSAL, BMP)
_CN = oid(oids.COMMON_NAME)


class GeneralNames(NamedTuple):
    """General names by kind (RFC 5280 4.2.1.6). `directory` holds distinguished names in DER.

    `ips` are canonical addresses, in name constraints `address/prefix`. `others` are all remaining kinds as (kind, DER): the dotted type of an otherName,
    or `x400Address`, `ediPartyName`, `registeredID`.
    """

    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    directory: tuple[bytes, ...] = ()
    others: tuple[tuple[str, bytes], ...] = ()

    @property
    def total(self) -> int:
        """How many names of all kinds there are."""
        return sum(len(kind) for kind in self)


# Distinguished names


@functools.lru_cache(maxsize=256)
def encode_name(common_name: str) -> bytes:
    """A Name of one commonName as UTF8String (RFC 5280 4.1.2.4), DER; an empty name becomes the empty SEQUENCE."""
    if not common_name:
        return _EMPTY
    return seq(tlv(SET, seq(_CN, utf8(common_name))))


@functools.lru_cache(maxsize=256)
def attributes(der: bytes) -> tuple[tuple[tuple[str, int, bytes], ...], ...]:
    """RDNs of (type, tag of the value, content of the value). Raises Malformed("bad-name") or ("bad-der")."""
    if len(der) > MAX_NAME_BYTES:
        raise Malformed("bad-name", f"a distinguished name of {len(der)} bytes is longer than the {MAX_NAME_BYTES} that are read")
    found, count = [], 0
    reader = whole(der)
    while reader:
        rdn, parts = reader.inside(SET), []
        while rdn:
            pair = rdn.inside()
            kind = pair.oid()
            tag, content = pair.any()
            pair.finish()
            parts.append((kind, tag, content))
        count += len(parts)
        if not parts:
            raise Malformed("bad-name", "a distinguished name has an empty part")
        if count > MAX_ATTRIBUTES:
            raise Malformed("bad-name", f"a distinguished name has more than {MAX_ATTRIBUTES} attributes")
        found.append(tuple(parts))
    return tuple(found)


@functools.lru_cache(maxsize=256)
def read_name(der: bytes) -> Rdns:
    """The relative distinguished names in the order of the encoding, each a tuple of (dotted type, text).

    A value that is no character string is given as `#` and the hex of its DER (RFC 4514 2.4). Raises Malformed("bad-name") or ("bad-der").
    """
    return tuple(tuple((kind, _text(tag, content)) for kind, tag, content in rdn) for rdn in attributes(der))


def common_name(der: bytes) -> str:
    """The last commonName, as OpenSSL and browsers pick it, or ""."""
    found = [text for rdn in read_name(der) for kind, text in rdn if kind == oids.COMMON_NAME]
    return found[-1] if found else ""


def _text(tag: int, content: bytes) -> str:
    return string(tag, content) if tag in _TEXTS else "#" + tlv(tag, content).hex().upper()


def display(der: bytes) -> str:
    """A distinguished name for people, in the order of the encoding: `CN=Zoë, O=Acme`. Characters that do not print are shown as escapes."""
    return ", ".join(" + ".join(f"{oids.ATTRIBUTES.get(kind, kind)}={printable(text)}" for kind, text in rdn) for rdn in read_name(der))


def printable(text: str) -> str:
    """`text` with everything that does not print (controls, direction marks, odd spaces) shown as an escape, safe on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def canonical(der: bytes) -> tuple[tuple[tuple[str, str], ...], ...]:
    """A form in which two names that RFC 5280 7.1 calls the same are equal: case folded, spaces trimmed and run together, string types ignored."""
    return tuple(tuple(sorted((kind, " ".join(text.casefold().split())) for kind, text in rdn)) for rdn in read_name(der))


# As OpenSSL prints it (crypto/asn1/a_strex.c). Characters that get a backslash anywhere, at the first and at the last place of a value.
_ESCAPED = frozenset(b',+"\\<>;')
_FIRST = _ESCAPED | frozenset(b" #")
_LAST = _ESCAPED | frozenset(b" ")


def rfc2253(der: bytes) -> str:
    r"""A distinguished name exactly as OpenSSL's XN_FLAG_RFC2253 prints it: reversed, bytes beyond ASCII as `\C3\AB`.

    nginx ($ssl_client_i_dn), Apache (SSL_CLIENT_I_DN) and HAProxy's rfc2253 format show this, so issuers in deny lists are compared with it.
    Attribute types outside `oids.ATTRIBUTES` print as numbers, as they do in OpenSSL for types that it does not know.
    """
    return ",".join("+".join(_printed(*attribute) for attribute in reversed(rdn)) for rdn in reversed(attributes(der)))


def _printed(kind: str, tag: int, content: bytes) -> str:
    name = oids.ATTRIBUTES.get(kind)
    if name is None or tag not in _TEXTS:
        return f"{name or kind}=#{tlv(tag, content).hex().upper()}"
    data = content if tag == UTF8 else _text(tag, content).encode()
    shown = []
    for place, byte in enumerate(data):
        special = _LAST if place == len(data) - 1 else _FIRST if place == 0 else _ESCAPED
        if byte in special:
            shown.append("\\" + chr(byte))
        elif byte < 0x20 or byte >= 0x7F:
            shown.append(f"\\{byte:02X}")
        else:
            shown.append(chr(byte))
    return f"{name}={''.join(shown)}"


# General names


def encode_general_names(names: Names) -> bytes:
    """SubjectAltName's value: dNSName, then iPAddress, then rfc822Name, each in the order given (RFC 5280 4.2.1.6)."""
    parts = [implicit(2, name.encode("ascii")) for name in names.dns]
    if names.ips:
        from ipaddress import ip_address  # 10 ms, and most certificates have none

        parts += [implicit(7, ip_address(ip).packed) for ip in names.ips]
    parts += [implicit(1, email.encode("ascii")) for email in names.emails]
    return tlv(SEQUENCE, *parts)


def encode_uris(uris: tuple[str, ...]) -> bytes:
    """The uniformResourceIdentifier names, joined, without a header around them."""
    return b"".join(implicit(6, uri.encode("ascii")) for uri in uris)


def encode_constraints(constraints: NameConstraints) -> bytes:
    """NameConstraints' value (RFC 5280 4.2.1.10). `no_ips` excludes every IPv4 and IPv6 address."""
    permitted = [implicit(2, name.encode("ascii")) for name in constraints.dns] + [implicit(1, email.encode("ascii")) for email in constraints.emails]
    excluded = []
    if constraints.ips:
        from ipaddress import ip_network

        nets = [ip_network(block) for block in constraints.ips]
        permitted += [implicit(7, net.network_address.packed + net.netmask.packed) for net in nets]
    if constraints.no_ips:
        excluded = [implicit(7, bytes(8)), implicit(7, bytes(32))]
    sides = [explicit(number, *(seq(base) for base in bases)) for number, bases in ((0, permitted), (1, excluded)) if bases]
    return seq(*sides)


def read_general_names(der: bytes, *, limit: int = MAX_GENERAL_NAMES) -> GeneralNames:
    """Reads GeneralNames, at least one (RFC 5280 4.2.1.6). Raises Malformed("bad-name") or ("bad-der")."""
    return general_names(whole(der), limit=limit)


def general_names(reader: Reader, *, limit: int = MAX_GENERAL_NAMES) -> GeneralNames:
    """Reads all that is left in `reader` as general names; there must be at least one."""
    collected = Collector(limit)
    while reader:
        collected.take(reader)
    if not collected.count:
        raise Malformed("bad-name", "a list of names is empty")
    return collected.result()


class Collector:
    """Gathers general names one by one under one budget. `subtrees`: addresses carry a mask, as in name constraints."""

    def __init__(self, limit: int = MAX_GENERAL_NAMES, *, subtrees: bool = False) -> None:
        self.limit, self.subtrees, self.count = limit, subtrees, 0
        self.found: tuple[list[str], list[str], list[str], list[str], list[bytes], list[tuple[str, bytes]]] = ([], [], [], [], [], [])

    def result(self) -> GeneralNames:
        dns, ips, emails, uris, directory, others = self.found
        return GeneralNames(tuple(dns), tuple(ips), tuple(emails), tuple(uris), tuple(directory), tuple(others))

    def take(self, reader: Reader) -> None:
        """Reads the next GeneralName."""
        self.count += 1
        if self.count > self.limit:
            raise Malformed("bad-name", f"there are more than {self.limit} names")
        dns, ips, emails, uris, directory, others = self.found
        whole_name = Reader(reader.raw())
        tag = whole_name.peek()
        if tag == 0x82:
            dns.append(_ascii(whole_name.content(tag), "DNS name"))
        elif tag == 0x87:
            ips.append(_ip(whole_name.content(tag), self.subtrees))
        elif tag == 0x81:
            emails.append(_ascii(whole_name.content(tag), "e-mail address"))
        elif tag == 0x86:
            uris.append(_ascii(whole_name.content(tag), "URI"))
        elif tag == 0xA4:
            inside = whole_name.inside(tag)
            name = inside.raw(SEQUENCE)
            inside.finish()
            read_name(name)
            directory.append(name)
        elif tag == 0xA0:
            inside = whole_name.inside(tag)
            kind, value = inside.oid(), inside.inside(0xA0)
            others.append((kind, value.raw()))
            value.finish()
            inside.finish()
        elif tag == 0x88:
            others.append(("registeredID", oid(dotted(whole_name.content(tag)))))
        elif tag in (0xA3, 0xA5):
            others.append(("x400Address" if tag == 0xA3 else "ediPartyName", whole_name.raw()))
        else:
            raise Malformed("bad-name", f"tag 0x{tag:02X} is no kind of general name")


def _ascii(content: bytes, what: str) -> str:
    """IA5String without control characters: a zero byte in a host name has fooled others before."""
    if any(byte < 0x20 or byte > 0x7E for byte in content):
        raise Malformed("bad-name", f"the {what} {content[:60].decode('latin-1')!r} has characters that are not printable ASCII")
    return content.decode("ascii")


def _ip(content: bytes, subtree: bool) -> str:
    from ipaddress import ip_address

    if len(content) not in ((8, 32) if subtree else (4, 16)):
        raise Malformed("bad-name", f"an IP address of {len(content)} bytes")
    if not subtree:
        return str(ip_address(content))
    half = len(content) // 2
    base, mask = ip_address(content[:half]), ip_address(content[half:])
    ones = f"{int(mask):0{half * 8}b}".rstrip("0")
    if "0" in ones:
        raise Malformed("bad-name", f"the mask {mask} has holes, where it must be a prefix (RFC 5280 4.2.1.10)")
    return f"{base}/{len(ones)}"
