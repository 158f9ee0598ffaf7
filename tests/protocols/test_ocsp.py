"""OCSP over HTTP: what is answered, by whom, from memory or anew; with an authority whose clock stands still."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as judge
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from gatekey.api import Authority
from gatekey.authority import crl, revoke
from gatekey.authority.ocsp import Responders
from gatekey.authority.standing import Standing
from gatekey.errors import Refused, Unavailable
from gatekey.keys import material
from gatekey.model.request import CertificateId
from gatekey.protocols import ocsp as protocol
from gatekey.protocols.message import Answer, Call
from gatekey.protocols.ocsp import Ocsp
from gatekey.testing import FakeClock
from gatekey.x509 import ocsp
from gatekey.x509.certificate import read_certificate
from gatekey.x509.der import explicit, implicit, seq
from gatekey.x509.spki import key_bits

GOOD, REVOKED, UNKNOWN = judge.OCSPCertStatus.GOOD, judge.OCSPCertStatus.REVOKED, judge.OCSPCertStatus.UNKNOWN


class House:
    def __init__(self, home: Path) -> None:
        self.clock = FakeClock()
        self.authority = Authority.create(home, "Test", unencrypted_keys=True, clock=self.clock)
        self.core = self.authority._core
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.responders = Responders(self.core, material.make)
        self.is_fresh = True
        self.standing = Standing(self.core.reads, self.clock, {}, {})
        self.ocsp = Ocsp(self.core, self.responders, lambda: self.is_fresh, self.counts)
        self.tick()

    def tick(self) -> None:
        self.responders.renew()
        self.ocsp.follow(self.standing.refresh())

    def id(self, serial: str, issuer: str = "people", kind: str = "sha256") -> bytes:
        certificate = self.core.issuing(issuer).certificate
        return ocsp.encode_id(next(one for one in ocsp.issuer_ids(certificate.subject, key_bits(certificate.spki)) if one[0] == kind), int(serial, 16))

    def post(self, *ids: bytes, nonce: bytes | None = None) -> Answer:
        return self.ocsp.answer(Call("public", "POST", "/ocsp", body=ocsp.encode_request(list(ids), nonce)))

    def get(self, one: bytes, **headers: str) -> Answer:
        path = "/ocsp/" + base64.b64encode(ocsp.encode_request([one])).decode()
        return self.ocsp.answer(Call("public", "GET", path, headers=tuple((name.replace("_", "-"), value) for name, value in headers.items())))

    def how(self, what: str) -> int:
        return self.counts["gatekey_ocsp_answers", what]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.authority.close()


def read(answer: Answer) -> judge.OCSPResponse:
    assert answer.status == 200
    assert dict(answer.headers)["content-type"] == "application/ocsp-response"
    return judge.load_der_ocsp_response(answer.body)


def status(answer: Answer) -> judge.OCSPCertStatus:
    return read(answer).certificate_status


@pytest.mark.parametrize("kind", ["sha1", "sha256", "sha384", "sha512"])
def test_good_revoked_held_given_back(house: House, kind: str) -> None:
    serial = house.authority.issue_client("ann").serial
    one = house.id(serial, kind=kind)
    house.tick()
    assert status(house.post(one)) is GOOD
    house.authority.hold(serial)
    house.tick()
    found = read(house.post(one))
    assert found.certificate_status is REVOKED
    assert found.revocation_reason is x509.ReasonFlags.certificate_hold
    house.authority.unhold(serial)
    house.tick()
    assert status(house.get(one)) is GOOD
    house.clock.move(seconds=60)
    house.authority.revoke(serial, "key-compromise")
    house.tick()
    for answer in (house.post(one), house.get(one), house.post(one, nonce=b"n")):
        found = read(answer)
        assert found.certificate_status is REVOKED
        assert found.revocation_reason is x509.ReasonFlags.key_compromise
        assert found.revocation_time_utc is not None
        assert found.revocation_time_utc.timestamp() == house.clock.at


def test_the_responder_is_who_he_must_be(house: House) -> None:
    """RFC 6960 4.2.2.2: certified by the CA itself, with OCSPSigning, and with id-pkix-ocsp-nocheck; and the signature holds."""
    serial = house.authority.issue_client("ann").serial
    found = read(house.post(house.id(serial)))
    (certificate,) = found.certificates
    issuer = x509.load_der_x509_certificate(house.core.issuing("people").certificate.der)
    certificate.verify_directly_issued_by(issuer)
    assert ExtendedKeyUsageOID.OCSP_SIGNING in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(found.signature, found.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    recorded = house.core.reads.by_serial(f"{certificate.serial_number:032X}")
    assert [(one.profile, one.holder) for one in recorded] == [("ocsp-responder", "gatekey-ocsp")], "issued and recorded like every other"


def test_who_is_unknown_and_who_is_a_stranger(house: House) -> None:
    assert status(house.post(house.id("11" * 16))) is UNKNOWN
    assert status(house.post(house.id("00"))) is UNKNOWN
    stranger = ocsp.encode_id(("sha256", b"n" * 32, b"k" * 32), 5)
    assert read(house.post(stranger)).response_status is judge.OCSPResponseStatus.UNAUTHORIZED
    ann = house.authority.issue_client("ann").serial
    assert read(house.post(house.id(ann), stranger)).response_status is judge.OCSPResponseStatus.UNAUTHORIZED
    both = house.post(house.id(ann), house.id("11" * 16, "servers"))
    assert read(both).response_status is judge.OCSPResponseStatus.UNAUTHORIZED, "nobody may answer for two issuers at once"
    unknown_hash = house.id(ann).replace(bytes.fromhex("608648016503040201"), bytes.fromhex("608648016503040204"))
    assert read(house.post(unknown_hash)).response_status is judge.OCSPResponseStatus.UNAUTHORIZED


def test_several_certificates_in_one(house: House) -> None:
    ann, bob = house.authority.issue_client("ann").serial, house.authority.issue_client("bob").serial
    house.authority.revoke(ann)
    house.tick()
    answer = house.post(house.id(ann), house.id(bob, kind="sha1"), house.id("11" * 16))
    found = [(one.serial_number, one.certificate_status) for one in read(answer).responses]
    assert found == [(int(ann, 16), REVOKED), (int(bob, 16), GOOD), (int("11" * 16, 16), UNKNOWN)]
    assert read(house.post(house.id(bob), house.id(bob))).response_status is judge.OCSPResponseStatus.SUCCESSFUL
    house.authority.revoke(bob)
    house.tick()
    assert {one.certificate_status for one in read(house.post(house.id(bob), house.id(bob))).responses} == {REVOKED}


def test_an_authority_is_asked_about_like_everybody(house: House) -> None:
    assert status(house.post(house.id(house.core.record("people").serial, "people-root"))) is GOOD


def test_what_was_never_signed_was_never_issued(house: House) -> None:
    """Recorded: unknown. Abandoned: revoked without a reason, for ever."""
    core = house.core
    from gatekey.authority import requests
    from gatekey.authority.issue import decide_for, draft
    from gatekey.authority.steps import alone

    request, holder = requests.client(core, "ann", material.make("p256").spki)
    drafted = alone(draft(core, request, decide_for(core, request, holder, core.now())))
    core.ledger.record(drafted, holder, owner="another process", now=core.now())
    house.tick()
    one = house.id(drafted.number)
    assert status(house.post(one)) is UNKNOWN
    house.clock.move(seconds=600)
    from gatekey.authority.reconcile import reconcile

    assert [gone.serial for gone in reconcile(core)] == [drafted.number]
    house.tick()
    found = read(house.post(one))
    assert (found.certificate_status, found.revocation_reason) == (REVOKED, None)


def test_kept_until_something_happens(house: House) -> None:
    ann, bob = house.authority.issue_client("ann").serial, house.authority.issue_client("bob").serial
    house.tick()
    first = house.post(house.id(ann))
    other = house.post(house.id(bob))
    house.clock.move(seconds=10)
    house.tick()
    assert house.post(house.id(ann)) is first, "byte for byte what was signed before"
    assert (house.how("signed"), house.how("kept")) == (2, 1)
    house.authority.revoke(bob)
    house.tick()
    assert house.post(house.id(ann)) is first, "what happened to Bob is not about Ann"
    assert house.post(house.id(bob)) is not other
    house.clock.move(seconds=protocol.LIFE // 2)
    house.tick()
    again = read(house.post(house.id(ann)))
    assert again.this_update_utc.timestamp() == house.clock.at, "signed anew when half of its life is over"


def test_unknown_is_never_kept(house: House) -> None:
    for _ in range(2):
        assert dict(house.post(house.id("11" * 16)).headers)["cache-control"] == "no-store"
    assert len(house.ocsp) == 0


def test_a_certificate_that_was_unknown_a_moment_ago(house: House) -> None:
    """Somebody asks before the issuance is seen: the answer must not stay."""
    issued = house.authority.issue_client("ann")
    assert status(house.post(house.id(issued.serial))) is GOOD, "the ledger is asked, not the view"


def test_something_happens_while_we_sign(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status was read before the revocation, the answer is ready after it: it may go out once, but never be kept."""
    serial = house.authority.issue_client("ann").serial
    house.tick()
    real = house.responders.statuses

    def slowly(name: str, serials: Sequence[int]) -> dict[int, bytes]:
        found = real(name, serials)
        house.authority.revoke(serial)
        house.ocsp.follow(house.standing.refresh())
        return found

    monkeypatch.setattr(house.responders, "statuses", slowly)
    assert status(house.post(house.id(serial))) is GOOD
    monkeypatch.setattr(house.responders, "statuses", real)
    assert status(house.post(house.id(serial))) is REVOKED


