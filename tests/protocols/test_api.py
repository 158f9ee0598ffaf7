"""What each route of the API does, without sockets; asking again; what is malformed; and that answers are as they are described."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.authority import own, seen
from gatekey.cli.listing import account
from gatekey.keys import material
from gatekey.model.record import SERVICE
from gatekey.model.status import STATUSES
from gatekey.protocols.api import shapes, table
from gatekey.protocols.api.asking import Route
from gatekey.protocols.api.shapes import Field, Shape
from gatekey.protocols.message import Call, Peer
from gatekey.store import seen as rows
from gatekey.store.database import Transaction
from gatekey.x509 import pem
from kit.desk import JSON, Desk, csr
from kit.tour import tour


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For questions that are refused."""
    made = Desk(tmp_path_factory.mktemp("quiet"))
    yield made
    made.close()


def test_every_route_does_what_it_says(desk: Desk) -> None:
    tour(desk)


def test_a_request_that_came_with_its_private_key(desk: Desk) -> None:
    both = pem.encode("PRIVATE KEY", material.make("p256").pkcs8()).decode() + csr("ann")
    told = desk.ask("boss", "POST", "/v1/certificates/client", {"login": "ann", "csr": both})
    assert told.status == 201
    assert any("never send it to anybody" in note for note in told.json["notes"])
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "bob", "csr": csr("bob") + csr("carl")}).code == "several-requests"


@pytest.mark.parametrize(("path", "said"), [("client", {"login": "eve"}), ("server", {"hosts": ["a.example"]}), ("ann/renew", {"new_key": True})])
def test_an_empty_request_is_none(quiet: Desk, path: str, said: dict[str, Any]) -> None:
    """Whoever sends one has a key: that another is made here would be a surprise, and its making keep back all who are asked for with it."""
    told = quiet.ask("boss", "POST", f"/v1/certificates/{path}", {**said, "csr": ""})
    assert (told.status, told.code) == (400, "bad-request")
    assert "csr: must not be empty" in told.json["detail"]


def test_no_secret_is_kept(desk: Desk) -> None:
    """Neither a private key, nor its password, nor a token stands anywhere in the ledger or its log."""
    secrets = []
    for number, wanted in enumerate(({"for": "pem"}, {"for": "any"}, {"for": "apple"})):
        told = desk.ask("boss", "POST", "/v1/certificates/client", {"login": f"p{number}", **wanted}, key=f"k{number}").json
        if told["password"]:
            secrets.append(told["password"])
            bundle = told["pkcs12"] or told["mobileconfig"]
            secrets.append(bundle[100:160])
        if told["key"]:
            secrets.append(told["key"].split("\n")[1])
    secrets.append(desk.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"]}, key="t").json["token"].rpartition("_")[2])
    assert len(secrets) == 6
    desk.authority.close()
    for file in desk.authority.config.home.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert [secret for secret in secrets if secret.encode() in data] == [], file


def test_a_group_that_is_said_twice_is_one(desk: Desk) -> None:
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "ann", "groups": ["staff", "ops", "staff"]}).status == 201
    assert desk.ask("boss", "GET", "/v1/people/ann").json["groups"] == ["ops", "staff"]
    added = desk.ask("boss", "POST", "/v1/people", {"login": "ben", "devices": ["laptop", "laptop"]})
    assert (added.status, added.json["devices"]) == (201, ["laptop"])


def test_a_machine_has_one_live_certificate(desk: Desk) -> None:
    signed = [desk.ask("boss", "POST", "/v1/certificates/sign", {"csr": csr("lamp"), "profile": "device"}) for _ in range(2)]
    assert (signed[0].status, signed[1].code) == (201, "device-has-one")


