"""A tour through every route of the API, for whatever carries the questions; each answer is compared with its description."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any, Protocol

from gatekey.errors import CODES
from gatekey.model.webservers import SERVERS
from gatekey.protocols.api import table
from gatekey.protocols.api.shapes import Field, Shape
from gatekey.x509 import pem, pkcs12
from gatekey.x509.certificate import read_certificate
from gatekey.x509.crl import read_crl
from kit.desk import Told, csr

FITS = {
    "text": str, "lines": str, "instant": str, "texts": list, "number": int, "numbers": list, "decimal": float, "flag": bool, "object": dict, "objects": list,
    "map": dict,
}  # fmt: skip


class Asked(Protocol):
    """Who is asked: `kit.desk.Desk`, or a service over TLS."""

    def ask(self, who: str, method: str, path: str, body: Any = None, *, key: str = "") -> Told:
        """The answer. `who` is a login of `kit.desk.CAST`."""
        ...  # pragma: no cover


def misfit(shape: Shape, value: Any, where: str = "") -> list[str]:
    """What an answer has that its shape has not, and the other way round."""
    found = [f"{where}{name}: not described" for name in value if shape.field(name) is None]
    for field in shape.fields:
        if field.name not in value:
            found += [f"{where}{field.name}: missing"] if field.required else []
        else:
            found += _misfit(field, value[field.name], f"{where}{field.name}")
    return found


def _misfit(field: Field, value: Any, where: str) -> list[str]:
    if value is None:
        return [] if field.nullable else [f"{where}: null"]
    if not isinstance(value, FITS[field.kind]) or (field.kind == "number" and isinstance(value, bool)):
        return [f"{where}: {type(value)}"]
    if field.choices and field.kind == "text" and value not in field.choices:
        return [f"{where}: {value!r}"]
    if field.shape is None:
        return []
    inner: Any = value if field.kind == "objects" else [value]
    return [line for one in inner for line in misfit(field.shape, one, f"{where}.")]


class Tour:
    """Asks, and compares each good answer with what the table says of it."""

    def __init__(self, desk: Asked) -> None:
        self.desk = desk
        self.been: set[str] = set()

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, who: str = "boss", key: str = "") -> Told:
        told = self.desk.ask(who, method, path, body, key=key)
        assert told.status == status, told.body
        route = table.find(method, path.partition("?")[0])[0]
        assert route is not None
        if status < 400:
            self.been.add(route.name)
            assert status in (route.status, 304)
            if route.answer is not None:
                assert told.headers["content-type"] == "application/json"
                assert misfit(route.answer, told.json) == []
            elif status != 304:
                assert told.headers["content-type"] == route.media
        else:
            assert told.headers["content-type"] == "application/problem+json"
            assert told.code in CODES
        assert told.headers["x-content-type-options"] == "nosniff"
        return told


def tour(desk: Asked) -> None:
    """Uses every route of the table once and more."""
    ask = Tour(desk)
    assert ask("GET", "/v1/me").json["roles"] == ["administrator"]
    # people
    ask("POST", "/v1/people", {"login": "eve", "name": "Eve", "groups": ["staff"]}, status=201)
    assert ask("PATCH", "/v1/people/eve", {"email": "eve@example.com", "add_devices": ["phone"]}).json["devices"] == ["phone"]
    assert ask("GET", "/v1/people/eve@example.com").json["login"] == "eve"
    assert [one["login"] for one in ask("GET", "/v1/people?group=staff").json["items"]] == ["ann", "eve"]
    assert ask("PUT", "/v1/people/eve/roles", {"roles": ["auditor"]}).json["roles"] == ["auditor"]
    # certificates
    eve = ask("POST", "/v1/certificates/client", {"login": "eve", "device": "phone"}, status=201).json
    assert eve["handed_out"] == "now"
    opened = pkcs12.read(base64.b64decode(eve["pkcs12"]), eve["password"])
    assert pem.encode("CERTIFICATE", opened.certificate).decode() == eve["pem"]
    apple = ask("POST", "/v1/certificates/client", {"login": "eve", "device": "ipad", "for": "apple", "key_type": "rsa-2048"}, status=201).json
    assert b"com.apple.security.pkcs12" in base64.b64decode(apple["mobileconfig"])
    assert "PRIVATE KEY" in ask("POST", "/v1/certificates/client", {"login": "eve", "device": "pi", "for": "pem"}, status=201).json["key"]
    site = ask("POST", "/v1/certificates/server", {"hosts": ["app.example"], "ips": ["10.0.0.7"], "days": 30}, status=201).json
    assert site["alternatives"] == ["app.example", "10.0.0.7"]
    assert "PRIVATE KEY" in site["key"]
    signed = ask("POST", "/v1/certificates/sign", {"csr": csr("fred"), "profile": "client"}, status=201).json
    assert (signed["holder"], signed["handed_out"], signed["key"]) == ("fred", "never", None)
    assert ask("GET", f"/v1/certificates/{eve['serial']}").json["pem"] == eve["pem"]
    assert len(pem.decode(eve["chain"].encode())) == 2
    renewed = ask("POST", f"/v1/certificates/{eve['serial']}/renew", {}, status=201).json
    assert renewed["renews"] == eve["serial"]
    assert read_certificate(pem.decode(renewed["pem"].encode())[0][1]).spki == read_certificate(opened.certificate).spki
    new = ask("POST", "/v1/certificates/app.example/renew", {"new_key": True}, status=201).json
    assert new["handed_out"] == "now"
    ask("POST", "/v1/certificates/app.example/renew", {"csr": csr("ignored")}, status=201)
    assert ask("POST", "/v1/certificates/verify", {"certificate": renewed["chain"]}).json["ok"] is True
    assert ask("POST", "/v1/certificates/fred/hold").json["action"] == "held"
    told = ask("POST", "/v1/certificates/verify", {"certificate": signed["pem"]}).json
    assert (told["ok"], told["checks"]["revocation"]) == (False, "failed")
    assert ask("POST", "/v1/certificates/fred/unhold").json["status"] == "valid"
    gone = ask("POST", "/v1/certificates/fred/revoke", {"reason": "key-compromise"}).json
    assert [one["serial"] for one in gone["certificates"]] == [signed["serial"]]
    # authorities, CRL, bundle
    assert [one["name"] for one in ask("GET", "/v1/authorities").json["items"]] == ["people-root", "people", "servers-root", "servers"]
    assert len(pem.decode(ask("GET", "/v1/authorities/people").json["chain"].encode())) == 2
    assert pem.decode(ask("GET", "/v1/authorities/people/certificate").body)[0][0] == "CERTIFICATE"
    crl = ask("GET", "/v1/authorities/people/crl")
    assert read_crl(crl.body).find(int(signed["serial"], 16)) is not None
    assert ask("POST", "/v1/authorities/people/crl").json["number"] > read_crl(crl.body).number
    files = ask("GET", "/v1/bundle", who="web").json["files"]
    packed = zipfile.ZipFile(io.BytesIO(ask("GET", "/v1/bundle.zip", who="web").body))
    assert sorted(packed.namelist()) == sorted(files)
    single = ask("GET", "/v1/bundle/people.json", who="web").json
    assert {**json.loads(packed.read("people.json")), "made_at": single["made_at"]} == single  # made anew for each question
    ask("GET", "/v1/bundle/ledger.db", who="web", status=404)
    assert ask("GET", "/v1/authorities/requests").json["items"] == ask("GET", "/v1/authorities").json["waiting"] == []
    ask("POST", "/v1/authorities/install", {"files": "-----BEGIN CERTIFICATE-----\n"}, status=400)
    ask.been.add("installAuthority")  # tests/authority/test_corporate.py brings what it takes
    # profiles
    text = ask("GET", "/v1/profiles/client").json["toml"].replace("[profile.client]", "[profile.visitor]")
    assert ask("POST", "/v1/profiles/check", {"toml": text}).json["ok"] is True
    assert ask("POST", "/v1/profiles/check", {"toml": text.replace("validity", "validty")}).json["mistakes"]
    assert ask("PUT", "/v1/profiles/visitor", {"toml": text}).json["origin"] == "own"
    ask("PUT", "/v1/profiles/visitor", {"toml": text}, status=409)
    shorter = text.replace('"365d"', '"7d"')
    assert ask("PUT", "/v1/profiles/visitor", {"toml": shorter, "force": True}).json["validity"] == 7 * 86400
    assert ask("POST", "/v1/certificates/client", {"login": "guest", "profile": "visitor"}, status=201).json["profile"] == "visitor"
    ask("PUT", "/v1/profiles/other", {"toml": text}, status=400)
    assert "visitor" in [one["name"] for one in ask("GET", "/v1/profiles").json["items"]]
    assert ask("GET", "/v1/profiles/visitor/explain").json["rules"]
    # tokens
    token = ask("POST", "/v1/tokens", {"login": "eve", "scopes": ["read"], "about": "for a graph"}, status=201).json
    assert token["token"].startswith("gkt_")
    assert ask("GET", "/v1/tokens?login=eve").json["items"][0]["id"] == token["id"]
    # leaving
    before = ask("GET", "/v1/people/eve/leave").json
    assert (before["tokens"], before["roles"], len(before["certificates"])) == ([token["id"]], ["auditor"], 4)
    assert len(ask("POST", "/v1/people/eve/leave").json["certificates"]) == 4
    ask("DELETE", f"/v1/tokens/{token['id']}", status=404)
    token = ask("POST", "/v1/tokens", {"login": "aud", "scopes": ["read"]}, status=201).json
    ask("DELETE", f"/v1/tokens/{token['id']}")
    # outside: trust, devices, web servers
    root = ask("GET", "/v1/trust", who="web").json
    assert root["pem"] == ask("GET", "/v1/authorities/servers-root").json["pem"]
    assert "update-ca-certificates" in root["steps"]["Debian, Ubuntu"]
    for one in ask("GET", "/v1/install").json["items"]:
        assert "eve" in json.dumps(ask("GET", f"/v1/install/{one['target']}?name=eve").json)
    for server in SERVERS:
        written = ask("POST", "/v1/webserver", {"server": server, "site": "app.example", "contact": "ca@example.com"}).json
        assert "app.example" in written["text"] + "".join(written["includes"].values())
    assert len(ask("GET", "/v1/check").json["checks"]) == 36
    assert ask("POST", "/v1/check", {"site": "https://app.example"}, status=422).code == "check-not-allowed"
    ask.been.add("checkSite")  # tests/web/test_api_check.py has a site
    # the ledger
    assert ask("GET", "/v1/doctor").json["ready"] is True
    assert ask("GET", "/v1/status").json["name"] == "Kitty CA"
    events = ask("GET", "/v1/audit?limit=1000").json["items"]
    assert {"holder:boss"} <= {one["actor"] for one in events}
    assert [one["number"] for one in events] == list(range(1, len(events) + 1))
    assert ask("POST", "/v1/store/repair").json["whole"] is True
    assert ask("POST", "/v1/store/check").json == {"whole": True, "findings": [], "repaired": []}
    assert len(ask("GET", "/v1/certificates?limit=1000").json["items"]) > 10
    assert ask.been == {route.name for route in table.ROUTES}
