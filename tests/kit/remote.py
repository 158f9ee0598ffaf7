"""The API of a real service, asked as `kit.desk.Desk` is asked, over TLS with client certificates.

    remote = Remote(folder)
    with serving(folder, prepare=remote.prepare) as remote.service:
        remote.ask("boss", "GET", "/v1/me").json["roles"]
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from gatekey.api import Authority
from gatekey.authority import access
from gatekey.keys.material import PrivateKey
from gatekey.model.access import SCOPES
from gatekey.x509 import pem
from kit.desk import JSON, Told, cast
from kit.service import Service, client_context


class Remote:
    """`kit.desk.Desk`'s way of asking, over TLS: a connection for each question unless one is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.people: dict[str, tuple[PrivateKey, bytes]] = {}
        self.tokens: dict[str, str] = {}
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.service: Service | None = None

    def prepare(self, authority: Authority) -> None:
        core = authority._core
        self.people = cast(core)
        self.tokens = {scope: access.make_token(core, "all", [scope])[1] for scope in SCOPES}
        issuing = pem.encode("CERTIFICATE", core.issuing("people").certificate.der)
        self.contexts[""] = client_context(authority, self.folder)
        for login, (key, der) in self.people.items():
            chain = pem.encode("CERTIFICATE", der) + issuing
            self.contexts[login] = client_context(authority, self.folder, chain, pem.encode("PRIVATE KEY", key.pkcs8()))

    def connect(self, who: str) -> http.client.HTTPSConnection:
        assert self.service is not None
        return http.client.HTTPSConnection("localhost", self.service.private, context=self.contexts.get(who, self.contexts[""]), timeout=30)

    def ask(
        self, who: str, method: str, path: str, body: Any = None, *, headers: tuple[tuple[str, str], ...] = JSON, key: str = "", raw: bytes | None = None
    ) -> Told:
        with contextlib.closing(self.connect(who)) as connection:
            return self.on(connection, who, method, path, body, headers=headers, key=key, raw=raw)

    def on(
        self,
        connection: http.client.HTTPSConnection,
        who: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: tuple[tuple[str, str], ...] = JSON,
        key: str = "",
        raw: bytes | None = None,
    ) -> Told:
        more = dict(headers)
        if key:
            more["idempotency-key"] = key
        if who in self.tokens:
            more["authorization"] = f"Bearer {self.tokens[who]}"
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        connection.request(method, path, body=data or None, headers=more)
        answer = connection.getresponse()
        return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
