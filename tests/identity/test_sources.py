from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Misconfigured
from gatekey.identity import headers as h
from gatekey.identity.sources import MOD_SSL_NAMES, SOURCES, Claim, certificate_header, source_called
from gatekey.model.headers import encode
from kit.house import ISSUER, House, escaped_pem, nginx_says


def read(source: str, said: dict[str, str]) -> Claim | None:
    return SOURCES[source].read({name.lower(): value for name, value in said.items()})


def refused(source: str, said: dict[str, str]) -> str:
    with pytest.raises(Malformed) as problem:
        read(source, said)
    assert problem.value.code in {"identity-malformed", "identity-contradiction"}
    return problem.value.message


# What gatekey's own configurations say


def test_everything_that_a_configuration_of_ours_says_is_read(house: House) -> None:
    said = {
        **nginx_says(house.ann),
        "X-Client-User": "ann",
        "X-Client-Name": encode("Änn Öberg, 猫; 100%"),
        "X-Client-Email": encode("ann+x@example.com"),
        "X-Client-Groups": ",".join(encode(group) for group in ("staff", "büro, 2")),
        "X-Client-Device": encode("laptop 2"),
    }
    claim = Claim(
        "x-client-cert", house.ann.der, "", house.ann.serial, ISSUER, "ann", "Änn Öberg, 猫; 100%", "ann+x@example.com", ("staff", "büro, 2"), "laptop 2"
    )
    assert read("gatekey", said) == read("nginx", said) == claim


def test_a_certificate_may_also_come_as_rfc_9440_has_it(house: House) -> None:
    said = {"X-Client-Verify": "SUCCESS", "Client-Cert": f":{base64.b64encode(house.ann.der).decode()}:"}
    for source in ("gatekey", "haproxy", "caddy"):
        claim = read(source, said)
        assert claim is not None
        assert claim.certificate == house.ann.der
    assert read("nginx", said) is None  # nginx cannot write it: somebody else did
    assert "both" in refused("gatekey", {**said, "X-Client-Cert": escaped_pem(house.ann)})


@pytest.mark.parametrize("verify", [None, "", "NONE", "FAILED:certificate has expired", "GENEROUS", "success", "SUCCESS ", "0", "SUCCESS,SUCCESS"])
def test_without_the_word_of_success_there_is_nobody(house: House, verify: str | None) -> None:
    said = {"X-Client-User": "ann", **nginx_says(house.ann)}
    said.pop("X-Client-Verify")
    assert read("gatekey", said if verify is None else {**said, "X-Client-Verify": verify}) is None


def test_success_alone_is_nobody() -> None:
    assert read("gatekey", {"X-Client-Verify": "SUCCESS"}) is None
    assert read("gatekey", {"X-Client-Verify": "SUCCESS", "X-Client-User": "", "X-Client-Cert": ""}) is None


