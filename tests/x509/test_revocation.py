"""What CRLs say about one certificate: scopes, reasons, places, deltas and indirect lists, each alone. PKITS has them in whole paths."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gatekey.x509 import certificate as certificates
from gatekey.x509 import crl as crl_writing
from gatekey.x509 import der, names, oids, revocation
from gatekey.x509.certificate import Certificate, read_certificate
from gatekey.x509.crl import Crl, encode_entry, read_crl
from gatekey.x509.names import GeneralNames
from kit import objects

NOW = objects.NOW
DAY = 86_400
SERIAL = "0A" * 16
CA = names.encode_name("kitty-ca people")
OTHER = names.encode_name("kitty-ca CRLs")


def leaf(*points: bytes, serial: str = SERIAL, ca: bool = False) -> Certificate:
    """A certificate of CA with these distribution points (DER)."""
    extensions = []
    if points:
        extensions.append(certificates.extension(oids.CRL_DISTRIBUTION_POINTS, der.seq(*points)))
    if ca:
        extensions.append(certificates.extension(oids.BASIC_CONSTRAINTS, der.seq(der.boolean(True)), critical=True))
    key = objects.key("p256")
    tbs = der.seq(
        der.explicit(0, der.integer(2)),
        der.integer(int(serial, 16)),
        der.seq(der.oid(oids.ECDSA_SHA256)),
        CA,
        der.seq(der.instant(NOW - DAY), der.instant(NOW + DAY)),
        names.encode_name("ann"),
        objects.spki_of(key),
        der.explicit(3, der.seq(*extensions)) if extensions else b"",
    )
    return read_certificate(certificates.assemble(tbs, objects.sign(key, tbs)))


def place(url: str) -> bytes:
    return der.explicit(0, der.explicit(0, names.encode_uris((url,))))


def point(url: str = "", *, reasons: Sequence[int] = (), issuer: bytes = b"") -> bytes:
    """A DistributionPoint."""
    parts = [place(url) if url else b""]
    if reasons:
        parts.append(b"\x81" + der.named_bits(list(reasons))[1:])
    if issuer:
        parts.append(der.explicit(2, der.explicit(4, issuer)))
    return der.seq(*parts)


def scope(url: str = "", *, flag: int = 0, reasons: Sequence[int] = (), indirect: bool = False) -> bytes:
    """An IssuingDistributionPoint; `flag` is the number of an only...Certs field."""
    parts = [place(url) if url else b""]
    if flag in (1, 2):
        parts.append(der.implicit(flag, b"\xff"))
    if reasons:
        parts.append(b"\x83" + der.named_bits(list(reasons))[1:])
    if indirect:
        parts.append(der.implicit(4, b"\xff"))
    if flag == 5:
        parts.append(der.implicit(5, b"\xff"))
    return der.seq(*parts)


def crl(
    *entries: bytes,
    issuer: bytes = CA,
    number: int = 1,
    about: bytes = b"",
    base: int | None = None,
    extra: bytes = b"",
    span: tuple[int, int] = (-1, 30),
) -> Crl:
    extensions = [certificates.extension(oids.CRL_NUMBER, der.integer(number)), extra]
    if about:
        extensions.append(certificates.extension(oids.ISSUING_DISTRIBUTION_POINT, about, critical=True))
    if base is not None:
        extensions.append(certificates.extension(oids.DELTA_CRL_INDICATOR, der.integer(base), critical=True))
    tbs = der.seq(
        der.integer(1),
        der.seq(der.oid(oids.ECDSA_SHA256)),
        issuer,
        der.instant(NOW + span[0] * DAY),
        der.instant(NOW + span[1] * DAY),
        der.seq(*entries) if entries else b"",
        der.explicit(0, der.seq(*extensions)),
    )
    return read_crl(certificates.assemble(tbs, objects.sign(objects.key("p256"), tbs)))


def entry(serial: str = SERIAL, reason: str | None = "superseded") -> bytes:
    return encode_entry(serial, NOW - 60, reason)


def foreign_entry(issuer: bytes, serial: str = SERIAL) -> bytes:
    """An entry of an indirect CRL that names the issuer of the certificate."""
    named = certificates.extension(oids.CERTIFICATE_ISSUER, der.seq(der.explicit(4, issuer)), critical=True)
    return der.seq(der.integer(int(serial, 16)), der.instant(NOW - 60), der.seq(named))


def ask(certificate: Certificate, *lists: Crl, untrusted: Sequence[Crl] = ()) -> revocation.Status:
    return revocation.status(certificate, lists, at=NOW, trusted=lambda one: "nobody knows its signer" if one in untrusted else "")


def test_full_list() -> None:
    assert ask(leaf(), crl()).state == "good"
    found = ask(leaf(), crl(entry()))
    assert found.state == "revoked"
    assert found.message.endswith("reason: superseded")
    assert ask(leaf(), crl(entry(serial="0B" * 16))).state == "good"


def test_no_reason_and_hold_are_told() -> None:
    assert "reason" not in ask(leaf(), crl(entry(reason=None))).message
    assert ask(leaf(), crl(entry(reason="certificate-hold"))).message.startswith("on hold since ")


def test_nothing_at_hand() -> None:
    assert ask(leaf()).state == "unknown"
    assert "no CRL" in ask(leaf()).message


@pytest.mark.parametrize(("flag", "end", "issuer"), [(1, "good", "unknown"), (2, "unknown", "good"), (5, "unknown", "unknown")])
def test_lists_of_one_kind_of_certificate(flag: int, end: str, issuer: str) -> None:
    limited = crl(about=scope(flag=flag))
    assert ask(leaf(), limited).state == end
    assert ask(leaf(ca=True), limited).state == issuer


def test_a_shard_speaks_only_for_its_own() -> None:
    shard, other = crl(about=scope("http://ca/1.crl")), crl(about=scope("http://ca/2.crl"))
    mine = leaf(point("http://ca/1.crl"))
    assert ask(mine, shard).state == "good"
    assert ask(mine, other).state == "unknown"
    assert ask(leaf(), shard).state == "unknown"
    assert ask(mine, crl()).state == "good", "a full list is always enough"
    assert ask(mine, other, crl(entry())).state == "revoked"


def test_reasons_must_add_up() -> None:
    compromise, rest = crl(about=scope(reasons=(1, 2))), crl(about=scope(reasons=(3, 4, 5, 6, 7, 8)))
    assert ask(leaf(), compromise).state == "unknown"
    assert "reason" in ask(leaf(), compromise).message
    assert ask(leaf(), compromise, rest).state == "good"
    two_points = leaf(point("http://ca/a", reasons=(1, 2)), point("http://ca/b", reasons=(0, 3, 4, 5, 6, 7, 8)))
    by_place = crl(about=scope("http://ca/a", reasons=(1, 2))), crl(about=scope("http://ca/b", reasons=(0, 3, 4, 5, 6, 7, 8)))
    assert ask(two_points, *by_place).state == "good"
    assert ask(two_points, by_place[0]).state == "unknown"


def test_revoked_for_any_reason_is_revoked() -> None:
    assert ask(leaf(), crl(entry(), about=scope(reasons=(1, 2)))).state == "revoked"


def test_indirect_lists() -> None:
    pointed = leaf(point("http://ca/indirect", issuer=OTHER))
    about = scope("http://ca/indirect", indirect=True)
    assert ask(pointed, crl(issuer=OTHER, about=about)).state == "good"
    assert ask(pointed, crl(foreign_entry(CA), issuer=OTHER, about=about)).state == "revoked"
    assert ask(pointed, crl(foreign_entry(OTHER), issuer=OTHER, about=about)).state == "good", "the same serial of another issuer"
    assert ask(pointed, crl(issuer=OTHER, about=scope("http://ca/indirect"))).state == "unknown", "it does not say that it is indirect"
    assert ask(leaf(), crl(issuer=OTHER, about=about)).state == "unknown", "the certificate does not point there"


def test_deltas_only_add() -> None:
    delta = crl(entry(), number=5, base=1)
    assert ask(leaf(), delta).state == "unknown", "alone it says nothing, not even revoked"
    assert ask(leaf(), crl(), delta).state == "revoked"
    assert ask(leaf(), crl(entry(reason="certificate-hold")), crl(entry(reason="remove-from-crl"), number=5, base=1)).state == "good"
    assert ask(leaf(), crl(number=5), crl(entry(), number=5, base=1)).state == "good", "it is not newer than the list"
    assert ask(leaf(), crl(number=1), crl(entry(), number=9, base=3)).state == "good", "it begins after the list"
    assert ask(leaf(), crl(), crl(entry(), number=5, base=1, span=(-9, -1))).state == "good", "it has expired"
    assert ask(leaf(), crl(), delta, untrusted=(delta,)).state == "good"


def test_the_newest_delta_counts() -> None:
    hold, gone = crl(entry(reason="certificate-hold"), number=5, base=1), crl(entry(reason="remove-from-crl"), number=6, base=1)
    assert ask(leaf(), crl(), hold, gone).state == "good"
    assert ask(leaf(), crl(), gone, hold).state == "good"


def test_critical_extensions_that_nobody_understands() -> None:
    strange = certificates.extension("1.2.3.4", der.null(), critical=True)
    assert ask(leaf(), crl(extra=strange)).state == "unknown"
    assert "1.2.3.4" in ask(leaf(), crl(extra=strange)).message
    assert ask(leaf(), crl(entry(), extra=strange)).state == "revoked", "what is clear is not ignored"
    assert ask(leaf(), crl(extra=strange), crl()).state == "good"


def test_untrusted_lists_neither_condemn_nor_acquit() -> None:
    bad = crl(entry())
    assert ask(leaf(), bad, untrusted=(bad,)).state == "unknown"
    assert ask(leaf(), bad, crl(), untrusted=(bad,)).state == "good"


def test_who_vouches_for_itself_comes_last() -> None:
    own, root = crl(), crl(entry())

    def trusted(one: Crl) -> str:
        return revocation.CIRCULAR if one is own else ""

    assert revocation.status(leaf(), (own,), at=NOW, trusted=trusted).state == "good"
    assert revocation.status(leaf(), (own, root), at=NOW, trusted=trusted).state == "revoked"
    condemned = crl(entry())
    assert revocation.status(leaf(), (condemned,), at=NOW, trusted=lambda _: revocation.CIRCULAR).state == "revoked"


def test_a_flood_of_lists_ends() -> None:
    lists = [crl(about=scope(reasons=(1,)), span=(-9, -1), number=number) for number in range(5)] * 20
    found = ask(leaf(), *lists)
    assert found.state == "unknown"
    assert "more than" in found.message


def test_places_are_compared_by_value() -> None:
    assert revocation._places(GeneralNames(uris=("a",)), None, CA) & revocation._places(GeneralNames(uris=("b", "a")), None, CA)
    upper = GeneralNames(directory=(names.encode_name("CRL 1"),))
    lower = GeneralNames(directory=(names.encode_name("crl 1"),))
    assert revocation._places(upper, None, CA) == revocation._places(lower, None, CA)


def test_entries_written_by_us_are_found() -> None:
    issuer = certificates.Issuer(CA, b"\1" * 20, der.seq(der.oid(oids.ECDSA_SHA256)))
    tbs = crl_writing.encode_tbs_crl(issuer, 7, NOW - 60, NOW + DAY, [entry()])
    ours = read_crl(certificates.assemble(tbs, objects.sign(objects.key("p256"), tbs)))
    assert ask(leaf(), ours).state == "revoked"
