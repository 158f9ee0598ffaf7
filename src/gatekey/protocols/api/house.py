"""The authority itself: its CAs and their CRLs, the bundle for web servers, profiles, the audit log, and whether the ledger is whole."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from typing import Any, NamedTuple

from ... import profiles
from ...authority import bundle as bundles
from ...authority import check as checks
from ...authority import corporate, health
from ...authority import crl as crls
from ...authority.profiles import add as add_profile
from ...errors import Malformed, Misconfigured, NotFound, Reason, Refused, Unavailable
from ...model.instants import HOUR, iso
from ...model.profile import MAX_TEXT, Profile
from ...model.record import AuthorityRecord
from ...policy.explain import explain, outline
from ...x509 import pem
from ...x509.sniff import sniff
from ..conditions import not_changed
from ..message import Answer, Call, as_json, without_folders
from . import answers
from .asking import Ask, Route
from .certificates import LIMIT, NOTHING, ROWS
from .shapes import Field, Shape

_CRL = Shape("CrlState", (
    Field("authority", "text", "whose", True),
    Field("number", "number", "grows with each one", True, most=2**53),
    Field("entries", "number", "how many are revoked", True, most=2**53),
    Field("this_update", "text", "when it was made, less an hour", True),
    Field("next_update", "text", "until when it is good", True),
))  # fmt: skip
_MADE_CRL = Shape("Crl", (*_CRL.fields, Field("pem", "lines", "the CRL in PEM", True)))
_AUTHORITY = Shape("Authority", (
    Field("name", "text", "short name", True),
    Field("role", "text", "root, issuing or flat", True, ("root", "issuing", "flat")),
    Field("side", "text", "people, servers or both", True, ("people", "servers", "both")),
    Field("parent", "text", "who signed it", True),
    Field("subject", "text", "its common name", True),
    Field("key_type", "text", "kind of its key", True),
    Field("key_here", "flag", "whether its private key is here", True),
    Field("serial", "text", "hex", True),
    Field("fingerprint", "text", "SHA-256 of the certificate, hex", True),
    Field("not_before", "text", "beginning", True),
    Field("not_after", "text", "end", True),
    Field("crl", "object", "its newest CRL", True, nullable=True, shape=_CRL),
))  # fmt: skip
_AUTHORITY_SHOWN = Shape("AuthorityShown", (
    *_AUTHORITY.fields,
    Field("pem", "lines", "the certificate in PEM", True),
    Field("chain", "lines", "the certificate and those above it in PEM, the root last", True),
))  # fmt: skip
_AUTHORITIES = Shape("Authorities", (
    Field("items", "objects", "in the order of their making", True, shape=_AUTHORITY),
    Field("waiting", "texts", "those that have a key and wait for their certificate from elsewhere", True),
))  # fmt: skip
_WAITING = Shape("AuthorityRequests", (Field("items", "objects", "those that wait for their certificate", True, shape=Shape("AuthorityRequest", (
    Field("name", "text", "short name", True),
    Field("csr", "lines", "what the root elsewhere is to sign, in PEM", True),
))),))  # fmt: skip
_INSTALL = Shape("Install", (Field("files", "lines", "certificates and CRLs from a root elsewhere, in PEM", True, most=128 * 1024, least=1),))
_INSTALLED = Shape("Installed", (Field("done", "texts", "what was taken in", True),))
_BUNDLE = Shape("Bundle", (
    Field("number", "number", "revocation number up to which it is complete", True, most=2**53),
    Field("made_at", "text", "when it was put together", True),
    Field("fresh_until", "text", "when its first CRL runs out, and everybody is shut out", True),
    Field("files", "map", "file name: sha256 and size", True),
))  # fmt: skip
_PROFILE = Shape("Profile", (
    Field("name", "text", "its name", True),
    Field("origin", "text", "where it is from", True, ("built in", "own", "own, in place of the built-in one")),
    Field("kind", "text", "client, server, ca, ocsp or probe; empty when it has mistakes", True),
    Field("holder", "text", "whose certificates they are", True),
    Field("about", "text", "what it is for", True),
    Field("validity", "number", "seconds, when nothing else is asked for", True, most=2**53),
    Field("longest", "number", "seconds that may be asked for", True, most=2**53),
    Field("keys", "texts", "kinds of keys that it takes", True),
    Field("ways", "texts", "ways of asking", True),
    Field("sha256", "text", "hash of its words", True),
    Field("mistakes", "texts", "why it cannot be used", True),
))  # fmt: skip
_PROFILES = Shape("Profiles", (Field("items", "objects", "built-in ones first", True, shape=_PROFILE),))
_PROFILE_SHOWN = Shape("ProfileShown", (*_PROFILE.fields, Field("toml", "lines", "the profile as it is written", True)))
_EXPLAINED = Shape("ProfileExplained", (
    *_PROFILE.fields,
    Field("outline", "map", "what every certificate under it is", True),
    Field("rules", "objects", "what must be so before one is issued", True, shape=Shape("Rule", (
        Field("rule", "text", "short name", True),
        Field("must", "text", "what must be so", True),
        Field("source", "text", "where that is from", True),
        Field("says", "text", "what this profile says about it", True),
    ))),
))  # fmt: skip
_PROFILE_TEXT = Field("toml", "lines", "[profile.NAME] and its keys", True, most=MAX_TEXT, least=1)
_PROFILE_WANTED = Shape("ProfileWanted", (_PROFILE_TEXT, Field("force", "flag", "also in place of one that has this name, or of a built-in one")))
_PROFILE_TO_CHECK = Shape("ProfileToCheck", (_PROFILE_TEXT,))
_JUDGED = Shape("ProfileChecked", (
    Field("ok", "flag", "whether it would be taken", True),
    Field("mistakes", "texts", "all of them", True),
    Field("sha256", "text", "hash of its words, or empty", True),
))  # fmt: skip
_AUDIT = Shape("AuditQuery", (Field("after", "number", "the number of the last event that is known", most=2**53), LIMIT))
_STATUS = Shape("Status", (
    Field("name", "text", "what the authority is called", True),
    Field("version", "text", "of Gatekey", True),
    Field("now", "text", "the time here", True),
    Field("url", "text", "where CRLs are found, or empty", True),
    Field("revocation", "number", "the newest revocation number", True, most=2**53),
    Field("event", "number", "the newest audit event", True, most=2**53),
    Field("crls", "objects", "the newest CRL of each authority", True, shape=_CRL),
    Field("warnings", "texts", "what somebody should do something about", True),
))  # fmt: skip
_DOCTOR = Shape("Doctor", (
    Field("ready", "flag", "whether nothing has failed", True),
    Field("checks", "map", "name: state (ok, warn or fail), message and remedy", True),
    Field("jobs", "objects", "what comes round by itself", True, shape=Shape("JobState", (
        Field("name", "text", "short name", True),
        Field("due_at", "text", "when it is due", True),
        Field("done_at", "text", "when it last ended", True, nullable=True),
        Field("outcome", "text", "and how", True),
    ))),
))  # fmt: skip
_WHOLE = Shape("StoreCheck", (
    Field("whole", "flag", "whether everything that was promised is there", True),
    Field("findings", "texts", "what is not", True),
    Field("repaired", "texts", "what was mended", True),
))  # fmt: skip

#: A bundle that was put together lately is given again as long as nothing has happened (seconds).
_BUNDLE_AGE = HOUR


def authorities(ask: Ask) -> Answer:
    """All CAs."""
    return as_json({"items": [_authority(ask, record) for record in ask.authority.records()], "waiting": corporate.waiting(ask.authority)})


def waiting(ask: Ask) -> Answer:
    """The requests that a root elsewhere is to sign."""
    return as_json({"items": [{"name": name, "csr": csr.decode("ascii", "replace")} for name, csr in corporate.requests(ask.authority).items()]})


def authority(ask: Ask) -> Answer:
    """One CA with its certificate and chain."""
    record = ask.authority.record(ask.path["name"])
    chain = [pem.encode("CERTIFICATE", one.der).decode() for one in ask.authority.chain(record.name)]
    return as_json({**_authority(ask, record), "pem": chain[0], "chain": "".join(chain)})


def _authority(ask: Ask, record: AuthorityRecord) -> dict[str, Any]:
    issuing = ask.authority.issuing(record.name)
    newest = crls.newest(ask.authority, record.name)
    certificate = issuing.certificate
    return {
        "name": record.name,
        "role": record.role,
        "side": record.side,
        "parent": record.parent,
        "subject": certificate.common_name,
        "key_type": issuing.key_type,
        "key_here": ask.authority.has_key(record.name),
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
        "not_before": iso(certificate.not_before),
        "not_after": iso(certificate.not_after),
        "crl": _crl(newest) if newest else None,
    }


def _crl(one: crls.CurrentCrl) -> dict[str, Any]:
    update = {"this_update": iso(one.this_update), "next_update": iso(one.next_update)}
    return {"authority": one.issuer, "number": one.number, "entries": one.entries, **update}


def authority_certificate(ask: Ask) -> Answer:
    """A CA's certificate in PEM."""
    der = ask.authority.issuing(ask.authority.record(ask.path["name"]).name).certificate.der
    return _file(ask.call, pem.encode("CERTIFICATE", der), "application/x-pem-file", f"{ask.path['name']}.crt")


