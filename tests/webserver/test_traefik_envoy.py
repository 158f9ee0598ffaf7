"""The two that cannot be run here: Envoy's configuration is read with Envoy's own schema and its Lua is run; Traefik's words are those of its manual."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatekey.errors import Refused
from gatekey.model import bundle, headers
from gatekey.webserver import envoy, traefik
from gatekey.webserver.site import Site

SITE = Site("app.example", upstream="http://127.0.0.1:8000")
DN = r"CN=K\C3\A4se\, \"S\" people"
SERIAL = "0A" + "B1" * 15


def _messages() -> None:
    """Envoy's message types that our configuration names, known to the reader."""
    for name in (
        "envoy.config.bootstrap.v3.bootstrap_pb2",
        "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
        "envoy.extensions.transport_sockets.tls.v3.secret_pb2",
        "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2",
        "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
        "envoy.extensions.filters.http.lua.v3.lua_pb2",
        "envoy.extensions.filters.http.router.v3.router_pb2",
        "envoy.service.discovery.v3.discovery_pb2",
    ):
        importlib.import_module(name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upstream": "unix:/run/app.sock", "groups": ("staff",)},
        {"upstream": "https://backend.example:8443", "listen": ("[::]:8443", "192.0.2.1:9443"), "plain": ()},
        {"revoked": 50_000},
    ],
)
def test_envoys_own_schema_takes_it(changes: dict[str, Any]) -> None:
    _messages()
    from envoy.config.bootstrap.v3 import bootstrap_pb2
    from envoy.service.discovery.v3 import discovery_pb2
    from google.protobuf import json_format

    site = SITE._replace(**changes)
    written = envoy.configuration(site)
    # ParseDict refuses every field and every enum value that the schema does not know, also inside the typed_config messages.
    bootstrap = json_format.ParseDict(yaml.safe_load(written.text), bootstrap_pb2.Bootstrap())
    assert len(bootstrap.static_resources.listeners) == len(site.listen) + len(site.plain)
    trust = json_format.ParseDict(yaml.safe_load(written.includes["/etc/gatekey/people.sds.yaml"]), discovery_pb2.DiscoveryResponse())
    assert len(trust.resources) == 1
    assert ("all.crl.pem" in written.includes["/etc/gatekey/people.sds.yaml"]) == site.crl_at_handshake
    assert any("not run" in note for note in written.notes)
    assert "NOT RUN" in written.text


def test_what_envoy_is_told() -> None:
    listener = yaml.safe_load(envoy.configuration(SITE).text)["static_resources"]["listeners"][0]
    chain = listener["filter_chains"][0]
    assert chain["filter_chain_match"] == {"server_names": ["app.example"]}
    assert len(listener["filter_chains"]) == 1
    assert "default_filter_chain" not in listener
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is tls["disable_stateless_session_resumption"] is tls["disable_stateful_session_resumption"] is True
    assert tls["common_tls_context"]["tls_params"] == {"tls_minimum_protocol_version": "TLSv1_2"}
    manager = chain["filters"][0]["typed_config"]
    assert manager["forward_client_cert_details"] == "SANITIZE_SET"
    assert [f["name"] for f in manager["http_filters"]] == ["envoy.filters.http.lua", "envoy.filters.http.router"]
    assert [host["domains"] for host in manager["route_config"]["virtual_hosts"]] == [["app.example", "app.example:443"]]


class FakeHandle:
    """What Envoy's Lua filter hands to a script, as far as ours asks."""

    def __init__(self, sent: dict[str, str], **ssl: Any) -> None:
        self.sent = dict(sent)
        self.ssl = {"peerCertificatePresented": True, "peerCertificateValidated": True, "issuerPeerCertificate": DN, **ssl}
        self.answer: tuple[str, str] | None = None


RUN = """
return function(python, get, set, remove, answer)
  local headers = {
    remove = function(_, name) remove(name) end,
    add = function(_, name, value) set(name, value) end,
  }
  local ssl = setmetatable({}, { __index = function(_, name) return function() return get(name) end end })
  local info = { downstreamSslConnection = function() if get("none") then return nil end return ssl end }
  local handle = {
    headers = function() return headers end,
    streamInfo = function() return info end,
    respond = function(_, fields, body) answer(fields[":status"], body) end,
  }
  return envoy_on_request(handle)
end
"""


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    known = [bundle.Known(DN, "people", SERIAL, "", "ann b", "Änn; $x", "ann@example.com", ("staff", "all hands, on deck"), "laptop")]
    for name, text in bundle.texts([bundle.Denied(DN, "0F" * 16)], known, [DN], 1).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "manifest.json").write_text("1")
    return tmp_path


def script(folder: Path, **changes: Any) -> Any:
    """`ask(handle)` runs the script of a site as Envoy would, in LuaJIT."""
    lupa = importlib.import_module("lupa.luajit21")
    runtime = lupa.LuaRuntime(unpack_returned_tuples=True)
    runtime.execute(envoy.lua(SITE._replace(bundle=str(folder), **changes)))
    run = runtime.execute(RUN)

    def ask(handle: FakeHandle) -> FakeHandle:
        def answer(status: str, body: str) -> None:
            handle.answer = (status, body)

        run(None, handle.ssl.get, handle.sent.__setitem__, lambda name: handle.sent.pop(name, None), answer)
        return handle

    return ask


def serial(text: str) -> dict[str, str]:
    """As BoringSSL prints it: lower case."""
    return {"serialNumberPeerCertificate": text.lower(), "subjectPeerCertificate": "CN=ann b", "urlEncodedPemEncodedPeerCertificate": "PEM"}


