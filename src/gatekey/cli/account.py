"""A readable account of a certificate, request, CRL, PKCS#12 or key in plain words, and the same as values for --json. Never shows a private key."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import GatekeyError
from ..model import keytypes
from ..model.instants import DAY, FOREVER, HOUR, iso
from ..x509 import names, oids, signature, spki
from ..x509.certificate import Certificate, Constraints, read_certificate
from ..x509.crl import Crl, Revoked, read_crl
from ..x509.csr import proof_problem, read_csr
from ..x509.names import GeneralNames

#: Entries of a CRL that are told one by one: to people, and in JSON.
SHOWN_ENTRIES, LISTED_ENTRIES = 20, 10_000

_USES = {
    "clientAuth": "signing in as a client (clientAuth)",
    "serverAuth": "serving web sites (serverAuth)",
    "codeSigning": "signing programs (codeSigning)",
    "emailProtection": "protecting e-mail (emailProtection)",
    "timeStamping": "time stamps (timeStamping)",
    "OCSPSigning": "answering OCSP (OCSPSigning)",
    "anyExtendedKeyUsage": "anything (anyExtendedKeyUsage)",
}
#: Extensions that have a line of their own below.
_TOLD = frozenset(
    (
        oids.BASIC_CONSTRAINTS,
        oids.KEY_USAGE,
        oids.EXTENDED_KEY_USAGE,
        oids.SUBJECT_ALT_NAME,
        oids.SUBJECT_KEY_ID,
        oids.AUTHORITY_KEY_ID,
        oids.CRL_DISTRIBUTION_POINTS,
        oids.AUTHORITY_INFO_ACCESS,
        oids.NAME_CONSTRAINTS,
    )
)


class _Line(NamedTuple):
    """One line: its key in JSON ("" for none), its name and text for people ("" for none), its value in JSON."""

    key: str
    name: str
    text: str
    value: Any


def account(kind: str, der: bytes, *, now: int | None = None, password: str | None = None) -> list[tuple[str, str]]:
    """Lines of (name, text) about one object; `kind` as `x509.sniff` tells it. A text may have several lines.

    `now` (POSIX seconds) adds how long it still holds. `password` opens a PKCS#12 or an encrypted key; without it only the outside is described.
    Raises Malformed where the object cannot be read, or where the password is wrong.
    """
    return [(line.name, line.text) for line in _lines(kind, der, now, password) if line.name]


def account_json(kind: str, der: bytes, *, now: int | None = None, password: str | None = None) -> dict[str, Any]:
    """The same as values for JSON: times as ISO 8601 in UTC, serials and fingerprints as hex."""
    return {line.key: line.value for line in _lines(kind, der, now, password) if line.key}


def _lines(kind: str, der: bytes, now: int | None, password: str | None) -> list[_Line]:
    if kind == "certificate":
        return _certificate(read_certificate(der), now)
    if kind == "csr":
        return _csr(der)
    if kind == "crl":
        return _crl(read_crl(der), now)
    if kind == "pkcs12":
        return _pkcs12(der, now, password)
    if kind == "public-key":
        return [_what("public-key", "a public key"), *_key(der)]
    if kind in ("private-key", "encrypted-private-key"):
        return _private_key(der, password)
    words = {"pkcs7": "a PKCS#7 (CMS) file", "ocsp-response": "an OCSP response"}.get(kind, "something that is not read here")
    return [_what(kind, words), _Line("size", "size", f"{len(der)} bytes", len(der))]


def _what(kind: str, words: str) -> _Line:
    return _Line("kind", "this is", words, kind)


# Certificates


def _certificate(certificate: Certificate, now: int | None) -> list[_Line]:
    shown = names.display
    lines = [
        _what("certificate", _role(certificate)),
        _Line("subject", "subject", shown(certificate.subject) or "(empty)", shown(certificate.subject)),
        _Line("common_name", "", "", certificate.common_name),
        *_names(certificate.names),
        _Line("issuer", "issuer", shown(certificate.issuer) + (" (itself)" if certificate.self_issued else ""), shown(certificate.issuer)),
        _Line("serial", "serial", certificate.serial, certificate.serial),
        *_validity(certificate, now),
        *_key(certificate.spki),
        _Line("usage", "good for", _usage(certificate), list(certificate.extended) if certificate.extended is not None else None),
        _Line("key_usage", "key usage", _listed(certificate.key_usage), list(certificate.key_usage) if certificate.key_usage is not None else None),
        *_authority(certificate),
        *_places(certificate),
        _Line("key_id", *_hex("key id", certificate.key_id)),
        _Line("authority_key_id", *_hex("issuer's key id", certificate.authority_key_id)),
        _Line("signature", "signed with", signature.describe(certificate.algorithm), signature.describe(certificate.algorithm)),
        _Line("sha256", "SHA-256", certificate.fingerprint, certificate.fingerprint),
    ]
    others = [one for one in certificate.extensions if one.oid not in _TOLD]
    text = ", ".join(oids.name(one.oid) + (" (critical)" if one.critical else "") for one in others)
    lines.append(_Line("other_extensions", "also says" if others else "", text, [{"oid": one.oid, "critical": one.critical} for one in others]))
    return lines


def _role(certificate: Certificate) -> str:
    """What it is for, in one phrase."""
    extended = certificate.extended or ()
    if certificate.ca:
        return "the certificate of a root authority" if certificate.self_issued else "the certificate of an issuing authority"
    if "clientAuth" in extended and "serverAuth" in extended:
        return "a certificate for a client and a server"
    if "clientAuth" in extended:
        return "a certificate for a client"
    if "serverAuth" in extended:
        return "a certificate for a server"
    if "OCSPSigning" in extended:
        return "a certificate of an OCSP responder"
    return "a certificate signed by itself" if certificate.self_issued else "a certificate"


def _names(general: GeneralNames) -> list[_Line]:
    """The alternative names, a line for each kind that is there; in JSON every kind that Gatekey issues."""
    lines = [
        _Line("dns", "host names" if general.dns else "", "\n".join(general.dns), list(general.dns)),
        _Line("ips", "addresses" if general.ips else "", "\n".join(general.ips), list(general.ips)),
        _Line("emails", "e-mail" if general.emails else "", "\n".join(general.emails), list(general.emails)),
    ]
    rest = [*general.uris, *(names.display(name) for name in general.directory), *(oids.name(kind) for kind, _ in general.others)]
    if rest:
        lines.append(_Line("other_names", "other names", "\n".join(names.printable(name) for name in rest), rest))
    return lines


def _validity(certificate: Certificate, now: int | None) -> list[_Line]:
    since, until = iso(certificate.not_before), iso(certificate.not_after)
    text, state = until, None
    if certificate.not_after >= FOREVER:
        text = f"{until} (for ever)"
    elif now is not None:
        text = f"{until} ({_distance(certificate.not_after, now)})"
    if now is not None:
        state = "not-yet-valid" if now < certificate.not_before else "expired" if now > certificate.not_after else "valid"
    start = f"{since} (not yet)" if state == "not-yet-valid" else since
    lines = [_Line("not_before", "valid from", start, since), _Line("not_after", "valid until", text, until)]
    return [*lines, _Line("state", "", "", state)] if state else lines


def _distance(then: int, now: int) -> str:
    """`in 34 days`, `expired 2 hours ago`."""
    seconds = abs(then - now)
    size, word = (DAY, "day") if seconds >= DAY else (HOUR, "hour")
    count = seconds // size
    amount = f"{count} {word}{'' if count == 1 else 's'}" if count else "moments"
    return f"in {amount}" if then >= now else f"expired {amount} ago"


def _key(der: bytes) -> list[_Line]:
    """The public key: its kind, and the hash that tells one key from another."""
    try:
        key = spki.read_spki(der)
    except GatekeyError as problem:
        return [_Line("key", "public key", problem.message, None)]
    words = keytypes.display(key.label) if key.label else key.described
    if key.exponent not in (0, 65537):
        words += f", exponent {key.exponent}"
    return [_Line("key", "public key", words, key.label or key.described), _Line("key_sha256", "key SHA-256", key.sha256.upper(), key.sha256.upper())]


def _usage(certificate: Certificate) -> str:
    """What the extended key usage allows, in words."""
    if certificate.extended is None:
        return "signing certificates" if certificate.ca else "anything that its key usage allows (no extended key usage)"
    return "\n".join(_USES.get(use, use) for use in certificate.extended)


def _listed(values: tuple[str, ...] | None) -> str:
    return "not limited" if values is None else ", ".join(values) or "none"


def _authority(certificate: Certificate) -> list[_Line]:
    """What a CA may do below itself."""
    lines = [_Line("ca", "", "", certificate.ca)]
    if certificate.ca:
        length = certificate.path_length
        text = "any number" if length is None else "none: it signs end certificates only" if length == 0 else f"at most {length}"
        lines.append(_Line("path_length", "CAs below it", text, length))
    if certificate.constraints:
        value = _constraints(certificate.constraints)
        sides = [f"{word} {kind} {name}" for word, kinds in value.items() for kind, found in kinds.items() for name in found]
        lines.append(_Line("name_constraints", "limited to", "\n".join(sides), value))
    return lines


def _constraints(constraints: Constraints) -> dict[str, dict[str, list[str]]]:
    words = (("permitted", constraints.permitted), ("excluded", constraints.excluded))
    return {word: _by_kind(side) for word, side in words if side.total}


def _by_kind(side: GeneralNames) -> dict[str, list[str]]:
    found = {
        "DNS": list(side.dns),
        "IP": list(side.ips),
        "email": list(side.emails),
        "URI": list(side.uris),
        "name": [names.display(name) for name in side.directory],
        "other": [oids.name(kind) for kind, _ in side.others],
    }
    return {kind: listed for kind, listed in found.items() if listed}


def _places(certificate: Certificate) -> list[_Line]:
    """Where CRL, issuer and OCSP responder are found."""
    told = (
        ("crl_urls", "CRL at", certificate.crl_urls),
        ("issuer_urls", "issuer at", certificate.issuer_urls),
        ("ocsp_urls", "OCSP at", certificate.ocsp_urls),
    )
    return [_Line(key, name if urls else "", "\n".join(urls), list(urls)) for key, name, urls in told]


def _hex(name: str, value: bytes | None) -> tuple[str, str, str | None]:
    text = value.hex().upper() if value else ""
    return (name if text else "", text, text or None)


# Requests


def _csr(der: bytes) -> list[_Line]:
    csr = read_csr(der)
    problem = proof_problem(csr)
    unproven = f"NO: {problem.message}; whoever sends it has not shown that the key is theirs" if problem else ""
    subject = names.display(csr.subject)
    asked = GeneralNames(dns=csr.names.dns, ips=csr.names.ips, emails=csr.names.emails)
    lines = [
        _what("csr", "a request for a certificate"),
        _Line("subject", "subject", subject or "(empty)", subject),
        _Line("common_name", "", "", csr.names.common_name),
        *_names(asked),
        *_key(csr.spki),
        _Line("proof", "signed by its key", unproven or "yes", not unproven),
        _Line("signature", "signed with", signature.describe(csr.algorithm), signature.describe(csr.algorithm)),
    ]
    text = "\n".join(csr.wants)
    lines.append(_Line("wants", "also asks for" if text else "", f"{text}\n(never granted: we take the key and the names only)", list(csr.wants)))
    return lines


# Revocation lists


def _crl(crl: Crl, now: int | None) -> list[_Line]:
    until = iso(crl.next_update) if crl.next_update is not None else None
    text = until or "not said"
    if now is not None and crl.next_update is not None:
        text += f" ({_distance(crl.next_update, now)})"
    state = None if now is None else "not-yet-valid" if now < crl.this_update else "expired" if crl.next_update is None or now > crl.next_update else "fresh"
    what = "a list of changes to a CRL (delta CRL)" if crl.is_delta else "a list of revoked certificates (CRL)"
    lines = [
        _what("crl", what),
        _Line("issuer", "issuer", names.display(crl.issuer), names.display(crl.issuer)),
        _Line("number", "number", "not said" if crl.number is None else str(crl.number), crl.number),
        _Line("this_update", "made", iso(crl.this_update), iso(crl.this_update)),
        _Line("next_update", "good until", text, until),
        *([_Line("state", "", "", state)] if state else []),
        _Line("delta", "changes since" if crl.is_delta else "", f"number {crl.base_number}", crl.base_number),
        *_scope(crl),
        _Line("authority_key_id", *_hex("issuer's key id", crl.authority_key_id)),
        _Line("signature", "signed with", signature.describe(crl.algorithm), signature.describe(crl.algorithm)),
        _Line("count", "revoked", f"{crl.count} certificate{'' if crl.count == 1 else 's'}", crl.count),
    ]
    return [*lines, *_entries(crl)]


def _scope(crl: Crl) -> list[_Line]:
    """What the CRL does not speak about: a web server that takes it for a full one lets people in, or locks all out."""
    if not crl.scope:
        return [_Line("scope", "", "", None)]
    scope = crl.scope
    words = [
        *(["certificates of people and servers only"] if scope.only_user else []),
        *(["CA certificates only"] if scope.only_ca else []),
        *(["attribute certificates only"] if scope.only_attribute else []),
        *(["some reasons only"] if scope.only_reasons is not None else []),
        *(["certificates of other issuers too (indirect)"] if scope.indirect else []),
        *([f"certificates that name {', '.join(scope.full.uris) or 'its distribution point'}"] if scope.full else []),
    ]
    return [_Line("scope", "is about", "\n".join(words) or "everything of its issuer", words)]


def _entries(crl: Crl) -> list[_Line]:
    told: list[dict[str, Any]] = []
    lines: list[str] = []
    for number, entry in enumerate(crl.entries()):
        if number == LISTED_ENTRIES:
            break
        told.append(_entry(entry))
        if number < SHOWN_ENTRIES:
            lines.append(f"{entry.serial}  {iso(entry.at)}  {entry.reason}")
    if crl.count > SHOWN_ENTRIES:
        lines.append(f"... and {crl.count - SHOWN_ENTRIES} more")
    return [_Line("entries", "entries" if lines else "", "\n".join(lines), told), _Line("entries_left_out", "", "", max(crl.count - len(told), 0))]


def _entry(entry: Revoked) -> dict[str, Any]:
    told: dict[str, Any] = {"serial": entry.serial, "at": iso(entry.at), "reason": entry.reason}
    return told | ({"issuer": names.display(entry.issuer)} if entry.issuer else {})


# Keys and what carries them


def _pkcs12(der: bytes, now: int | None, password: str | None) -> list[_Line]:
    from ..x509 import pkcs12

    found = pkcs12.account(der)
    parts = [f"{part.holds}: {part.encryption or 'not encrypted'}{f', {part.iterations} iterations' if part.iterations else ''}" for part in found.parts]
    lines = [
        _what("pkcs12", "a PKCS#12 file: a private key with its certificate, under a password"),
        _Line("mac", "protected by", f"{found.mac}, {found.mac_iterations} iterations" if found.mac else "nothing (no MAC)", found.mac or None),
        _Line("mac_iterations", "", "", found.mac_iterations),
        _Line("parts", "holds", "\n".join(parts), [part._asdict() for part in found.parts]),
        _Line("target", "", "", _target(found)),
    ]
    friendly = next((part.friendly_name for part in found.parts if part.friendly_name), "")
    if password is None:
        lines.append(_Line("friendly_name", "goes by" if friendly else "", friendly, friendly))
        lines.append(_Line("", "inside", "give its password to see the certificate (--password-file)", None))
        return lines
    opened = pkcs12.read(der, password)
    leaf = read_certificate(opened.certificate)
    chain = [names.display(read_certificate(one).subject) for one in opened.chain]
    lines.append(_Line("friendly_name", "goes by", opened.friendly_name, opened.friendly_name))
    lines.append(_Line("chain", "with issuers" if chain else "", "\n".join(chain), chain))
    inner = _certificate(leaf, now)
    value = {line.key: line.value for line in inner if line.key}
    return [*lines, _Line("certificate", "", "", value), *(line._replace(key="", name="inside" if line.key == "kind" else line.name) for line in inner)]


def _target(found: Any) -> str | None:  # pkcs12.Account, which is imported only with a PKCS#12 at hand
    """Which of our targets the file looks like, or None."""
    schemes = {part.encryption for part in found.parts}
    if schemes == {"pbeWithSHA1And3-KeyTripleDES-CBC"} and found.mac == "HMAC-SHA1":
        return "any"
    return "modern" if schemes == {"PBES2, AES-256-CBC, PBKDF2-HMAC-SHA256"} and found.mac == "HMAC-SHA256" else None


def _private_key(der: bytes, password: str | None) -> list[_Line]:
    from ..x509 import pkcs8

    if der.startswith(b"-----"):
        scheme, iterations = "OpenSSL's old PEM encryption, which is weak", None
    elif pkcs8.is_encrypted(der):
        found, _ = pkcs8.encryption(der)
        scheme, iterations = found.described, found.iterations or None
    else:
        lines = [_what("private-key", "a private key, NOT encrypted: whoever reads this file has it"), _Line("encryption", "", "", None)]
        return lines + _key(pkcs8.public_key(pkcs8.unlock(der, None)))
    text = scheme + (f", {iterations} iterations" if iterations else "")
    lines = [_what("encrypted-private-key", "a private key under a passphrase"), _Line("encryption", "encrypted with", text, scheme)]
    lines.append(_Line("iterations", "", "", iterations))
    if password is None:
        return [*lines, _Line("", "inside", "give its passphrase to see what kind of key it is (--password-file)", None)]
    return lines + _key(pkcs8.public_key(pkcs8.unlock(der, password.encode())))
