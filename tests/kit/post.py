"""A mail server that takes everything and counts it, but for what it was told to refuse."""

from __future__ import annotations

import socketserver
import threading
from email import message_from_bytes
from email.message import Message
from typing import Self


class _Talk(socketserver.StreamRequestHandler):
    """One conversation (RFC 5321), as far as smtplib leads it."""

    def handle(self) -> None:
        self.server.talks += 1  # type: ignore[attr-defined]  # set by MailServer
        if self.server.silent:  # type: ignore[attr-defined]
            self.rfile.readline()
            return
        self.say(b"220 kitty")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say(b"354 go on")
                text = b""
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    text += part.removeprefix(b".")
                self.server.letters.append(message_from_bytes(text))  # type: ignore[attr-defined]  # set by MailServer
                self.say(b"250 taken")
            elif verb == b"RCPT" and any(one in line.decode() for one in self.server.refused):  # type: ignore[attr-defined]
                self.say(self.server.refusal.encode())  # type: ignore[attr-defined]  # set by MailServer
            elif verb == b"QUIT":
                self.say(b"221 bye")
                return
            else:
                self.say(b"250 yes")

    def say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")


class MailServer(socketserver.ThreadingTCPServer):
    """Listens on loopback until the block ends. `letters`: all that came; `talks`: how many conversations began.

    `refused`: addresses that nobody has here; `refusal`: what is said of them. `silent`: takes connections and says nothing.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.letters: list[Message] = []
        self.talks = 0
        self.refused: tuple[str, ...] = ()
        self.refusal = "550 nobody here"
        self.silent = False

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
