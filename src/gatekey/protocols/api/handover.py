"""A private key that was made here leaves with the first answer, in the form that its device opens, and is kept nowhere."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

from ...errors import Refused
from ...model.names import file_stem
from ...model.passwords import generate
from ...x509 import pem

if TYPE_CHECKING:
    from ...authority.authority import Authority
    from ...lifecycle import Released
    from ...model.holder import Holder
    from ...ports import PortableKey

#: What `for` may say. Browsers and NSS do not take Ed25519 or ML-DSA, so those keys go with `pem` only.
TARGETS = ("any", "modern", "apple", "pem")


def refuse_target(key_type: str, target: str) -> None:
    """Refuses a PKCS#12 that no browser would open. Asked before anything is made."""
    from ...x509.pkcs12 import refusal

    if reason := refusal(key_type, target):
        raise Refused.because((reason,))


def secrets(authority: Authority, released: Released, holder: Holder, key: PortableKey, target: str, device: str) -> dict[str, Any]:
    """The fields of the answer that hold the key: PEM, or a PKCS#12 (alone, or in Apple's profile) with its password."""
    if target == "pem":
        return {"key": pem.encode("PRIVATE KEY", key.pkcs8()).decode()}
    from ...x509 import pkcs12

    above = [certificate.der for certificate in authority.chain(released.issuer)]
    password = generate(authority.entropy.bytes)
    shown = f"{(authority.reads.holder(holder.login) or holder).display} - {authority.config.name} {time.gmtime(authority.now()).tm_year}"
    data = pkcs12.encode(
        key.pkcs8(),
        released.der,
        above[:-1],
        friendly_name=shown,
        password=password,
        target="any" if target == "apple" else target,
        random=authority.entropy.bytes,
    )
    if target != "apple":
        return {"pkcs12": base64.b64encode(data).decode(), "password": password}
    from ...x509 import mobileconfig
    from ...x509.certificate import read_certificate
    from ...x509.names import common_name

    leaf = read_certificate(released.der)
    owner = mobileconfig.Owner(common_name(leaf.issuer), leaf.common_name or leaf.serial, device)
    # With --flat the root itself is the issuer: what stands above the certificate is either this or nothing.
    issuers = above if len(above) == 1 else above[:-1]
    wrapped = mobileconfig.encode(owner, data, issuers, file_name=f"{file_stem(holder.login)}.p12")
    return {"mobileconfig": base64.b64encode(wrapped).decode(), "password": password}
