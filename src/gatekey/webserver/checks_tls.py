"""Checks of TLS itself: resumption, versions, what is asked for in the handshake, and the server's own certificate."""

from __future__ import annotations

import fnmatch
import ssl

from ..model.instants import DAY, day
from ..model.names import ip_address
from ..x509 import names
from ..x509.certificate import Certificate
from .answer import ANSWERED, CLOSED, TIMEOUT, Answer
from .checks_names import siblings
from .checks_people import WITH_CLIENT
from .door import Door, readable, worst
from .hello import OLD, say_hello
from .knock import Identity, Knock, Line
from .report import OPEN, PASS, UNSURE, Finding

_NO_EAR = "this Python does not show TLS messages"
#: More names than this are not one company's authorities.
_MOST_AUTHORITIES = 20
#: Longest validity that Apple takes under a private root, and of a public certificate, in days.
_PRIVATE_DAYS, _PUBLIC_DAYS = 825, 398
_LEFT_DAYS = 14


def resumption(door: Door) -> Finding:
    """Whether a TLS session is resumed at all, which checks 7 and 8 want to know."""
    who = door.identities.good if door.good() is not None else None
    findings = []
    for version in ("1.2", "1.3"):
        what = door.try_(who, tls=version)
        line = door.connect(what)
        if isinstance(line, Answer):
            findings.append(Finding(PASS, f"no TLS {version}: {line.face}", what.words, line.face))
            continue
        line.ask(what)
        line.close()
        findings.append(_resumed(door, what, line, version))
    finding = worst(findings)
    if finding.verdict == PASS and who is None:
        return finding._replace(verdict=UNSURE, said="no session was resumed without a certificate; with one it was not tried", hint=WITH_CLIENT)
    return finding


def _resumed(door: Door, what: Knock, line: Line, version: str) -> Finding:
    if line.session is None:
        return Finding(PASS, f"TLS {version}: no session is handed out", what.words)
    again = door.connect(what, resume=line)
    if isinstance(again, Answer):
        return Finding(PASS, f"TLS {version}: a session is not taken: {again.face}", what.words, again.face)
    answer = again.ask(what)
    again.close()
    if answer.resumed:
        return Finding(OPEN, f"TLS {version}: a session is resumed, which may outlive a revocation and an expiry", what.words, answer.face)
    return Finding(PASS, f"TLS {version}: a full handshake each time", what.words, answer.face)


def other_session(door: Door) -> Finding:
    """Check 9: a session of another site is not taken here."""
    others = siblings(door)
    if not others:
        return Finding(UNSURE, "no other site on this server is known", hint="name one with --sibling HOST")
    findings = []
    for other in others[:2]:
        for who in (None, door.identities.foreign or door.false_authority()):
            findings += [_carried_over(door, other, who, version) for version in ("1.2", "1.3")]
    return worst(findings)


def _carried_over(door: Door, other: str, who: Identity | None, version: str) -> Finding:
    """A session of `other`, offered to this site."""
    there = door.try_(who, sni=other, host=door.host(other), tls=version)
    here = door.try_(who, tls=version)
    line = door.connect(there)
    if isinstance(line, Answer):
        return Finding(PASS, f"{other} gives no session over TLS {version}: {line.face}", there.words, line.face)
    line.ask(there)
    line.close()
    if line.session is None:
        return Finding(PASS, f"{other} gives no session over TLS {version}", there.words)
    again = door.connect(here, resume=line)
    answer = again if isinstance(again, Answer) else again.ask(here)
    if isinstance(again, Line):
        again.close()
    finding = door.must_refuse(here, answer)
    return finding._replace(request=f"with a session of {other}: {here.words}")


def authority_names(door: Door) -> Finding:
    """Check 25: the server names exactly our authorities."""
    what, answer = door.try_(), door.none()
    heard = answer.heard
    if heard is None or not heard.works:
        return Finding(UNSURE, _NO_EAR, what.words, answer.face)
    if heard.authorities is None and not answer.tls:
        return Finding(UNSURE, f"the handshake ended before a certificate was asked for: {answer.face}", what.words, answer.face)
    if heard.authorities is None:
        return Finding(OPEN, "no certificate is asked for in the handshake", what.words, answer.face)
    sent = {names.canonical(one): names.display(one) for one in heard.authorities if _is_name(one)}
    listed = ", ".join(sent.values())
    if not heard.authorities:
        return Finding(OPEN, "no authority is named: browsers offer every certificate they have", what.words, answer.face)
    if len(heard.authorities) > _MOST_AUTHORITIES:
        return Finding(OPEN, f"{len(heard.authorities)} authorities are named", what.words, answer.face)
    people = door.people
    if not people:
        return Finding(UNSURE, f"named are {listed}; whether these are yours only your certificate could show", what.words, answer.face, WITH_CLIENT)
    ours = {names.canonical(one.issuer): names.display(one.issuer) for one in people}
    if lacking := [name for key, name in ours.items() if key not in sent]:
        return Finding(OPEN, f"{', '.join(lacking)} is not named: some browsers will not offer the certificate", what.words, f"named are {listed}")
    if strange := [name for key, name in sent.items() if key not in ours]:
        return Finding(OPEN, f"{', '.join(strange)} is named too, and is none of your authorities", what.words, f"named are {listed}")
    return Finding(PASS, f"named are {listed}", what.words, answer.face)


def _is_name(der: bytes) -> bool:
    from ..errors import GatekeyError

    try:
        names.canonical(der)
    except GatekeyError:
        return False
    return True


