"""Whether a published bundle may reach a web server: whole, of the pinned root, signed, fresh, complete, and not older than the one before. Pure.

Three questions, asked in this order: `understood` (whole and right in itself), `admitted` (ours, and not older), `in_time` (good at this moment). Each
raises with one sentence; what got past all three is what nginx, Apache, HAProxy and Caddy read without locking everybody out or letting the revoked in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from ..errors import GatekeyError, Malformed, Refused
from ..model import bundle as texts
from ..model.bundle import Denied, Known
from ..model.instants import iso, parse_instant
from ..x509 import names, pem, signature
from ..x509.certificate import Certificate, read_certificate
from ..x509.crl import Crl, Scope, read_crl
from .agent_server import CHAIN, CRLS, MANIFEST

#: Budgets: bytes of the manifest, of all files together, files, certificates in the chain, steps from an authority to its root.
MOST_MANIFEST = 1024 * 1024
MOST_BYTES = 1024 * 1024 * 1024
MOST_FILES = 200
MOST_AUTHORITIES = 64
MOST_STEPS = 8

T = TypeVar("T")

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OLDER = "if the authority was really set back: gatekey agent --once --accept-older"


class Manifest(NamedTuple):
    """`manifest.json`: the revocation number, when it was made (POSIX seconds), and SHA-256 (lower-case hex) and size of each file by its name."""

    number: int
    made_at: int
    files: dict[str, tuple[str, int]]


class CrlFacts(NamedTuple):
    """One CRL: whose (name, SHA-256 of the public key in hex), its number, how many it lists, and from when until when it is good (POSIX seconds)."""

    issuer: str
    key: str
    number: int
    entries: int
    this_update: int
    next_update: int


class Bundle(NamedTuple):
    """A bundle that is right in itself. `roots`: SHA-256 fingerprint -> name; `authorities`: the chain."""

    contents: Mapping[str, bytes]
    number: int
    made_at: int
    roots: dict[str, str]
    authorities: tuple[Certificate, ...]
    crls: tuple[CrlFacts, ...]

    @property
    def denied(self) -> int:
        """How many certificates the CRLs list."""
        return sum(crl.entries for crl in self.crls)


class Memory(NamedTuple):
    """What was in force before: the roots, and the numbers that must not go back. `crls`: `CrlFacts.key` -> CRL number."""

    roots: frozenset[str] = frozenset()
    number: int = -1
    made_at: int = 0
    crls: Mapping[str, int] = {}

    @classmethod
    def of(cls, bundle: Bundle) -> Memory:
        return cls(frozenset(bundle.roots), bundle.number, bundle.made_at, {crl.key: crl.number for crl in bundle.crls})

    def and_also(self, other: Memory) -> Memory:
        """The highest of both, so that a loss of either forgets nothing; the roots of the one that has any."""
        number, made_at = max((self.number, self.made_at), (other.number, other.made_at))
        crls = {key: max(self.crls.get(key, 0), other.crls.get(key, 0)) for key in {*self.crls, *other.crls}}
        return Memory(self.roots or other.roots, number, made_at, crls)


def read_manifest(data: bytes) -> Manifest:
    """The manifest, with file names that are plain names. Raises Malformed("bundle-damaged")."""
    if len(data) > MOST_MANIFEST:
        raise _damaged(f"{MANIFEST} has more than the {MOST_MANIFEST // 1024} KiB that are read")
    try:
        said = json.loads(data)
        version, number, made_at = said["version"], said["number"], said["made_at"]
        files = {name: (entry["sha256"], entry["size"]) for name, entry in said["files"].items()}
        at = parse_instant(made_at)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Malformed):
        raise _damaged(f"{MANIFEST} is cut, or no manifest") from None
    if type(version) is not int or version != 1:
        raise _damaged(f"{MANIFEST} has version {version!r}, and this agent reads version 1; it is older than the authority")
    if type(number) is not int or not 0 <= number < 2**63:
        raise _damaged(f"{MANIFEST} has {number!r} as its revocation number")
    if len(files) > MOST_FILES:
        raise _damaged(f"{MANIFEST} lists {len(files)} files, more than the {MOST_FILES} that are read")
    for name, (sha256, size) in files.items():
        if not _FILE.fullmatch(name) or name == MANIFEST:
            raise _damaged(f"{MANIFEST} lists a file called {name!r}")
        if not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) and type(size) is int and size >= 0):
            raise _damaged(f"{MANIFEST} has no hash and size for {name}")
    if sum(size for _, size in files.values()) > MOST_BYTES:
        raise _damaged(f"{MANIFEST} lists more than the {MOST_BYTES // 1024 // 1024} MiB that are read")
    return Manifest(number, at, files)


def understood(contents: Mapping[str, bytes], lists: Iterable[str]) -> Bundle:
    """The bundle out of its files, all checked but for time: hashes, chain, signatures, CRLs that speak for everything, and the grammar of `lists`.

    `lists`: which files the server reads and must find; () for every one that is there. Raises Malformed or Refused in a sentence.
    """
    manifest = read_manifest(contents.get(MANIFEST, b""))
    _whole(contents, manifest)
    for name in {CHAIN, CRLS, *lists}:
        if name not in manifest.files:
            raise _damaged(f"{name} is missing, and the web server needs it")
    authorities = _authorities(contents[CHAIN])
    crls = _crls(contents[CRLS], authorities)
    _lists({name: contents[name] for name in lists or manifest.files if name in _GRAMMARS}, authorities)
    roots = {one.fingerprint: names.display(one.subject) for one in authorities if _is_root(one)}
    return Bundle(contents, manifest.number, manifest.made_at, roots, authorities, crls)


def admitted(bundle: Bundle, memory: Memory, now: int, *, older: bool = False) -> None:
    """Whether the bundle is of the roots that are known and not older than what was in force. No roots in memory: the first one is believed.

    Raises Refused("bundle-foreign") or Refused("bundle-older"); `older` allows the second.
    """
    strangers = {print_: name for print_, name in bundle.roots.items() if memory.roots and print_ not in memory.roots}
    if strangers:
        print_, name = next(iter(strangers.items()))
        message = f"the root {name} (SHA-256 {print_}) is none that is known here ({', '.join(sorted(memory.roots))}): another authority's bundle"
        hint = f"if the authority has a new root: gatekey agent --once --accept-root {print_}, or root in the agent's configuration"
        raise Refused("bundle-foreign", message, hint=hint, root=print_)
    if older:
        return
    if bundle.number < memory.number:
        message = f"the bundle has revocation number {bundle.number}, and {memory.number} is in force: somebody plays back an old one"
        raise Refused("bundle-older", message, hint=_OLDER, number=bundle.number)
    # Made in the future: the authority's clock was wrong then, and must not bar the door to what it says now.
    if (bundle.number, bundle.made_at) < (memory.number, memory.made_at) and memory.made_at <= now:
        message = f"the bundle was made at {iso(bundle.made_at)}, and one of {iso(memory.made_at)} is in force"
        raise Refused("bundle-older", message, hint=_OLDER, number=bundle.number)
    for crl in bundle.crls:
        if crl.number < memory.crls.get(crl.key, -1):
            message = f"the CRL of {crl.issuer} has number {crl.number}, and {memory.crls[crl.key]} is in force: somebody plays back an old one"
            raise Refused("bundle-older", message, hint=_OLDER, number=crl.number)


def in_time(bundle: Bundle, now: int) -> None:
    """Whether every CRL is good at `now` (POSIX seconds), and an authority to sign people is. Raises Refused in a sentence.

    An authority past its end harms nobody, so beside another one it is let through: a bundle that is held up holds up revocations.
    """
    clock = "is the clock of this machine right?"
    for one in bundle.authorities:
        if one.not_before > now:
            raise Refused("bundle-chain", f"the certificate of {names.display(one.subject)} is not valid before {iso(one.not_before)}", hint=clock)
    alive = [one for one in bundle.authorities if one.not_after >= now]
    roots = [one for one in alive if one.fingerprint in bundle.roots]
    if not any(_leads_to(roots, one, alive) for one in alive):
        last = max(one.not_after for one in bundle.authorities)
        raise Refused("bundle-chain", f"no authority of the chain is in force; the last one ended at {iso(last)}", hint=clock)
    for crl in bundle.crls:
        if crl.this_update > now:
            raise Refused("crl-not-yet", f"the CRL of {crl.issuer} is not valid before {iso(crl.this_update)}: with it nobody would get in", hint=clock)
    if fresh_until(bundle, now) <= now:
        crl = min(_counting(bundle, now), key=lambda crl: crl.next_update)
        hint = "gatekey bundle at the authority signs a new one"
        raise Refused("crl-expired", f"the CRL of {crl.issuer} ran out at {iso(crl.next_update)}: with it nobody would get in", hint=hint)


def fresh_until(bundle: Bundle, now: int) -> int:
    """When the first of the CRLs that count at `now` runs out (POSIX seconds): from then on nobody gets in."""
    return min(crl.next_update for crl in _counting(bundle, now))


def _counting(bundle: Bundle, now: int) -> list[CrlFacts]:
    """The CRLs of the authorities that are still in force; all of them where none is."""
    alive = {_key(one) for one in bundle.authorities if one.not_after >= now}
    return [crl for crl in bundle.crls if crl.key in alive] or list(bundle.crls)


# The files


def _whole(contents: Mapping[str, bytes], manifest: Manifest) -> None:
    from hashlib import sha256

    for name, (hashed, size) in manifest.files.items():
        data = contents.get(name)
        if data is None:
            raise _damaged(f"{MANIFEST} lists {name}, which is not there")
        if len(data) != size:
            raise _damaged(f"{name} has {len(data)} bytes where {MANIFEST} says {size}; it is cut, or still being copied")
        if sha256(data).hexdigest() != hashed:
            raise _damaged(f"{name} has another SHA-256 than {MANIFEST} says; it is damaged, altered, or still being copied")
    if extra := set(contents) - set(manifest.files) - {MANIFEST}:
        raise _damaged(f"{min(extra)} is not listed in {MANIFEST}")


def _ders(data: bytes, name: str, label: str) -> list[bytes]:
    """What stands in a PEM file. It must be exactly as we write it, so that no other reader can find something else in it."""
    try:
        found = pem.decode(data)
    except Malformed as error:
        raise Malformed(error.code, f"{name}: {error.message}", hint=error.hint) from None
    ders = [der for kind, der in found if kind == label]
    if not ders or b"".join(pem.encode(label, der) for der in ders) != data:
        raise Malformed("bad-pem", f"{name} is not made of {label} blocks and nothing else", hint="publish it again with gatekey bundle")
    return ders


# The chain


def _authorities(data: bytes) -> tuple[Certificate, ...]:
    """The chain, in which every certificate is an authority's and leads to a self-signed one that is there as well."""
    ders = _ders(data, CHAIN, "CERTIFICATE")
    if len(ders) > MOST_AUTHORITIES:
        raise Refused("bundle-chain", f"{CHAIN} has {len(ders)} certificates, more than the {MOST_AUTHORITIES} that are read")
    found = tuple(_named(CHAIN, read_certificate, der) for der in ders)
    for one in found:
        _is_authority(one)
    roots = [one for one in found if _is_root(one)]
    for one in found:
        if not _leads_to(roots, one, found):
            message = f"{CHAIN} is not complete: {names.display(one.subject)} does not lead to a self-signed root whose certificate is there as well"
            raise Refused("bundle-chain", message, hint="a web server that lacks the root refuses everybody; publish the bundle again")
    return found


