"""The whole story from the command line against real nginx and real Apache: with the configuration that `gatekey webserver` prints, and with the few lines
that people write for Apache by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatekey.webserver import nginx as nginx_writer
from gatekey.webserver.answer import ANSWERED, Answer
from gatekey.webserver.knock import Budget, Identity, Knock, knock
from kit import administrator
from kit.administrator import Administrator, found
from kit.backend import MARK, Backend, backend
from kit.servers import apache, free_ports, nginx, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

HOST = "pictures.example"
START: dict[str, Any] = {"nginx": nginx, "apache": apache}


def by_hand(folder: Path, port: int, upstream: str, check: str = "SSLCARevocationCheck chain") -> str:
    """The least that keeps strangers and the revoked out."""
    return f"""\
Listen 127.0.0.1:{port}
<VirtualHost *:{port}>
    ServerName {HOST}
    SSLEngine on
    SSLCertificateFile {folder}/site/{HOST}.chain.crt
    SSLCertificateKeyFile {folder}/site/{HOST}.key
    SSLCACertificateFile {folder}/bundle/people-chain.pem
    SSLCARevocationFile {folder}/bundle/all.crl.pem
    {check}
    SSLVerifyClient require
    SSLVerifyDepth 2
    RequestHeader set X-Client-User "expr=%{{SSL_CLIENT_S_DN_CN}}"
    ProxyPass / {upstream}/
</VirtualHost>
"""


class Site:
    """A running site of the authority that `admin` looks after."""

    def __init__(self, admin: Administrator, port: int, app: Backend, server: Any, kind: str) -> None:
        self.admin = admin
        self.port = port
        self.app = app
        self.server = server
        self.kind = kind

    def visit(self, who: Identity | None) -> Answer:
        return knock(Knock("127.0.0.1", self.port, HOST, f"{HOST}:{self.port}", who), Budget(1, 30, 15))

    def lets_in(self, login: str) -> None:
        answer = self.visit(holder(self.admin, login))
        assert answer.status == 200, answer.face
        assert self.app.last.get("X-Client-User") == login

    def shuts_out(self, who: Identity | None) -> Answer:
        asked = len(self.app.seen)
        answer = self.visit(who)
        assert answer.kind != ANSWERED or answer.status >= 400, answer.face
        assert MARK.encode() not in answer.body
        assert len(self.app.seen) == asked, "the app was not even asked"
        return answer

    def hears(self) -> None:
        """A new bundle, and what the administrator does after it."""
        self.admin("bundle", "--out", self.admin.folder / "bundle")
        self.server.reload()

    def shut_to(self, login: str) -> None:
        """Old processes may take one more connection while they hear of the reload."""
        who = holder(self.admin, login)
        wait_until(lambda: self.visit(who).status != 200, f"{login} is refused", 10)
        self.shuts_out(who)


def holder(admin: Administrator, login: str) -> Identity:
    folder = admin.folder / login
    return Identity((folder / f"{login}.chain.crt").read_bytes(), (folder / f"{login}.key").read_bytes(), login)


def person(admin: Administrator, login: str, *, own_request: bool = False) -> None:
    """Gets a certificate: with everything made here, or with a request that leaves the key where it is."""
    folder = admin.folder / login
    if own_request:
        admin("request", login, "--out", folder)
        admin("issue", "client", login, "--csr", folder / f"{login}.csr", "--out", folder)
    else:
        admin("issue", "client", login, "--out", folder, "--password-file", folder / "password")


@contextlib.contextmanager
def site(admin: Administrator, kind: str, text: Callable[[int, int, str], str], folder: Path) -> Iterator[Site]:
    """Runs what `text` says for a port, a port without TLS, and the app's URL."""
    admin("issue", "server", HOST, "--out", admin.folder / "site")
    admin("bundle", "--out", admin.folder / "bundle")
    port, plain = free_ports(2)
    main = {"main": nginx_writer.main_level()} if kind == "nginx" else {}
    with backend() as app, START[kind](text(port, plain, app.url), folder, [port], **main) as server:
        yield Site(admin, port, app, server, kind)


def printed(admin: Administrator, kind: str) -> Callable[[int, int, str], str]:
    """What `gatekey webserver` prints."""
    files = ("--certificate", admin.folder / "site" / f"{HOST}.chain.crt", "--key", admin.folder / "site" / f"{HOST}.key")
    places = ("--bundle", admin.folder / "bundle", "--folder", admin.folder / "gatekey")

    def text(port: int, plain: int, upstream: str) -> str:
        where = ("--upstream", upstream, "--listen", f"127.0.0.1:{port}", "--plain", f"127.0.0.1:{plain}")
        return admin("webserver", kind, "--site", HOST, *files, *places, *where).out

    return text


