"""Who may do what: every route of the table against everybody, and everything by which somebody could pretend to be somebody else."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.authority import access
from gatekey.keys.files import FileKeyring
from gatekey.model.access import ROLES, SCOPES
from gatekey.protocols.api import table
from gatekey.protocols.api.asking import Route
from gatekey.protocols.message import Peer, problem, without_folders
from gatekey.store.dialect import SQLite
from kit.desk import CAST, JSON, Desk

#: The rule for each route, said once more and independently of the table: a new route fails until somebody has thought about it.
RULES = {
    "signCsr": "issue",
    "issueClient": "issue",
    "issueServer": "issue",
    "renew": "issue",
    "verify": "read",
    "listCertificates": "read",
    "showCertificate": "read",
    "revoke": "revoke",
    "hold": "revoke",
    "unhold": "revoke",
    "me": "",
    "listPeople": "read",
    "addPerson": "people",
    "showPerson": "read",
    "changePerson": "people",
    "setRoles": "manage",
    "previewLeave": "read",
    "leave": "revoke",
    "listTokens": "read",
    "makeToken": "manage",
    "revokeToken": "manage",
    "listAuthorities": "read",
    "authorityRequests": "read",
    "showAuthority": "read",
    "authorityCertificate": "read decide",
    "authorityCrl": "read decide",
    "makeCrl": "manage",
    "installAuthority": "manage",
    "bundle": "read decide",
    "bundleZip": "read decide",
    "bundleFile": "read decide",
    "listProfiles": "read",
    "showProfile": "read",
    "explainProfile": "read",
    "checkProfile": "read",
    "putProfile": "manage",
    "listAudit": "read",
    "status": "read",
    "doctor": "read",
    "checkStore": "read",
    "repairStore": "manage",
    "trust": "read decide",
    "listGuides": "read",
    "showGuide": "read",
    "webserver": "read",
    "listChecks": "read",
    "checkSite": "manage",
}
IDS = [route.name for route in table.ROUTES]
#: Headers in which proxies, frameworks and attackers have put identities.
SPOOFED = (
    "x-client-user", "x-client-verify", "x-client-serial", "x-client-issuer", "x-client-cert", "client-cert", "x-forwarded-user", "x-remote-user",
    "remote-user", "remote_user", "x-forwarded-tls-client-cert", "x-forwarded-client-cert", "ssl-client-cert", "x-ssl-client-s-dn",
    "x-user", "x-gatekey-serial", "forwarded",
)  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For questions that change nothing: each is refused, or is one that the handler refuses."""
    made = Desk(tmp_path_factory.mktemp("desk"))
    yield made
    made.close()


def path_of(route: Route) -> str:
    for word in ("ref", "login", "id", "name", "file"):
        route = route._replace(path=route.path.replace(f"{{{word}}}", "no-such-thing"))
    return route.path


def allowed(scopes: tuple[str, ...], route: Route) -> bool:
    rule = RULES[route.name].split()
    return not rule or any(scope in rule for scope in scopes)


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert sorted(RULES) == sorted(IDS)
    assert {route.name: " ".join(route.scopes) for route in table.ROUTES} == RULES


@pytest.mark.parametrize("route", table.ROUTES, ids=IDS)
def test_nobody_is_asked_to_sign_in(desk: Desk, route: Route) -> None:
    for body in (None, b"{}", b"not json"):
        told = desk.ask("", route.method, path_of(route), raw=body)
        assert (told.status, told.code) == (401, "sign-in")
        assert told.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("who", [*CAST, *SCOPES])
@pytest.mark.parametrize("route", table.ROUTES, ids=IDS)
def test_only_who_may_gets_in(desk: Desk, route: Route, who: str) -> None:
    """By role (certificate) and by scope (token). What is let in is stopped by its body: no JSON, or a path to nothing."""
    scopes = (who,) if who in SCOPES else ROLES.get(CAST[who], ())
    body = b"[]" if route.body else None
    told = desk.ask(who, route.method, path_of(route), raw=body)
    if allowed(scopes, route):
        assert told.status not in (401, 403)
    else:
        assert (told.status, told.code) == (403, "forbidden")