def _is_authority(one: Certificate) -> None:
    name = names.display(one.subject)
    if not one.ca:
        raise Refused("bundle-chain", f"{CHAIN} holds the certificate of {name}, which is no authority")
    if one.key_usage is not None and not {"keyCertSign", "cRLSign"} <= set(one.key_usage):
        raise Refused("bundle-chain", f"the authority {name} may not sign certificates and CRLs (key usage: {', '.join(one.key_usage)})")


def _is_root(one: Certificate) -> bool:
    """Self-signed. That signature proves no more than that the file is whole, so an old algorithm is no reason against it."""
    return one.self_issued and signature.verify(one.spki, one.algorithm, one.signature, one.tbs, legacy=True)


def _leads_to(roots: Iterable[Certificate], one: Certificate, chain: Iterable[Certificate]) -> bool:
    """Whether signatures lead from `one` through `chain` to one of `roots`, within the path lengths (RFC 5280 4.2.1.9)."""
    ends = {root.der for root in roots}
    level, seen = [one], {one.der}
    for below in range(1, MOST_STEPS + 1):
        if any(lower.der in ends for lower in level):
            return True
        level = [
            issuer
            for issuer in chain
            if issuer.der not in seen and (issuer.path_length is None or issuer.path_length >= below) and any(_signed(issuer, lower) for lower in level)
        ]
        seen.update(issuer.der for issuer in level)
    return False


