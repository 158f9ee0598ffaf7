from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, render_template_string, request

from gatekey.errors import Misconfigured
from gatekey.identity.flask import Identity, client, require
from kit.house import House, nginx_says

PROXY = {"REMOTE_ADDR": "10.0.0.5"}


def app(house: House, **options: Any) -> Flask:
    made = Flask(__name__)
    made.testing = True
    Identity(made, **{"trust": "10.0.0.5", "bundle": house.bundle, **options})

    @made.get("/")
    def home() -> dict[str, Any]:
        return {"login": client.login, "headers": sorted(name for name, _ in request.headers)}

    @made.get("/page")
    def page() -> str:
        return render_template_string("{{ client.display }}{% if client.in_group('staff') %} of staff{% endif %}")

    @made.get("/staff/<word>")
    @require("staff")
    def staff(word: str) -> str:
        return word

    @made.get("/anybody")
    @require()
    def anybody() -> str:
        return "in"

    return made


def test_flask_knows_who_is_there(house: House) -> None:
    browser = app(house).test_client()
    answer = browser.get("/", headers={**nginx_says(house.ann), "Remote-User": "root"}, environ_overrides=PROXY)
    assert answer.get_json()["login"] == "ann"
    assert "Remote-User" not in answer.get_json()["headers"]
    assert browser.get("/page", headers=nginx_says(house.ann), environ_overrides=PROXY).text == "Änn Öberg of staff"
    assert browser.get("/", environ_overrides=PROXY).status_code == 403
    assert browser.get("/", headers=nginx_says(house.ann), environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).status_code == 403
    assert browser.get("/", headers={**nginx_says(house.ann), "X-Client-Serial": "rubbish"}, environ_overrides=PROXY).status_code == 400


def test_the_decorator_asks_for_groups(house: House) -> None:
    browser = app(house, anonymous=True).test_client()
    ann, bob = nginx_says(house.ann), nginx_says(house.bob)
    assert browser.get("/staff/yes", headers=ann, environ_overrides=PROXY).text == "yes"
    assert [browser.get("/staff/yes", headers=said, environ_overrides=PROXY).status_code for said in (bob, {})] == [403, 403]
    assert [browser.get("/anybody", headers=said, environ_overrides=PROXY).status_code for said in (ann, bob, {})] == [200, 200, 403]


def test_without_the_middleware_nobody_is_let_in() -> None:
    bare = Flask(__name__)
    bare.testing = True
    bare.add_url_rule("/", view_func=require()(lambda: "never"))
    with pytest.raises(Misconfigured):
        bare.test_client().get("/")