@pytest.mark.parametrize("route", table.ROUTES, ids=IDS)
def test_no_header_says_who_somebody_is(desk: Desk, route: Route) -> None:
    from urllib.parse import quote

    from gatekey.x509 import pem

    escaped = quote(pem.encode("CERTIFICATE", desk.certificates["boss"]).decode())
    for value in ("boss", "CN=boss", "SUCCESS", escaped):
        spoofed = tuple((name, value) for name in SPOOFED)
        assert desk.ask("", route.method, path_of(route), headers=(*JSON, *spoofed)).status == 401
        told = desk.ask("nobody", route.method, path_of(route), headers=(*JSON, *spoofed))
        assert told.status == 403 if route.scopes else told.json["login"] == "nobody"


@pytest.mark.parametrize("route", table.ROUTES, ids=IDS)
@pytest.mark.parametrize("header", [
    ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example"), ("origin", "null"),
    ("origin", "https://gatekey.example.evil.example"), ("origin", "https://gatekey.example:444"), ("origin", "["),
])  # fmt: skip
def test_pages_of_other_sites_are_refused(desk: Desk, route: Route, header: tuple[str, str]) -> None:
    told = desk.ask("boss", route.method, path_of(route), {}, headers=(*JSON, header))
    assert (told.status, told.code) == (403, "cross-site")


@pytest.mark.parametrize("route", [route for route in table.ROUTES if route.body], ids=lambda route: str(route.name))
@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "text/json"])
def test_a_form_cannot_ask(desk: Desk, route: Route, media: str) -> None:
    told = desk.ask("boss", route.method, path_of(route), {}, headers=(("content-type", media),) if media else ())
    assert (told.status, told.code) == (415, "wrong-media-type")


def test_this_very_origin_may_ask(desk: Desk) -> None:
    same = (("sec-fetch-site", "same-origin"), ("origin", "https://gatekey.example"))
    assert desk.ask("boss", "GET", "/v1/me", headers=same).status == 200
    assert desk.ask("boss", "GET", "/v1/me", headers=(("sec-fetch-site", "none"),)).status == 200
    assert desk.ask("boss", "GET", "/v1/me", headers=(("cookie", "session=other"),)).json["login"] == "boss"


def test_wrong_tokens_are_nobody(desk: Desk) -> None:
    good = desk.tokens["read"]
    for token in (good[:-1] + ("a" if good[-1] != "a" else "b"), good + "a", good.replace("gkt_", ""), "gkt__", "", "gkt_" + "9" * 500, "ä"):
        told = desk.ask("", "GET", "/v1/me", headers=(("authorization", f"Bearer {token}"),))
        assert (told.status, told.code) == (401, "sign-in"), token
    assert desk.ask("", "GET", "/v1/me", headers=(("authorization", "Basic Ym9zczpib3Nz"),)).status == 401
    assert desk.ask("", "GET", "/v1/me", headers=(("authorization", f"Bearer {good}"),) * 2).status == 400


def test_a_wrong_token_is_not_helped_by_a_certificate(desk: Desk) -> None:
    assert desk.ask("boss", "GET", "/v1/me", headers=(("authorization", "Bearer gkt_wrong"),)).status == 401


def test_a_certificate_must_be_ours_and_live(tmp_path: Path, desk: Desk) -> None:
    other = Desk(tmp_path)
    call = desk.call("boss", "GET", "/v1/me")
    assert desk.gate.answer(call._replace(peer=Peer("127.0.0.1", other.certificates["boss"]))).status == 401
    assert desk.gate.answer(call._replace(peer=Peer("127.0.0.1", b"\x30\x00"))).status == 400
    assert other.ask("olga", "GET", "/v1/me").status == 200
    assert other.ask("boss", "POST", "/v1/certificates/olga/hold").status == 200
    assert other.ask("olga", "GET", "/v1/me").status == 401
    assert other.ask("boss", "POST", "/v1/certificates/olga/unhold").status == 200
    assert other.ask("olga", "GET", "/v1/me").status == 200
    other.clock.move(days=366)
    assert other.ask("olga", "GET", "/v1/me").status == 401
    other.close()


def test_roles_and_tokens_end_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.ask("aud", "GET", "/v1/people").status == 200
    assert desk.ask("boss", "PUT", "/v1/people/aud/roles", {"roles": []}).json == {"login": "aud", "roles": []}
    assert desk.ask("aud", "GET", "/v1/people").status == 403
    token = desk.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"], "days": 1}).json
    bearer = (("authorization", f"Bearer {token['token']}"),)
    assert desk.ask("", "GET", "/v1/people", headers=bearer).status == 200
    assert desk.ask("boss", "DELETE", f"/v1/tokens/{token['id']}", headers=()).status == 200
    assert desk.ask("", "GET", "/v1/people", headers=bearer).status == 401
    again = desk.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"], "days": 1}).json
    desk.clock.move(days=1)
    assert desk.ask("", "GET", "/v1/people", headers=(("authorization", f"Bearer {again['token']}"),)).status == 401
    desk.close()


