"""A PKI for tests, made with `cryptography` and none of our own code: people and servers, good and bad certificates, CRLs in every state of health.

    pki = make_pki()                         # root -> issuing, "kitty-ca people root" and "kitty-ca people"
    ann = pki.client("ann")                  # ann.write(tmp_path) -> Files(certificate, chain, key, combined)
    site = make_pki("kitty-ca servers").server("app.test")
    pki.revoke(ann); (tmp_path / "all.crl.pem").write_bytes(pki.crls())
    mallory = pki.foreign().client("ann")    # another CA, the same names
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Usage = tuple[x509.ObjectIdentifier, ...]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

HOUR = 3600
DAY = 24 * HOUR

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

#: The states of a CRL that matter to web servers. `missing` gives no bytes; `foreign` is that of another CA with other names.
CRL_STATES = ("fresh", "expired", "not-yet", "bad-signature", "foreign", "missing")


class Files(NamedTuple):
    """Where `Leaf.write` put things. `chain` is leaf + issuing, `combined` is chain + key (as HAProxy wants it)."""

    certificate: Path
    chain: Path
    key: Path
    combined: Path


class Leaf(NamedTuple):
    """An end entity's certificate with its key and its issuers (without the root)."""

    name: str
    certificate: x509.Certificate
    key: Key
    issuers: tuple[x509.Certificate, ...]

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        return _pem(self.certificate)

    @property
    def chain_pem(self) -> bytes:
        """Leaf, then its issuers, without the root."""
        return b"".join(map(_pem, (self.certificate, *self.issuers)))

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def serial(self) -> str:
        """32 upper-case hex digits, as Gatekey and nginx write it."""
        return f"{self.certificate.serial_number:032X}"

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()

    def pkcs12(self, password: str) -> bytes:
        """Key, certificate and issuers in a PKCS#12 with AES-256."""
        return pkcs12.serialize_key_and_certificates(
            self.name.encode(), self.key, self.certificate, list(self.issuers), serialization.BestAvailableEncryption(password.encode())
        )

    def write(self, folder: Path, name: str = "") -> Files:
        """NAME.crt, NAME.chain.crt, NAME.key (0600) and NAME.pem in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = name or self.name.replace("*", "_wildcard").replace(":", "-")
        files = Files(folder / f"{stem}.crt", folder / f"{stem}.chain.crt", folder / f"{stem}.key", folder / f"{stem}.pem")
        for path, data in zip(files, (self.certificate_pem, self.chain_pem, self.key_pem, self.chain_pem + self.key_pem), strict=True):
            path.write_bytes(data)
        files.key.chmod(0o600)
        files.combined.chmod(0o600)
        return files


class Ca(NamedTuple):
    """A CA certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return _pem(self.certificate)