def _signed(issuer: Certificate, one: Certificate) -> bool:
    return (
        names.canonical(issuer.subject) == names.canonical(one.issuer)
        and (one.authority_key_id is None or issuer.key_id is None or one.authority_key_id == issuer.key_id)
        and signature.verify(issuer.spki, one.algorithm, one.signature, one.tbs)
    )


# The CRLs


def _crls(data: bytes, authorities: tuple[Certificate, ...]) -> tuple[CrlFacts, ...]:
    """One full CRL of every authority, and none of anybody else."""
    found: dict[str, CrlFacts] = {}
    for der in _ders(data, CRLS, "X509 CRL"):
        crl = _named(CRLS, read_crl, der)
        name = names.display(crl.issuer)
        _speaks_for_everything(crl, name)
        issuer = _signer(crl, name, authorities)
        if _key(issuer) in found:
            raise Refused("crl-double", f"{CRLS} has two CRLs of {name}, and a web server would take either", hint="publish the bundle again")
        if crl.number is None or crl.next_update is None:
            raise Refused("crl-partial", f"the CRL of {name} has no {'number' if crl.number is None else 'end'} (RFC 5280 5.1.2.5, 5.2.3)")
        found[_key(issuer)] = CrlFacts(name, _key(issuer), crl.number, crl.count, crl.this_update, crl.next_update)
    for one in authorities:
        if _key(one) not in found:
            message = f"{CRLS} has no CRL of {names.display(one.subject)}: without it nobody would get in"
            raise Refused("crl-missing", message, hint="gatekey bundle at the authority writes the CRLs of all of them")
    return tuple(found.values())


