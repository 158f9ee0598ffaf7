"""`gatekey issue client|server`, `sign` and `renew`: everything that ends with a new certificate."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .. import files
from ..authority import requests
from ..authority.issue import issue as issue_one
from ..authority.issue import issued_anyway
from ..errors import GatekeyError, Refused
from ..model.instants import DAY, day, iso
from ..model.keytypes import DEFAULT, MADE_HERE, ML_DSA_OPENSSL, is_ml_dsa
from . import deliver, say
from .session import Family, Session, Verb, key_password_option, out_option, pass_session, passphrase_option, refuse_without

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..keys.material import PrivateKey
    from ..lifecycle import Released
    from ..model.holder import Holder
    from ..model.record import CertificateRecord
    from ..model.request import Request
    from ..x509.csr import Csr


class Wishes(NamedTuple):
    """What was said about a person's certificate."""

    email: str = ""
    name: str = ""
    device: str = ""
    groups: tuple[str, ...] = ()
    days: int | None = None
    key_type: str | None = None
    csr: Path | None = None
    target: str = "any"
    out: Path = Path()
    password_file: Path | None = None
    force: bool = False
    profile: str = "client"


class Made(NamedTuple):
    """What a verb has issued, and the files it has written."""

    released: Released
    files: list[str]


@click.group("issue", cls=Family)
def issue() -> None:
    """Give a person or a web server a certificate."""


@issue.command("client")
@click.argument("name")
@click.option("--email", default="", help="Goes into the certificate; unique per person.")
@click.option("--display", default="", metavar="TEXT", help="What the person is called, in any script.")
@click.option("--name", "display", default="", hidden=True, help="The same as --display.")
@click.option("--device", default="", help="For which device: one certificate per person and device.")
@click.option("--group", "groups", multiple=True, metavar="G", help="Puts the person into a group. May be repeated.")
@click.option("--profile", default="client", show_default=True, metavar="P", help="Under which words: client-short, device, or one of your own for clients.")
@click.option("--days", type=int, help="Days of validity (default: the profile's; 365 for client).")
@click.option("--key-type", type=click.Choice(MADE_HERE), help=f"The kind of key to make (default: {DEFAULT}).")
@click.option("--csr", type=click.Path(path_type=Path), metavar="F", help="The person's own request (PEM or DER, - for stdin): only its public key is taken.")
@click.option("--for", "target", type=click.Choice(deliver.TARGETS), default="any", show_default=True, help="What the file is opened on.")
@out_option
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="Where the PKCS#12 password is written (0600) instead of being shown.")
@passphrase_option
@pass_session
def client(
    session: Session,
    name: str,
    email: str,
    display: str,
    device: str,
    groups: tuple[str, ...],
    profile: str,
    days: int | None,
    key_type: str | None,
    csr: Path | None,
    target: str,
    out: Path,
    force: bool,
    password_file: Path | None,
) -> None:
    """A certificate for the person NAME.

    Writes NAME.key, NAME.crt, NAME.chain.crt and NAME.p12, and shows the password of the PKCS#12 once. NAME is the login: the common name in the
    certificate. The person is made if new. With --csr the key stays where it was made, and only NAME.crt and NAME.chain.crt are written. Under a profile of
    machines (device) NAME is the machine, and there is no PKCS#12.

    \b
      gatekey issue client ann --email ann@example.com --device laptop --group staff
      gatekey issue client ann --device phone --for modern --out ~/handover
      gatekey issue client ann --device ipad --for apple --key-type rsa-2048
      gatekey issue client bob --csr bob.csr
      gatekey issue client eve --profile client-short

    What to do with the file on the device: gatekey help install
    """
    wishes = Wishes(email, display, device, groups, days, key_type, csr, target, out, password_file, force, profile)
    authority = session.authority(writing=True)
    report(session, authority, issue_client(session, authority, name, wishes))


