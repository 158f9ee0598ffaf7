"""CA certificates and CRLs as files for caches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import pytest
from cryptography import x509

from gatekey.api import Authority
from gatekey.authority import crl
from gatekey.errors import NotFound, Refused
from gatekey.protocols.message import Answer, Call, problem
from gatekey.protocols.published import Published
from gatekey.testing import FakeClock


class House:
    def __init__(self, home: Path) -> None:
        self.clock = FakeClock()
        self.authority = Authority.create(home, "Test", unencrypted_keys=True, clock=self.clock)
        self.published = Published(self.authority._core)
        self.published.refresh()

    def get(self, path: str, **headers: str) -> Answer:
        return self.published.answer(Call("public", "GET", path, headers=tuple((name.replace("_", "-"), value) for name, value in headers.items())))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.authority.close()


@pytest.mark.parametrize("name", ["people-root", "people", "servers-root", "servers"])
def test_every_authority_in_both_forms(house: House, name: str) -> None:
    found, text = house.get(f"/ca/{name}.crt"), house.get(f"/ca/{name}.pem")
    assert x509.load_der_x509_certificate(found.body) == x509.load_pem_x509_certificate(text.body)
    assert dict(found.headers)["content-type"] == "application/pkix-cert"
    crl, crl_text = house.get(f"/crl/{name}.crl"), house.get(f"/crl/{name}.pem")
    assert x509.load_der_x509_crl(crl.body) == x509.load_pem_x509_crl(crl_text.body)
    assert dict(crl.headers)["content-type"] == "application/pkix-crl"
    assert "no-transform" in dict(crl.headers)["cache-control"]


@pytest.fixture
def _zone() -> Iterator[None]:
    yield
    time.tzset()


@pytest.mark.usefixtures("_zone")
def test_conditional_requests(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dict(house.get("/crl/people.crl").headers)
    etag, modified = first["etag"], first["last-modified"]
    monkeypatch.setenv("TZ", "Pacific/Auckland")  # asctime's form says nothing of its zone, and means GMT
    time.tzset()
    asctime = time.asctime(parsedate_to_datetime(modified).utctimetuple())
    for headers in (
        {"if_none_match": etag},
        {"if_none_match": f'"a", W/{etag}'},
        {"if_none_match": "*"},
        {"if_modified_since": modified},
        {"if_modified_since": asctime},
        {"if_none_match": etag, "if_modified_since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ):
        answer = house.get("/crl/people.crl", **headers)
        assert (answer.status, answer.body) == (304, b""), headers
        assert dict(answer.headers)["etag"] == etag
    for headers in (
        {"if_none_match": '"a"'},
        {"if_none_match": '"a"', "if_modified_since": modified},  # RFC 9110 13.1.3: not looked at beside the other
        {"if_modified_since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"if_modified_since": "yesterday"},
        {"if_modified_since": "Thu, 99 Jan 99999 00:00:00 GMT"},
    ):
        assert house.get("/crl/people.crl", **headers).status == 200, headers


EPOCH, LATER = "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"


def test_conditions_in_their_order(house: House) -> None:
    """RFC 9110 13.2.2: what must hold first, and only then whether it is news; a date only where there is no tag."""
    headers = dict(house.get("/crl/people.crl").headers)
    etag, modified = headers["etag"], headers["last-modified"]
    rows: list[tuple[int, dict[str, str]]] = [
        *((412, {"if_match": tags}) for tags in ('"zzz"', f"W/{etag}", f'"a", W/{etag}', etag.strip('"'))),
        (412, {"if_match": '"zzz"', "if_none_match": etag}),
        (412, {"if_match": '"zzz"', "if_unmodified_since": LATER}),
        (412, {"if_unmodified_since": EPOCH}),
        (412, {"if_unmodified_since": EPOCH, "if_none_match": etag}),
        *((200, {"if_match": tags}) for tags in (etag, "*", f'"a" , {etag}')),
        (200, {"if_match": etag, "if_unmodified_since": EPOCH}),
        (200, {"if_unmodified_since": modified}),
        (200, {"if_unmodified_since": "yesterday"}),
        (304, {"if_match": etag, "if_none_match": etag}),
        (304, {"if_unmodified_since": modified, "if_modified_since": modified}),
    ]
    for status, conditions in rows:
        try:
            found = house.get("/crl/people.crl", **conditions).status
        except Refused as refused:
            found = problem(refused).status
        assert found == status, conditions
    with pytest.raises(NotFound):  # 13.2.1: not of what is not there
        house.get("/crl/nobody.crl", if_match='"zzz"')


def test_a_crl_whose_date_is_not_told_yet_is_later_than_all_that_were(house: House) -> None:
    house.clock.move(seconds=5)
    for login in ("ann", "bob"):
        house.authority.revoke(house.authority.issue_client(login).serial)
    house.published.refresh()
    now = formatdate(house.clock.now(), usegmt=True)
    assert "last-modified" not in dict(house.get("/crl/people.crl").headers)
    assert house.get("/crl/people.crl", if_modified_since=LATER).status == 200
    with pytest.raises(Refused, match="If-Unmodified-Since"):
        house.get("/crl/people.crl", if_unmodified_since=now)


def test_a_new_crl_is_seen(house: House) -> None:
    before = house.get("/crl/people.crl")
    serial = house.authority.issue_client("ann").serial
    house.clock.move(seconds=5)
    house.authority.revoke(serial)
    house.authority.crl("people")
    house.published.refresh({})  # a CRL is no event of its own
    after = house.get("/crl/people.crl", if_none_match=dict(before.headers)["etag"])
    assert after.status == 200
    assert x509.load_der_x509_crl(after.body).get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
    assert dict(after.headers)["last-modified"] > dict(before.headers)["last-modified"]
    assert house.get("/crl/people.crl", if_modified_since=dict(before.headers)["last-modified"]).status == 200
    assert house.get("/crl/servers.crl", if_none_match=dict(house.get("/crl/servers.crl").headers)["etag"]).status == 304


def test_after_the_draft_of_a_crl_it_is_looked_for_each_time(house: House) -> None:
    """Its release is no event. Otherwise one comparison of ten looks, whatever is issued meanwhile."""
    worker = Published(house.authority._core, every=10)
    worker.refresh()

    def number() -> int | None:
        file = worker.answer(Call("public", "GET", "/crl/people.crl"))
        return x509.load_der_x509_crl(file.body).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def comparisons() -> int:
        """How many it takes until a new CRL is there."""
        before = number()
        crl.current(house.authority._core, "people", refresh=0)
        turns = 0
        while number() == before:
            worker.refresh({"certificate.release": ["people/5A"]})
            turns += 1
        return turns

    worker.refresh({"crl.record": ["people/2"]})
    assert comparisons() == 1
    for _ in range(100):
        worker.refresh({})
    assert 1 < sum(comparisons() for _ in range(3)) <= 30


def test_two_crls_of_one_second_have_two_dates(house: House) -> None:
    """Who asks by date and has the first must get the second, from whichever worker. A date to come is told of when it has come."""
    house.clock.move(seconds=5)
    serials = [house.authority.issue_client(login).serial for login in ("ann", "bob")]
    house.authority.revoke(serials[0])
    house.published.refresh()
    first = dict(house.get("/crl/people.crl").headers)["last-modified"]
    assert int(parsedate_to_datetime(first).timestamp()) == house.clock.now()
    house.authority.revoke(serials[1])
    house.published.refresh()
    other = Published(house.authority._core)  # a worker that has not seen the first
    other.refresh()
    for published in (house.published, other):
        house.published = published
        second = house.get("/crl/people.crl", if_modified_since=first)
        assert (second.status, dict(second.headers).get("last-modified")) == (200, None)
        assert house.get("/crl/people.crl", if_none_match=dict(second.headers)["etag"]).headers == second.headers[:2]
    house.clock.move(seconds=1)
    for published in (house.published, other):
        house.published = published
        second = house.get("/crl/people.crl", if_modified_since=first)
        assert second.status == 200
        assert house.get("/crl/people.crl", if_modified_since=dict(second.headers)["last-modified"]).status == 304


@pytest.mark.parametrize("path", ["/crl/", "/crl/nobody.crl", "/crl/../ca/people.crt", "/ca/people.key", "/ca/people.crt/", "/crl/people.crl\0"])
def test_nothing_else_is_there(house: House, path: str) -> None:
    with pytest.raises(NotFound):
        house.get(path)
