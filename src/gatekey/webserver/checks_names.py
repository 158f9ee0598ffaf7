"""Checks of names and addresses: the same server, reached under another SNI, another Host, another address."""

from __future__ import annotations

import socket

from ..model.names import ip_address
from .answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, UNREACHABLE, Answer
from .checks_people import WITH_CLIENT
from .door import NOBODY, Door, readable, resolve, worst
from .knock import Identity, Knock
from .refusal import elsewhere, same_answer
from .report import OPEN, PASS, UNSURE, Finding

#: Names of the server's certificate that are looked up, and the seconds that DNS has for all of them.
_MOST_NEIGHBOURS, _DNS_PATIENCE = 8, 2.0
#: What a CDN or cache adds to an answer.
_CDN_HEADERS = ("cf-ray", "x-amz-cf-id", "x-served-by", "x-cache", "x-azure-ref", "x-fastly-request-id", "x-vercel-id", "x-akamai-request-id")


def siblings(door: Door) -> tuple[str, ...]:
    """Other sites on the same server: those that were named, and those in the server's certificate that have the same address."""
    named = tuple(host for host in door.target.siblings if host != door.target.host)
    return named or _neighbours(door)


def _neighbours(door: Door) -> tuple[str, ...]:
    """Hosts in the server's certificate, other than this one, that have the same address. DNS is asked once, for all of them at a time."""
    if door.neighbours is None:
        from concurrent.futures import ThreadPoolExecutor

        others = [host for host in _certified_hosts(door) if "*" not in host and host != door.target.host][:_MOST_NEIGHBOURS]
        with ThreadPoolExecutor(max(1, len(others))) as pool:
            found = pool.map(lambda host: resolve(host, _DNS_PATIENCE), others)
            door.neighbours = tuple(host for host, addresses in zip(others, found, strict=True) if door.address in addresses)
    return door.neighbours


def _certified_hosts(door: Door) -> tuple[str, ...]:
    heard = door.none().heard
    shown = readable(heard.chain[:1]) if heard else ()
    return tuple(host.lower() for host in shown[0].names.dns) if shown else ()


def _strangers(door: Door) -> tuple[Identity | None, ...]:
    """Nobody, and somebody whom another site on this server might trust."""
    return (None, door.identities.foreign or door.false_authority())


def _brings_out(door: Door, what: Knock, control: Knock | None) -> Finding:
    """Whether a request that does not come under the site's own name brings out the site."""
    answer = door.knock(what)
    shown = door.knock(control) if control is not None and answer.kind == ANSWERED and answer.status < 300 else None
    ruling = elsewhere(answer, door.good() if answer.kind == ANSWERED else None, shown)
    return Finding(ruling.verdict, ruling.said, what.words, answer.face, WITH_CLIENT if ruling.verdict == UNSURE else "")


def other_sni(door: Door) -> Finding:
    """Check 10: the handshake of another site on this server does not lead here."""
    others = siblings(door)
    if not others:
        return Finding(UNSURE, "no other site on this server is known", hint="name one with --sibling HOST")
    site, port = door.target.host, door.target.port
    hosts = dict.fromkeys((door.host(), site, f"{site}:{port}", site.upper(), f"{site}."))
    findings = []
    for other in others[:3]:
        control = door.try_(sni=other, host=door.host(other))
        findings += [_brings_out(door, door.try_(sni=other, host=host), control) for host in hosts]
        findings.append(_brings_out(door, door.try_(door.identities.foreign or door.false_authority(), sni=other), control))
    return worst(findings)


def no_sni(door: Door) -> Finding:
    """Check 11: a client that names no site does not get this one."""
    return worst(_brings_out(door, door.try_(who, sni=""), door.try_(who, sni="", host=NOBODY)) for who in _strangers(door))


def unknown_sni(door: Door) -> Finding:
    """Check 12: a client that names a site which nobody has does not get this one."""
    names = [NOBODY] if ip_address(door.target.host) else [NOBODY, f"gatekey-probe.{door.target.host}"]
    findings = [_brings_out(door, door.try_(who, sni=name), door.try_(who, sni=name, host=NOBODY)) for name in names for who in _strangers(door)]
    return worst(findings)


def bare_address(door: Door) -> Finding:
    """Check 13: the bare address does not lead here."""
    address = door.host(door.address)
    findings = []
    for who in _strangers(door):
        control = door.try_(who, sni="", host=NOBODY)
        findings.append(_brings_out(door, door.try_(who, sni="", host=address), control))
        findings.append(_brings_out(door, door.try_(who, sni="", host=address, path=f"https://{door.host()}{door.target.path}"), control))
    return worst(findings)


