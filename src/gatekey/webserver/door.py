"""The door that is being checked: where it is, who knocks, what was heard already, and how much knocking is left."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from ..errors import GatekeyError, Malformed, Unavailable
from ..model.names import host_problem, ip_address
from ..x509 import pem
from ..x509.certificate import Certificate, read_certificate
from . import forged, page
from .answer import ANSWERED, CLOSED, NOT_LISTENING, NOT_TLS, TIMEOUT, UNREACHABLE, Answer
from .knock import Budget, Identity, Knock, Line, connect, knock
from .refusal import DOOR_STATUSES, Ruling, own_reason, refusing, same_answer, server_of
from .report import OPEN, PASS, UNSURE, Finding

#: A host that cannot exist (RFC 6761 6.4): what a server shows for it, it shows for any name.
NOBODY = "gatekey-probe.invalid"

#: Redirects that are followed, on the same host only.
_MOST_REDIRECTS = 2
#: How often a good certificate that nobody knows there is shown again, and seconds in between.
_NOT_YET, _MOMENT = 3, 0.3
#: Connections at a time.
_AT_ONCE = 4


class Dice(Protocol):
    """What the checks need of chance: names that nobody has guessed and serial numbers. `gatekey.ports.Entropy` fits."""

    def bytes(self, count: int) -> bytes: ...


class Target(NamedTuple):
    """The site and what its owner says about it. Everything but `host` has a default.

    `address`, `address6`: connect there instead of what DNS says ("" asks DNS); `pinned`: they are what DNS says, and it is not asked again.
    `path`: a page of the app. `http_port`: 0 for none.
    `app_ports`: where the app itself may listen; `tls_ports`: further ports that speak TLS. `paths`: further paths to try without a certificate.
    `allowed`: path prefixes that are open on purpose. `siblings`: other sites on the same server. `origin`: the address behind a CDN.
    `whoami`: a page that says who is there. `websocket`: a path that takes WebSockets. `roots`: PEM of the authorities behind the site's own certificate.
    `patience`: seconds for one answer. `closing`: seconds in which an open connection must end after its certificate was revoked.
    """

    host: str
    port: int = 443
    path: str = "/"
    address: str = ""
    address6: str = ""
    http_port: int = 80
    app_ports: tuple[int, ...] = (8000, 8080, 3000, 5000, 9000)
    tls_ports: tuple[int, ...] = (8443,)
    paths: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    origin: str = ""
    whoami: str = ""
    websocket: str = "/ws"
    roots: bytes = b""
    patience: float = 5.0
    closing: float = 12.0
    pinned: bool = False

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}{'' if self.port == 443 else f':{self.port}'}{self.path}"


class Identities(NamedTuple):
    """Who knocks. Each may be missing; the checks that need it then say how to get it.

    `good` is let in; `expired`, `revoked`; `server`: a web server's certificate; `wrong_usage`: issued by the people's authority, but for servers only;
    `foreign`: another authority's, with the same names. `canary`: good until the check itself revokes it.
    """

    good: Identity | None = None
    expired: Identity | None = None
    revoked: Identity | None = None
    server: Identity | None = None
    wrong_usage: Identity | None = None
    foreign: Identity | None = None
    canary: Identity | None = None


def parse_target(url: str) -> Target:
    """The target that a URL names: `https://host[:port][/path]`. Raises Malformed("bad-url")."""
    hint = "write it as https://host, with a port if it is not 443"
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError as error:
        raise Malformed("bad-url", f"{url!r} is not a URL: {error}", hint=hint) from None
    if parts.scheme != "https":
        raise Malformed("bad-url", f"{url!r} is not a site behind client certificates: those begin with https://", hint=hint)
    if parts.username or parts.password:
        raise Malformed("bad-url", "the URL has a user name or a password in it", hint=hint)
    problem = None if ip_address(host) else host_problem(host, wildcard=False)
    if problem:
        raise Malformed("bad-url", f"the URL's host cannot be right: {problem}", hint=hint)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    if not re.fullmatch(r"/[!-~]*", path):
        raise Malformed("bad-url", f"the path {path!r} has characters that must be percent-encoded", hint=hint)
    return Target(ip_address(host) or host, port or 443, path)


class Door:
    """One site during one check: knocks, remembers the answers that several checks need, and rules on refusals."""

    def __init__(self, target: Target, identities: Identities, budget: Budget, entropy: Dice, now: int) -> None:
        self.target = target
        self.identities = identities
        self.budget = budget
        self.entropy = entropy
        self.now = now
        self.server = ""
        self.address = target.address or _first(resolve(target.host, target.patience), target.host)
        self.ask_dns = not target.address
        self.random_path = f"/gatekey-probe-{entropy.bytes(6).hex()}"
        self.neighbours: tuple[str, ...] | None = None
        self.memory: dict[str, Finding] = {}
        self._answers: dict[tuple[str, str, str], Answer] = {}
        self._forged: dict[str, Identity] = {}
        self._lock = threading.Lock()

    # What is known of the identities

    @property
    def people(self) -> tuple[Certificate, ...]:
        """The good certificate and its issuers, leaf first; empty when there is none."""
        chosen = self.identities.good or self.identities.canary or self.identities.revoked or self.identities.expired
        return certificates(chosen.chain) if chosen else ()

    def false_authority(self) -> Identity:
        """A forged identity of a false authority that copies ours, or at least the names that the server sends."""
        return self._forge("false", lambda: forged.false_authority(self._names(), self.now, self.entropy.bytes(15)))

    def self_signed(self) -> Identity:
        return self._forge("self", lambda: forged.self_signed(self._names().subject, self.now, self.entropy.bytes(15)))

    def _forge(self, kind: str, make: Callable[[], Identity]) -> Identity:
        if kind not in self._forged:
            self._forged[kind] = make()
        return self._forged[kind]

    def _names(self) -> forged.Names:
        people = self.people
        if people:
            return forged.Names(people[0].subject, tuple(one.issuer for one in people), people[0].authority_key_id or b"")
        heard = self.none().heard
        sent = heard.authorities if heard is not None else None
        # The last one sent is usually the issuing authority; any name of the list would do.
        return forged.Names(b"", tuple(reversed(sent or ()))[:2])

    def once(self, name: str, find: Callable[[Door], Finding]) -> Finding:
        """A finding that several checks need, found once."""
        if name not in self.memory:
            self.memory[name] = find(self)
        return self.memory[name]

    # Knocking

    def try_(self, identity: Identity | None = None, **change: object) -> Knock:
        """A GET of the site's page under its own name, with changes."""
        target = self.target
        base = Knock(self.address, target.port, "" if ip_address(target.host) else target.host, self.host(), identity, path=target.path)
        return base._replace(**change)  # type: ignore[arg-type]  # the names are checked by _replace

    def host(self, name: str = "", port: int = 0) -> str:
        """The Host header as a browser writes it (RFC 9110 7.2)."""
        host, number = name or self.target.host, port or self.target.port
        host = f"[{host}]" if ":" in host else host
        return host if number == 443 else f"{host}:{number}"

    def knock(self, what: Knock) -> Answer:
        answer = knock(what, self.budget)
        self.server = self.server or server_of(answer)
        return answer

    def connect(self, what: Knock, *, resume: Line | None = None) -> Line | Answer:
        return connect(what, self.budget, resume=resume)

    def many(self, knocks: Sequence[Knock]) -> list[Answer]:
        """The answers in order; a few connections at a time."""
        from concurrent.futures import ThreadPoolExecutor

        if len(knocks) < 2:
            return [self.knock(one) for one in knocks]
        with ThreadPoolExecutor(min(_AT_ONCE, len(knocks))) as pool:
            return list(pool.map(self.knock, knocks))

    def _remembered(self, kind: str, what: Knock) -> Answer:
        key = (kind, what.method, what.path)
        with self._lock:
            known = self._answers.get(key)
        if known is None:
            known = self._patiently(what) if kind == "good" else self.knock(what)
            with self._lock:
                self._answers[key] = known
        return known

    def _patiently(self, what: Knock) -> Answer:
        """Whoever makes a certificate for a check knocks at once, and a door that asks a service may hear of it a moment later."""
        answer = self.knock(what)
        for _ in range(_NOT_YET):
            if own_reason(answer) != page.NOT_LET_IN:
                break
            time.sleep(_MOMENT)
            answer = self.knock(what)
        return answer

    def none(self, path: str = "") -> Answer:
        """What a GET without a certificate gets."""
        return self._remembered("none", self.try_(path=path or self.target.path))

    def first_good(self, identity: Identity) -> Answer:
        """What the good certificate gets for the site's page."""
        return self._remembered("good", self.try_(identity))

    def good(self, path: str = "", method: str = "GET") -> Answer | None:
        """What the good certificate gets, for methods that change nothing; None when there is none or it is not let in."""
        if self.identities.good is None or method not in ("GET", "HEAD", "OPTIONS"):
            return None
        first = self.first_good(self.identities.good)
        if not self.let_in(first):
            return None
        wanted = path or self.target.path
        return first if (wanted, method) == (self.target.path, "GET") else self._remembered("good", self.try_(self.identities.good, path=wanted, method=method))

    def let_in(self, answer: Answer) -> bool:
        """Whether an answer to the good certificate came from behind the door: not refused like everybody else."""
        if answer.kind != ANSWERED or answer.status in DOOR_STATUSES or own_reason(answer):
            return False
        return answer.status < 400 or not same_answer(answer, self.none())

    @property
    def good_is_refused(self) -> bool:
        """There is a good certificate, and it is refused as well: a refusal of another one then shows nothing."""
        return self.identities.good is not None and self.good() is None

    @property
    def usual(self) -> Answer | None:
        """The refusal of a plain GET without a certificate, if it came as a page."""
        answer = self.none()
        return answer if answer.kind == ANSWERED and answer.status >= 400 else None

    # Ruling

    def must_refuse(self, what: Knock, answer: Answer | None = None, *, usual: bool = True) -> Finding:
        """Knocks under the site's own name, where nothing but a refusal may come back."""
        answer = self.knock(what) if answer is None else answer
        good = self.good(what.path, what.method) if answer.kind == ANSWERED and answer.status >= 300 else None
        ruling = refusing(answer, good, self.usual if usual else None)
        if ruling.verdict == UNSURE and 300 <= answer.status < 400:
            ruling = self._behind_redirect(what, answer, ruling)
        return Finding(ruling.verdict, ruling.said, what.words, answer.face)

    def _behind_redirect(self, what: Knock, answer: Answer, ruling: Ruling) -> Ruling:
        for _ in range(_MOST_REDIRECTS):
            path = self._same_host(answer.header("location"), what.path)
            if not path:
                return ruling
            what = what._replace(path=path, method="GET", headers=())
            answer = self.knock(what)
            after = refusing(answer, self.good(path) if answer.kind == ANSWERED and answer.status >= 300 else None, self.usual)
            ruling = Ruling(after.verdict, f"a redirect to {path}, and there: {after.said}")
            if not 300 <= answer.status < 400:
                return ruling
        return ruling

    def _same_host(self, location: str, base: str) -> str:
        """The path of a redirect that stays on this very site, or ""."""
        try:
            parts = urlsplit(urljoin(f"https://{self.host()}{base}", location))
        except ValueError:
            return ""
        if parts.scheme != "https" or parts.netloc.lower() != self.host().lower():
            return ""
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return path if re.fullmatch(r"/[!-~]*", path) else ""


