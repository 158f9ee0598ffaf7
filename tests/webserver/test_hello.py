"""The hand-made ClientHello of old TLS versions, before OpenSSL, which still speaks them when it is made to."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.webserver.answer import ALERT, ANSWERED, CLOSED, TIMEOUT, UNREADABLE
from gatekey.webserver.hello import OLD, read_reply, say_hello
from gatekey.webserver.knock import Budget
from kit.pki import make_pki
from kit.servers import free_port, wait_until


@pytest.mark.interop
@pytest.mark.parametrize(("option", "spoken"), [("-tls1", "TLSv1.0"), ("-tls1_1", "TLSv1.1"), ("-tls1_2", ""), ("-tls1_3", "")])
def test_openssl_understands_it(option: str, spoken: str, tmp_path: Path, program: Callable[[str], str]) -> None:
    files = make_pki().server("app.example").write(tmp_path)
    port = free_port()
    command = [program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", option, "-cipher", "ALL:@SECLEVEL=0"]
    command += ["-cert", str(files.certificate), "-key", str(files.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _listens(port), "openssl s_server")
            for name, number in OLD.items():
                answer = say_hello(("127.0.0.1", port), "app.example", number, bytes(32), Budget(5, 20, 5))
                if spoken and OLD[spoken] <= number:
                    assert (answer.kind, answer.tls) == (ANSWERED, spoken), name
                else:
                    assert answer.kind in (ALERT, CLOSED), name
        finally:
            server.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("reply", "kind"), [(b"", CLOSED), (b"HTTP/1.1 400 Bad Request\r\n", UNREADABLE), (b"\x15\x03\x01\x00\x02\x02\x46", ALERT)])
def test_other_answers(reply: bytes, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer = listener.accept()[0]
            with peer:
                peer.recv(1000)
                peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        assert say_hello(listener.getsockname()[:2], "", OLD["TLSv1.0"], bytes(32), Budget(1, 10, 5)).kind == kind
        thread.join()


def test_silence_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert say_hello(listener.getsockname()[:2], "app.example", OLD["TLSv1.1"], bytes(32), Budget(1, 10, 0.2)).kind == TIMEOUT


@given(st.binary(max_size=40))
def test_any_reply_has_a_kind(reply: bytes) -> None:
    assert read_reply(reply).kind in {ALERT, ANSWERED, CLOSED, UNREADABLE}
