"""Whom a word means: a login and an e-mail are one set of names. New ones cannot clash; where an older ledger has two, nobody guesses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.administrator import Administrator
from kit.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


BOSS = "chief@corp.example"


def test_nobody_is_called_by_anothers_e_mail(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--email", BOSS, "--out", "ann")
    for line in (f"people add {BOSS.upper()}", f"issue client {BOSS.upper()} --out puppet"):
        assert "is the e-mail of 'ann'" in admin(*line.split(), code=1).err
    assert not Path("puppet").exists() or not list(Path("puppet").iterdir())
    admin("people", "add", "carl@corp.example")
    for line in (
        "people add eve --email Carl@corp.example",
        "people set ann --email Carl@corp.example",
        "issue client eve --email Carl@corp.example --out puppet",
    ):
        assert "is the login of 'carl@corp.example'" in admin(*line.split(), code=1).err
    admin("people", "set", "carl@corp.example", "--email", "carl@corp.example")  # one's own
    assert admin("store", "check").lines == ["the ledger is whole"]


def test_an_operator_makes_nobody_who_is_meant_by_an_administrators_e_mail(desk: Desk) -> None:
    assert desk.ask("boss", "PATCH", "/v1/people/boss", {"email": BOSS}).status == 200
    assert desk.ask("olga", "POST", "/v1/people", {"login": BOSS}).code == "login-taken"
    assert desk.ask("olga", "POST", "/v1/certificates/client", {"login": BOSS.title()}).code == "login-taken"
    assert desk.ask("boss", "PUT", f"/v1/people/{BOSS}/roles", {"roles": ["administrator", "auditor"]}).json["login"] == "boss"


def test_two_that_an_older_ledger_has(desk: Desk) -> None:
    """As it could be made before: one is called what another's e-mail says."""
    login = "Chief@corp.example"
    for wanted in ({"login": login}, {"login": "dora", "email": "dora@example.com"}):
        assert desk.ask("olga", "POST", "/v1/certificates/client", wanted).status == 201
    with desk.authority.ledger.db.transaction("test") as tx:
        tx.run("UPDATE holder SET email = :email WHERE login = 'dora'", email=BOSS)
    serials = {one.holder: one.serial for one in desk.authority.reads.certificates("c.holder IN (:one, 'dora')", one=login)}
    questions: tuple[tuple[str, str, dict[str, list[str]] | None], ...] = (
        ("GET", f"/v1/certificates/{BOSS}", None),
        ("POST", f"/v1/certificates/{BOSS}/revoke", {}),
        ("PUT", f"/v1/people/{BOSS}/roles", {"roles": ["administrator"]}),
        ("POST", f"/v1/people/{login}/leave", {}),
    )
    for method, path, body in questions:
        answer = desk.ask("boss", method, path, body)
        assert (answer.status, answer.code) == (409, "ambiguous")
    said = desk.ask("boss", "GET", f"/v1/certificates/{BOSS}").body.decode()
    assert all(serial in said for serial in serials.values())
    assert desk.ask("boss", "POST", f"/v1/certificates/{serials[login]}/revoke", {}).status == 200  # by its serial
    assert desk.ask("boss", "PATCH", "/v1/people/dora", {"email": "dora@example.com"}).status == 200
    assert desk.ask("boss", "POST", f"/v1/people/{BOSS}/leave", {}).status == 200
