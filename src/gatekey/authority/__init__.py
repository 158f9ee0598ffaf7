"""What the CA does. Holds ledger and keys together; nothing else does. Every change of anything goes through here."""

from .authority import Authority

__all__ = ["Authority"]