def issue_client(session: Session, authority: Authority, login: str, wishes: Wishes) -> Made:
    """Key, certificate, chain and PKCS#12 for a person; nothing is left behind when it is refused."""
    to = deliver.places(wishes.out, login)
    wanted = [to.crt, to.chain]
    request_file = _read_csr(wishes.csr)
    machine = requests.profile_of(authority, wishes.profile, "client").holder_kind != "person"
    if request_file is None and machine:
        if wishes.password_file or wishes.target != "any":
            raise click.UsageError(f"the profile {wishes.profile} is for machines, which take key and certificate as files; gatekey p12 makes other forms")
        wanted = [to.key, *wanted]
    elif request_file is None:
        deliver.refuse_target(wishes.key_type or DEFAULT, wishes.target)
        _refuse_password(wishes.target, wishes.password_file)
        wanted = [to.key, *wanted, to.carried(wishes.target)]
    elif wishes.password_file or wishes.target != "any" or wishes.key_type:
        raise click.UsageError("with --csr the key is not here, so there is no PKCS#12: --for, --key-type and --password-file do not apply")
    deliver.prepare(wishes.out, wanted, wishes.password_file, force=wishes.force)
    key = _key(wishes.key_type or DEFAULT) if request_file is None else None
    if request_file:
        _say_ignored(session, request_file, login)
    request, holder = requests.client(
        authority,
        login,
        request_file.spki if request_file else _made(key).spki,
        email=wishes.email,
        name=wishes.name,
        device=wishes.device,
        groups=wishes.groups,
        days=wishes.days,
        proof="csr" if request_file else "made-here",
        idempotency=authority.entropy.bytes(16).hex(),
        profile=wishes.profile,
    )
    from ..authority.people import check

    check(holder._replace(devices=(wishes.device,) if wishes.device else ()))
    return _complete(session, authority, request, holder, key, to, wishes, alone=True)


def _refuse_password(target: str, password_file: Path | None) -> None:
    if target == "pem":
        refuse_without({"--password-file": password_file}, "a file that has a password; with --for pem the key is not encrypted")


def _complete(
    session: Session, authority: Authority, request: Request, holder: Holder, key: PrivateKey | None, to: deliver.Files, wishes: Wishes, *, alone: bool = False
) -> Made:
    """Issues and hands over. The key is on disk before the certificate exists, so that no certificate is without its key; a refusal takes it away again."""
    staged = files.stage(to.key, deliver.key_pem(key), files.PRIVATE) if key else None
    released = _issue(session, authority, request, holder, staged, alone=alone)
    with _issued_anyway(released, staged):
        if staged:
            staged.commit(force=wishes.force)
        deliver.write_certificate(authority, released, to, force=wishes.force)
        made = _hand_over(session, authority, released, holder, key, to, wishes) if key else []
    return Made(released, ([str(to.key)] if key else []) + [str(to.crt), str(to.chain), *made])


def _issue(session: Session, authority: Authority, request: Request, holder: Holder, staged: files.Staged | None = None, *, alone: bool = False) -> Released:
    """Issues. Where that ends in trouble although there is a certificate, the trouble says so."""
    try:
        return issue_one(authority, request, holder, alone=alone, say=session.words)
    except BaseException as trouble:
        _came_to_nothing(authority, request, staged, trouble)
        raise


def _came_to_nothing(authority: Authority, request: Request, staged: files.Staged | None, trouble: BaseException) -> None:
    """Takes the key away again if nothing was issued. The key of a certificate that exists is kept and named, also where the ledger cannot tell."""
    try:
        released = issued_anyway(authority, request, trouble)
    except GatekeyError:
        key = f"; its private key would be the one in {staged.place}" if staged else ": gatekey list shows it, if there is one"
        say.warn(f"whether a certificate was issued is not known{key}")
        return
    if released:
        with _issued_anyway(released, staged):
            raise trouble
    if staged:
        staged.discard()


@contextmanager
def _issued_anyway(released: Released, staged: files.Staged | None = None) -> Iterator[None]:
    """A certificate that exists but whose files could not be written, or were not waited for: what is said then names it, and where its key is."""
    try:
        yield
    except (GatekeyError, KeyboardInterrupt) as trouble:
        serial = released.number
        hint = f"the certificate {serial} was issued; print it with: gatekey show {serial} --pem; or take it back: gatekey revoke {serial}"
        if staged and staged.place.name.startswith("."):
            hint = f"{hint}; its private key is in {staged.place}"
        if isinstance(trouble, GatekeyError):
            trouble.hint = hint
        else:
            say.warn(hint)
        raise


