"""The kit itself: each server starts, answers, reloads, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.backend import MARK, backend
from kit.servers import apache, caddy, free_port, free_ports, group_members, haproxy, nginx, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

HAPROXY = """\
defaults
 mode http
 timeout client 5s
 timeout server 5s
 timeout connect 5s
frontend f
 bind 127.0.0.1:{port}
 http-response set-header X-Word {word}
 default_backend b
backend b
 server s {bare}
"""
TEXTS: dict[str, tuple[Callable[..., Any], str]] = {
    "nginx": (nginx, "server {{ listen 127.0.0.1:{port}; location / {{ add_header X-Word {word}; proxy_pass {url}; }} }}"),
    "apache": (apache, 'Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\nHeader set X-Word {word}\nProxyPass "/" "{url}/"\n</VirtualHost>'),
    "haproxy": (haproxy, HAPROXY),
    "caddy": (caddy, "http://127.0.0.1:{port} {{\n header X-Word {word}\n reverse_proxy {bare}\n}}\n"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_starts_reloads_and_stops(name: str, tmp_path: Path) -> None:
    start, text = TEXTS[name]
    port = free_port()

    def filled(word: str) -> str:
        return text.format(port=port, word=word, url=app.url, bare=app.url.removeprefix("http://"))

    def word() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            assert MARK in answer.read().decode()
            return str(answer.headers["X-Word"])

    with backend() as app, start(filled("one"), tmp_path, [port]) as server:
        assert server.check().returncode == 0
        assert word() == "one"
        server.write(filled("two"))
        server.reload()
        wait_until(lambda: word() == "two", "the new configuration")
        group = server.process.pid
        server.write("nonsense }")
        assert server.check().returncode != 0
        with pytest.raises(AssertionError):
            server.reload()
        assert word() == "two"
    assert not group_members(group), "processes are left over"


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknown directive"), nginx("nonsense;", tmp_path, [free_port()]):
        raise AssertionError("it started")


def test_ports_are_not_given_twice() -> None:
    assert len(set(free_ports(50))) == 50
