"""Guarded fetches: what may be called and what may not, with the address that was checked."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
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
        if self.path in ("/drip", "/drip-body"):
            self.drip()
            return
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

    def drip(self) -> None:
        """A line, or a byte of a body without an end, every few moments: each read is quick, the whole is not."""
        with contextlib.suppress(OSError):
            self.send_response(200)
            if self.path == "/drip-body":
                self.end_headers()
            else:
                self.flush_headers()
            for number in range(100):
                self.wfile.write(b"x" if self.path == "/drip-body" else b"X-%d: y\r\n" % number)
                self.wfile.flush()
                time.sleep(0.05)

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


#: An address, and whether it may be called when only public ones are allowed, and when private ones are, too.
ADDRESSES = [
    ("93.184.216.34", True, True),
    ("2606:2800:220:1::1", True, True),
    ("2001:4860:4860::8888", True, True),
    # This machine and this wire: never.
    *((here, False, False) for here in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "::")),
    *((wire, False, False) for wire in ("169.254.169.254", "fe80::1%eth0", "224.0.0.1", "ff02::1")),
    # The same, said in IPv6: mapped, compatible, translated, NAT64 (RFC 6052; of its own prefix nobody knows where it leads), 6to4, Teredo.
    *((same, False, False) for same in ("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::169.254.169.254", "::ffff:0:127.0.0.1")),
    *((same, False, False) for same in ("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "64:ff9b:1:7f00:0:100::")),
    *((same, False, False) for same in ("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:808:808:0:0:80ff:fffe")),
    # Private, shared, for documentation, for benchmarks, for nobody.
    *((own, False, True) for own in ("10.0.0.1", "192.168.1.1", "172.16.0.9", "100.64.0.1", "198.18.0.1", "192.0.0.8", "192.88.99.1", "192.0.2.1")),
    *((own, False, True) for own in ("fd00::1", "fec0::1", "3fff::1", "5f00::1", "2001:db8::1", "2001:2::1", "100::1")),
    *((own, False, True) for own in ("::ffff:10.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2002:808:808::")),
    # A public address behind the well-known NAT64 prefix is that public address: on some networks there is no other way.
    ("64:ff9b::808:808", True, True),
    ("::ffff:8.8.8.8", True, True),
]


@pytest.mark.parametrize(("address", "public", "private"), ADDRESSES, ids=[row[0] for row in ADDRESSES])
def test_which_addresses_are_called(address: str, public: bool, private: bool) -> None:
    assert (guard.address_problem(address, private=False) is None) is public
    assert (guard.address_problem(address, private=True) is None) is private
    here = any(said in address for said in ("127.0.0.1", "127.9.9.9", "7f00:1", ":80ff:fffe"))
    assert (guard.address_problem(address, private=True, loopback=True) is None) is (private or (here and "64:ff9b:1:" not in address) or address == "::1")
    if not public:
        with pytest.raises(Refused, match=r"is not a public address|of this machine or this wire"):
            guard.fetch("GET", "http://name.example/", resolver=lambda *_: [address])


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


@pytest.mark.parametrize("path", ["/drip", "/drip-body"])
def test_the_limit_of_time_is_for_all_of_it(server: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.4)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"longer than 0\.4 seconds"):
        guard.fetch("GET", f"http://127.0.0.1:{server}{path}", loopback=True)
    assert time.monotonic() - begun < 3, "each read would have waited for 0.4 seconds, and there are a hundred"


def test_names_that_are_none() -> None:
    for host in ("hooks..example.com", "a" * 64 + ".example", "." * 3 + "example.com"):
        with pytest.raises(Unavailable, match="is no name of a host"):
            guard.fetch("GET", f"http://{host}/x")


def test_nobody_there(server: int) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        guard.fetch("GET", "http://127.0.0.1:1/", loopback=True)
    with pytest.raises(Unavailable, match="has no address"):
        guard.fetch("GET", "http://name.invalid/", resolver=lambda *_: [])


@given(st.text(max_size=60))
def test_no_url_makes_it_crash(url: str) -> None:
    with pytest.raises(GatekeyError):
        guard.fetch("GET", url, resolver=lambda *_: ["127.0.0.1"])
