"""Checks of time: how fast and how completely a revocation is felt, and how fresh the revocation lists are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GatekeyError, Malformed
from ..model.instants import DAY, day
from ..x509 import names, pem
from ..x509.certificate import Certificate
from ..x509.crl import Crl, read_crl
from ..x509.signature import verify
from .checks_app import upgrade, websocket_refused
from .checks_people import BESIDE, WITH_CLIENT, missing
from .checks_people import revoked as revoked_certificate
from .checks_tls import resumption as sessions_resumed
from .door import Door, certificates, worst
from .report import OPEN, PASS, UNSURE, Finding

if TYPE_CHECKING:
    from .revocation import Revocation

#: A list must be good for longer than this, so that a holiday cannot lock everybody out.
_FRESH_DAYS = 10
_BUNDLE = "name the folder that the web server reads with --bundle DIR"
#: Longest list that is fetched over HTTP.
_MOST_CRL = 8 * 1024 * 1024


def revoked(door: Door, play: Revocation) -> Finding:
    """Check 6, where the certificate that was revoked for the test may stand in for one that is revoked already."""
    if door.identities.revoked is not None:
        return revoked_certificate(door)
    if play.play():
        return missing("revoked certificate", _how(door))
    return play.fresh


def _how(door: Door) -> str:
    """How a revocation could be tried: whoever runs beside the authority only has to name the folder."""
    if door.identities.canary is not None:
        return "the certificate that is revoked for the test must get in first"
    return _BUNDLE if door.identities.expired is not None else BESIDE


def revoked_resumed(door: Door, play: Revocation) -> Finding:
    """Check 7: a session from before the revocation is worth nothing after it."""
    trouble = play.play()
    if not trouble:
        return play.resumed
    kept = door.once("resumption", sessions_resumed)
    if kept.verdict == PASS:
        return Finding(PASS, "no session is resumed at all, so none can outlive a revocation", kept.request, kept.answer)
    return Finding(UNSURE, trouble, hint=_how(door))


def resumption(door: Door, play: Revocation) -> Finding:
    """Check 8: sessions are not resumed. Where they are, but a revocation ends them, only their life beyond an expiry is left in doubt."""
    kept = door.once("resumption", sessions_resumed)
    if kept.verdict != OPEN or play.play() or play.resumed.verdict != PASS:
        return kept
    said = f"{kept.said}; a revocation ended those of this check, an expiry could not be tried"
    return kept._replace(verdict=UNSURE, said=said, hint="switch resumption off where the server can; then nothing is left to doubt")


def websocket(door: Door, play: Revocation) -> Finding:
    """Check 21: no WebSocket without a certificate, and none that survives a revocation."""
    refused = websocket_refused(door)
    if refused.verdict != PASS:
        return refused
    trouble = play.play()
    if trouble:
        return _without_play(door, refused, trouble)
    if not play.has_socket:
        return refused._replace(said=f"{refused.said}; and there is no WebSocket at {door.target.websocket} to keep open")
    if play.socket_ended():
        return refused._replace(said="refused without a certificate; one that was open at the revocation was ended")
    said = f"a WebSocket that was open at the revocation is still open {door.target.closing:g} s later"
    return Finding(OPEN, said, door.try_(door.identities.canary, path=door.target.websocket).words)


def _without_play(door: Door, refused: Finding, trouble: str) -> Finding:
    """Whether there is a WebSocket at all that could stay open."""
    if door.good() is None:
        return Finding(UNSURE, f"refused without a certificate; {trouble}", refused.request, refused.answer, WITH_CLIENT)
    path = door.target.websocket
    answer = door.knock(door.try_(door.identities.good, path=path, headers=upgrade(door)))
    if answer.status != 101:
        return refused._replace(said=f"{refused.said}; and there is no WebSocket at {path} to keep open")
    return Finding(UNSURE, f"refused without a certificate; whether one that is open ends with a revocation could not be tried: {trouble}", hint=_how(door))


def time_to_refusal(door: Door, play: Revocation) -> Finding:
    """Check 33: how long after a revocation the first refusal comes."""
    trouble = play.play()
    return Finding(UNSURE, trouble, hint=_how(door)) if trouble else play.fresh


def keep_alive(door: Door, play: Revocation) -> Finding:
    """Check 34: a connection that was open at the revocation ends."""
    trouble = play.play()
    return Finding(UNSURE, trouble, hint=_how(door)) if trouble else play.kept


def crl_freshness(door: Door, bundle: Path | None) -> Finding:
    """Check 32: the lists of every authority are there, signed and fresh."""
    if bundle is not None:
        return _bundle(bundle, door.now)
    return _distributed(door)


def _bundle(folder: Path, now: int) -> Finding:
    chain, lists = folder / "people-chain.pem", folder / "all.crl.pem"
    try:
        authorities = certificates(chain.read_bytes())
        crls = [read_crl(der) for label, der in pem.decode(lists.read_bytes()) if label == "X509 CRL"]
    except OSError as error:
        return Finding(UNSURE, f"{error.filename} cannot be read: {error.strerror}", hint=_BUNDLE)
    except Malformed as error:
        return Finding(OPEN, f"{folder}: {error.message}", str(lists))
    if not authorities:
        return Finding(OPEN, f"{chain} has no certificate", str(chain))
    return worst(_freshness(one, crls, now)._replace(request=str(lists)) for one in authorities)


def _freshness(authority: Certificate, crls: list[Crl], now: int) -> Finding:
    """The best list of one authority, and how long it is still good."""
    who = names.display(authority.subject)
    mine = [crl for crl in crls if crl.issuer == authority.subject and not crl.is_delta]
    if not mine:
        return Finding(OPEN, f"there is no CRL of {who}: the web server refuses everybody")
    good = [crl for crl in mine if verify(authority.spki, crl.algorithm, crl.signature, crl.tbs)]
    if not good:
        return Finding(OPEN, f"the CRL of {who} is not signed by it: the web server refuses everybody")
    current = [crl for crl in good if crl.this_update <= now]
    if not current:
        return Finding(OPEN, f"the CRL of {who} is not valid before {day(good[0].this_update)}: a clock is wrong, and the web server refuses everybody")
    # An expired list beside a fresh one does no harm; among shards each must be fresh.
    best: dict[object, int] = {}
    for crl in current:
        best[crl.scope] = max(best.get(crl.scope, 0), crl.next_update or 0)
    return _remaining(who, min(best.values()), now)


def _remaining(who: str, until: int, now: int) -> Finding:
    left = (until - now) // DAY
    if until <= now:
        return Finding(OPEN, f"the CRL of {who} ended on {day(until)}: the web server refuses everybody")
    if left < _FRESH_DAYS:
        return Finding(OPEN, f"the CRL of {who} ends on {day(until)}, in {left} days; then the web server refuses everybody")
    return Finding(PASS, f"the CRL of {who} is good until {day(until)}")


def _distributed(door: Door) -> Finding:
    """Without the server's own files: the lists behind the distribution points of the good certificate and its issuers."""
    people = door.people
    urls = [(one, people[index + 1] if index + 1 < len(people) else None, one.crl_urls[0]) for index, one in enumerate(people) if one.crl_urls]
    if not urls:
        return Finding(UNSURE, "the web server's CRL file is not at hand, and no certificate says where a CRL is", hint=_BUNDLE)
    return worst(_at_url(door, one, issuer, url) for one, issuer, url in urls)


