"""`gatekey check`: knocks at a live site and says whether the door is really shut."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GatekeyError, Misconfigured, Refused
from ..ports import SystemClock, SystemEntropy
from ..webserver import check as checks
from ..webserver.check import Identities, Identity, Report
from ..webserver.report import OPEN, PASS, SHUT, UNSURE
from . import say
from .session import Session, Verb, pass_session, passphrase_option

if TYPE_CHECKING:
    from ..authority.authority import Authority

_WORDS = {PASS: "pass", OPEN: "OPEN", SHUT: "SHUT", UNSURE: "cannot tell"}
_COLOURS = {PASS: "32", OPEN: "31", SHUT: "31", UNSURE: "33"}


@click.command("check", cls=Verb)
@click.argument("url", required=False, default="", metavar="URL")
@click.option("--client", type=click.Path(path_type=Path, dir_okay=False), metavar="P12", help="A PKCS#12 that is let in (otherwise the authority makes one).")
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="The password of the PKCS#12.")
@click.option("--no-authority", is_flag=True, help="Do not ask the authority here for test identities.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check, by number or name. May be repeated.")
@click.option("--skip", multiple=True, metavar="CHECK", help="Not this check. May be repeated.")
@click.option("--list", "listing", is_flag=True, help="Say what the checks are, and end.")
@click.option("--address", default="", metavar="A", help="Connect there instead of what DNS says.")
@click.option("--address6", default="", metavar="A", help="The site's IPv6 address instead of what DNS says.")
@click.option("--http-port", type=int, default=80, show_default=True, help="Where plain HTTP is answered; 0 for nowhere.")
@click.option("--app-port", "app_ports", type=int, multiple=True, help="A port on which the app itself may listen. May be repeated.")
@click.option("--tls-port", "tls_ports", type=int, multiple=True, help="A further port that speaks TLS. May be repeated.")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="A further path to try without a certificate. May be repeated.")
@click.option("--allow", "allowed", multiple=True, metavar="PATH", help="Paths below this are open on purpose. May be repeated.")
@click.option("--sibling", "siblings", multiple=True, metavar="HOST", help="Another site on the same server. May be repeated.")
@click.option("--origin", default="", metavar="A", help="The address behind a CDN or cloud proxy.")
@click.option("--whoami", default="", metavar="PATH", help="A page that says who is there: shows whether headers can be forged.")
@click.option("--websocket", default="/ws", show_default=True, metavar="PATH", help="A path that takes WebSockets.")
@click.option("--roots", "root", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="The root behind the site's certificate, if not public.")
@click.option("--bundle", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="The bundle folder that the web server reads.")
@passphrase_option
@pass_session
def check(
    session: Session,
    url: str,
    client: Path | None,
    password_file: Path | None,
    no_authority: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    listing: bool,
    address: str,
    address6: str,
    http_port: int,
    app_ports: tuple[int, ...],
    tls_ports: tuple[int, ...],
    paths: tuple[str, ...],
    allowed: tuple[str, ...],
    siblings: tuple[str, ...],
    origin: str,
    whoami: str,
    websocket: str,
    root: Path | None,
    bundle: Path | None,
) -> None:
    """Knock at a live site from outside: with no certificate, a good one, an expired one, a revoked one, one of a foreign CA, other names, forged headers ...

    Beside an authority, short-lived test identities are made for it (login gatekey-probe, kept in memory, hidden from gatekey list). With --client it uses
    that one, with nothing it does what it can and says what it could not. Ends with exit code 1 if anything is open. Gentle enough to run nightly.

    \b
      gatekey check https://app.example --bundle /etc/gatekey/bundle
      gatekey check https://app.example --client ann.p12 --password-file ann.pass
      gatekey check https://app.example --only 11 --only 14
    """
    if listing:
        _list(session)
        return
    if not url:
        raise click.UsageError("say which site: gatekey check https://app.example")
    target = checks.parse_target(url)
    changes: dict[str, object] = {
        "address": address or target.address,
        "address6": address6 or target.address6,
        "http_port": http_port,
        "app_ports": (*target.app_ports, *app_ports),
        "tls_ports": (*target.tls_ports, *tls_ports),
        "paths": paths,
        "allowed": allowed,
        "siblings": siblings,
        "origin": origin,
        "whoami": whoami,
        "websocket": websocket,
        "roots": _roots(root),
    }
    target = target._replace(**changes)  # type: ignore[arg-type]  # each value has the type of its field
    checks.chosen(only, skip)
    if bundle:
        _refuse_strange(bundle)
    authority = None if no_authority or client else _authority(session)
    if bundle and authority:
        _refuse_foreign(bundle, authority)
    identities = Identities(good=_from_pkcs12(client, password_file)) if client else Identities()
    revoke: Callable[[], None] | None = None
    if authority:
        from ..authority import trust

        identities, revoke = _probes(session, authority, bundle)
        target = target._replace(roots=target.roots + trust.roots(authority))
    published = bundle or (authority.config.publish if authority else None)
    shown = sys.stderr.isatty() and not session.quiet
    report = checks.run(
        target,
        identities,
        only=only,
        skip=skip,
        progress=_progress if shown else None,
        now=SystemClock().now(),
        entropy=SystemEntropy(),
        revoke=revoke,
        bundle=published,
        reads_crl=published is not None and _nginx_reads(published, target.host),
    )
    if session.json:
        say.as_json(report.as_json())
    else:
        _tell(session, report)
    raise click.exceptions.Exit(report.exit_code)


def _refuse_strange(bundle: Path) -> None:
    """A folder with a slip of the pen in it must not become a bundle. Raises Misconfigured("bundle-missing") where there is none that Gatekey wrote."""
    from .. import files
    from ..webserver.agent_bundle import MOST_MANIFEST, read_manifest
    from ..webserver.agent_server import MANIFEST

    try:
        read_manifest(files.read(bundle / MANIFEST, MOST_MANIFEST))
    except GatekeyError:
        hint = "name the folder that the web server's configuration reads; gatekey bundle --out DIR makes one"
        raise Misconfigured("bundle-missing", f"{bundle} is no bundle of Gatekey's: it has no {MANIFEST} that can be read", hint=hint) from None


def _refuse_foreign(bundle: Path, authority: Authority) -> None:
    """The revocation of the canary is published into the folder: not over another authority's bundle. Raises Refused("bundle-foreign")."""
    from ..webserver.agent_server import CHAIN
    from .inputs import certificates

    ours = {authority.issuing(record.name).certificate.der for record in authority.need("people")}
    if not ours & set(certificates(bundle / CHAIN)):
        hint = "name the bundle of the authority that is here, or leave its test identities out with --no-authority"
        raise Refused("bundle-foreign", f"the bundle in {bundle} is another authority's", hint=hint)


