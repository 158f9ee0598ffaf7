"""Whether certificates send their readers to the public listener, and what only a restart changes: read out of gatekey.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekey import config
from gatekey.web import addresses


def said(text: str) -> config.Config:
    return config.parse(f'name = "X"\n{text}', Path("/home-of-it"))


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://pki.example.com", ["0.0.0.0:80"]),
        ("http://pki.example.com", ["[::]:80"]),
        ("http://pki.example.com:8080", ["10.1.0.5:8080"]),
        ("http://pki.example.com:8080", ["127.0.0.1:8080", "10.1.0.5:8080"]),
        ("http://127.0.0.1:8080", ["127.0.0.1:8080"]),
        ("http://localhost:8080/", ["[::1]:8080"]),
        ("http://pki.example.com", ["unix:/run/gatekey/public.sock"]),
        ("http://[2001:db8::1]", ["[2001:db8::1]:80"]),
    ],
)
def test_whoever_answers_there(url: str, public: list[str]) -> None:
    assert addresses.unserved(said(f'url = "{url}"'), public) == {}


@pytest.mark.parametrize(
    ("url", "public", "port"),
    [
        ("http://pki.example.com", ["127.0.0.1:8080"], 80),
        ("http://pki.example.com", ["0.0.0.0:8080"], 80),
        ("http://pki.example.com:8080", ["127.0.0.1:8080"], 8080),
        ("http://pki.example.com/kitty", ["0.0.0.0:80"], 80),
        ("http://pki.example.com", [], 80),
    ],
)
def test_nobody_answers_there_unless_somebody_stands_in_front(url: str, public: list[str], port: int) -> None:
    found = addresses.unserved(said(f'url = "{url}"'), public)
    assert found["message"].startswith(f"certificates send to {url} for CRLs and OCSP, but the public listener ")
    assert found["message"].endswith(public[0] if public else "is off")
    assert f"what comes to port {port} of pki.example.com" in found["hint"]
    assert f'[public] listen = "0.0.0.0:{port}"' in found["hint"]
    assert addresses.unserved(said(f'url = "{url}"\n[limits]\nrequests-per-second = 0'), public) == {}


def test_without_a_url_nobody_is_sent_anywhere() -> None:
    assert addresses.unserved(said(""), ["127.0.0.1:8080"]) == {}


def test_what_a_reload_leaves_as_it_was() -> None:
    before = addresses.fixed(said(""))
    assert before == addresses.fixed(said('[public]\nlisten = "127.0.0.1:8080"\n[proxy]\nmode = "0660"\nlisten = ""'))
    changed = '[private]\nlisten = ""\n[proxy]\nmode = "0600"\nlisten = "unix:/x"'
    after = addresses.fixed(said(f'passphrase-file = "p"\n[site."x.example"]\ngroups = ["a"]\n{changed}'))
    assert {key for key in after if after[key] != before[key]} == {"passphrase-file", "private.listen", "proxy.mode", "proxy.listen"}
