from __future__ import annotations

import base64
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed, Misconfigured, Refused
from gatekey.identity import NOBODY, Client, Doorman, Secret, certificate_header
from gatekey.identity.trust import Peer
from gatekey.model.headers import encode
from kit.house import ISSUER, House, nginx_says

SOCKET, STRANGER = Peer(unix=True), Peer("192.0.2.7")


def who(doorman: Doorman, said: dict[str, str], peer: Peer = SOCKET) -> Client:
    return doorman.identify({name.lower(): value for name, value in said.items()}, peer)


def refused(doorman: Doorman, said: dict[str, str], peer: Peer = SOCKET) -> GatekeyError:
    with pytest.raises((Refused, Malformed)) as problem:
        who(doorman, said, peer)
    return problem.value


def test_without_a_bundle_the_certificate_says_who_it_is(house: House) -> None:
    client = who(Doorman(trust="unix"), nginx_says(house.ann))
    assert client == Client("ann", "", "ann@example.com", None, house.ann.serial, ISSUER, "", True)
    assert client
    assert client.display == "ann"
    assert not client.in_group("staff")


def test_the_bundle_knows_more(house: House) -> None:
    client = who(Doorman(trust="unix", bundle=house.bundle), nginx_says(house.ann))
    assert client == Client("ann", "Änn Öberg", "ann@example.com", ("staff", "büro 2"), house.ann.serial, ISSUER, "laptop", True)
    assert client.display == "Änn Öberg"
    assert client.in_group("books", "büro 2")
    assert not client.in_group("books")
    assert not client.in_group()


def test_without_a_certificate_issuer_and_serial_find_the_person(house: House) -> None:
    said = {"X-Client-Verify": "SUCCESS", "X-Client-Serial": house.ann.serial, "X-Client-Issuer": ISSUER}
    doorman = Doorman(trust="unix", bundle=house.bundle)
    assert who(doorman, said).name == "Änn Öberg"
    assert who(doorman, {**said, "X-Client-User": "ann"}).name == "Änn Öberg"
    # The same serial under another issuer is another certificate.
    other = who(doorman, {**said, "X-Client-Issuer": "CN=mallory", "X-Client-User": "ann"})
    assert (other.name, other.groups, other.issuer) == ("", None, "CN=mallory")
    assert refused(doorman, {**said, "X-Client-Issuer": "CN=mallory"}).code == "identity-nobody"


def test_the_web_servers_own_map_is_enough(house: House) -> None:
    said = {
        "X-Client-Verify": "SUCCESS", "X-Client-User": "ann", "X-Client-Name": encode("Änn"), "X-Client-Email": "ann@example.com", "X-Client-Groups": "staff",
        "X-Client-Serial": house.ann.serial, "X-Client-Issuer": ISSUER, "X-Client-Device": "laptop",
    }  # fmt: skip
    assert who(Doorman(trust="unix"), said) == Client("ann", "Änn", "ann@example.com", ("staff",), house.ann.serial, ISSUER, "laptop", True)


def test_a_foreign_authority_of_the_same_name_borrows_nobody(house: House) -> None:
    mallory = house.pki.foreign().client("ann")
    client = who(Doorman(trust="unix", bundle=house.bundle), nginx_says(mallory))
    assert (client.name, client.groups) == ("", None)


def test_who_nobody_vouches_for_is_nobody(house: House) -> None:
    said = nginx_says(house.ann)
    strict, open_ = Doorman(trust="unix"), Doorman(trust="unix", anonymous=True)
    assert refused(strict, said, STRANGER).code == "identity-nobody"
    assert refused(strict, {}).code == "identity-nobody"
    for claims, peer in ((said, STRANGER), ({}, SOCKET), ({**said, "X-Client-Verify": "NONE"}, SOCKET), (said, Peer())):
        client = who(open_, claims, peer)
        assert client is NOBODY
        assert not client


def test_the_secret_must_come_along(house: House) -> None:
    doorman = Doorman(trust=["unix", Secret("correct-horse-battery")], anonymous=True)
    said = nginx_says(house.ann)
    assert not who(doorman, said)
    assert not who(doorman, {**said, "X-Gatekey-Secret": "correct-horse-batterx"})
    assert who(doorman, {**said, "X-Gatekey-Secret": "correct-horse-battery"}).login == "ann"
    assert not who(doorman, {**said, "X-Gatekey-Secret": "correct-horse-battery"}, STRANGER)