def server_certificate(door: Door) -> Finding:
    """Check 26: the server's own certificate is as browsers want it."""
    what, answer = door.try_(), door.none()
    if answer.heard is None or not answer.heard.works:
        return Finding(UNSURE, _NO_EAR, what.words, answer.face)
    chain = readable(answer.heard.chain)
    if not chain:
        return Finding(UNSURE, "the server's certificate cannot be read", what.words, answer.face)
    leaf = chain[0]
    private, trouble = _trusted(door, what, door.target.roots) if door.target.roots else (False, "")
    public, unknown = (False, "") if private else _trusted(door, what, b"")
    trusted, trouble = private or public, trouble or unknown
    problems = _leaf_problems(door, leaf, public=public)
    shown = f"{names.display(leaf.subject) or ', '.join(leaf.names.dns)}, until {day(leaf.not_after)}"
    if problems:
        return Finding(OPEN, "; ".join(problems), what.words, shown)
    if trusted:
        return Finding(PASS, "names, dates, usage and chain are as they must be", what.words, shown)
    if door.target.roots or ("self" not in trouble and "local issuer" not in trouble):
        return Finding(OPEN, f"the chain does not hold: {trouble}", what.words, shown)
    said = f"names, dates and usage are right; its authority is not known here: {trouble}"
    return Finding(UNSURE, said, what.words, shown, "name its root with --roots FILE")


def _leaf_problems(door: Door, leaf: Certificate, *, public: bool) -> list[str]:
    """What is wrong with the server's certificate itself (RFC 9525 6)."""
    host, problems = door.target.host, []
    listed = leaf.names.ips if ip_address(host) else leaf.names.dns
    if not any(fnmatch.fnmatchcase(host, one.lower()) and host.count(".") == one.count(".") for one in listed):
        problems.append(f"it is not for {host}, only for {', '.join(listed) or 'nothing'}")
    if leaf.extended is None or "serverAuth" not in leaf.extended:
        problems.append("it has no extended key usage serverAuth")
    if leaf.not_before > door.now:
        problems.append(f"it is not valid before {day(leaf.not_before)}")
    left = (leaf.not_after - door.now) // DAY
    if left < _LEFT_DAYS:
        problems.append(f"it ends on {day(leaf.not_after)}, in {left} days" if leaf.not_after > door.now else f"it ended on {day(leaf.not_after)}")
    most = _PUBLIC_DAYS if public else _PRIVATE_DAYS
    if (days := (leaf.not_after - leaf.not_before) // DAY) > most:
        problems.append(f"it is valid for {days} days, and browsers take at most {most}")
    return problems


def _trusted(door: Door, what: Knock, roots: bytes) -> tuple[bool, str]:
    """Whether OpenSSL builds a path to one of `roots` (PEM), or of those that this computer knows when that is empty; otherwise its reason."""
    import socket

    try:
        context = ssl.create_default_context(cadata=roots.decode("ascii") or None)
        context.check_hostname = False  # judged by itself
        door.budget.spend()
        sock = socket.create_connection((what.address, what.port), door.budget.patience)
        with sock, context.wrap_socket(sock, server_hostname=what.sni or what.address):
            return True, ""
    except ssl.SSLCertVerificationError as error:
        return False, error.verify_message
    except (ssl.SSLError, OSError, ValueError) as error:
        # The handshake went past the server's certificate and ended for want of ours: the chain was good.
        return ("ALERT" in str(error), str(getattr(error, "reason", "") or error))


def versions(door: Door) -> Finding:
    """Check 29: TLS 1.0 and 1.1 are off, 1.3 is on, 0-RTT is off."""
    findings = []
    for name, number in OLD.items():
        answer = say_hello((door.address, door.target.port), door.try_().sni, number, door.entropy.bytes(32), door.budget)
        request = f"{door.address}:{door.target.port}, a {name} ClientHello"
        if answer.kind == ANSWERED:
            findings.append(Finding(OPEN, f"{answer.tls} is spoken, which RFC 8996 forbids", request, answer.words))
        else:
            findings.append(Finding(UNSURE if answer.kind == TIMEOUT else PASS, f"no {name}", request, answer.face))
    who = door.identities.good if door.good() is not None else None
    what = door.try_(who, tls="1.3")
    answer = door.knock(what)
    if answer.tls != "TLSv1.3":
        unclear = answer.kind not in (ANSWERED, CLOSED) and answer.alert not in (40, 70)
        findings.append(Finding(UNSURE if unclear else OPEN, f"TLS 1.3 is not spoken: {answer.face}", what.words, answer.face))
    elif answer.heard is not None and answer.heard.early_data:
        findings.append(Finding(OPEN, "0-RTT is on: a request can be replayed by a stranger", what.words, answer.face))
    else:
        findings.append(Finding(PASS, "TLS 1.3 without 0-RTT", what.words, answer.face))
    return worst(findings)


def per_path(door: Door) -> Finding:
    """Check 30: the certificate is asked for in the handshake and not later."""
    findings = []
    for version in ("1.3", "1.2"):
        what = door.try_(door.identities.good, tls=version)
        answer = door.knock(what)
        heard = answer.heard
        if heard is None or not heard.works:
            continue  # the server does not speak this version, or nothing can be heard at all
        if heard.asked_later:
            findings.append(Finding(OPEN, f"TLS {version}: a certificate is asked for after the handshake, which no browser answers", what.words, answer.face))
        elif not heard.asked and answer.tls:
            findings.append(Finding(OPEN, f"TLS {version}: no certificate is asked for in the handshake", what.words, answer.face))
        else:
            findings.append(Finding(PASS, f"TLS {version}: asked for once, in the handshake", what.words, answer.face))
    return worst(findings) if findings else Finding(UNSURE, _NO_EAR, door.try_().words)
