"""Strict DER both ways: what we write we read back, and what is not DER is refused with the place where it is wrong."""

from __future__ import annotations

import subprocess
from calendar import timegm
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.instants import FOREVER
from gatekey.x509 import der
from gatekey.x509.der import Reader
from kit.cases import cases


@given(st.integers(-(2**300), 2**300))
def test_integers_come_back(value: int) -> None:
    reader = Reader(der.integer(value))
    assert reader.integer() == value
    assert not reader


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (256, "02020100"), (-128, "020180"), (-129, "0202ff7f"), (-1, "0201ff")],
)
def test_integers_are_minimal(value: int, expected: str) -> None:
    """X.690 8.3."""
    assert der.integer(value).hex() == expected


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**70), max_size=6))
def test_object_identifiers_come_back(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(str(arc) for arc in (first, second, *rest))
    assert Reader(der.oid(dotted)).oid() == dotted


def test_object_identifiers_as_in_the_standard() -> None:
    assert der.oid("2.999.3").hex() == "0603883703"  # X.690 8.19.5
    assert der.oid("1.2.840.113549").hex() == "06062a864886f70d"


@given(st.binary(max_size=70_000))
@cases(30)
def test_lengths_of_any_size_come_back(content: bytes) -> None:
    reader = Reader(der.octets(content))
    assert reader.octets() == content
    assert not reader


@pytest.mark.parametrize(("size", "header"), [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100"), (65536, "0483010000")])
def test_lengths_are_minimal(size: int, header: str) -> None:
    assert der.octets(bytes(size)).hex().startswith(header)
    assert der.header(der.OCTET_STRING, size).hex() == header


@given(st.integers(-2208988800, FOREVER))
def test_generalized_times_come_back(at: int) -> None:
    assert Reader(der.generalized(at)).instant() == at


@given(st.integers(-631152000, FOREVER))
def test_certificate_times_change_their_form_in_2050(at: int) -> None:
    """RFC 5280 4.1.2.5: UTCTime through 2049."""
    made = der.instant(at)
    assert made[0] == (der.UTC_TIME if at < timegm((2050, 1, 1, 0, 0, 0)) else der.GENERALIZED_TIME)
    assert Reader(made).instant() == at


@given(st.sets(st.integers(0, 40)))
def test_named_bits_come_back(positions: set[int]) -> None:
    made = der.named_bits(sorted(positions))
    assert Reader(made).named_bits() == sorted(positions)


def test_named_bits_leave_trailing_zeros_out() -> None:
    assert der.named_bits([0]).hex() == "03020780"  # digitalSignature
    assert der.named_bits([5, 6]).hex() == "03020106"  # keyCertSign, cRLSign
    assert der.named_bits([8]).hex() == "0303070080"  # decipherOnly
    assert der.named_bits([]).hex() == "030100"


def test_sets_are_sorted() -> None:
    """X.690 11.6."""
    assert der.set_of(der.integer(5), der.integer(1), der.integer(3)).hex() == "3109020101020103020105"


@pytest.mark.parametrize("write", [der.utf8, lambda text: der.tlv(der.BMP, text.encode("utf-16-be"))])
@given(text=st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=40))
def test_text_comes_back(write: Callable[[str], bytes], text: str) -> None:
    assert Reader(write(text)).text() == text


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ("30", "the value ends"),
        ("3080", "indefinite"),
        ("308100", "not minimal"),
        ("30820001", "not minimal"),
        ("3085000000000100", "oversized"),
        ("1f8101", "more than one byte"),
        ("3003020100ff", "left over"),
        ("3003020200", "longer than what holds it"),
        ("0400", "tag 0x04 where 0x30"),
    ],
)
def test_what_is_not_der_is_refused_with_a_place(damaged: str, words: str) -> None:
    with pytest.raises(Malformed, match=words) as refusal:
        outer = der.whole(bytes.fromhex(damaged))
        while outer:
            outer.any()
    assert refusal.value.code == "bad-der"
    assert "at byte" in refusal.value.message


