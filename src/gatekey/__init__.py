"""Gatekey: put a private website behind client certificates.

    import gatekey

    with gatekey.Authority.create(home, "Kitty CA", passphrase="five words are a passphrase") as ca:
        site = ca.issue_server("app.example")            # site.key, site.chain for the web server
        ann = ca.issue_client("ann", email="ann@example.com", device="laptop")
        p12, password = ann.pkcs12()                     # for her browser
        ca.bundle("/etc/gatekey")                        # whom the web server lets in
        ca.revoke("ann")                                 # and no more

`gatekey.identity` tells a web app who is calling; `gatekey.testing` gives tests a CA in one line. Both are imported by their own name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import Authority, Issued
    from .errors import Conflict, GatekeyError, Malformed, Misconfigured, NotFound, Refused, Unavailable

__all__ = ["Authority", "Conflict", "GatekeyError", "Issued", "Malformed", "Misconfigured", "NotFound", "Refused", "Unavailable"]


def __getattr__(name: str) -> object:
    """Names are read when they are used (PEP 562), so that `gatekey.identity` and the command's help stay light."""
    if name not in __all__:
        raise AttributeError(f"module 'gatekey' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("gatekey.api" if name in ("Authority", "Issued") else "gatekey.errors"), name)
