"""By what schemathesis judges the API against its own description."""

from __future__ import annotations

from typing import Any

from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi


def negative_data_rejection(context: Any, response: Any, case: Any) -> bool | None:
    """Schemathesis' own, which does not take 413 for a refusal; what breaks the longest text breaks the longest body, too."""
    return None if response.status_code == 413 else openapi.negative_data_rejection(context, response, case)


#: Left out: positive_data_acceptance (rules refuse what is well-formed, with 422), and those that follow links, which there are none of.
CHECKS = (
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    negative_data_rejection,
    openapi.unsupported_method,
)