def test_parts_that_name_different_clients_are_refused(house: House) -> None:
    said = nginx_says(house.ann)
    plain, knowing = Doorman(trust="unix"), Doorman(trust="unix", bundle=house.bundle)
    for doorman in (plain, knowing):
        for wrong in ({"X-Client-Serial": house.bob.serial}, {"X-Client-User": "bob"}, {"X-Client-User": "admin"}):
            problem = refused(doorman, {**said, **wrong})
            assert (problem.code, type(problem)) == ("identity-contradiction", Malformed)
    # Without a certificate people.json says whose number it is.
    number = {"X-Client-Verify": "SUCCESS", "X-Client-Serial": house.ann.serial, "X-Client-Issuer": ISSUER, "X-Client-User": "bob"}
    assert refused(knowing, number).code == "identity-contradiction"
    envoy = Doorman(trust="unix", source="envoy")
    forged = f"Hash={house.bob.fingerprint};Cert=\"{said['X-Client-Cert']}\""
    assert refused(envoy, {"X-Forwarded-Client-Cert": forged}).code == "identity-contradiction"
    serial = f'Issuer="{ISSUER}";SerialNumber="{int(house.bob.serial, 16)}"'.replace("=", "%3D").replace('"', "%22").replace(" ", "+")
    both = {"X-Forwarded-Tls-Client-Cert": base64.b64encode(house.ann.der).decode(), "X-Forwarded-Tls-Client-Cert-Info": serial}
    assert refused(Doorman(trust="unix", source="traefik"), both).code == "identity-contradiction"


def test_what_is_known_by_hash_or_number_only_needs_the_bundle(house: House) -> None:
    said = {"X-Forwarded-Client-Cert": f"Hash={house.ann.fingerprint.lower()}"}
    assert who(Doorman(trust="unix", source="envoy", bundle=house.bundle), said).name == "Änn Öberg"
    assert refused(Doorman(trust="unix", source="envoy"), said).code == "identity-nobody"
    assert refused(Doorman(trust="unix", source="envoy", bundle=house.bundle), {"X-Forwarded-Client-Cert": "Hash=" + "0" * 64}).code == "identity-nobody"
    number = f'Issuer="{ISSUER}";SerialNumber="{int(house.ann.serial, 16)}"'.replace(" ", "+")
    assert who(Doorman(trust="unix", source="traefik", bundle=house.bundle), {"X-Forwarded-Tls-Client-Cert-Info": number}).login == "ann"
    assert refused(Doorman(trust="unix", source="traefik"), {"X-Forwarded-Tls-Client-Cert-Info": number}).code == "identity-nobody"


def test_the_dates_count_at_each_request(house: House) -> None:
    now = [float(house.pki.now)]
    doorman = Doorman(trust="unix", clock=lambda: now[0])
    said = nginx_says(house.ann)
    assert who(doorman, said)
    for moment in (house.pki.now + 31 * 86400, house.pki.now - 7200):
        now[0] = moment
        assert refused(doorman, said).code == "identity-expired"
    now[0] = house.pki.now
    assert who(doorman, said)


def test_people_json_knows_the_last_day_where_no_certificate_came(house: House) -> None:
    house.known = [house.person(house.ann, not_after=house.pki.now - 1)]
    house.write()
    said = {"X-Client-Verify": "SUCCESS", "X-Client-Serial": house.ann.serial, "X-Client-Issuer": ISSUER}
    assert refused(Doorman(trust="unix", bundle=house.bundle), said).code == "identity-expired"


def test_the_deny_list_counts_from_the_next_request_on(house: House) -> None:
    doorman, lax = Doorman(trust="unix", bundle=house.bundle), Doorman(trust="unix", bundle=house.bundle, deny=False)
    by_number = {"X-Client-Verify": "SUCCESS", "X-Client-Serial": house.ann.serial, "X-Client-Issuer": ISSUER, "X-Client-User": "ann"}
    client = who(doorman, nginx_says(house.ann))
    assert doorman.still_welcome(client)
    house.revoke(house.ann)
    without_issuer = {**by_number, "X-Client-Issuer": ""}
    for said in (nginx_says(house.ann), by_number, without_issuer):
        problem = refused(doorman, said)
        assert (problem.code, type(problem)) == ("identity-denied", Refused)
    assert not doorman.still_welcome(client)
    assert who(doorman, nginx_says(house.bob)).login == "bob"
    assert who(lax, nginx_says(house.ann)).login == "ann"
    assert lax.still_welcome(client)
    house.denied.clear()
    house.write()
    assert who(doorman, nginx_says(house.ann)).login == "ann"
    assert doorman.still_welcome(NOBODY)


