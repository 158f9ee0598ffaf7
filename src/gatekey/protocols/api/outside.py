"""What stands outside: how machines come to trust us, how a certificate gets onto a device, what a web server is configured with, and whether its door is shut.

Nothing here writes to a disk or runs a program. Knocking makes the service call somebody: only sites that `check.sites` in gatekey.toml names, at addresses
that `outgoing.guard` allows, one at a time, and for administrators only.
"""

from __future__ import annotations

from pathlib import PurePath

from ...authority import bundle as bundles
from ...authority import ceremony, jobs, probe, trust
from ...errors import GatekeyError, NotFound, Refused, Unavailable
from ...model.install import GUIDES, as_dict, filled, stem_problem
from ...model.instants import iso
from ...model.trust import steps
from ...model.webservers import SERVERS
from ...x509 import pem
from ..message import Answer, as_json
from .asking import Ask, Knocking, Route
from .shapes import Field, Shape

#: Seconds that one check may take; seconds after which a worker that died in the middle of one stands in nobody's way any more.
SECONDS, _LEASE = 25, 120
_JOB = "site-check"

_TRUST = Shape("Trust", (
    Field("authority", "text", "short name of the root of the servers' side", True),
    Field("subject", "text", "its common name", True),
    Field("fingerprint", "text", "SHA-256 of its certificate, hex: compare it over another way", True),
    Field("not_after", "text", "its end", True),
    Field("file", "text", "what the steps call the file with the certificate", True),
    Field("pem", "lines", "what is in it", True),
    Field("steps", "map", "system: what to type or click there", True),
))  # fmt: skip
_GUIDES = Shape("Guides", (Field("items", "objects", "all systems", True, shape=Shape("GuideTitle", (
    Field("target", "text", "short name of the system", True),
    Field("title", "text", "what the steps are about", True),
))),))  # fmt: skip
_GUIDE = Shape("Guide", (
    Field("target", "text", "short name of the system", True),
    Field("title", "text", "what the steps are about", True),
    Field("made_with", "text", "the command that makes the file", True),
    Field("steps", "objects", "one after the other", True, shape=Shape("Step", (
        Field("words", "text", "what to do; empty when it goes on with the step before", True),
        Field("command", "text", "what to type for it", True, nullable=True),
    ))),
    Field("notes", "texts", "what is good to know", True),
    Field("file", "object", "a file that the steps need", True, nullable=True, shape=Shape("GuideFile", (
        Field("name", "text", "its name", True),
        Field("text", "lines", "what is in it", True),
    ))),
))  # fmt: skip
_GUIDE_QUERY = Shape("GuideQuery", (Field("name", "text", "the login or file name that the steps shall speak of (default NAME)"),))
_PATH = 1000
_SITE = Shape("SiteWanted", (
    Field("server", "text", "which web server", True, choices=SERVERS),
    Field("site", "text", "the name of the private website", True, most=253, least=1),
    Field("upstream", "text", "where the app listens: http://, https:// or unix:/path (default http://127.0.0.1:8000)", most=_PATH),
    Field("groups", "texts", "only people in one of these groups may enter", most=64),
    Field("certificate", "text", "the site's certificate with its issuers, a path there (default FOLDER/SITE.chain.crt)", most=_PATH),
    Field("key", "text", "its private key, a path there (default FOLDER/SITE.key)", most=_PATH),
    Field("folder", "text", "where Gatekey's files for the web server stand (default /etc/gatekey)", most=_PATH),
    Field("bundle", "text", "the bundle folder (default FOLDER/bundle)", most=_PATH),
    Field("listen", "texts", "ADDRESS:PORT for HTTPS (default 443 on every address)"),
    Field("plain", "texts", "ADDRESS:PORT that is redirected from plain HTTP (default 80 on every address); none for nowhere"),
    Field("static_options", "flag", "OPTIONS is answered by a bare 204 without a certificate (for CORS)"),
    Field("origins", "texts", "with static_options: origins that CORS headers name"),
    Field("contact", "text", "whom a refused person may ask"),
    Field("decision", "text", "ask the service at every request: unix:/path or https://HOST:PORT", most=_PATH),
    Field("decision_certificate", "text", "for https: a client certificate, role proxy (default FOLDER/proxy.chain.crt)", most=_PATH),
    Field("decision_key", "text", "its key (default FOLDER/proxy.key)", most=_PATH),
    Field("decision_trust", "text", "the root of the service's certificate (default FOLDER/servers-root.crt)", most=_PATH),
    Field("crl", "flag", "with decision: check the bundle's CRLs in the handshake, too"),
    Field("running", "lines", "nginx: the output of nginx -T there, so that what it has already is neither doubled nor contradicted", most=200 * 1024),
))  # fmt: skip
_CONFIGURATION = Shape("WebServerConfiguration", (
    Field("server", "text", "which web server", True),
    Field("file", "text", "where the site's own file belongs", True),
    Field("text", "lines", "the site's own file", True),
    Field("includes", "map", "path: text of every other file that it reads", True),
    Field("programs", "map", "path: text of what it runs", True),
    Field("notes", "texts", "what an administrator should know", True),
    Field("check", "texts", "the command that tests it, word by word", True),
    Field("reload", "texts", "the command that makes it count, word by word", True),
))  # fmt: skip
_CHECKABLE = Shape("Checkable", (
    Field("sites", "texts", "sites that may be knocked at: check.sites in gatekey.toml", True),
    Field("networks", "texts", "networks in which they may stand besides the public Internet: check.networks", True),
    Field("checks", "objects", "all checks", True, shape=Shape("CheckTitle", (
        Field("number", "number", "its number", True),
        Field("name", "text", "its short name", True),
        Field("title", "text", "what must be so", True),
    ))),
))  # fmt: skip
_CHECK = Shape("SiteToCheck", (
    Field("site", "text", "https://HOST[:PORT][/PATH]; check.sites in gatekey.toml must name it", True, most=_PATH, least=1),
    Field("only", "texts", "only these checks, by number or name", most=64),
    Field("skip", "texts", "not these checks", most=64),
    Field("paths", "texts", "further paths to try without a certificate", most=_PATH),
    Field("allow", "texts", "paths below these are open on purpose", most=_PATH),
    Field("siblings", "texts", "other sites on the same server", most=253),
    Field("whoami", "text", "a page that says who is there: shows whether headers can be forged", most=_PATH),
    Field("websocket", "text", "a path that takes WebSockets (default /ws)", most=_PATH),
))  # fmt: skip
_REPORT = Shape("SiteReport", (
    Field("version", "number", "of this form", True),
    Field("site", "text", "what was knocked at", True),
    Field("server", "text", "what it seems to run on, or empty", True),
    Field("at", "text", "when", True),
    Field("seconds", "decimal", "how long it took", True),
    Field("connections", "number", "how many connections that took", True),
    Field("open", "numbers", "checks that found the door open", True),
    Field("shut", "numbers", "the check that found it shut to those whom it is for", True),
    Field("cannot_tell", "numbers", "checks that could not tell", True),
    Field("checks", "objects", "every check, by number", True, shape=Shape("CheckOutcome", (
        Field("number", "number", "its number", True),
        Field("name", "text", "its short name", True),
        Field("title", "text", "what must be so", True),
        Field("verdict", "text", "what it found", True, ("pass", "open", "shut", "cannot-tell")),
        Field("said", "text", "in one sentence", True),
        Field("request", "text", "what was tried, or empty", True),
        Field("answer", "text", "what came back, or empty", True),
        Field("hint", "text", "how to find out, where it could not tell", True),
        Field("fixes", "map", "web server: the line that mends it", True),
        Field("follows", "number", "a check whose mending mends this one, or 0", True),
    ))),
))  # fmt: skip