def _at_url(door: Door, certificate: Certificate, issuer: Certificate | None, url: str) -> Finding:
    who = names.display(certificate.issuer)
    try:
        data = _fetch(door, url)
        crl = read_crl(pem.decode(data)[0][1] if data.lstrip().startswith(b"-----BEGIN") else data)
    except (OSError, GatekeyError, IndexError) as error:
        return Finding(UNSURE, f"the CRL of {who} cannot be had: {error}", url, hint=_BUNDLE)
    if crl.issuer != certificate.issuer:
        return Finding(OPEN, f"the CRL at {url} is not that of {who}", url)
    if issuer is not None and not verify(issuer.spki, crl.algorithm, crl.signature, crl.tbs):
        return Finding(OPEN, f"the CRL of {who} is not signed by it", url)
    finding = _remaining(who, crl.next_update or 0, door.now)._replace(request=url)
    if finding.verdict == PASS and issuer is None:
        return finding._replace(verdict=UNSURE, said=f"{finding.said}; without the root its signature cannot be checked", hint=_BUNDLE)
    return finding


def _fetch(door: Door, url: str) -> bytes:
    """A short file over plain HTTP, which is what distribution points use (RFC 5280 4.2.1.13). Raises OSError, Malformed, Unavailable."""
    import http.client
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise Malformed("bad-url", f"{url!r}: {error}") from None
    if parts.scheme != "http" or not host:
        raise Malformed("bad-url", f"{url!r} is not plain HTTP")
    door.budget.spend()
    end = time.monotonic() + door.budget.patience
    connection = http.client.HTTPConnection(host, port, timeout=door.budget.patience)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}", headers={"User-Agent": "gatekey-check"})
        answer = connection.getresponse()
        data = b""
        while (piece := answer.read1(65536)) and time.monotonic() < end and len(data) < _MOST_CRL:
            data += piece
    except (http.client.HTTPException, ValueError) as error:  # ValueError: what cannot stand in a request
        raise Malformed("bad-answer", f"{url}: {type(error).__name__} {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Malformed("bad-answer", f"{url}: HTTP {answer.status}")
    return data
