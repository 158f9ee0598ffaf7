"""`gatekey webserver`: a complete configuration for the web server, printed or installed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ..errors import GatekeyError
from ..model.webservers import SERVERS
from . import say
from .session import Session, Verb, pass_session, passphrase_option, refuse_without

if TYPE_CHECKING:
    from ..webserver.site import Site


@click.command("webserver", cls=Verb)
@click.argument("server", type=click.Choice(SERVERS))
@click.option("--site", "host", default="", metavar="HOST", help="The name of the private website.")
@click.option("--upstream", default="http://127.0.0.1:8000", show_default=True, metavar="URL", help="Where the app listens: http://, https:// or unix:/path.")
@click.option("--groups", default="", metavar="G,...", help="Only people in one of these groups may enter.")
@click.option("--certificate", default="", metavar="F", help="The site's certificate with its issuers (default: FOLDER/HOST.chain.crt).")
@click.option("--key", default="", metavar="F", help="The site's private key (default: FOLDER/HOST.key).")
@click.option("--folder", default="/etc/gatekey", show_default=True, metavar="DIR", help="Where Gatekey's files for the web server stand.")
@click.option("--bundle", default="", metavar="DIR", help="The bundle folder (default: FOLDER/bundle).")
@click.option("--listen", multiple=True, metavar="ADDRESS:PORT", help="Where HTTPS is served (default: 443 on every address). May be repeated.")
@click.option("--plain", multiple=True, metavar="ADDRESS:PORT", help="Where plain HTTP is redirected from (default: port 80); none for nowhere.")
@click.option("--static-options", is_flag=True, help="OPTIONS is answered by a bare 204 without a certificate (for CORS).")
@click.option("--origin", "origins", multiple=True, metavar="ORIGIN", help="With --static-options: an origin that CORS headers name. May be repeated.")
@click.option("--contact", default="", metavar="TEXT", help="Whom a refused person may ask: stands on the page of the refusal.")
@click.option(
    "--decision", is_flag=False, flag_value="unix:/run/gatekey/proxy.sock", default="", metavar="ADDRESS",
    help="Ask the service at every request: unix:/path (default: unix:/run/gatekey/proxy.sock) or https://HOST:PORT.",
)  # fmt: skip
@click.option("--decision-certificate", default="", metavar="F", help="For https: a client certificate, role proxy (default: FOLDER/proxy.chain.crt).")
@click.option("--decision-key", default="", metavar="F", help="Its key (default: FOLDER/proxy.key).")
@click.option("--decision-trust", default="", metavar="F", help="The root of the service's certificate (default: FOLDER/servers-root.crt).")
@click.option("--crl", is_flag=True, help="With --decision: check the bundle's CRLs in the handshake, too. The bundle must then be kept fresh.")
@click.option("--script", is_flag=True, help="Print the script that HAProxy or Apache asks with under --decision, and nothing else.")
@click.option("--install", "install_in", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write it there (conf.d, ...), tested first.")
@click.option("--program", default="", metavar="WORDS", help="With --install: how the server is called, if its name alone is not enough.")
@click.option("--running", type=click.Path(path_type=Path), metavar="F", help="nginx: the output of nginx -T (otherwise it is asked, if it is here).")
@passphrase_option
@pass_session
def webserver(
    session: Session,
    server: str,
    host: str,
    upstream: str,
    groups: str,
    certificate: str,
    key: str,
    folder: str,
    bundle: str,
    listen: tuple[str, ...],
    plain: tuple[str, ...],
    static_options: bool,
    origins: tuple[str, ...],
    contact: str,
    decision: str,
    decision_certificate: str,
    decision_key: str,
    decision_trust: str,
    crl: bool,
    script: bool,
    install_in: Path | None,
    program: str,
    running: Path | None,
) -> None:
    """Print a configuration for nginx, Apache, HAProxy, Caddy, Traefik or Envoy that works as it is.

    It trusts the people's side only, checks every CRL, looks each certificate up again by issuer and serial, resumes no session, closes the door for other
    names, and tells the app who is there in headers that nobody else can set. What is printed goes where the comments say; then test and reload.

    With --decision it asks `gatekey serve` at every request instead: a revocation counts at once, without a list and without a reload, and nobody is let in
    while the service cannot be asked. The bundle is then the trust chain only.

    With --install DIR its files, and the bundle of the authority that is here, are written into a folder that the web server reads. They are tested with the
    server's own checker before anything is replaced; if it refuses, all stays as it was. For nginx one line belongs outside of http {}: it goes into
    modules-enabled/90-gatekey-main.conf beside nginx.conf, unless it stands somewhere already; the files that were written are named.

    \b
      gatekey webserver nginx --site app.example --upstream http://127.0.0.1:8000 > /etc/nginx/conf.d/app.example.conf
      gatekey webserver haproxy --site app.example --groups staff,admins
      gatekey webserver nginx --site app.example --decision
      gatekey webserver nginx --site app.example --install /etc/nginx/conf.d --certificate /etc/ssl/app.crt --key /etc/ssl/app.key
    """
    from ..webserver import writers
    from ..webserver.site import DECISION, Site

    if script:
        say.result(_script(server, DECISION).rstrip())
        return
    if not host:
        raise click.UsageError("say which site: --site app.example")
    site = Site(
        host=host,
        upstream=upstream,
        groups=tuple(group.strip() for group in groups.split(",") if group.strip()),
        certificate=certificate,
        key=key,
        folder=folder,
        bundle=bundle,
        static_options=static_options,
        origins=origins,
        contact=contact,
        decision=decision,
        decision_certificate=decision_certificate,
        decision_key=decision_key,
        decision_trust=decision_trust,
        crl=crl,
    )
    site = site._replace(listen=listen or site.listen, plain=() if plain == ("none",) else plain or site.plain)
    site = _with_counts(session, site)
    if install_in:
        if click.get_current_context().get_parameter_source("folder") is ParameterSource.COMMANDLINE:
            ours = "--install puts Gatekey's files into DIR/gatekey, and --bundle names another bundle folder"
            raise click.UsageError(f"--folder goes with what is printed; {ours}")
        refuse_without({"--running": running}, "what is printed; --install asks the nginx of this machine itself (--program says how it is called)")
        _install(session, server, site, install_in, shlex.split(program))
        return
    written = writers.configuration(server, site, _dump(session, running) if server == "nginx" else "")
    if session.json:
        say.as_json(writers.as_dict(written))
        return
    say.result(written.whole.rstrip())
    for note in written.notes:
        session.words(f"note: {note}")
    if written.check or written.reload:
        steps = [shlex.join(words) for words in (written.check, written.reload) if words]
        session.words(f"then: {' && '.join(steps)}")


def _script(server: str, address: str) -> str:
    from ..webserver import writers
    from ..webserver.site import Site

    programs = writers.configuration(server, Site("gatekey.invalid", decision=address)).programs if server in ("haproxy", "apache") else {}
    if not programs:
        raise click.UsageError(f"{server} needs no script")
    return str(next(iter(programs.values())))


def _install(session: Session, server: str, site: Site, folder: Path, program: list[str]) -> None:
    from ..authority import bundle
    from ..webserver import install

    done = install.install(server, site, folder, bundle.make(session.authority(writing=True)).contents, program=tuple(program))
    if session.json:
        told = {"written": list(done.written), "notes": list(done.notes), "said": done.said, "reload": list(done.reload)}
        say.as_json({**told, "bundle": done.bundle, "kept": done.kept, "first": done.first})
        return
    if done.first:
        session.words(done.first)
    for path in done.written:
        say.result(path)
    for note in done.notes:
        session.words(f"note: {note}")
    if done.said:
        session.words(done.said)
    whose = "gatekey agent keeps it, so it was left as it is" if done.kept else "for gatekey agent that is the target"
    session.words(f"{server} reads the bundle in {done.bundle}: {whose}")
    if done.first:
        session.words(f"the server's own checker takes it with that line; until it is there, nothing of this counts; then: {shlex.join(done.reload)}")
        return
    session.words(f"the server's own checker takes it; now: {shlex.join(done.reload)}" if done.reload else "nothing needs a reload")


def _dump(session: Session, running: Path | None) -> str:
    """What nginx runs with: told, or asked of the nginx of this machine; "" when there is none to ask."""
    if running:
        from .inputs import read

        return read(running, 16 * 1024 * 1024).decode("utf-8", "replace")
    dump = running_nginx()
    if dump == "":
        session.words("note: nginx -T could not be read here, so what other sites of this nginx share is not known; give its output with --running FILE")
    return dump or ""


def running_nginx() -> str | None:
    """What the nginx of this machine runs with, as `nginx -T` prints it; None without an nginx, "" when it does not say."""
    import shutil
    import subprocess

    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not program:
        return None
    done = subprocess.run([program, "-T"], capture_output=True, text=True, errors="replace", check=False, timeout=20)
    return "" if done.returncode else done.stdout


def _with_counts(session: Session, site: Site) -> Site:
    """How long the lists are, when the authority is on this machine: a long CRL costs every handshake, and the configuration then leans on the other lock."""
    try:
        authority = session.authority()
    except GatekeyError:
        return site
    from ..authority.bundle import counts

    revoked, people = counts(authority)
    return site._replace(revoked=revoked, people=people)
