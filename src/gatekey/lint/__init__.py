"""Reads finished to-be-signed bytes back and judges them without knowing who built them. A finding of severity `error` means: do not record, do not sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .certificates import LINTS as CERTIFICATE_LINTS
from .certificates import lint_certificate
from .crls import LINTS as CRL_LINTS
from .crls import lint_crl
from .table import Finding, Lint

if TYPE_CHECKING:
    from typing import Any

#: Every lint, for the reference.
LINTS: tuple[Lint[Any], ...] = (*CERTIFICATE_LINTS, *CRL_LINTS)

__all__ = ["CERTIFICATE_LINTS", "CRL_LINTS", "LINTS", "Finding", "Lint", "lint_certificate", "lint_crl"]
