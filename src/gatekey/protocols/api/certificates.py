"""Certificates: who has which, issuing in every way, taking away, and the question whether one would be let in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...authority import clock, people, profiles, requests, seen, verify
from ...authority import revoke as revocation
from ...authority.issue import Asked
from ...authority.steps import Steps, alone
from ...errors import Malformed, NotFound, Refused
from ...lifecycle import Released
from ...model.access import Shown, token_id
from ...model.holder import Holder
from ...model.instants import DAY, iso
from ...model.keytypes import DEFAULT, MADE_HERE
from ...model.record import CertificateRecord, Filter, Taken
from ...model.request import Request
from ...model.status import REVOKE_REASONS, STATUSES
from ...x509 import pem
from ...x509.certificate import read_certificate
from ...x509.csr import Csr, proof_problem, unproven
from ...x509.sniff import sniff
from ..message import Answer, as_json
from . import answers, handover
from .asking import Ask, Route, Wish, certificate, not_above
from .shapes import Field, Shape

if TYPE_CHECKING:
    from ...ports import PortableKey

_LIVE = ("valid", "held", "not-yet-valid")
#: Characters of a request or of certificates in PEM.
_MOST_PEM = 64 * 1024
#: Whether a key that takes a while (RSA) may be made by whoever asks. Where it may not, nothing is made or done, and the answer has the status LATER and the
#: login of the caller as its body: for whoever has asked in this way, not for the network.
SLOWLY: ContextVar[bool] = ContextVar("SLOWLY", default=True)
LATER = 0
#: The largest page of a list, and the usual one.
MOST_ROWS, ROWS = 1000, 100

LIMIT = Field("limit", "number", f"rows of a page (default {ROWS})", most=MOST_ROWS, least=1)
AFTER = Field("after", "text", "the `next` of the page before")
_CSR = Field("csr", "lines", "a certificate request (PEM): the key stays where it was made", most=_MOST_PEM)
_DAYS = Field("days", "number", "days of validity; the profile's without it", most=36500, least=1)
_KEY_TYPE = Field("key_type", "text", f"the kind of key to make (default {DEFAULT})", choices=MADE_HERE)
_FOR = Field("for", "text", "what the file with the key is opened on (default any; pem for machines)", choices=handover.TARGETS)
_DEVICE = Field("device", "text", "for which device: one certificate per person and device", most=64)

LIST = Shape(
    "CertificatesQuery",
    (
        Field("status", "text", "only these", choices=STATUSES),
        Field("holder", "text", "only those of this holder (login or e-mail)", most=254),
        Field("group", "text", "only those of people in this group", most=64),
        Field("expiring", "number", "only those in force that end within so many days", most=36500),
        Field("probes", "flag", "also the test identities of gatekey check"),
        Field("authorities", "flag", "also the authorities' own certificates"),
        Field("services", "flag", "also what the service has issued to itself"),
        AFTER,
        LIMIT,
    ),
)
CLIENT = Shape(
    "ClientRequest",
    (
        Field("login", "text", "the common name; the person is made if new", True, least=1),
        Field("email", "text", "goes into the certificate; unique per person", most=254),
        Field("name", "text", "what the person is called, in any script"),
        _DEVICE,
        Field("groups", "texts", "puts the person into these groups", most=64),
        Field("profile", "text", "under which words (default client)", most=64),
        _DAYS,
        Field("csr", "lines", "the person's own request (PEM): only its public key is taken", most=_MOST_PEM, least=1),
        _KEY_TYPE,
        _FOR,
    ),
)
SERVER = Shape(
    "ServerRequest",
    (
        Field("hosts", "texts", "names of the server; an address may stand among them", True, most=253, least=1),
        Field("ips", "texts", "addresses of the server", most=64),
        Field("profile", "text", "under which words (default server)", most=64),
        _DAYS,
        Field("csr", "lines", "the server's own request (PEM): only its public key is taken", most=_MOST_PEM, least=1),
        _KEY_TYPE,
    ),
)
SIGN = Shape(
    "SignRequest",
    (
        _CSR._replace(required=True, least=1, about="a certificate request (PEM): its key and the names it asks for, as far as the profile allows"),
        Field("profile", "text", "under which words", True, most=64, least=1),
        _DAYS,
        _DEVICE,
    ),
)
RENEW = Shape(
    "RenewRequest",
    (
        Field("new_key", "flag", "make a new key here; otherwise the same key is certified again"),
        Field("csr", "lines", "certify the key of this request; its names are not taken", most=_MOST_PEM, least=1),
        _DAYS,
        _KEY_TYPE._replace(about="with new_key: the kind of key (default: as before)"),
        _FOR._replace(about="with new_key: what the file with the key is opened on (default any; pem for machines)"),
    ),
)
REVOKE = Shape("RevokeRequest", (Field("reason", "text", "why (RFC 5280 5.3.1; default unspecified)", choices=REVOKE_REASONS),))
VERIFY = Shape(
    "VerifyRequest",
    (
        Field("certificate", "lines", "the certificate first; others in it may help to build the path (PEM)", True, most=_MOST_PEM, least=1),
        Field("at", "instant", "as of then instead of now", most=20),
        Field("server", "flag", "as a web server's certificate, the way a browser would look at it"),
    ),
)
NOTHING = Shape("Nothing", ())


def list_(ask: Ask) -> Answer:
    """Certificates page by page, in the order of their recording."""
    said = ask.query
    login = people.get(ask.authority, said["holder"]).login if said.get("holder") else ""
    ending = said["expiring"] * DAY if "expiring" in said else None
    also = (said.get("probes", False), said.get("authorities", False), said.get("services", False))
    find = Filter(said.get("status", ""), login, said.get("group", ""), ending, *also)
    limit = said.get("limit", ROWS)
    found = ask.authority.reads.page(find, ask.authority.now(), after=_cursor(said.get("after", "")), limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return as_json({"items": answers.certificates(ask.authority, found[:limit]), "next": f"{last.recorded_at}-{last.serial}" if last else None})


def _cursor(text: str) -> tuple[int, str]:
    at, _, serial = text.partition("-")
    if text and not (at.isascii() and at.isdigit() and len(at) < 15 and serial.isascii() and serial.isalnum()):
        raise Malformed("bad-request", "after: is not the `next` of a page")
    return (int(at), serial) if text else (-1, "")


def show(ask: Ask) -> Answer:
    """One certificate: its row, itself and its chain."""
    return as_json(_shown(ask, certificate(ask)))


def _shown(ask: Ask, record: CertificateRecord) -> dict[str, Any]:
    der = ask.authority.ledger.der(record.id) if record.state == "released" else b""
    today, _ = profiles.today(ask.authority, record)
    (row,) = answers.certificates(ask.authority, [record])
    return {**row, "clock": clock.of(ask.authority, record).as_dict(), "profile_today": today, **_pems(ask, record.issuer, der)}


def _pems(ask: Ask, issuer: str, der: bytes) -> dict[str, Any]:
    if not der:
        return {"pem": None, "chain": None}
    own = pem.encode("CERTIFICATE", der).decode()
    above = ask.desk.kept.get(("above", issuer))
    if above is None:
        above = ask.desk.kept["above", issuer] = "".join(pem.encode("CERTIFICATE", one.der).decode() for one in ask.authority.chain(issuer)[:-1])
    return {"pem": own, "chain": own + above}


def client(ask: Ask) -> Answer | Wish:
    """A person's (or machine's) certificate for one device."""
    said = ask.body
    profile = said.get("profile", "client")
    person = requests.profile_of(ask.authority, profile, "client").holder_kind == "person"
    made = _key(ask, "any" if person else "pem")
    if isinstance(made, Answer):
        return made
    key, spki, proof = made
    request, holder = requests.client(
        ask.authority,
        said["login"],
        spki,
        email=said.get("email", ""),
        name=said.get("name", ""),
        device=said.get("device", ""),
        groups=said.get("groups", ()),
        days=said.get("days"),
        proof=proof,
        door="api",
        idempotency=ask.key,
        profile=profile,
    )
    people.check(holder._replace(devices=(request.device,) if request.device else ()))
    return _wish(ask, request, holder, key, alone=True)


def server(ask: Ask) -> Answer | Wish:
    """A web server's certificate."""
    said = ask.body
    made = _key(ask, "pem")
    if isinstance(made, Answer):
        return made
    key, spki, proof = made
    request, holder = requests.server(
        ask.authority,
        said["hosts"],
        spki,
        ips=said.get("ips", ()),
        days=said.get("days"),
        proof=proof,
        door="api",
        idempotency=ask.key,
        profile=said.get("profile", "server"),
    )
    return _wish(ask, request, holder, key)


