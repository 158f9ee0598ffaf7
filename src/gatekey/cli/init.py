"""`gatekey init`: makes the authority."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import app
from ..authority import ceremony
from ..errors import GatekeyError, Misconfigured, Refused
from ..model.instants import day
from ..model.keytypes import DEFAULT, MADE_HERE
from ..model.names import login_problem, reserved_problem
from ..model.passwords import chosen
from . import deliver, issue, say
from .session import Session, Verb, ask_new_passphrase, pass_session, passphrase_option, refuse_without

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..keys.material import PrivateKey
    from ..x509.certificate import Certificate


@click.command("init", cls=Verb)
@click.argument("name")
@click.option("--flat", is_flag=True, help="One self-signed CA that signs people and servers itself.")
@click.option("--key-type", type=click.Choice(MADE_HERE), default=DEFAULT, show_default=True, help="The kind of the authority's keys.")
@click.option("--days", type=int, help="Life of the roots in days (default 7300: 20 years).")
@click.option("--url", default="", help="Where people will reach the service over HTTP: goes into certificates as CRL and AIA addresses.")
@click.option("--permit-domain", "domains", multiple=True, metavar="D", help="Only hosts and e-mail of this domain, ever (name constraints). May be repeated.")
@click.option("--permit-ip", "ips", multiple=True, metavar="CIDR", help="With --permit-domain: these addresses too (otherwise none).")
@click.option("--root-csr", is_flag=True, help="The root is elsewhere: make keys and requests for the issuing CAs.")
@click.option("--root-cert", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="An existing root that certifies our issuing CAs now.")
@click.option("--root-key", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Its key; used for this alone and not kept.")
@click.option(
    "--root-key-password-file", type=click.Path(path_type=Path), metavar="F", help="With --root-key: a file whose first line is the password of that key."
)
@click.option("--admin", metavar="LOGIN", help="Also a certificate for yourself, with the role administrator.")
@click.option("--unencrypted-keys", is_flag=True, help="Keys without a passphrase. Whoever reads the disk is the authority.")
@passphrase_option
@pass_session
def init(
    session: Session,
    name: str,
    flat: bool,
    key_type: str,
    days: int | None,
    url: str,
    domains: tuple[str, ...],
    ips: tuple[str, ...],
    root_csr: bool,
    root_cert: Path | None,
    root_key: Path | None,
    root_key_password_file: Path | None,
    admin: str | None,
    unencrypted_keys: bool,
) -> None:
    """Make an authority called NAME.

    Two hierarchies, each with its own root: `people` issues certificates for people and devices, `servers` for web servers, so neither can ever stand in
    for the other. With --flat one self-signed CA does both, as in the classic walk-through. Keys are encrypted with a passphrase: asked for on a terminal,
    or the first line of --passphrase-file or GATEKEY_PASSPHRASE_FILE.

    \b
      gatekey init "Kitty CA"
      gatekey init "Kitty CA" --permit-domain kitty.example --passphrase-file /root/kitty.pass
      gatekey init kitty-ca --flat --key-type rsa-4096
      gatekey init "Kitty CA" --root-csr            signed by a root elsewhere
    """
    if (root_cert is None) != (root_key is None):
        raise click.UsageError("--root-cert and --root-key belong together")
    if not domains:
        refuse_without({"--permit-ip": ips}, "--permit-domain: without it every host name and e-mail would be allowed beside these addresses")
    if root_key is None:
        refuse_without({"--root-key-password-file": root_key_password_file}, "--root-key")
    if (root_csr or root_cert) and (flat or days is not None):
        raise click.UsageError("with a root that exists there is nothing for --flat and --days to say")
    if root_csr and (root_cert or admin or domains or ips):
        raise click.UsageError("with --root-csr the root decides: --root-cert, --admin and the --permit options do not apply")
    domains = tuple(domain.lower().lstrip(".").removeprefix("*.") for domain in domains)
    ceremony.refuse_words(name, url, domains, ips, flat=flat)
    home = session.place
    app.refuse_taken(home)  # before anybody thinks of a passphrase
    if admin:
        _refuse_administrator(admin)
    passphrase, file = _passphrase(session, unencrypted=unencrypted_keys)
    root = _existing_root(root_cert, root_key, root_key_password_file) if root_cert and root_key else None
    founding = app.Founding(name, flat, key_type, days, url.rstrip("/"), domains, _blocks(ips), unencrypted_keys, file, root_csr, root)
    if key_type.startswith("rsa-"):
        session.words(f"making {'one' if flat else 'four'} {key_type} key{'' if flat else 's'}; this takes some seconds")
    try:
        authority = app.create_authority(home, founding, passphrase=passphrase, say=session.words)
    finally:
        if (home / "gatekey.toml").exists():  # it comes last
            session.finished = f"the authority in {home} is made and whole"
    if root_csr:
        _tell_requests(session, home)
    elif session.json:
        made = {"home": str(home), "name": name, "flat": flat, "authorities": [_account(authority, record.name) for record in authority.records()]}
        say.as_json({**made, **({"administrator": issue.account(authority, _administrator(session, authority, admin))} if admin else {})})
    else:
        _tell(session, authority, home)
        if admin:
            session.words()
            issue.report(session, authority, _administrator(session, authority, admin))


def _existing_root(certificate: Path, key: Path, password_file: Path | None) -> tuple[Certificate, PrivateKey]:
    from ..x509.certificate import read_certificate
    from .inputs import of_kind, private_key

    return read_certificate(of_kind(certificate, "certificate")), private_key(key, password_file, option="--root-key-password-file")


def _tell_requests(session: Session, home: Path) -> None:
    requests = [home / "authorities" / f"{name}.csr" for name in ("people", "servers")]
    if session.json:
        say.as_json({"home": str(home), "requests": [str(path) for path in requests]})
        return
    for path in requests:
        say.result(str(path))
    session.words("have both signed as authorities (CA:TRUE, keyCertSign and cRLSign, no extended key usage, path length 0), then:")
    session.words("  gatekey authority install people.crt servers.crt root.crt root.crl")


def _blocks(ips: tuple[str, ...]) -> tuple[str, ...]:
    import ipaddress

    return tuple(str(ipaddress.ip_network(block)) for block in ips)


def _passphrase(session: Session, *, unencrypted: bool) -> tuple[Callable[[], bytes] | None, Path | None]:
    """How the new keys are protected, and the passphrase file that the configuration should remember."""
    found = app.passphrase_file(session.passphrase_file, None)
    if unencrypted:
        if found and session.passphrase_file:
            raise click.UsageError("--unencrypted-keys and --passphrase-file exclude each other")
        return None, None
    if found:
        secret = chosen(app.passphrase_from(found))
        return lambda: secret, None
    if sys.stdin.isatty():
        secret = ask_new_passphrase()
        return lambda: secret, None
    raise Misconfigured(
        "no-passphrase",
        "the authority's keys need a passphrase and nothing gives it",
        hint="--passphrase-file FILE (first line, mode 0600), or GATEKEY_PASSPHRASE_FILE; without one only with --unencrypted-keys",
    )


def _account(authority: Authority, name: str) -> dict[str, object]:
    from ..model.instants import iso

    certificate = authority.issuing(name).certificate
    return {
        "authority": name,
        "subject": certificate.common_name,
        "key_type": authority.issuing(name).key_type,
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
        "not_after": iso(certificate.not_after),
    }


def _tell(session: Session, authority: Authority, home: Path) -> None:
    from ..authority import bundle as bundles

    say.result(str(home))
    for record in authority.records():
        certificate = authority.issuing(record.name).certificate
        session.words(f"  {record.name.ljust(12)}  {certificate.common_name}, {authority.issuing(record.name).key_type}, until {day(certificate.not_after)}")
    roots = [record.name for record in authority.records() if record.role == "root" and authority.has_key(record.name)]
    if roots:
        session.words()
        session.words("Everything but ceremonies and the root CRLs works without the root keys. Move them to a safe place now:")
        for root in roots:
            session.words(f"  {home / 'keys' / root}.key")
    elif any(record.role == "root" for record in authority.records()):
        session.words("The root's key was not kept. A CRL that lists nothing was signed for the root; if it has revoked anything, install its own now:")
        session.words("  gatekey authority install root.crl")
    if authority.config.unencrypted_keys:
        say.warn("the keys are not encrypted: whoever can read the disk is the authority")
    for sentence in bundles.warnings(authority):
        say.warn(sentence)
    session.words()
    session.words("next:  gatekey issue server HOST    gatekey issue client NAME    gatekey trust")


def _refuse_administrator(login: str) -> None:
    """Refuses a login that cannot be one, and files that stand in the way, before there is an authority."""
    if problem := login_problem(login):
        raise Refused("bad-login", problem, hint="--admin takes a login, for example ann or ann-miller")
    if problem := reserved_problem(login):
        raise Refused("name-reserved", problem, hint="choose another login for --admin")
    to = deliver.places(Path(), login)
    try:
        deliver.prepare(Path(), [to.key, to.crt, to.chain, to.p12], None, force=False)
    except GatekeyError as there:
        there.hint = f"the files of --admin {login} are written here: move what is there away, or run it in another folder"
        raise


def _administrator(session: Session, authority: Authority, login: str) -> issue.Made:
    from ..authority import access

    made = issue.issue_client(session, authority, login, issue.Wishes(groups=("administrators",)))
    access.set_roles(authority, login, add=("administrator",))
    return made