def told(here: Site, *, own_requests: bool = False) -> None:
    """None, good, foreign, a server's; revoked while another still gets in; held and given back."""
    admin = here.admin
    mallory = Administrator(admin.folder / "mallory-home", admin.folder / "mallory")
    administrator.found(mallory.home, flat=(admin.home / "authorities" / "root.crt").exists())  # an authority that is called the same
    mallory.folder.mkdir()
    person(mallory, "ann")
    server = Identity((admin.folder / "site" / f"{HOST}.chain.crt").read_bytes(), (admin.folder / "site" / f"{HOST}.key").read_bytes())

    here.shuts_out(None)
    here.lets_in("ann")
    here.lets_in("bob")
    here.shuts_out(holder(mallory, "ann"))
    here.shuts_out(server)

    admin("revoke", "ann", "--reason", "key-compromise", "--yes")
    here.hears()
    here.shut_to("ann")
    here.lets_in("bob")

    admin("hold", "bob")
    here.hears()
    here.shut_to("bob")
    admin("unhold", "bob")
    here.hears()
    wait_until(lambda: here.visit(holder(admin, "bob")).status == 200, "bob is let in again", 10)
    here.shuts_out(holder(admin, "ann"))

    if own_requests:
        again = admin("issue", "client", "ann", "--csr", admin.folder / "ann" / "ann.csr", "--out", admin.folder / "again", code=1)
        assert "compromised" in again.err
    # Somebody new gets in before the bundle knows of him.
    person(admin, "carl", own_request=own_requests)
    here.lets_in("carl")


@pytest.mark.parametrize("kind", ["nginx", "apache"])
@pytest.mark.parametrize("own_requests", [False, True], ids=["made-here", "own-requests"])
def test_with_the_printed_configuration(kind: str, own_requests: bool, admin: Administrator, tmp_path: Path) -> None:
    for login in ("ann", "bob"):
        person(admin, login, own_request=own_requests)
    with site(admin, kind, printed(admin, kind), tmp_path) as here:
        told(here, own_requests=own_requests)


@pytest.mark.parametrize("kind", ["nginx", "apache"])
@pytest.mark.parametrize("key_type", ["p256", "rsa-4096"])
def test_with_one_authority_for_both_sides(kind: str, key_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    administrator.found(tmp_path / "home", flat=True, key_type=key_type)
    admin = Administrator(tmp_path / "home", folder)
    for login in ("ann", "bob"):
        person(admin, login)
    with site(admin, kind, printed(admin, kind), tmp_path) as here:
        told(here)


@pytest.mark.parametrize("own_requests", [False, True], ids=["made-here", "own-requests"])
def test_apache_by_hand(own_requests: bool, admin: Administrator, tmp_path: Path) -> None:
    for login in ("ann", "bob"):
        person(admin, login, own_request=own_requests)
    with site(admin, "apache", lambda port, _, upstream: by_hand(admin.folder, port, upstream), tmp_path) as here:
        told(here, own_requests=own_requests)


def test_apache_by_hand_with_one_authority(flat: Administrator, tmp_path: Path) -> None:
    for login in ("ann", "bob"):
        person(flat, login)
    with site(flat, "apache", lambda port, _, upstream: by_hand(flat.folder, port, upstream), tmp_path) as here:
        told(here)


@pytest.mark.parametrize("check", ["", "SSLCARevocationCheck none"], ids=["left-out", "none"])
def test_apache_reads_no_list_unless_it_is_told_to(check: str, admin: Administrator, tmp_path: Path) -> None:
    """Why that one line stands in every configuration for Apache: with the file alone the revoked get in."""
    person(admin, "ann")
    with site(admin, "apache", lambda port, _, upstream: by_hand(admin.folder, port, upstream, check), tmp_path) as here:
        admin("revoke", "ann")
        here.hears()
        here.lets_in("ann")


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_a_list_that_has_run_out_shuts_out_everybody_and_a_new_bundle_opens_again(
    kind: str, admin: Administrator, tmp_path: Path, moved_clock: Callable[[int], None]
) -> None:
    """With the CRL that was signed 40 days ago nobody gets in. `bundle` signs a new one, and everybody is back."""
    moved_clock(-40 * 86_400)
    admin.home = tmp_path / "founded 40 days ago"
    found(admin.home)
    person(admin, "ann")
    with site(admin, kind, printed(admin, kind), tmp_path) as here:
        here.shuts_out(holder(admin, "ann"))
        moved_clock(0)
        here.hears()
        wait_until(lambda: here.visit(holder(admin, "ann")).status == 200, "ann is let in", 10)
        here.lets_in("ann")