def sign(ask: Ask) -> Steps[Wish]:
    """A certificate out of a request, with the names that it asks for."""
    said = ask.body
    asked = yield from csr(said["csr"])
    yield
    request, holder = requests.from_csr(
        ask.authority, said["profile"], asked, days=said.get("days"), door="api", device=said.get("device", ""), idempotency=ask.key
    )
    notes = tuple(f"the request also asks for {wish}; that is the authority's to say, and it was not followed" for wish in asked.wants)
    return _wish(ask, request, holder, None, alone=holder.alone, notes=notes)


def renew(ask: Ask) -> Answer | Wish:
    """A successor with the same key, another one, or a new one made here. The old one stays valid."""
    said = ask.body
    if said.get("new_key") and said.get("csr"):
        raise Malformed("bad-request", "new_key and csr exclude each other")
    old = certificate(ask, "valid", "not-yet-valid", "expired")
    if old.kind == "authority":
        raise Refused("renew-authority", f"{old.title} is an authority", hint="authorities are not renewed like leaves")
    key: PortableKey | None = None
    spki, proof = None, "same-key"
    if said.get("new_key") or said.get("csr"):
        usual = old.key_type if old.key_type in MADE_HERE else DEFAULT
        made = _key(ask, "any" if old.kind == "person" else "pem", usual)
        if isinstance(made, Answer):
            return made
        key, spki, proof = made
    request, holder = requests.renewal(ask.authority, old, spki, proof=proof, days=said.get("days"), door="api", idempotency=ask.key)
    return _wish(ask, request, holder, key)


