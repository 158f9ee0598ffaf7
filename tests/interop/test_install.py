"""What `gatekey help install` tells people to type on Linux is typed, with real programs; and the file for Apple's devices holds what others can read."""

from __future__ import annotations

import os
import plistlib
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gatekey.testing import CA
from kit.administrator import Administrator

pytestmark = [pytest.mark.slow, pytest.mark.interop]

Program = Callable[[str], str]


class Person:
    """Somebody at a terminal, with a home of her own and the files that she was given. What programs ask for is given as options: there is no terminal."""

    def __init__(self, admin: Administrator, home: Path) -> None:
        self.admin = admin
        self.folder = admin.folder
        self.environment = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"}

    def types(self, command: str) -> str:
        done = subprocess.run(["/bin/bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def told(self, target: str) -> list[str]:
        """The commands of the steps for a system."""
        return [step["command"] for step in self.admin("help", "install", target, "ann", "--json").json["steps"] if step["command"]]


@pytest.fixture
def ann(admin: Administrator, tmp_path: Path) -> Person:
    home = tmp_path / "ann"
    home.mkdir()
    admin("issue", "client", "ann", "--device", "laptop", "--password-file", "pw")
    return Person(admin, home)


def test_nss(ann: Person, program: Program) -> None:
    program("pk12util")
    answers = [ann.types(command + (" -w pw" if command.startswith("pk12util") else "")) for command in ann.told("nss")]
    assert "PKCS12 IMPORT SUCCESSFUL" in answers[2]
    assert "u,u,u" in answers[3]
    assert not (ann.folder / "ann.p12").exists()


def test_chrome_on_linux(ann: Person, program: Program) -> None:
    program("pk12util")
    for command in ann.told("nss")[:2]:
        ann.types(command)
    (command,) = ann.told("chrome-linux")
    assert "PKCS12 IMPORT SUCCESSFUL" in ann.types(f"{command} -w pw")


def test_java(ann: Person, program: Program) -> None:
    program("keytool")
    shown, imported = ann.told("java")
    assert "PrivateKeyEntry" in ann.types(f"{shown} -storepass:file pw")
    ann.types(f"{imported} -srcstorepass:file pw -deststorepass:file pw -noprompt")
    assert "PrivateKeyEntry" in ann.types("keytool -list -keystore clients.p12 -storepass:file pw")


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        peer: Any = self.connection
        body = str(dict(pair for rdn in peer.getpeercert()["subject"] for pair in rdn)["commonName"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[CA, int]]:
    """A site that asks for a certificate."""
    with CA() as ca:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
        server.socket = ca.server_context("localhost").wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield ca, server.server_port
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("key_type", ["p256", "ed25519", "rsa-2048"])
def test_curl(site: tuple[CA, int], key_type: str, tmp_path: Path, program: Program) -> None:
    program("curl")
    ca, port = site
    (tmp_path / "home").mkdir()
    ann = Person(Administrator(ca.folder / "home", tmp_path), tmp_path / "home")
    ann.admin("issue", "client", "ann", "--for", "pem", "--key-type", key_type, "--out", tmp_path)
    (tmp_path / "root.crt").write_bytes(ca.authority.servers_root)
    permit, ask = ann.told("curl")
    ann.types(permit)
    assert ann.types(ask.replace("https://SITE/", f"-sS --noproxy '*' --cacert root.crt https://localhost:{port}/")) == "ann"
    with pytest.raises(AssertionError):
        ann.types(f"curl -sS --noproxy '*' --cacert root.crt https://localhost:{port}/")


@pytest.mark.parametrize("key_type", ["p256", "rsa-2048"])
def test_what_is_in_apples_profile(admin: Administrator, tmp_path: Path, program: Program, key_type: str) -> None:
    admin("issue", "client", "ann", "--for", "apple", "--key-type", key_type, "--password-file", "pw")
    ann = Person(admin, tmp_path)
    payloads = {one["PayloadType"]: one for one in plistlib.loads((admin.folder / "ann.mobileconfig").read_bytes())["PayloadContent"]}
    (admin.folder / "inner.p12").write_bytes(payloads["com.apple.security.pkcs12"]["PayloadContent"])
    (admin.folder / "issuer.pem").write_bytes(payloads["com.apple.security.pem"]["PayloadContent"])
    told = ann.types(f"{program('openssl')} pkcs12 -in inner.p12 -passin file:pw -info -nodes -out all.pem")
    assert told.count("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048") == 2
    assert "AES" not in told
    assert "PrivateKeyEntry" in ann.types(f"{program('keytool')} -list -storetype PKCS12 -keystore inner.p12 -storepass:file pw")
    assert "issuing" not in ann.types(f"{program('openssl')} verify -partial_chain -trusted issuer.pem ann.crt")


def test_the_profile_is_a_property_list_to_others(admin: Administrator, tmp_path: Path) -> None:
    """xml.dom stands in for Apple's plutil, which runs nowhere else: well-formed, with the document type that Apple wants."""
    from xml.dom import minidom

    admin("issue", "client", "ann", "--for", "apple", "--display", "Änn <O'Reilly> & Söhne", "--password-file", "pw")
    document = minidom.parse(str(admin.folder / "ann.mobileconfig"))
    assert document.doctype is not None
    assert document.doctype.publicId == "-//Apple//DTD PLIST 1.0//EN"
    assert document.documentElement is not None
    assert document.documentElement.tagName == "plist"