def worst(findings: Iterable[Finding]) -> Finding:
    """The finding that decides: the first that is open, otherwise the first that cannot tell, otherwise the first. All must not be empty."""
    listed = list(findings)
    for verdict in (OPEN, UNSURE):
        bad = [finding for finding in listed if finding.verdict == verdict]
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            return bad[0]._replace(said=bad[0].said + more)
    faces = list(dict.fromkeys(finding.said for finding in listed))
    more = f" ({len(listed)} tries)" if len(listed) > 1 else ""
    return listed[0]._replace(verdict=PASS, said="; ".join(faces[:3]) + more)


def certificates(chain: bytes) -> tuple[Certificate, ...]:
    """The certificates of a PEM chain. Raises Malformed."""
    return tuple(read_certificate(der) for label, der in pem.decode(chain) if label == "CERTIFICATE")


def readable(ders: Iterable[bytes]) -> tuple[Certificate, ...]:
    """The certificates that a server shows, up to the first that cannot be read."""
    found = []
    for der in ders:
        try:
            found.append(read_certificate(der))
        except GatekeyError:
            break
    return tuple(found)


def resolve(host: str, patience: float, family: socket.AddressFamily = socket.AF_UNSPEC) -> tuple[str, ...]:
    """The addresses of a host, IPv4 first; empty when there are none or DNS does not answer in time."""
    found: list[str] = []

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, 443, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        infos.sort(key=lambda info: info[0] != socket.AF_INET)
        found.extend(dict.fromkeys(str(info[4][0]) for info in infos))

    # getaddrinfo takes no timeout; a thread that is still waiting then is left to itself.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return tuple(found)


