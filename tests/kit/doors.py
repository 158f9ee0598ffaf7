"""A private site as Gatekey writes it, with a real web server, an app behind it and people before it.

    with door("nginx", tmp_path) as d:
        assert d.visit(d.ann).status == 200
        d.pki.revoke(d.bob); d.publish(); d.server.reload()

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
from gatekey.webserver.answer import Answer
from gatekey.webserver.knock import Budget, Identity, Knock, Line, connect, knock
from gatekey.webserver.site import Configuration, Site
from kit import servers
from kit.backend import Backend, backend
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
        self.options = options
        self.server: Any = None
        self.app: Any = None

    @property
    def issuer_dn(self) -> str:
        return self.pki.issuing.certificate.subject.rfc4514_string()

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
    """A running site of the web server `kind` (nginx, apache, haproxy, caddy). `options`: fields of Site, and `pki`."""
    unix = options.pop("unix", False)
    d = Door(kind, folder, options)
    sockets = Path(tempfile.mkdtemp(prefix="gk-")) if unix else None
    if sockets:
        sockets.chmod(0o755)
    try:
        with backend(sockets / "app.sock" if sockets else None) as app:
            d.app = app
            d.publish()
            written = d.configuration()
            with STARTERS[kind](text_for_kit(d, written), folder, [d.port, d.plain]) as d.server:
                yield d
    finally:
        if sockets:
            shutil.rmtree(sockets)


def text_for_kit(d: Door, written: Configuration) -> str:
    """The configuration as one file, with what the kit leaves to it."""
    if d.kind == "apache":
        return written.whole
    return written.whole


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


__all__ = ["HOST", "Backend", "Door", "Person", "door", "identity"]
