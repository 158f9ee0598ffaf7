"""The authority as one object: ledger, keys, clock, dice and profiles in one place, and what it knows of its own CAs. Verbs live in the files beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..config import Config
from ..errors import GatekeyError, Misconfigured, NotFound
from ..model.plan import NameConstraints
from ..model.profile import Profile
from ..model.record import AuthorityRecord
from ..model.request import CertificateId, IssuerFacts
from ..ports import Clock, Entropy, Keyring, Signer
from ..store.ledger import Ledger
from ..store.reads import Reads
from ..x509 import certificate as x509_certificate
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, Issuer
from ..x509.spki import key_identifier, read_spki

#: Hears what people should be told beside the answer.
Say = Callable[[str], None]


def silent(_: str) -> None:
    """Hears notes and keeps them to itself."""


class Issuing(NamedTuple):
    """One of our CAs, ready to issue: its row, its certificate, what policy must know and what the encoder needs."""

    record: AuthorityRecord
    certificate: Certificate
    key_type: str
    facts: IssuerFacts
    encoding: Issuer


class Authority:
    """Everything an authority is made of. Made by `app.py` only.

    `actor`: who acts, for the audit log and for idempotency. `owner`: this process, for leases; `lives`: whether the process of a lease may still be there.
    """

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        reads: Reads,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        profile: Callable[[str], Profile],
        actor: str,
        owner: str,
        lives: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.config = config
        self.ledger = ledger
        self.reads = reads
        self.keyring = keyring
        self.clock = clock
        self.entropy = entropy
        self.profile = profile
        self.actor = actor
        self.owner = owner
        self.lives = lives
        #: In a service: brings CRLs and the published folder behind the ledger, or leaves it to whoever is at it; answers with what failed.
        self.republish: Callable[[], list[GatekeyError]] | None = None
        self._records: list[AuthorityRecord] = []
        self._issuing: dict[str, Issuing] = {}

    def now(self) -> int:
        """POSIX seconds."""
        return self.clock.now()

    def acting(self, actor: str) -> Authority:
        """The same authority, asked by somebody else: what it does from here on is done in that name. Cheap; made for one question."""
        self.records()  # read once, for all of them
        other = object.__new__(type(self))  # what copy.copy does, in a fifth of its time
        other.__dict__.update(self.__dict__, actor=actor)
        return other

    def close(self) -> None:
        """Closes the ledger's connections."""
        self.ledger.db.close()

    def records(self) -> list[AuthorityRecord]:
        """All our CAs in the order of their making."""
        found = self._records  # another thread may change it at any moment
        if not found:
            found = self._records = self.reads.authorities()
        return found

    def forget(self) -> None:
        """Reads the CAs again at the next question: after a ceremony."""
        self._records = []
        self._issuing = {}

    def look(self) -> bool:
        """Whether another process has made or installed a CA since the last look; then it is known from here on. What is known of the others is kept."""
        found = self.reads.authorities()
        if found == self._records:
            return False
        self._records, self._issuing = found, {}
        return True

    def record(self, name: str) -> AuthorityRecord:
        """One CA by its short name. Raises NotFound and names those that exist."""
        for record in self.records():
            if record.name == name:
                return record
        known = ", ".join(record.name for record in self.records())
        hint = f"there are: {known}" if known else self.waits("people").hint
        raise NotFound("no-authority", f"there is no authority called {name!r}", hint=hint, known=known)

    def side(self, side: str) -> list[AuthorityRecord]:
        """All CAs of one side (`people` or `servers`), roots first; with --flat the one CA is on both."""
        return sorted((r for r in self.records() if r.side in (side, "both")), key=lambda r: not r.is_root)

    def need(self, side: str) -> list[AuthorityRecord]:
        """All CAs of one side, as `side` gives them. Raises Misconfigured while none of them issues, because its certificate is made elsewhere."""
        found = self.side(side)
        if all(record.role == "root" for record in found):
            raise self.waits(side)
        return found

    def waits(self, side: str) -> Misconfigured:
        """The refusal of whoever needs a CA of a side that has none yet: what is so, and the next step."""
        csr = self.config.home / "authorities" / f"{side}.csr"
        return Misconfigured(
            "authority-waiting",
            f"the authority that issues for {side} has no certificate yet: a root elsewhere has to sign its request",
            hint=f"have {csr} signed there, then: gatekey authority install {side}.crt root.crt root.crl",
            side=side,
            path=str(csr),
        )

    def issuer_for(self, profile: Profile) -> str:
        """The CA that issues what this profile describes: the one it names, otherwise the newest issuing one of its side, or the flat one.

        Raises Misconfigured when there is none, when it waits for its certificate, or when the one it names does not issue such certificates.
        """
        side = "servers" if profile.kind == "server" else "people"
        wanted = profile.issuer or side
        named = next((r for r in self.records() if r.name == wanted), None)
        if named and (profile.kind not in ("client", "server") or (named.role != "root" and named.side in (side, "both"))):
            return named.name
        found = [r for r in self.records() if not named and r.role in ("issuing", "flat") and r.side in (wanted, "both") and wanted in ("people", "servers")]
        if not found:
            self.need(side)
            able = ", ".join(r.name for r in self.records() if r.role in ("issuing", "flat") and r.side in (side, "both"))
            message = f"the profile {profile.name} names the issuer {wanted!r}, and no authority of that name issues for {side} here"
            raise Misconfigured("profile-issuer", message, hint=f"issuer may be: {able or 'none; gatekey authority list'}", found=wanted, allowed=able)
        return found[-1].name

    def issuing(self, name: str) -> Issuing:
        """A CA with its certificate read. Raises NotFound."""
        known = self._issuing
        found = known.get(name)
        if found is None:
            record = self.record(name)
            certificate = x509_certificate.read_certificate(self.ledger.der(CertificateId(record.parent, record.serial)))
            found = known[name] = issuing_of(record, certificate)
        return found

    def signer(self, name: str) -> Signer:
        """The private key of a CA. Raises Misconfigured when it is not here, cannot be opened, or is not the key of the CA's certificate."""
        try:
            signer = self.keyring.open(name)
        except NotFound as missing:
            keys = self.config.home / "keys"
            root = self.record(name).role == "root"
            hint = f"bring {name}.key back into {keys}{' for this step, then take it away again' if root else ', from a backup: nothing is issued without it'}"
            raise Misconfigured("key-not-here", f"the key of {name} is not here", hint=hint, path=str(keys)) from missing
        if not self._belongs(name, signer.spki):
            raise Misconfigured(
                "wrong-key",
                f"the key that is kept for {name} is not the key of its certificate: nothing that it signed would hold",
                hint=f"bring the right {name}.key back into {self.config.home / 'keys'}, from a backup",
                authority=name,
                path=str(self.config.home / "keys"),
            )
        return signer

    def _belongs(self, name: str, spki: bytes) -> bool:
        """Whether this is the public key in the CA's certificate. A CA that is being founded, or waits for its certificate, has none yet."""
        try:
            return self.issuing(name).certificate.spki == spki
        except NotFound:
            return True

    def has_key(self, name: str) -> bool:
        """Whether the private key of a CA is here; a root's may be locked away."""
        return name in self.keyring.labels()

    def chain(self, name: str) -> list[Certificate]:
        """A CA's certificate and those above it, the root last."""
        found = []
        record = self.record(name)
        while True:
            found.append(self.issuing(record.name).certificate)
            if record.is_root:
                return found
            record = self.record(record.parent)


