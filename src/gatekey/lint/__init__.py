"""Reads finished to-be-signed bytes back and judges them without knowing who built them. A finding of severity `error` means: do not record, do not sign.

Names are read when they are used (PEP 562): whoever issues a certificate does not load what only CRLs need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .certificates import LINTS as CERTIFICATE_LINTS
    from .certificates import lint_certificate
    from .crls import LINTS as CRL_LINTS
    from .crls import lint_crl
    from .table import Finding, Lint

    LINTS: tuple[Lint, ...]

__all__ = ["CERTIFICATE_LINTS", "CRL_LINTS", "LINTS", "Finding", "Lint", "lint_certificate", "lint_crl"]

_HOME = {
    "CERTIFICATE_LINTS": ("certificates", "LINTS"),
    "lint_certificate": ("certificates", "lint_certificate"),
    "CRL_LINTS": ("crls", "LINTS"),
    "lint_crl": ("crls", "lint_crl"),
    "Finding": ("table", "Finding"),
    "Lint": ("table", "Lint"),
}


def __getattr__(name: str) -> object:
    if name == "LINTS":  # every lint, for the reference
        return (*__getattr__("CERTIFICATE_LINTS"), *__getattr__("CRL_LINTS"))  # type: ignore[misc]  # both are tuples
    if name not in _HOME:
        raise AttributeError(f"module 'gatekey.lint' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
