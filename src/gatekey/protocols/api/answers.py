"""The shapes of answers, and how the ledger's values are told in them. Every time is 2026-11-23T15:09:00Z."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...authority import seen
from ...authority.profiles import TODAY
from ...model.access import ROLES, SCOPES, Token
from ...model.holder import KINDS, Holder
from ...model.instants import iso
from ...model.record import CertificateRecord, Taken
from ...model.status import STATUSES
from .shapes import Field, Shape

if TYPE_CHECKING:
    from ...authority.authority import Authority


def listed(name: str, items: Shape, about: str) -> Shape:
    """A page of a list."""
    following = Field("next", "text", "what to say as `after` for the next page; null on the last one", True, nullable=True)
    return Shape(name, (Field("items", "objects", about, True, shape=items), following))


PROBLEM = Shape(
    "Problem",
    (
        Field("type", "text", "urn:gatekey:error:CODE", True),
        Field("title", "text", "what the code means, always in the same words", True),
        Field("status", "number", "the HTTP status", True, most=599),
        Field("code", "text", "one of the codes of docs/reference/errors.md", True),
        Field("detail", "text", "what was found, and what is allowed", True, most=4000),
        Field("hint", "text", "what to do next", most=4000),
        Field("reasons", "objects", "every reason, when there is more than one", shape=Shape("Reason", (
            Field("code", "text", "its code", True), Field("message", "text", "the reason", True), Field("hint", "text", "what to do next", True),
        ))),
        Field("instance", "text", "the id of the request, as it stands in the log"),
    ),
)  # fmt: skip

_CERTIFICATE = (
    Field("serial", "text", "32 hex digits", True),
    Field("issuer", "text", "short name of the authority that issued it", True),
    Field("status", "text", "how it stands now", True, STATUSES),
    Field("holder", "text", "login of the person, or name of the server or machine", True),
    Field("kind", "text", "what the holder is", True, KINDS),
    Field("device", "text", "the person's device, or empty", True),
    Field("common_name", "text", "the name in the subject, or empty", True),
    Field("alternatives", "texts", "all alternative names", True),
    Field("profile", "text", "under which words it was issued", True),
    Field("profile_sha256", "text", "hash of those words", True),
    Field("key_type", "text", "kind of its key", True),
    Field("fingerprint", "text", "SHA-256 of the certificate, hex", True),
    Field("not_before", "text", "beginning of its validity", True),
    Field("not_after", "text", "end of its validity", True),
    Field("revoked_at", "text", "since when it is revoked or held", True, nullable=True),
    Field("reason", "text", "why it is revoked (RFC 5280 5.3.1), or certificate-hold", True, nullable=True),
    Field("renews", "text", "serial of the one before it", True, nullable=True),
    Field("issued_at", "text", "when it was recorded", True),
    Field("issued_by", "text", "who asked for it", True),
    Field("seen_at", "text", "when a web server that asks the service last let it in; null for never", True, nullable=True),
    Field("seen_site", "text", "into which site that was, or empty", True, nullable=True),
)
CERTIFICATE = Shape("Certificate", _CERTIFICATE)
CERTIFICATES = listed("Certificates", CERTIFICATE, "in the order in which they were recorded")
_PEMS = (
    Field("pem", "lines", "the certificate in PEM; null for one that was recorded and never signed", True, nullable=True),
    Field("chain", "lines", "the certificate and its issuers in PEM, without the root: what a TLS client or server sends", True, nullable=True),
)
CLOCK = Shape(
    "RevocationClock",
    (
        Field("revoked_at", "text", "since when it is revoked or held", True, nullable=True),
        Field("taken_over", "objects", "since when each place refuses it, in the order of time", True, shape=Shape("TakenOver", (
            Field("place", "text", "CRL, published folder, service, or agent and its name", True),
            Field("at", "text", "since when", True),
        ))),
        Field("waiting", "texts", "places that have not told yet that they refuse it", True),
        Field("last_let_in", "object", "when a web server that asks the service last let it in", True, nullable=True, shape=Shape("LetIn", (
            Field("at", "text", "when", True),
            Field("site", "text", "into which site, or empty", True),
        ))),
    ),
)  # fmt: skip
SHOWN = Shape(
    "CertificateShown",
    (
        *_CERTIFICATE,
        Field("clock", "object", "how the revocation went round", True, shape=CLOCK),
        Field("profile_today", "text", "how today's profile of that name stands to the words under which it was issued", True, TODAY),
        *_PEMS,
    ),
)
ISSUED = Shape(
    "Issued",
    (
        *_CERTIFICATE,
        *_PEMS,
        Field("handed_out", "text", "the private key: now (in this answer only), earlier (it was in the first answer), never (it was not made here)", True,
              ("now", "earlier", "never")),
        Field("key", "lines", "the private key, PKCS#8 in PEM; only now", nullable=True),
        Field("pkcs12", "text", "the PKCS#12 in base64; only now", nullable=True),
        Field("mobileconfig", "text", "Apple's configuration profile in base64; only now", nullable=True),
        Field("password", "text", "what opens pkcs12 or mobileconfig; only now", nullable=True),
        Field("notes", "texts", "what policy changed, and what else there is to know", True),
    ),
)  # fmt: skip
TAKEN = Shape(
    "Taken",
    (
        Field("action", "text", "what was done", True),
        Field("number", "number", "the revocation number afterwards", True, most=2**53),
        Field("certificates", "objects", "all that went", True, shape=Shape("TakenCertificate", (
            Field("serial", "text", "32 hex digits", True),
            Field("issuer", "text", "short name of the authority", True),
            Field("holder", "text", "whose it was", True),
            Field("device", "text", "for which device, or empty", True),
        ))),
        Field("still_in_force", "texts", "serials of the same lineage that still open the door", True),
    ),
)  # fmt: skip
HOLDER = Shape(
    "Holder",
    (
        Field("login", "text", "what web servers and apps read", True),
        Field("kind", "text", "person, or what else", True, KINDS),
        Field("name", "text", "what the person is called, in any script", True),
        Field("email", "text", "unique, or empty", True),
        Field("groups", "texts", "groups", True),
        Field("devices", "texts", "devices", True),
        Field("since", "text", "when it was added", True),
        Field("left_at", "text", "when the person left", True, nullable=True),
    ),
)
HOLDERS = listed("Holders", HOLDER, "by login")
PERSON = Shape(
    "Person",
    (*HOLDER.fields, Field("roles", "texts", "roles at the service", True), Field("certificates", "objects", "all of them", True, shape=CERTIFICATE)),
)
CHECKED = Shape(
    "Verified",
    (
        Field("ok", "flag", "whether it would be let in", True),
        Field("at", "text", "as of when", True),
        Field("path", "texts", "from the certificate to the root", True),
        Field("checks", "map", "path, dates, usage, revocation: passed, failed or not-checked", True),
        Field("findings", "objects", "what fails, in words", True, shape=Shape("Finding", (
            Field("check", "text", "which of the four", True),
            Field("code", "text", "short word for it", True),
            Field("subject", "text", "which certificate", True),
            Field("message", "text", "what is wrong", True),
            Field("facts", "map", "the values behind it", True),
        ))),
    ),
)  # fmt: skip
TOKEN = Shape(
    "Token",
    (
        Field("id", "text", "short name of the token", True),
        Field("login", "text", "for whom it speaks", True),
        Field("scopes", "texts", f"of {', '.join(SCOPES)}", True),
        Field("about", "text", "what it is for", True),
        Field("created_at", "text", "when it was made", True),
        Field("expires_at", "text", "when it ends", True),
        Field("revoked_at", "text", "when it was revoked", True, nullable=True),
        Field("used_at", "text", "when it was last used, to the hour", True, nullable=True),
    ),
)
TOKENS = listed("Tokens", TOKEN, "in the order of their making")
MADE_TOKEN = Shape("MadeToken", (*TOKEN.fields, Field("token", "text", "the secret: told this once; null when the question is repeated", True, nullable=True)))
EVENT = Shape(
    "Event",
    (
        Field("number", "number", "grows by one", True, most=2**53),
        Field("at", "text", "when", True),
        Field("actor", "text", "who", True),
        Field("action", "text", "did what", True),
        Field("subject", "text", "to what", True),
        Field("facts", "map", "the particulars; never a secret", True),
        Field("hash", "text", "SHA-256 over the event and the hash before it", True),
    ),
)
EVENTS = listed("Events", EVENT, "oldest first")
ME = Shape(
    "Me",
    (
        Field("login", "text", "who has signed in", True),
        Field("way", "text", "how", True, ("certificate", "token")),
        Field("roles", "texts", f"of {', '.join(ROLES)}", True),
        Field("scopes", "texts", "what may be done", True),
    ),
)
ROLES_OF = Shape("Roles", (Field("login", "text", "whose", True), Field("roles", "texts", "all of them", True)))


def certificates(authority: Authority, records: Sequence[CertificateRecord]) -> list[dict[str, Any]]:
    """Rows of a page: when each was last let in is asked of the ledger once for all of them."""
    now, sights = authority.now(), seen.of_page(authority, records)
    return [certificate(one, now, sights.get((one.issuer, one.serial))) for one in records]


def certificate(record: CertificateRecord, now: int, sight: seen.Sight | None = None) -> dict[str, Any]:
    """A certificate's row. `sight`: when it was last let in; a new one never was."""
    return {
        "serial": record.serial,
        "issuer": record.issuer,
        "status": record.status(now),
        "holder": record.holder,
        "kind": record.kind,
        "device": record.device,
        "common_name": record.common_name,
        "alternatives": list(record.alternatives),
        "profile": record.profile,
        "profile_sha256": record.profile_sha256,
        "key_type": record.key_type,
        "fingerprint": record.fingerprint,
        "not_before": iso(record.not_before),
        "not_after": iso(record.not_after),
        "revoked_at": None if record.revoked_at is None else iso(record.revoked_at),
        "reason": record.revoked_reason,
        "renews": record.renews.partition("/")[2] or None,
        "issued_at": iso(record.recorded_at),
        "issued_by": record.requester,
        "seen_at": iso(sight.at) if sight else None,
        "seen_site": sight.site if sight else None,
    }