def _nginx_reads(bundle: Path, host: str) -> bool:
    """Whether the nginx of this machine, if there is one, serves this host and names the CRLs of this folder."""
    import re

    from .webserver import running_nginx

    dump = running_nginx() or ""
    crl = re.search(rf"^\s*ssl_crl\s+\"?{re.escape(str(bundle.absolute() / 'all.crl.pem'))}\"?;", dump, re.MULTILINE)
    return crl is not None and re.search(rf"^\s*server_name\s[^;]*(?<=\s){re.escape(host)}[\s;]", dump, re.MULTILINE) is not None


def _list(session: Session) -> None:
    if session.json:
        say.as_json([{"number": one.number, "name": one.name, "title": one.title} for one in checks.CHECKS])
        return
    say.table(["number", "name", "what"], [[str(one.number), one.name, one.title] for one in checks.CHECKS], empty="")


def _roots(root: Path | None) -> bytes:
    if root is None:
        return b""
    from ..x509 import pem
    from .inputs import certificates

    return b"".join(pem.encode("CERTIFICATE", der) for der in certificates(root))


def _authority(session: Session) -> Authority | None:
    """The authority of this machine, when there is one whose keys can be used."""
    from ..authority import probe

    try:
        authority = session.authority(writing=True)
    except Misconfigured as problem:
        if problem.code != "no-home":
            raise
        session.words("there is no authority here, so no test identities: checks that need one cannot tell (--client P12 gives one)")
        return None
    if why := probe.possible(authority):
        session.words(f"the authority here makes no test identities: {why}")
        return None
    return authority


def _probes(session: Session, authority: Authority, bundle: Path | None) -> tuple[Identities, Callable[[], None] | None]:
    from .. import app
    from ..authority import probe
    from ..keys import material

    made = probe.make(authority, lambda: material.make("p256"))
    published = bundle or authority.config.publish
    if published is None:
        session.words("whether a revocation is felt cannot be tried: say which folder the web server reads with --bundle DIR, or publish = DIR in gatekey.toml")
    identities = app.identities(made, canary=published is not None)
    return identities, (lambda: probe.take_away(authority, made.canary, published)) if published else None


def _from_pkcs12(path: Path, password_file: Path | None) -> Identity:
    from .. import files
    from ..x509 import pem, pkcs12
    from .inputs import password

    data = files.read(path, 1024 * 1024)
    opened = pkcs12.read(data, password(password_file, f"password of {path}: ", f"{path} has a password"))
    chain = b"".join(pem.encode("CERTIFICATE", der) for der in (opened.certificate, *opened.chain))
    return Identity(chain, pem.encode("PRIVATE KEY", opened.pkcs8), f"the certificate in {path.name}")


def _progress(done: int, of: int, title: str) -> None:
    click.echo(f"\r\033[K{f'{done + 1}/{of}  {title[:90]}' if title else ''}", nl=False, err=True)


def _tell(session: Session, report: Report) -> None:
    for outcome in report.outcomes:
        word = _WORDS[outcome.verdict].ljust(11)
        say.result(f"{outcome.number:>3}  {word}  {outcome.title}: {outcome.said}", word=word, colour=_COLOURS[outcome.verdict])
        if outcome.verdict in (OPEN, SHUT):
            for name, text in (("tried", outcome.request), ("came back", outcome.answer)):
                if text:
                    say.result(f"{'':18}{name}: {text}")
            if outcome.follows:
                say.result(f"{'':18}mended with check {outcome.follows}")
            elif fix := outcome.fix(report.server):
                say.result(f"{'':18}mend it: {fix}")
        elif outcome.verdict == UNSURE and outcome.hint:
            say.result(f"{'':18}{outcome.hint}")
    opened, unsure = len(report.opened), len(report.unsure)
    passed = len(report.outcomes) - opened - unsure - len(report.shut)
    counts = f"{opened} open, {f'{len(report.shut)} shut, ' if report.shut else ''}{unsure} cannot tell, {passed} pass"
    session.words(f"{report.site}: {counts}; {report.connections} connections in {report.seconds:.1f} s")
    if report.shut:
        session.words("the door is shut to those whom it is for: mend check 2")
    if opened:
        session.words("the door is open")
