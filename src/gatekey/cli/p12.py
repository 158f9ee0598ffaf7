"""`gatekey p12`: another file for another device, out of a certificate and its key; needs no authority."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ..errors import NotFound, Refused
from ..ports import SystemClock, SystemEntropy
from ..x509.certificate import Certificate, read_certificate
from ..x509.names import common_name, display
from . import deliver, say
from .inputs import certificates, private_key
from .session import Session, Verb, key_password_option, no_stdout, pass_session, refuse_without


@click.command("p12", cls=Verb)
@click.argument("cert", type=click.Path(path_type=Path))
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="F", help="The private key of the certificate.")
@key_password_option
@click.option("--for", "target", type=click.Choice(deliver.TARGETS), default="any", show_default=True, help="What the file is opened on.")
@click.option(
    "--chain",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="F",
    help="The issuing authority's certificate, when CERT does not hold it (NAME.chain.crt does).",
)
@click.option("--device", default="", help="With --for apple: for which device; a later profile for the same device takes the place of this one.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="F",
    callback=no_stdout,
    help="The file to write (default: NAME.p12, NAME.mobileconfig or NAME.pem here).",
)
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="Where the password is written (0600) instead of being shown.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@pass_session
def p12(
    session: Session,
    cert: Path,
    key_file: Path,
    key_password_file: Path | None,
    target: str,
    chain: Path | None,
    device: str,
    out: Path | None,
    password_file: Path | None,
    force: bool,
) -> None:
    """Make a PKCS#12, an Apple profile or a PEM file for another device from what is there.

    CERT is NAME.chain.crt (or NAME.crt; the issuing authority's certificate is then looked for in NAME.chain.crt beside it, and at the authority of this
    machine if there is one). The password is new and shown once. If a device says that the password is wrong although it is right, it is the file format:
    take the other target.

    \b
      any      3DES and SHA-1: opens everywhere, also on old Windows, macOS, iOS and Android; safe because the password is random
      modern   AES-256 and SHA-256: Windows 10 1709 and later, Firefox, Android 14, iOS 18, Java 8u301
      apple    a profile for iPhone, iPad and Mac (.mobileconfig) with the same as `any` inside
      pem      key and chain as text, for curl and scripts; not encrypted
    """
    if target != "apple":
        refuse_without({"--device": device}, "--for apple: the other files do not say for which device they are")
    if target == "pem":
        refuse_without({"--password-file": password_file}, "a file that has a password; with --for pem the key is not encrypted")
    held = [read_certificate(der) for der in _named(cert)]
    beside = cert.with_name(f"{cert.name.removesuffix('.crt')}.chain.crt")
    complete = chain is not None or len(held) > 1 or cert.name.endswith(".chain.crt") or beside.is_file()
    if chain or (len(held) == 1 and beside.is_file()):
        held += [read_certificate(der) for der in certificates(chain or beside)]
    key = private_key(key_file, key_password_file)
    leaf = next((certificate for certificate in held if certificate.spki == key.spki), None)
    if leaf is None:
        raise Refused(
            "key-mismatch", f"the key in {key_file} does not belong to the certificate in {cert}", hint="give the key that was made with this certificate"
        )
    deliver.refuse_target(key.key_type, target)
    if not any(one.subject == leaf.issuer and one.ca for one in held):
        above = _ours(session, leaf)
        if not above and not complete:
            say.warn(f"the certificate of {display(leaf.issuer)}, which issued this one, is not at hand and not in the file; give it with --chain FILE")
        held += above
    issuers = _issuers(leaf, held)
    place = out or deliver.places(Path(), leaf.common_name or leaf.serial).carried(target)
    deliver.prepare(place.parent, [place], password_file, force=force)
    identity = deliver.Identity(
        key,
        leaf,
        [certificate.der for certificate in issuers],
        deliver.friendly_name(leaf.common_name or leaf.serial, common_name(leaf.issuer), SystemClock().now()),
        device,
        next((certificate.der for certificate in held if certificate.self_issued and certificate.subject == (issuers or [leaf])[-1].issuer), b""),
    )
    deliver.hand_over(session, identity, target, place, password_file, entropy=SystemEntropy(), force=force)
    if session.json:
        say.as_json({"file": str(place), "target": target})
    else:
        say.result(str(place))


def _named(cert: Path) -> list[bytes]:
    """The certificates in the file CERT. Where there is none, it may have been a login that was meant."""
    try:
        return certificates(cert)
    except NotFound as missing:
        ref = cert.name.removesuffix(".crt").removesuffix(".chain")
        missing.message = f"there is no file {cert}"
        missing.hint = f"CERT is a file; from what the authority knows: gatekey show {shlex.quote(ref)} --pem > {shlex.quote(f'{ref}.crt')}"
        raise


def _ours(session: Session, leaf: Certificate) -> list[Certificate]:
    """What stands above the certificate, from the authority of this machine if there is one that issued it."""
    from ..errors import GatekeyError
    from ..x509.signature import verify

    try:
        authority = session.authority()
        for record in authority.records():
            above = authority.issuing(record.name).certificate
            if above.subject == leaf.issuer and verify(above.spki, leaf.algorithm, leaf.signature, leaf.tbs):
                return authority.chain(record.name)
    except GatekeyError:  # none here, or none that can be read
        return []
    return []


def _issuers(leaf: Certificate, held: list[Certificate]) -> list[Certificate]:
    """The certificates above the leaf, without the root, in order, each once."""
    found: list[Certificate] = []
    below = leaf
    while True:
        above = next((c for c in held if c.subject == below.issuer and c.ca and not c.self_issued and c not in found), None)
        if above is None:
            return found
        found.append(above)
        below = above