def _speaks_for_everything(crl: Crl, name: str) -> None:
    """OpenSSL takes a delta for a full list, and a part for nothing: both in silence (measured with 3.0). RFC 5280 5.2.4, 5.2.5."""
    if crl.is_delta:
        raise Refused("crl-delta", f"the CRL of {name} is a delta, which tells changes only: a web server would take it for the full list")
    if crl.unknown_critical:
        raise Refused("crl-partial", f"the CRL of {name} has critical extensions that are not understood: {', '.join(crl.unknown_critical)}")
    if crl.scope is not None:
        about = _about(crl.scope)
        raise Refused("crl-partial", f"the CRL of {name} is only a part: it speaks for {about}", hint="web servers need full CRLs: gatekey bundle writes them")


def _about(scope: Scope) -> str:
    kinds = {
        "certificates of people and machines only": scope.only_user,
        "certificates of authorities only": scope.only_ca,
        "attribute certificates only": scope.only_attribute,
        "some reasons only": scope.only_reasons is not None,
        "certificates of other issuers as well": scope.indirect,
    }
    return next((words for words, given in kinds.items() if given), "the certificates of one distribution point only")


def _signer(crl: Crl, name: str, authorities: tuple[Certificate, ...]) -> Certificate:
    """Whose CRL it is, by name, key and signature."""
    named = [one for one in authorities if names.canonical(one.subject) == names.canonical(crl.issuer)]
    if not named:
        raise Refused("crl-foreign", f"{CRLS} has a CRL of {name}, who is none of the authorities in {CHAIN}")
    for one in named:
        right_key = crl.authority_key_id is None or one.key_id is None or crl.authority_key_id == one.key_id
        if right_key and signature.verify(one.spki, crl.algorithm, crl.signature, crl.tbs):
            return one
    raise Refused("crl-signature", f"the signature of the CRL of {name} does not hold: it is damaged, or somebody else signed it under that name")


def _key(one: Certificate) -> str:
    """Certificates of one authority that was renewed with the same key share a CRL."""
    from hashlib import sha256

    return sha256(one.subject + one.spki).hexdigest()


# The lists


