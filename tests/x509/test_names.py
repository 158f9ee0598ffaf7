"""Names as the standards write them and as OpenSSL prints them: what stands in a deny list must be what the web server shows."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.model.names import Names
from gatekey.model.plan import NameConstraints
from gatekey.x509 import certificate, der, names, oids
from gatekey.x509.names import GeneralNames
from kit import objects
from kit.cases import cases

CN, O, OU, C, DC, UID, EMAIL = "2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.6", "0.9.2342.19200300.100.1.25", "0.9.2342.19200300.100.1.1", "1.2.840.113549.1.9.1"

Attribute = tuple[str, int, bytes]


def text(kind: str, value: str, tag: int = der.UTF8) -> Attribute:
    encoding = {der.BMP: "utf-16-be", der.UNIVERSAL: "utf-32-be", der.T61: "latin-1"}.get(tag, "utf-8")
    return kind, tag, value.encode(encoding)


def dn(*rdns: Attribute | tuple[Attribute, ...]) -> bytes:
    """A distinguished name of RDNs of one or more attributes (type, tag, content)."""
    made = []
    for rdn in rdns:
        parts = (rdn,) if isinstance(rdn[0], str) else rdn
        made.append(der.set_of(*(der.seq(der.oid(kind), der.tlv(tag, content)) for kind, tag, content in parts)))
    return der.seq(*made)


SHOWN: dict[str, tuple[bytes, str]] = {
    "one name": (dn(text(CN, "kitty-ca people")), "CN=kitty-ca people"),
    "reversed": (dn(text(C, "DE", der.PRINTABLE), text(O, "Acme"), text(CN, "ca")), "CN=ca,O=Acme,C=DE"),
    "nothing": (dn(), ""),
    "not ASCII": (dn(text(CN, "Zoë")), r"CN=Zo\C3\AB"),
    "Japanese": (dn(text(CN, "猫")), r"CN=\E7\8C\AB"),
    "emoji": (dn(text(CN, "🐈")), r"CN=\F0\9F\90\88"),
    "comma": (dn(text(O, "Acme, Inc.")), r"O=Acme\, Inc."),
    "plus": (dn(text(CN, "a+b")), r"CN=a\+b"),
    "quotes": (dn(text(CN, 'a"b"')), r"CN=a\"b\""),
    "backslash": (dn(text(CN, r"a\b")), r"CN=a\\b"),
    "angles and semicolon": (dn(text(CN, "<a>;b")), r"CN=\<a\>\;b"),
    "equals sign": (dn(text(CN, "a=b")), "CN=a=b"),
    "leading space": (dn(text(CN, " a")), r"CN=\ a"),
    "trailing space": (dn(text(CN, "a ")), r"CN=a\ "),
    "two spaces around": (dn(text(CN, "  a  ")), r"CN=\  a \ "),
    "only a space": (dn(text(CN, " ")), r"CN=\ "),
    "leading hash": (dn(text(CN, "#a")), r"CN=\#a"),
    "only a hash": (dn(text(CN, "#")), "CN=#"),
    "inner hash": (dn(text(CN, "a#")), "CN=a#"),
    "control characters": (dn(text(CN, "a\tb\nc\x7f")), r"CN=a\09b\0Ac\7F"),
    "zero byte": (dn(text(CN, "a\0b")), r"CN=a\00b"),
    "empty value": (dn(text(CN, "")), "CN="),
    "several in one": (dn((text(CN, "ann"), text(UID, "17"))), "UID=17+CN=ann"),
    "the same twice": (dn(text(OU, "a"), text(OU, "b")), "OU=b,OU=a"),
    "domain components": (dn(text(DC, "com", der.IA5), text(DC, "example", der.IA5)), "DC=example,DC=com"),
    "e-mail": (dn(text(EMAIL, "a@example.com", der.IA5)), "emailAddress=a@example.com"),
    "unknown type": (dn(text("1.2.3.4.5", "abc")), "1.2.3.4.5=#0C03616263"),
    "printable": (dn(text(CN, "plain", der.PRINTABLE)), "CN=plain"),
    "teletex": (dn(text(CN, "Zoë", der.T61)), r"CN=Zo\C3\AB"),
    "BMP": (dn(text(CN, "Zoë 猫", der.BMP)), r"CN=Zo\C3\AB \E7\8C\AB"),
    "BMP with outer spaces": (dn(text(CN, " ë", der.BMP), text(O, "ë ", der.BMP)), r"O=\C3\AB\ ,CN=\ \C3\AB"),
    "universal": (dn(text(CN, "🐈", der.UNIVERSAL)), r"CN=\F0\9F\90\88"),
    "numeric": (dn((CN, 0x12, b"12 34")), "CN=12 34"),
    "a bit string": (dn(("2.5.4.45", der.BIT_STRING, b"\x00\x05")), "x500UniqueIdentifier=#03020005"),
    "a sequence": (dn((CN, der.SEQUENCE, b"\x05\x00")), "CN=#30020500"),
}


#: Values that OpenSSL does not take inside a name: no server built on it ever shows them.
NEVER_SHOWN = {
    "visible": (dn((CN, 0x1A, b"a,b")), r"CN=a\,b"),
    "a number": (dn((CN, der.INTEGER, b"\x05")), "CN=#020105"),
    "octets": (dn((CN, der.OCTET_STRING, b"\x05")), "CN=#040105"),
    "a time": (dn(("2.5.4.5", der.UTC_TIME, b"261118110640Z")), "serialNumber=#170D3236313131383131303634305A"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_rfc2253_in_every_corner(name: str) -> None:
    encoded, expected = SHOWN[name]
    assert names.rfc2253(encoded) == expected


@pytest.mark.interop
@pytest.mark.parametrize("name", SHOWN)
def test_rfc2253_is_what_openssl_prints(name: str, program: Callable[[str], str], tmp_path: Path) -> None:
    """`openssl x509 -issuer`, on a real certificate under an issuer of that name."""
    encoded, _ = SHOWN[name]
    maker = objects.house().issuing
    made = maker.sign(certificate.encode_tbs(objects.client(), "1A" * 16, maker.issuer._replace(name=encoded)))
    (tmp_path / "c.der").write_bytes(made)
    told = subprocess.run(
        [program("openssl"), "x509", "-inform", "DER", "-in", str(tmp_path / "c.der"), "-nameopt", "RFC2253", "-noout", "-issuer"],
        capture_output=True,
        check=True,
    )
    assert told.stdout.decode().removesuffix("\n") == "issuer=" + names.rfc2253(encoded)


@functools.cache
def libcrypto() -> ctypes.CDLL:
    """The library inside the web servers; a process for each name would be too slow for property tests."""
    path = ctypes.util.find_library("crypto")
    assert path, "libcrypto is not installed, and this test needs it as a judge"
    lib = ctypes.CDLL(path)
    for function in ("d2i_X509_NAME", "BIO_new", "BIO_s_mem"):
        getattr(lib, function).restype = ctypes.c_void_p
    lib.X509_NAME_print_ex.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_ulong]
    lib.BIO_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    lib.BIO_new.argtypes = lib.BIO_free.argtypes = lib.X509_NAME_free.argtypes = [ctypes.c_void_p]
    return lib


#: x509.h, asn1.h: ASN1_STRFLGS_RFC2253 with SEP_COMMA_PLUS, DN_REV, FN_SN and DUMP_UNKNOWN_FIELDS.
XN_FLAG_RFC2253 = (1 | 2 | 4 | 0x10 | 0x100 | 0x200) | (1 << 16) | (1 << 20) | (0 << 21) | (1 << 24)


def openssl_prints(encoded: bytes) -> str | None:
    """X509_NAME_print_ex with XN_FLAG_RFC2253, or None where OpenSSL cannot read or print the name."""
    lib = libcrypto()
    buffer = ctypes.create_string_buffer(encoded, len(encoded))
    pointer = ctypes.cast(buffer, ctypes.c_void_p)
    name = lib.d2i_X509_NAME(None, ctypes.byref(pointer), ctypes.c_long(len(encoded)))
    if not name:
        return None
    bio = lib.BIO_new(ctypes.c_void_p(lib.BIO_s_mem()))
    done = lib.X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253)
    out = ctypes.create_string_buffer(65536)
    size = lib.BIO_read(bio, out, len(out))
    lib.BIO_free(bio)
    lib.X509_NAME_free(name)
    return out.raw[: max(size, 0)].decode("latin-1") if done >= 0 else None


@pytest.mark.interop
@pytest.mark.parametrize("name", NEVER_SHOWN)
def test_values_that_openssl_does_not_take(name: str) -> None:
    encoded, expected = NEVER_SHOWN[name]
    assert openssl_prints(encoded) is None
    assert names.rfc2253(encoded) == expected


ODD = st.text(st.one_of(st.sampled_from(' ,+"\\<>;=#/\0\t\n'), st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs"])), max_size=8)
KINDS = st.sampled_from([CN, O, OU, C, DC, UID, EMAIL, "2.5.4.5", "2.5.4.97", "1.2.3.4.5"])


@st.composite
def attributes(draw: st.DrawFn) -> Attribute:
    kind, tag, value = draw(KINDS), draw(st.sampled_from([der.UTF8, der.PRINTABLE, der.IA5, der.T61, der.BMP, der.UNIVERSAL])), draw(ODD)
    limit = {der.PRINTABLE: 0x7F, der.IA5: 0x7F, der.T61: 0xFF, der.BMP: 0xFFFF}.get(tag, 0x10FFFF)
    return text(kind, "".join(c for c in value if ord(c) <= limit), tag)


@pytest.mark.interop
@given(st.lists(st.lists(attributes(), min_size=1, max_size=3).map(tuple), max_size=4))
def test_rfc2253_of_any_name_is_what_openssl_prints(rdns: list[tuple[Attribute, ...]]) -> None:
    encoded = dn(*rdns)
    assert names.rfc2253(encoded) == openssl_prints(encoded)


@pytest.mark.interop
def test_short_names_are_those_of_openssl(program: Callable[[str], str]) -> None:
    told = subprocess.run([program("openssl"), "list", "-objects"], capture_output=True, check=True).stdout.decode()
    theirs = {}
    for line in told.splitlines():
        short, _, rest = line.partition(" = ")
        theirs[rest.rsplit(" ", 1)[-1]] = short
    assert {kind: short for kind, short in oids.ATTRIBUTES.items() if theirs.get(kind) != short} == {}
    missing = [kind for kind in theirs if kind.startswith("2.5.4.") and kind.count(".") == 3 and kind not in oids.ATTRIBUTES]
    assert missing == []


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_a_common_name_is_written_as_cryptography_writes_it(common_name: str) -> None:
    encoded = names.encode_name(common_name)
    assert encoded == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]).public_bytes()
    assert names.common_name(encoded) == common_name
    assert names.read_name(encoded) == (((CN, common_name),),)


def test_an_empty_name_is_an_empty_sequence() -> None:
    assert names.encode_name("") == b"\x30\x00"
    assert names.read_name(b"\x30\x00") == ()
    assert names.common_name(b"\x30\x00") == names.rfc2253(b"\x30\x00") == names.display(b"\x30\x00") == ""


def test_the_last_common_name_counts() -> None:
    assert names.common_name(dn(text(CN, "first"), text(CN, "last"))) == "last"


def test_names_for_people_keep_their_letters_and_lose_their_tricks() -> None:
    assert names.display(dn(text(O, "Acme, Inc."), text(CN, "Zoë 猫"))) == "O=Acme, Inc., CN=Zoë 猫"
    assert names.display(dn(text(CN, "a\x1b[31m\u202eb"))) == r"CN=a\x1b[31m\u202eb"
    assert names.display(dn((text(CN, "ann"), text(UID, "17")))) in ("CN=ann + UID=17", "UID=17 + CN=ann")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (text(CN, "Kitty  CA "), text(CN, "kitty ca", der.PRINTABLE), True),
        (text(CN, "STRASSE"), text(CN, "straße"), True),
        (text(CN, "kitty ca"), text(CN, "kittyca"), False),
        (text(CN, "kitty ca"), text(O, "kitty ca"), False),
    ],
)
def test_names_are_compared_as_rfc_5280_wants_it(one: Attribute, other: Attribute, same: bool) -> None:
    """Section 7.1."""
    assert (names.canonical(dn(one)) == names.canonical(dn(other))) is same


def test_the_order_of_a_multiple_part_does_not_matter_but_that_of_parts_does() -> None:
    assert names.canonical(dn((text(CN, "a"), text(UID, "b")))) == names.canonical(dn((text(UID, "B"), text(CN, "A"))))
    assert names.canonical(dn(text(O, "a"), text(CN, "b"))) != names.canonical(dn(text(CN, "b"), text(O, "a")))


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (dn(*[text(OU, "x")] * 65), "more than 64 attributes"),
        (dn(text(OU, "x" * 17_000)), "longer than the 16384"),
        (der.seq(der.tlv(der.SET)), "an empty part"),
        (der.seq(der.seq()), "tag 0x30"),
        (der.seq(der.tlv(der.SET, der.seq(der.oid(CN)))), "value ends"),
        (der.seq(der.tlv(der.SET, der.seq(der.oid(CN), der.utf8("a"), der.utf8("b")))), "left over"),
        (dn((CN, der.UTF8, b"\xff")), "text that its own type"),
        (dn((CN, der.BMP, b"\x00")), "text that its own type"),
        (b"", "value ends"),
    ],
)
def test_names_beyond_the_limits_or_the_form_are_refused(encoded: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        names.read_name(encoded)


# General names


def test_alternative_names_are_written_as_cryptography_writes_them() -> None:
    from ipaddress import ip_address

    asked = Names("x", ("www.example.com", "*.example.com"), ("10.0.0.1", "2001:db8::1"), ("ann@example.com",))
    theirs = x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in asked.dns),
            *(x509.IPAddress(ip_address(ip)) for ip in asked.ips),
            *(x509.RFC822Name(email) for email in asked.emails),
        ]
    )
    encoded = names.encode_general_names(asked)
    assert encoded == theirs.public_bytes()
    assert names.read_general_names(encoded) == GeneralNames(asked.dns, asked.ips, asked.emails)


def test_every_kind_of_general_name_is_read() -> None:
    encoded = der.seq(
        der.implicit(2, b"a.example"),
        der.implicit(7, bytes(16)),
        der.implicit(1, b"a@example.com"),
        der.implicit(6, b"https://example.com/"),
        der.explicit(4, dn(text(CN, "ann"))),
        der.explicit(0, der.oid(oids.UPN), der.explicit(0, der.utf8("ann@corp"))),
        der.implicit(8, der.oid("1.2.3")[2:]),
        der.explicit(3, der.null()),
        der.explicit(5, der.null()),
    )
    read = names.read_general_names(encoded)
    assert read[:5] == (("a.example",), ("::",), ("a@example.com",), ("https://example.com/",), (dn(text(CN, "ann")),))
    assert read.others == (
        (oids.UPN, der.utf8("ann@corp")),
        ("registeredID", der.oid("1.2.3")),
        ("x400Address", b"\xa3\x02\x05\x00"),
        ("ediPartyName", b"\xa5\x02\x05\x00"),
    )
    assert read.total == 9


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (der.seq(), "is empty"),
        (der.seq(der.implicit(2, b"good.example\0.evil.example")), "not printable ASCII"),
        (der.seq(der.implicit(2, "bücher.example".encode())), "not printable ASCII"),
        (der.seq(der.implicit(1, b"a\nb@example.com")), "not printable ASCII"),
        (der.seq(der.implicit(7, bytes(5))), "IP address of 5 bytes"),
        (der.seq(der.implicit(7, bytes(8))), "IP address of 8 bytes"),
        (der.seq(der.explicit(2, b"")), "no kind of general name"),
        (der.seq(der.explicit(4, dn(text(CN, "a")), b"\x05\x00")), "left over"),
        (der.seq(der.explicit(0, der.oid("1.2.3"))), "value ends"),
        (der.seq(*[der.implicit(2, b"a")] * 1025), "more than 1024"),
    ],
)
def test_general_names_beyond_the_form_are_refused(encoded: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        names.read_general_names(encoded)


def test_name_constraints_are_written_as_cryptography_writes_them() -> None:
    from ipaddress import ip_network

    asked = NameConstraints(("example.com",), ("example.com", ".example.com"), ("10.0.0.0/8", "2001:db8::/32"), no_ips=False)
    theirs = x509.NameConstraints(
        [
            x509.DNSName("example.com"),
            x509.RFC822Name("example.com"),
            x509.RFC822Name(".example.com"),
            x509.IPAddress(ip_network("10.0.0.0/8")),
            x509.IPAddress(ip_network("2001:db8::/32")),
        ],
        None,
    )
    assert names.encode_constraints(asked) == theirs.public_bytes()
    read = certificate.read_constraints(names.encode_constraints(asked))
    assert read.permitted == GeneralNames(asked.dns, asked.ips, asked.emails)
    assert read.excluded == GeneralNames()


def test_no_addresses_at_all_excludes_both_families() -> None:
    from ipaddress import ip_network

    theirs = x509.NameConstraints([x509.DNSName("example.com")], [x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0"))])
    encoded = names.encode_constraints(NameConstraints(("example.com",), no_ips=True))
    assert encoded == theirs.public_bytes()
    assert certificate.read_constraints(encoded).excluded.ips == ("0.0.0.0/0", "::/0")


@given(st.data())
@cases(60)
def test_damaged_names_end_in_a_name_or_a_sentence(data: st.DataObject) -> None:
    good = dn(text(O, "Acme"), (text(CN, "ann"), text(UID, "17", der.BMP)))
    encoded = data.draw(objects.damaged(good))
    for read in (names.read_name, names.common_name, names.rfc2253, names.display, names.canonical):
        try:
            read(encoded)
        except GatekeyError as error:
            assert error.code in ("bad-der", "bad-name")


@given(st.data())
@cases(60)
def test_damaged_general_names_end_in_names_or_a_sentence(data: st.DataObject) -> None:
    good = names.encode_general_names(Names("", ("a.example",), ("10.0.0.1", "::1"), ("a@b.example",))) + der.explicit(4, dn(text(CN, "ann")))
    encoded = data.draw(objects.damaged(good))
    try:
        names.read_general_names(encoded)
    except GatekeyError as error:
        assert error.code in ("bad-der", "bad-name")