def test_groups_that_nobody_spoke_of_are_not_known() -> None:
    said = {"X-Client-Verify": "SUCCESS", "X-Client-User": "ann"}
    claims = [read("gatekey", {**said, **more}) for more in ({}, {"X-Client-Groups": ""}, {"X-Client-Groups": "a"})]
    assert [claim.groups for claim in claims if claim] == [None, None, ("a",)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Client-User", "ann,admin"),
        ("X-Client-User", "ann, admin"),
        ("X-Client-User", "ann\t"),
        ("X-Client-User", " ann"),
        ("X-Client-User", "änn"),
        ("X-Client-User", "ann\0"),
        ("X-Client-User", "ann%0Aadmin"),
        ("X-Client-User", "ann%2Cadmin"),
        ("X-Client-User", "ann%"),
        ("X-Client-User", "ann%zz"),
        ("X-Client-User", "ann%FF"),
        ("X-Client-User", "a" * 65),
        ("X-Client-Name", "Ã¤nn"),
        ("X-Client-Name", "%00"),
        ("X-Client-Name", "%E2%80%AE"),
        ("X-Client-Name", "n" * 2049),
        ("X-Client-Email", "a%ZZ@example.com"),
        ("X-Client-Device", "\x7f"),
        ("X-Client-Groups", "a,,b"),
        ("X-Client-Groups", ","),
        ("X-Client-Groups", "a," * 600 + "a"),
        ("X-Client-Groups", "a%2"),
        ("X-Client-Serial", "XYZ"),
        ("X-Client-Serial", "-1A"),
        ("X-Client-Serial", "0x1A"),
        ("X-Client-Serial", "1A,1A"),
        ("X-Client-Serial", " 1A"),
        ("X-Client-Serial", "1_A"),
        ("X-Client-Serial", "١"),
        ("X-Client-Serial", "1" * 43),
        ("X-Client-Issuer", "CN=a\nb"),
        ("X-Client-Issuer", "C" * 2049),
        ("X-Client-Cert", "rubbish"),
    ],
)
def test_a_value_that_cannot_be_is_malformed(name: str, value: str) -> None:
    assert name.lower() in refused("gatekey", {"X-Client-Verify": "SUCCESS", "X-Client-User": "ann", name: value})


def test_serial_and_issuer_come_in_one_form_whatever_the_server() -> None:
    said = {"X-Client-Verify": "SUCCESS", "X-Client-Serial": "0a1b", "X-Client-Issuer": "CN=K\xc3\xa4tzchen\\, CA"}
    claim = read("gatekey", said)
    assert claim is not None
    assert (claim.serial, claim.issuer) == (f"{0x0A1B:032X}", r"CN=K\C3\A4tzchen\, CA")


# RFC 9440


def test_rfc_9440_with_and_without_a_chain(house: House) -> None:
    said = {"Client-Cert": f":{base64.b64encode(house.ann.der).decode()}:"}
    chain = ", ".join(f":{base64.b64encode(der).decode()}:" for der in (house.pki.issuing.pem, house.bob.der))
    for more in ({}, {"Client-Cert-Chain": chain}, {"Client-Cert-Chain": ":QUJD:,:QUJD:"}):
        assert read("rfc9440", {**said, **more}) == Claim("client-cert", house.ann.der)
    assert read("rfc9440", {}) is None
    assert "came without" in refused("rfc9440", {"Client-Cert-Chain": chain})
    for wrong in ("rubbish", ":QUJD:,", ":QUJD:;q=1", ",", ":QUJD: :QUJD:"):
        refused("rfc9440", {**said, "Client-Cert-Chain": wrong})


def test_nginx_escaped_pem_is_not_rfc_9440(house: House) -> None:
    assert "RFC 9440" in refused("rfc9440", {"Client-Cert": escaped_pem(house.ann)})


@pytest.mark.parametrize("nothing", ["", "::", ":{http.request.tls.client.certificate_der_base64}:", "{http.request.tls.client.certificate_der_base64}"])
def test_how_servers_say_that_there_is_no_certificate(nothing: str) -> None:
    assert read("rfc9440", {"Client-Cert": nothing}) is None
    assert read("haproxy", {"X-Client-Verify": "SUCCESS", "Client-Cert": nothing}) is None
    assert certificate_header("X-Cert").read({"x-cert": nothing}) is None


# Apache


def test_apache_under_its_own_names(house: House) -> None:
    said = {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_CERT": house.ann.certificate_pem.decode().replace("\n", " "),
        "SSL_CLIENT_M_SERIAL": house.ann.serial,
        "SSL_CLIENT_I_DN": ISSUER,
        "SSL_CLIENT_S_DN_CN": "ann",
    }
    assert read("mod_ssl", said) == Claim("ssl_client_cert", house.ann.der, "", house.ann.serial, ISSUER, "ann")
    assert read("mod_ssl", {**said, "SSL_CLIENT_CERT": "(null)"}) == Claim("ssl_client_cert", b"", "", house.ann.serial, ISSUER, "ann")
    assert read("mod_ssl", {**dict.fromkeys(said, "(null)"), "SSL_CLIENT_VERIFY": "NONE"}) is None
    assert read("mod_ssl", dict.fromkeys(said, "(null)")) is None
    assert read("mod_ssl", {"SSL_CLIENT_VERIFY": "SUCCESS"}) is None


