"""The decision endpoint without a socket: who may ask, who is let in, and what is refused in doubt."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey import app
from gatekey.authority import bundle, people, requests, revoke
from gatekey.authority.issue import issue
from gatekey.authority.standing import STALE_AFTER, Standing
from gatekey.keys import material
from gatekey.lifecycle import Released
from gatekey.protocols.decision import Door
from gatekey.protocols.message import Answer, Call, Peer
from gatekey.testing import FakeClock, FakeEntropy
from gatekey.x509 import pem
from gatekey.x509.names import rfc2253

PROXY = Peer("unix")


class House:
    """An authority, its view, and a door that remembers whom it let in."""

    def __init__(self, folder: Path, *, flat: bool = False) -> None:
        self.clock = FakeClock()
        founding = app.Founding("Kitty CA", unencrypted_keys=True, flat=flat)
        self.authority = app.create_authority(folder / "home", founding, clock=self.clock, entropy=FakeEntropy())
        (*_, issuing) = self.authority.side("people")
        self.dn = rfc2253(self.authority.issuing(issuing.name).certificate.subject)
        self.standing = Standing(self.authority.reads, self.clock, {self.dn: issuing.name}, {"staff.example": ("staff",)})
        self.let_in: list[tuple[str, str, str]] = []
        self.proxies: set[bytes] = set()
        self.door = Door(self.standing, lambda der: der in self.proxies, lambda *seen: self.let_in.append(seen))

    def person(self, login: str, **said: object) -> Released:
        released = issue(self.authority, *requests.client(self.authority, login, material.make("p256").spki, **said))  # type: ignore[arg-type]
        self.standing.refresh()
        return released

    def ask(self, *headers: tuple[str, str], listener: str = "proxy", peer: Peer = PROXY) -> Answer:
        return self.door.answer(Call(listener, "GET", "/decision", headers=headers, peer=peer))

    def about(self, released: Released, site: str = "app.example") -> Answer:
        return self.ask(("x-gatekey-serial", released.number), ("x-gatekey-issuer", self.dn), ("x-gatekey-site", site))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.authority.close()


def why(answer: Answer) -> str:
    return dict(answer.headers)["x-gatekey-why"]


def test_a_live_certificate_is_let_in_by_name(house: House) -> None:
    ann = house.person("ann", name="Änn Müller", email="ann@example.com", groups=("staff", "R&D".replace("&", "-")), device="laptop")
    answer = house.about(ann, "APP.example.:8443")
    said = dict(answer.headers)
    assert answer.status == 200
    assert said["x-client-user"] == "ann"
    assert said["x-client-name"] == "%C3%84nn%20M%C3%BCller"
    assert said["x-client-groups"] == "R-D,staff"
    assert said["x-client-device"] == "laptop"
    assert said["x-client-serial"] == ann.number
    assert house.let_in == [("people", ann.number, "app.example")]


def test_a_web_servers_certificate_is_no_visitors(tmp_path: Path) -> None:
    """Also where one authority issues both, and where the web server has not looked what a certificate is for."""
    house = House(tmp_path, flat=True)
    ann = house.person("ann")
    web = issue(house.authority, *requests.server(house.authority, ["web.example"], material.make("p256").spki))
    house.standing.refresh()
    assert house.about(ann).status == 200
    for answer in (house.about(web), house.ask(("client-cert", f":{base64.b64encode(web.der).decode()}:"))):
        assert (answer.status, why(answer)) == (403, "unknown")
    listed = json.loads(bundle.make(house.authority).contents["people.json"])
    assert [one["serial"] for one in listed["people"]] == [ann.number]
    house.authority.close()


@pytest.mark.parametrize("form", ["rfc9440", "escaped", "bare"])
def test_the_certificate_itself_may_be_given(house: House, form: str) -> None:
    ann = house.person("ann")
    text = {
        "rfc9440": ("client-cert", f":{base64.b64encode(ann.der).decode()}:"),
        "escaped": ("x-client-cert", quote(pem.encode("CERTIFICATE", ann.der))),
        "bare": ("x-forwarded-tls-client-cert", quote(base64.b64encode(ann.der), safe="")),
    }[form]
    assert house.ask(text).status == 200


def test_what_was_taken_away_is_refused_and_given_back(house: House) -> None:
    ann, bob = house.person("ann"), house.person("bob")
    revoke.revoke(house.authority, ann.id)
    revoke.hold(house.authority, bob.id)
    assert house.about(ann).status == 200  # not before the view has looked
    house.standing.refresh()
    assert (house.about(ann).status, why(house.about(ann))) == (403, "unknown")
    assert house.about(bob).status == 403
    revoke.unhold(house.authority, bob.id)
    house.standing.refresh()
    assert house.about(bob).status == 200


def test_people_who_leave_and_groups_that_change(house: House) -> None:
    ann = house.person("ann", groups=("staff",))
    bob = house.person("bob")
    assert house.about(ann, "staff.example").status == 200
    assert why(house.about(bob, "staff.example")) == "wrong-group"
    people.change(house.authority, "bob", add_groups=("staff",))
    people.change(house.authority, "ann", remove_groups=("staff",))
    house.standing.refresh()
    assert house.about(bob, "staff.example").status == 200
    assert house.about(ann, "staff.example").status == 403
    revoke.leave(house.authority, "bob")
    house.standing.refresh()
    assert house.about(bob).status == 403


def test_dates_are_looked_at_at_each_request(house: House) -> None:
    ann = house.person("ann")
    house.clock.move(days=366)
    house.standing.refresh()
    assert why(house.about(ann)) == "expired"


def test_a_view_that_is_not_compared_any_more_closes(house: House) -> None:
    ann = house.person("ann")
    house.clock.move(seconds=STALE_AFTER + 1)
    assert (house.about(ann).status, why(house.about(ann))) == (503, "stale")
    house.standing.refresh()
    assert house.about(ann).status == 200
    house.clock.move(seconds=-10)  # a clock that jumps back is as bad
    assert house.about(ann).status == 503


def test_a_view_that_was_never_loaded_lets_nobody_in(house: House) -> None:
    fresh = Standing(house.authority.reads, house.clock, {house.dn: "people"}, {})
    assert fresh.decide(house.dn, "00").why == "stale"


def test_a_fresh_view_equals_one_that_followed(house: House) -> None:
    dice = random.Random(7)
    issued = [house.person(f"person{number}") for number in range(12)]
    for released in dice.sample(issued, 4):
        revoke.revoke(house.authority, released.id)
    revoke.leave(house.authority, "person3")
    house.standing.refresh()
    fresh = Standing(house.authority.reads, house.clock, {house.dn: "people"}, {})
    fresh.refresh()
    assert [fresh.decide(house.dn, one.number) for one in issued] == [house.standing.decide(house.dn, one.number) for one in issued]
    assert len(fresh) == len(house.standing)


@pytest.mark.parametrize("listener", ["public", "enrol", "private"])
def test_strangers_are_not_answered(house: House, listener: str) -> None:
    ann = house.person("ann")
    asked = (("x-gatekey-serial", ann.number), ("x-gatekey-issuer", house.dn))
    refused = house.ask(*asked, listener=listener, peer=Peer("203.0.113.9", ann.der))
    assert (refused.status, why(refused)) == (403, "not-a-proxy"), "the word by which web servers choose their page"
    house.proxies.add(ann.der)
    assert house.ask(*asked, listener=listener, peer=Peer("203.0.113.9", ann.der)).status == (200 if listener == "private" else 403)


def test_another_authority_of_the_same_serial_is_somebody_else(house: House) -> None:
    ann = house.person("ann")
    assert house.ask(("x-gatekey-serial", ann.number), ("x-gatekey-issuer", "CN=Other CA")).status == 403


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ((), 403, "no-certificate"),
        ((("x-gatekey-serial", "01"),), 400, "belong together"),
        ((("x-gatekey-serial", "01"), ("x-gatekey-serial", "02"), ("x-gatekey-issuer", "CN=x")), 400, "stands there 2 times"),
        ((("x-gatekey-serial", "zz"), ("x-gatekey-issuer", "CN=x")), 400, "not a serial in hex"),
        ((("client-cert", ":!!!:"),), 400, "holds no certificate"),
        ((("client-cert", f":{base64.b64encode(b'no').decode()}:"),), 400, "not DER"),
        ((("x-client-cert", "A" * 40_000),), 400, "longer than a certificate"),
    ],
)
def test_what_cannot_be_read_is_refused(house: House, headers: tuple[tuple[str, str], ...], status: int, words: str) -> None:
    answer = house.ask(*headers)
    assert answer.status == status
    assert words in why(answer)


@given(st.sampled_from(["client-cert", "x-client-cert", "x-gatekey-serial", "x-gatekey-issuer", "x-gatekey-site"]), st.text(max_size=300))
def test_no_header_makes_it_crash_or_opens_it(name: str, value: str) -> None:
    standing = Standing(None, FakeClock(), {}, {})  # type: ignore[arg-type]  # never loaded, so never asked
    door = Door(standing, lambda _: False, lambda *_: None)
    assert door.answer(Call("proxy", "GET", "/decision", headers=((name, value),), peer=Peer("unix"))).status in (400, 403, 503)


def test_the_web_server_may_ask_for_groups_of_its_own(house: House) -> None:
    ann = house.person("ann", groups=("büro 2",))

    def about(site: str, groups: str) -> Answer:
        headers = (("x-gatekey-serial", ann.number), ("x-gatekey-issuer", house.dn), ("x-gatekey-site", site), ("x-gatekey-groups", groups))
        return house.ask(*headers)

    assert about("app.example", "staff,b%C3%BCro%202").status == 200
    assert about("app.example", "staff").status == 403
    assert about("staff.example", "b%C3%BCro%202").status == 403  # gatekey.toml says staff
    for nothing in ("", "  ", ",", "staff,", "staff,,x", "%20"):
        assert (about("app.example", nothing).status, why(about("app.example", nothing))) == (400, "x-gatekey-groups has no group in it, or an empty one")


def rfc9440(der: bytes) -> tuple[str, str]:
    return "client-cert", f":{base64.b64encode(der).decode()}:"


def forged(released: Released) -> bytes:
    """A certificate with the issuer, the serial, the subject and the dates of a real one, under a key and a signature of the forger's own."""
    from cryptography import x509 as judge
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    real, key = judge.load_der_x509_certificate(released.der), ec.generate_private_key(ec.SECP256R1())
    builder = judge.CertificateBuilder().subject_name(real.subject).issuer_name(real.issuer).serial_number(real.serial_number).public_key(key.public_key())
    builder = builder.not_valid_before(real.not_valid_before_utc).not_valid_after(real.not_valid_after_utc)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_is_believed_by_its_bytes(house: House) -> None:
    """Whoever knows a serial can write a certificate that has it; a web server that verifies nothing would hand it on."""
    ann = house.person("ann")
    false = forged(ann)
    assert house.ask(rfc9440(ann.der)).status == 200
    for header in (rfc9440(false), ("x-client-cert", quote(pem.encode("CERTIFICATE", false)))):
        answer = house.ask(header)
        assert (answer.status, why(answer)) == (403, "unknown")
        assert "x-client-user" not in dict(answer.headers)
    flipped = bytearray(ann.der)
    flipped[-1] ^= 1  # the signature
    assert house.ask(rfc9440(bytes(flipped))).status == 403
    fresh = Standing(house.authority.reads, house.clock, {house.dn: "people"}, {})
    fresh.refresh()
    assert fresh.decide(house.dn, ann.number, fingerprint=hashlib.sha256(ann.der).digest()).allowed


