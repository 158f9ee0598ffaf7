"""Forged certificates: well made, so that a refusal shows that the door looks at signatures; and refused by OpenSSL under the true authority."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from gatekey.webserver import forged
from gatekey.webserver.knock import Identity, check_identity
from kit.pki import Pki, make_pki

NOW = int(time.time())
SERIAL = bytes(range(15))


def names(pki: Pki) -> forged.Names:
    from gatekey.x509.certificate import read_certificate

    leaf = read_certificate(pki.client("ann").der)
    issuers = (leaf.issuer,) if pki.flat else (leaf.issuer, read_certificate(_der(pki.issuing.certificate)).issuer)
    return forged.Names(leaf.subject, issuers, leaf.authority_key_id or b"")


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def verify(openssl: str, identity: Identity, trusted: bytes, folder: Path) -> str:
    leaf, *rest = x509.load_pem_x509_certificates(identity.chain)
    (folder / "leaf.pem").write_bytes(_pem(leaf))
    (folder / "rest.pem").write_bytes(b"".join(map(_pem, rest)) or _pem(leaf))
    (folder / "trusted.pem").write_bytes(trusted)
    command = [openssl, "verify", "-CAfile", str(folder / "trusted.pem"), "-untrusted", str(folder / "rest.pem"), "-purpose", "sslclient"]
    command.append(str(folder / "leaf.pem"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


@pytest.mark.interop
@pytest.mark.parametrize("flat", [True, False])
def test_only_the_signatures_are_false(flat: bool, tmp_path: Path, program: Callable[[str], str]) -> None:
    pki = make_pki(flat=flat)
    identity = forged.false_authority(names(pki), NOW, SERIAL)
    check_identity(identity)
    chain = x509.load_pem_x509_certificates(identity.chain)
    ann = pki.client("ann").certificate
    assert chain[0].subject == ann.subject
    assert chain[0].issuer == ann.issuer
    key_id = x509.AuthorityKeyIdentifier
    assert chain[0].extensions.get_extension_for_class(key_id).value == ann.extensions.get_extension_for_class(key_id).value
    refusal = verify(program("openssl"), identity, pki.chain_pem, tmp_path)
    assert "signature failure" in refusal or "unable to get" in refusal, refusal


@pytest.mark.interop
def test_a_door_that_trusts_the_forger_lets_him_in(tmp_path: Path, program: Callable[[str], str]) -> None:
    """So nothing but trust keeps the forged one out: its dates, usage and form are in order."""
    identity = forged.false_authority(names(make_pki()), NOW, SERIAL)
    chain = x509.load_pem_x509_certificates(identity.chain)
    assert len(chain) == 2
    trusted, leaf = _write(tmp_path / "trusted.pem", _pem(chain[1])), _write(tmp_path / "leaf.pem", _pem(chain[0]))
    command = [program("openssl"), "verify", "-partial_chain", "-purpose", "sslclient", "-trusted", str(trusted), str(leaf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.interop
def test_self_signed(tmp_path: Path, program: Callable[[str], str]) -> None:
    identity = forged.self_signed(b"", NOW, SERIAL)
    check_identity(identity)
    (certificate,) = x509.load_pem_x509_certificates(identity.chain)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.subject.rfc4514_string() == "CN=gatekey-probe"
    assert "self-signed" in verify(program("openssl"), identity, make_pki().chain_pem, tmp_path)


def test_without_any_names_there_is_still_one_to_try() -> None:
    check_identity(forged.false_authority(forged.Names(b"", ()), NOW, SERIAL))
