from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote

import pytest
from cryptography import x509 as judge
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.identity import certificates
from gatekey.identity.certificates import Cache, Facts, byte_sequence, first, one, percent_decoded
from kit.house import House, escaped_pem
from kit.pki import make_pki

_SAMPLE = make_pki().client("ann")


def base64_of(house: House) -> str:
    return base64.b64encode(house.ann.der).decode()


FORMS: dict[str, Callable[[House], str]] = {
    "nginx": lambda house: escaped_pem(house.ann),
    "everything escaped": lambda house: quote(house.ann.certificate_pem.decode(), safe="").replace("-", "%2D"),
    "small hex digits": lambda house: quote(house.ann.certificate_pem.decode(), safe="-").replace("%2B", "%2b").replace("%0A", "%0a"),
    "PEM": lambda house: house.ann.certificate_pem.decode(),
    "Apache": lambda house: house.ann.certificate_pem.decode().replace("\n", " "),
    "tabs": lambda house: house.ann.certificate_pem.decode().replace("\n", "\n\t"),
    "HAProxy": base64_of,
    "Traefik 2": lambda house: quote(base64_of(house), safe=""),
    "RFC 9440": lambda house: f":{base64_of(house)}:",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_certificate(house: House, form: str) -> None:
    assert one("x", FORMS[form](house)) == house.ann.der


def test_facts_are_those_of_another_reader(house: House) -> None:
    facts = Cache().facts("x", house.ann.der)
    certificate = judge.load_der_x509_certificate(house.ann.der)
    assert facts == (
        house.ann.fingerprint,
        house.ann.serial,
        certificate.issuer.rfc4514_string(),
        "ann",
        "ann@example.com",
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def test_a_certificate_is_parsed_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    real = certificates._facts

    def counted(name: str, der: bytes, fingerprint: str) -> Facts:
        parsed.append(fingerprint)
        return real(name, der, fingerprint)

    monkeypatch.setattr(certificates, "_facts", counted)
    cache = Cache()
    assert cache.facts("x", house.ann.der) is cache.facts("y", bytes(bytearray(house.ann.der)))
    cache.facts("x", house.bob.der)
    assert len(parsed) == 2


def test_the_cache_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Cache().facts("x", house.ann.der)
    monkeypatch.setattr(certificates, "_facts", lambda *_: facts)
    cache = Cache()
    for i in range(9000):
        cache.facts("x", b"%d" % i)
    assert len(cache._facts) <= 4096


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text[1:],
        lambda text: text[:200],
        lambda text: text + text,
        lambda text: text.replace("CERTIFICATE", "PRIVATE%20KEY"),
        lambda text: text.replace("BEGIN", "END"),
        lambda text: text + "%0Amore",
        lambda text: text.replace("%0AMII", "%0AMI"),
        lambda text: text.replace("%0AMII", "%0A%00MII"),
        lambda text: text.replace("%0AMII", "%0A!MII"),
        lambda text: text.replace("%0A", "%0"),
        lambda text: text.replace("%0A", "%G0"),
        lambda text: text.replace("%0A", "%"),
        lambda text: text.replace("%0A", "%+A"),
        lambda text: text.replace("%0A", "% A"),
        lambda text: text.replace("%0A", "%FF"),
        lambda text: text.replace("M", "ä"),
        lambda text: f":{text}:",
        lambda _: "-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----%0A",
        lambda _: "-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
        lambda _: "::",
        lambda _: ":",
        lambda _: ": QUJD:",
        lambda _: ":QUJD:;a=1",
        lambda _: ":QUJ:",
        lambda _: "QUJD",
        lambda _: "QUJD====",
        lambda _: "A",
        lambda _: "null",
    ],
)
def test_what_is_not_one_certificate_is_malformed(house: House, spoil: Callable[[str], str]) -> None:
    with pytest.raises(Malformed) as refused:
        Cache().facts("x-client-cert", one("x-client-cert", spoil(escaped_pem(house.ann))))
    assert refused.value.code == "identity-malformed"
    assert "x-client-cert" in refused.value.message


def test_der_with_something_behind_it_is_malformed(house: House) -> None:
    for der in (house.ann.der + b"\0", house.ann.der[:-1], b"\x30\x00", house.ann.der[:4] + bytes(len(house.ann.der) - 4)):
        with pytest.raises(Malformed):
            Cache().facts("x", der)


def test_traefik_lists_the_chain_with_the_client_first(house: House) -> None:
    chain = ",".join(base64.b64encode(der).decode() for der in (house.ann.der, house.bob.der))
    assert first("x", chain) == house.ann.der
    assert first("x", base64_of(house)) == house.ann.der
    for wrong in (f"{chain},", f",{chain}", f"{chain},rubbish", ",".join([base64_of(house)] * 11)):
        with pytest.raises(Malformed):
            first("x", wrong)


def test_a_byte_sequence_has_two_colons() -> None:
    assert byte_sequence("x", ":QUJD:") == b"ABC"
    for wrong in ("QUJD", ":QUJD", "QUJD:", "", ":", ":QUJD: ", '"QUJD"', "?1", ":QU JD:", ":QUJD\n:", ":-_AA:"):
        with pytest.raises(Malformed):
            byte_sequence("x", wrong)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_percent_decoding_undoes_encoding(text: str) -> None:
    assert percent_decoded("x", quote(text, safe="")) == text
    assert percent_decoded("x", "".join(f"%{byte:02x}" for byte in text.encode())) == text


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_any_text_is_a_certificate_or_malformed(text: str) -> None:
    for value in (text, f":{text}:", f"-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----"):
        for read in (one, first, byte_sequence, percent_decoded):
            try:
                read("x", value)
            except Malformed as refused:
                assert refused.code == "identity-malformed"


@given(st.data())
def test_a_damaged_certificate_never_crashes(data: st.DataObject) -> None:
    der = bytearray(_SAMPLE.der)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        facts = Cache().facts("x", bytes(der))
    except Malformed:
        return
    assert len(facts.serial) >= 32
