"""What HTTP asks of every answer, whatever it is about (RFC 9110, 9112, 9457), over the sockets of a real service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.front import Front, front

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(tmp_path_factory.mktemp("http"), workers=1) as f:
        yield f


@pytest.fixture(autouse=True)
def nothing_stays_open(house: Front) -> Iterator[None]:
    yield
    house.hang_up()


@pytest.mark.parametrize("path", ["/v1/me", "/metrics", "/agent/bundle?wait=0", "/v1/me?x"])
def test_who_must_sign_in_hears_how(house: Front, path: str) -> None:
    """RFC 9110 15.5.2: a 401 carries a challenge."""
    for headers in ({}, {"authorization": "Bearer gkt_x"}):
        told = house.ask(house.private(), "GET", path, headers=headers)
        assert (told.status, told.headers.get("www-authenticate")) == (401, 'Bearer realm="gatekey"')


def test_a_visitor_without_a_certificate_is_no_case_for_a_password(house: Front) -> None:
    """The challenge of a 401 would be handed on to browsers."""
    for connection in (house.proxy(), house.private("web")):
        told = house.ask(connection, "GET", "/decision")
        assert (told.status, told.headers["x-gatekey-why"]) == (403, "no-certificate")
