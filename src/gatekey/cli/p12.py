"""`gatekey p12`: another file for another device, out of a certificate and its key; needs no authority."""

from __future__ import annotations

from pathlib import Path

import click

from .. import files
from ..errors import Refused
from ..model.names import file_stem
from ..ports import SystemClock, SystemEntropy
from ..x509 import pem
from ..x509.certificate import Certificate, read_certificate
from . import deliver, say
from .inputs import certificates, private_key
from .session import Session, Verb, pass_session


@click.command("p12", cls=Verb)
@click.argument("cert", type=click.Path(path_type=Path))
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="F", help="The private key of the certificate.")
@click.option("--for", "target", type=click.Choice(deliver.TARGETS), default="any", show_default=True, help="What the file is opened on.")
@click.option(
    "--chain",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="F",
    help="The issuing authority's certificate, when CERT does not hold it (NAME.chain.crt does).",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="The file to write (default: NAME.p12 or NAME.pem here).")
@click.option("--password-file", type=click.Path(path_type=Path), metavar="F", help="Where the password is written (0600) instead of being shown.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@pass_session
def p12(session: Session, cert: Path, key_file: Path, target: str, chain: Path | None, out: Path | None, password_file: Path | None, force: bool) -> None:
    """Make a PKCS#12 or PEM file for another device from what is there.

    CERT is NAME.chain.crt (or NAME.crt; the issuing authority's certificate is then looked for in NAME.chain.crt beside it). The password is new and shown
    once. If a device says that the password is wrong although it is right, it is the file format: take the other target.

    \b
      any      3DES and SHA-1: opens everywhere, also on old Windows, macOS, iOS and Android; safe because the password is random
      modern   AES-256 and SHA-256: Windows 10 1709 and later, Firefox, Android 14, iOS 18, Java 8u301
      pem      key and chain as text, for curl and scripts; not encrypted
    """
    held = [read_certificate(der) for der in certificates(cert)]
    beside = cert.with_name(f"{cert.name.removesuffix('.crt')}.chain.crt")
    if chain or (len(held) == 1 and beside.is_file()):
        held += [read_certificate(der) for der in certificates(chain or beside)]
    key = private_key(key_file)
    leaf = next((certificate for certificate in held if certificate.spki == key.spki), None)
    if leaf is None:
        raise Refused(
            "key-mismatch", f"the key in {key_file} does not belong to the certificate in {cert}", hint="give the key that was made with this certificate"
        )
    deliver.refuse_target(key.key_type, target)
    issuers = _issuers(leaf, held)
    place = out or Path(f"{file_stem(leaf.common_name or leaf.serial)}.{'pem' if target == 'pem' else 'p12'}")
    deliver.prepare(place.parent, [place], password_file if target != "pem" else None, force=force)
    if target == "pem":
        text = b"".join(pem.encode("CERTIFICATE", certificate.der) for certificate in (leaf, *issuers))
        files.put(place, deliver.key_pem(key) + text, files.PRIVATE, force=force)
    else:
        _encode(session, key, leaf, issuers, target, place, password_file, force=force)
    if session.json:
        say.as_json({"file": str(place), "target": target})
    else:
        say.result(str(place))


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


def _encode(
    session: Session, key: object, leaf: Certificate, issuers: list[Certificate], target: str, place: Path, password_file: Path | None, *, force: bool
) -> None:
    from ..keys.material import PrivateKey
    from ..x509 import pkcs12
    from ..x509.names import common_name

    assert isinstance(key, PrivateKey)  # noqa: S101
    entropy = SystemEntropy()
    password = deliver.new_password(entropy)
    data = pkcs12.encode(
        key.pkcs8(),
        leaf.der,
        [certificate.der for certificate in issuers],
        friendly_name=deliver.friendly_name(leaf.common_name or leaf.serial, common_name(leaf.issuer), SystemClock().now()),
        password=password,
        target=target,
        random=entropy.bytes,
    )
    files.put(place, data, files.PRIVATE, force=force)
    deliver.hand_over_password(session, password, password_file, place)
