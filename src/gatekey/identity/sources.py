"""What each web server says about its client, read into one Claim. Each reader gets the identity headers of a request and answers with a Claim or None: nobody.

What a header says is taken as data: anything unreadable is Malformed("identity-malformed"), never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import Malformed, Misconfigured
from . import headers as h
from .certificates import byte_sequence, first, one, percent_decoded

Said = Mapping[str, str]

#: Longest of the small values, in characters as they stand in the header: a display name is percent-encoded, three for one.
MAX_TEXT = 2048
MAX_LOGIN = 64
MAX_GROUPS = 500
MAX_SERIAL_DIGITS = 42  # 20 bytes, and a sign byte (RFC 5280 4.1.2.2)


class Claim(NamedTuple):
    """What a trusted speaker says. `certificate`: DER, from the header `header`; `fingerprint`: upper-case hex; what was not said is empty, groups None."""

    header: str = ""
    certificate: bytes = b""
    fingerprint: str = ""
    serial: str = ""
    issuer: str = ""
    login: str = ""
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] | None = None
    device: str = ""


Reader = Callable[[Said], Claim | None]


class Source(NamedTuple):
    """Where a web server puts the identity: the names of its headers and how they are read.

    `inside` sources are not headers at all: the app server itself knows who is there (`tls`: its own connection, `environ`: mod_wsgi), and nobody has
    to be trusted.
    """

    names: tuple[str, ...]
    read: Reader
    inside: str = ""


def certificate_header(certificate: str, verify: str = "", *, good: str = "SUCCESS") -> Source:
    """A source that is one header with the client's certificate in any of the forms of `certificates.one`, for configurations of your own.

    `verify` names a second header that must say `good` (nginx and Apache: SUCCESS; HAProxy's ssl_c_verify: 0).
    """
    cert, ok = certificate.lower(), verify.lower()

    def read(said: Said) -> Claim | None:
        value = _given(said, cert)
        if not value or (ok and said.get(ok) != good):
            return None
        return Claim(cert, certificate=one(cert, value))

    return Source((cert, ok) if ok else (cert,), read)


def gatekey_headers(*certificates: str) -> Source:
    """The headers that `gatekey webserver` writes (gatekey.model.headers): X-Client-*, and the certificate in one of `certificates`."""

    def read(said: Said) -> Claim | None:
        if said.get(h.VERIFY) != "SUCCESS":
            return None
        sent = [name for name in certificates if _given(said, name)]
        if len(sent) > 1:
            raise Malformed("identity-contradiction", f"the request has both {sent[0]} and {sent[1]}; one certificate is enough", header=sent[0])
        header = sent[0] if sent else ""
        claim = Claim(
            header,
            one(header, said[header]) if header else b"",
            serial=_serial(h.SERIAL, said.get(h.SERIAL, "")),
            issuer=_issuer(said.get(h.ISSUER, "")),
            login=_login(h.USER, said.get(h.USER, "")),
            name=_text(h.NAME, said.get(h.NAME, "")),
            email=_text(h.EMAIL, said.get(h.EMAIL, "")),
            groups=_groups(said[h.GROUPS]) if said.get(h.GROUPS) else None,  # empty: no groups, or nobody knows this certificate
            device=_text(h.DEVICE, said.get(h.DEVICE, "")),
        )
        return claim if claim.certificate or claim.login or claim.serial else None

    return Source((h.USER, h.NAME, h.EMAIL, h.GROUPS, h.DEVICE, h.SERIAL, h.ISSUER, h.VERIFY, *certificates), read)


def rfc9440(said: Said) -> Claim | None:
    """Client-Cert and Client-Cert-Chain of RFC 9440. The chain is only checked for its form."""
    value = _given(said, h.CLIENT_CERT)
    chain = said.get(h.CLIENT_CERT_CHAIN, "")
    if chain:
        if not value:
            raise _malformed(h.CLIENT_CERT_CHAIN, f"came without {h.CLIENT_CERT} (RFC 9440 2.3)")
        for member in chain.split(","):
            byte_sequence(h.CLIENT_CERT_CHAIN, member.strip(" \t"))
    return Claim(h.CLIENT_CERT, certificate=byte_sequence(h.CLIENT_CERT, value)) if value else None


def traefik(said: Said) -> Claim | None:
    """Traefik's passTLSClientCert: the certificate (`pem: true`), or `info` with at least issuer and serialNumber, which people.json must then know."""
    value = said.get(h.TRAEFIK_CERT, "")
    info = _traefik_info(said.get(h.TRAEFIK_INFO, ""))
    serial = ""
    if "SerialNumber" in info:
        digits = info["SerialNumber"]
        if not digits.isascii() or not digits.isdigit() or len(digits) > 50:
            raise _malformed(h.TRAEFIK_INFO, "has a serial number that is not decimal")
        serial = _hex(int(digits))
    if value:
        return Claim(h.TRAEFIK_CERT, certificate=first(h.TRAEFIK_CERT, value), serial=serial)
    if not info:
        return None
    if not serial or not info.get("Issuer"):
        raise _malformed(h.TRAEFIK_INFO, "has not both Issuer and SerialNumber, without which it names nobody; better pass the certificate: pem: true")
    return Claim(h.TRAEFIK_INFO, serial=serial, issuer=info["Issuer"])


def envoy(said: Said) -> Claim | None:
    """Envoy's x-forwarded-client-cert with SANITIZE_SET: exactly one element, with Cert, or with Hash, which people.json must then know."""
    value = said.get(h.XFCC, "")
    if not value:
        return None
    fields = _xfcc(value)
    fingerprint = fields.get("hash", "").upper()
    if fingerprint and (len(fingerprint) != 64 or not set(fingerprint) <= set("0123456789ABCDEF")):
        raise _malformed(h.XFCC, "has a Hash that is not 64 hex digits")
    if "cert" in fields:
        return Claim(h.XFCC, certificate=one(h.XFCC, fields["cert"]), fingerprint=fingerprint)
    if not fingerprint:
        raise _malformed(h.XFCC, "has neither Cert nor Hash; set_current_client_cert_details needs cert: true")
    return Claim(h.XFCC, fingerprint=fingerprint)


def mod_ssl(said: Said) -> Claim | None:
    """SSL_CLIENT_* as Apache's mod_ssl names them: in mod_wsgi's environ, or as request headers set from them. `(null)` is mod_headers' word for nothing."""
    values = {name: value for name, value in said.items() if value != "(null)"}
    if values.get("ssl_client_verify") != "SUCCESS":
        return None
    certificate = values.get("ssl_client_cert", "")
    claim = Claim(
        "ssl_client_cert",
        one("ssl_client_cert", certificate) if certificate else b"",
        serial=_serial("ssl_client_m_serial", values.get("ssl_client_m_serial", "")),
        issuer=_issuer(values.get("ssl_client_i_dn", "")),
        login=_login("ssl_client_s_dn_cn", values.get("ssl_client_s_dn_cn", "")),
    )
    return claim if claim.certificate or claim.login or claim.serial else None


MOD_SSL_NAMES = ("ssl_client_verify", "ssl_client_cert", "ssl_client_m_serial", "ssl_client_i_dn", "ssl_client_s_dn_cn")

#: By the word in `source=`. The first five are the configurations that `gatekey webserver` writes; nginx and Apache write the certificate as PEM, the others
#: as RFC 9440 has it.
SOURCES: dict[str, Source] = {
    "gatekey": gatekey_headers(h.CERT, h.CLIENT_CERT),
    "nginx": gatekey_headers(h.CERT),
    "apache": gatekey_headers(h.CERT),
    "haproxy": gatekey_headers(h.CLIENT_CERT),
    "caddy": gatekey_headers(h.CLIENT_CERT),
    "mod_ssl": Source(MOD_SSL_NAMES, mod_ssl),
    "mod_wsgi": Source(MOD_SSL_NAMES, mod_ssl, inside="environ"),
    "traefik": Source((h.TRAEFIK_CERT, h.TRAEFIK_INFO), traefik),
    "envoy": Source((h.XFCC,), envoy),
    "rfc9440": Source((h.CLIENT_CERT, h.CLIENT_CERT_CHAIN), rfc9440),
    "ingress-nginx": certificate_header("ssl-client-cert", "ssl-client-verify"),
    "tls": Source((), lambda _: None, inside="tls"),
}


def source_called(name: str) -> Source:
    """The source of that name. Raises Misconfigured("identity-source") with all names otherwise."""
    try:
        return SOURCES[name]
    except KeyError:
        words = ", ".join(SOURCES)
        raise Misconfigured("identity-source", f"there is no source {name!r}; it is one of {words}, or a certificate_header(...)") from None


def _given(said: Said, name: str) -> str:
    """A certificate's header, or "" for the ways in which servers say that there is none: HAProxy two colons, Caddy the placeholder itself."""
    value = said.get(name, "")
    return "" if value in ("::", "(null)") or value.lstrip(":").startswith("{http.request.tls.client.") else value


def _traefik_info(value: str) -> dict[str, str]:
    """The fields of the first certificate. Traefik escapes no quotes, so what could have been slipped into a field is refused: a doubled key, a stray quote."""
    if not value:
        return {}
    text = percent_decoded(h.TRAEFIK_INFO, value.replace("+", " "))
    fields: dict[str, str] = {}
    while text:
        key, equals, rest = text.partition('="')
        inner, quote, text = rest.partition('"')
        if not equals or not quote or not key.isalpha() or not key.isascii():
            raise _malformed(h.TRAEFIK_INFO, 'is not Key="value" pairs')
        if key in fields:
            raise _malformed(h.TRAEFIK_INFO, f"has {key} twice")
        fields[key] = inner
        if text[:1] == ",":  # the next certificate of the chain
            break
        if text and text[0] != ";":
            raise _malformed(h.TRAEFIK_INFO, "has something between two fields")
        text = text[1:]
    return fields


def _xfcc(value: str) -> dict[str, str]:
    r"""The one element of an XFCC header: key=value;key="quoted \"value\"", keys lower-cased. A second element is refused: somebody else wrote it."""
    fields: dict[str, str] = {}
    at, end = 0, len(value)
    while at < end:
        equals = value.find("=", at)
        if equals < 0 or not value[at:equals].isalpha():
            raise _malformed(h.XFCC, "is not key=value pairs")
        key = value[at:equals].lower()
        text, at = _quoted(value, equals + 1) if value[equals + 1 : equals + 2] == '"' else _bare(value, equals + 1)
        # DNS and URI stand there once for each name; of all else there is one.
        if key in fields and key not in {"dns", "uri", "by"}:
            raise _malformed(h.XFCC, f"has {key.capitalize()} twice")
        fields[key] = text
        if at < end and value[at] == ",":
            raise _malformed(h.XFCC, "has several elements; the proxy must replace what others said: forward_client_cert_details: SANITIZE_SET")
        if at < end and value[at] != ";":
            raise _malformed(h.XFCC, "has something between two pairs")
        at += 1
    return fields


def _bare(value: str, at: int) -> tuple[str, int]:
    stops = [stop for stop in (value.find(";", at), value.find(",", at)) if stop >= 0]
    end = min(stops, default=len(value))
    if '"' in value[at:end]:
        raise _malformed(h.XFCC, "has a quote inside a value")
    return value[at:end], end


def _quoted(value: str, at: int) -> tuple[str, int]:
    end = at + 1
    while True:
        end = value.find('"', end)
        if end < 0:
            raise _malformed(h.XFCC, "has a quoted value without an end")
        before = value[at + 1 : end]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return before.replace('\\"', '"'), end + 1
        end += 1


def _serial(name: str, value: str) -> str:
    """A serial in hex as OpenSSL prints it, in the form that is compared: upper case, at least 32 digits."""
    if not value:
        return ""
    if len(value) > MAX_SERIAL_DIGITS or not set(value) <= set("0123456789ABCDEFabcdef"):
        raise _malformed(name, "is not a serial number in hex")
    return _hex(int(value, 16))


def _hex(serial: int) -> str:
    return f"{serial:032X}"


def _issuer(value: str) -> str:
    """An issuer's name as OpenSSL prints it. Apache leaves bytes beyond ASCII as they are; OpenSSL escapes each, and so is it compared."""
    if not value:
        return ""
    if len(value) > MAX_TEXT or any(char < " " or char == "\x7f" for char in value):
        raise _malformed(h.ISSUER, "is too long or has control characters")
    return value if value.isascii() else "".join(char if char < "\x80" else f"\\{ord(char):02X}" for char in value)


def _login(name: str, value: str) -> str:
    if not value:
        return ""
    text = _text(name, value)
    if len(text) > MAX_LOGIN or "," in text or text != text.strip():
        raise _malformed(name, f"is not one name of at most {MAX_LOGIN} characters")
    return text


def _text(name: str, value: str) -> str:
    """Percent-encoded UTF-8 in printable ASCII; what comes out must be printable too. A bare comma means that a WSGI server joined two headers."""
    if not value:
        return ""
    if len(value) > MAX_TEXT or not value.isascii() or not value.isprintable() or "," in value:
        raise _malformed(name, f"is longer than {MAX_TEXT} characters, has some that are not printable ASCII, or a comma")
    text = percent_decoded(name, value) if "%" in value else value
    if not text.isprintable():
        raise _malformed(name, "has characters that do not print")
    return text


def _groups(value: str) -> tuple[str, ...]:
    parts = value.split(",")
    if len(parts) > MAX_GROUPS:
        raise _malformed(h.GROUPS, f"has {len(parts)} groups, which is more than the {MAX_GROUPS} that are read")
    groups = tuple(_text(h.GROUPS, part) for part in parts)
    if not all(groups):
        raise _malformed(h.GROUPS, "has an empty group")
    return groups


def _malformed(name: str, what: str) -> Malformed:
    return Malformed("identity-malformed", f"the header {name} {what}", header=name)
