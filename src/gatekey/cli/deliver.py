"""The files that a person carries away: NAME.key, NAME.crt, NAME.chain.crt, NAME.p12 and its kin. Named by the story, never overwritten, the key first."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .. import files
from ..errors import Conflict, Refused
from ..model.names import file_stem
from ..x509 import pem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..authority.authority import Authority
    from ..keys.material import PrivateKey
    from ..lifecycle import Released
    from ..ports import Entropy
    from ..x509.certificate import Certificate
    from .session import Session

#: What `--for` may say. Browsers and NSS do not take Ed25519 or ML-DSA, so those keys go with `pem` only.
TARGETS = ("any", "modern", "apple", "pem")


class Files(NamedTuple):
    """Where the files of one name go."""

    key: Path
    crt: Path
    chain: Path
    p12: Path
    pem: Path
    csr: Path
    apple: Path

    def carried(self, target: str) -> Path:
        """The file for the device."""
        return {"pem": self.pem, "apple": self.apple}.get(target, self.p12)


class Identity(NamedTuple):
    """What goes into the file for a device. `issuers`: DER, without the root. `shown`: how key stores call it; `device` and `root` are for Apple's."""

    key: PrivateKey
    certificate: Certificate
    issuers: list[bytes]
    shown: str
    device: str = ""
    root: bytes = b""


def places(out: Path, name: str) -> Files:
    stem = file_stem(name)[:200]  # a host may have 253 characters, a file 255 with its ending
    return Files(*(out / f"{stem}.{ending}" for ending in ("key", "crt", "chain.crt", "p12", "pem", "csr", "mobileconfig")))


def refuse_target(key_type: str, target: str) -> None:
    """Refuses a PKCS#12 that no browser would open. Asked before anything is made."""
    from ..x509.pkcs12 import refusal

    if reason := refusal(key_type, target):
        raise Refused.because((reason,))


def prepare(out: Path, wanted: Sequence[Path], password_file: Path | None, *, force: bool) -> None:
    """Before anything is recorded: the folder can be written, and nothing would be overwritten."""
    files.writable_folder(out)
    files.absent(wanted, force=force)
    if password_file is not None:
        if any(password_file.absolute() == path.absolute() for path in wanted):
            raise click.UsageError(f"--password-file names {password_file}, which is one of the files that are made here")
        files.writable_folder(password_file.parent)
        try:
            files.absent([password_file])
        except Conflict as there:
            there.hint = "a password is never written over another; choose another --password-file"
            raise


def key_pem(key: PrivateKey) -> bytes:
    return pem.encode("PRIVATE KEY", key.pkcs8())


def chain_pem(authority: Authority, released: Released) -> bytes:
    """The certificate with its issuers, without the root: what a TLS server or client sends."""
    issuers = [certificate.der for certificate in authority.chain(released.issuer)]
    below_root = issuers[:-1]
    return b"".join(pem.encode("CERTIFICATE", der) for der in (released.der, *below_root))


def issuers_without_root(authority: Authority, issuer: str) -> list[bytes]:
    return [certificate.der for certificate in authority.chain(issuer)][:-1]


def write_certificate(authority: Authority, released: Released, to: Files, *, force: bool) -> None:
    files.put(to.crt, pem.encode("CERTIFICATE", released.der), force=force)
    files.put(to.chain, chain_pem(authority, released), force=force)


def friendly_name(person: str, authority_name: str, now: int) -> str:
    """What a key store shows: person, authority and year."""
    return f"{person} - {authority_name} {time.gmtime(now).tm_year}"


def hand_over(session: Session, identity: Identity, target: str, place: Path, password_file: Path | None, *, entropy: Entropy, force: bool) -> None:
    """Writes the file for the device: PKCS#12 under a new password, Apple's profile around one, or PEM with key and chain. The password is shown or written."""
    if target == "pem":
        chain = b"".join(pem.encode("CERTIFICATE", der) for der in (identity.certificate.der, *identity.issuers))
        files.put(place, key_pem(identity.key) + chain, files.PRIVATE, force=force)
        return
    password = new_password(entropy)
    files.put(place, _encoded(identity, target, place, password, entropy), files.PRIVATE, force=force)
    hand_over_password(session, password, password_file, place)
    if target == "apple" and not identity.key.key_type.startswith("rsa-"):
        session.words("Apple promises RSA keys only; if a device does not take this file, make another with --key-type rsa-2048")


def _encoded(identity: Identity, target: str, place: Path, password: str, entropy: Entropy) -> bytes:
    from ..x509 import pkcs12

    data = pkcs12.encode(
        identity.key.pkcs8(),
        identity.certificate.der,
        identity.issuers,
        friendly_name=identity.shown,
        password=password,
        target="any" if target == "apple" else target,
        random=entropy.bytes,
    )
    if target != "apple":
        return data
    from ..x509 import mobileconfig
    from ..x509.names import common_name

    leaf = identity.certificate
    owner = mobileconfig.Owner(common_name(leaf.issuer), leaf.common_name or leaf.serial, identity.device)
    above = [identity.root] if identity.root else []
    return mobileconfig.encode(owner, data, [*above, *identity.issuers], file_name=f"{place.stem}.p12")


def new_password(entropy: Entropy) -> str:
    from ..model.passwords import generate

    return generate(entropy.bytes)


def hand_over_password(session: Session, password: str, password_file: Path | None, place: Path) -> None:
    """Writes the password to its file (0600), or shows it once. It is kept nowhere else."""
    from . import say

    if password_file is not None:
        files.put(password_file, password.encode() + b"\n", files.PRIVATE)
        session.words(f"the password of {place.name} is in {password_file}; send it another way than the file")
        return
    say.words(f"password of {place.name}:  {password}")
    session.words("it is shown this once and kept nowhere; tell it another way than you send the file")