def issuing_of(record: AuthorityRecord, certificate: Certificate) -> Issuing:
    """What policy and encoder need to know of a CA, out of its certificate."""
    key_type = read_spki(certificate.spki).label
    facts = issuer_facts(record.name, certificate)
    key_id = certificate.key_id or key_identifier(certificate.spki)
    return Issuing(record, certificate, key_type, facts, Issuer(certificate.subject, key_id, x509_signature.algorithm(key_type)))


def issuer_facts(name: str, certificate: Certificate) -> IssuerFacts:
    """A CA's limits as policy reads them."""
    permitted = excluded = None
    if certificate.constraints is not None:
        permitted, excluded = certificate.constraints
    ips = tuple(permitted.ips) if permitted and permitted.ips else None
    if ips is None and excluded and excluded.ips:
        ips = ()
    return IssuerFacts(
        name=name,
        not_after=certificate.not_after,
        not_before=certificate.not_before,
        path_length=certificate.path_length,
        permitted_dns=tuple(permitted.dns) if permitted and permitted.dns else None,
        permitted_emails=tuple(permitted.emails) if permitted and permitted.emails else None,
        permitted_ips=ips,
    )


def constraints_for(domains: tuple[str, ...], ips: tuple[str, ...]) -> NameConstraints | None:
    """Name constraints of `--permit-domain`: DNS:D, email:D and email:.D are permitted; every IP address is excluded unless `--permit-ip` names some."""
    if not domains and not ips:
        return None
    emails = tuple(form for domain in domains for form in (domain, f".{domain}"))
    return NameConstraints(dns=domains, emails=emails, ips=ips, no_ips=not ips)