def _key(ask: Ask, target: str, kind: str = DEFAULT) -> Answer | tuple[PortableKey | None, bytes, str]:
    """The key to certify: of the CSR, or one made now, with its SPKI and the proof of possession; or LATER."""
    if ask.body.get("csr"):
        if "key_type" in ask.body or "for" in ask.body:
            raise Malformed("bad-request", "with csr the key is not here: key_type and for do not apply")
        return None, alone(csr(ask.body["csr"])).spki, "csr"
    kind = ask.body.get("key_type", kind)
    handover.refuse_target(kind, ask.body.get("for", target))
    if kind.startswith("rsa-") and not SLOWLY.get():
        return Answer(LATER, (), ask.caller.login.encode())
    key = ask.desk.make_key(kind)
    return key, key.spki, "made-here"


def csr(text: str) -> Steps[Csr]:
    """The one request in a text; its self-signature holds. Raises Malformed that says what it is instead."""
    found = sniff(text.encode())
    yield
    request = unproven(found)
    if request is None:
        if any(kind.endswith("private-key") for kind, _ in found):
            raise Malformed("wrong-kind", "csr: this is a private key; never send it to anybody", hint="send the request; gatekey request makes both")
        raise Malformed("wrong-kind", f"csr: this is {found[0][0] if found else 'nothing'}, no certificate request")
    yield
    if problem := proof_problem(request):
        raise problem
    return request


def _wish(ask: Ask, request: Request, holder: Holder, key: PortableKey | None, *, alone: bool = False, notes: tuple[str, ...] = ()) -> Wish:
    not_above(ask, holder.login)
    if "PRIVATE KEY-----" in ask.body.get("csr", ""):
        notes = (*notes, "a private key came with the request: never send it to anybody; make a new key and another request if others may have seen it")
    if ask.key:
        request = request._replace(asked=ask.digest)
    person = holder.kind == "person"

    def finish(released: Released, record: CertificateRecord, said: Sequence[str]) -> Answer:
        target = ask.body.get("for", "any" if person else "pem")
        secret = handover.secrets(ask.authority, released, holder, key, target, request.device) if key else {}
        return issued(ask, released, record, "now" if key else "never", (*notes, *said), secret)

    return Wish(ask, Asked(request, holder, alone, shown=_shown_by(ask)), finish)


def _shown_by(ask: Ask) -> Shown:
    """What the caller has signed in with, and that it must allow him to issue."""
    if ask.caller.way == "token":
        return Shown("token", token_id(ask.call.header("authorization").partition(" ")[2].strip()), "issue")
    return Shown("certificate", hashlib.sha256(ask.call.peer.certificate).hexdigest().upper(), "issue")


def again(ask: Ask, released: Released) -> Answer:
    """The answer to a question that was asked before: the same certificate, and never the key."""
    made_here = not ask.body.get("csr") and (ask.body.get("new_key", False) or not ask.call.path.endswith("/renew"))
    lost = "the private key was in the first answer and is kept nowhere; if that was lost, revoke this certificate or renew it with a new key"
    record = next((one for one in ask.authority.reads.by_serial(released.number) if one.id == released.id), None)
    if record is None:
        raise NotFound("no-certificate", f"{released.number} is not in the ledger")
    sight = seen.last(ask.authority, record.issuer, record.serial)
    return issued(ask, released, record, "earlier" if made_here else "never", (lost,) if made_here else (), {}, sight)


