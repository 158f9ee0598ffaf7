"""What belongs to the service itself: nobody takes its names, and nobody's leaving keeps it from its next certificate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gatekey.authority import own, people, probe, requests, revoke
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.ocsp import Responders
from gatekey.errors import NotFound, Refused
from gatekey.keys import material
from gatekey.model.holder import Holder
from gatekey.model.names import ITSELF, RESERVED
from gatekey.model.record import SERVICE
from gatekey.x509.csr import read_csr
from gatekey.x509.pem import decode
from kit.administrator import Administrator, typed
from kit.desk import csr


@pytest.fixture
def house(admin: Administrator) -> Iterator[Authority]:
    with admin.open() as authority:
        yield authority


def start(house: Authority, *hosts: str) -> None:
    """What a service issues to itself when it starts."""
    service = house.acting(SERVICE)
    own.server_certificate(service, hosts, lambda: material.make("p256"))
    responders = Responders(service, material.make)
    responders.renew()
    assert all(responders.find(record.name) for record in house.records())


def refused(deed: Any, *asked: Any) -> Refused:
    with pytest.raises(Refused) as raised:
        deed(*asked)
    return raised.value


def test_a_service_starts_whoever_has_left(house: Authority) -> None:
    issue(house, *requests.server(house, ["localhost"], material.make("p256").spki))
    assert len(revoke.leave(house, "localhost")) == 1
    people.add(house, Holder("pki.example", "person"))
    revoke.leave(house, "pki.example")
    start(house)
    start(house, "pki.example")
    assert {(one.kind, one.common_name, one.requester) for one in house.reads.by_holder(ITSELF)} == {
        ("server", "localhost", SERVICE), ("server", "pki.example", SERVICE),
    }  # fmt: skip


def test_what_the_service_is_does_not_leave(house: Authority) -> None:
    start(house)
    probe.make(house, lambda: material.make("p256"))
    for login in RESERVED:
        found = refused(revoke.leave, house, login.upper())
        assert (found.code, found.message) == ("service-stays", f"{login} is the service itself, which does not leave")
        assert found.hint.startswith("certificates of the service are taken away one by one, gatekey revoke SERIAL")
        assert house.reads.by_holder(login)
    for record in house.records():
        with pytest.raises(NotFound):
            revoke.leave(house, f"authority:{record.name}")
    start(house)


def test_a_host_that_has_the_services_certificate_stays_until_it_is_over(house: Authority) -> None:
    """Early services had theirs in the name of their first host."""
    old = issue(house.acting(SERVICE), *requests.server(house.acting(SERVICE), ["localhost"], material.make("p256").spki))
    found = refused(revoke.leave, house, "localhost")
    assert (found.code, found.message) == ("service-stays", f"localhost has a certificate that the service has issued to itself, {old.number}")
    assert found.hint.endswith(f"then gatekey revoke {old.number}, and leave again")
    revoke.revoke(house, old.id)
    assert revoke.leave(house, "localhost") == []


@pytest.mark.parametrize("login", [*RESERVED, RESERVED[0].upper()])
def test_nobody_takes_a_name_of_the_service(house: Authority, login: str) -> None:
    spki = material.make("p256").spki
    asked = read_csr(decode(csr(login, login.lower()).encode())[0][1])
    for deed in (
        lambda: people.add(house, Holder(login, "person")),
        lambda: issue(house, *requests.client(house, login, spki)),
        lambda: issue(house, *requests.client(house, login, spki, profile="device")),
        lambda: issue(house, *requests.server(house, [login], spki)),
        lambda: issue(house, *requests.from_csr(house, "device", asked)),
        lambda: issue(house, *requests.from_csr(house, "server", asked)),
    ):
        found = refused(deed)
        assert (found.code, found.message.lower()) == ("name-reserved", f"'{login.lower()}' is a name that the service uses for itself")
        assert found.hint == "choose another name"
    start(house)


def test_nobody_renews_a_certificate_of_the_service(house: Authority) -> None:
    start(house)
    for login in ("gatekey-ocsp", ITSELF):
        (*_, mine) = house.reads.by_holder(login)
        asked = requests.renewal(house, mine, material.make("p256").spki, proof="csr")
        assert "name-reserved" in [reason.code for reason in refused(issue, house, *asked).reasons]


def test_the_first_administrator_is_not_called_like_the_service(admin: Administrator) -> None:
    told = typed("--home", admin.home.with_name("other"), "init", "X", "--unencrypted-keys", "--admin", "Gatekey-Service")
    assert told.code == 1
    assert "'Gatekey-Service' is a name that the service uses for itself" in told.err
    assert not admin.home.with_name("other").exists()
