"""Name constraints: a table of what is inside what, and how several issuers' constraints add up."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Refused
from gatekey.x509 import constraints, names
from gatekey.x509.certificate import Certificate, Constraints, read_certificate
from gatekey.x509.constraints import Subtrees
from gatekey.x509.names import GeneralNames
from kit import pki

INSIDE = [
    # kind, base, name, inside
    ("dns", "example.com", "example.com", True),
    ("dns", "example.com", "www.example.com", True),
    ("dns", "example.com", "a.b.example.com", True),
    ("dns", "example.com", "WWW.EXAMPLE.COM", True),
    ("dns", "example.com", "www.example.com.", True),
    ("dns", "example.com", "badexample.com", False),
    ("dns", "example.com", "example.com.evil.test", False),
    ("dns", "example.com", "com", False),
    ("dns", ".example.com", "www.example.com", True),
    ("dns", ".example.com", "example.com", False),
    ("dns", "", "anything.test", True),
    ("dns", ".", "anything.test", False),
    ("dns", "example.com", "*.example.com", True),
    ("emails", "example.com", "ann@example.com", True),
    ("emails", "example.com", "ann@EXAMPLE.com", True),
    ("emails", "example.com", "ann@mail.example.com", False),
    ("emails", ".example.com", "ann@mail.example.com", True),
    ("emails", ".example.com", "ann@example.com", False),
    ("emails", "ann@example.com", "ann@example.com", True),
    ("emails", "ann@example.com", "Ann@example.com", False),
    ("emails", "ann@example.com", "bob@example.com", False),
    ("emails", "example.com", "ann@evil.test@example.com", True),
    ("emails", "example.com", "ann@example.com@evil.test", False),
    ("uris", "example.com", "https://example.com/path", True),
    ("uris", "example.com", "https://www.example.com/", False),
    ("uris", ".example.com", "https://www.example.com:8443/?q", True),
    ("uris", "example.com", "https://user:pass@example.com", True),
    ("uris", "example.com", "https://example.com@evil.test/", False),
    ("uris", "example.com", "https://evil.test/#@example.com", False),
    ("uris", "example.com", "urn:example.com", False),
    ("uris", "example.com", "https://[::1]/", False),
    ("uris", "0.0.1", "https://127.0.0.1/", False),
    ("ips", "10.0.0.0/8", "10.1.2.3", True),
    ("ips", "10.0.0.0/8", "11.0.0.1", False),
    ("ips", "10.0.0.0/8", "::a01:203", False),
    ("ips", "0.0.0.0/0", "192.0.2.1", True),
    ("ips", "2001:db8::/32", "2001:db8:1::1", True),
    ("ips", "2001:db8::/32", "2001:db9::1", False),
    ("ips", "10.0.0.1/255.0.0.255", "10.7.8.1", True),
    ("ips", "10.0.0.1/255.0.0.255", "10.7.8.2", False),
]

EXCLUDED_ONLY = [
    ("dns", "b.a.test", "*.a.test", True),
    ("dns", ".b.a.test", "*.a.test", True),
    ("dns", "c.b.a.test", "*.a.test", False),
    ("dns", "b.a.test", "*.other.test", False),
    ("uris", "example.com", "urn:whatever", True),
]


@pytest.mark.parametrize(("kind", "base", "name", "inside"), INSIDE)
def test_inside(kind: str, base: str, name: str, inside: bool) -> None:
    assert constraints._INSIDE[kind](base, name, False) is inside


@pytest.mark.parametrize(("kind", "base", "name", "inside"), EXCLUDED_ONLY)
def test_an_exclusion_errs_on_the_safe_side(kind: str, base: str, name: str, inside: bool) -> None:
    assert constraints._INSIDE[kind](base, name, True) is inside
    assert constraints._INSIDE[kind](base, name, False) is False


def certificate(general: GeneralNames, subject: str = "") -> Certificate:
    """A certificate with these names; only they and the subject matter here."""
    base = read_certificate(pki.make_pki().client("ann").der)
    return base._replace(subject=names.encode_name(subject), names=general)


def permitted(**kinds: tuple[str, ...]) -> Constraints:
    return Constraints(GeneralNames(**kinds), GeneralNames())  # type: ignore[arg-type]  # each kind is a tuple of text here


def excluded(**kinds: tuple[str, ...]) -> Constraints:
    return Constraints(GeneralNames(), GeneralNames(**kinds))  # type: ignore[arg-type]  # each kind is a tuple of text here


def test_every_issuer_must_permit() -> None:
    subtrees = Subtrees()
    subtrees.add(permitted(dns=("example.com", "example.org")))
    subtrees.add(permitted(dns=("www.example.com",)))
    assert subtrees.problem(certificate(GeneralNames(dns=("www.example.com",)))) is None
    assert "outside" in (subtrees.problem(certificate(GeneralNames(dns=("mail.example.com",)))) or "")
    assert "outside" in (subtrees.problem(certificate(GeneralNames(dns=("example.org",)))) or "")


def test_a_kind_without_constraint_is_free() -> None:
    subtrees = Subtrees()
    subtrees.add(permitted(dns=("example.com",)))
    assert subtrees.problem(certificate(GeneralNames(emails=("ann@anywhere.test",)), "ann")) is None


def test_exclusion_beats_permission() -> None:
    subtrees = Subtrees()
    subtrees.add(Constraints(GeneralNames(dns=("example.com",)), GeneralNames(dns=("secret.example.com",))))
    assert subtrees.problem(certificate(GeneralNames(dns=("www.example.com",)))) is None
    assert "must not" in (subtrees.problem(certificate(GeneralNames(dns=("a.secret.example.com",)))) or "")


def test_no_addresses_at_all() -> None:
    """As `--permit-domain` writes it: addresses are excluded."""
    subtrees = Subtrees()
    subtrees.add(excluded(ips=("0.0.0.0/0", "::/0")))
    assert "192.0.2.1" in (subtrees.problem(certificate(GeneralNames(ips=("192.0.2.1",)))) or "")
    assert subtrees.problem(certificate(GeneralNames(ips=("2001:db8::1",)))) is not None
    assert subtrees.problem(certificate(GeneralNames(dns=("a.test",)))) is None


def test_the_email_in_a_subject_counts_where_there_is_no_other() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "ann@evil.test")]).public_bytes()
    subtrees = Subtrees()
    subtrees.add(permitted(emails=("example.com",)))
    assert "ann@evil.test" in (subtrees.problem(certificate(GeneralNames())._replace(subject=name)) or "")
    assert subtrees.problem(certificate(GeneralNames(emails=("ann@example.com",)))._replace(subject=name)) is None


def test_kinds_that_are_not_compared_are_refused_under_a_constraint() -> None:
    other = ("1.2.3.4", b"\x0c\x01x")
    named = certificate(GeneralNames(others=(other,)))
    subtrees = Subtrees()
    subtrees.add(permitted(dns=("example.com",)))
    assert subtrees.problem(named) is None
    subtrees.add(Constraints(GeneralNames(), GeneralNames(others=(other,))))
    assert "1.2.3.4" in (subtrees.problem(named) or "")


def test_an_internationalised_mailbox_does_not_slip_past_an_email_constraint() -> None:
    mailbox = ("1.3.6.1.5.5.7.8.9", b"\x0c\x01x")
    subtrees = Subtrees()
    subtrees.add(permitted(emails=("example.com",)))
    assert subtrees.problem(certificate(GeneralNames(others=(mailbox,)))) is not None


def test_distinguished_names_begin_with_the_base() -> None:
    def name(*parts: str) -> bytes:
        return x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, part) for part in parts]).public_bytes()

    subtrees = Subtrees()
    subtrees.add(Constraints(GeneralNames(directory=(name("People"),)), GeneralNames(directory=(name("people", "guests"),))))
    ann = certificate(GeneralNames())
    assert subtrees.problem(ann._replace(subject=name("PEOPLE", "ann"))) is None
    assert subtrees.problem(ann._replace(subject=name("people"))) is None
    assert subtrees.problem(ann._replace(subject=name("ann", "people"))) is not None
    assert subtrees.problem(ann._replace(subject=name("people", "guests", "bob"))) is not None
    assert subtrees.problem(ann._replace(subject=name())) is None


def test_work_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "MOST_COMPARISONS", 1000)
    subtrees = Subtrees()
    subtrees.add(excluded(dns=tuple(f"a{n}.test" for n in range(40))))
    with pytest.raises(Refused) as caught:
        subtrees.problem(certificate(GeneralNames(dns=tuple(f"b{n}.test" for n in range(40)))))
    assert caught.value.code == "too-complex"


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_addresses_as_the_standard_library_sees_them(base: ipaddress.IPv4Address, prefix: int, address: ipaddress.IPv4Address) -> None:
    network = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    assert constraints._ip_inside(str(network), str(address), False) is (address in network)


LABELS = st.text("abc", min_size=1, max_size=2)


@given(st.lists(LABELS, min_size=1, max_size=4), st.lists(LABELS, min_size=1, max_size=3))
def test_hosts_by_labels(name: list[str], base: list[str]) -> None:
    assert constraints._dns_inside(".".join(base), ".".join(name), False) is (name[-len(base) :] == base)
