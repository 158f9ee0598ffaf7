"""PEM as RFC 7468 writes it, and as people really have it in their files."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.x509 import pem
from kit import objects

CERTIFICATE = objects.house().root_der
TEXT = pem.encode("CERTIFICATE", CERTIFICATE)


def test_the_same_text_as_others_write() -> None:
    assert x509.load_der_x509_certificate(CERTIFICATE).public_bytes(serialization.Encoding.PEM) == TEXT
    assert ssl.PEM_cert_to_DER_cert(TEXT.decode()) == CERTIFICATE


@given(st.lists(st.tuples(st.sampled_from(["CERTIFICATE", "X509 CRL", "PRIVATE KEY", "A-B C"]), st.binary(min_size=1, max_size=300)), max_size=5))
def test_what_was_written_is_read(blocks: list[tuple[str, bytes]]) -> None:
    assert pem.decode(b"".join(pem.encode(label, content) for label, content in blocks)) == blocks


@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 100))
def test_lines_may_have_any_length_and_ending(content: bytes, ending: bytes, width: int) -> None:
    body = base64.b64encode(content)
    lines = [b"-----BEGIN X-----", *(body[at : at + width] for at in range(0, len(body), width)), b"-----END X-----"]
    assert pem.decode(ending.join(lines) + ending) == [("X", content)]


def test_text_around_and_between_is_passed_over() -> None:
    text = b"subject=CN = ann\n\n" + TEXT + b"\nBag Attributes\n    localKeyID: 01 02\n" + TEXT + b"trailing words"
    assert pem.decode(text) == [("CERTIFICATE", CERTIFICATE)] * 2
    assert pem.decode(b"  " + TEXT.replace(b"\n", b"  \n   ")) == [("CERTIFICATE", CERTIFICATE)]
    assert pem.decode(b"no block at all") == []
    assert pem.decode(b"") == []


def test_headers_of_old_keys_are_kept_apart() -> None:
    text = b"-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,00\r\n\r\nAAECAw==\r\n-----END RSA PRIVATE KEY-----\r\n"
    (block,) = pem.blocks(text)
    assert block == ("RSA PRIVATE KEY", ("Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,00"), b"\0\1\2\3", text.strip())


REFUSED: dict[str, tuple[bytes, str]] = {
    "no end": (TEXT[:-40], "has no END line"),
    "another end": (TEXT.replace(b"END CERTIFICATE", b"END X509 CRL"), "begins as CERTIFICATE and ends as 'X509 CRL'"),
    "begins again": (TEXT.replace(b"-----END CERTIFICATE-----\n", b"") + TEXT, "no END line before the next begins"),
    "two glued together": (TEXT.rstrip(b"\n") + TEXT, "not alone on its line"),
    "one overlooked between good ones": (TEXT.rstrip(b"\n") + TEXT + TEXT, "not alone on its line"),
    "line breaks lost": (TEXT.replace(b"\n", b""), "not alone on its line"),
    "line breaks written out": (TEXT.replace(b"\n", b"\\n"), "not alone on its line"),
    "small letters": (b"-----BEGIN certificate-----\nAAAA\n-----END certificate-----\n", "not made of capital letters"),
    "strange letters": (TEXT.replace(b"MII", b"M!I", 1), "is not base64"),
    "a letter lost": (TEXT.replace(b"MII", b"MI", 1), "is not base64"),
    "padding inside": (b"-----BEGIN X-----\nAA==AAAA\n-----END X-----\n", "is not base64"),
    "bits behind the end": (b"-----BEGIN X-----\nAAF=\n-----END X-----\n", "bits that are not zero"),
    "nothing": (b"-----BEGIN X-----\n-----END X-----\n", "is empty"),
    "too many": (b"-----BEGIN X-----\nAAAA\n-----END X-----\n" * (pem.MAX_BLOCKS + 1), "more than 10000 blocks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_damaged_text_is_refused_in_a_sentence(name: str) -> None:
    text, words = REFUSED[name]
    with pytest.raises(Malformed, match=words) as refusal:
        pem.decode(text)
    assert refusal.value.code == "bad-pem"


def test_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pem, "MAX_BYTES", 100)
    with pytest.raises(Malformed, match="more than the 100"):
        pem.decode(TEXT)


@given(st.data())
def test_damaged_text_ends_in_blocks_or_a_sentence(data: st.DataObject) -> None:
    text = data.draw(objects.damaged(pem.encode("X", b"some content") + pem.encode("Y", b"and other content")))
    try:
        found = pem.decode(text)
    except GatekeyError as error:
        assert error.code == "bad-pem"
    else:
        assert len(found) <= 4


@given(st.lists(st.sampled_from([b"-----BEGIN ", b"-----END ", b"X", b"-----", b"\n", b"AAAA", b" ", b":"]), max_size=30))
def test_any_heap_of_marks_ends_in_blocks_or_a_sentence(parts: list[bytes]) -> None:
    try:
        pem.decode(b"".join(parts))
    except GatekeyError as error:
        assert error.code == "bad-pem"


@pytest.mark.interop
def test_openssl_reads_ours(program: Callable[[str], str]) -> None:
    told = subprocess.run([program("openssl"), "x509", "-outform", "DER"], input=TEXT, capture_output=True, check=True)
    assert told.stdout == CERTIFICATE
