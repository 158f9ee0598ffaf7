"""Certificates of the listeners, changed while they serve; and what we rely on in uvicorn."""

from __future__ import annotations

import inspect
import ssl
from pathlib import Path

import pytest
from uvicorn.protocols.http import httptools_impl

from gatekey.api import Authority
from gatekey.authority import own
from gatekey.errors import Misconfigured, Unavailable
from gatekey.keys import material
from gatekey.testing import FakeClock
from gatekey.web import tls
from gatekey.x509.certificate import Certificate, read_certificate
from kit.pki import make_pki


def shown(context: ssl.SSLContext) -> Certificate:
    """The certificate that a handshake in memory shows."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking, answering = client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = asking.getpeercert(binary_form=True)
    assert der
    return read_certificate(der)


def test_its_own_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path: Path) -> None:
    clock = FakeClock()
    with Authority.create(tmp_path / "home", "Test", unencrypted_keys=True, clock=clock) as authority:
        core = authority._core
        listeners = [tls.Tls(), tls.Tls()]
        failing = False

        def issue() -> tuple[bytes, bytes, int, int]:
            if failing:
                raise Unavailable("store-locked", "locked")
            return own.server_certificate(core, ("pki.example", "192.0.2.1"), lambda: material.make("p256"))

        ours = tls.Own(issue, core.now, listeners)
        first = shown(listeners[0].context)
        assert first == shown(listeners[1].context)
        assert (first.names.dns, first.names.ips) == (("pki.example",), ("192.0.2.1",))
        clock.move(days=19)
        ours.look()
        assert shown(listeners[0].context) == first
        clock.move(days=1, seconds=1)
        failing = True
        with pytest.raises(Unavailable):
            ours.look()
        assert shown(listeners[0].context) == first
        clock.move(seconds=3601)
        with pytest.raises(Unavailable):
            ours.look()
        assert ours.check().state == "warn"
        failing = False
        clock.move(seconds=61)
        ours.look()
        second = shown(listeners[0].context)
        assert second.serial != first.serial
        assert second == shown(listeners[1].context)
        assert ours.check().state == "ok"
        clock.move(days=40)
        assert ours.check().state == "fail"
        assert {record.profile for record in core.reads.by_serial(second.serial)} == {"server"}, "recorded like every other"


def test_what_we_read_of_uvicorn_is_there() -> None:
    """The protocol, and the answer in one write, know its insides as they are in 0.54."""
    source = inspect.getsource(httptools_impl.HttpToolsProtocol)
    names = ("app", "cycle", "flow", "transport", "parser", "connections", "server_state", "timeout_keep_alive_task", "loop", "_unset_keepalive_if_required()")
    for name in names:
        assert f"self.{name}" in source, name
    cycle = inspect.signature(httptools_impl.RequestResponseCycle.__init__)
    assert {"transport", "flow", "message_event", "keep_alive", "on_response"} <= cycle.parameters.keys()
    send = inspect.getsource(httptools_impl.RequestResponseCycle.send)
    flags = ("response_started = True", "waiting_for_100_continue = False", "response_complete = True", "message_event.set()", "on_response()")
    for line in flags:
        assert f"self.{line}" in send, line


def test_a_context_in_use_is_never_changed_and_a_wrong_pair_changes_nothing(tmp_path: Path) -> None:
    """Certificate and key are taken one after the other: in a context that serves, a handshake in between would fail."""
    one, other = make_pki().server("localhost"), make_pki().server("localhost")
    certificate, key = tmp_path / "site.crt", tmp_path / "site.key"
    certificate.write_bytes(one.chain_pem)
    key.write_bytes(one.key_pem)
    listener = tls.Tls()
    kept = tls.Files(certificate, key, [listener])
    before = listener.context
    certificate.write_bytes(other.chain_pem)  # half of the way
    kept.look()
    assert kept.check().state == "warn"
    assert listener.context is before
    assert shown(before).der == one.der
    key.write_bytes(other.key_pem)
    kept.look()
    assert kept.check().state == "ok"
    assert shown(listener.context).der == other.der
    assert shown(before).der == one.der, "connections that began with it go on with it"
    listener.ask_for(make_pki().chain_pem)
    assert shown(listener.context).der == other.der
    assert listener.context.verify_mode is ssl.CERT_OPTIONAL
    key.unlink()
    kept.look()
    assert "site.key" in kept.check().message
    with pytest.raises(Misconfigured, match="cannot be used as certificate and key"):
        tls.Files(certificate, key, [listener])
