"""pkilint in this process (starting it as a program takes a second each time): its findings from NOTICE upwards, as codes."""

from __future__ import annotations

from functools import cache
from typing import Any

from pkilint import loader, pkix
from pkilint.pkix import certificate as certificates
from pkilint.pkix import crl as crls
from pkilint.pkix import extension, name
from pkilint.validation import ValidationFindingSeverity


def certificate_findings(der: bytes) -> list[str]:
    """What `lint_pkix_cert lint -s NOTICE` prints."""
    return _codes(_certificate_validator().validate(loader.load_certificate(der, "ours").root))


def crl_findings(der: bytes) -> list[str]:
    """What `lint_crl lint -t CRL -p PKIX -s NOTICE` prints."""
    return _codes(_crl_validator().validate(loader.load_crl(der, "ours").root))


@cache
def _certificate_validator() -> Any:
    return certificates.create_pkix_certificate_validator_container(
        certificates.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificates.create_issuer_validator_container([]),
            certificates.create_validity_validator_container(),
            certificates.create_subject_validator_container([]),
            certificates.create_extensions_validator_container([]),
            certificates.create_spki_validator_container([]),
        ],
    )


@cache
def _crl_validator() -> Any:
    decoding = [pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS), pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)]
    validators = [crls.create_issuer_validator_container([]), crls.create_validity_validator_container(), crls.create_extensions_validator_container([])]
    return crls.create_pkix_crl_validator_container(decoding, validators)


def _codes(results: Any) -> list[str]:
    described = [one.finding for result in results for one in result.finding_descriptions]
    return [one.code for one in described if one.severity <= ValidationFindingSeverity.NOTICE]