# Traefik


def info(**fields: str) -> str:
    return quote_plus(";".join(f'{key}="{value}"' for key, value in fields.items()))


def test_traefik_with_the_certificate(house: House) -> None:
    plain = base64.b64encode(house.ann.der).decode()
    for value in (plain, quote(plain, safe=""), f"{plain},{base64.b64encode(house.bob.der).decode()}"):
        claim = read("traefik", {"X-Forwarded-Tls-Client-Cert": value})
        assert claim == Claim("x-forwarded-tls-client-cert", house.ann.der)
    assert read("traefik", {}) is None


def test_traefik_with_information_only(house: House) -> None:
    number = str(int(house.ann.serial, 16))
    text = info(Subject="CN=ann", Issuer="CN=kitty-ca people", SerialNumber=number, NB="1", NA="2", SAN="ann@example.com")
    claim = Claim("x-forwarded-tls-client-cert-info", serial=house.ann.serial, issuer=ISSUER)
    assert read("traefik", {"X-Forwarded-Tls-Client-Cert-Info": text}) == claim
    chain = text + quote_plus(',Subject="CN=kitty-ca people";SerialNumber="7"')
    assert read("traefik", {"X-Forwarded-Tls-Client-Cert-Info": chain}) == claim


def test_a_name_cannot_write_fields_into_traefiks_information() -> None:
    # A subject of somebody who calls himself `ann";SerialNumber="7`; Traefik escapes nothing.
    forged = info(Subject='CN=ann";Issuer="CN=kitty-ca people";SerialNumber="7', Issuer="CN=mallory", SerialNumber="8")
    assert "twice" in refused("traefik", {"X-Forwarded-Tls-Client-Cert-Info": forged})


@pytest.mark.parametrize(
    "text",
    [
        "rubbish", 'SerialNumber="7"', 'Issuer="CN=x"', 'Issuer="CN=x";SerialNumber="seven"', 'Issuer="CN=x";SerialNumber="-7"',
        'Issuer="CN=x";SerialNumber="７"',
        'Issuer="CN=x";SerialNumber=7', 'Issuer="CN=x"SerialNumber="7"', 'Issuer="";SerialNumber="7"', '="7"', 'Issuer="CN=x";SerialNumber="7', "%",
        'Issuer="CN=x";SerialNumber="' + "7" * 51 + '"',
    ],
)  # fmt: skip
def test_traefiks_information_that_cannot_be(text: str) -> None:
    refused("traefik", {"X-Forwarded-Tls-Client-Cert-Info": text if text == "%" else quote_plus(text)})


# Envoy


def xfcc(house: House, *more: str) -> str:
    return ";".join([f"By=spiffe://x/y;Hash={house.ann.fingerprint.lower()}", f'Cert="{quote(house.ann.certificate_pem.decode(), safe="-")}"', *more])


def test_envoy(house: House) -> None:
    claim = Claim("x-forwarded-client-cert", house.ann.der, house.ann.fingerprint)
    for more in ((), (r'Subject="CN=ann\",\\"',), ("URI=spiffe://x/ann", "DNS=a.test", "DNS=b.test"), ('Chain="x"', 'Subject=""')):
        assert read("envoy", {"X-Forwarded-Client-Cert": xfcc(house, *more)}) == claim
    assert read("envoy", {"X-Forwarded-Client-Cert": f"Hash={house.ann.fingerprint}"}) == Claim("x-forwarded-client-cert", fingerprint=house.ann.fingerprint)
    assert read("envoy", {}) is None