def issued(
    ask: Ask, released: Released, record: CertificateRecord, handed_out: str, notes: Sequence[str], secret: dict[str, Any], sight: seen.Sight | None = None
) -> Answer:
    """What is told of a certificate that has just been issued, or was under the same key: then it may have been let in since."""
    rest = {"key": None, "pkcs12": None, "mobileconfig": None, "password": None, **secret}
    told = {**answers.certificate(record, ask.authority.now(), sight), **_pems(ask, released.issuer, released.der)}
    return as_json({**told, "handed_out": handed_out, **rest, "notes": list(notes)}, status=201)


def revoke(ask: Ask) -> Answer:
    """Takes a certificate away for good; with key-compromise every one with the same key."""
    record = certificate(ask, *_LIVE)
    not_above(ask, record.holder)
    reason = ask.body.get("reason", "unspecified")
    return _taken(ask, record, f"revoked ({reason})", revocation.revoke(ask.authority, record.id, reason))


def hold(ask: Ask) -> Answer:
    """Takes a certificate away for a while."""
    record = certificate(ask, "valid", "not-yet-valid")
    not_above(ask, record.holder)
    return _taken(ask, record, "held", revocation.hold(ask.authority, record.id))


def unhold(ask: Ask) -> Answer:
    """Gives a held certificate back."""
    record = certificate(ask, "held")
    not_above(ask, record.holder)
    revocation.unhold(ask.authority, record.id)
    return as_json(_shown(ask, next(one for one in ask.authority.reads.by_serial(record.serial) if one.id == record.id)))


def _taken(ask: Ask, record: CertificateRecord, action: str, what: list[Taken]) -> Answer:
    now = ask.authority.now()
    same = [one for one in ask.authority.reads.by_holder(record.holder) if one.lineage == record.lineage and one.id != record.id]
    return as_json(answers.taken(ask.authority, action, what, [one for one in same if one.status(now) == "valid"]))


def verify_(ask: Ask) -> Answer:
    """Would this certificate be let in, and why not."""
    held = [read_certificate(der) for kind, der in sniff(ask.body["certificate"].encode()) if kind == "certificate"]
    if not held:
        raise Malformed("wrong-kind", "certificate: there is no certificate in it")
    if len(held) > 20:
        raise Malformed("bad-request", "certificate: more than 20 certificates are not looked at")
    at = ask.body.get("at", ask.authority.now())
    verdict = verify.verify(ask.authority, held[0], held[1:], at=at, purpose="server" if ask.body.get("server") else "client")
    return as_json({"ok": verdict.ok, "at": iso(at), **verdict.as_dict()})


_ONE = "/v1/certificates/{ref}"
ROUTES = (
    # Issuing first: what is asked for most is found first.
    Route("POST", "/v1/certificates/sign", "signCsr", "Issue from a certificate request", ("issue",), sign, body=SIGN, answer=answers.ISSUED, status=201,
          issues=True),
    Route("POST", "/v1/certificates/client", "issueClient", "Issue a person's certificate", ("issue",), client, body=CLIENT, answer=answers.ISSUED, status=201,
          issues=True),
    Route("POST", "/v1/certificates/server", "issueServer", "Issue a web server's certificate", ("issue",), server, body=SERVER, answer=answers.ISSUED,
          status=201, issues=True),
    Route("POST", "/v1/certificates/verify", "verify", "Would this certificate be let in, and why not", ("read",), verify_, body=VERIFY,
          answer=answers.CHECKED),
    Route("GET", "/v1/certificates", "listCertificates", "Who has which certificate", ("read",), list_, query=LIST, answer=answers.CERTIFICATES),
    Route("GET", _ONE, "showCertificate", "One certificate, by serial, fingerprint, login or e-mail", ("read",), show, answer=answers.SHOWN),
    Route("POST", f"{_ONE}/renew", "renew", "Issue a successor, with the same or another key", ("issue",), renew, body=RENEW, answer=answers.ISSUED,
          status=201, issues=True),
    Route("POST", f"{_ONE}/revoke", "revoke", "Take a certificate away for good", ("revoke",), revoke, body=REVOKE, answer=answers.TAKEN),
    Route("POST", f"{_ONE}/hold", "hold", "Take a certificate away for a while", ("revoke",), hold, body=NOTHING, answer=answers.TAKEN),
    Route("POST", f"{_ONE}/unhold", "unhold", "Give a held certificate back", ("revoke",), unhold, body=NOTHING, answer=answers.SHOWN),
)  # fmt: skip