def holder(one: Holder) -> dict[str, Any]:
    """A holder's row."""
    return {
        "login": one.login,
        "kind": one.kind,
        "name": one.name,
        "email": one.email,
        "groups": list(one.groups),
        "devices": list(one.devices),
        "since": iso(one.created_at),
        "left_at": iso(one.left_at) if one.left_at else None,
    }


def taken(authority: Authority, action: str, what: list[Taken], still: list[CertificateRecord]) -> dict[str, Any]:
    """What was taken away."""
    rows = [{"serial": one.id.serial, "issuer": one.id.issuer, "holder": one.holder, "device": one.device} for one in what]
    return {"action": action, "number": authority.reads.revocation_number(), "certificates": rows, "still_in_force": [one.serial for one in still]}


def token(one: Token) -> dict[str, Any]:
    """A token without its secret."""
    return {
        "id": one.id,
        "login": one.login,
        "scopes": list(one.scopes),
        "about": one.about,
        "created_at": iso(one.created_at),
        "expires_at": iso(one.expires_at),
        "revoked_at": iso(one.revoked_at) if one.revoked_at else None,
        "used_at": iso(one.used_at) if one.used_at else None,
    }


def event(one: NamedTuple) -> dict[str, Any]:
    """An audit event."""
    fields = one._asdict()
    return {**fields, "at": iso(fields["at"])}