def test_a_login_without_a_number_cannot_be_denied_and_that_is_said(house: House, caplog: pytest.LogCaptureFixture) -> None:
    doorman = Doorman(trust="unix", bundle=house.bundle)
    for _ in range(3):
        assert who(doorman, {"X-Client-Verify": "SUCCESS", "X-Client-User": "ann"})
    assert [record.message for record in caplog.records] == ["the web server does not say the serial number; the deny list cannot be asked"]


def test_strangers_with_claims_are_noted_once_each(house: House, caplog: pytest.LogCaptureFixture) -> None:
    doorman = Doorman(trust="unix", anonymous=True)
    with caplog.at_level(logging.WARNING, "gatekey.identity"):
        for i in range(300):
            for _ in range(2):
                who(doorman, nginx_says(house.ann), Peer(f"192.0.2.{i}"))
        who(doorman, {"Remote-User": "x"}, Peer("198.51.100.1"))  # a browser extension, not a wrong trust
    assert len(caplog.records) == 100
    assert "'192.0.2.0' were removed" in caplog.records[0].message
    with caplog.at_level(logging.WARNING, "gatekey.identity"):
        who(Doorman(trust="unix", anonymous=True), nginx_says(house.ann), Peer("1.2.3.4\n\x1b[2Jroot logged in" + "x" * 500))
    assert "\n" not in caplog.records[-1].message
    assert len(caplog.records[-1].message) < 300


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "nobody is named"),
        ({"trust": ()}, "nobody is named"),
        ({"trust": "unix", "source": "ngnix"}, "no source"),
        ({"trust": "unix", "source": "tls"}, "needs no trust"),
        ({"trust": "unix", "source": "mod_wsgi"}, "needs no trust"),
        ({"trust": "unix", "bundle": "/nowhere"}, "people.json"),
        ({"trust": "*"}, "no place"),
        ({"trust": 7}, "not iterable"),
        ({"trust": "unix", "keep": ["X-Client-User"]}, "x-client-user is what the source reads"),
        ({"trust": "unix", "keep": ["X-Gatekey-Secret"]}, "cannot be kept"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(options: dict[str, Any], word: str) -> None:
    with pytest.raises((Misconfigured, TypeError), match=word):
        Doorman(**options)


def test_tls_without_a_bundle_says_what_it_does_not_do(caplog: pytest.LogCaptureFixture, house: House) -> None:
    Doorman(source="tls", bundle=house.bundle)
    assert caplog.records == []
    Doorman(source="tls")
    assert "revoked certificates are let in" in caplog.records[0].message


def test_what_the_app_may_see(house: House) -> None:
    doorman = Doorman(trust="unix", anonymous=True)
    said = {"x-client-user": "ann", "x-client-verify": "SUCCESS", "remote-user": "root", "x-gatekey-secret": "s", "client-cert-chain": "x"}
    client = Client("ann", verified=True)
    assert doorman.removed(said, client) == {"remote-user", "x-gatekey-secret", "client-cert-chain"}
    assert doorman.removed(said, NOBODY) == set(said)
    assert doorman.removed({}, client) == set()


def test_the_words_of_a_client_are_remembered_within_bounds(house: House) -> None:
    doorman = Doorman(trust="unix")
    for i in range(9000):
        who(doorman, {"X-Client-Verify": "SUCCESS", "X-Client-User": f"p{i}"})
    assert 0 < len(doorman._claims) <= 4096
    before = len(doorman._claims)
    who(doorman, {"X-Client-Verify": "SUCCESS", "X-Client-User": "ann", "X-Client-Groups": ",".join(["g" * 2000] * 9)})
    assert len(doorman._claims) == before
    own = Doorman(trust="unix", source=certificate_header("X-Cert"))
    assert who(own, {"X-Cert": nginx_says(house.ann)["X-Client-Cert"]}).login == "ann"


SOME = st.sampled_from(["x-client-user", "x-client-serial", "x-client-issuer", "x-client-verify", "x-client-groups", "remote-user"])


@given(st.dictionaries(SOME, st.text(max_size=20)))
def test_nobody_is_ever_let_in_by_a_stranger(said: dict[str, str]) -> None:
    strict = Doorman(trust=["unix", Secret("correct-horse-battery")])
    for peer in (SOCKET, STRANGER, Peer(), Peer("127.0.0.1", proven=True)):
        with pytest.raises(Refused):
            strict.identify({**said, "x-client-verify": "SUCCESS", "x-client-user": "admin"}, peer)