def test_the_lua_lets_the_known_in_and_says_who_they_are(bundled: Path) -> None:
    ask = script(bundled)
    told = ask(FakeHandle({"x-client-user": "root", "x-client-groups": "root", "accept": "*/*", "x-webauth-user": "root"}, **serial(SERIAL)))
    assert told.answer is None
    assert told.sent == {
        "accept": "*/*",
        headers.USER.lower(): "ann b",
        headers.GROUPS.lower(): "staff,all%20hands%2C%20on%20deck",
        headers.EMAIL.lower(): "ann@example.com",
        headers.NAME.lower(): "%C3%84nn%3B%20%24x",
        headers.DEVICE.lower(): "laptop",
        headers.SERIAL.lower(): SERIAL,
        headers.ISSUER.lower(): DN,
        headers.VERIFY.lower(): "SUCCESS",
        headers.CERT.lower(): "PEM",
    }


def test_the_lua_knows_a_certificate_younger_than_the_list_by_its_common_name(bundled: Path) -> None:
    ask = script(bundled)
    told = ask(FakeHandle({"x-client-groups": "root"}, **{**serial("77"), "subjectPeerCertificate": "CN=carl"}))
    assert told.answer is None
    assert told.sent[headers.USER.lower()] == "carl"
    assert headers.GROUPS.lower() not in told.sent
    assert ask(FakeHandle({}, **{**serial("77"), "subjectPeerCertificate": "CN=carl,O=Evil"})).answer is not None


@pytest.mark.parametrize(
    ("ssl", "words"),
    [
        ({**serial("0F" * 16)}, "withdrawn"),
        ({**serial(SERIAL), "issuerPeerCertificate": "CN=other"}, "not issued for this place"),
        ({**serial(SERIAL), "peerCertificateValidated": False}, "not issued"),
        ({**serial(SERIAL), "peerCertificatePresented": False}, "not issued"),
        ({**serial(SERIAL), "none": True}, "not issued"),
    ],
)
def test_the_lua_refuses(bundled: Path, ssl: dict[str, Any], words: str) -> None:
    told = script(bundled)(FakeHandle({"x-client-user": "root"}, **ssl))
    assert told.answer is not None
    assert told.answer[0] == "403"
    assert words in told.answer[1]
    assert "x-client-user" not in told.sent


def test_the_lua_keeps_a_site_for_some_groups(bundled: Path) -> None:
    assert script(bundled, groups=("boss", "all hands, on deck"))(FakeHandle({}, **serial(SERIAL))).answer is None
    for groups in (("sta",), ("all hands",), ("boss",)):
        told = script(bundled, groups=groups)(FakeHandle({}, **serial(SERIAL)))
        assert told.answer is not None
        assert "groups" in told.answer[1]


def test_the_lua_reads_the_lists_again_when_the_manifest_changes(bundled: Path) -> None:
    ask = script(bundled)
    assert ask(FakeHandle({}, **serial(SERIAL))).answer is None
    (bundled / "revoked.lst").write_text(bundle.revoked_lst([bundle.Denied(DN, SERIAL)]))
    (bundled / "manifest.json").write_text("2")
    end = time.monotonic() + 10
    while ask(FakeHandle({}, **serial(SERIAL))).answer is None:
        assert time.monotonic() < end, "still let in"
        time.sleep(0.05)


def test_the_lua_lets_nobody_in_without_lists(tmp_path: Path) -> None:
    told = script(tmp_path)(FakeHandle({}, **serial(SERIAL)))
    assert told.answer is not None
    assert told.answer[0] == "503"


def test_what_traefik_is_told() -> None:
    written = traefik.configuration(SITE)
    read = yaml.safe_load(written.text)
    options = read["tls"]["options"]
    assert options["default"] == options["gatekey"]
    assert options["gatekey"]["clientAuth"] == {"clientAuthType": "RequireAndVerifyClientCert", "caFiles": ["/etc/gatekey/bundle/people-chain.pem"]}
    assert options["gatekey"]["sniStrict"] is True
    assert options["gatekey"]["disableSessionTickets"] is True
    assert options["gatekey"]["minVersion"] == "VersionTLS12"
    router = read["http"]["routers"]["gatekey-app-example"]
    assert router["tls"] == {"options": "gatekey"}
    assert router["rule"] == "Host(`app.example`)"
    first, second = router["middlewares"]
    taken = read["http"]["middlewares"][first]["headers"]["customRequestHeaders"]
    assert {name.lower() for name in headers.STRIPPED} <= {name.lower() for name in taken}
    assert set(taken.values()) == {""}
    assert read["http"]["middlewares"][second] == {"passTLSClientCert": {"pem": True}}
    assert set(read["http"]) == {"routers", "middlewares", "services"}
    assert read["http"]["services"][router["service"]]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:8000"}]


def test_traefik_says_what_it_cannot_do() -> None:
    written = traefik.configuration(SITE)
    assert any("LETS REVOKED CERTIFICATES IN" in note for note in written.notes)
    assert "LETS REVOKED CERTIFICATES IN" in written.text
    assert "NOT RUN" in written.text
    for impossible in (SITE._replace(groups=("staff",)), SITE._replace(static_options=True), SITE._replace(upstream="unix:/run/app.sock")):
        with pytest.raises(Refused) as caught:
            traefik.configuration(impossible)
        assert caught.value.code == "server-cannot"
    with pytest.raises(Refused):
        envoy.configuration(SITE._replace(static_options=True))
