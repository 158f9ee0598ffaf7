"""The texts of the bundle: one key per server and certificate, none twice, and nothing from outside writes a line. The servers judge in tests/webserver."""

from __future__ import annotations

import hashlib
import json
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.model import bundle, headers
from gatekey.model.bundle import Denied, Known

DN = "CN=kitty-ca people"
ODD = r"CN=\#k\\ \"x\" a\, b\+c\; \<d\> $e {f},O=K\C3\A4se"
SERIAL = "0A" + "1B" * 15


def lines(text: str) -> list[str]:
    """All but the first line, which is the comment."""
    assert text.startswith("# ")
    assert text.endswith("\n")
    return text.splitlines()[1:]


def test_keys_of_each_server() -> None:
    denied = [Denied(DN, SERIAL)]
    assert lines(bundle.revoked_map(denied)) == [f'"{SERIAL} CN=kitty-ca people" 1;']
    assert lines(bundle.revoked_txt(denied)) == ["present 0", f"{SERIAL}_CN=kitty-ca%20people 1"]
    assert lines(bundle.revoked_lst(denied)) == [f"{SERIAL}%20CN%3Dkitty-ca%20people"]
    assert lines(bundle.revoked_caddy(denied)) == [f'"{int(SERIAL, 16)} CN=kitty-ca people" 1']
    assert lines(bundle.issuers_map([DN])) == ['"CN=kitty-ca people" 1;']
    assert lines(bundle.issuers_txt([DN])) == ["CN=kitty-ca%20people 1"]
    assert lines(bundle.issuers_lst([DN])) == ["CN%3Dkitty-ca%20people"]
    assert lines(bundle.issuers_caddy([DN])) == ['"CN=kitty-ca people" 1']


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("0" * 30 + "0A", "0A"), ("0" * 29 + "100", "0100"), ("FF00FF", "FF00FF"), ("0" * 32, "00"), (SERIAL, SERIAL), ("ff" * 20, "FF" * 20), ("7", "07")],
)
def test_serials_as_servers_print_them(ours: str, theirs: str) -> None:
    assert bundle.server_serial(ours) == theirs


def test_escapes() -> None:
    assert bundle.nginx_key(ODD, "0A") == r"0A CN=\\#k\\\\ \\\"x\\\" a\\, b\\+c\\; \\<d\\> $e {f},O=K\\C3\\A4se"
    with_semicolon = "0A_CN=%5c%23k%5c%5c%20%5c%22x%5c%22%20a%5c,%20b%5c+c%5c;%20%5c%3cd%5c%3e%20$e%20%7bf%7d,O=K%c3%a4se"
    assert bundle.apache_keys(ODD, "0A") == (with_semicolon, with_semicolon.replace(";", "%3b"))
    assert bundle.haproxy_key(ODD, "0A") == quote("0A " + ODD, safe="")


def test_a_name_that_caddy_cannot_be_told_shuts_rather_than_opens() -> None:
    assert lines(bundle.revoked_caddy([Denied(ODD, "0A")])) == ['"~^10 " 1']
    assert lines(bundle.issuers_caddy([ODD])) == []
    assert lines(bundle.people_caddy([Known(ODD, "people", "0A", "", "ann")])) == []


GO_NAMES = {
    DN: DN,
    r"CN=K\C3\A4se": "CN=Käse",
    r"CN=a\, b,O=c": r"CN=a\, b,O=c",
    "C=AT,O=o,CN=cn": "CN=cn,O=o,C=AT",
    "OU=two,OU=one,CN=cn": "CN=cn,OU=one+OU=two",
    "emailAddress=a@b.c,CN=cn": "CN=cn,1.2.840.113549.1.9.1=#0c056140622e63",
    "CN=cn,DC=example,DC=com": "CN=cn,0.9.2342.19200300.100.1.25=#13076578616d706c65,0.9.2342.19200300.100.1.25=#1303636f6d",
}


@pytest.mark.parametrize(("dn", "go"), GO_NAMES.items())
def test_names_as_go_prints_them(dn: str, go: str) -> None:
    assert lines(bundle.issuers_caddy([dn])) == [f'"{go}" 1']


@pytest.mark.parametrize("dn", ["CN=a+O=b", "title=x,CN=a", r"CN=a\0Ab", "CN=a,CN=b", r"CN=\FF\FE", "CN={$HOME}"])
def test_names_that_are_not_certain(dn: str) -> None:
    assert lines(bundle.issuers_caddy([dn])) == []


@pytest.mark.parametrize("dn", ["", "CN=ä", "CN=a\n", "CN=\x00", "CN=a\tb"])
def test_what_openssl_would_not_print_is_refused(dn: str) -> None:
    for made in (bundle.revoked_map, bundle.revoked_txt, bundle.revoked_lst, bundle.revoked_caddy):
        with pytest.raises(Malformed) as caught:
            made([Denied(dn, SERIAL)])
        assert caught.value.code == "bad-issuer-name"


def test_doubles_stand_once() -> None:
    twice = [Denied(DN, SERIAL), Denied(DN, SERIAL), Denied(DN.upper(), SERIAL)]
    assert len(lines(bundle.revoked_map(twice))) == 1  # nginx compares without case, and refuses to start over two
    assert len(lines(bundle.revoked_lst(twice))) == 2
    assert len(lines(bundle.revoked_txt(twice))) == 3


