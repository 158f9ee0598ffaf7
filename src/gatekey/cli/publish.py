"""`gatekey crl`, `bundle` and `trust`: what the outside needs from the authority."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import files
from ..authority import bundle as bundles
from ..authority import crl as crls
from ..authority import ends
from ..authority import trust as roots
from ..errors import Conflict, GatekeyError, Malformed, Refused
from ..model.instants import day, iso
from ..model.trust import steps as trust_steps
from ..x509 import pem
from . import say
from .session import Session, Verb, no_stdout, pass_session, passphrase_option

if TYPE_CHECKING:
    from ..authority.authority import Authority


@click.command("crl", cls=Verb)
@click.option("--authority", "name", metavar="A", help="Whose CRL (default: the authority that issues for people).")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="The file to write (a CRL of ours there is replaced); - or nothing: stdout."
)
@click.option("--pem", "as_pem", is_flag=True, help="PEM instead of DER.")
@click.option("--force", is_flag=True, help="Overwrite also what is no CRL of ours.")
@passphrase_option
@pass_session
def crl(session: Session, name: str | None, out: Path | None, as_pem: bool, force: bool) -> None:
    """The certificate revocation list, signed now.

    An issuing CRL is good for 30 days, a root's for 400. Web servers need the CRLs of all authorities in their chain: gatekey bundle gives them together.
    """
    authority = session.authority(writing=True)
    out = None if str(out) == "-" else out
    which = authority.record(name).name if name else [record.name for record in authority.need("people") if record.role != "root"][-1]
    if out and not files.special(out):
        files.writable_folder(out.parent)
        files.absent([out], force=True)
        if not force and not _holds_our_crl(authority, out):
            files.absent([out])
    elif not (out or session.json or as_pem) and sys.stdout.isatty():
        raise Refused("binary-to-terminal", "a CRL in DER is not for a terminal", hint="say --pem, or --out FILE")
    made = crls.make(authority, which) if authority.has_key(which) else crls.current(authority, which)
    data = pem.encode("X509 CRL", made.der) if as_pem else made.der
    if out:
        files.put(out, data, force=True)
    if session.json:
        say.as_json(
            {
                "authority": which,
                "number": made.number,
                "entries": made.entries,
                "this_update": iso(made.this_update),
                "next_update": iso(made.next_update),
                **({"file": str(out)} if out else {"pem": pem.encode("X509 CRL", made.der).decode()}),
            }
        )
        return
    if out:
        session.words(str(out)) if files.special(out) else say.result(str(out))
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    session.words(f"CRL {made.number} of {which}: {made.entries} revoked, good until {day(made.next_update)}")


def _holds_our_crl(authority: Authority, path: Path) -> bool:
    """Whether CRLs of this authority lie there and nothing else: such a file is written anew again and again, so it may be replaced."""
    from ..x509 import signature
    from ..x509.crl import read_crl
    from ..x509.sniff import sniff

    keys = [authority.issuing(record.name).certificate.spki for record in authority.records()]
    try:
        found = sniff(files.read(path))
        lists = [read_crl(der) for kind, der in found if kind == "crl"]
    except GatekeyError:
        return False
    return len(lists) == len(found) and all(any(signature.verify(key, one.algorithm, one.signature, one.tbs) for key in keys) for one in lists)


@click.command("bundle", cls=Verb)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", callback=no_stdout, help="The folder to write; its files switch as a whole."
)
@click.option("--force", is_flag=True, help="Take the place of other people's files and links of these names, too.")
@click.option("--timer", is_flag=True, help="Print a systemd service and timer that run this daily, and end.")
@click.option("--reload", metavar="UNIT", help="With --timer: the web server's unit on this host (nginx, apache2, ...), which is reloaded after each run.")
@passphrase_option
@pass_session
def bundle(session: Session, out: Path | None, force: bool, timer: bool, reload: str | None) -> None:
    """The folder of files that a web server needs: trust chain, every CRL of it, deny lists, who is who.

    \b
      people-chain.pem   whom to trust: root and issuing authority of the people
      all.crl.pem        the full CRL of each of them
      revoked.*          deny lists by issuer and serial, per kind of web server
      people.json        who is who: issuer and serial to login, name, e-mail, groups, device
      manifest.json      hashes, revocation number, and until when it is good

    Run it at least weekly even when nothing happens: a CRL that has run out shuts everybody out. A CRL older than a day is signed again here.

    A web server reads the folder when it is reloaded, not before: after each run reload it, or let gatekey agent do it.

    \b
      gatekey bundle --out /etc/gatekey/bundle && systemctl reload nginx
      gatekey bundle --out /etc/gatekey/bundle --timer --reload nginx
    """
    if reload and not timer:
        raise click.UsageError("--reload goes with --timer; here say: gatekey bundle --out DIR && systemctl reload UNIT")
    if timer:
        say.result(_timer(session, out, reload))
        return
    if out is None:
        raise click.UsageError("say where: --out DIR")
    authority = session.authority(writing=True)
    if out.exists() and not out.is_dir():
        raise Malformed("not-a-folder", f"{out} is not a folder")
    files.writable_folder(out)
    try:
        made = bundles.publish(authority, out, force=force)
    except Conflict as there:
        there.hint += "; --force takes its place"
        raise
    for sentence in (*crls.warnings(authority), *bundles.warnings(authority), *ends.warnings(authority, within=None)):
        say.warn(sentence)
    again = made.fresh_until - crls.WARN
    if session.json:
        say.as_json(
            {"folder": str(out), "number": made.number, "fresh_until": iso(made.fresh_until), "run_again_before": iso(again), "files": sorted(made.contents)}
        )
        return
    say.result(str(out))
    last = ends.first(authority, "people")
    if last.not_after == made.fresh_until:
        session.words(f"revocation {made.number}; good until {day(made.fresh_until)}, when the authority {last.name} ends")
        return
    session.words(f"revocation {made.number}; good until {day(made.fresh_until)}: run this again before {day(again)} (--timer prints a daily systemd timer)")


def _timer(session: Session, out: Path | None, reload: str | None) -> str:
    from .. import config
    from ..web.unit import credential, needed

    about = config.load(session.place)
    home, folder = session.place.absolute(), (out or Path("/etc/gatekey/bundle")).absolute()
    command = " ".join(_unit_word(str(word)) for word in (Path(sys.argv[0]).absolute(), "--home", home, "bundle", "--out", folder))
    # Read-only homes would shut the service out of a ledger or a folder that lies in one.
    in_a_home = any(path.is_relative_to(place) for path in (home, folder) for place in ("/home", "/root", "/run/user"))
    lines = [
        "# /etc/systemd/system/gatekey-bundle.service",
        "[Unit]",
        "Description=Gatekey: renew the bundle for the web server",
        *needed(about),
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={command}",
        *([f"ExecStartPost=/usr/bin/systemctl reload {_unit_word(reload)}"] if reload else []),
        *credential(about),
        "NoNewPrivileges=yes",
        "ProtectSystem=yes",
        f"ProtectHome={'no' if in_a_home else 'read-only'}",
        "PrivateTmp=yes",
        "",
        "# /etc/systemd/system/gatekey-bundle.timer",
        "[Unit]",
        "Description=Gatekey: renew the bundle daily",
        "",
        "[Timer]",
        "OnCalendar=daily",
        "RandomizedDelaySec=1h",
        "Persistent=yes",
        "",
        "[Install]",
        "WantedBy=timers.target",
        "",
        "# then: systemctl daemon-reload && systemctl enable --now gatekey-bundle.timer",
    ]
    return "\n".join(lines)


def _unit_word(word: str) -> str:
    """A word of a command line as systemd.service(5) reads it."""
    word = word.replace("%", "%%").replace("$", "$$")
    return word if not any(c in word for c in " \t\"'\\;") else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


@click.command("trust", cls=Verb)
@click.option("--install", is_flag=True, help="Put the root into this machine's system store (Debian, Ubuntu, Fedora and their kin).")
@pass_session
def trust(session: Session, install: bool) -> None:
    """How to trust our servers' root on this machine, with its fingerprint.

    Browsers show a warning on our web servers until the root of the servers' side is trusted. Compare the fingerprint over another way before you do it.
    Client certificates work without this: it is about the server's certificate only.
    """
    authority = session.authority()
    name, certificate = roots.root(authority)
    file = authority.config.home / "authorities" / f"{name}.crt"
    print_ = ":".join(certificate.fingerprint[i : i + 2] for i in range(0, 64, 2))
    steps = trust_steps(file, certificate.common_name)
    if session.json:
        say.as_json({"authority": name, "subject": certificate.common_name, "fingerprint": certificate.fingerprint, "file": str(file), "steps": steps})
        return
    say.result(f"root         {certificate.common_name}")
    say.result(f"SHA-256      {print_}")
    say.result(f"valid until  {day(certificate.not_after)}")
    say.result(f"file         {file}")
    if install:
        _install(session, authority, file, name)
        return
    for system, step in steps.items():
        say.result("")
        say.result(f"{system}:")
        for line in step.split("\n"):
            say.result(f"  {line}")


#: Where a system keeps added roots, and what tells it to read them again.
_STORES = ((Path("/usr/local/share/ca-certificates"), "update-ca-certificates"), (Path("/etc/pki/ca-trust/source/anchors"), "update-ca-trust"))


def _install(session: Session, authority: Authority, file: Path, name: str) -> None:
    import shutil
    import subprocess

    for folder, command in _STORES:
        program = shutil.which(command)
        if folder.is_dir() and program:
            target = folder / f"gatekey-{name}-{authority.issuing(name).certificate.fingerprint[:16].lower()}.crt"
            if not target.exists():
                files.create(target, files.read(file))
            done = subprocess.run([program], capture_output=True, text=True, check=False)
            if done.returncode:
                raise Refused("trust-install", f"{command} failed: {done.stderr.strip()[:300]}", hint=f"take {target} away again or run {command} yourself")
            say.result(f"installed    {target}")
            session.words(
                "programs that are running read it at their next start; Firefox and Chrome on Linux keep stores of their own (gatekey trust shows how)"
            )
            return
    raise Refused("trust-install", "this system has no store that --install knows (Debian's or Fedora's)", hint="gatekey trust shows the steps for each system")
