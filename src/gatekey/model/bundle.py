"""The texts of the bundle folder out of values: deny lists and "who is who" in the form of each web server, and the manifest.

A certificate is found by issuer + serial, in the words in which the server itself prints them. Measured with nginx 1.22, Apache 2.4, HAProxy 2.6 and Caddy 2.6:

    server   serial                    issuer                                              key
    nginx    hex, two digits per byte  RFC 2253 as OpenSSL prints it                       "0A1B CN=kitty-ca people"; case does not count
    Apache   the same                  the same, but characters beyond ASCII are raw       0A1B_CN=kitty-ca%20people (int:escape)
    HAProxy  the same                  RFC 2253 as OpenSSL prints it                       0A1B%20CN%3Dkitty-ca%20people (url_enc)
    Caddy    decimal                   as Go prints it: an order of its own                "2587 CN=kitty-ca people"

Every text ends with a newline, has no double keys and is the same for the same input in any order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from ..errors import Malformed
from .headers import encode
from .instants import iso

#: Separates login, groups, e-mail, display name and device in the value of a "who is who" map; `encode` never leaves one inside a field.
FIELD_SEPARATOR = ";"


class Denied(NamedTuple):
    """A certificate that must not be let in: revoked, held or abandoned. `issuer_dn` as OpenSSL prints it in RFC 2253 form; `serial` in upper-case hex."""

    issuer_dn: str
    serial: str


class Known(NamedTuple):
    """A live certificate and whose it is.

    `issuer`: short name of the authority; `fingerprint`: SHA-256 of the certificate, upper-case hex; `not_after`: POSIX seconds.
    """

    issuer_dn: str
    issuer: str
    serial: str
    fingerprint: str
    login: str
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    device: str = ""
    not_after: int = 0


def texts(denied: Iterable[Denied], known: Iterable[Known], issuers: Iterable[str], made_at: int, chain: Iterable[bytes] = ()) -> dict[str, str]:
    """All text files of the bundle: file name -> text.

    `issuers`: DNs (RFC 2253) of the authorities that sign people and devices. `chain`: every certificate of people-chain.pem in DER.
    Raises Malformed("bad-issuer-name") for a DN that OpenSSL would not print, so that no name can ever write a line of configuration.
    """
    denied, known, issuers = sorted(set(denied)), sorted(set(known)), sorted(set(issuers))
    return {
        "revoked.map": revoked_map(denied),
        "revoked.txt": revoked_txt(denied),
        "revoked.lst": revoked_lst(denied),
        "revoked.caddy": revoked_caddy(denied),
        "issuers.map": issuers_map(issuers),
        "issuers.txt": issuers_txt(issuers),
        "issuers.lst": issuers_lst(issuers),
        "issuers.caddy": issuers_caddy(issuers),
        "people.json": people_json(known, made_at),
        "people.map": people_map(known),
        "people.txt": people_txt(known),
        "people.lst": people_lst(known),
        "people.caddy": people_caddy(known),
        "trust.caddy": trust_caddy(chain),
    }



def revoked_map(denied: Iterable[Denied]) -> str:
    """nginx: `"SERIAL ISSUER" 1;` per certificate that is not let in."""
    keys = (f'"{nginx_key(d.issuer_dn, d.serial)}"' for d in denied)
    return _lines("# nginx: certificates that are not let in, by serial and issuer", _unique_without_case(keys), " 1;")


def issuers_map(issuers: Iterable[str]) -> str:
    """nginx: `"ISSUER" 1;` per authority whose certificates are let in, for `map $ssl_client_i_dn`."""
    return _lines("# nginx: who may have issued a certificate", _unique_without_case(f'"{_nginx_text(dn)}"' for dn in issuers), " 1;")


def people_map(known: Iterable[Known]) -> str:
    """nginx: `"SERIAL ISSUER" "login;groups;email;name;device";`. All fields but the login are percent-encoded."""
    # nginx has no way to decode, so the login stands as it is: its alphabet (model.names.login_problem) has nothing that nginx reads.
    rows = ((f'"{nginx_key(k.issuer_dn, k.serial)}"', f' "{_person(k, _plain_login(k.login))}";') for k in known)
    return _pairs("# nginx: who is who, by serial and issuer", rows, fold=str.lower)


def nginx_key(issuer_dn: str, serial: str) -> str:
    """What `"$ssl_client_serial $ssl_client_i_dn"` is, escaped for a quoted nginx string."""
    return f"{server_serial(serial)} {_nginx_text(issuer_dn)}"



def revoked_txt(denied: Iterable[Denied]) -> str:
    """Apache: `KEY 1` per certificate that is not let in, after the line `present 0`.

    A list that Apache cannot read looks to it like an empty one: the configuration asks for `present` first, and without it nobody gets in.
    """
    keys = (key for d in denied for key in apache_keys(d.issuer_dn, d.serial))
    return _lines("# Apache: certificates that are not let in, by serial and issuer\npresent 0", dict.fromkeys(keys), " 1")


def issuers_txt(issuers: Iterable[str]) -> str:
    """Apache: `ISSUER 1` per authority whose certificates are let in."""
    return _lines("# Apache: who may have issued a certificate", dict.fromkeys(form for dn in issuers for form in _apache_forms(dn)), " 1")


def people_txt(known: Iterable[Known]) -> str:
    """Apache: `KEY login;groups;email;name;device`, all fields percent-encoded (the login is read back with int:unescape)."""
    rows = ((key, f" {_person(k, encode(k.login))}") for k in known for key in apache_keys(k.issuer_dn, k.serial))
    return _pairs("# Apache: who is who, by serial and issuer", rows)


def apache_keys(issuer_dn: str, serial: str) -> tuple[str, ...]:
    """What `SSL_CLIENT_M_SERIAL` + `_` + int:escape of `SSL_CLIENT_I_DN` is. Two forms when the name has a semicolon, which only newer ones leave alone."""
    return tuple(f"{server_serial(serial)}_{form}" for form in _apache_forms(issuer_dn))



def revoked_lst(denied: Iterable[Denied]) -> str:
    """HAProxy: `KEY` per certificate that is not let in."""
    return _lines("# HAProxy: certificates that are not let in, by serial and issuer", dict.fromkeys(haproxy_key(d.issuer_dn, d.serial) for d in denied), "")


def issuers_lst(issuers: Iterable[str]) -> str:
    """HAProxy: `ISSUER` (url_enc) per authority whose certificates are let in."""
    return _lines("# HAProxy: who may have issued a certificate", dict.fromkeys(_url_encoded(dn) for dn in issuers), "")


def people_lst(known: Iterable[Known]) -> str:
    """HAProxy: `KEY login;groups;email;name;device`, all fields percent-encoded (the login is read back with url_dec)."""
    return _pairs("# HAProxy: who is who, by serial and issuer", ((haproxy_key(k.issuer_dn, k.serial), f" {_person(k, encode(k.login))}") for k in known))


def haproxy_key(issuer_dn: str, serial: str) -> str:
    """What `ssl_c_serial,hex` + space + `ssl_c_i_dn(,0,rfc2253)` through `url_enc` is."""
    return f"{server_serial(serial)}%20{_url_encoded(issuer_dn)}"



def revoked_caddy(denied: Iterable[Denied]) -> str:
    """Caddy: `"DECIMAL ISSUER" 1` per certificate that is not let in."""
    return _lines("# Caddy: certificates that are not let in, by serial and issuer", dict.fromkeys(_caddy_key(d.issuer_dn, d.serial) for d in denied), " 1")


def issuers_caddy(issuers: Iterable[str]) -> str:
    """Caddy: `"ISSUER" 1` per authority whose certificates are let in."""
    names = (_caddy_token("", dn) for dn in issuers)
    return _lines("# Caddy: who may have issued a certificate", dict.fromkeys(filter(None, names)), " 1")


def people_caddy(known: Iterable[Known]) -> str:
    """Caddy: `"DECIMAL ISSUER" "login" "groups" "email" "name" "device"`. All fields but the login are percent-encoded."""
    keys = ((_caddy_token(f"{int(k.serial, 16)} ", k.issuer_dn), k) for k in known)
    rows = ((key, "".join(f' "{field}"' for field in _fields(k, _plain_login(k.login)))) for key, k in keys if key)
    return _pairs("# Caddy: who is who, by serial and issuer", rows)


def trust_caddy(chain: Iterable[bytes]) -> str:
    """Caddy: the certificates in DER that it trusts, for the body of `client_auth`. Of a file with several in PEM Caddy 2.6 reads the first only."""
    from base64 import b64encode

    # Without any, Caddy would trust every public authority: with this word it does not start.
    trusted = [b64encode(der).decode() for der in chain] or ["NOBODY"]
    return _lines("# Caddy: the authorities of people", (f"trusted_ca_cert {one}" for one in trusted), "")


def people_json(known: Iterable[Known], made_at: int) -> str:
    """`people.json`: every live certificate with all that is known of its holder."""
    people = [
        {
            "issuer_dn": k.issuer_dn,
            "issuer": k.issuer,
            "serial": k.serial,
            "fingerprint": k.fingerprint,
            "login": k.login,
            "name": k.name,
            "email": k.email,
            "groups": list(k.groups),
            "device": k.device,
            "not_after": iso(k.not_after),
        }
        for k in known
    ]
    head = json.dumps({"version": 1, "made_at": iso(made_at)})[:-1]
    encoded = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` makes such an encoder for each of them
    body = ",\n ".join(map(encoded, people))
    return f'{head}, "people": [\n {body}\n]}}\n' if people else f'{head}, "people": []}}\n'


def manifest(number: int, made_at: int, fresh_until: int, files: Mapping[str, bytes]) -> str:
    """`manifest.json`: the revocation number, how long the CRLs are good, and size and SHA-256 of every other file."""
    from hashlib import sha256  # loads OpenSSL: only where it is used

    listed = {name: {"sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in sorted(files.items())}
    return json.dumps({"version": 1, "number": number, "made_at": iso(made_at), "fresh_until": iso(fresh_until), "files": listed}, indent=1) + "\n"



def server_serial(serial: str) -> str:
    """A serial in hex as OpenSSL-based servers print it: upper case, no leading zero bytes, two digits per byte."""
    if len(serial) == 32 and serial[:2] != "00":
        return serial.upper()
    bare = serial.upper().lstrip("0")
    return bare.zfill(len(bare) + len(bare) % 2) or "00"


@lru_cache(maxsize=64)
def _checked(dn: str) -> str:
    """`dn` itself. Raises Malformed unless it is printable ASCII, which is all that OpenSSL prints of a name."""
    if not dn or any(not " " <= char <= "~" for char in dn):
        hint = "give it as `openssl x509 -noout -issuer -nameopt RFC2253` prints it"
        raise Malformed("bad-issuer-name", f"the issuer name {dn!r} is not in the form of RFC 2253 in ASCII", hint=hint)
    return dn


@lru_cache(maxsize=64)
def _nginx_text(dn: str) -> str:
    return _checked(dn).replace("\\", "\\\\").replace('"', '\\"')


def _plain_login(login: str) -> str:
    """`login` if it is made of a login's characters, otherwise percent-encoded: an imported name must not write configuration."""
    return login if re.fullmatch(r"[A-Za-z0-9._@ -]*", login) else encode(login)


