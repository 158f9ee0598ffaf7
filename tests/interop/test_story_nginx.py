"""The walk-through of kitty-ca, picture-server and eager-client, typed as a person types it, against Debian's nginx with the least configuration that a person
writes: `ssl_client_certificate` and `ssl_crl` out of the bundle. Every command is a process; every visit is curl's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kit import administrator
from kit.administrator import PASSPHRASE, Administrator
from kit.backend import MARK, Backend, backend
from kit.servers import Nginx, free_port, nginx, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

HOST = "picture-server.example"


class Way(NamedTuple):
    """How the story is told: what `init` is told, what kind of key everybody has, and who makes the keys and requests of the people and the server."""

    name: str
    init: tuple[str, ...] = ()
    key_type: str = "p256"
    requests: str = "made here"


WAYS = [
    Way("two hierarchies"),
    Way("flat", ("--flat",)),
    Way("own requests", (), "p256", "gatekey request"),
    Way("openssl's requests", (), "rsa-2048", "openssl req"),
    Way("flat, openssl's requests", ("--flat",), "p256", "openssl req"),
    Way("RSA-4096", ("--key-type", "rsa-4096"), "p256", "gatekey request"),
    Way("flat, RSA-4096 everywhere", ("--flat", "--key-type", "rsa-4096"), "rsa-4096"),
    Way("P-384, constrained", ("--key-type", "p384", "--permit-domain", "example"), "p384"),
]


class Visit(NamedTuple):
    """What curl got: 0 when TLS or nginx closed the connection."""

    status: int
    body: str

    @property
    def user(self) -> str:
        return next((value for name, value in json.loads(self.body)["headers"] if name.lower() == "x-client-user"), "")


class Story:
    """Commands and visits."""

    def __init__(self, admin: Administrator, way: Way, curl: str, openssl: str) -> None:
        self.admin = admin
        self.way = way
        self.curl = curl
        self.openssl = openssl
        self.port = free_port()

    def types(self, line: str) -> administrator.Answer:
        return self.admin.process(*line.split())

    def request(self, name: str, *more: str) -> Path:
        """A request out of somebody else's hands; the key stays in the folder of that somebody."""
        folder = self.admin.folder / "theirs" / name
        if self.way.requests == "gatekey request":
            self.admin.process("request", name, *more, "--key-type", self.way.key_type, "--out", folder)
            return folder / f"{name}.csr"
        folder.mkdir(parents=True)
        kind = ["rsa:2048"] if self.way.key_type.startswith("rsa") else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.csr")]
        subject = ["-subj", f"/C=DE/O=Eager/CN={name}", "-addext", "keyUsage=keyCertSign", "-addext", f"subjectAltName=DNS:{name}"]
        subprocess.run([self.openssl, "req", "-new", "-nodes", "-newkey", *kind, *files, *subject], check=True, capture_output=True)
        return folder / f"{name}.csr"

    def certify(self, login: str) -> None:
        """Steps 11 to 14."""
        if self.way.requests == "made here":
            self.types(f"issue client {login} --key-type {self.way.key_type} --email {login}@example --out {login}")
            return
        csr = self.request(login)
        self.types(f"issue client {login} --csr {csr} --out {login}")
        os.link(csr.with_suffix(".key"), self.admin.folder / login / f"{login}.key")

    def certify_server(self) -> None:
        """Steps 4 to 9."""
        if self.way.requests == "made here":
            self.types(f"issue server {HOST} --key-type {self.way.key_type} --out site")
            return
        csr = self.request(HOST, "--server")
        self.types(f"sign {csr} --profile server --out site/{HOST}.crt")
        os.link(csr.with_suffix(".key"), self.admin.folder / "site" / f"{HOST}.key")

    def configuration(self, upstream: str) -> str:
        """What a person writes by hand, and no line more."""
        folder = self.admin.folder
        return f"""
            server {{
                listen 127.0.0.1:{self.port} ssl;
                server_name {HOST};
                ssl_certificate {folder}/site/{HOST}.chain.crt;
                ssl_certificate_key {folder}/site/{HOST}.key;
                ssl_client_certificate {folder}/bundle/people-chain.pem;
                ssl_crl {folder}/bundle/all.crl.pem;
                ssl_verify_client on;
                ssl_verify_depth 2;
                location / {{
                    proxy_set_header X-Client-User $ssl_client_s_dn_cn;
                    proxy_pass {upstream};
                }}
            }}
            map $ssl_client_s_dn $ssl_client_s_dn_cn {{
                default "";
                ~(^|,)CN=(?<cn>[^,]+) $cn;
            }}
        """

    def visit(self, folder: Path | None, name: str = "") -> Visit:
        """A visit with the certificate in a folder; the server's own root is checked, too."""
        with_certificate = ["--cert", str(folder / f"{name}.chain.crt"), "--key", str(folder / f"{name}.key")] if folder else []
        root = next(path for path in ("servers-root", "root") if (self.admin.home / "authorities" / f"{path}.crt").exists())
        line = [self.curl, "-s", "-w", "\n%{http_code}", "--cacert", str(self.admin.home / "authorities" / f"{root}.crt"), *with_certificate]
        done = subprocess.run([*line, "--resolve", f"{HOST}:{self.port}:127.0.0.1", f"https://{HOST}:{self.port}/"], capture_output=True, text=True, timeout=30)
        body, _, status = done.stdout.rpartition("\n")
        return Visit(int(status), body)


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
def story(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]) -> Story:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    monkeypatch.setenv("GATEKEY_PASSPHRASE_FILE", str(passphrase))
    folder = tmp_path / "work"
    folder.mkdir()
    return Story(Administrator(tmp_path / "home", folder), request.param, program("curl"), program("openssl"))


