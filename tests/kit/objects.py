"""Certificates, CRLs and requests made with our own encoders under throw-away keys; and ways to damage them.

house = objects.house()          # root -> issuing, both P-256, at objects.NOW
der = house.certificate(names=Names("ann", emails=("ann@example.com",)))
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from hypothesis import strategies as st

from gatekey.model.names import Names
from gatekey.model.plan import Plan
from gatekey.x509 import certificate, crl, names, signature, spki

#: 2026-11-18T11:06:40Z.
NOW = 1_795_000_000
DAY = 86_400

KEY_TYPES = ("p256", "p384", "p521", "rsa-2048", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


@functools.cache
def key(key_type: str, which: int = 0) -> Any:
    """A private key of `cryptography`, one for each `which` in this process."""
    if key_type.startswith("rsa-"):
        return rsa.generate_private_key(65537, int(key_type[4:]))
    return {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
        "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
        "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
        "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
    }[key_type]()


def spki_of(private: Any) -> bytes:
    encoded: bytes = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def sign(private: Any, data: bytes) -> bytes:
    """As our signers do: the one algorithm of each key type."""
    made: bytes
    if isinstance(private, rsa.RSAPrivateKey):
        made = private.sign(data, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        made = private.sign(data, ec.ECDSA({256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[private.curve.key_size]))
    else:
        made = private.sign(data)
    return made


class Maker(NamedTuple):
    """A CA of these tests."""

    name: str
    key_type: str
    private: Any

    @property
    def issuer(self) -> certificate.Issuer:
        return certificate.Issuer(names.encode_name(self.name), spki.key_identifier(self.spki), signature.algorithm(self.key_type))

    @property
    def spki(self) -> bytes:
        return spki_of(self.private)

    def sign(self, tbs: bytes) -> bytes:
        """The whole object."""
        return certificate.assemble(tbs, sign(self.private, tbs))

    def issue(self, plan: Plan, serial: str = "1A" * 16) -> bytes:
        return self.sign(certificate.encode_tbs(plan, serial, self.issuer))

    def crl(self, entries: Sequence[bytes] = (), number: int = 7, this_update: int = NOW, next_update: int = NOW + 30 * DAY) -> bytes:
        return self.sign(crl.encode_tbs_crl(self.issuer, number, this_update, next_update, entries))


class House(NamedTuple):
    """A root, an issuing CA under it, and their certificates."""

    root: Maker
    issuing: Maker
    root_der: bytes
    issuing_der: bytes

    def certificate(self, plan: Plan | None = None, serial: str = "1A" * 16) -> bytes:
        return self.issuing.issue(plan or client(), serial)


@functools.cache
def house(key_type: str = "p256") -> House:
    root = Maker("kitty-ca people root", key_type, key(key_type, 1))
    issuing = Maker("kitty-ca people", key_type, key(key_type, 2))
    root_plan = authority(root.name, root.spki, days=7300)
    issuing_plan = authority(issuing.name, issuing.spki, days=3650, path_length=0)
    return House(root, issuing, root.issue(root_plan, "11" * 16), root.issue(issuing_plan, "12" * 16))


def authority(name: str, key_info: bytes, *, days: int, **more: Any) -> Plan:
    usage = ("digitalSignature", "keyCertSign", "cRLSign")
    return Plan("ca", "", "", Names(name), key_info, NOW - 3600, NOW + days * DAY, usage, ca=True, **more)


def client(asked: Names | None = None, key_info: bytes | None = None, **more: Any) -> Plan:
    plan = Plan(
        "client",
        "",
        "people",
        asked or Names("ann", emails=("ann@example.com",)),
        key_info or spki_of(key("p256", 3)),
        NOW - 3600,
        NOW + 365 * DAY,
        ("digitalSignature",),
        ("clientAuth",),
    )
    return plan._replace(**more)


def server(*hosts: str, ips: tuple[str, ...] = (), common_name: str | None = None) -> Plan:
    asked = Names(hosts[0] if common_name is None else common_name, hosts, ips)
    return client(asked, extended=("serverAuth",), not_after=NOW + 375 * DAY)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """`good` after one to four injuries: flipped, cut, doubled, inserted or swapped bytes."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.integers(0, 5))
        if how == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif how == 1 and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 2:
            del data[at : at + draw(st.integers(1, 40))]
        elif how == 3:
            data[at:at] = draw(st.binary(max_size=8))
        elif how == 4:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            del data[at:]
    return bytes(data)
