"""The command `gatekey`. This file only knows the names of the verbs; each is read from its own file when it is used."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import click

from ..errors import GatekeyError, Malformed
from .session import Family, Session

#: verb -> (file in this folder, function, one line of help), in the order of the help.
VERBS = {
    "demo": ("demo", "demo", "The whole story with real TLS on this machine, ending with a client who is shut out."),
    "init": ("init", "init", "Make an authority."),
    "request": ("request", "request", "Make a private key and a certificate request; needs no authority."),
    "issue": ("issue", "issue", "Give a person or a web server a certificate."),
    "sign": ("issue", "sign", "Issue from a certificate request under a named profile."),
    "renew": ("issue", "renew", "Issue a successor, with the same or a new key."),
    "p12": ("p12", "p12", "Make a PKCS#12 or PEM file for another device from what is there."),
    "list": ("listing", "list_", "Who has which certificate."),
    "show": ("listing", "show", "All about one certificate, or about any certificate, request, CRL or PKCS#12 file."),
    "revoke": ("revoke", "revoke", "Take a certificate away for good."),
    "hold": ("revoke", "hold", "Take a certificate away for a while."),
    "unhold": ("revoke", "unhold", "Give a held certificate back."),
    "leave": ("revoke", "leave", "A person leaves: everything she has is taken away."),
    "people": ("people", "people", "People, their groups and devices."),
    "profile": ("profile", "profile", "Profiles: under which words certificates are issued, and your own ones."),
    "crl": ("publish", "crl", "The certificate revocation list now."),
    "bundle": ("publish", "bundle", "The folder of files that a web server needs."),
    "trust": ("publish", "trust", "How to trust our servers' root on this machine."),
    "verify": ("verify", "verify", "Would we let this certificate in, and why not."),
    "webserver": ("webserver", "webserver", "A configuration for the web server that holds."),
    "agent": ("agent", "agent", "The web server's helper: bring what the authority publishes to the server."),
    "check": ("check", "check", "Knock at a live site: is the door really shut?"),
    "serve": ("serve", "serve", "Make the authority reachable: CRLs, OCSP, API, who may enter."),
    "authority": ("authority", "authority", "The authority's own certificates."),
    "token": ("token", "token", "Tokens for programs that talk to the service."),
    "doctor": ("doctor", "doctor", "How the authority is doing, and what to do about it."),
    "store": ("keep", "store", "The ledger: is it whole?"),
    "passphrase": ("keep", "passphrase", "The passphrase of the keys."),
    "completion": ("keep", "completion", "Completion of verbs for your shell."),
    "help": ("help", "help_", "Help for every verb; help install: what to do with a certificate on each system."),
}

HELP = """Put a private website behind client certificates.

Gatekey is the authority: it gives every person, device and web server a certificate of their own, takes it away again, and tells the web server whom
to let in. It is not a public certificate authority: browsers trust it only where you install its root.

The first five minutes:

\b
  gatekey init "Kitty CA"                       make the authority
  gatekey issue server app.example              key and certificate for the web server
  gatekey issue client ann --email ann@x.org    key, certificate and PKCS#12 for Ann
  gatekey bundle --out /etc/gatekey/bundle      what the web server needs to know
  gatekey revoke ann                            shut the door on Ann

REF is a serial in hex, a fingerprint, a login, an e-mail or a certificate file. Exit codes: 0 done, 1 refused or found wanting, 2 usage,
3 misconfigured, 4 unavailable (try again).
"""


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"gatekey {version('gatekey')}")
        ctx.exit()


@click.group("gatekey", cls=Family, lazy=VERBS, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Say the version and end.")
def gatekey() -> None:
    pass


def run(args: list[str]) -> int:
    """Runs one command line and answers with its exit code. Never a traceback: set GATEKEY_DEBUG=1 to see one."""
    from . import say

    session = Session()
    try:
        code = gatekey.main(args, prog_name="gatekey", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0  # click gives back what a verb ended with
    except click.UsageError as wrong:
        hint = f"{wrong.ctx.command_path} --help says how it is used" if wrong.ctx is not None else ""
        # A mistake may have been found before --json was read.
        asked = args[: args.index("--")] if "--" in args else args
        say.error(Malformed("usage", wrong.format_message(), hint=hint), in_json=session.json or "--json" in asked)
        return 2
    except (click.Abort, KeyboardInterrupt):
        say.words(f"gatekey: {session.finished}; it was interrupted too late to stop that" if session.finished else "gatekey: stopped")
        return 130
    except GatekeyError as refused:
        say.error(refused, in_json=session.json)
        return refused.exit_code
    except (BrokenPipeError, SystemExit):
        # Whoever read our results has heard enough (click says SystemExit then). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        from ..files import explain

        problem = explain(error, error.filename or "a file")
        say.error(problem, in_json=session.json)
        return problem.exit_code
    except Exception as fault:
        if isinstance(fault, UnicodeEncodeError) and any("\ud800" <= letter <= "\udfff" for letter in fault.object):
            # How Python keeps bytes of the command line that are no text. Files may be called so; nothing in the ledger is.
            say.words(f"gatekey: {fault.object[:60]!r} is not UTF-8 text")
            return 2
        if os.environ.get("GATEKEY_DEBUG"):
            raise
        say.words(f"gatekey: this is a fault in Gatekey itself: {type(fault).__name__}: {fault}")
        say.words("  please report it with the output of the same command under GATEKEY_DEBUG=1")
        return 1


def main() -> None:
    """The entry point of the command. A stream that was closed (`>&-`, as some schedulers do) leads nowhere, and no file of ours ever gets its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for as long as the process lives
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said, and the exit code says how: Python only tidies up, which takes its time
    sys.exit(code)