def test_envoy_must_not_append_to_what_others_said(house: House) -> None:
    assert "several elements" in refused("envoy", {"X-Forwarded-Client-Cert": f"Hash={'0' * 64},{xfcc(house)}"})
    assert "several elements" in refused("envoy", {"X-Forwarded-Client-Cert": f"{xfcc(house)},{xfcc(house)}"})


@pytest.mark.parametrize(
    "value",
    [
        "rubbish", "=", ";", "Hash", "Hash=", "Hash=00", "Hash=" + "g" * 64, "Cert=", 'Cert="', 'Cert="x', 'Cert="x"y', 'Cert="%"', "Subject=x",
        'By=x;Hash="' + "0" * 64,
        "Hash=" + "0" * 64 + ";Hash=" + "1" * 64, "hash=" + "0" * 64 + ";Hash=" + "1" * 64, 'URI=a"b;Hash=' + "0" * 64, r'Subject="x\";Hash=' + "0" * 64, ",",
    ],
)  # fmt: skip
def test_an_xfcc_that_cannot_be(value: str) -> None:
    refused("envoy", {"X-Forwarded-Client-Cert": value})


def test_an_uri_in_a_certificate_cannot_write_fields(house: House) -> None:
    # Envoy does not quote URI: a certificate for spiffe://x;Cert="..." would speak for another one.
    forged = xfcc(house, f'URI=spiffe://x;Cert="{escaped_pem(house.bob)}"')
    assert "twice" in refused("envoy", {"X-Forwarded-Client-Cert": forged})


# Configurations of one's own


def test_a_certificate_header_of_ones_own(house: House) -> None:
    source = certificate_header("X-My-Cert", "X-My-Verify", good="0")
    assert source.names == ("x-my-cert", "x-my-verify")
    assert source.read({"x-my-cert": escaped_pem(house.ann), "x-my-verify": "0"}) == Claim("x-my-cert", house.ann.der)
    assert source.read({"x-my-cert": escaped_pem(house.ann), "x-my-verify": "7"}) is None
    assert source.read({"x-my-cert": escaped_pem(house.ann)}) is None
    assert source.read({"x-my-verify": "0"}) is None
    said = {"ssl-client-cert": escaped_pem(house.ann), "ssl-client-verify": "SUCCESS"}
    assert read("ingress-nginx", said) == Claim("ssl-client-cert", house.ann.der)


def test_the_names_of_sources_are_listed_when_one_is_wrong() -> None:
    with pytest.raises(Misconfigured, match="gatekey, nginx, apache, haproxy"):
        source_called("ngnix")


# Anything at all

NASTY = st.one_of(
    st.text(st.characters(max_codepoint=255), max_size=60),
    st.text(alphabet='abcHashCertSubjectSerialNumberIssuer="\\;,:%20+/-0123456789', max_size=80),
    st.sampled_from(["SUCCESS", "NONE", "::", "(null)", "ann", "Hash=" + "0" * 64, 'Issuer="CN=x";SerialNumber="7"', ":QUJD:", ""]),
)


@given(st.sampled_from(sorted(SOURCES)), st.data())
def test_no_header_crashes_a_reader(name: str, data: st.DataObject) -> None:
    source = SOURCES[name]
    said = data.draw(st.dictionaries(st.sampled_from(source.names or (h.USER,)), NASTY))
    if data.draw(st.booleans()):
        said |= {one: "SUCCESS" for one in (h.VERIFY, MOD_SSL_NAMES[0], "ssl-client-verify") if one in source.names}
    try:
        claim = source.read(said)
    except GatekeyError as problem:
        assert isinstance(problem, Malformed)
        return
    if claim is not None:
        assert claim.certificate or claim.login or claim.serial or claim.fingerprint
        assert claim.login.isprintable()
        assert len(claim.login) <= 64
