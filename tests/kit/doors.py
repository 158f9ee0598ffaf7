"""A private site as Gatekey writes it, with a real web server, an app behind it and people before it.

    with door("nginx", tmp_path) as d:
        assert d.visit(d.ann).status == 200
        d.pki.revoke(d.bob); d.publish(); d.reload()

`d.publish` writes the bundle again; `crl=False` leaves the CRLs as they are, so that only the lock by issuer + serial can hold.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gatekey.model import bundle
from gatekey.webserver import nginx
from gatekey.webserver.answer import Answer
from gatekey.webserver.knock import Budget, Identity, Knock, Line, connect, knock
from gatekey.webserver.site import LAST_WORDS, Configuration, Site
from gatekey.x509.names import rfc2253
from kit import servers
from kit.backend import backend
from kit.pki import Leaf, Pki, make_pki

HOST = "app.example"

#: How each server of the kit is started with what a writer wrote.
STARTERS: dict[str, Any] = {"nginx": servers.nginx, "apache": servers.apache, "haproxy": servers.haproxy, "caddy": servers.caddy}


class Person(NamedTuple):
    """What the bundle says of somebody, beside the certificate."""

    leaf: Leaf
    name: str
    email: str
    groups: tuple[str, ...]
    device: str


def identity(leaf: Leaf, label: str = "") -> Identity:
    return Identity(leaf.chain_pem, leaf.key_pem, label or leaf.name)


class Door:
    """A site with its PKI. `people` are in the bundle: ann (staff) and bob (staff); carl is not: his certificate is younger than it."""

    def __init__(self, kind: str, folder: Path, options: dict[str, Any]) -> None:
        self.kind = kind
        self.folder = folder
        self.pki: Pki = options.pop("pki", None) or make_pki()
        self.servers_pki = make_pki("kitty-ca servers")
        self.ann, self.bob, self.carl = (self.pki.client(login) for login in ("ann", "bob", "carl"))
        self.people = [
            Person(self.ann, "Änn O'Reilly; \"A\" $x", "ann+$x@example.com", ("staff", "all hands, on deck"), "ann's laptop"),
            Person(self.bob, "", "bob@example.com", ("staff",), ""),
        ]
        self.denied: list[Leaf] = []
        self.bundle = folder / "bundle"
        self.bundle.mkdir(parents=True)
        self.site_leaf = self.servers_pki.server(HOST)
        self.files = self.site_leaf.write(folder, HOST)
        self.files.chain.with_name(self.files.chain.name + ".key").symlink_to(self.files.key)  # where HAProxy looks
        self.port, self.port6, self.plain = servers.free_ports(3)
        if options.pop("same_port", False):
            self.port6 = self.port
        self.options = options
        self.server: Any = None
        self.app: Any = None

    @property
    def issuer_dn(self) -> str:
        return rfc2253(self.pki.issuing.certificate.subject.public_bytes())

    def publish(self, *, crl: bool = True, revoked: tuple[Leaf, ...] = ()) -> None:
        """Writes the bundle. `revoked` stand in the deny list, and in the CRL if `crl`."""
        self.denied += revoked
        if crl:
            self.pki.revoke(*revoked)
            self._write("all.crl.pem", self.pki.crls())
        self._write("people-chain.pem", self.pki.chain_pem)
        denied = {bundle.Denied(self.issuer_dn, leaf.serial) for leaf in self.denied}
        known = [
            bundle.Known(self.issuer_dn, "people", p.leaf.serial, p.leaf.fingerprint, p.leaf.name, p.name, p.email, p.groups, p.device)
            for p in self.people
            if p.leaf not in self.denied
        ]
        chain = [ca.certificate.public_bytes(_der()) for ca in self.pki.authorities]
        for name, text in bundle.texts(denied, known, [self.issuer_dn], int(time.time()), chain).items():
            self._write(name, text.encode())

    def _write(self, name: str, data: bytes) -> None:
        new = self.bundle / f".{name}.new"
        new.write_bytes(data)
        new.replace(self.bundle / name)

    def reload(self) -> None:
        """What the configuration names as its reload command."""
        if self.kind == "apache":
            assert self.configuration().reload == ("apache2ctl", "-k", "restart")
            self.server.restart()
        else:
            self.server.reload()

    def site(self) -> Site:
        given = {
            "host": HOST,
            "upstream": self.app.url,
            "certificate": str(self.files.chain),
            "key": str(self.files.key),
            "folder": str(self.folder / "gatekey"),
            "bundle": str(self.bundle),
            "listen": (f"127.0.0.1:{self.port}", f"[::1]:{self.port6}"),
            "plain": (f"127.0.0.1:{self.plain}",),
        }
        return Site(**{**given, **self.options})

    def configuration(self) -> Configuration:
        writer = importlib.import_module(f"gatekey.webserver.{self.kind}")
        written: Configuration = writer.configuration(self.site())
        return written

    def knock(self, leaf: Leaf | Identity | None = None, **changes: Any) -> Knock:
        """A request to the site; `changes` are fields of Knock."""
        who = identity(leaf) if isinstance(leaf, Leaf) else leaf
        plain = {"address": "127.0.0.1", "port": self.port, "sni": HOST, "host": f"{HOST}:{self.port}", "identity": who, "path": "/"}
        return Knock(**{**plain, **changes})

    def visit(self, leaf: Leaf | Identity | None = None, **changes: Any) -> Answer:
        return knock(self.knock(leaf, **changes), Budget(1, 30, 15))

    def open(self, leaf: Leaf | Identity | None = None, *, resume: Line | None = None, **changes: Any) -> Line:
        """An open connection. Raises AssertionError when there is none."""
        line = connect(self.knock(leaf, keep=True, **changes), Budget(1, 30, 15), resume=resume)
        assert isinstance(line, Line), line.face
        return line


@contextlib.contextmanager
def door(kind: str, folder: Path, **options: Any) -> Iterator[Door]:
    """A running site of the web server `kind` (nginx, apache, haproxy, caddy).

    `options`: fields of Site; `pki`; `unix`: the app listens on a Unix socket; `last_words`: seconds that connections live after a reload;
    `same_port`: IPv6 has the port of IPv4; `beside`: makes more configuration for the same server, such as a public site.
    """
    unix, last_words = options.pop("unix", False), options.pop("last_words", LAST_WORDS)
    beside = options.pop("beside", lambda _: "")
    d = Door(kind, folder, options)
    sockets = Path(tempfile.mkdtemp(prefix="gk-")) if unix else None
    if sockets:
        sockets.chmod(0o755)
    try:
        with backend(sockets / "app.sock" if sockets else None) as app:
            d.app = app
            d.publish()
            main = {"main": nginx.main_level().replace(f"{LAST_WORDS}s", f"{last_words}s")} if kind == "nginx" else {}
            text = d.configuration().whole + beside(d)
            for said in ("hard-stop-after {}s", "grace_period {}s", "GracefulShutdownTimeout {}"):
                text = text.replace(said.format(LAST_WORDS), said.format(last_words))
            with STARTERS[kind](text, folder, [d.port, d.plain], **main) as d.server:
                yield d
    finally:
        if sockets:
            shutil.rmtree(sockets)


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER
