"""Certificate signing requests (PKCS#10, RFC 2986): written for `gatekey request`, and read strictly from anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import Malformed
from ..model.names import MAX_NAMES, Names
from . import names, oids
from . import signature as signatures
from .certificate import Extension, extension, extension_list, read_extended, read_key_usage
from .der import BOOLEAN, SEQUENCE, SET, Reader, bits, explicit, integer, oid, seq, set_of, whole
from .spki import read_spki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Budgets of what is read: bytes of a request, attributes in it.
MAX_BYTES = 64 * 1024
MAX_ATTRIBUTES = 32

#: Attributes that tell about the machine that asks and want nothing: certreq and Windows enrolment send them.
_IDLE = (oids.MS_OS_VERSION, oids.MS_ENROLLMENT_CSP, oids.MS_REQUEST_CLIENT_INFO)


class Csr(NamedTuple):
    """What a request says. `names`: its common name, and the DNS names (lower case), addresses and e-mails that it asks for, each once.

    `info` is what its signature is over. `wants`: everything else that it asks for, in words for people; none of it is ever granted.
    `challenge`: its challengePassword, or ""; a secret. `extensions`: what it asks for as extensions, unread.
    """

    der: bytes
    info: bytes
    names: Names
    subject: bytes
    spki: bytes
    algorithm: bytes
    signature: bytes
    wants: tuple[str, ...] = ()
    challenge: str = ""
    extensions: tuple[Extension, ...] = ()


def encode_csr(asked: Names, spki: bytes, key_type: str, sign: Callable[[bytes], bytes]) -> bytes:
    """A request for these names and this key, DER, with the names in an extensionRequest (RFC 2985 5.4.2). `sign` signs the bytes that it is given."""
    attributes = b""
    if asked.alternatives:
        san = extension(oids.SUBJECT_ALT_NAME, names.encode_general_names(asked), critical=not asked.common_name)
        attributes = seq(oid(oids.EXTENSION_REQUEST), set_of(seq(san)))
    info = seq(integer(0), names.encode_name(asked.common_name), spki, explicit(0, attributes))
    return seq(info, signatures.algorithm(key_type), bits(sign(info)))


def proof_holds(csr: Csr) -> bool:
    """Whether the request was signed with the private half of its own key."""
    return signatures.verify(csr.spki, csr.algorithm, csr.signature, csr.info)


def proof_problem(csr: Csr) -> Malformed | None:
    """Why a request does not show that whoever sends it has the key, or None: the key itself, then how it is signed, then the signature."""
    try:
        public = read_spki(csr.spki)
    except Malformed as bad:
        return bad
    holds = proof_holds(csr)
    if not public.label and not holds:
        return Malformed("key-unknown", f"the key of the request is {public.described}, which is not known here", hint="make a new key: gatekey request")
    if not signatures.supported(csr.algorithm):
        how = signatures.describe(csr.algorithm)
        hint = "sign it with SHA-256, -384 or -512: openssl req -new -sha256 -key NAME.key -out NAME.csr"
        return Malformed("signature-not-accepted", f"the request is signed with {how}, which is not accepted", hint=hint, found=how)
    if not holds:
        return Malformed("bad-proof", "the request is not signed by its own key", hint="make the request again with the private key at hand")
    return None


def proven(found: Sequence[tuple[str, bytes]]) -> Csr | None:
    """The one request among the things that a file holds (their kind and DER), once its proof holds; None when there is none. Raises Malformed."""
    request = unproven(found)
    if request and (problem := proof_problem(request)):
        raise problem
    return request


def unproven(found: Sequence[tuple[str, bytes]]) -> Csr | None:
    """The same before its proof (`proof_problem`): until that was looked at, anybody may have written it. Raises Malformed."""
    requests = list(dict.fromkeys(der for kind, der in found if kind == "csr"))
    if not requests:
        return None
    if len(requests) > 1:
        raise Malformed("several-requests", f"there are {len(requests)} requests in it, and nobody can say which is meant", hint="give one at a time")
    return read_csr(requests[0])


def read_csr(der: bytes) -> Csr:
    """Reads a request strictly; its signature is checked by `proof_problem`. Raises Malformed("bad-csr") in a sentence."""
    if len(der) > MAX_BYTES:
        raise _bad(f"it has {len(der)} bytes, more than the {MAX_BYTES} that are read")
    try:
        return _read(der)
    except Malformed as error:
        raise _bad(error.message) if error.code != "bad-csr" else error from None


def _bad(why: str) -> Malformed:
    return Malformed("bad-csr", f"this is not a certificate signing request that can be read: {why}")


def _read(der: bytes) -> Csr:
    outer = whole(der)
    info, algorithm, signed = outer.raw(SEQUENCE), outer.raw(SEQUENCE), outer.whole_bits()
    outer.finish()
    reader = whole(info)
    if (version := reader.integer()) != 0:
        raise _bad(f"its version is {version + 1}, and only 1 exists")
    subject, spki = reader.raw(SEQUENCE), reader.raw(SEQUENCE)
    attributes = _attributes(reader.inside(0xA0)) if reader else {}
    reader.finish()
    common, wants = _subject(subject)
    challenge, extensions = "", tuple[Extension, ...]()
    for kind, value in attributes.items():
        if kind in (oids.EXTENSION_REQUEST, oids.MS_EXTENSION_REQUEST):
            if extensions:
                raise _bad("it asks for extensions twice")
            extensions = extension_list(whole(value))
        elif kind == oids.CHALLENGE_PASSWORD:
            text = Reader(value)
            challenge = text.text()
            text.finish()
            wants.append("a challenge password")
        elif kind not in _IDLE:
            wants.append(f"the attribute {oids.name(kind)}")
    general = names.GeneralNames()
    for one in extensions:
        if one.oid == oids.SUBJECT_ALT_NAME:
            general = names.read_general_names(one.value, limit=MAX_NAMES)
            wants += _other_names(general)
        else:
            wants.append(_wish(one))
    asked = Names(common, _once(name.lower() for name in general.dns), _once(general.ips), _once(general.emails))
    return Csr(der, info, asked, subject, spki, algorithm, signed, tuple(wants), challenge, extensions)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _attributes(reader: Reader) -> dict[str, bytes]:
    """Attributes by type, each with the DER of its single value (all that are used here are single-valued: RFC 2985 5.4)."""
    found: dict[str, bytes] = {}
    while reader:
        attribute = reader.inside()
        kind, values = attribute.oid(), attribute.inside(SET)
        attribute.finish()
        if kind in found:
            raise _bad(f"the attribute {oids.name(kind)} stands there twice")
        if len(found) == MAX_ATTRIBUTES:
            raise _bad(f"it has more than {MAX_ATTRIBUTES} attributes")
        found[kind] = values.raw()
        if values and kind in (oids.EXTENSION_REQUEST, oids.MS_EXTENSION_REQUEST, oids.CHALLENGE_PASSWORD):
            raise _bad(f"the attribute {oids.name(kind)} has more than one value")
        while values:
            values.raw()
    return found


def _subject(der: bytes) -> tuple[str, list[str]]:
    """The common name, and what else the subject would like to hold."""
    common, wants = list[str](), list[str]()
    for rdn in names.read_name(der):
        for kind, text in rdn:
            if kind == oids.COMMON_NAME:
                common.append(text)
            elif text:
                wants.append(f"{oids.name(kind)}={names.printable(text)} in the subject")
    if len(common) > 1:
        raise _bad(f"its subject has {len(common)} common names; ask for one")
    return "".join(common), wants


def _other_names(general: names.GeneralNames) -> list[str]:
    return [
        *(f"the URI {names.printable(uri)}" for uri in general.uris),
        *(f"the directory name {names.display(name)}" for name in general.directory),
        *(f"a name of the kind {oids.name(kind)}" for kind, _ in general.others),
    ]


def _wish(one: Extension) -> str:
    """One requested extension in words."""
    if one.oid == oids.KEY_USAGE:
        return "key usage " + ", ".join(read_key_usage(one.value))
    if one.oid == oids.EXTENDED_KEY_USAGE:
        return "extended key usage " + ", ".join(read_extended(one.value))
    if one.oid == oids.BASIC_CONSTRAINTS:
        # Many tools write cA FALSE out in full, which is no DER and no harm in a wish.
        basic = whole(one.value)
        return "to be a CA" if basic.peek() == BOOLEAN and basic.boolean() else "not to be a CA"
    return f"the extension {oids.name(one.oid)}"