def test_an_operator_cannot_become_an_administrator(tmp_path: Path) -> None:
    """By a certificate in her name, her e-mail, her leaving, or a held certificate given back; nor can he shut her out."""
    from kit.desk import csr

    desk = Desk(tmp_path)
    for path, body in (
        ("/v1/certificates/client", {"login": "boss", "device": "mine"}),
        ("/v1/certificates/client", {"login": "BOSS", "device": "mine", "csr": csr("x")}),
        ("/v1/certificates/sign", {"csr": csr("boss"), "profile": "client", "device": "mine"}),
        ("/v1/certificates/boss/renew", {"new_key": True}),
        ("/v1/certificates/web/renew", {"new_key": True}),
        ("/v1/people/boss/leave", {}),
        ("/v1/certificates/boss/hold", {}),
        ("/v1/certificates/boss/revoke", {}),
        ("/v1/certificates/boss/revoke", {"reason": "key-compromise"}),
    ):
        told = desk.ask("olga", "POST", path, body)
        assert (told.status, told.code) == (403, "above-caller"), path
    assert desk.ask("olga", "PATCH", "/v1/people/boss", {"email": "olga@example.com"}).code == "above-caller"
    assert desk.ask("boss", "POST", "/v1/certificates/boss/hold").status == 200
    assert desk.ask("olga", "POST", "/v1/certificates/boss/unhold").code == "above-caller"
    assert desk.ask("olga", "POST", "/v1/certificates/client", {"login": "olga", "device": "second"}).status == 201
    assert desk.ask("olga", "POST", "/v1/certificates/aud/revoke").status == 200  # who may do less
    desk.close()


def test_a_token_that_is_too_narrow_is_called_that(tmp_path: Path) -> None:
    """Its holder may do it, so nobody else need be asked."""
    desk = Desk(tmp_path)

    def refused(login: str, scopes: list[str], body: dict[str, str]) -> tuple[str, str]:
        token = desk.ask("boss", "POST", "/v1/tokens", {"login": login, "scopes": scopes}).json["token"]
        told = desk.ask("", "POST", "/v1/certificates/client", {"device": "mine", **body}, headers=(*JSON, ("authorization", f"Bearer {token}")))
        assert (told.status, told.code) == (403, "above-caller")
        return told.json["detail"], told.json["hint"]

    sign_in = "take another one, or sign in with the certificate of"
    manage = f"this token lacks the scope manage: {sign_in} boss"
    assert refused("boss", ["issue"], {"login": "boss"}) == ("boss may do more (read, revoke, people, manage) than this token of boss", manage)
    assert refused("boss", ["issue"], {"login": "olga"}) == ("olga may do more (read, revoke, people) than this token of boss", manage)
    assert refused("boss", ["issue"], {"login": "gatekey-service"}) == ("gatekey-service is the service itself, so this is for an administrator", manage)
    of_olga = f"this token lacks the scopes read, revoke, people: {sign_in} olga"
    assert refused("olga", ["issue"], {"login": "olga"}) == ("olga may do more (read, revoke, people) than this token of olga", of_olga)
    words = "boss may do more than olga here (read, revoke, people, manage), so this is for an administrator"
    assert refused("olga", ["issue"], {"login": "boss"}) == (words, "ask somebody with the role administrator")
    desk.close()


def test_an_operator_gets_no_machine_with_an_administrators_e_mail(tmp_path: Path) -> None:
    from gatekey.keys import material
    from gatekey.model.names import Names
    from gatekey.x509 import pem
    from gatekey.x509.csr import encode_csr

    desk = Desk(tmp_path)
    assert desk.ask("boss", "PATCH", "/v1/people/boss", {"email": "boss@x.org"}).status == 200
    for emails in (("boss@x.org",), ("dev9@x.org", "Boss@x.org")):
        for profile, name in (("device", "dev9"), ("client", "dev9")):
            key = material.make("p256")
            text = pem.encode("CERTIFICATE REQUEST", encode_csr(Names(name, emails=emails), key.spki, "p256", key.sign)).decode()
            told = desk.ask("olga", "POST", "/v1/certificates/sign", {"csr": text, "profile": profile})
            assert (told.status, told.code) == (409, "email-taken"), (profile, emails)
    for profile in ("device", "client"):
        told = desk.ask("olga", "POST", "/v1/certificates/client", {"login": "dev9", "email": "boss@x.org", "profile": profile})
        assert (told.status, told.code) == (409, "email-taken")
    assert desk.ask("boss", "GET", "/v1/people/dev9").status == 404
    desk.close()