def crl(ask: Ask) -> Answer:
    """A CA's CRL in DER, complete now."""
    name = ask.authority.record(ask.path["name"]).name
    return _file(ask.call, crls.current(ask.authority, name).der, "application/pkix-crl", f"{name}.crl")


def make_crl(ask: Ask) -> Answer:
    """A CRL signed now."""
    name = ask.authority.record(ask.path["name"]).name
    made = crls.make(ask.authority, name) if ask.authority.has_key(name) else crls.current(ask.authority, name)
    return as_json({**_crl(made), "pem": pem.encode("X509 CRL", made.der).decode()})


def install(ask: Ask) -> Answer:
    """Takes in what a root elsewhere has signed."""
    found = sniff(ask.body["files"].encode())
    if other := [kind for kind, _ in found if kind not in ("certificate", "crl")]:
        raise Malformed("wrong-kind", f"files: there is {other[0]} among them", hint="give certificates and CRLs only")
    done = corporate.install(ask.authority, [der for kind, der in found if kind == "certificate"], [der for kind, der in found if kind == "crl"])
    return as_json({"done": done})


class _Kept(NamedTuple):
    event: int
    until: int
    tag: str
    bundle: bundles.Bundle


def _bundle(ask: Ask) -> _Kept:
    """The bundle as it stands: the one of the last question if nothing has happened since. Its tag is the same in every process."""
    held = ask.desk.kept.get("bundle")
    now, event = ask.authority.now(), ask.authority.reads.newest_event()
    if isinstance(held, _Kept) and held.event == event and now < held.until:
        return held
    made = bundles.make(ask.authority)
    digest = hashlib.sha256()
    for name, data in sorted(made.contents.items()):
        if name != "manifest.json":
            digest.update(name.encode() + b"\0" + re.sub(rb'"made_at": ?"[^"]*"', b"", data))
    held = _Kept(event, now + _BUNDLE_AGE, digest.hexdigest()[:32], made)
    ask.desk.kept["bundle"] = held
    return held


