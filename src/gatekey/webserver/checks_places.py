"""Checks of places: other ports, plain HTTP, every path and every method, without a certificate."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .answer import ANSWERED, CLOSED, NOT_LISTENING, TIMEOUT, UNREACHABLE, Answer
from .checks_people import WITH_CLIENT
from .door import NOBODY, Door, worst
from .knock import Budget, Knock
from .refusal import elsewhere, same_answer
from .report import OPEN, PASS, UNSURE, Finding

#: Where apps keep what they would rather not show, and where configurations make exceptions.
PATHS = ("/", "/api/", "/static/", "/.well-known/", "/ws", "/health", "/metrics")
#: At most so many paths are taken from the site's own robots.txt and sitemap.xml.
_MOST_LISTED = 8
#: Seconds to wait for a port that does not answer: a firewall drops without a word.
_PORT_PATIENCE = 2.0


def plain_http(door: Door) -> Finding:
    """Check 15: plain HTTP gives a redirect to https on the same host, and nothing else."""
    target = door.target
    if not target.http_port:
        return Finding(UNSURE, "it was said not to look at plain HTTP", hint="name the port with --http-port")
    findings = []
    for path in dict.fromkeys((target.path, door.random_path)):
        what = Knock(door.address, target.http_port, host=door.host(port=443 if target.http_port == 80 else target.http_port), path=path, plain=True)
        findings.append(_plain(door, what, _port_knock(door, what)))
    return worst(findings)


def _plain(door: Door, what: Knock, answer: Answer) -> Finding:
    if answer.kind in (NOT_LISTENING, TIMEOUT, CLOSED, UNREACHABLE):
        return Finding(PASS, f"plain HTTP: {answer.face}", what.words, answer.face)
    if answer.kind != ANSWERED:
        return Finding(PASS, f"no HTTP there: {answer.face}", what.words, answer.face)
    where = answer.header("location")
    if 300 <= answer.status < 400:
        scheme, host = _leads_to(where)
        if scheme == "https" and host == door.target.host:
            return Finding(PASS, "only a redirect to https", what.words, answer.face)
        if scheme == "https":
            return Finding(OPEN, f"the redirect leads to another host: {where}", what.words, answer.face)
        return Finding(OPEN, f"the redirect stays on plain HTTP: {where or 'nowhere'}", what.words, answer.face)
    control = door.knock(what._replace(host=NOBODY)) if answer.status < 300 else None
    ruling = elsewhere(answer, door.good(what.path), control)
    return Finding(ruling.verdict, f"over plain HTTP: {ruling.said}", what.words, answer.face, WITH_CLIENT if ruling.verdict == UNSURE else "")


def _leads_to(location: str) -> tuple[str, str]:
    """Scheme and host of a URL that a server gave, "" for what is not there or cannot be read."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "", ""
    return parts.scheme, (parts.hostname or "").lower()


def app_ports(door: Door) -> Finding:
    """Check 16: the app cannot be reached past the web server."""
    target = door.target
    ports = [port for port in dict.fromkeys(target.app_ports) if port not in (target.port, target.http_port)]
    if not ports:
        return Finding(UNSURE, "no port of an app is known", hint="name it with --app-port")
    knocks = [Knock(door.address, port, host=door.host(port=port), path=target.path, plain=True) for port in ports]
    return worst(_straight(door, what, answer) for what, answer in zip(knocks, _ports(door, knocks), strict=True))


def _straight(door: Door, what: Knock, answer: Answer) -> Finding:
    """An app's own port must be closed; what answers there but is not this app is no concern."""
    if answer.kind in (NOT_LISTENING, TIMEOUT, UNREACHABLE):
        return Finding(PASS, "closed", what.words, answer.face)
    good = door.good(what.path)
    if answer.kind == ANSWERED and good is not None and same_answer(answer, good):
        return Finding(OPEN, f"the app itself answers on port {what.port}, past the door", what.words, answer.face)
    if good is not None or answer.kind != ANSWERED:
        return Finding(PASS, f"port {what.port} is something else: {answer.face}", what.words, answer.face)
    return Finding(UNSURE, f"something answers on port {what.port}", what.words, answer.face, WITH_CLIENT)