def test_nobody_but_an_administrator_touches_what_is_the_services(tmp_path: Path) -> None:
    """An operator, or whoever has his token, could otherwise keep the service from starting again, or its OCSP from answering."""
    from gatekey.authority import own, probe
    from gatekey.authority.ocsp import Responders
    from gatekey.keys import material
    from gatekey.model.names import RESERVED
    from gatekey.model.record import SERVICE
    from kit.desk import csr

    desk = Desk(tmp_path)
    for login in RESERVED:  # before there is any
        assert desk.ask("boss", "POST", "/v1/people", {"login": login}).code == "name-reserved"
        for who in ("olga", "boss"):
            for path, body in (("client", {"login": login}), ("sign", {"csr": csr(login), "profile": "device"}), ("server", {"hosts": [login]})):
                told = desk.ask(who, "POST", f"/v1/certificates/{path}", body)
                assert told.code == ("name-reserved" if who == "boss" else "above-caller"), (path, told.json)
    service = desk.authority.acting(SERVICE)
    own.server_certificate(service, (), lambda: material.make("p256"))
    Responders(service, material.make).renew()
    probe.make(service, lambda: material.make("p256"))
    for login in RESERVED:
        serials = [row["serial"] for row in desk.ask("read", "GET", f"/v1/people/{login}").json["certificates"]]
        assert serials
        for who in ("olga", "revoke"):
            told = desk.ask(who, "POST", f"/v1/people/{login}/leave", {})
            assert (told.status, told.code, told.json["detail"]) == (403, "above-caller", f"{login} is the service itself, so this is for an administrator")
            for deed in ("revoke", "hold"):
                assert desk.ask(who, "POST", f"/v1/certificates/{serials[-1]}/{deed}", {}).code == "above-caller"
        assert desk.ask("olga", "POST", f"/v1/certificates/{serials[-1]}/renew", {"csr": csr("x")}).code == "above-caller"
        assert desk.ask("olga", "PATCH", f"/v1/people/{login}", {"add_groups": ["staff"]}).code == "above-caller"
        assert desk.ask("boss", "PATCH", f"/v1/people/{login}", {"add_groups": ["staff"]}).status == 200
        told = desk.ask("boss", "POST", f"/v1/people/{login}/leave", {})
        assert (told.status, told.code) == (422, "service-stays")
    own.server_certificate(service, (), lambda: material.make("p256"))
    desk.close()


