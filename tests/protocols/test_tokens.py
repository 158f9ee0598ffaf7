"""Tokens at every route: what one may that is in force, and that one that is expired, revoked, orphaned or too narrow may nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey import app
from gatekey.authority import access, people
from gatekey.authority.standing import Standing
from gatekey.errors import Refused
from gatekey.keys import material
from gatekey.model.access import SCOPES
from gatekey.model.holder import Holder
from gatekey.model.instants import DAY
from gatekey.protocols import agents, decision
from gatekey.protocols.api import table
from gatekey.protocols.api.asking import Route
from gatekey.protocols.api.gate import Gate
from gatekey.protocols.message import Call, Peer
from gatekey.web import logs
from gatekey.x509.names import rfc2253
from kit.desk import JSON, Desk, Told

ROLES = ("administrator", "proxy")
#: What happened to a token that once could do everything -> how it is refused.
OVER = {"expired": "sign-in", "revoked": "sign-in", "holder left": "sign-in", "roles taken away": "forbidden"}


def made(desk: Desk, login: str, *scopes: str, days: int = 90) -> tuple[str, str]:
    """Id and secret of a token for somebody who has every role."""
    people.add(desk.authority, Holder(login, "service"))
    access.set_roles(desk.authority, login, add=ROLES)
    token, secret = access.make_token(desk.authority, login, scopes or SCOPES, days=days)
    return token.id, secret


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    one = Desk(tmp_path_factory.mktemp("tokens"))
    for number, login in enumerate(OVER):
        token_id, one.tokens[login] = made(one, f"robot-{number}", days=1 if login == "expired" else 90)
        assert ask(one, login, table.ROUTES[0]).status not in (401, 403), "it was good before"
        if login == "revoked":
            access.revoke_token(one.authority, token_id)
        elif login == "holder left":
            assert one.ask("boss", "POST", f"/v1/people/robot-{number}/leave", {}).status == 200
        elif login == "roles taken away":
            access.set_roles(one.authority, f"robot-{number}", remove=ROLES)
    for scope in SCOPES:
        one.tokens[f"all but {scope}"] = made(one, f"narrow-{scope}", *(other for other in SCOPES if other != scope))[1]
    one.clock.move(days=1)
    yield one
    one.close()


def ask(desk: Desk, token: str, route: Route) -> Told:
    """What is let in is stopped by its body, or by a path to nothing."""
    path = route.path
    for word in ("ref", "login", "id", "name", "file"):
        path = path.replace(f"{{{word}}}", "no-such-thing")
    return desk.ask(token, route.method, path, raw=b"[]" if route.body else None, headers=JSON)


@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: str(route.name))
def test_a_token_that_is_over_opens_nothing(desk: Desk, route: Route) -> None:
    for token, code in OVER.items():
        told = ask(desk, token, route)
        if code == "forbidden" and not route.scopes:  # /v1/me: it is still somebody's, and may tell him that
            assert (told.status, told.json["scopes"]) == (200, [])
        else:
            assert (told.status, told.code) == (401 if code == "sign-in" else 403, code), token
            if code == "sign-in":  # and never which of these it is
                assert told.json["detail"] == "the token that was given is not in force: it is unknown, revoked, over, or its holder has left"


@pytest.mark.parametrize("route", table.ROUTES, ids=lambda route: str(route.name))
def test_a_token_is_as_wide_as_its_scopes(desk: Desk, route: Route) -> None:
    for scope in SCOPES:
        wide, narrow = ask(desk, scope, route), ask(desk, f"all but {scope}", route)
        enough = not route.scopes or scope in route.scopes
        assert (wide.status not in (401, 403)) == enough, (scope, wide)
        left = not route.scopes or bool({*route.scopes} - {scope})
        assert (narrow.status not in (401, 403)) == left, (scope, narrow)
        for told in (wide, narrow):
            assert told.status not in (401, 403) or told.code == "forbidden"


def test_agents_are_asked_for_the_same(desk: Desk) -> None:
    issuers = {rfc2253(desk.authority.issuing("people").certificate.subject): "people"}
    standing = Standing(desk.authority.reads, desk.authority.clock, issuers, {})
    own = agents.Desk(desk.authority, standing)
    for token, secret in desk.tokens.items():
        call = Call("private", "GET", "/agent/bundle", headers=(("authorization", f"Bearer {secret}"),), peer=Peer("127.0.0.1"))
        if token in OVER:
            with pytest.raises(Refused) as refused:
                own.caller(call)
            assert refused.value.code == OVER[token], token
        elif token == "decide" or (token.startswith("all but ") and token != "all but decide"):
            assert own.caller(call).may("decide"), token
        else:
            with pytest.raises(Refused) as refused:
                own.caller(call)
            assert refused.value.code == "forbidden", token


def test_no_token_asks_for_decisions(desk: Desk) -> None:
    """There a web server proves itself by its certificate, or by the socket; whatever token it has."""
    issuers = {rfc2253(desk.authority.issuing("people").certificate.subject): "people"}
    standing = Standing(desk.authority.reads, desk.authority.clock, issuers, {})
    door = decision.Door(standing, access.Proxies(desk.authority, lambda: standing.event), lambda *_: None)
    for secret in desk.tokens.values():
        call = Call("private", "GET", "/decision", headers=(("authorization", f"Bearer {secret}"),), peer=Peer("127.0.0.1"))
        assert door.answer(call).status == 403


@pytest.mark.parametrize("scope", SCOPES)
def test_what_ends_while_it_is_in_use_ends_at_once(tmp_path: Path, scope: str) -> None:
    """A token that was asked with a moment ago, and is remembered: revoked, orphaned, without its role. Each at a route of each scope."""
    desk = Desk(tmp_path)
    route = next(route for route in table.ROUTES if scope in route.scopes)
    tokens = {}
    for login in ("a", "b", "c", "d"):
        token_id, desk.tokens[login] = made(desk, login, scope)
        tokens[login] = token_id
        assert ask(desk, login, route).status not in (401, 403)
    access.revoke_token(desk.authority, tokens["a"])
    access.set_roles(desk.authority, "b", remove=ROLES)
    assert desk.ask("boss", "POST", "/v1/people/c/leave", {}).status == 200
    assert [ask(desk, login, route).status for login in "abc"] == [401, 403, 401]
    assert ask(desk, "d", route).status not in (401, 403)
    desk.close()


def test_a_whole_token_in_the_path_is_revoked_and_told_nowhere(tmp_path: Path) -> None:
    """An easy mistake; the path stands in logs, ours and others'."""
    out = io.StringIO()
    log = logs.Log("info", out)
    desk = Desk(tmp_path)
    desk.gate = Gate(desk.authority, material.make, app.outside(), refusal=log.refusal)
    short, secret = made(desk, "robot")
    told = desk.ask("boss", "DELETE", f"/v1/tokens/{secret}", headers=())
    assert (told.status, told.json["id"], bool(told.json["revoked_at"])) == (200, short, True)
    part = secret.rpartition("_")[2]
    for method, path, code in (
        ("DELETE", f"/v1/tokens/{secret}", "no-token"),
        ("GET", f"/v1/people/{secret}", "no-holder"),
        ("GET", f"/v1/tokens?login={secret}", "no-holder"),
        ("GET", f"/v1/people?{secret}=1", "bad-request"),
        ("GET", f"/v1/bundle/{secret}", "no-file"),
        ("POST", f"/v1/tokens/{secret}", "method-not-allowed"),
        ("GET", f"/v1/{secret}", "no-route"),
    ):
        told = desk.ask("boss", method, path, headers=())
        assert told.code == code
        assert part not in told.body.decode()
    assert len(out.getvalue().splitlines()) == 7
    assert part not in out.getvalue()
    assert json.loads(out.getvalue().splitlines()[0])["path"] == f"/v1/tokens/gkt_{short}***"
    events = [event for event in desk.authority.reads.events(1) if event.action == "token.revoke"]
    assert [event.subject for event in events] == [short]
    desk.close()


def test_a_token_ends_in_its_last_second(tmp_path: Path) -> None:
    """Also one that was asked with a second before."""
    desk = Desk(tmp_path)
    desk.tokens["short"] = made(desk, "robot", days=1)[1]
    desk.clock.move(seconds=DAY - 1)
    assert desk.ask("short", "GET", "/v1/people").status == 200
    desk.clock.move(seconds=1)
    assert desk.ask("short", "GET", "/v1/people").status == 401
    desk.close()
