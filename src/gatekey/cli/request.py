"""`gatekey request`: a private key and a certificate request, anywhere, without an authority."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from .. import files
from ..errors import Reason, Refused
from ..model.keytypes import DEFAULT, MADE_HERE
from ..model.names import Names, email_problem, host_problem, login_problem
from ..x509 import pem
from . import deliver, say
from .session import Session, Verb, key_password_option, out_option, pass_session, refuse_without


@click.command("request", cls=Verb)
@click.argument("names", nargs=-1, required=True, metavar="NAME|HOST...")
@click.option("--server", is_flag=True, help="For a web server: NAME is a host name or address, and more may follow.")
@click.option("--email", default="", help="For a person: the e-mail to ask for.")
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="A key that exists; it is not copied.")
@key_password_option
@click.option("--key-type", type=click.Choice(MADE_HERE), help=f"The kind of key to make (default: {DEFAULT}).")
@out_option
@pass_session
def request(
    session: Session,
    names: tuple[str, ...],
    server: bool,
    email: str,
    key_file: Path | None,
    key_password_file: Path | None,
    key_type: str | None,
    out: Path,
    force: bool,
) -> None:
    """Make a private key and a certificate request (CSR).

    Writes NAME.key (0600, not encrypted) and NAME.csr. Send the .csr to the authority; the .key stays here. Nothing else than this machine is needed.

    \b
      gatekey request ann --email ann@example.com
      gatekey request --server app.example www.app.example
      gatekey request ann --key old.key            the same key once more
    """
    from ..keys import material
    from ..x509.csr import encode_csr
    from .inputs import private_key

    if key_file:
        refuse_without({"--key-type": key_type}, "a key that is made here, not with --key")
    else:
        refuse_without({"--key-password-file": key_password_file}, "--key")
    wanted = _names(names, server=server, email=email)
    to = deliver.places(out, wanted.common_name or wanted.alternatives[0])
    deliver.prepare(out, [to.csr] if key_file else [to.key, to.csr], None, force=force)
    key = private_key(key_file, key_password_file) if key_file else material.make(key_type or DEFAULT)
    der = encode_csr(wanted, key.spki, key.key_type, key.sign)
    if not key_file:
        files.put(to.key, deliver.key_pem(key), files.PRIVATE, force=force)
    files.put(to.csr, pem.encode("CERTIFICATE REQUEST", der), force=force)
    if session.json:
        say.as_json({"key": None if key_file else str(to.key), "csr": str(to.csr), "key_type": key.key_type})
        return
    say.result(str(to.csr))
    if not key_file:
        session.words(f"{to.key} is the private key: it stays here")
    asked = ("server", *names) if server else ("client", names[0], *(("--email", email) if email else ()))
    session.words(f"send {to.csr.name} to the authority, which says: {shlex.join(('gatekey', 'issue', *asked, '--csr', to.csr.name))}")


def _names(words: tuple[str, ...], *, server: bool, email: str) -> Names:
    if not server:
        too_many = f"{len(words)} names were given; a person has one (for hosts say --server)"
        problems: list[str | None] = [login_problem(words[0]) if len(words) == 1 else too_many]
        problems.append(email_problem(email) if email else None)
        _refuse(problems)
        return Names(words[0], emails=(email,) if email else ())
    from ..authority.requests import server_names

    wanted = server_names(words)
    _refuse([*(host_problem(host) for host in wanted.dns), "--email is for people, not for servers" if email else None])
    return wanted


def _refuse(problems: list[str | None]) -> None:
    reasons = tuple(Reason("bad-name", problem) for problem in problems if problem)
    if reasons:
        raise Refused.because(reasons)
