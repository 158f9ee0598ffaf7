"""One certificate for every built-in profile, the same bits each time: fixed keys, clock and dice through the real six steps. tests/golden keeps them.

    PYTHONPATH=src:tests python -m kit.golden      writes tests/golden anew; look at what changed before you commit it
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatekey import profiles
from gatekey.authority import ceremony, crl, requests, revoke
from gatekey.authority.authority import Authority, constraints_for
from gatekey.authority.issue import issue
from gatekey.cli.account import account
from gatekey.config import Config
from gatekey.lifecycle import Released
from gatekey.model.holder import Holder
from gatekey.model.names import Names
from gatekey.model.request import Request
from gatekey.store import schema
from gatekey.store.database import Database
from gatekey.store.dialect import SQLite
from gatekey.store.ledger import Ledger
from gatekey.store.reads import Reads
from gatekey.testing import FakeClock, FakeEntropy
from gatekey.x509 import pem
from gatekey.x509.certificate import assemble
from gatekey.x509.csr import encode_csr, read_csr

GOLDEN = Path(__file__).parent.parent / "golden"
#: An RSA key that was made once; its private half is nowhere.
RSA = GOLDEN / "rsa-2048.pub.pem"
#: A host that no common name can hold.
LONG = f"{'long.' * 12}name.example"

#: Order of P-256 (SEC 2, 2.4.2).
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class FixedKey:
    """A P-256 key that follows from its label, with the deterministic signatures of RFC 6979. A `ports.Signer`."""

    key_type = "p256"

    def __init__(self, label: str) -> None:
        secret = int.from_bytes(hashlib.sha256(f"gatekey golden {label}".encode()).digest()) % (_ORDER - 1) + 1
        self._key = ec.derive_private_key(secret, ec.SECP256R1())

    @property
    def spki(self) -> bytes:
        return self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


class FixedKeyring:
    """A `ports.Keyring` of fixed keys."""

    def __init__(self) -> None:
        self._labels: set[str] = set()

    def make(self, label: str, key_type: str) -> FixedKey:
        assert key_type == "p256"
        self._labels.add(label)
        return FixedKey(label)

    def open(self, label: str) -> FixedKey:
        assert label in self._labels
        return FixedKey(label)

    def labels(self) -> list[str]:
        return sorted(self._labels)


@contextlib.contextmanager
def _authority(*, flat: bool = False, url: str = "", domains: tuple[str, ...] = ()) -> Iterator[Authority]:
    with tempfile.TemporaryDirectory() as folder:
        config = Config(Path(folder), "Golden", url)
        db = Database(SQLite(config.home / "ledger.db"))
        schema.create(db)
        clock, dice = FakeClock(), FakeEntropy()
        authority = Authority(
            config=config, ledger=Ledger(db, assemble), reads=Reads(db), keyring=FixedKeyring(), clock=clock, entropy=dice,
            profile=profiles.built_in, actor="golden", owner="golden",
        )  # fmt: skip
        ceremony.found(authority, flat=flat, key_type="p256", days=None, constraints=constraints_for(domains, ()))
        clock.move(days=1)
        try:
            yield authority
        finally:
            authority.close()


def _issued(authority: Authority, case: str, request: Request, holder: Holder) -> Released:
    """Each certificate has dice of its own, so that a new case changes no other."""
    authority.entropy = FakeEntropy(int.from_bytes(hashlib.sha256(case.encode()).digest()[:8]))
    return issue(authority, request, holder)


def _leaves(authority: Authority) -> Iterator[tuple[str, Released]]:
    for profile in ("client", "client-short", "device"):
        asked = requests.client(authority, f"golden-{profile}", FixedKey(profile).spki, email=f"{profile}@example.com", device="laptop", profile=profile)
        yield profile, _issued(authority, profile, *asked)
    key = FixedKey("from-csr")
    csr = read_csr(encode_csr(Names("golden-csr", ("a.example", "b.example"), (), ("csr@example.com",)), key.spki, key.key_type, key.sign))
    yield "device-csr", _issued(authority, "device-csr", *requests.from_csr(authority, "device", csr))
    for case, spki, hosts in [
        ("server", FixedKey("server").spki, ["golden.example", "*.golden.example", "192.0.2.7", "2001:db8::7"]),
        ("server-rsa", pem.decode(RSA.read_bytes())[0][1], ["rsa.example"]),
        ("server-long", FixedKey("server-long").spki, [LONG]),
    ]:
        yield case, _issued(authority, case, *requests.server(authority, hosts, spki))
    for profile, names, issuer in [
        ("ocsp-responder", Names("Golden OCSP"), "people"),
        ("probe", Names("gatekey-probe"), "people"),
        ("probe-server", Names("gatekey-probe", ("gatekey-probe.invalid",)), "people"),
    ]:
        holder = Holder(names.common_name, "service")
        request = Request(profile, names, FixedKey(profile).spki, holder.login, requester="golden", door="internal", issuer=issuer)
        yield profile, _issued(authority, profile, request, holder)


def objects() -> dict[str, tuple[str, bytes]]:
    """Case -> (kind, DER): every built-in profile under its own name, and cases that look different."""
    made: dict[str, tuple[str, bytes]] = {}
    with _authority(url="http://ca.example") as authority:
        made |= {record.name: ("certificate", authority.issuing(record.name).certificate.der) for record in authority.records()}
        leaves = dict(_leaves(authority))
        made |= {case: ("certificate", released.der) for case, released in leaves.items()}
        revoke.revoke(authority, leaves["client"].id, "key-compromise")  # one: the order of several is SQLite's
        made["people-crl"] = ("crl", crl.make(authority, "people").der)
    with _authority(flat=True) as authority:
        made["root"] = ("certificate", authority.issuing("root").certificate.der)
        asked = requests.client(authority, "golden-flat", FixedKey("flat-client").spki)
        made["flat-client"] = ("certificate", _issued(authority, "flat-client", *asked).der)
    with _authority(domains=("example.com", "example.org")) as authority:
        made["servers-constrained"] = ("certificate", authority.issuing("servers").certificate.der)
    return made


def files() -> dict[str, str]:
    """File name -> content: PEM and, beside it, the account in words."""
    written = {}
    now = FakeClock().now() + 86400
    for case, (kind, der) in objects().items():
        lines = account(kind, der, now=now)
        if case in profiles.NAMES:
            lines.insert(0, ("profile", f"{case}, {profiles.built_in(case).sha256}"))
        width = max(len(name) for name, _ in lines)
        told = [f"{name.ljust(width)}  {line}".rstrip() for name, text in lines for name, line in zip([name, *[""] * 999], text.split("\n"), strict=False)]
        written[f"{case}.pem"] = pem.encode("X509 CRL" if kind == "crl" else "CERTIFICATE", der).decode()
        written[f"{case}.txt"] = "\n".join([*told, ""])
    return written


def main() -> None:
    """Writes everything and says what changed."""
    for name, content in files().items():
        path = GOLDEN / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            print(f"tests/golden/{name}: written", file=sys.stderr)


if __name__ == "__main__":
    main()
