"""The life of a certificate, a CRL or a CA certificate as four types: Draft -> Recorded -> Signed -> Released.

A Draft is to-be-signed bytes that lint has read back. A Recorded is the same bytes, durable in the ledger. Only a Recorded can be signed. Only what was
released by the ledger may leave the process. `Recorded` and `Released` are made in `store/ledger.py` and nowhere else, `Signed` in `authority/issue.py`
and nowhere else; a test reads the source to make sure.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from .model.request import CertificateId

Kind = Literal["certificate", "crl"]


class Draft(NamedTuple):
    """Bytes that somebody intends to sign. `issuer`: short name of the authority; `number`: serial of a certificate (hex) or number of a CRL (decimal).

    `row` carries what the ledger keeps beside the bytes (names, dates, holder, request): column name -> value.
    """

    kind: Kind
    issuer: str
    number: str
    tbs: bytes
    row: dict[str, object]


class Recorded(NamedTuple):
    """A draft that is durable, with its audit event. A crash from here on leaves a record that `reconcile` abandons; no signature can exist without it."""

    draft: Draft
    owner: str


class Signed(NamedTuple):
    """A signature over exactly the recorded bytes. Not to be shown to anybody: if release fails, it is thrown away."""

    recorded: Recorded
    signature: bytes


class Released(NamedTuple):
    """Durable with its signature: the only form in which bytes leave the house. `der` is the whole signed object."""

    kind: Kind
    issuer: str
    number: str
    der: bytes

    @property
    def id(self) -> CertificateId:
        return CertificateId(self.issuer, self.number)
