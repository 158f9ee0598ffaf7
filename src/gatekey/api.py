"""The public Python API: an authority in a dozen lines. Everything here is also what the command line does; the names in `gatekey` come from this file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from . import app
from .authority import bundle as bundles
from .authority import crl as crls
from .authority import lookup, people, requests
from .authority import revoke as revocation
from .authority.authority import Authority as Core
from .authority.issue import issue
from .authority.reconcile import catch_up, reconcile
from .errors import Malformed, Refused
from .keys import material
from .lifecycle import Released
from .model.holder import Holder, each_once
from .model.passwords import chosen
from .model.record import CertificateRecord, Taken
from .ports import Clock, Entropy
from .x509 import pem, pkcs12
from .x509.csr import Csr, proven
from .x509.sniff import sniff


@dataclass(frozen=True)
class Issued:
    """A certificate that has just been issued. `serial`: 32 hex digits. `key`: PKCS#8 in PEM, unencrypted, or b"" when it was never here.

    `certificate`: PEM. `chain`: PEM, the certificate with its issuers, without the root.
    """

    serial: str
    key: bytes = field(repr=False)
    certificate: bytes
    chain: bytes
    _core: Core = field(repr=False)
    _issuer: str = field(repr=False)

    def pkcs12(self, *, target: str = "any") -> tuple[bytes, str]:
        """A PKCS#12 and its password, which is new each time. `target`: "any" opens everywhere, "modern" is AES-256.

        Raises Refused when the key was never here, or when no browser would take a PKCS#12 with such a key.
        """
        from .model.passwords import generate

        if not self.key:
            raise Refused("no-key", "the key of this certificate was never here, so there is no PKCS#12", hint="make it where the key is: gatekey p12")
        core = self._core
        key = material.load(self.key)
        password = generate(core.entropy.bytes)
        issuers = [certificate.der for certificate in core.chain(self._issuer)][:-1]
        der = pem.decode(self.certificate)[0][1]
        data = pkcs12.encode(key.pkcs8(), der, issuers, friendly_name=core.config.name, password=password, target=target, random=core.entropy.bytes)
        return data, password


class Authority:
    """An authority in a folder. Use `open` or `create`, and `close` or `with`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @classmethod
    def create(
        cls,
        home: str | Path,
        name: str,
        *,
        passphrase: str | None = None,
        unencrypted_keys: bool = False,
        flat: bool = False,
        key_type: str = "p256",
        days: int | None = None,
        url: str = "",
        permit_domains: Sequence[str] = (),
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> Authority:
        """Makes an authority in `home`, which must be new or empty. Raises Conflict, Refused or Misconfigured; then nothing is left behind."""
        if passphrase is None and not unencrypted_keys:
            raise Refused("no-passphrase", "the keys need a passphrase", hint="passphrase=..., or unencrypted_keys=True if the disk is safe enough")
        if passphrase is not None:
            chosen(passphrase.encode())
        founding = app.Founding(name, flat, key_type, days, url, each_once(permit_domains, "permit_domains"), (), unencrypted_keys)
        return cls(app.create_authority(Path(home), founding, passphrase=_secret(passphrase), clock=clock, entropy=entropy))

    @classmethod
    def open(cls, home: str | Path, *, passphrase: str | None = None, clock: Clock | None = None, entropy: Entropy | None = None) -> Authority:
        """Opens the authority in `home`. The passphrase is needed only to issue and revoke. Raises Misconfigured."""
        core = app.open_authority(Path(home), passphrase=_secret(passphrase), clock=clock, entropy=entropy)
        reconcile(core)
        catch_up(core)  # what it cannot do now, for want of a passphrase say, the next one does
        return cls(core)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the ledger."""
        self._core.close()

    def issue_client(
        self,
        login: str,
        *,
        email: str = "",
        name: str = "",
        device: str = "",
        groups: Sequence[str] = (),
        days: int | None = None,
        key_type: str = "p256",
        csr: bytes | None = None,
        profile: str = "client",
    ) -> Issued:
        """A certificate for a person's device; with `csr` (PEM or DER) for the key in it. Raises Refused with all reasons, or Conflict."""
        key, spki = _key(csr, key_type)
        proof = "csr" if csr else "made-here"
        asked = requests.client(
            self._core, login, spki, email=email, name=name, device=device, groups=groups, days=days, proof=proof, door="api", profile=profile
        )
        people.check(asked[1]._replace(devices=(device,) if device else ()))
        return self._issued(issue(self._core, *asked, alone=True), key)

    def issue_server(self, *hosts: str, days: int | None = None, key_type: str = "p256", csr: bytes | None = None, profile: str = "server") -> Issued:
        """A certificate for a web server; addresses may stand among the hosts. Raises Refused with all reasons."""
        key, spki = _key(csr, key_type)
        asked = requests.server(self._core, hosts, spki, days=days, proof="csr" if csr else "made-here", door="api", profile=profile)
        return self._issued(issue(self._core, *asked), key)

    def sign(self, csr: bytes, profile: str, *, days: int | None = None) -> Issued:
        """A certificate from a request (PEM or DER) with the names that it asks for, as far as the profile allows. Raises Refused, Malformed."""
        asked = requests.from_csr(self._core, profile, _csr(csr), days=days, door="api")
        return self._issued(issue(self._core, *asked, alone=asked[1].alone), None)

    def renew(self, ref: str, *, new_key: bool = False, key_type: str = "p256", days: int | None = None) -> Issued:
        """A successor with the same key, or with a new one. The old one stays valid. Raises NotFound, Conflict, Refused."""
        old = lookup.one(self._core, ref, wanted=("valid", "not-yet-valid", "expired"))
        key = material.make(key_type) if new_key else None
        asked = requests.renewal(self._core, old, key.spki if key else None, proof="made-here" if key else "same-key", days=days, door="api")
        return self._issued(issue(self._core, *asked), key)

    def revoke(self, ref: str, reason: str = "unspecified") -> list[Taken]:
        """Takes a certificate away; answers with everything that went. Raises NotFound, Conflict, Refused."""
        return revocation.revoke(self._core, lookup.one(self._core, ref, wanted=("valid", "held", "not-yet-valid")).id, reason)

    def hold(self, ref: str) -> None:
        """Takes a certificate away for a while."""
        revocation.hold(self._core, lookup.one(self._core, ref, wanted=("valid", "not-yet-valid")).id)

    def unhold(self, ref: str) -> None:
        """Gives a held certificate back."""
        revocation.unhold(self._core, lookup.one(self._core, ref, wanted=("held",)).id)

    def leave(self, login: str, *, even_last_administrator: bool = False) -> list[Taken]:
        """A person leaves: everything she has is taken away. Raises Refused when she is the only administrator, unless that is said to be meant."""
        return revocation.leave(self._core, login, even_last_administrator=even_last_administrator)

    def crl(self, authority: str = "") -> bytes:
        """The CRL of one CA (default: the one that issues for people) in DER, complete now."""
        names = [record.name for record in self._core.need("people") if record.role != "root"]
        return crls.current(self._core, authority or names[-1]).der

    def bundle(self, folder: str | Path) -> None:
        """Writes the folder of files that a web server needs; its files switch as a whole."""
        bundles.publish(self._core, Path(folder))

    def certificates(self) -> list[CertificateRecord]:
        """Everything that was issued to people, devices, services and servers."""
        return [record for record in self._core.reads.certificates("c.state = 'released'") if record.kind != "authority"]

    def people(self) -> list[Holder]:
        """Everybody, with groups and devices."""
        return self._core.reads.holders("person")

    def certificate_of(self, authority: str) -> bytes:
        """A CA's certificate in PEM, by its short name: people-root, people, servers-root, servers, or root."""
        return pem.encode("CERTIFICATE", self._core.issuing(authority).certificate.der)

    @property
    def servers_root(self) -> bytes:
        """What browsers must trust to believe our web servers, in PEM."""
        return self.certificate_of(next(record.name for record in self._core.need("servers") if record.is_root))

    def _issued(self, released: Released, key: material.PrivateKey | None) -> Issued:
        certificate = pem.encode("CERTIFICATE", released.der)
        issuers = [pem.encode("CERTIFICATE", one.der) for one in self._core.chain(released.issuer)][:-1]
        secret = pem.encode("PRIVATE KEY", key.pkcs8()) if key else b""
        return Issued(released.number, secret, certificate, b"".join((certificate, *issuers)), self._core, released.issuer)


def _secret(passphrase: str | None) -> app.Passphrase | None:
    return None if passphrase is None else passphrase.encode


def _key(csr: bytes | None, key_type: str) -> tuple[material.PrivateKey | None, bytes]:
    if csr is not None:
        return None, _csr(csr).spki
    key = material.make(key_type)
    return key, key.spki


def _csr(data: bytes) -> Csr:
    request = proven(sniff(data))
    if request is None:
        raise Malformed("wrong-kind", "this is not a certificate request")
    return request