_MSB = re.compile(rb"\\([0-9A-F]{2}|.)", re.DOTALL)


def _raw(dn: str) -> bytes:
    r"""`dn` with the escaped bytes beyond ASCII (`\C3\A4`) as bytes; escaped control characters stay as they are."""

    def unescape(match: re.Match[bytes]) -> bytes:
        pair = match[1]
        return bytes([int(pair, 16)]) if len(pair) == 2 and pair[0] in b"89ABCDEF" else match[0]

    return _MSB.sub(unescape, _checked(dn).encode("ascii"))


_APACHE_LEAVES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789$-_.+!*'(),:@&=/~;")


@lru_cache(maxsize=64)
def _apache_forms(dn: str) -> tuple[str, ...]:
    # ap_escape_uri: lower-case hex; the semicolon joined the characters it leaves alone in 2.4.
    form = "".join(chr(byte) if byte in _APACHE_LEAVES else f"%{byte:02x}" for byte in _raw(dn))
    return (form, form.replace(";", "%3b")) if ";" in form else (form,)


@lru_cache(maxsize=64)
def _url_encoded(dn: str) -> str:
    return "".join(char if char.isalnum() or char in "-._~" else f"%{ord(char):02X}" for char in _checked(dn))


#: Attribute types by OpenSSL's name -> Go's name, in the order in which Go's pkix.Name.String() prints them whatever their order in the name.
_GO_TYPES = {
    "serialNumber": "SERIALNUMBER",
    "CN": "CN",
    "OU": "OU",
    "O": "O",
    "postalCode": "POSTALCODE",
    "street": "STREET",
    "L": "L",
    "ST": "ST",
    "C": "C",
}
#: Attribute types that Go prints after those, as `1.2.3=#` and the DER of the value as Go itself would encode it.
_GO_NUMBERS = {"emailAddress": "1.2.840.113549.1.9.1", "DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1"}
_ATTRIBUTE = re.compile(r"(^|[,+])([^=,+]+)=((?:\\.|[^\\,+])*)")