def test_nonces_are_answered_and_not_kept(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    for nonce in (b"x", b"0123456789abcdef", b"0123456789abcdeg", b"y" * 32, b"z" * 128):
        answer = house.post(house.id(serial), nonce=nonce)
        assert read(answer).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
        assert dict(answer.headers)["cache-control"] == "no-store"
    assert len(house.ocsp) == 0
    for nonce in (b"", b"z" * 129):
        assert read(house.post(house.id(serial), nonce=nonce)).response_status is judge.OCSPResponseStatus.MALFORMED_REQUEST


def test_caches_are_told(house: House) -> None:
    """RFC 5019 6.2: Last-Modified is thisUpdate, Expires is nextUpdate; RFC 9110 13 for those who ask again."""
    serial = house.authority.issue_client("ann").serial
    house.tick()
    house.clock.move(seconds=5)
    house.tick()
    headers = dict(house.get(house.id(serial)).headers)
    assert headers["cache-control"] == f"public, max-age={protocol.AGE}, must-revalidate, no-transform"
    assert headers["last-modified"] == "Thu, 01 Jan 2026 00:00:05 GMT"
    assert headers["expires"] == "Thu, 01 Jan 2026 00:15:05 GMT"
    tag = headers["etag"]
    asctime = {"if_modified_since": "Thu Jan  1 00:00:05 2026"}
    for known in ({"if_none_match": f'"other", {tag}'}, {"if_none_match": tag.removeprefix("W/")}, {"if_none_match": "*"}, asctime):
        found = house.get(house.id(serial), **known)
        assert (found.status, found.body, dict(found.headers).get("etag")) == (304, b"", tag), known
    for unknown in ({"if_none_match": '"other"'}, {"if_modified_since": "Thu, 01 Jan 2026 00:00:04 GMT"}, {"if_none_match": '"x"', **asctime}):
        assert house.get(house.id(serial), **unknown).status == 200, unknown
    fresh = house.authority.issue_client("bob").serial
    for other in ({"if_match": tag}, {"if_match": '"x"', "if_none_match": tag}, {"if_unmodified_since": "Thu, 01 Jan 2026 00:00:04 GMT"}):
        for one in (serial, fresh):  # kept, and signed for this very question
            with pytest.raises(Refused, match="asks for"):
                house.get(house.id(one), **other)
    assert house.get(house.id(serial), if_match="*").status == 200


def test_every_worker_says_the_same_by_the_same_tag(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    house.tick()
    responders = Responders(house.core, material.make)
    responders.renew()
    other = Ocsp(house.core, responders, lambda: True, Counter())
    other.follow()
    ours = house.get(house.id(serial))
    house.ocsp, first = other, house.ocsp
    theirs = house.get(house.id(serial))
    assert theirs.body != ours.body, "signed by another"
    assert dict(theirs.headers)["etag"] == dict(ours.headers)["etag"]
    house.ocsp = first
    house.authority.hold(serial)
    house.tick()
    assert dict(house.get(house.id(serial)).headers)["etag"] != dict(ours.headers)["etag"]


def test_a_date_confirms_nothing_in_the_second_in_which_something_happened(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    house.tick()
    house.clock.move(seconds=5)
    house.tick()
    good = dict(house.get(house.id(serial)).headers)
    house.authority.revoke(serial)
    house.tick()
    answer = house.get(house.id(serial), if_modified_since=good["last-modified"])
    assert answer.status == 200
    assert status(answer) is REVOKED
    assert house.get(house.id(serial), if_none_match=good["etag"]).status == 200


def test_a_ledger_that_cannot_be_read_is_told_in_the_protocol(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = house.authority.issue_client("ann").serial
    house.tick()

    def locked(*_: object) -> None:
        raise Unavailable("store-locked", "another process holds the ledger")

    monkeypatch.setattr(house.core.reads, "standing", locked)
    assert read(house.post(house.id(serial))).response_status is judge.OCSPResponseStatus.TRY_LATER
    assert house.how("failed") == 1


@pytest.mark.parametrize("path", ["/ocsp/", "/ocsp/%%%", "/ocsp/AAAA", "/ocsp/" + "A" * 100_000, "/ocsp/é", "/ocsp/ " + "A" * 8])
def test_paths_that_are_no_requests(house: House, path: str) -> None:
    assert read(house.ocsp.answer(Call("public", "GET", path))).response_status is judge.OCSPResponseStatus.MALFORMED_REQUEST


def test_paths_as_clients_write_them(house: House) -> None:
    """With and without padding, in the URL alphabet, and with a slash that stands there twice."""
    one = ocsp.encode_request([house.id(house.authority.issue_client("ann").serial)])
    plain = base64.b64encode(one).decode()
    for text in (plain, plain.rstrip("="), base64.urlsafe_b64encode(one).decode(), "/" + plain):
        assert status(house.ocsp.answer(Call("public", "GET", f"/ocsp/{text}"))) is GOOD


def test_nothing_is_said_when_the_view_is_stale(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    house.post(house.id(serial))
    house.is_fresh = False
    _said_later(house, serial)
    house.is_fresh = True
    assert status(house.post(house.id(serial))) is GOOD
    house.clock.move(seconds=6)  # the view is told to be fresh, but this one has not heard of it
    _said_later(house, serial)


def _said_later(house: House, serial: str) -> None:
    answer = house.post(house.id(serial))
    assert read(answer).response_status is judge.OCSPResponseStatus.TRY_LATER
    assert dict(answer.headers)["cache-control"] == "no-store"


def test_the_responder_is_renewed_in_time(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    first = read(house.post(house.id(serial))).certificates[0]
    house.clock.move(days=4)
    house.tick()
    assert read(house.post(house.id(serial))).certificates[0] == first
    house.clock.move(days=1)
    house.tick()
    second = read(house.post(house.id(serial))).certificates[0]
    assert second != first
    assert house.responders.check().state == "ok"


def test_without_the_key_the_old_responder_goes_on_and_health_tells(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = house.authority.issue_client("ann").serial
    from gatekey.errors import Misconfigured

    def refuse(_: object, name: str) -> None:
        raise Misconfigured("wrong-passphrase", f"{name} cannot be opened")

    monkeypatch.setattr(type(house.core), "signer", refuse)
    house.clock.move(days=5)
    house.tick()
    assert status(house.post(house.id(serial))) is GOOD
    assert house.responders.check().state == "warn"
    assert "people cannot be opened" in house.responders.check().message
    house.clock.move(days=3)
    house.tick()
    assert read(house.post(house.id(serial))).response_status is judge.OCSPResponseStatus.UNAUTHORIZED, "an answer under an expired certificate helps nobody"
    monkeypatch.undo()
    house.clock.move(seconds=61)
    house.tick()
    assert status(house.post(house.id(serial))) is GOOD


def test_an_answer_never_outlives_its_responder(house: House) -> None:
    serial = house.authority.issue_client("ann").serial
    ends = read_certificate(_der(read(house.post(house.id(serial))).certificates[0])).not_after
    house.clock.at = ends - 100
    house.ocsp.follow()
    found = read(house.post(house.id(serial)))
    assert found.next_update_utc is not None
    assert found.next_update_utc.timestamp() == ends


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def test_strangers_fill_nothing(house: House) -> None:
    """Whatever stands around the one question, in whatever form of address: it is the same answer that is kept."""
    one = house.id(house.authority.issue_client("ann").serial)
    house.tick()
    first = house.post(one)
    size = house.ocsp.size
    plain = base64.b64encode(ocsp.encode_request([one])).decode()
    for number in range(50):
        named = seq(seq(explicit(1, implicit(6, b"uri:%d" % number + b"x" * 10_000)), seq(seq(one))))
        assert house.ocsp.answer(Call("public", "POST", "/ocsp", body=named)) is first
        assert house.ocsp.answer(Call("public", "GET", f"/ocsp/{'/' * number}{plain}")) is first
        house.post(*[one] * (number + 2))
        house.post(house.id(f"{number + 1:032X}"))
        house.post(one, nonce=b"%d" % number)
    assert (len(house.ocsp), house.ocsp.size) == (2, size), "by POST and by GET"
    assert len(house.ocsp._statuses) == 1


def test_memory_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    serials = [house.authority.issue_client(f"person{number}").serial for number in range(6)]
    house.tick()
    house.post(house.id(serials[0]))
    monkeypatch.setattr(protocol, "MOST_BYTES", 4 * house.ocsp.size)
    for serial in serials:
        for kind in ("sha1", "sha256", "sha384", "sha512"):
            house.post(house.id(serial, kind=kind))
            assert house.ocsp.size <= protocol.MOST_BYTES
            assert house.ocsp.size == sum(kept.size for kept in house.ocsp._kept.values()) / 2
    house.authority.revoke(serials[-1])
    house.tick()
    assert house.ocsp._by_subject.keys() <= {f"people/{serial}" for serial in serials[:-1]}


def test_many_are_one_question_to_the_ledger(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = house.core.reads.standing

    def counted(issuer: str, serials: Sequence[str]) -> dict[str, tuple[str, int | None, str | None]]:
        asked.append(len(serials))
        return real(issuer, serials)

    monkeypatch.setattr(house.core.reads, "standing", counted)
    serial = house.authority.issue_client("ann").serial
    ids = [house.id(f"{number:032X}") for number in range(1, 50)]
    answer = house.post(*ids, *ids, house.id(serial), house.id(serial))
    assert asked == [50], "each once, all together"
    assert [one.certificate_status for one in read(answer).responses] == [UNKNOWN] * 98 + [GOOD] * 2


def test_what_was_kept_goes_when_nobody_knows_what_has_happened(house: House) -> None:
    """A comparison broke off before this door heard of it."""
    serial = house.authority.issue_client("ann").serial
    house.tick()
    first = house.post(house.id(serial))
    house.authority.revoke(serial)
    house.standing.refresh()
    assert house.post(house.id(serial)) is first
    house.ocsp.follow(None)
    assert status(house.post(house.id(serial))) is REVOKED


def test_many_events_at_once_drop_everything(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MOST_EVENTS", 1)
    ann, bob = house.authority.issue_client("ann").serial, house.authority.issue_client("bob").serial
    house.tick()
    house.post(house.id(ann))
    house.authority.revoke(ann)
    house.authority.revoke(bob)
    house.tick()
    assert len(house.ocsp) == 0
    assert status(house.post(house.id(ann))) is REVOKED


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("shared") / "home")
    yield made
    made.authority.close()


@given(st.data())
def test_whatever_is_posted_gets_an_ocsp_answer(shared: House, data: st.DataObject) -> None:
    base = ocsp.encode_request([shared.id("22" * 16)], b"0123456789abcdef")
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(base) - 1))
        body = base[:at] + data.draw(st.binary(min_size=0, max_size=3)) + base[at + data.draw(st.integers(0, 3)) :]
    else:
        body = data.draw(st.binary(max_size=200))
    read(shared.ocsp.answer(Call("public", "POST", "/ocsp", body=body)))
    text = data.draw(st.text(max_size=60))
    read(shared.ocsp.answer(Call("public", "GET", f"/ocsp/{text}")))


def test_post_quantum_authorities_have_post_quantum_responders(tmp_path: Path) -> None:
    with Authority.create(tmp_path / "home", "PQ", unencrypted_keys=True, flat=True, key_type="ml-dsa-44") as authority:
        core = authority._core
        responders = Responders(core, material.make)
        responders.renew()
        door = Ocsp(core, responders, lambda: True, Counter())
        door.follow()
        certificate = core.issuing("root").certificate
        serial = authority.issue_client("ann", key_type="ml-dsa-44").serial
        one = ocsp.encode_id(ocsp.issuer_ids(certificate.subject, key_bits(certificate.spki))[1], int(serial, 16))
        found = door.answer(Call("public", "POST", "/ocsp", body=ocsp.encode_request([one])))
        assert status(found) is GOOD
        assert read(found).signature_algorithm_oid.dotted_string == "2.16.840.1.101.3.4.3.17"


def test_the_log_and_the_crl_say_the_same(house: House) -> None:
    """One ledger, two tellers."""
    serials = [house.authority.issue_client(f"p{n}").serial for n in range(4)]
    for serial, reason in zip(serials, ("unspecified", "superseded", "cessation-of-operation"), strict=False):
        revoke.revoke(house.core, CertificateId("people", serial), reason)
    house.tick()
    listed = x509.load_der_x509_crl(crl.current(house.core, "people").der)
    for serial in serials:
        entry = listed.get_revoked_certificate_by_serial_number(int(serial, 16))
        found = read(house.post(house.id(serial)))
        assert (found.certificate_status is REVOKED) == (entry is not None)
        if entry is not None:
            assert found.revocation_time_utc == entry.revocation_date_utc
            reasons = [one.value.reason for one in entry.extensions]
            assert ([found.revocation_reason] if found.revocation_reason else []) == reasons