def other_ports(door: Door) -> Finding:
    """Check 18: other TLS ports have the same rules; HTTP/3 is not spoken here."""
    target = door.target
    ports = [port for port in dict.fromkeys(target.tls_ports) if port != target.port]
    knocks = [door.try_(port=port, host=door.host(port=port)) for port in ports]
    findings = []
    for what, answer in zip(knocks, _ports(door, knocks), strict=True):
        if answer.kind in (NOT_LISTENING, TIMEOUT, UNREACHABLE):
            findings.append(Finding(PASS, "closed", what.words, answer.face))
            continue
        control = door.knock(what._replace(host=NOBODY)) if answer.kind == ANSWERED and answer.status < 300 else None
        ruling = elsewhere(answer, door.good() if answer.kind == ANSWERED else None, control)
        findings.append(Finding(ruling.verdict, f"port {what.port}: {ruling.said}", what.words, answer.face, WITH_CLIENT if ruling.verdict == UNSURE else ""))
    seen = [answer for answer in (door.none(), door.good()) if answer is not None]
    quic = next((answer.header("alt-svc") for answer in seen if "h3" in answer.header("alt-svc")), "")
    if quic:
        findings.append(Finding(UNSURE, f"HTTP/3 is offered ({quic}), and QUIC is not spoken here", hint="switch HTTP/3 off, or try it with curl --http3"))
    if not findings:
        return Finding(UNSURE, "no other TLS port is known", hint="name it with --tls-port")
    return worst(findings)


def _ports(door: Door, knocks: list[Knock]) -> list[Answer]:
    from concurrent.futures import ThreadPoolExecutor

    if not knocks:
        return []
    with ThreadPoolExecutor(min(4, len(knocks))) as pool:
        return list(pool.map(lambda what: _port_knock(door, what), knocks))


def _port_knock(door: Door, what: Knock) -> Answer:
    """A knock that does not wait long: closed ports are often silent."""
    from .knock import knock

    door.budget.spend()
    return knock(what, Budget(1, _PORT_PATIENCE, min(_PORT_PATIENCE, door.budget.patience)))


def listed_paths(door: Door) -> tuple[str, ...]:
    """Paths that the site itself names in robots.txt and sitemap.xml, read with the good certificate."""
    found: list[str] = []
    for page in ("/robots.txt", "/sitemap.xml"):
        answer = door.good(page)
        if answer is None or answer.status != 200:
            continue
        text = answer.body.decode("latin-1")
        for match in re.finditer(r"(?im)^(?:dis)?allow:\s*(\S+)|<loc>\s*([^<\s]+)\s*</loc>", text):
            path = re.sub(r"^https?://[^/]*", "", match[1] or match[2])
            if re.fullmatch(r"/[!-~]*", path) and "*" not in path:
                found.append(path.rstrip("$"))
    return tuple(dict.fromkeys(found))[:_MOST_LISTED]


def paths(door: Door) -> Finding:
    """Check 19: no path is left out."""
    target = door.target
    tried = dict.fromkeys((target.path, *PATHS, door.random_path, *target.paths, *listed_paths(door)))
    knocks = [door.try_(path=path) for path in tried if not path.startswith(target.allowed or ("\0",))]
    skipped = len(tried) - len(knocks)
    finding = worst(door.must_refuse(what, answer) for what, answer in zip(knocks, door.many(knocks), strict=True))
    return finding._replace(said=f"{finding.said}; {skipped} left out because they are open on purpose") if skipped else finding


def methods(door: Door) -> Finding:
    """Check 20: no method is left out."""
    # A path that nobody has: should the door be open, POST and PUT change nothing.
    tries = [door.try_(method=method, path=door.target.path) for method in ("OPTIONS", "HEAD")]
    tries += [door.try_(method=method, path=door.random_path) for method in ("POST", "PUT", "TRACE", "GATEKEY")]
    findings = []
    for what, answer in zip(tries, door.many(tries), strict=True):
        if what.method == "OPTIONS" and answer.status == 204 and not answer.header("set-cookie"):
            findings.append(Finding(PASS, "OPTIONS: an empty 204", what.words, answer.face))
        elif what.method == "HEAD" and answer.status >= 400:
            usual = door.usual
            same = usual is not None and usual.status == answer.status
            findings.append(Finding(PASS if same else UNSURE, f"HEAD: {answer.face}", what.words, answer.face))
        else:
            finding = door.must_refuse(what, answer)
            findings.append(finding._replace(said=f"{what.method}: {finding.said}"))
    return worst(findings)