@lru_cache(maxsize=64)
def _go_name(dn: str) -> tuple[str, bool]:
    """`dn` as Go prints it, and whether that is certain: it is not for rare or doubled attribute types and for control characters."""
    raw = _raw(dn).decode("utf-8", "replace")
    found = _ATTRIBUTE.findall(raw)
    certain = "".join(f"{s}{kind}={value}" for s, kind, value in found) == raw and not re.search("\ufffd|" + r"\\[0-9A-F]{2}", raw)
    named: dict[str, list[str]] = {}
    rest = []
    for separator, kind, value in found:
        certain = certain and separator != "+" and (kind in _GO_TYPES or kind in _GO_NUMBERS)
        if kind in _GO_TYPES:
            named.setdefault(kind, []).insert(0, f"{_GO_TYPES[kind]}={value}")  # of one type: together, and in the certificate's order
        elif kind in _GO_NUMBERS:
            text = re.sub(r"\\(.)", r"\1", value).encode()
            tag = "13" if re.fullmatch(rb"[A-Za-z0-9 '()+,./:=?*&-]*", text) else "0c"
            certain = certain and len(text) < 128
            rest.append(f"{_GO_NUMBERS[kind]}=#{tag}{len(text):02x}{text.hex()}")
    certain = certain and all(len(named.get(kind, ())) < 2 for kind in ("CN", "serialNumber"))
    return ",".join([*("+".join(named[kind]) for kind in _GO_TYPES if kind in named), *rest]), certain