def test_the_last_administrator_stays(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.ask("boss", "PUT", "/v1/people/all/roles", {"roles": []}).status == 200
    assert desk.ask("boss", "PUT", "/v1/people/boss/roles", {"roles": ["auditor"]}).code == "last-administrator"
    assert desk.ask("boss", "GET", "/v1/people/boss/leave").json["last_administrator"] is True
    told = desk.ask("boss", "POST", "/v1/people/boss/leave", {})
    assert (told.status, told.code, told.json["detail"]) == (422, "last-administrator", "boss is the only administrator")
    assert told.json["hint"].startswith("give somebody else the role first: gatekey people set LOGIN --role administrator")
    assert access.roles(desk.authority, "boss") == ("administrator",)
    assert desk.ask("boss", "PUT", "/v1/people/olga/roles", {"roles": ["administrator"]}).status == 200
    assert desk.ask("boss", "GET", "/v1/people/boss/leave").json["last_administrator"] is False
    assert desk.ask("boss", "POST", "/v1/people/boss/leave", {}).status == 200
    assert desk.ask("olga", "POST", "/v1/people/olga/leave", {}).code == "last-administrator"
    desk.close()


# Where the files lie


@contextlib.contextmanager
def locked(desk: Desk) -> Iterator[None]:
    """Another process holds the ledger, and nobody waits for it."""
    with contextlib.closing(sqlite3.connect(desk.authority.config.home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_where_the_home_is_only_administrators_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    home, logged = str(desk.authority.config.home), []
    monkeypatch.setattr(desk.authority.ledger.db.dialect, "patience", 0.01)
    monkeypatch.setattr(desk.gate, "_refusal", lambda error, _: logged.append(f"{error.message} {error.hint}"))

    def asked(who: str, path: str, body: Any) -> str:
        told = desk.ask(who, "POST", path, body)
        assert told.status == 503, told.body
        assert home in logged[-1]
        return f"{told.json['detail']}: {told.json['hint']}"

    for path in ("/v1/certificates/client", "/v1/people"):
        with locked(desk):
            assert asked("olga", path, {"login": "eve"}) == "another process holds the ledger ledger.db: try again in a moment"
            assert asked("boss", path, {"login": "eve"}) == f"another process holds the ledger {home}/ledger.db: try again in a moment"
    (desk.authority.config.home / "keys" / "people.key").rename(tmp_path / "away")
    desk.authority.keyring = FileKeyring(desk.authority.config.home / "keys", None, desk.authority.entropy)
    for path, body in (("/v1/certificates/client", {"login": "eve"}), ("/v1/certificates/nobody/revoke", {})):
        words = "the key of people is not here: bring people.key back into"
        assert asked("olga", path, body) == f"{words} keys, from a backup: nothing is issued without it"
        assert asked("boss", path, body) == f"{words} {home}/keys, from a backup: nothing is issued without it"
    desk.close()


def test_what_is_told_of_the_house_says_not_where_it_is(tmp_path: Path) -> None:
    """Whatever is looked at, and whatever is wrong with it."""
    desk = Desk(tmp_path)
    home = desk.authority.config.home
    (home / "profiles").mkdir(exist_ok=True)
    (home / "profiles" / "odd.toml").write_bytes(b"\xff")
    (home / "profiles" / "far.toml").symlink_to(home / "nothing")
    (home / "keys" / "people.key").chmod(0o644)
    desk.authority.keyring = FileKeyring(home / "keys", None, desk.authority.entropy)
    (home / "gatekey.toml").write_text("nonsense")
    plain = [route.path for route in table.ROUTES if route.method == "GET" and "{" not in route.path and "read" in route.scopes]
    asked: list[tuple[str, str, Any]] = [("GET", path, None) for path in (*plain, *(f"/v1/profiles/{name}" for name in ("odd", "far", "nothing")))]
    asked += [("POST", "/v1/store/check", {}), ("POST", "/v1/authorities/people/crl", {}), ("POST", "/v1/certificates/nobody/hold", {})]
    where = {who: {path for method, path, body in asked if str(home).encode() in desk.ask(who, method, path, body).body} for who in ("aud", "olga", "boss")}
    assert where["aud"] == where["olga"] == set()
    assert where["boss"] >= {"/v1/doctor", "/v1/profiles", "/v1/profiles/far", "/v1/certificates/nobody/hold"}
    assert "gatekey.toml" in desk.ask("aud", "GET", "/v1/doctor").json["checks"]["config"]["message"]
    desk.close()


@pytest.mark.parametrize(
    ("text", "folders", "told"),
    [
        ("the ledger /srv/gk/ledger.db is damaged", ("/srv/gk",), "the ledger ledger.db is damaged"),
        ("chmod 600 /srv/gk/keys/a.key", ("/srv/gk",), "chmod 600 keys/a.key"),
        ("there is nothing in /srv/gk", ("/srv/gk",), "there is nothing in gk"),
        ("/srv/other/x and /srv/gk/y", ("/srv/gk", "/srv/other"), "x and y"),
        ("a/b and ./c, /openapi.json", ("", ".", "a", "/"), "a/b and ./c, /openapi.json"),
    ],
)
def test_words_without_folders(text: str, folders: tuple[str, ...], told: str) -> None:
    assert without_folders(text, *folders) == told


def test_beside_the_api_nobody_is_told_either(tmp_path: Path) -> None:
    """What agents ask is answered without knowing the home: the refusal itself says where its file lies."""
    error = SQLite(tmp_path / "ledger.db").busy()
    assert json.loads(problem(error).body)["detail"] == "another process holds the ledger ledger.db"
    assert json.loads(problem(error, whole=True).body)["detail"] == f"another process holds the ledger {tmp_path}/ledger.db"