def test_all_that_is_given_must_agree(house: House) -> None:
    ann, bob = house.person("ann"), house.person("bob")
    named = ("x-gatekey-serial", ann.number.lower().lstrip("0")), ("x-gatekey-issuer", house.dn)
    pem_of_ann = ("x-client-cert", quote(pem.encode("CERTIFICATE", ann.der)))
    assert house.ask(*named, rfc9440(ann.der), pem_of_ann).status == 200
    for headers in ((*named, rfc9440(bob.der)), (rfc9440(bob.der), pem_of_ann), (named[0], ("x-gatekey-issuer", "CN=x"), pem_of_ann), (named[0], pem_of_ann)):
        assert house.ask(*headers).status == 400, headers
    assert house.ask(*named, rfc9440(forged(ann))).status == 403
    for nothing in ("", " ", "\t"):  # the web server says that nobody is there, and a header of the visitor's own has come through
        answer = house.ask(("x-client-cert", nothing), rfc9440(bob.der))
        assert (answer.status, why(answer)) == (400, "x-client-cert says that there is no certificate, and client-cert has one")
        assert house.ask(*named, ("client-cert", nothing), pem_of_ann).status == 400
        assert house.ask(*named, ("client-cert", nothing), ("x-client-cert", nothing)).status == 200