def _first(addresses: tuple[str, ...], host: str) -> str:
    if not addresses:
        raise Unavailable("site-unreachable", f"the name {host} has no address", hint="check the name, or say where to connect", host=host)
    return addresses[0]


def reachable(door: Door) -> None:
    """Raises Unavailable when there is no TLS server at the door: "site-unreachable", "site-without-tls". Then there is nothing to check."""
    answer = door.none()
    where = f"{door.address} port {door.target.port}"
    silent = answer.kind == TIMEOUT and not (answer.heard and answer.heard.works)
    if silent and _plain_http(door):
        raise Unavailable("site-without-tls", f"{where} does not speak TLS: it answers plain HTTP", hint="name the port of https", host=door.target.host)
    if answer.kind in (NOT_LISTENING, UNREACHABLE) or silent:
        raise Unavailable("site-unreachable", f"{where} cannot be reached: {answer.words}", hint="is the web server running?", host=door.target.host)
    if answer.kind == NOT_TLS or (answer.kind == CLOSED and not answer.tls and answer.heard and not answer.heard.works):
        raise Unavailable("site-without-tls", f"{where} does not speak TLS: {answer.words}", hint="name the port of https", host=door.target.host)


def _plain_http(door: Door) -> bool:
    """Whether plain HTTP is spoken at the door. A server that waits for the end of a header may find none in a ClientHello, and then it says nothing.

    A TLS server that is only slow says 400 to plain HTTP (nginx, Apache, Caddy), or nothing.
    """
    answer = door.knock(door.try_(plain=True))
    return answer.kind == ANSWERED and answer.status != 400
