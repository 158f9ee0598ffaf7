"""Mail and webhooks against servers that really speak SMTP and HTTP."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator

import pytest

from gatekey.errors import Misconfigured, Unavailable
from gatekey.model.mail import Mail
from gatekey.outgoing.mail import Server, Smtp
from gatekey.outgoing.webhook import Webhook, signature


class Postman(socketserver.StreamRequestHandler):
    """A small SMTP server (RFC 5321) that keeps what it is given."""

    taken: list[str]
    refuse = False

    def handle(self) -> None:
        self.say("220 post.example")
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
                self.say("550 nobody here")
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
    Postman.taken, Postman.refuse = [], False
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
    Postman.refuse = True
    with pytest.raises(Unavailable, match="did not take the message"):
        Smtp(Server("127.0.0.1", post, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)
    with pytest.raises(Unavailable, match="did not take the message"):
        Smtp(Server("127.0.0.1", 1, "ca@kitty.example", "none")).send(Mail("x@kitty.example", "s", "t"), at=0)


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


def test_a_webhook_that_says_no_is_told(hook: int) -> None:
    Hook.status = 500
    with pytest.raises(Unavailable, match="answered 500"):
        Webhook(f"http://127.0.0.1:{hook}/hook", b"secret").send({}, at=0)
