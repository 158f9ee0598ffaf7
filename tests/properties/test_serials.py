"""Serials: whatever the dice say, 32 upper-case hex digits of a positive number, the same in certificate, CRL and ledger."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gatekey.authority.issue import draw_serial
from gatekey.x509.certificate import read_certificate, serial_hex
from gatekey.x509.crl import encode_entry, encode_tbs_crl, read_crl
from kit import objects

SERIALS = st.integers(1 << 120, (1 << 127) - 1).map(lambda number: f"{number:032X}")


class Dice:
    """An authority as far as `draw_serial` looks at it: dice that fall as told, then well."""

    def __init__(self, throws: list[bytes]) -> None:
        self.throws = [*throws, b"\x5a" * 16]
        self.entropy = self

    def bytes(self, count: int) -> bytes:
        assert count == 16
        return self.throws.pop(0)


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=6))
def test_any_throw_of_the_dice(throws: list[bytes]) -> None:
    dice: Any = Dice(throws)
    serial = draw_serial(dice)
    assert len(serial) == 32
    assert serial == serial.upper() == serial_hex(int(serial, 16))
    assert 1 <= int(serial[:2], 16) <= 0x7F  # positive without a further octet (RFC 5280 4.1.2.2), never shorter than the others
    assert bytes.fromhex(serial) in [*throws, b"\x5a" * 16]  # taken as it fell, so that no chance is lost


@given(SERIALS)
def test_a_serial_comes_back_from_a_certificate(serial: str) -> None:
    der = objects.house().certificate(serial=serial)
    assert read_certificate(der).serial == serial
    assert f"{x509.load_der_x509_certificate(der).serial_number:032X}" == serial


@given(st.lists(SERIALS, unique=True, min_size=1, max_size=20), SERIALS, st.integers(objects.NOW - 10**8, objects.NOW))
def test_serials_come_back_from_a_crl(listed: list[str], other: str, at: int) -> None:
    house = objects.house()
    entries = [encode_entry(serial, at, "superseded") for serial in listed]
    der = house.issuing.sign(encode_tbs_crl(house.issuing.issuer, 7, objects.NOW, objects.NOW + 86400, entries))
    ours, theirs = read_crl(der), x509.load_der_x509_crl(der)
    assert [entry.serial for entry in ours.entries()] == listed == [f"{entry.serial_number:032X}" for entry in theirs]
    for serial in (*listed, other):
        found = ours.find(int(serial, 16))
        assert (found is not None) == (serial in listed)
        assert found is None or (found.serial, found.at, found.reason) == (serial, at, "superseded")
