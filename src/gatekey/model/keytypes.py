"""The kinds of keys that Gatekey knows, under the one name each that the command line, profiles and the ledger use."""

from __future__ import annotations

#: Key types that Gatekey makes itself, in the order of the help. `p256` is the default everywhere.
MADE_HERE = ("p256", "p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
DEFAULT = "p256"

#: Key types that may come in from outside. `rsa-N` in a profile means: RSA with N bits or more.
KNOWN = (*MADE_HERE, "p521", "ed448")

#: Since when OpenSSL reads certificates with ML-DSA (RFC 9881). Debian 12 has 3.0. Web servers load such a chain without a word and then refuse everybody.
ML_DSA_OPENSSL = "3.5"

#: Largest RSA modulus that is taken: a larger one makes every handshake a denial of service.
RSA_MOST_BITS = 8192


def allows(entry: str, label: str) -> bool:
    """Whether the profile's `entry` covers a key called `label`: equal, or for `rsa-N` a modulus of N bits or more."""
    if entry.startswith("rsa-") and label.startswith("rsa-"):
        return int(label[4:]) >= int(entry[4:])
    return entry == label


def is_ml_dsa(label: str) -> bool:
    """Whether this is a key of the kind that withstands quantum computers, which older programs cannot read."""
    return label.startswith("ml-dsa-")


def display(label: str) -> str:
    """`p256` as people write it."""
    return {"p256": "EC P-256", "p384": "EC P-384", "p521": "EC P-521", "ed25519": "Ed25519", "ed448": "Ed448"}.get(label) or label.upper().replace(
        "RSA-", "RSA "
    )
