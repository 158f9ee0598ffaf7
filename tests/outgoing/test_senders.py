"""Mail and webhooks against servers that really speak SMTP and HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.errors import Misconfigured, Refused, Unavailable
from gatekey.model.mail import Mail
from gatekey.outgoing.mail import Server, Smtp
from gatekey.outgoing.webhook import Webhook, signature
from kit.pki import make_pki


class Postman(socketserver.StreamRequestHandler):
    """A small SMTP server (RFC 5321) that keeps what it is given."""

    taken: list[str]
    refuse = ""

    def handle(self) -> None:
        self.say("220 post.example")
        self.converse()

    def converse(self) -> None:
        lines: list[str] = []
        while raw := self.rfile.readline():
            word = raw.decode().strip()
            verb = word.split(" ")[0].upper()
            if verb == "DATA":
                self.say("354 go on")
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.decode())
                type(self).taken.append("".join(lines))
                self.say("250 taken")
            elif verb == "RCPT" and self.refuse:
                self.say(self.refuse)
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Hook(http.server.BaseHTTPRequestHandler):
    taken: list[tuple[str, bytes]]
    status = 204

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken.append((self.headers["X-Gatekey-Signature"], body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def running(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def post() -> Iterator[int]:
    Postman.taken, Postman.refuse = [], ""
    yield from running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Postman))


@pytest.fixture
def hook() -> Iterator[int]:
    Hook.taken, Hook.status = [], 204
    yield from running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook))


def test_a_letter_arrives_as_it_was_meant(post: int) -> None:
    smtp = Smtp(Server("127.0.0.1", post, "Kitty CA <ca@kitty.example>", "none"))
    smtp.send(Mail("ann@kitty.example", "Kitty CA: für Änn", "Grüße\n.\nund Ende\n"), at=1767225600)
    (letter,) = Postman.taken
    assert "To: ann@kitty.example" in letter
    assert "Thu, 01 Jan 2026 00:00:00" in letter
    assert "Auto-Submitted: auto-generated" in letter
    assert "@kitty.example>" in letter.split("Message-ID:")[1].split("\n")[0]


def test_a_letter_that_is_not_taken_is_told(post: int) -> None:
    Postman.refuse = "550 nobody here"
    with pytest.raises(Refused, match=r"refuses the message to x@kitty\.example: .*550"):
        Smtp(Server("127.0.0.1", post, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)
    with pytest.raises(Refused, match="refuses the message to"):
        Smtp(Server("127.0.0.1", post, "ca@kitty.example", "none")).send(Mail("ä@kitty.example", "s", "t"), at=0)
    Postman.refuse = "421 closing"
    with pytest.raises(Unavailable, match=r"did not take the message: .*421"):
        Smtp(Server("127.0.0.1", post, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)
    with pytest.raises(Unavailable, match="did not take the message"):
        Smtp(Server("127.0.0.1", 1, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)


class Slow(socketserver.StreamRequestHandler):
    """Greets without an end: a line every few moments (RFC 5321 4.2.1)."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"220-post.example\r\n")
                time.sleep(0.05)


def test_the_limit_of_time_is_for_the_whole_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekey.outgoing.mail.WHOLE", 0.4)
    for port in running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow)):
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"longer than 0\.4 seconds"):
            Smtp(Server("127.0.0.1", port, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)
        assert time.monotonic() - begun < 3


def test_a_server_whose_name_is_none_is_told() -> None:
    with pytest.raises(Unavailable, match="did not take the message"):
        Smtp(Server("post..example", 25, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_mail_over_tls_asks_for_the_servers_name(security: str, tmp_path: Path) -> None:
    """The certificate is verified against the name in the configuration, whichever way TLS begins."""
    pki = make_pki("kitty-ca servers")
    files = pki.server("localhost").write(tmp_path)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(files.chain, files.key)
    trusting = ssl.create_default_context(cadata=pki.root.pem.decode())

    class Secured(Postman):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                if security == "starttls":
                    for line in ("220 post.example", "250-post.example\r\n250 STARTTLS", "220 go on"):
                        self.say(line)
                        assert line == "220 go on" or self.rfile.readline()[:4] in (b"ehlo", b"STAR")
                with inside.wrap_socket(self.connection, server_side=True) as secured:
                    self.rfile, self.wfile = secured.makefile("rb"), secured.makefile("wb", 0)  # type: ignore[assignment]  # files all the same
                    self.converse() if security == "starttls" else super().handle()

    Secured.taken, Secured.refuse = [], ""
    for port in running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Secured)):
        Smtp(Server("localhost", port, "ca@kitty.example", security), trusting).send(Mail("x@kitty.example", "s", "t"), at=0)
        assert len(Secured.taken) == 1
        with pytest.raises(Unavailable, match="certificate verify failed"):
            Smtp(Server("127.0.0.1", port, "ca@kitty.example", security), trusting).send(Mail("x@kitty.example", "s", "t"), at=0)
    assert len(Secured.taken) == 1


def test_starttls_is_not_given_up_silently(post: int) -> None:
    with pytest.raises(Unavailable):
        Smtp(Server("127.0.0.1", post, "ca@kitty.example")).send(Mail("x@kitty.example", "s", "t"), at=0)
    assert Postman.taken == []


def test_no_password_in_the_clear() -> None:
    with pytest.raises(Misconfigured, match="would cross the network in the clear"):
        Smtp(Server("post.example", 25, "ca@kitty.example", "none", "user", "secret"))


def test_an_event_is_signed_with_its_time(hook: int) -> None:
    Webhook(f"http://127.0.0.1:{hook}/hook", b"secret").send({"event": "test", "who": "Änn"}, at=1767225600)
    ((said, body),) = Hook.taken
    assert json.loads(body) == {"event": "test", "who": "Änn"}
    assert said == f"t=1767225600,sha256={hmac.new(b'secret', b'1767225600.' + body, hashlib.sha256).hexdigest()}"
    assert said != signature(b"other", body, 1767225600)


def test_an_event_never_goes_to_what_is_link_local() -> None:
    """Though an administrator has written it: there a rented machine's secrets are told to whoever asks."""
    with pytest.raises(Refused, match=r"169\.254\.169\.254 is an address of this machine or this wire"):
        Webhook("http://169.254.169.254/", b"secret").send({}, at=0)


@pytest.mark.parametrize(("status", "error"), [(500, Unavailable), (302, Unavailable), (429, Unavailable), (400, Refused), (410, Refused)])
def test_a_webhook_that_says_no_is_told(hook: int, status: int, error: type[Exception]) -> None:
    """Unavailable: the next event would fare no better. Refused: it may."""
    Hook.status = status
    with pytest.raises(error, match=f"answered {status}"):
        Webhook(f"http://127.0.0.1:{hook}/hook", b"secret").send({}, at=0)