def _hand_over(session: Session, authority: Authority, released: Released, holder: Holder, key: PrivateKey, to: deliver.Files, wishes: Wishes) -> list[str]:
    """The file for a person's device."""
    if holder.kind != "person":
        return []
    from ..x509.certificate import read_certificate

    issuer = authority.record(released.issuer)
    identity = deliver.Identity(
        key,
        read_certificate(released.der),
        deliver.issuers_without_root(authority, released.issuer),
        deliver.friendly_name((authority.reads.holder(holder.login) or holder).display, authority.config.name, authority.now()),
        wishes.device,
        # With --flat the root itself is the issuer: what stands above the certificate is either this or nothing.
        authority.issuing(issuer.name).certificate.der if issuer.is_root else b"",
    )
    place = to.carried(wishes.target)
    deliver.hand_over(session, identity, wishes.target, place, wishes.password_file, entropy=authority.entropy, force=wishes.force)
    return [str(place)]


@issue.command("server")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--ip", "ips", multiple=True, metavar="A", help="An address of the server. May be repeated.")
@click.option("--profile", default="server", show_default=True, metavar="P", help="Under which words: server, or one of your own for servers.")
@click.option("--days", type=int, help="Days of validity (default: the profile's; 375 for server, never above 397).")
@click.option("--key-type", type=click.Choice(MADE_HERE), help=f"The kind of key to make (default: {DEFAULT}).")
@click.option(
    "--csr",
    type=click.Path(path_type=Path),
    metavar="F",
    help="The server's own request: only its public key is taken, the names are those of the command line.",
)
@out_option
@passphrase_option
@pass_session
def issue_server(
    session: Session,
    hosts: tuple[str, ...],
    ips: tuple[str, ...],
    profile: str,
    days: int | None,
    key_type: str | None,
    csr: Path | None,
    out: Path,
    force: bool,
) -> None:
    """A certificate for a web server.

    Writes HOST.key, HOST.crt and HOST.chain.crt (what the server sends), named by the first HOST. An address may stand among the hosts.

    \b
      gatekey issue server app.example www.app.example
      gatekey issue server app.internal --ip 10.0.0.7 --key-type rsa-2048
      gatekey issue server app.example --csr app.csr
    """
    if csr:
        refuse_without({"--key-type": key_type}, "a key that is made here, not with --csr")
    authority = session.authority(writing=True)
    names = requests.server_names(hosts, ips)
    to = deliver.places(out, names.common_name or names.alternatives[0])
    request_file = _read_csr(csr)
    deliver.prepare(out, [to.crt, to.chain] if csr else [to.key, to.crt, to.chain], None, force=force)
    key = None if request_file else _key(key_type or DEFAULT)
    if request_file:
        _say_ignored(session, request_file, hosts[0])
    spki = request_file.spki if request_file else _made(key).spki
    proof = "csr" if request_file else "made-here"
    request, holder = requests.server(
        authority, hosts, spki, ips=ips, days=days, proof=proof, idempotency=authority.entropy.bytes(16).hex(), profile=profile
    )
    made = _complete(session, authority, request, holder, key, to, Wishes(out=out, force=force))
    report(session, authority, made)
    _say_others(session, authority, holder.login, made.released)
    if any(is_ml_dsa(kind) for kind in (key.key_type if key else "", authority.issuing(request.issuer).key_type)):
        say.warn(f"web servers read {to.chain.name} with OpenSSL {ML_DSA_OPENSSL} or later only (Debian 12 has 3.0), and few browsers take it")


def _say_others(session: Session, authority: Authority, login: str, released: Released) -> None:
    """Nodes of one server may have a certificate each, so it is no refusal; but one that nobody remembers is good as well."""
    now = authority.now()
    live = [one for one in authority.reads.by_holder(login) if one.status(now) == "valid" and one.id != released.id and not one.of_service]
    if live:
        last = max(live, key=lambda one: one.not_after)
        more = f", and {len(live) - 1} more (gatekey list --holder {shlex.quote(login)})" if len(live) > 1 else ""
        session.words(f"{login} has another live certificate: {last.serial} until {day(last.not_after)}{more}")
        session.words(f"if nothing uses it any more: gatekey revoke {last.serial} --reason superseded")


