"""Whose certificate a web server hands on: one header has it, or nobody is there."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from gatekey.errors import Malformed
from gatekey.protocols.behind import Behind
from gatekey.protocols.message import Call, Peer
from gatekey.x509 import pem
from kit.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def see(desk: Desk, *headers: tuple[str, str]) -> bytes:
    """The certificate of whoever is there."""
    behind = Behind(desk.authority, ["unix"], lambda _: True)
    return behind.see(Call("private", "GET", "/v1/me", "", headers, b"", Peer("unix", b"the web server's own"))).peer.certificate


def test_one_header_has_the_certificate(desk: Desk) -> None:
    der = desk.certificates["olga"]
    rfc9440 = ("client-cert", f":{base64.b64encode(der).decode()}:")
    escaped = ("x-client-cert", quote(pem.encode("CERTIFICATE", der)))
    assert see(desk, rfc9440) == see(desk, escaped) == der
    for nobody in ((), (("client-cert", ""),), (("client-cert", ""), ("x-client-cert", ""))):
        assert see(desk, *nobody) == b""
    for both, words in (
        ((rfc9440, escaped), "more than once"),
        ((rfc9440, rfc9440), "more than once"),
        ((("x-client-cert", ""), rfc9440), "in client-cert, and another header says that there is none"),
        ((escaped, ("client-cert", " ")), "in x-client-cert, and another header says that there is none"),
        ((escaped, ("x-client-cert", "")), "in x-client-cert, and another header says that there is none"),
    ):
        with pytest.raises(Malformed) as raised:
            see(desk, *both)
        assert (raised.value.code, raised.value.message) == ("identity-doubled", f"the client's certificate stands there {words}")