class Pki:
    """A root and its issuing CA (the same one when `flat`), with the memory of what was revoked."""

    def __init__(self, name: str, *, flat: bool = False, now: int | None = None) -> None:
        self.name = name
        self.now = int(time.time()) if now is None else now
        self.revoked: dict[int, int] = {}
        self.number = 0
        self.root = self._authority(f"{name} root", new_key(), None, None)
        self.issuing = self.root if flat else self._authority(name, new_key(), self.root, 0)

    @property
    def flat(self) -> bool:
        return self.issuing is self.root

    @property
    def chain_pem(self) -> bytes:
        """What a web server trusts: root + issuing (`people-chain.pem`)."""
        return self.root.pem if self.flat else self.root.pem + self.issuing.pem

    @property
    def authorities(self) -> tuple[Ca, ...]:
        return (self.root,) if self.flat else (self.root, self.issuing)

    def client(
        self, login: str, *, expired: bool = False, not_yet: bool = False, days: int = 30, usage: Usage = (CLIENT,), key: Key | None = None, crl: str = ""
    ) -> Leaf:
        """A person's certificate: CN and e-mail from `login`, EKU clientAuth unless `usage` says otherwise. `crl`: URL of a distribution point."""
        san = x509.SubjectAlternativeName([x509.RFC822Name(login if "@" in login else f"{login}@example.com")])
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
        more = (x509.CRLDistributionPoints([point]),) if crl else ()
        return self._leaf(login, san, usage, self._span(days, expired=expired, not_yet=not_yet), key, more)

    def server(self, *hosts: str, expired: bool = False, days: int = 30, usage: Usage = (SERVER,), key: Key | None = None) -> Leaf:
        """A web server's certificate with `hosts` (names or IP literals) as SAN; without any: localhost, 127.0.0.1 and ::1."""
        names = hosts or ("localhost", "127.0.0.1", "::1")
        return self._leaf(names[0], x509.SubjectAlternativeName([_general_name(h) for h in names]), usage, self._span(days, expired=expired), key)

    def authority_as_leaf(self) -> Leaf:
        """The issuing CA's own certificate and key, to be tried as a client."""
        return Leaf(self.name, self.issuing.certificate, self.issuing.key, ())

    def foreign(self) -> Pki:
        """Another authority with the same names and other keys: Mallory's."""
        return Pki(self.name, flat=self.flat, now=self.now)

    def revoke(self, *leaves: Leaf, at: int | None = None) -> None:
        for leaf in leaves:
            self.revoked[leaf.certificate.serial_number] = self.now - HOUR if at is None else at

    def crl(self, authority: str = "issuing", state: str = "fresh") -> bytes:
        """The PEM CRL of `root` or `issuing` in one of `CRL_STATES`; only the issuing CA's lists what was revoked (the root's when flat)."""
        if state == "missing":
            return b""
        if state == "foreign":
            return make_pki("somebody else").crl(authority)
        ca = self.root if authority == "root" else self.issuing
        lists = self.flat or authority == "issuing"
        last, following = self._span(30, expired=state == "expired", not_yet=state == "not-yet")
        self.number += 1
        key_id = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.certificate.subject)
            .last_update(_utc(last))
            .next_update(_utc(following))
            .add_extension(x509.CRLNumber(self.number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        )
        for serial, at in self.revoked.items() if lists else ():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_utc(at))
            builder = builder.add_revoked_certificate(entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False).build())
        signer = new_key() if state == "bad-signature" else ca.key
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def crls(self, *, root: str = "fresh", issuing: str = "fresh") -> bytes:
        """`all.crl.pem`: the CRLs of every CA of the chain, each in the given state."""
        return self.crl("issuing", issuing) if self.flat else self.crl("root", root) + self.crl("issuing", issuing)

    def _span(self, days: int, *, expired: bool = False, not_yet: bool = False) -> tuple[int, int]:
        if expired:
            return self.now - 30 * DAY, self.now - DAY
        return (self.now + DAY, self.now + 30 * DAY) if not_yet else (self.now - HOUR, self.now + days * DAY)

    def _authority(self, subject: str, key: Key, issuer: Ca | None, path_length: int | None) -> Ca:
        signer = issuer.key if issuer else key
        usage = x509.KeyUsage(*(i in (5, 6) for i in range(9)))  # keyCertSign, cRLSign
        builder = self._builder(subject, key, issuer, (self.now - 400 * DAY, self.now + 4000 * DAY))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(usage, critical=True)
        return Ca(builder.sign(signer, hashes.SHA256()), key)

    def _leaf(
        self, name: str, san: x509.SubjectAlternativeName, usage: Usage, span: tuple[int, int], key: Key | None, more: Sequence[x509.ExtensionType] = ()
    ) -> Leaf:
        key = key or new_key()
        builder = (
            self._builder(name, key, self.issuing, span)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(*(i == 0 for i in range(9))), critical=True)  # digitalSignature
            .add_extension(san, critical=False)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return Leaf(name, builder.sign(self.issuing.key, hashes.SHA256()), key, () if self.flat else (self.issuing.certificate,))

    def _builder(self, subject: str, key: Key, issuer: Ca | None, span: tuple[int, int]) -> x509.CertificateBuilder:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(issuer.certificate.subject if issuer else _name(subject))
            .public_key(key.public_key())
            .serial_number(int.from_bytes(bytes((1 + os.urandom(1)[0] % 0x7F,)) + os.urandom(15), "big"))
            .not_valid_before(_utc(span[0]))
            .not_valid_after(_utc(span[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if issuer is None:
            return builder
        key_id = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)


def make_pki(name: str = "kitty-ca people", *, flat: bool = False, now: int | None = None) -> Pki:
    """A fresh authority called `name` (issuing) and `name root` (root)."""
    return Pki(name, flat=flat, now=now)


def self_signed(name: str, *, now: int | None = None) -> Leaf:
    """A client certificate that signs itself."""
    pki = make_pki(name, flat=True, now=now)
    key = new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(pki.now - HOUR))
        .not_valid_after(_utc(pki.now + DAY))
        .add_extension(x509.ExtendedKeyUsage([CLIENT]), critical=False)
    )
    return Leaf(name, builder.sign(key, hashes.SHA256()), key, ())


def new_key(kind: str = "p256") -> Key:
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


def key_pem(key: Key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@functools.cache
def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _utc(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)