@click.command("sign", cls=Verb)
@click.argument("csr", type=click.Path(path_type=Path))
@click.option("--profile", required=True, metavar="P", help="Under which words: client, server, device, ... or one of your own.")
@click.option("--days", type=int, help="Days of validity (default: the profile's).")
@click.option("--device", default="", help="For which device of the person.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Where the certificate goes (default NAME.crt here; - for stdout).")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@passphrase_option
@pass_session
def sign(session: Session, csr: Path, profile: str, days: int | None, device: str, out: Path | None, force: bool) -> None:
    """Issue from a certificate request (PEM or DER, - for stdin).

    The public key, the common name and the alternative names are taken from the request, and the profile accepts or refuses them. Extensions, usages and
    dates in the request are not followed.

    \b
      gatekey sign picture-server.csr --profile server
      gatekey sign - --profile device --out printer.crt < printer.csr
    """
    from .inputs import csr as read_csr

    authority = session.authority(writing=True)
    asked = read_csr(csr)
    request, holder = requests.from_csr(authority, profile, asked, days=days, device=device, idempotency=authority.entropy.bytes(16).hex())
    for wish in asked.wants:
        session.words(f"the request also asks for {wish}; that is the authority's to say, and it was not followed")
    to_stdout = out is not None and str(out) == "-"
    name = request.names.common_name or next(iter(request.names.alternatives), "")
    to = deliver.places(Path(), name or "certificate")
    if out and not to_stdout:
        to = to._replace(crt=out, chain=out.with_name(f"{out.stem}.chain{out.suffix or '.crt'}"))
    if not to_stdout:
        deliver.prepare(to.crt.parent, [to.crt, to.chain], None, force=force)
    released = _issue(session, authority, request, holder, alone=holder.alone)
    if to_stdout:
        from ..x509 import pem

        with _issued_anyway(released):
            say.result(pem.encode("CERTIFICATE", released.der).decode().rstrip())
        return
    with _issued_anyway(released):
        deliver.write_certificate(authority, released, to, force=force)
    report(session, authority, Made(released, [str(to.crt), str(to.chain)]))