def odd_host(door: Door) -> Finding:
    """Check 14: no way of writing the Host gets past the rule."""
    site, path = door.target.host, door.target.path
    odd = [
        door.try_(host=site.upper()),
        door.try_(host=f"{site}."),
        door.try_(host=f"{site}:443"),
        door.try_(host=NOBODY, path=f"https://{door.host()}{path}"),
        door.try_(host=NOBODY, headers=(("Host", door.host()),)),
        door.try_(headers=(("Host", NOBODY),)),
    ]
    return worst(_brings_out(door, what, door.try_(host=NOBODY)) for what in odd)


def ipv6(door: Door) -> Finding:
    """Check 17: the same over IPv6."""
    target = door.target
    address = target.address6
    if not address and door.ask_dns:
        address = next(iter(resolve(target.host, target.patience, socket.AF_INET6)), "")
    if not address and (door.ask_dns or target.pinned):
        return Finding(PASS, "the name has no IPv6 address")
    if not address:
        return Finding(UNSURE, "it was said where to connect, and no IPv6 address with it", hint="name it with --address6")
    tries = [door.try_(who, address=address) for who in _strangers(door)]
    first = door.knock(tries[0])
    if first.kind in (NOT_LISTENING, UNREACHABLE):
        verdict = PASS if first.kind == NOT_LISTENING else UNSURE
        return Finding(verdict, f"over IPv6: {first.face}", tries[0].words, first.face, "run it from a place that has IPv6" if verdict == UNSURE else "")
    findings = [door.must_refuse(tries[0], first), door.must_refuse(tries[1])]
    if door.good() is not None:
        good = door.try_(door.identities.good, address=address)
        answer = door.knock(good)
        if not door.let_in(answer):
            findings.append(Finding(OPEN, f"the good certificate is refused over IPv6 alone: {answer.face}", good.words, answer.face))
    return worst(findings)


def coalescing(door: Door) -> Finding:
    """Check 31: browsers have no reason to send requests for this site over another one's connection."""
    what = door.try_(alpn=("h2", "http/1.1"))
    line = door.connect(what)
    if isinstance(line, Answer):
        return Finding(PASS if line.kind in (ALERT, CLOSED) else UNSURE, f"no HTTP/2 without a certificate: {line.face}", what.words, line.face)
    try:
        if line.alpn != "h2":
            return Finding(PASS, "the site does not speak HTTP/2, so browsers do not share its connections", what.words)
    finally:
        line.close()
    wild = [host for host in _certified_hosts(door) if host.startswith("*.")]
    shared = _neighbours(door)
    if wild or shared:
        said = f"HTTP/2 with a certificate that is good for {', '.join((*wild, *shared))} too: browsers send requests over the wrong connection"
        return Finding(OPEN, said, what.words)
    return Finding(PASS, "HTTP/2, and the certificate is for this site alone", what.words)


def origin(door: Door) -> Finding:
    """Check 35: the address behind a CDN is shut as well."""
    if door.target.origin:
        return door.must_refuse(door.try_(address=door.target.origin))
    seen = [answer for answer in (door.none(), door.good()) if answer is not None and answer.kind == ANSWERED]
    signs = sorted({name for answer in seen for name in _CDN_HEADERS if answer.header(name)})
    if signs:
        return Finding(UNSURE, f"there is a CDN in front ({', '.join(signs)}), and the address behind it is not known", hint="name it with --origin ADDRESS")
    if not seen:
        return Finding(PASS, "refused in TLS itself, by whoever holds the address: a CDN would have to do the same")
    return Finding(PASS, "no sign of a CDN in front: this is the origin")


def cache(door: Door) -> Finding:
    """Check 36: no shared cache keeps what the good certificate gets."""
    if door.good() is None:
        return Finding(UNSURE, "without a good certificate nothing can be put into a cache", hint=WITH_CLIENT)
    joint = "&" if "?" in door.target.path else "?"
    path = f"{door.target.path}{joint}gatekey={door.entropy.bytes(6).hex()}"
    what = door.try_(door.identities.good, path=path)
    first, second = door.knock(what), door.knock(what)
    finding = door.must_refuse(door.try_(path=path))
    if finding.verdict == OPEN:
        return finding
    hit = next((f"{name}: {second.header(name)}" for name in ("x-cache", "cf-cache-status", "x-cache-status") if "hit" in second.header(name).lower()), "")
    if hit and same_answer(first, second):
        return Finding(OPEN, f"a shared cache kept what the good certificate got ({hit})", what.words, second.face)
    return finding
