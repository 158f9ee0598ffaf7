"""The API without sockets: an authority, somebody for each role, and a way to ask.

    desk = Desk(folder)
    desk.ask("boss", "POST", "/v1/people", {"login": "ann"}).status      "boss" is an administrator
    desk.ask("", "GET", "/v1/me").status                                 nobody: 401
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from gatekey import app
from gatekey.authority import access, people, requests
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.keys import material
from gatekey.keys.material import PrivateKey
from gatekey.model.access import SCOPES
from gatekey.model.holder import Holder
from gatekey.model.names import Names
from gatekey.protocols.api.asking import Outside
from gatekey.protocols.api.gate import Gate
from gatekey.protocols.message import Answer, Call, Peer
from gatekey.testing import FakeClock
from gatekey.x509 import pem
from gatekey.x509.csr import encode_csr

#: Login -> role; `nobody` has a certificate and no role.
CAST = {"boss": "administrator", "olga": "operator", "aud": "auditor", "web": "proxy", "nobody": ""}
JSON = (("content-type", "application/json"),)


class Told(NamedTuple):
    """An answer as a test reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


def csr(name: str = "", *hosts: str) -> str:
    """A request in PEM with a key of its own."""
    key = material.make("p256")
    return pem.encode("CERTIFICATE REQUEST", encode_csr(Names(common_name=name, dns=hosts), key.spki, "p256", key.sign)).decode()


def cast(authority: Authority) -> dict[str, tuple[PrivateKey, bytes]]:
    """Somebody for each role, with key and certificate; Ann, who has none; and `all`, who has every role, so that a token can have every scope."""
    found = {}
    for login, role in CAST.items():
        key = material.make("p256")
        found[login] = key, issue(authority, *requests.client(authority, login, key.spki)).der
        if role:
            access.set_roles(authority, login, add=[role])
    people.add(authority, Holder("ann", "person", "Änn", "ann@example.com", ("staff",)))
    people.add(authority, Holder("all", "service"))
    access.set_roles(authority, "all", add=["administrator", "proxy"])
    return found


class Desk:
    """An authority with one person for each role. `faults`: what went wrong in Gatekey itself; a test may look, and `close` insists that there is nothing."""

    def __init__(self, folder: Path, *, outside: Outside | None = None, **founding: Any) -> None:
        self.clock = FakeClock()
        self.authority = app.create_authority(folder / "home", app.Founding("Kitty CA", unencrypted_keys=True, **founding), clock=self.clock, who="test")
        self.faults: list[BaseException] = []
        self.gate = Gate(self.authority, material.make, outside or app.outside(), lambda fault, _: self.faults.append(fault))
        self.certificates = {login: der for login, (_, der) in cast(self.authority).items()}
        self.tokens = {scope: access.make_token(self.authority, "all", [scope])[1] for scope in SCOPES}

    def ask(
        self, who: str, method: str, path: str, body: Any = None, *, headers: tuple[tuple[str, str], ...] = JSON, key: str = "", raw: bytes | None = None
    ) -> Told:
        """`who`: a login of the cast (by certificate), a scope (by a token with just that), or nobody."""
        return told(self.gate.answer(self.call(who, method, path, body, headers=headers, key=key, raw=raw)))

    def call(
        self, who: str, method: str, path: str, body: Any = None, *, headers: tuple[tuple[str, str], ...] = JSON, key: str = "", raw: bytes | None = None
    ) -> Call:
        more = [("host", "gatekey.example"), *headers]
        if key:
            more.append(("idempotency-key", key))
        if who in self.tokens:
            more.append(("authorization", f"Bearer {self.tokens[who]}"))
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        plain, _, query = path.partition("?")
        return Call("private", method, plain, query, tuple(more), data, Peer("127.0.0.1", self.certificates.get(who, b"")), "test-1")

    def close(self) -> None:
        self.authority.close()
        assert self.faults == []


def told(answer: Answer) -> Told:
    return Told(answer.status, dict(answer.headers), answer.body)
