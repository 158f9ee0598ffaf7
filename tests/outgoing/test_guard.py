"""Guarded fetches: what may be called and what may not, with the address that was checked."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Refused, Unavailable
from gatekey.outgoing import guard


class Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()
            return
        body = b"x" * (guard.MOST_BYTES + 5) if self.path == "/large" else b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1%eth0", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1"],
)
def test_this_machine_and_this_wire_are_never_called(address: str) -> None:
    for private in (False, True):
        with pytest.raises(Refused, match="of this machine or this wire"):
            guard.fetch("GET", "http://name.example/", private=private, resolver=lambda *_: [address])


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "192.168.1.1", "172.16.0.9", "100.64.0.1", "198.18.0.1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "192.0.0.8"],
)
def test_private_networks_only_when_they_are_allowed(address: str) -> None:
    with pytest.raises(Refused, match="is not a public address"):
        guard.fetch("GET", "http://name.example/", resolver=lambda *_: [address])
    assert guard.address_problem(address, private=True) is None


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(Refused):
        guard.fetch("GET", "http://name.example/", resolver=lambda *_: ["93.184.216.34", "127.0.0.1"])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "http://user:pass@example.com/", "gopher://x", "http:///x", "//example.com"])
def test_other_kinds_of_addresses(url: str) -> None:
    with pytest.raises(Refused, match="is not an http:// or https:// address"):
        guard.fetch("GET", url)


def test_the_checked_address_is_called_and_dns_is_asked_once(server: int) -> None:
    looks: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        looks.append(host)
        return ["127.0.0.1"] if len(looks) == 1 else ["169.254.169.254"]

    answer = guard.fetch("GET", f"http://rebind.example:{server}/page?q=1", loopback=True, resolver=resolver)
    assert (answer.status, answer.body) == (200, b"hello")
    assert looks == ["rebind.example"]
    assert Handler.asked == ["/page?q=1"]


def test_redirects_are_told_and_not_followed(server: int) -> None:
    answer = guard.fetch("GET", f"http://127.0.0.1:{server}/away", loopback=True)
    assert answer.status == 302
    assert Handler.asked == ["/away"]


def test_too_much_is_not_read(server: int) -> None:
    with pytest.raises(Unavailable, match="answers with more than"):
        guard.fetch("GET", f"http://127.0.0.1:{server}/large", loopback=True)


def test_nobody_there(server: int) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        guard.fetch("GET", "http://127.0.0.1:1/", loopback=True)
    with pytest.raises(Unavailable, match="has no address"):
        guard.fetch("GET", "http://name.invalid/", resolver=lambda *_: [])


@given(st.text(max_size=60))
def test_no_url_makes_it_crash(url: str) -> None:
    with pytest.raises(GatekeyError):
        guard.fetch("GET", url, resolver=lambda *_: ["127.0.0.1"])
