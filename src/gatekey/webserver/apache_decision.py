"""Asks Gatekey's decision endpoint for Apache (`RewriteMap prg:`): one question on each line of stdin, one answer on each line of stdout.

    decision.py [--groups staff,admins] [--certificate F --key F --trust F] unix:/run/gatekey/proxy.sock|https://HOST:PORT SITE

A question is `SERIAL_ISSUER` with the issuer percent-encoded. An answer is `login;groups;email;name;device`, each percent-encoded, or `!WHY`, which is a no.
Apache asks one question at a time. Standard library only: a web server's host needs nothing else of Gatekey. Whatever goes wrong is a no.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import sys
from urllib.parse import quote, unquote, urlsplit

#: Seconds until an answer must be there.
PATIENCE = 3
TAKEN = ("X-Client-User", "X-Client-Groups", "X-Client-Email", "X-Client-Name", "X-Client-Device")


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("gatekey", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class Asker:
    """Keeps one connection to the service open, and asks once more over a new one when that was closed meanwhile."""

    def __init__(self, address: str, site: str, options: dict[str, str]) -> None:
        self._address = address
        self._more = {"X-Gatekey-Site": site}
        if options.get("--groups"):
            self._more["X-Gatekey-Groups"] = options["--groups"]
        self._context = None
        if not address.startswith("unix:"):
            self._context = ssl.create_default_context(cafile=options["--trust"])
            self._context.load_cert_chain(options["--certificate"], options["--key"])
        self._open: http.client.HTTPConnection | None = None

    def _connection(self) -> http.client.HTTPConnection:
        if self._address.startswith("unix:"):
            path = self._address[5:]
            become_nobody(path)
            return Unix(path)
        become_nobody("")
        where = urlsplit(self._address)
        return http.client.HTTPSConnection(where.hostname or "", where.port or 443, timeout=PATIENCE, context=self._context)

    def answer(self, question: str) -> str:
        """The line for one question. Never raises."""
        serial, _, issuer = question.partition("_")
        headers = {"X-Gatekey-Serial": serial, "X-Gatekey-Issuer": unquote(issuer), **self._more}
        for again in (self._open is not None, False):
            try:
                return self._ask(headers)
            except Exception:  # noqa: BLE001  the line that is owed is a no, whatever happened
                self._open = None
                if not again:
                    break
        return "!stale"

    def _ask(self, headers: dict[str, str]) -> str:
        if self._open is None:
            self._open = self._connection()
        self._open.request("GET", "/decision", headers=headers)
        answer = self._open.getresponse()
        answer.read(65536)
        if answer.status == 200 and answer.headers.get("X-Client-User"):
            login, *others = (answer.headers.get(name, "") for name in TAKEN)
            return ";".join([quote(login, safe="@+"), *others])
        if answer.status == 403:
            return "!" + (answer.headers.get("X-Gatekey-Why") or "unknown").replace(";", " ")
        return "!stale"


def become_nobody(path: str) -> None:
    """Apache starts its programs as root: that ends here, with the group that may open the socket and nothing else."""
    if os.geteuid() == 0:
        group = os.stat(path).st_gid if path else 65534
        os.setgroups([])
        os.setgid(group)
        os.setuid(65534)


def main(words: list[str]) -> None:
    """Answers until Apache ends."""
    options = {words[i]: words[i + 1] for i in range(0, len(words) - 2, 2)}
    asker = Asker(words[-2], words[-1], options)
    for line in sys.stdin:
        said = asker.answer(line.rstrip("\n")).replace("\n", " ").replace("\r", " ")
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
