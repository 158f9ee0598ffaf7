"""Checks of who is let in: nobody, the good one, and everybody who should not be."""

from __future__ import annotations

from . import page
from .answer import ANSWERED, TIMEOUT
from .door import Door, certificates, worst
from .knock import Identity
from .refusal import own_reason, same_page, server_page
from .report import OPEN, PASS, UNSURE, Finding

BESIDE = "run `gatekey check` beside the authority: it makes short-lived test certificates"
WITH_CLIENT = "give a certificate that is let in with --client FILE.p12, or run it beside the authority"

#: What the page of the refusal says to the good certificate -> what mends it.
_MENDS = {
    page.UNSURE: "is `gatekey serve` running, may the web server open its socket (or reach its address), and does the configuration name the right one?",
    page.NOT_A_PROXY: "give the holder of the web server's own certificate the role: gatekey people set LOGIN --role proxy",
    page.NOT_FOR_YOU: "knock with the certificate of somebody in these groups: --client FILE.p12, or gatekey people set gatekey-probe --group GROUP",
    page.STRANGER: "the web server reads another authority's bundle, or an old one: compare the folder that its configuration names with the authority's",
    page.NOT_LET_IN: "does the decision service that the web server asks belong to the authority of this certificate?",
}
#: The same -> what it means.
_BECAUSE = {
    page.UNSURE: "the decision service cannot be asked, so nobody gets in",
    page.NOT_A_PROXY: "the web server may not ask the decision service, so nobody gets in",
    page.NOT_FOR_YOU: "it belongs to none of the groups that may",
}
_NOBODY = "nobody gets in, or this one does not belong to the groups that may"


def missing(what: str, hint: str = BESIDE) -> Finding:
    """There is nobody to knock with: cannot tell, and how to get one."""
    return Finding(UNSURE, f"there is no {what} to try", hint=hint)


def no_certificate(door: Door) -> Finding:
    """Check 1: nobody gets in without a certificate."""
    return door.must_refuse(door.try_(), door.none(), usual=False)


def good_certificate(door: Door) -> Finding:
    """Check 2: whom the door is for gets in."""
    identity = door.identities.good
    if identity is None:
        return missing("good certificate", WITH_CLIENT)
    what = door.try_(identity)
    answer = door.first_good(identity)
    if door.let_in(answer):
        if answer.status >= 500 and server_page(answer):
            said = f"{answer.face} from the web server itself: the app behind does not answer, or the decision service cannot be asked"
            return Finding(UNSURE, said, what.words, answer.face, f"look after the app, and where the web server asks: {_MENDS[page.UNSURE]}")
        if answer.status >= 500:
            return Finding(UNSURE, f"let in, but the app behind answers {answer.face}", what.words, answer.face, "look after the app first")
        return Finding(PASS, f"let in: {answer.face}", what.words, answer.face)
    reason = own_reason(answer)
    doubtful = reason == page.UNSURE and door.server == "apache"  # which shows this page for an app that is down, too
    because = "the decision service cannot be asked, or the app behind is down" if doubtful else _BECAUSE.get(reason, _NOBODY)
    verdict = UNSURE if doubtful or answer.kind == TIMEOUT else OPEN
    return Finding(verdict, f"refused with {answer.face}: {because}", what.words, answer.face, _MENDS.get(reason, ""))


def _must_be_refused(door: Door, *identities: Identity) -> Finding:
    findings = [door.must_refuse(door.try_(identity)) for identity in identities]
    finding = worst(findings)
    if finding.verdict == PASS and door.good_is_refused:
        said = f"{finding.said}; but the good certificate is refused as well, so this shows nothing"
        return finding._replace(verdict=UNSURE, said=said, hint="mend check 2 first")
    return finding


def foreign_authority(door: Door) -> Finding:
    """Check 3: another authority's certificate with our names is refused; a given one, and one forged on the spot."""
    given = (door.identities.foreign,) if door.identities.foreign else ()
    return _must_be_refused(door, *given, door.false_authority())


def self_signed(door: Door) -> Finding:
    """Check 4: a certificate that vouches for itself is refused."""
    return _must_be_refused(door, door.self_signed())


def expired(door: Door) -> Finding:
    """Check 5: an expired certificate is refused."""
    return _must_be_refused(door, door.identities.expired) if door.identities.expired else missing("expired certificate")


def revoked(door: Door) -> Finding:
    """Check 6: a revoked certificate is refused."""
    return _must_be_refused(door, door.identities.revoked) if door.identities.revoked else missing("revoked certificate")


def server_as_client(door: Door) -> Finding:
    """Check 27: a web server's certificate opens no door."""
    return _must_be_refused(door, door.identities.server) if door.identities.server else missing("web server's certificate with its key")


def wrong_usage(door: Door) -> Finding:
    """Check 28: a certificate of our own authority for servers only is refused."""
    identity = door.identities.wrong_usage
    if identity is None and door.identities.server is not None and door.people:
        # One authority for people and servers: then a server's certificate is one for servers only under the people's authority.
        leaf = certificates(door.identities.server.chain)[0]
        identity = door.identities.server if leaf.issuer == door.people[0].issuer else None
    return _must_be_refused(door, identity) if identity else missing("certificate for servers only from the people's authority")


def refusal_page(door: Door) -> Finding:
    """Check 24: the page of the refusal is not the app's."""
    tries = [(door.try_(), door.none())]
    for identity in (door.identities.expired, door.self_signed()):
        if identity is not None:
            what = door.try_(identity)
            tries.append((what, door.knock(what)))
    findings = []
    for what, answer in tries:
        if answer.kind != ANSWERED:
            findings.append(Finding(PASS, "there is no page: refused in TLS", what.words, answer.face))
            continue
        leaks = [name for name in ("set-cookie", "server-timing", "x-powered-by", "x-runtime") if answer.header(name)]
        good = door.good()
        if answer.status < 300:
            findings.append(Finding(OPEN, f"instead of a refusal comes {answer.face}", what.words, answer.face))
        elif leaks:
            findings.append(Finding(OPEN, f"the page of the refusal carries {', '.join(leaks)}: the app made it", what.words, answer.face))
        elif good is not None and same_page(answer, good, 0.9):
            findings.append(Finding(OPEN, "the page of the refusal is the app's own", what.words, answer.face))
        else:
            findings.append(Finding(PASS, f"a page without cookies or timings: {answer.face}", what.words, answer.face))
    return worst(findings)