def trust_root(ask: Ask) -> Answer:
    """The root of the servers' side, and how each system is told to trust it."""
    name, certificate = trust.root(ask.authority)
    file = PurePath(f"{name}.crt")
    return as_json({
        "authority": name,
        "subject": certificate.common_name,
        "fingerprint": certificate.fingerprint,
        "not_after": iso(certificate.not_after),
        "file": str(file),
        "pem": pem.encode("CERTIFICATE", certificate.der).decode(),
        "steps": steps(file, certificate.common_name),
    })  # fmt: skip


def guides(ask: Ask) -> Answer:  # noqa: ARG001  the same for everybody
    """All systems for which there are steps."""
    return as_json({"items": [{"target": target, "title": guide.title} for target, guide in GUIDES.items()]})


def guide(ask: Ask) -> Answer:
    """How a certificate is installed on one system."""
    found = GUIDES.get(ask.path["name"])
    if found is None:
        raise NotFound("no-guide", f"there are no steps for {ask.path['name'][:50]!r}", hint=f"there are {', '.join(GUIDES)}")
    name = ask.query.get("name", "")
    if name:
        if problem := stem_problem(name):
            raise Refused("bad-name", f"{problem}; these steps are written for shells", hint="name a login, or a file without its ending")
        found = filled(found, name, "")
    return as_json(as_dict(ask.path["name"], found, f"{name or 'NAME'}.{found.helper_ending}" if found.helper else ""))