def test_a_list_tells_who_was_let_in_last_with_one_question_a_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `gatekey list --json` does, row by row; a new certificate was never let in, and its answer asks nothing."""
    asked: list[int] = []
    real = rows.among

    def among(tx: Transaction, serials: Sequence[str]) -> list[seen.Sight]:
        asked.append(len(serials))
        return real(tx, serials)

    monkeypatch.setattr(rows, "among", among)
    made = [desk.ask("boss", "POST", "/v1/certificates/client", {"login": f"p{number}"}, key=f"k{number}").json for number in range(5)]
    assert [(one["seen_at"], one["seen_site"]) for one in made] == [(None, None)] * 5
    assert asked == []
    sights = seen.Seen(desk.authority)
    for one in made[1:4]:
        sights.note("people", one["serial"], "app.example")
    sights.note("servers", made[0]["serial"], "elsewhere.example")  # the same serial of another authority is another certificate
    desk.clock.move(days=1)
    sights.write()
    page = desk.ask("aud", "GET", "/v1/certificates?limit=100").json["items"]
    assert asked == [len(page)]
    told = {one["holder"]: (one["seen_at"], one["seen_site"]) for one in page}
    let_in = ("2026-01-01T00:00:00Z", "app.example")
    assert [told[f"p{number}"] for number in range(5)] == [(None, None), let_in, let_in, let_in, (None, None)]
    newest = seen.everything(desk.authority)
    records = desk.authority.reads.certificates("c.holder LIKE 'p_'")
    assert [one for one in page if one["holder"] in ("p0", "p1", "p2", "p3", "p4")] == [
        account(one, desk.clock.now(), newest.get((one.issuer, one.serial))) for one in records
    ]
    (row,) = desk.ask("aud", "GET", "/v1/people/p2").json["certificates"]
    assert (row["seen_at"], row["seen_site"]) == let_in
    (row,) = desk.ask("boss", "GET", "/v1/people/p2/leave").json["certificates"]
    assert (row["seen_at"], row["seen_site"]) == let_in
    again = desk.ask("boss", "POST", "/v1/certificates/client", {"login": "p2"}, key="k2").json
    assert (again["serial"], again["seen_at"]) == (made[2]["serial"], let_in[0])


def test_show_tells_how_todays_profile_stands(desk: Desk) -> None:
    folder = desk.authority.config.home / "profiles"
    folder.mkdir(exist_ok=True)
    text = '[profile.visitor]\nabout = "A guest"\nusage = ["client-auth"]\nvalidity = "30d"\nkeys = ["p256"]\nways = ["cli", "api"]\n'
    (folder / "visitor.toml").write_text(text)
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "eve", "profile": "visitor"}).status == 201

    def today() -> str:
        return str(desk.ask("aud", "GET", "/v1/certificates/eve").json["profile_today"])

    assert today() == "same"
    (folder / "visitor.toml").write_text(text.replace("30d", "20d"))
    assert today() == "changed"
    (folder / "visitor.toml").write_text("no profile")
    assert today() == "broken"
    (folder / "visitor.toml").unlink()
    assert today() == "gone"


# Asking again


def test_asking_again_gives_the_same_certificate_without_its_key(desk: Desk) -> None:
    body = {"login": "ann", "device": "laptop"}
    first = desk.ask("boss", "POST", "/v1/certificates/client", body, key="one")
    again = desk.ask("boss", "POST", "/v1/certificates/client", dict(reversed(body.items())), key="one")
    assert (first.status, again.status) == (201, 201)
    same = ("serial", "pem", "chain", "fingerprint", "not_after")
    assert [first.json[name] for name in same] == [again.json[name] for name in same]
    assert (again.json["handed_out"], again.json["pkcs12"], again.json["password"], again.json["key"]) == ("earlier", None, None, None)
    assert "kept nowhere" in again.json["notes"][0]


def test_another_question_under_the_same_key_is_a_conflict(desk: Desk) -> None:
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "ann"}, key="one").status == 201
    for method, path, body in (
        ("POST", "/v1/certificates/client", {"login": "ann", "groups": ["other"]}),
        ("POST", "/v1/certificates/client", {"login": "bob"}),
        ("POST", "/v1/certificates/server", {"hosts": ["a.example"]}),
        ("POST", "/v1/certificates/ann/revoke", {}),
        ("POST", "/v1/people", {"login": "new"}),
    ):
        told = desk.ask("boss", method, path, body, key="one")
        assert (told.status, told.code) == (409, "idempotency-reused"), path
    assert desk.ask("boss", "POST", "/v1/people", {"login": "eve"}, key="two").status == 201
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "eve"}, key="two").code == "idempotency-reused"


def test_another_requester_never_sees_it(desk: Desk) -> None:
    body = {"login": "ann", "csr": csr("ann")}
    first = desk.ask("boss", "POST", "/v1/certificates/client", body, key="one").json
    other = desk.ask("olga", "POST", "/v1/certificates/client", body, key="one")
    assert other.status == 422  # ann has one for this device already: the same key meant nothing to olga
    assert first["serial"] not in json.dumps([other.json["code"]])


def test_what_was_done_is_not_done_twice(desk: Desk) -> None:
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "ann"}).status == 201
    first = desk.ask("boss", "POST", "/v1/certificates/ann/revoke", {"reason": "superseded"}, key="r")
    again = desk.ask("boss", "POST", "/v1/certificates/ann/revoke", {"reason": "superseded"}, key="r")
    assert first.json == again.json
    assert desk.ask("boss", "POST", "/v1/certificates/ann/revoke", {"reason": "superseded"}).code == "already-revoked"
    token = desk.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"]}, key="t").json
    repeated = desk.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"]}, key="t").json
    assert repeated == {**token, "token": None}
    assert len(desk.ask("boss", "GET", "/v1/tokens?login=boss").json["items"]) == 1


def test_a_refusal_is_not_kept(desk: Desk) -> None:
    assert desk.ask("boss", "PATCH", "/v1/people/eve", {"name": "Eve"}, key="p").status == 404
    assert desk.ask("boss", "POST", "/v1/people", {"login": "eve"}).status == 201
    assert desk.ask("boss", "PATCH", "/v1/people/eve", {"name": "Eve"}, key="p").status == 200
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "eve", "profile": "nope"}, key="c").status == 404
    assert desk.ask("boss", "POST", "/v1/certificates/client", {"login": "eve", "profile": "nope"}, key="c").status == 404


def test_answers_are_kept_seven_days(desk: Desk) -> None:
    asked = ("boss", "POST", "/v1/certificates/server", {"hosts": ["a.example"]})
    first = desk.ask(*asked, key="one").json["serial"]
    desk.clock.move(days=6)
    assert desk.ask(*asked, key="one").json["serial"] == first
    assert desk.ask("boss", "POST", "/v1/people", {"login": "eve"}, key="p").status == 201
    desk.clock.move(days=2)
    assert desk.ask(*asked, key="one").json["serial"] != first
    desk.clock.move(days=6)
    assert desk.ask("boss", "POST", "/v1/people", {"login": "eve"}, key="p").code == "login-taken"


def test_it_is_the_same_also_after_it_was_taken_away(desk: Desk) -> None:
    asked = ("boss", "POST", "/v1/certificates/client", {"login": "ann"})
    first = desk.ask(*asked, key="one").json
    assert desk.ask("boss", "POST", "/v1/people/ann/leave").status == 200
    again = desk.ask(*asked, key="one").json
    assert (again["serial"], again["status"], again["handed_out"]) == (first["serial"], "revoked", "earlier")


#: What the scope `read` is enough for, with a body.
ONLY_READ = {
    "verify": {"certificate": "x"},
    "checkProfile": {"toml": "[profile.x]"},
    "checkStore": {},
    "webserver": {"server": "nginx", "site": "a.example"},
}


def test_who_may_only_read_leaves_nothing_in_the_ledger(desk: Desk) -> None:
    """An idempotency key is not looked at where nothing is changed: no row is written, and one key may be said to any question."""
    routes = [route for route in table.ROUTES if route.method != "GET" and "read" in route.scopes]
    assert {route.name for route in routes} == set(ONLY_READ)
    assert not any(route.writes for route in routes)
    before = dump(desk)
    for route in routes:
        told = [desk.ask("aud", "POST", route.path, ONLY_READ[route.name], key=key) for key in ("one", "one", "two", "x" * 300, "")]
        assert len({(one.status, one.body) for one in told}) == 1
        assert told[0].status in (200, 400)
    assert dump(desk) == before
    assert desk.ask("boss", "POST", "/v1/people", {"login": "eve"}, key="one").status == 201


def dump(desk: Desk) -> list[str]:
    """Everything that is in the ledger."""
    with contextlib.closing(sqlite3.connect(desk.authority.config.home / "ledger.db")) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("key", ["", " ", '""', "x" * 256, f'"{"x" * 254}"', "ä", "a\tb"])
def test_keys_are_short_and_printable(quiet: Desk, key: str) -> None:
    told = quiet.ask("boss", "POST", "/v1/people", {"login": "eve"}, headers=(*JSON, ("idempotency-key", key)))
    assert (told.status, told.code) == (400, "bad-request")


# Lists


def test_pages_hold_everything_once(desk: Desk) -> None:
    for number in range(7):
        desk.ask("boss", "POST", "/v1/certificates/server", {"hosts": [f"s{number}.example"], "csr": csr("x")})
        desk.clock.move(seconds=number % 2)
    for path, name in (("/v1/certificates?", "serial"), ("/v1/people?all=true&", "login"), ("/v1/tokens?", "id"), ("/v1/audit?", "number")):
        whole = [one[name] for one in desk.ask("boss", "GET", f"{path}limit=1000").json["items"]]
        assert len(whole) == len(set(whole)) > 3
        found, after = [], ""
        while True:
            page = desk.ask("boss", "GET", f"{path}limit=3{f'&after={after}' if after else ''}").json
            assert 0 < len(page["items"]) <= 3
            found += [one[name] for one in page["items"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert found == whole


def test_filters_agree_with_what_is_said_of_each(desk: Desk) -> None:
    for login in ("a", "b", "c", "d"):
        desk.ask("boss", "POST", "/v1/certificates/client", {"login": login, "csr": csr("x"), "groups": ["g"] if login < "c" else [], "days": 10})
    desk.ask("boss", "POST", "/v1/certificates/a/revoke")
    desk.ask("boss", "POST", "/v1/certificates/b/hold")
    for days in (0, 9, 11):
        desk.clock.move(days=days)
        everything = desk.ask("read", "GET", "/v1/certificates?limit=1000&authorities=true&probes=true").json["items"]
        for status in STATUSES:
            assert desk.ask("read", "GET", f"/v1/certificates?limit=1000&authorities=true&probes=true&status={status}").json["items"] == [
                one for one in everything if one["status"] == status
            ]
    assert {one["holder"] for one in desk.ask("read", "GET", "/v1/certificates?group=g").json["items"]} == {"a", "b"}
    assert [one["holder"] for one in desk.ask("read", "GET", "/v1/certificates?holder=c").json["items"]] == ["c"]


def test_what_the_service_issues_to_itself_is_asked_for(desk: Desk) -> None:
    own.server_certificate(desk.authority.acting(SERVICE), (), lambda: material.make("p256"))
    holders = [{one["holder"] for one in desk.ask("read", "GET", f"/v1/certificates{query}").json["items"]} for query in ("", "?services=true")]
    assert holders[1] - holders[0] == {"gatekey-service"}


# What is malformed


@pytest.mark.parametrize("raw", [
    b"", b"[]", b"null", b"1", b'"x"', b"{", b'{"login": "a", "login": "b"}', b'{"login": NaN}', b"\xff\xfe", b'{"login": "\\ud800"}', b'{"login": 5}',
    b'{"login": ""}', b'{"login": null}', b'{"login": "a\\u0000"}', b'{"login": "a", "days": 1.5}', b'{"login": "a", "days": true}',
    b'{"login": "a", "days": 0}',
    b'{"login": "a", "days": 99999999999999999999999999}', b'{"login": "a", "groups": "g"}', b'{"login": "a", "groups": [1]}', b'{"login": "a", "extra": 1}',
    b'{"login": "a", "groups": [' + b'"g",' * 200 + b'"g"]}', b"[" * 5000, b'{"a":' * 500 + b"1" + b"}" * 500, b'{"login": "' + b"a" * 300 + b'"}', b"1" * 5000,
])  # fmt: skip
def test_what_is_not_as_described_is_refused_in_words(quiet: Desk, raw: bytes) -> None:
    told = quiet.ask("boss", "POST", "/v1/certificates/client", raw=raw)
    assert (told.status, told.code) == (400, "bad-request")
    assert told.json["detail"]
    assert told.json["instance"] == "test-1"


def test_all_mistakes_are_said_at_once(quiet: Desk) -> None:
    told = quiet.ask("boss", "POST", "/v1/certificates/client", {"logn": "ann", "days": 0, "for": "windows"})
    assert told.json["detail"] == (
        "login: is missing; 'logn': is not known; did you mean login?; days: must be a whole number from 1 to 36500; "
        "for: must be one of any, modern, apple, pem"
    )


@pytest.mark.parametrize("path", [
    "/v1/certificates?limit=0", "/v1/certificates?limit=1001", "/v1/certificates?limit=x", "/v1/certificates?limit=1&limit=2", "/v1/certificates?nope=1",
    "/v1/certificates?status=nice", "/v1/certificates?after=zzz", "/v1/certificates?after=1-'--", "/v1/certificates?%ff=1", "/v1/certificates?probes=yes",
    "/v1/audit?after=-1", "/v1/tokens?after=nope", "/v1/me?x=1", "/v1/certificates/" + "a" * 400, "/v1/certificates/a\x00b",
])  # fmt: skip
def test_queries_and_paths_are_checked(quiet: Desk, path: str) -> None:
    assert (quiet.ask("boss", "GET", path).status, quiet.ask("boss", "GET", path).code) == (400, "bad-request")


def test_a_path_is_never_a_file(quiet: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boss.crt").write_bytes(pem.encode("CERTIFICATE", quiet.certificates["boss"]))
    monkeypatch.chdir(tmp_path)
    told = quiet.ask("boss", "GET", "/v1/certificates/boss.crt")
    assert (told.status, told.code) == (404, "no-certificate")


def test_large_bodies_are_refused(quiet: Desk) -> None:
    told = quiet.ask("boss", "POST", "/v1/people", raw=b" " * (256 * 1024 + 1))
    assert (told.status, told.code) == (413, "too-large")


def test_unknown_paths_and_methods(quiet: Desk) -> None:
    assert quiet.ask("boss", "GET", "/v1/nothing").code == "no-route"
    assert quiet.ask("", "GET", "/v1/nothing").status == 401
    told = quiet.ask("boss", "DELETE", "/v1/people/ann")
    assert (told.status, told.headers["allow"]) == (405, "GET, HEAD, PATCH")
    assert quiet.ask("boss", "GET", "/v1/certificates/sign").status == 405
    assert quiet.ask("boss", "HEAD", "/v1/me").status == 200


@pytest.mark.parametrize("text", ["key", "hello", "<html>", "MAA=", " "])
def test_what_is_no_request_is_named(quiet: Desk, text: str) -> None:
    sent = pem.encode("PRIVATE KEY", material.make("p256").pkcs8()).decode() if text == "key" else text
    told = quiet.ask("boss", "POST", "/v1/certificates/sign", {"csr": sent, "profile": "client"})
    assert told.status == 400
    assert text != "key" or "never send it" in told.json["detail"]


def test_every_reason_is_told(quiet: Desk) -> None:
    told = quiet.ask("boss", "POST", "/v1/certificates/server", {"hosts": ["*", "a..b"], "days": 9999})
    assert told.status == 422
    assert len(told.json["reasons"]) >= 3


def test_conditional_requests(desk: Desk) -> None:
    for path in ("/v1/bundle", "/v1/bundle.zip", "/v1/bundle/people.json", "/v1/authorities/people/crl", "/v1/authorities/people/certificate"):
        tag = desk.ask("web", "GET", path).headers["etag"]
        told = desk.ask("web", "GET", path, headers=(("if-none-match", f'"other", W/{tag}'),))
        assert (told.status, told.body) == (304, b"")
        assert desk.ask("web", "GET", path, headers=(("if-match", tag), ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"))).status == 200
        told = desk.ask("web", "GET", path, headers=(("if-match", f'"x", W/{tag}'), ("if-none-match", tag)))
        assert (told.status, told.code) == (412, "precondition-failed")
    tag = desk.ask("web", "GET", "/v1/bundle").headers["etag"]
    desk.clock.move(seconds=4000)
    assert desk.ask("web", "GET", "/v1/bundle").headers["etag"] == tag  # nothing has happened
    desk.ask("boss", "POST", "/v1/certificates/olga/revoke")
    assert desk.ask("web", "GET", "/v1/bundle").headers["etag"] != tag


def test_faults_of_our_own_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    monkeypatch.setattr(desk.authority.reads, "page", lambda *_, **__: 1 // 0)
    told = desk.ask("boss", "GET", "/v1/certificates")
    assert (told.status, told.code) == (500, "internal")
    assert b"ZeroDivision" not in told.body
    assert len(desk.faults) == 1
    desk.faults.clear()
    desk.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = sorted({field.name for route in table.ROUTES if route.body for field in route.body.fields})


WITH_BODIES = [route for route in table.ROUTES if route.method != "GET"]


@given(body=st.dictionaries(st.sampled_from([*NAMES, "x"]), VALUES, max_size=6), route=st.sampled_from(WITH_BODIES))
def test_any_json_is_answered(quiet: Desk, body: dict[str, Any], route: Route) -> None:
    if route.name in ("setRoles", "leave", "makeCrl", "repairStore"):
        return
    path = route.path.replace("{ref}", "00" * 16).replace("{login}", "x y").replace("{id}", "x").replace("{name}", "nope")
    told = quiet.ask("boss", route.method, path, raw=json.dumps(body).encode())
    assert 400 <= told.status < 500 or told.status in (200, 201)


@given(raw=st.binary(max_size=200), query=st.text(max_size=50), path=st.text(max_size=30), header=st.text(max_size=30))
def test_any_bytes_are_answered(quiet: Desk, raw: bytes, query: str, path: str, header: str) -> None:
    for method, where in (("POST", "/v1/certificates/sign"), ("GET", f"/v1/{path}"), ("GET", f"/v1/certificates/{path}"), ("GET", "/v1/people")):
        headers = (("authorization", header), ("content-type", "application/json"), ("if-none-match", header))
        for peer in (Peer("", quiet.certificates["boss"]), Peer("", raw)):
            told = quiet.gate.answer(Call("private", method, where, query, headers if peer.certificate == raw else headers[1:], raw, peer))
            assert told.status < 500


def test_a_shape_reads_what_it_describes() -> None:
    shape = Shape("S", (Field("n", "number", "", most=5, least=1), Field("t", "instant", "", most=20), Field("x", "lines", "", most=10)))
    assert shapes.body(shape, b'{"n": 3.0, "t": "2026-11-23", "x": "a\\nb"}') == {"n": 3, "t": 1795392000, "x": "a\nb"}
    assert shapes.query(shape, "n=5&t=7") == {"n": 5, "t": 7}
    assert shapes.body(shape, b"") == {}
