"""Reading what a person names: a CSR, a key, a certificate, as PEM or DER, from a file or stdin; with a sentence when it is something else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..errors import Malformed, Misconfigured
from ..x509.sniff import sniff
from . import say

if TYPE_CHECKING:
    from ..keys.material import PrivateKey
    from ..x509.csr import Csr

#: A request, key or certificate is small; a larger file is a mistake.
LIMIT = 1024 * 1024

NAMES = {
    "certificate": "a certificate",
    "csr": "a certificate request",
    "crl": "a CRL",
    "private-key": "a private key",
    "encrypted-private-key": "an encrypted private key",
    "public-key": "a public key",
    "pkcs12": "a PKCS#12 file",
    "pkcs7": "a PKCS#7 file",
    "ocsp-response": "an OCSP response",
}


def read(path: Path, limit: int = LIMIT) -> bytes:
    """A file, or stdin for `-`."""
    if str(path) == "-":
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            raise Malformed("too-large", f"stdin holds more than the {limit // 1024} KiB that are read here")
        return data
    return files.read(path, limit)


def name_of(path: Path) -> str:
    return "stdin" if str(path) == "-" else str(path)


def sniffed(path: Path, limit: int = LIMIT) -> list[tuple[str, bytes]]:
    """What lies in a file: kind and DER of each object. Raises Malformed that names the file."""
    return _sniffed(path, read(path, limit))


def _sniffed(path: Path, data: bytes) -> list[tuple[str, bytes]]:
    try:
        return sniff(data)
    except Malformed as problem:
        problem.message = f"{name_of(path)} is empty" if problem.code == "empty-file" else f"{name_of(path)}: {problem.message}"
        raise


def of_kind(path: Path, kind: str, hint: str = "") -> bytes:
    """The one object of this kind in a file. Raises Malformed that says what the file is instead."""
    found = sniffed(path)
    wanted = [der for found_kind, der in found if found_kind == kind]
    if not wanted:
        raise _wrong_kind(path, kind, found, hint)
    return wanted[0]


def _wrong_kind(path: Path, kind: str, found: list[tuple[str, bytes]], hint: str = "") -> Malformed:
    what = " and ".join(dict.fromkeys(NAMES.get(found_kind, found_kind) for found_kind, _ in found))
    if kind == "csr" and any(found_kind.endswith("private-key") for found_kind, _ in found):
        hint = "send the request (NAME.csr), never the key: gatekey request makes both"
    return Malformed("wrong-kind", f"{name_of(path)} holds {what}, not {NAMES[kind]}", hint=hint, found=[k for k, _ in found])


def csr(path: Path) -> Csr:
    """A certificate request whose self-signature holds. Raises Malformed."""
    from ..x509.csr import proven

    found = sniffed(path)
    try:
        request = proven(found)
    except Malformed as problem:
        words = problem.message
        where = f"the request in {name_of(path)}"
        problem.message = words.replace("the request", where, 1) if words.startswith("the request ") else f"{name_of(path)}: {words}"
        raise
    if request is None:
        raise _wrong_kind(path, "csr", found)
    if any(kind.endswith("private-key") for kind, _ in found):
        say.warn(f"{name_of(path)} holds a private key beside the request: never send that to anybody; the request alone is enough")
    return request


def private_key(path: Path, password_file: Path | None = None, *, option: str = "--key-password-file") -> PrivateKey:
    """A private key in any usual form; the password of an encrypted one is the first line of a file, or is asked for on a terminal.

    `option`: how the verb calls that file.
    """
    from ..keys.material import load

    data = read(path)
    kinds = {kind for kind, _ in _sniffed(path, data)}
    if "private-key" not in kinds and "encrypted-private-key" not in kinds:
        what = " and ".join(NAMES.get(kind, kind) for kind in sorted(kinds))
        raise Malformed("wrong-kind", f"{name_of(path)} holds {what}, not a private key", hint="give NAME.key", found=sorted(kinds))
    if "encrypted-private-key" in kinds or b"ENCRYPTED" in data:
        if password_file:
            from ..app import passphrase_from

            return load(data, passphrase_from(password_file))
        return load(data, ask_password(f"password of {name_of(path)}: ", f"{name_of(path)} is encrypted", option=option).encode())
    return load(data)


def ask_password(prompt: str, why: str, *, option: str = "--password-file") -> str:
    """Asks on a terminal. Raises Misconfigured elsewhere, and names the option that the verb has for it."""
    if not sys.stdin.isatty():
        raise Misconfigured("no-password", f"{why} and nothing gives its password", hint=f"say {option} FILE, or run it on a terminal")
    import getpass

    return getpass.getpass(prompt)


def password(path: Path | None, prompt: str, why: str) -> str:
    """The first line of a file, or what a person types."""
    if path is None:
        return ask_password(prompt, why)
    from ..app import passphrase_from

    return passphrase_from(path).decode("utf-8", "replace")


def certificates(path: Path) -> list[bytes]:
    """All certificates in a file, at least one. Raises Malformed."""
    found = [der for kind, der in sniffed(path) if kind == "certificate"]
    if not found:
        of_kind(path, "certificate", "give NAME.crt")
    return found