@pytest.fixture
def running(story: Story, tmp_path: Path) -> Iterator[tuple[Nginx, Backend]]:
    """Steps 1 to 10, and two people."""
    story.admin.process("init", "kitty-ca", *story.way.init)
    story.certify_server()
    story.certify("eager-client")
    story.certify("patient-client")
    story.types("bundle --out bundle")
    with backend() as app, nginx(story.configuration(app.url), tmp_path, [story.port]) as server:
        yield server, app


def test_the_walk_through(story: Story, running: tuple[Nginx, Backend], tmp_path: Path) -> None:
    server, app = running
    folder = story.admin.folder

    def refused(visit: Visit) -> None:
        assert visit.status in (0, 400), visit
        assert MARK not in visit.body

    def gets_in(name: str) -> None:
        visit = story.visit(folder / name, name)
        assert visit.status == 200, visit
        assert visit.user == name

    refused(story.visit(None))
    gets_in("eager-client")
    gets_in("patient-client")

    mallory = Administrator(tmp_path / "mallory", tmp_path)
    administrator.found(mallory.home, flat=True)
    mallory.process("issue", "client", "eager-client", "--out", tmp_path / "forged")
    refused(story.visit(tmp_path / "forged", "eager-client"))
    refused(story.visit(folder / "site", HOST))  # the server's own certificate opens no door

    asked = len(app.seen)
    story.types("revoke eager-client")
    story.types("bundle --out bundle")
    server.reload()
    wait_until(lambda: story.visit(folder / "eager-client", "eager-client").status != 200, "eager-client is refused", 10)
    refused(story.visit(folder / "eager-client", "eager-client"))
    gets_in("patient-client")
    assert len(app.seen) <= asked + 3

    story.types("store check")


def test_a_server_certificate_from_somewhere_else(tmp_path: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Server and people may have two authorities: a public one for the server, ours for the people."""
    story = Story(Administrator(tmp_path / "home", tmp_path), WAYS[0], program("curl"), program("openssl"))
    administrator.found(story.admin.home)
    public = Administrator(tmp_path / "public", tmp_path)
    administrator.found(public.home)
    public.process("issue", "server", HOST, "--out", "site")
    story.types("issue client eager-client --out eager-client")
    public.process("issue", "client", "stranger", "--out", "stranger")
    story.types("bundle --out bundle")
    with backend() as app, nginx(story.configuration(app.url), tmp_path, [story.port]):
        (story.admin.home / "authorities" / "servers-root.crt").write_bytes((public.home / "authorities" / "servers-root.crt").read_bytes())
        assert story.visit(tmp_path / "eager-client", "eager-client").user == "eager-client"
        assert story.visit(tmp_path / "stranger", "stranger").status == 400


def test_a_bundle_is_what_nginx_takes_even_when_nobody_is_in_it(admin: Administrator, tmp_path: Path, program: Callable[[str], str]) -> None:
    story = Story(admin, WAYS[0], program("curl"), program("openssl"))
    story.types(f"issue server {HOST} --out site")
    story.types("bundle --out bundle")
    with backend() as app, nginx(story.configuration(app.url), tmp_path, [story.port]) as server:
        assert server.check().returncode == 0
        assert story.visit(None).status == 400