def _caddy_token(before: str, dn: str) -> str:
    """`before` and the issuer as one token of a Caddyfile, or "" where Go's form is not certain or a Caddyfile cannot say it."""
    name, certain = _go_name(dn)
    # Between double quotes \" stands for a bare quote, so a name with quotes goes between backticks; a brace may be a placeholder.
    quote = "`" if '"' in name else '"'
    return f"{quote}{before}{name}{quote}" if certain and quote not in name and "{" not in name else ""


def _caddy_key(dn: str, serial: str) -> str:
    """A key for the deny list. Where the issuer cannot be written the serial counts under any issuer: closed rather than open."""
    number = int(serial, 16)
    return _caddy_token(f"{number} ", dn) or f'"~^{number} "'


def _fields(known: Known, login: str) -> tuple[str, ...]:
    return (login, ",".join(encode(group) for group in known.groups), encode(known.email), encode(known.name), encode(known.device))


def _person(known: Known, login: str) -> str:
    return FIELD_SEPARATOR.join(_fields(known, login))


def _unique_without_case(keys: Iterable[str]) -> Iterable[str]:
    # nginx compares without case and refuses to start when a key stands twice.
    return {key.lower(): key for key in keys}.values()


def _lines(head: str, keys: Iterable[str], end: str) -> str:
    return "\n".join([head, *(f"{key}{end}" for key in keys), ""])


def _pairs(head: str, rows: Iterable[tuple[str, str]], *, fold: Callable[[str], str] = str) -> str:
    """Lines of key and value. A key that stands for two people is left out: nobody gets the other's name. `fold`: how the server compares keys."""
    found: dict[str, str] = {}
    doubled: set[str] = set()
    for key, value in rows:
        if found.setdefault(fold(key), f"{key}{value}") != f"{key}{value}":
            doubled.add(fold(key))
    return "\n".join([head, *(line for key, line in found.items() if key not in doubled), ""])