@pytest.mark.parametrize(
    "site", ["staff.example", "STAFF.example", "staff.example:", "staff.example:8443", "staff.example.", "staff.example.:443", " staff.example "]
)
def test_every_spelling_of_a_site_has_its_rule(house: House, site: str) -> None:
    assert house.about(house.person("ann"), site).status == 403
    assert house.about(house.person("bob", groups=("staff",)), site).status == 200
    assert house.let_in[0][2] == "staff.example"


@pytest.mark.parametrize(
    "site",
    [
        *("staff.example:443.", "staff.example, x", "staff.example:443:1", "staff%2eexample", "staff..example", "staff.example..", "", " ", ":443"),
        *("staff.example:x", "x staff.example", "staff.example/", "user@staff.example", "st\u00e4ff.example", "\u017ftaff.example", "[::1", "a" * 300),
    ],
)
def test_what_is_no_host_is_refused(house: House, site: str) -> None:
    assert house.about(house.person("bob", groups=("staff",)), site).status == 400


def test_refusals_are_counted_by_their_reason_and_told(house: House) -> None:
    ann = house.person("ann")
    told: list[tuple[str, str]] = []
    counts: Counter[tuple[str, ...]] = Counter()
    house.door = Door(house.standing, lambda _: False, lambda *_: None, counts, lambda call, why, asked: told.append((why, asked.serial if asked else "")))
    house.about(ann)
    house.about(ann, "staff.example")
    house.ask(("x-gatekey-serial", "11" * 16), ("x-gatekey-issuer", house.dn))
    house.ask()
    house.ask(("x-gatekey-serial", "zz"))
    house.ask(listener="private")
    house.clock.move(seconds=60)
    house.about(ann)
    refused = [("wrong-group", ann.number), ("unknown", "11" * 16), ("no-certificate", ""), ("malformed", ""), ("not-a-proxy", ""), ("stale", ann.number)]
    assert told == refused
    assert counts == {("gatekey_decisions", why): 1 for why in ("let-in", *(why for why, _ in refused))}


def test_what_is_remembered_is_short(house: House) -> None:
    ann = house.person("ann")
    for number in range(20):
        house.ask(("x-gatekey-serial", ann.number), ("x-gatekey-issuer", house.dn), ("x-gatekey-groups", "x" * 10_000 + str(number)))
    assert len(house.door._asked) == 0
    house.about(ann)
    assert len(house.door._asked) == 1
