"""One knock, before small TLS servers that do what real ones do when they are in a bad mood."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatekey.errors import Malformed, Unavailable
from gatekey.webserver import knock as knocking
from gatekey.webserver.answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, NOT_TLS, TIMEOUT, UNREADABLE, Answer
from gatekey.webserver.knock import Budget, Identity, Knock, Line, check_identity, connect, knock
from kit.listening import listening
from kit.pki import Leaf, make_pki, new_key

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def identity(leaf: Leaf) -> Identity:
    return Identity(leaf.chain_pem, leaf.key_pem, leaf.name)


@contextlib.contextmanager
def serving(talk: Callable[[ssl.SSLSocket], None], folder: Path, *, trust: bytes = b"") -> Iterator[int]:
    """A TLS server on loopback; `talk` gets each connection after its handshake. `trust`: ask for certificates of these authorities."""
    files = make_pki("servers").server("app.example").write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    if trust:
        context.load_verify_locations(cadata=trust.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    with listening(lambda peer: _with_tls(peer, context, talk)) as port:
        yield port


def _with_tls(peer: socket.socket, context: ssl.SSLContext, talk: Callable[[ssl.SSLSocket], None]) -> None:
    with context.wrap_socket(peer, server_side=True) as tls:
        talk(tls)


def answers(sent: bytes) -> Callable[[ssl.SSLSocket], None]:
    def talk(peer: ssl.SSLSocket) -> None:
        while peer.recv(4096):
            peer.sendall(sent)

    return talk


def try_(port: int, *, patience: float = 5.0, **change: object) -> Answer:
    what = Knock("127.0.0.1", port, "app.example", "app.example")._replace(**change)  # type: ignore[arg-type]
    return knock(what, Budget(1, 30, patience))


def test_an_answer_with_everything_that_was_heard(tmp_path: Path) -> None:
    pki = make_pki()
    with serving(answers(OK), tmp_path, trust=pki.chain_pem) as port:
        for version in ("1.2", "1.3"):
            answer = try_(port, identity=identity(pki.client("ann")), tls=version)
            assert (answer.kind, answer.status, answer.body, answer.tls, answer.resumed) == (ANSWERED, 200, b"hi", f"TLSv{version}", False)
            assert answer.heard is not None
            assert answer.heard.asked
            assert answer.heard.authorities == ()  # Python asks without naming anybody; test_check_holes has servers that name theirs
            assert len(answer.heard.chain) == 2


def test_refusals_in_tls_are_named(tmp_path: Path) -> None:
    pki = make_pki()
    cases = [("1.3", None, 116), ("1.2", None, 40), ("1.3", pki.foreign().client("ann"), 48), ("1.2", pki.client("ann", expired=True), 45)]
    with serving(answers(OK), tmp_path, trust=pki.chain_pem) as port:
        for version, leaf, alert in cases:
            answer = try_(port, identity=identity(leaf) if leaf else None, tls=version)
            assert (answer.kind, answer.alert) == (ALERT, alert), answer.face


def test_what_was_asked(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def talk(peer: ssl.SSLSocket) -> None:
        seen.append(peer.recv(4096))
        peer.sendall(OK)

    with serving(talk, tmp_path) as port:
        try_(port, method="POST", path="/x?y=1", headers=(("X-Thing", "1"),), host="other.example")
        try_(port, headers=(("Connection", "Upgrade"), ("Upgrade", "websocket")))
    lines = ["POST /x?y=1 HTTP/1.1", "Host: other.example", "User-Agent: gatekey-check", "Accept: */*", "X-Thing: 1", "Connection: close", "Content-Length: 0"]
    assert seen[0].decode() == "\r\n".join(lines) + "\r\n\r\n"
    assert seen[1].count(b"Connection:") == 1


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", CLOSED),
        (b"220 mail.example ESMTP\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nX: ", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\n\r\nx", ANSWERED),
    ],
)
def test_bad_moods(sent: bytes, kind: str, tmp_path: Path) -> None:
    def talk(peer: ssl.SSLSocket) -> None:
        peer.recv(4096)
        peer.sendall(sent)

    with serving(talk, tmp_path) as port:
        answer = try_(port)
    assert answer.kind == kind
    assert answer.face


def test_silence_and_slowness_are_bounded(tmp_path: Path) -> None:
    done = threading.Event()

    def drip(peer: ssl.SSLSocket) -> None:
        peer.recv(4096)
        while not done.wait(0.05):
            peer.sendall(b"H")

    began = time.monotonic()
    with serving(drip, tmp_path) as port:
        assert try_(port, patience=0.4).kind == TIMEOUT
        done.set()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert try_(silent.getsockname()[1], patience=0.3).kind == TIMEOUT
    assert time.monotonic() - began < 5


def test_where_nothing_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert try_(port).kind == NOT_LISTENING

    def plain(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with listening(plain) as port:
        assert try_(port).kind == NOT_TLS
        assert try_(port, plain=True).status == 400
    with listening(lambda peer: None) as port:
        assert try_(port).kind == CLOSED


def test_a_session_is_offered_again(tmp_path: Path) -> None:
    pki = make_pki()
    ann = identity(pki.client("ann"))
    with serving(answers(OK), tmp_path, trust=pki.chain_pem) as port:
        for version in ("1.2", "1.3"):
            what = Knock("127.0.0.1", port, "app.example", "app.example", ann, tls=version)
            budget = Budget(2, 30, 5)
            line = connect(what, budget)
            assert isinstance(line, Line)
            assert not line.ask(what).resumed
            line.close()
            again = connect(what, budget, resume=line)
            assert isinstance(again, Line)
            answer = again.ask(what)
            again.close()
            assert answer.resumed, version
            assert answer.heard is not line.heard


def test_a_line_carries_several_requests_and_notices_its_end(tmp_path: Path) -> None:
    over = threading.Event()

    def talk(peer: ssl.SSLSocket) -> None:
        for _ in range(2):
            peer.recv(4096)
            peer.sendall(OK)
        over.wait(5)

    what = Knock("127.0.0.1", 0, "app.example", "app.example", keep=True)
    with serving(talk, tmp_path) as port:
        line = connect(what._replace(port=port), Budget(1, 30, 5))
        assert isinstance(line, Line)
        assert [line.ask(what).status for _ in range(2)] == [200, 200]
        assert not line.ends_within(0.1)
        over.set()
        assert line.ends_within(5)
        assert line.ask(what).kind == CLOSED
        line.close()


def test_the_budget_ends_it() -> None:
    budget = Budget(1, 30, 1)
    budget.spend()
    with pytest.raises(Unavailable) as caught:
        knock(Knock("127.0.0.1", 1), budget)
    assert caught.value.code == "check-budget"
    with pytest.raises(Unavailable):
        Budget(5, -1, 1).spend()


def test_identities_that_cannot_be_used() -> None:
    pki = make_pki()
    ann, bob = pki.client("ann"), pki.client("bob")
    check_identity(identity(ann))
    wrong = [Identity(ann.chain_pem, bob.key_pem, "ann's"), Identity(b"", ann.key_pem), Identity(ann.chain_pem, b""), Identity(b"junk", b"junk")]
    for one in wrong:
        with pytest.raises(Malformed) as caught:
            check_identity(one)
        assert caught.value.code == "bad-identity"


def test_an_encrypted_key_does_not_ask() -> None:
    from cryptography.hazmat.primitives import serialization

    ann = make_pki().client("ann", key=(key := new_key()))
    locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(Malformed, match="cannot be used"):
        check_identity(Identity(ann.chain_pem, locked))


@pytest.mark.parametrize("memory", [True, False])
def test_keys_leave_nothing_on_the_disk(memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if not memory:
        monkeypatch.delattr(os, "memfd_create")
    before = len(os.listdir("/proc/self/fd"))
    modes: list[int] = []
    with knocking._as_file(b"secret") as path:
        assert Path(path).read_bytes() == b"secret"
        modes = [entry.stat().st_mode & 0o777 for entry in (tmp_path, *tmp_path.rglob("*"))][1:]
    assert modes == ([] if memory else [0o700, 0o600])
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_said_of_a_knock() -> None:
    what = Knock("::1", 443, "app.example", "app.example", Identity(b"", b"", "a revoked certificate"), tls="1.3", headers=(("X-A", "b"),))
    assert what.words == "[::1]:443, TLS 1.3, SNI app.example, a revoked certificate: GET /, Host: app.example, X-A: b"
    assert Knock("10.0.0.1", 80, plain=True, host="h").words == "10.0.0.1:80, plain HTTP: GET /, Host: h"
    assert Knock("10.0.0.1", 443, host="h").words == "10.0.0.1:443, TLS, no SNI, no certificate: GET /, Host: h"