def test_nobody_gets_anothers_name() -> None:
    """Two issuers whose names nginx cannot tell apart, and one serial: neither is named. Elsewhere both keep their own."""
    two = [Known(DN, "people", SERIAL, "", "ann"), Known(DN.upper(), "other", SERIAL, "", "bob")]
    assert lines(bundle.people_map(two)) == []
    assert len(lines(bundle.people_lst(two))) == 2
    same = [Known(DN, "people", SERIAL, "", "ann"), Known(DN, "people", SERIAL, "", "bob")]
    assert lines(bundle.people_lst(same)) == lines(bundle.people_txt(same)) == lines(bundle.people_caddy(same)) == []


ANN = Known(DN, "people", SERIAL, "AB" * 32, "ann b", 'Änn "$x"; \n', "a+b$@example.com", ("staff", "a, b"), "phone", 86400)


def test_who_is_who() -> None:
    fields = "staff,a%2C%20b;a+b%24@example.com;%C3%84nn%20%22%24x%22%3B%20%0A;phone"
    assert lines(bundle.people_map([ANN])) == [f'"{SERIAL} {DN}" "ann b;{fields}";']
    assert lines(bundle.people_txt([ANN])) == [f"{SERIAL}_CN=kitty-ca%20people ann%20b;{fields}"]
    assert lines(bundle.people_lst([ANN])) == [f"{SERIAL}%20CN%3Dkitty-ca%20people ann%20b;{fields}"]
    quoted = " ".join(f'"{field}"' for field in fields.split(";"))
    assert lines(bundle.people_caddy([ANN])) == [f'"{int(SERIAL, 16)} {DN}" "ann b" {quoted}']


def test_people_json() -> None:
    read = json.loads(bundle.people_json([ANN], 1_800_000_000))
    assert (read["version"], read["made_at"]) == (1, "2027-01-15T08:00:00Z")
    [person] = read["people"]
    assert person["name"] == ANN.name
    assert person["groups"] == ["staff", "a, b"]
    assert person["not_after"] == "1970-01-02T00:00:00Z"
    assert set(person) == {"issuer_dn", "issuer", "serial", "fingerprint", "login", "name", "email", "groups", "device", "not_after"}
    assert json.loads(bundle.people_json([], 0))["people"] == []


def test_manifest() -> None:
    read = json.loads(bundle.manifest(7, 0, 86400, {"b": b"2", "a": b""}))
    assert read == {
        "version": 1,
        "number": 7,
        "made_at": "1970-01-01T00:00:00Z",
        "fresh_until": "1970-01-02T00:00:00Z",
        "files": {"a": {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}, "b": {"sha256": hashlib.sha256(b"2").hexdigest(), "size": 1}},
    }


def test_without_authorities_caddy_is_told_a_word_that_it_does_not_take() -> None:
    assert lines(bundle.trust_caddy([])) == ["trusted_ca_cert NOBODY"]
    assert lines(bundle.trust_caddy([b"abc", b"d"])) == ["trusted_ca_cert YWJj", "trusted_ca_cert ZA=="]


def test_the_same_in_any_order() -> None:
    denied = [Denied(DN, f"{i:032X}") for i in range(20)]
    known = [ANN._replace(serial=f"{i:032X}") for i in range(20)]
    assert bundle.texts(denied, known, [DN, ODD], 1) == bundle.texts(reversed(denied), reversed(known), [ODD, DN], 1)


@given(st.text(max_size=40))
def test_encode_is_undone_and_fits_everywhere(text: str) -> None:
    encoded = headers.encode(text)
    assert re.fullmatch(r"[A-Za-z0-9\-._~@+%]*", encoded)
    assert unquote(encoded, errors="strict") == text


printable = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
anything = st.text(max_size=20)


@given(printable, anything, anything, anything, st.lists(anything, max_size=3), anything)
def test_nothing_from_outside_writes_a_line(dn: str, login: str, name: str, email: str, groups: list[str], device: str) -> None:
    made = bundle.texts([Denied(dn, SERIAL)], [Known(dn, "people", SERIAL, "", login, name, email, tuple(groups), device)], [dn], 1)
    for file, text in made.items():
        if file == "people.json":
            assert len(json.loads(text)["people"]) == 1
            continue
        assert len(text.split("\n")) <= 4 + (file == "revoked.txt"), file  # comment, one line (Apache: two for a semicolon), nothing
        body = text.partition("\n")[2]
        if file.endswith(".map"):
            strings = re.findall(r'"((?:\\.|[^"\\])*)"', body)
            assert re.sub(r'"(?:\\.|[^"\\])*"', "", body).strip() in ("", "1;", ";"), file
            assert not re.search(r"[$\\\"]", strings[1]) if file == "people.map" else len(strings) == 1
        if file.endswith((".lst", ".txt")):
            assert all(len(line.split(" ")) <= 2 for line in body.splitlines()), file


@given(printable, printable)
def test_two_issuers_never_share_a_key(one: str, two: str) -> None:
    if one.lower() == two.lower():
        return
    assert bundle.nginx_key(one, SERIAL) != bundle.nginx_key(two, SERIAL)
    assert bundle.haproxy_key(one, SERIAL) != bundle.haproxy_key(two, SERIAL)


def test_the_names_of_headers_are_those_of_the_middleware() -> None:
    from gatekey.identity import headers as read

    for name in ("USER", "NAME", "EMAIL", "GROUPS", "DEVICE", "SERIAL", "ISSUER", "VERIFY", "CERT", "CLIENT_CERT", "CLIENT_CERT_CHAIN", "SECRET"):
        assert getattr(read, name) == getattr(headers, name).lower()
    assert {name.lower() for name in headers.STRIPPED} >= set(read.PROTECTED)
