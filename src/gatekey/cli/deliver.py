"""The files that a person carries away: NAME.key, NAME.crt, NAME.chain.crt, NAME.p12. Named by the story, never overwritten, the key first."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import files
from ..errors import Conflict, Refused
from ..model.names import file_stem
from ..x509 import pem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..authority.authority import Authority
    from ..keys.material import PrivateKey
    from ..lifecycle import Released
    from .session import Session

#: What `--for` may say. Browsers and NSS do not take Ed25519 or ML-DSA, so those keys go with `pem` only.
TARGETS = ("any", "modern", "pem")
_PEM_ONLY = ("ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


class Files(NamedTuple):
    """Where the files of one name go."""

    key: Path
    crt: Path
    chain: Path
    p12: Path
    pem: Path
    csr: Path


def places(out: Path, name: str) -> Files:
    stem = file_stem(name)[:200]  # a host may have 253 characters, a file 255 with its ending
    return Files(*(out / f"{stem}.{ending}" for ending in ("key", "crt", "chain.crt", "p12", "pem", "csr")))


def refuse_target(key_type: str, target: str) -> None:
    """Refuses a PKCS#12 that no browser would open. Asked before anything is made."""
    if key_type in _PEM_ONLY and target != "pem":
        raise Refused(
            "target-cannot-take-key",
            f"a PKCS#12 with an {key_type} key cannot be imported: browsers and system key stores do not take such keys",
            hint="take p256 (the default), or --for pem for programs such as curl",
            key_type=key_type,
            target=target,
        )


def prepare(out: Path, wanted: Sequence[Path], password_file: Path | None, *, force: bool) -> None:
    """Before anything is recorded: the folder can be written, and nothing would be overwritten."""
    files.writable_folder(out)
    files.absent(wanted, force=force)
    if password_file is not None:
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


def new_password(entropy: object) -> str:
    from ..model.passwords import generate
    from ..ports import Entropy

    dice: Entropy = entropy  # type: ignore[assignment]  # any object with bytes()
    return generate(dice.bytes)


def hand_over_password(session: Session, password: str, password_file: Path | None, p12: Path) -> None:
    """Writes the password to its file (0600), or shows it once. It is kept nowhere else."""
    from . import say

    if password_file is not None:
        files.put(password_file, password.encode() + b"\n", files.PRIVATE)
        session.words(f"the password of {p12.name} is in {password_file}; send it another way than the file")
        return
    say.words(f"password of {p12.name}:  {password}")
    session.words("it is shown this once and kept nowhere; tell it another way than you send the file")