def webserver(ask: Ask) -> Answer:
    """A complete configuration for a web server, as text. Nothing is written."""
    said = {"host" if name == "site" else name: value for name, value in ask.body.items() if name not in ("server", "running")}
    revoked, people = bundles.counts(ask.authority)
    return as_json(ask.desk.outside.configure(ask.body["server"], {**said, "revoked": revoked, "people": people}, ask.body.get("running", "")))


def checkable(ask: Ask) -> Answer:
    """Which sites may be checked, and what is looked at."""
    config = ask.authority.config
    sites = [_named(host, port) for host, port in sorted(config.checkable)]
    return as_json({"sites": sites, "networks": list(config.words("check.networks")), "checks": ask.desk.outside.checks()})


def check(ask: Ask) -> Answer:
    """Knocks at a live site from here.

    1 allowed     the site is one of those that the configuration names
    2 alone       no other check runs anywhere; a lease, because there are several workers
    3 on record   who had us call whom
    4 identities  test certificates of our own, which live for an hour
    5 knock       at the addresses that the guard has seen, for half a minute at most
    """
    authority, outside = ask.authority, ask.desk.outside
    host, port = outside.place(ask.body)
    if (host, port) not in authority.config.checkable:  # 1
        hint = f'[check] sites = ["{_named(host, port)}"] in gatekey.toml allows it; gatekey check on a machine of yours needs no leave'
        raise Refused("check-not-allowed", f"{_named(host, port)} is none of the sites that the service may knock at", hint=hint)
    addresses = outside.addresses(host, authority.config.words("check.networks"))
    if not jobs.claim(authority, _JOB, _LEASE):  # 2
        raise Unavailable("check-running", "another check is running", hint="ask again when that is done; a minute is enough")
    outcome = "broken off"
    try:
        ceremony.note(authority, "site.check", _named(host, port))  # 3
        found = outside.knock(_knocking(ask, addresses))  # 4, 5
        outcome = f"{_named(host, port)}: {len(found['open'])} open, {len(found['shut'])} shut, {len(found['cannot_tell'])} cannot tell"
    except GatekeyError as problem:
        outcome = f"{_named(host, port)}: {problem.message}"
        raise
    finally:
        jobs.finish(authority, _JOB, 0, outcome)
    return as_json(found)


def _named(host: str, port: int) -> str:
    """A site as `check.sites` names it."""
    host = f"[{host}]" if ":" in host else host
    return host if port == 443 else f"{host}:{port}"


def _knocking(ask: Ask, addresses: tuple[str, ...]) -> Knocking:
    """All that is needed; with test identities, where the authority can make them."""
    authority, published = ask.authority, ask.authority.config.publish
    asked = Knocking(ask.body, addresses, trust.roots(authority), published, authority.now(), authority.entropy, SECONDS)
    if probe.possible(authority):
        return asked
    made = probe.make(authority, lambda: ask.desk.make_key("p256"))
    return asked._replace(probes=made, revoke=(lambda: probe.take_away(authority, made.canary, published)) if published else None)


ROUTES = (
    Route("GET", "/v1/trust", "trust", "The root of our web servers, and how each system is told to trust it", ("read", "decide"), trust_root, answer=_TRUST),
    Route("GET", "/v1/install", "listGuides", "The systems for which there are steps of installing a certificate", ("read",), guides, answer=_GUIDES),
    Route("GET", "/v1/install/{name}", "showGuide", "How a certificate is installed on one system", ("read",), guide, query=_GUIDE_QUERY, answer=_GUIDE),
    Route("POST", "/v1/webserver", "webserver", "A configuration for a web server, as text", ("read",), webserver, body=_SITE, answer=_CONFIGURATION),
    Route("GET", "/v1/check", "listChecks", "Which sites may be checked, and what is looked at", ("read",), checkable, answer=_CHECKABLE),
    Route("POST", "/v1/check", "checkSite", "Knock at a live site and say whether the door is shut", ("manage",), check, body=_CHECK, answer=_REPORT,
          apart=True),
)  # fmt: skip
