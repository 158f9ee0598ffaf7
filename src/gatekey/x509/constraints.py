"""Name constraints (RFC 5280 4.2.1.10, 6.1.4 g): whether all names of a certificate stand inside the subtrees that its issuers permit."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..errors import Refused
from . import names, oids
from .certificate import Certificate, Constraints
from .names import GeneralNames

#: Comparisons of one validation. Names times constraints grows without end if an attacker may choose both.
MOST_COMPARISONS = 250_000

_EMPTY_NAME = b"\x30\x00"
_WORDS = {"dns": "the host name", "ips": "the address", "emails": "the e-mail address", "uris": "the URI", "directory": "the name"}

#: Names in the form in which equal ones are equal.
canonical = functools.lru_cache(maxsize=1024)(names.canonical)


class Subtrees:
    """The constraints gathered on the way down from the anchor. A name must stand in *each* permitting issuer's subtrees, and in no excluded one."""

    def __init__(self) -> None:
        self._permitted: list[GeneralNames] = []
        self._excluded: list[GeneralNames] = []
        self._comparisons = 0

    def add(self, constraints: Constraints) -> None:
        self._permitted.append(constraints.permitted)
        self._excluded.append(constraints.excluded)

    def problem(self, certificate: Certificate) -> str | None:
        """Which name of the certificate the issuers do not allow, in words; None if all are fine. Raises Refused("too-complex") beyond the budget."""
        if not self._permitted:
            return None
        for kind, given in _names_of(certificate):
            for name in given:
                if why := self._judge(kind, name):
                    return why
        return self._judge_others(certificate)

    def _judge(self, kind: str, name: str | bytes) -> str | None:
        inside = _INSIDE[kind]
        for permitted in self._permitted:
            bases = getattr(permitted, kind)
            if bases and not any(self._count(inside(base, name, False)) for base in bases):
                return f"{_WORDS[kind]} {_shown(name)} is outside what an issuer may certify ({_listed(bases)})"
        for excluded in self._excluded:
            for base in getattr(excluded, kind):
                if self._count(inside(base, name, True)):
                    return f"{_WORDS[kind]} {_shown(name)} is inside what an issuer must not certify ({_listed((base,))})"
        return None

    def _judge_others(self, certificate: Certificate) -> str | None:
        """Kinds of names that are not compared here: with a constraint on its kind, such a name is refused (RFC 5280 4.2.1.10)."""
        constrained = {kind for side in (*self._permitted, *self._excluded) for kind, _ in side.others}
        if any(side.emails for side in (*self._permitted, *self._excluded)):
            constrained.add(oids.SMTP_UTF8_MAILBOX)  # RFC 9598 6 wants it compared as an e-mail address
        for kind, _ in certificate.names.others:
            if kind in constrained:
                return f"it has a name of the kind {oids.name(kind)}, and an issuer is constrained in names of that kind"
        return None

    def _count(self, answer: bool) -> bool:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise Refused("too-complex", f"names and name constraints need more than {MOST_COMPARISONS} comparisons")
        return answer


def _names_of(certificate: Certificate) -> tuple[tuple[str, tuple[str | bytes, ...]], ...]:
    """All names by kind: the alternative names, the subject, and the e-mail addresses inside a subject without better ones."""
    given = certificate.names
    subject = (certificate.subject,) if certificate.subject != _EMPTY_NAME else ()
    emails = given.emails or tuple(text for rdn in names.read_name(certificate.subject) for kind, text in rdn if kind == oids.EMAIL_ADDRESS)
    return ("directory", subject + given.directory), ("dns", given.dns), ("emails", emails), ("uris", given.uris), ("ips", given.ips)


def _shown(name: str | bytes) -> str:
    return f"{names.display(name)!r}" if isinstance(name, bytes) else f"{name!r}"


def _listed(bases: tuple[str | bytes, ...]) -> str:
    shown = [_shown(base) for base in bases[:3]]
    return ", ".join(shown) + (f" and {len(bases) - 3} more" if len(bases) > 3 else "")


def _dns_inside(base: str, name: str, excluded: bool) -> bool:
    """The name itself or anything below it; with a dot in front only what is below. `*.a.example` also meets an exclusion of `b.a.example`."""
    base, name = base.lower(), name.lower().removesuffix(".")
    if not base or name == base or name.endswith(base if base.startswith(".") else "." + base):
        return True
    return excluded and name.startswith("*.") and base.lstrip(".").partition(".")[2] == name[2:]


def _email_inside(base: str, name: str, _: bool) -> bool:
    """`ann@example.com` is that mailbox, `example.com` every mailbox on that host, `.example.com` every mailbox on hosts below it."""
    local, _at, domain = name.rpartition("@")
    domain, lower = domain.lower(), base.lower()
    if "@" in base:
        base_local, _at, base_domain = base.rpartition("@")
        return local.strip('"') == base_local.strip('"') and domain == base_domain.lower()
    return not base or (domain.endswith(lower) if base.startswith(".") else domain == lower)


def _uri_inside(base: str, name: str, excluded: bool) -> bool:
    """The host of the URI, exactly; with a dot in front any host below. A URI without a host name is never permitted and always excluded."""
    authority = name.partition("://")[2]
    for end in "/?#":
        authority = authority.partition(end)[0]
    host = authority.rpartition("@")[2].lower()
    host = host.partition(":")[0] if not host.startswith("[") else ""
    if not host or host.replace(".", "").isdigit():
        return excluded
    base = base.lower()
    return host.endswith(base) if base.startswith(".") else host == base


def _ip_inside(base: str, name: str, _: bool) -> bool:
    import ipaddress

    network, _slash, mask = base.partition("/")
    address, start = ipaddress.ip_address(name), ipaddress.ip_address(network)
    if address.version != start.version:
        return False
    bits = address.max_prefixlen
    wanted = ((1 << bits) - 1) ^ ((1 << (bits - int(mask))) - 1) if mask.isdigit() else int(ipaddress.ip_address(mask))
    return int(address) & wanted == int(start) & wanted


def _directory_inside(base: bytes, name: bytes, _: bool) -> bool:
    """A distinguished name that begins with the base."""
    begin = canonical(base)
    return canonical(name)[: len(begin)] == begin


_INSIDE: dict[str, Callable[..., bool]] = {"dns": _dns_inside, "emails": _email_inside, "uris": _uri_inside, "ips": _ip_inside, "directory": _directory_inside}