@click.command("renew", cls=Verb)
@click.argument("ref")
@click.option("--new-key", is_flag=True, help="Make a new key (and a PKCS#12 for a person).")
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Certify this key.")
@key_password_option
@click.option("--csr", type=click.Path(path_type=Path), metavar="F", help="Certify the key of this request; its names are not taken.")
@click.option("--key-type", type=click.Choice(MADE_HERE), help="With --new-key: the kind of key (default: as before).")
@click.option("--days", type=int, help="Days of validity (default: the profile's).")
@click.option(
    "--for", "target", type=click.Choice(deliver.TARGETS), help="With --new-key or --key, for a person: what the file is opened on (default: any)."
)
@out_option
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="Where the PKCS#12 password is written (0600) instead of being shown.")
@passphrase_option
@pass_session
def renew(
    session: Session,
    ref: str,
    new_key: bool,
    key_file: Path | None,
    key_password_file: Path | None,
    csr: Path | None,
    key_type: str | None,
    days: int | None,
    target: str | None,
    out: Path,
    force: bool,
    password_file: Path | None,
) -> None:
    """Issue a successor of a certificate.

    Without more, the same key is certified again: a certificate ages, a key does not. The old certificate stays known, valid until its end, and can still be
    revoked. Names are those on record now, not those of a request.

    \b
      gatekey renew ann                            same key: NAME.crt and NAME.chain.crt
      gatekey renew ann --new-key --out ~/handover new key and PKCS#12
      gatekey renew app.example --csr app.csr
    """
    from ..authority.lookup import one
    from .inputs import csr as read_csr
    from .inputs import private_key

    if sum((new_key, key_file is not None, csr is not None)) > 1:
        raise click.UsageError("--new-key, --key and --csr exclude each other")
    if not new_key:
        refuse_without({"--key-type": key_type}, "--new-key")
    if key_file is None:
        refuse_without({"--key-password-file": key_password_file}, "--key")
    if not new_key and key_file is None:
        refuse_without({"--for": target, "--password-file": password_file}, "--new-key or --key: without the private key there is no file for a device")
    _refuse_password(target or "any", password_file)
    authority = session.authority(writing=True)
    old = one(authority, ref, wanted=("valid", "not-yet-valid", "expired"))
    if old.kind == "authority":
        raise Refused("renew-authority", f"{old.title} is an authority", hint="authorities are not renewed like leaves")
    kind = (key_type or (old.key_type if old.key_type in MADE_HERE else DEFAULT)) if new_key else ""
    to = deliver.places(out, old.title)
    wanted = [to.crt, to.chain] + ([to.key] if new_key else [])
    with_file = old.kind == "person" and (new_key or key_file is not None)
    if old.kind != "person":
        refuse_without({"--for": target, "--password-file": password_file}, f"people: {old.title} is a {old.kind}, which takes key and certificate as files")
    target = target or "any"
    if with_file:
        wanted.append(to.carried(target))
    key = private_key(key_file, key_password_file) if key_file else None
    if with_file:
        deliver.refuse_target(key.key_type if key else kind, target)
    deliver.prepare(out, wanted, password_file, force=force)
    if new_key:
        key = _key(kind)
    request_file = read_csr(csr) if csr else None
    spki = request_file.spki if request_file else key.spki if key else None
    proof = "csr" if request_file else "made-here" if new_key else "own-key" if key else "same-key"
    request, holder = requests.renewal(authority, old, spki, proof=proof, days=days, idempotency=authority.entropy.bytes(16).hex())
    wishes = Wishes(device=old.device, target=target, out=out, password_file=password_file, force=force)
    if key_file:
        released = _issue(session, authority, request, holder)
        with _issued_anyway(released):
            deliver.write_certificate(authority, released, to, force=force)
            made = _hand_over(session, authority, released, holder, _made(key), to, wishes)
        report(session, authority, Made(released, [str(to.crt), str(to.chain), *made]))
    else:
        report(session, authority, _complete(session, authority, request, holder, key, to, wishes))
    if old.kind == "person" and not with_file:
        crt, its_key, file = (shlex.quote(str(path)) for path in (to.crt, deliver.places(Path(), old.title).key, to.p12))
        session.words(f"next: gatekey p12 {crt} --key {its_key} --out {file}, for the browser, which takes certificate and key together")
    session.words(f"the one before ({old.serial}) stays valid until {day(old.not_after)}; take it away with: gatekey revoke {old.serial} --reason superseded")


def _read_csr(path: Path | None) -> Csr | None:
    """The request in a file, if one was named; only then is it worth loading what reads files."""
    if path is None:
        return None
    from .inputs import csr

    return csr(path)


def _key(key_type: str) -> PrivateKey:
    from ..keys import material

    return material.make(key_type)


def _made(key: PrivateKey | None) -> PrivateKey:
    assert key is not None  # noqa: S101  either a CSR or a key is at hand
    return key


def _say_ignored(session: Session, csr: Csr, name: str) -> None:
    asked = [named for named in (csr.names.common_name, *csr.names.alternatives) if named and named != name]
    if asked:
        session.words(f"the request asks for {', '.join(asked)}; only its public key is taken, the names are those of this command")
    for wish in csr.wants:
        session.words(f"the request also asks for {wish}; that is the authority's to say")


def report(session: Session, authority: Authority, made: Made) -> None:
    """Says what was issued, and which files there are."""
    session.finished = f"the certificate {made.released.number} is issued, and its files are written"
    if session.json:
        say.as_json(account(authority, made))
        return
    record = _record(authority, made.released)
    for file in made.files:
        say.result(file)
    what = f"{record.title}{f' ({record.device})' if record.device else ''}"
    until = day(record.not_after) if record.not_after - record.not_before > 2 * DAY else iso(record.not_after)
    session.words(f"issued {record.serial} for {what} by {record.issuer}, valid until {until}")


def account(authority: Authority, made: Made) -> dict[str, object]:
    """The same for JSON."""
    record = _record(authority, made.released)
    return {
        "serial": record.serial,
        "issuer": record.issuer,
        "holder": record.holder,
        "fingerprint": record.fingerprint,
        "not_before": iso(record.not_before),
        "not_after": iso(record.not_after),
        "files": made.files,
    }


def _record(authority: Authority, released: Released) -> CertificateRecord:
    return next(record for record in authority.reads.by_serial(released.number) if record.id == released.id)