def bundle(ask: Ask) -> Answer:
    """What is in the bundle, and its tag."""
    held = _bundle(ask)
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in sorted(held.bundle.contents.items())}
    told = {"number": held.bundle.number, "made_at": iso(held.bundle.made_at), "fresh_until": iso(held.bundle.fresh_until), "files": files}
    return _tagged(ask.call, as_json(told), held.tag)


def bundle_zip(ask: Ask) -> Answer:
    """The whole bundle as one file."""
    held = _bundle(ask)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(held.bundle.contents.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return _tagged(ask.call, _data(packed.getvalue(), "application/zip", "bundle.zip"), held.tag)


def bundle_file(ask: Ask) -> Answer:
    """One file of the bundle."""
    held = _bundle(ask)
    data = held.bundle.contents.get(ask.path["file"])
    if data is None:
        known = ", ".join(sorted(held.bundle.contents))
        raise NotFound("no-file", f"the bundle has no file {ask.path['file'][:50]!r}", hint=f"it has {known}")
    return _file(ask.call, data, "application/octet-stream", ask.path["file"])


def _data(body: bytes, media: str, name: str) -> Answer:
    return Answer(200, (("content-type", media), ("content-disposition", f'attachment; filename="{name}"')), body)


def _file(call: Call, body: bytes, media: str, name: str) -> Answer:
    return _tagged(call, _data(body, media, name), hashlib.sha256(body).hexdigest()[:32])


def _tagged(call: Call, answer: Answer, tag: str) -> Answer:
    """With its ETag, or 304 when the asker has it already. Nobody else may keep it. Raises Refused("precondition-failed")."""
    headers = (("etag", f'"{tag}"'), ("cache-control", "private, no-cache"))
    if not_changed(f'"{tag}"', None, call):
        return Answer(304, headers)
    return Answer(answer.status, (*(pair for pair in answer.headers if pair[0] != "cache-control"), *headers), answer.body)


def list_profiles(ask: Ask) -> Answer:
    """All profiles, the built-in ones and those of this home."""
    folder = ask.authority.config.home / "profiles"
    return as_json({"items": [_profile(ask, name) for name in dict.fromkeys((*profiles.NAMES, *profiles.own_names(folder)))]})


def _profile(ask: Ask, name: str) -> dict[str, Any]:
    folder = ask.authority.config.home / "profiles"
    own = name in profiles.own_names(folder)
    origin = ("own, in place of the built-in one" if name in profiles.NAMES else "own") if own else "built in"
    try:
        one = profiles.find(name, folder)
    except Misconfigured as wrong:
        empty = {"kind": "", "holder": "", "about": "", "validity": 0, "longest": 0, "keys": [], "ways": [], "sha256": ""}
        return {"name": name, "origin": origin, **empty, "mistakes": _discreet(ask, _mistakes(wrong))}
    return {
        "name": one.name,
        "origin": origin,
        "kind": one.kind,
        "holder": one.holder_kind,
        "about": one.about,
        "validity": one.validity,
        "longest": one.longest,
        "keys": list(one.keys),
        "ways": list(one.ways),
        "sha256": one.sha256,
        "mistakes": [],
    }


def _mistakes(wrong: Misconfigured) -> list[str]:
    return [str(mistake) for mistake in wrong.facts.get("mistakes", [wrong.message])]


def show_profile(ask: Ask) -> Answer:
    """One profile, as it is written."""
    folder, name = ask.authority.config.home / "profiles", ask.path["name"]
    text = profiles.text_of(name, folder)
    return as_json({**_profile(ask, name), "toml": text})


def explain_profile(ask: Ask) -> Answer:
    """Every rule of issuing, and what the profile says about it."""
    one = profiles.find(ask.path["name"], ask.authority.config.home / "profiles")
    return as_json({**_profile(ask, one.name), "outline": dict(outline(one)), "rules": [rule._asdict() for rule in explain(one)]})


def _read_profile(ask: Ask, name: str) -> tuple[Profile | None, list[str]]:
    try:
        return profiles.read(ask.body["toml"].encode(), source=f"{name}.toml" if name else "toml"), []
    except Misconfigured as wrong:
        return None, _mistakes(wrong)


def check_profile(ask: Ask) -> Answer:
    """Would this be a good profile?"""
    one, mistakes = _read_profile(ask, "")
    if one and one.kind in ("client", "server"):
        try:
            ask.authority.issuer_for(one)
        except Misconfigured as wrong:
            mistakes = [f"{wrong.message}; {wrong.hint}"]
    return as_json({"ok": not mistakes, "mistakes": mistakes, "sha256": one.sha256 if one else ""})


def put_profile(ask: Ask) -> Answer:
    """A profile of one's own."""
    name, folder = ask.path["name"], ask.authority.config.home / "profiles"
    one, mistakes = _read_profile(ask, name)
    if one is None:
        raise Refused.because(tuple(Reason("bad-profile", mistake) for mistake in mistakes))
    if one.name != name:
        raise Malformed("bad-request", f"toml: the profile in it is called {one.name}, not {name[:50]!r}")
    try:
        replaces: str | None = profiles.find(name, folder).sha256
    except NotFound:
        replaces = None
    except Misconfigured:
        replaces = ""
    # Under a key it may be there already, put by an attempt that was interrupted before its answer was kept.
    if not (ask.key and name in profiles.own_names(folder) and profiles.text_of(name, folder) == ask.body["toml"]):
        add_profile(ask.authority, one, ask.body["toml"], replaces=replaces, force=ask.body.get("force", False))
    return as_json({**_profile(ask, name), "toml": profiles.text_of(name, folder)})


def audit(ask: Ask) -> Answer:
    """The audit log from an event on."""
    limit, after = ask.query.get("limit", ROWS), ask.query.get("after", 0)
    found = []
    for event in ask.authority.reads.events(after + 1):
        found.append(event)
        if len(found) > limit:
            break
    return as_json({"items": [answers.event(one) for one in found[:limit]], "next": str(found[limit - 1].number) if len(found) > limit else None})


def status(ask: Ask) -> Answer:
    """How the authority stands, at a glance."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("gatekey")
    except PackageNotFoundError:
        ours = ""
    held = ask.authority
    newest = [crls.newest(held, record.name) for record in held.records()]
    return as_json(
        {
            "name": held.config.name,
            "version": ours,
            "now": iso(held.now()),
            "url": held.config.url,
            "revocation": held.reads.revocation_number(),
            "event": held.reads.newest_event(),
            "crls": [_crl(one) for one in newest if one],
            "warnings": [*crls.warnings(held), *bundles.warnings(held)],
        }
    )


def doctor(ask: Ask) -> Answer:
    """Named checks, each with what to do."""
    config = ask.desk.outside.configured(ask.authority.config.home)
    return as_json(_discreet(ask, health.as_dict(ask.authority, {**health.findings(ask.authority), "config": config})))


def _discreet(ask: Ask, told: Any) -> Any:
    """What is told of the state of the house, without saying where its files lie to whoever is no administrator."""
    if ask.caller.may("manage"):
        return told
    if isinstance(told, dict):
        return {name: _discreet(ask, value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [_discreet(ask, value) for value in told]
    return without_folders(told, str(ask.authority.config.home)) if isinstance(told, str) else told


#: One look through the whole ledger at a time: it reads every certificate.
_CHECKING = threading.Lock()


def store_check(ask: Ask) -> Answer:
    """Everything that was promised, looked at once more."""
    return _look(ask, repair=False)


def store_repair(ask: Ask) -> Answer:
    """Mends what can be mended without losing anything, then looks."""
    return _look(ask, repair=True)


def _look(ask: Ask, *, repair: bool) -> Answer:
    if not _CHECKING.acquire(blocking=False):
        raise Unavailable("check-running", "the ledger is being looked through already", hint="ask again when that is done")
    try:
        mended = checks.repair(ask.authority) if repair else None
        found = checks.findings(ask.authority)
    finally:
        _CHECKING.release()
    owed = mended.owed if mended else []
    return as_json(_discreet(ask, {"whole": not (found or owed), "findings": [*found, *owed], "repaired": mended.done if mended else []}))


_WEB_SERVERS = ("read", "decide")
ROUTES = (
    Route("GET", "/v1/authorities", "listAuthorities", "All authorities", ("read",), authorities, answer=_AUTHORITIES),
    Route("POST", "/v1/authorities/install", "installAuthority", "Take in what a root elsewhere has signed", ("manage",), install, body=_INSTALL,
          answer=_INSTALLED, apart=True),
    Route("GET", "/v1/authorities/requests", "authorityRequests", "What a root elsewhere is to sign", ("read",), waiting, answer=_WAITING),
    Route("GET", "/v1/authorities/{name}", "showAuthority", "One authority, its certificate and chain", ("read",), authority, answer=_AUTHORITY_SHOWN),
    Route("GET", "/v1/authorities/{name}/certificate", "authorityCertificate", "An authority's certificate in PEM", _WEB_SERVERS, authority_certificate,
          media="application/x-pem-file"),
    Route("GET", "/v1/authorities/{name}/crl", "authorityCrl", "An authority's CRL in DER, complete now", _WEB_SERVERS, crl, media="application/pkix-crl"),
    Route("POST", "/v1/authorities/{name}/crl", "makeCrl", "Sign a new CRL now", ("manage",), make_crl, body=NOTHING, answer=_MADE_CRL,
          apart=True),
    Route("GET", "/v1/bundle", "bundle", "What a web server needs: the list of its files", _WEB_SERVERS, bundle, answer=_BUNDLE),
    Route("GET", "/v1/bundle.zip", "bundleZip", "All files of the bundle in one", _WEB_SERVERS, bundle_zip, media="application/zip"),
    Route("GET", "/v1/bundle/{file}", "bundleFile", "One file of the bundle", _WEB_SERVERS, bundle_file, media="application/octet-stream"),
    Route("GET", "/v1/profiles", "listProfiles", "All profiles", ("read",), list_profiles, answer=_PROFILES),
    Route("POST", "/v1/profiles/check", "checkProfile", "Would this be a good profile?", ("read",), check_profile, body=_PROFILE_TO_CHECK, answer=_JUDGED),
    Route("GET", "/v1/profiles/{name}", "showProfile", "One profile as it is written", ("read",), show_profile, answer=_PROFILE_SHOWN),
    Route("PUT", "/v1/profiles/{name}", "putProfile", "Add a profile of one's own", ("manage",), put_profile, body=_PROFILE_WANTED, answer=_PROFILE_SHOWN,
          apart=True),
    Route("GET", "/v1/profiles/{name}/explain", "explainProfile", "Every rule of issuing, and what the profile says", ("read",), explain_profile,
          answer=_EXPLAINED),
    Route("GET", "/v1/audit", "listAudit", "The audit log, page by page", ("read",), audit, query=_AUDIT, answer=answers.EVENTS),
    Route("GET", "/v1/status", "status", "How the authority stands", ("read",), status, answer=_STATUS),
    Route("GET", "/v1/doctor", "doctor", "Named checks, each with what to do when it fails", ("read",), doctor, answer=_DOCTOR),
    Route("POST", "/v1/store/check", "checkStore", "Is the ledger whole?", ("read",), store_check, body=NOTHING, answer=_WHOLE),
    Route("POST", "/v1/store/repair", "repairStore", "Mend what can be mended without losing anything", ("manage",), store_repair, body=NOTHING,
          answer=_WHOLE, apart=True),
)  # fmt: skip