_SERIAL = "5A0F00000000000000000000000000A1"
_WORDS = {
    "LOGINWORD": r"[A-Za-z0-9._@~+% -]*",
    "GROUPWORD": r"[A-Za-z0-9._@~+%,-]*",
    "MAILWORD": r"[A-Za-z0-9._@~+%-]*",
    "NAMEWORD": r"[A-Za-z0-9._@~+%-]*",
    "DEVICEWORD": r"[A-Za-z0-9._@~+%-]*",
}
_DENIED: dict[str, Callable[[Iterable[Denied]], str]] = {
    "revoked.map": texts.revoked_map,
    "revoked.txt": texts.revoked_txt,
    "revoked.lst": texts.revoked_lst,
    "revoked.caddy": texts.revoked_caddy,
}
_KNOWN: dict[str, Callable[[Iterable[Known]], str]] = {
    "people.map": texts.people_map,
    "people.txt": texts.people_txt,
    "people.lst": texts.people_lst,
    "people.caddy": texts.people_caddy,
}
_ISSUERS: dict[str, Callable[[Iterable[str]], str]] = {
    "issuers.map": texts.issuers_map,
    "issuers.txt": texts.issuers_txt,
    "issuers.lst": texts.issuers_lst,
    "issuers.caddy": texts.issuers_caddy,
}
_GRAMMARS = frozenset((*_DENIED, *_KNOWN, *_ISSUERS, "trust.caddy"))


def _lists(contents: Mapping[str, bytes], authorities: tuple[Certificate, ...]) -> None:
    """Every line must be one that the authority could have written for an issuer of the chain: web servers include some of these files as configuration."""
    dns = sorted({names.rfc2253(one.subject) for one in authorities})
    for name, data in contents.items():
        lines = _lines_of(name, data)
        if name == "trust.caddy":
            wanted = {line for line in texts.trust_caddy(one.der for one in authorities).splitlines() if not line.startswith("#")}
            if set(lines) != wanted:
                raise Refused("bundle-list", f"{name} trusts others than the authorities in {CHAIN}")
            continue
        if name in _ISSUERS and not lines and name != "issuers.caddy":  # there are names that no Caddyfile can say
            raise Refused("bundle-list", f"{name} names no issuer: with it nobody would get in", hint="publish the bundle again")
        pattern = re.compile("|".join(_patterns(name, dns)))
        for number, line in enumerate(lines, 2):
            if not pattern.fullmatch(line):
                raise Malformed("bundle-list", f"line {number} of {name} is none that can stand there: {line[:80]!r}", hint="publish the bundle again")


def _lines_of(name: str, data: bytes) -> list[str]:
    try:
        head, *lines, end = data.decode().split("\n")  # Caddy prints names as they are
    except ValueError:
        raise Malformed("bundle-list", f"{name} is empty, cut, or no text", hint="publish the bundle again") from None
    if end or not re.fullmatch(r"#[ -~]*", head):
        raise Malformed("bundle-list", f"{name} is cut, or does not begin as we write it", hint="publish the bundle again")
    return lines


def _patterns(name: str, dns: list[str]) -> list[str]:
    """What a line may look like, found by writing one for each issuer and opening it where serials and people's fields stand."""
    if name in _ISSUERS:
        return [re.escape(line) for line in _ISSUERS[name](dns).split("\n")[1:-1]] or ["(?!)"]
    if name in _DENIED:
        written = [line for dn in dns for line in _DENIED[name]([Denied(dn, _SERIAL)]).split("\n")[1:-1]]
    else:
        person = {"login": "LOGINWORD", "name": "NAMEWORD", "email": "MAILWORD", "groups": ("GROUPWORD",), "device": "DEVICEWORD"}
        written = [line for dn in dns for line in _KNOWN[name]([Known(dn, "", _SERIAL, "", **person)]).split("\n")[1:-1]]  # type: ignore[arg-type]  # by name
    return [_opened(line) for line in written] or ["(?!)"]


def _opened(line: str) -> str:
    """`line` as a pattern for all lines of its kind."""
    pattern = re.escape(line).replace(_SERIAL, "[0-9A-F]{2,128}", 1).replace(str(int(_SERIAL, 16)), "[0-9]{1,160}", 1)
    for word, class_ in _WORDS.items():
        pattern = pattern.replace(word, class_, 1)
    return pattern


def _named(name: str, read: Callable[[bytes], T], der: bytes) -> T:
    try:
        return read(der)
    except GatekeyError as error:
        raise Malformed(error.code, f"{name}: {error.message}", hint="publish the bundle again") from None


def _damaged(what: str) -> Malformed:
    return Malformed("bundle-damaged", what, hint="publish the bundle again, as a whole: gatekey bundle --out DIR")
