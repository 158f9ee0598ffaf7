"""What the helpers of web servers ask over the network, without sockets: the bundle when it is another than theirs, a report, a successor of their certificate.

    GET  /agent/bundle?after=41&made=1795000000&wait=30    If-None-Match: "SHA-256 of the manifest that is there"
    POST /agent/report    {"number": 42, "at": 1795000003, "name": "web1"}
    POST /agent/renew

200 with a tar of the bundle's files when there is another one, at once or as soon as there is; 304 when there was none within `wait` seconds. Only a caller
with the scope `decide` is answered: a client certificate whose holder has the role `proxy`, or a token. Who reports is known from that, never from its words.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from ..authority import access, clock, requests
from ..authority.issue import issue
from ..errors import Malformed, Refused
from ..model.access import Caller
from ..model.instants import iso
from ..model.package import MEDIA_TYPE
from ..x509 import pem
from ..x509.certificate import read_certificate
from ..x509.names import rfc2253
from .message import Answer, Call

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..authority.package import Package
    from ..authority.standing import Standing

#: Seconds that a question may wait for its answer, at most and without a word of its own.
LONGEST_WAIT = 30
#: Bytes of a report; characters of a token.
MOST_REPORT, _MOST_TOKEN = 4096, 200
_MOST_NUMBER = 2**63
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAG = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


class Wanted(NamedTuple):
    """What an agent has: revocation number, time (POSIX seconds) and tag of its bundle; and how long it will wait for another one (seconds)."""

    after: int = -1
    made: int = 0
    tag: str = ""
    wait: int = LONGEST_WAIT


def wanted(call: Call) -> Wanted:
    """Reads a question. Raises Malformed."""
    said = {"after": -1, "made": 0, "wait": LONGEST_WAIT}
    pairs = parse_qsl(call.query[:1000], keep_blank_values=True, max_num_fields=10) if call.query.count("&") < 10 else [("more than ten", "")]
    for key, value in pairs:
        if key not in said or not re.fullmatch("-1|[0-9]{1,18}", value, re.ASCII):
            raise Malformed("bad-agent-call", f"{key[:40]!r} is not after, made or wait with a whole number", hint="is the agent newer than the service?")
        said[key] = int(value)
    found = _TAG.fullmatch(call.header("if-none-match").strip())
    return Wanted(said["after"], said["made"], found[1] if found else "", max(0, min(said["wait"], LONGEST_WAIT)))


def answer(package: Package, has: Wanted, *, last: bool) -> Answer | None:
    """The package if it is news, None if the agent should wait, or what is said when its time is over (`last`).

    An older package than the agent's is not sent at once: another worker may be a moment ahead. In the end it is, and the agent says what it thinks of it.
    """
    headers = (("etag", f'"{package.tag}"'), ("cache-control", "no-store"))
    if has.tag == package.tag:
        return Answer(304, headers) if last else None
    if (package.number, package.made_at) < (has.after, has.made) and not last:
        return None
    return Answer(200, (*headers, ("content-type", MEDIA_TYPE)), package.body)


class Desk:
    """Who may ask, and what is done for those who report or renew."""

    def __init__(self, authority: Authority, standing: Standing) -> None:
        self._authority = authority
        self._standing = standing

    def caller(self, call: Call) -> Caller:
        """Who asks. Raises Refused unless it may `decide`."""
        if token := call.header("authorization"):
            way, _, secret = token.partition(" ")
            if way.lower() != "bearer" or len(secret) > _MOST_TOKEN or not secret.isascii():
                raise Refused("sign-in", "authorization is no Bearer token", hint="Authorization: Bearer gkt_...")
            caller = access.caller_of_token(self._authority, secret.strip())
        elif call.peer.certificate:
            caller = access.caller_of_certificate(self._authority, read_certificate(call.peer.certificate))
        else:
            caller = Caller()
        access.need(caller, "decide")
        return caller

    def admitted(self, call: Call) -> tuple[str, str] | None:
        """Issuer (RFC 2253 form) and serial of the certificate that asks; None for a token. Raises Refused unless it may `decide`."""
        if self.caller(call).way != "certificate":
            return None
        certificate = read_certificate(call.peer.certificate)
        return rfc2253(certificate.issuer), certificate.serial

    def still(self, who: tuple[str, str] | None) -> bool:
        """Whether who was admitted some time ago is still in force, out of memory. A token must be looked up: False is only "ask again"."""
        return who is not None and self._standing.decide(*who).allowed

    def report(self, call: Call) -> Answer:
        """The agent's web server refuses everything up to a revocation number. Raises Refused, Malformed."""
        caller = self.caller(call)
        number, at, name = _report(call.body)
        clock.reported(self._authority, caller.login, name, number, at)
        return Answer(204, (("cache-control", "no-store"),))

    def renew(self, call: Call) -> Answer:
        """A successor, with the same key, of the very certificate that asks, in the last third of its life; asked again, the same one.

        Raises Refused when it is too early, or when no certificate asks.
        """
        caller = self.caller(call)
        if caller.way != "certificate":
            raise Refused("bad-agent-call", "only a certificate can be renewed, and a token asks", hint="gatekey token add makes another one")
        own = read_certificate(call.peer.certificate)
        authority = self._authority.acting(f"holder:{caller.login}")
        record = authority.reads.by_fingerprint(own.fingerprint)[0]
        due = renewal_due(own.not_before, own.not_after)
        if authority.now() < due:
            raise Refused("renew-early", f"this certificate is renewed from {iso(due)} on, when two thirds of its life are over", hint="ask again then")
        request, holder = requests.renewal(authority, record, None, door="self-service", idempotency=f"agent-renewal/{record.serial}")
        released = issue(authority, request, holder)
        chain = [released.der, *(one.der for one in authority.chain(released.issuer)[:-1])]
        body = b"".join(pem.encode("CERTIFICATE", der) for der in chain)
        return Answer(200, (("content-type", "application/x-pem-file"), ("cache-control", "no-store")), body)


def renewal_due(not_before: int, not_after: int) -> int:
    """When two thirds of a life are over (POSIX seconds)."""
    return not_before + 2 * (not_after - not_before) // 3


def _report(body: bytes) -> tuple[int, int, str]:
    try:
        said = json.loads(body)
        number, at, name = said["number"], said["at"], said.get("name", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Malformed("bad-agent-call", "a report is JSON with number and at") from None
    if not (type(number) is int and 0 <= number < _MOST_NUMBER and type(at) is int and 0 <= at < _MOST_NUMBER):
        raise Malformed("bad-agent-call", "number and at of a report are whole numbers, 0 or more")
    if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
        raise Malformed("bad-agent-call", "the name of an agent is at most 64 letters, digits, dots, underscores and hyphens")
    return number, at, name