@pytest.mark.parametrize(
    ("damaged", "read"),
    [
        ("0200", Reader.integer),
        ("02020001", Reader.integer),
        ("0202ff80", Reader.integer),
        ("010101", Reader.boolean),
        ("0102ffff", Reader.boolean),
        ("050100", Reader.null),
        ("0600", Reader.oid),
        ("060180", Reader.oid),
        ("06028001", Reader.oid),
        ("06022a80", Reader.oid),
        ("0300", Reader.bits),
        ("030101", Reader.bits),
        ("030208ff", Reader.bits),
        ("030201ff", Reader.bits),
        ("030204f0", Reader.whole_bits),
        ("03020000", Reader.named_bits),
        ("03020780ff", Reader.finish),
        ("0302050e", Reader.named_bits),
        ("03020600", Reader.named_bits),
        ("170b32363131323331353039", Reader.instant),
        ("170d3236313132333135303930302b", Reader.instant),
        ("170d3236313332333135303930305a", Reader.instant),
        ("170d3236303232393135303930305a", Reader.instant),
        ("170d3236313132333234303930305a", Reader.instant),
        ("180f30303030303130313030303030305a", Reader.instant),
        ("18133230323631313233313530393030" + "2e31325a", Reader.instant),
        ("170d3236313132332d35303930305a", Reader.instant),
        ("0c01ff", Reader.text),
        ("0c03eda080", Reader.text),
        ("130180", Reader.text),
        ("1e0141", Reader.text),
        ("1c0400110000", Reader.text),
        ("040141", Reader.text),
    ],
)
def test_every_type_has_one_encoding(damaged: str, read: Callable[[Reader], object]) -> None:
    with pytest.raises(Malformed) as refusal:
        read(Reader(bytes.fromhex(damaged)))
    assert refusal.value.code == "bad-der"


def test_leap_days_exist_in_leap_years_only() -> None:
    assert Reader(b"\x18\x0f20240229000000Z").instant() == timegm((2024, 2, 29, 0, 0, 0))
    for year in (1900, 2023, 2100):
        with pytest.raises(Malformed, match="calendar"):
            Reader(f"\x18\x0f{year}0229000000Z".encode()).instant()


def test_two_digit_years_turn_at_1950() -> None:
    assert Reader(b"\x17\x0d500101000000Z").instant() == timegm((1950, 1, 1, 0, 0, 0))
    assert Reader(b"\x17\x0d491231235959Z").instant() == timegm((2049, 12, 31, 23, 59, 59))


def test_an_absurd_length_is_refused_before_anything_is_read() -> None:
    with pytest.raises(Malformed, match="more than the"):
        Reader(bytes(der.MAX_BYTES + 1))


READS: list[Callable[[Reader], object]] = [
    Reader.any,
    Reader.integer,
    Reader.boolean,
    Reader.null,
    Reader.oid,
    Reader.octets,
    Reader.bits,
    Reader.whole_bits,
    Reader.named_bits,
    Reader.instant,
    Reader.text,
    Reader.inside,
    Reader.raw,
]


@given(st.binary(max_size=60), st.sampled_from(READS))
def test_any_bytes_end_in_a_value_or_a_sentence(data: bytes, read: Callable[[Reader], object]) -> None:
    reader = Reader(data)
    try:
        read(reader)
    except GatekeyError:
        return
    assert 0 < reader.pos <= len(data)


@given(st.recursive(st.binary(max_size=6).map(der.octets), lambda inner: st.lists(inner, max_size=4).map(lambda parts: der.seq(*parts)), max_leaves=20))
def test_a_tree_is_read_to_its_end(tree: bytes) -> None:
    def walk(reader: Reader) -> bytes:
        parts = []
        while reader:
            parts.append(der.seq(walk(reader.inside())) if reader.peek() == der.SEQUENCE else der.octets(reader.octets()))
        return b"".join(parts)

    assert walk(Reader(tree)) == tree


@pytest.mark.interop
def test_openssl_reads_every_type(program: Callable[[str], str]) -> None:
    made = der.seq(
        der.integer(-5),
        der.boolean(True),
        der.null(),
        der.oid("1.2.840.113549.1.1.11"),
        der.octets(b"octets"),
        der.bits(b"\xf0", 4),
        der.utf8("Zoë"),
        der.printable("plain"),
        der.tlv(der.IA5, b"a@b"),
        der.enumerated(3),
        der.instant(1_795_000_000),
        der.generalized(1_795_000_000),
        der.explicit(0, der.set_of(der.integer(2), der.integer(1))),
        der.implicit(2, b"name"),
    )
    told = subprocess.run([program("openssl"), "asn1parse", "-inform", "DER"], input=made, capture_output=True, check=True).stdout.decode()
    shown = [line.split(": ", 1)[1].split()[0] for line in told.splitlines()]
    assert shown[:8] == ["SEQUENCE", "INTEGER", "BOOLEAN", "NULL", "OBJECT", "OCTET", "BIT", "UTF8STRING"]
    assert shown[8:13] == ["PRINTABLESTRING", "IA5STRING", "ENUMERATED", "UTCTIME", "GENERALIZEDTIME"]
    assert shown[13:] == ["cont", "SET", "INTEGER", "INTEGER", "cont"]
    assert ":-05" in told
    assert ":261118110640Z" in told
