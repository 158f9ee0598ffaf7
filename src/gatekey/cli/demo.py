"""`gatekey demo`: kitty-ca, picture-server and eager-client live through the whole story, with real keys, real TLS and a real refusal."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import app, files
from ..authority import bundle as bundles
from ..authority import requests, revoke
from ..authority.issue import issue
from ..errors import Conflict, Unavailable
from ..keys import material
from ..model.names import Names
from ..ports import SystemEntropy
from ..x509 import pem, pkcs12
from ..x509.csr import encode_csr, read_csr
from . import deliver, say
from . import demo_servers as servers
from .session import Session, Verb, pass_session

if TYPE_CHECKING:
    from ..authority.authority import Authority
    from ..lifecycle import Released


@click.command("demo", cls=Verb)
@click.option("--dir", "place", type=click.Path(path_type=Path, file_okay=False), metavar="D", help="Make everything in this folder (new or empty).")
@click.option("--keep", is_flag=True, help="Leave the files, and the server running until Ctrl-C, to look at with a browser.")
@pass_session
def demo(session: Session, place: Path | None, keep: bool) -> None:
    """The whole story with real TLS on this machine.

    kitty-ca (the authority), picture-server (the web server) and eager-client (a person) make their keys, requests and certificates; the server, nginx if it
    is installed, shuts its door on everybody without a certificate; eager-client gets in, is revoked, and is refused while another client still gets in.
    Takes a few seconds and leaves nothing behind, unless you say --keep.
    """
    with _folder(place, keep=keep) as folder:
        story = Story(session, folder)
        try:
            story.tell()
            if keep:
                story.keep()
        finally:
            story.end()


@contextlib.contextmanager
def _folder(place: Path | None, *, keep: bool) -> Iterator[Path]:
    if place is None:
        folder = Path(tempfile.mkdtemp(prefix="gatekey-demo-"))
    else:
        folder = place.absolute()
        if folder.exists() and any(folder.iterdir()):
            raise Conflict("dir-not-empty", f"{place} is not empty", hint="say a new or empty folder with --dir")
        files.writable_folder(folder)
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


class Story:
    """One telling. Each step does the thing, looks at what came of it, and adds its line to the table."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._entropy = SystemEntropy()
        self._steps: list[dict[str, str]] = []
        self._passwords: dict[str, str] = {}
        self._server: servers.WebServer | None = None
        self._authority: Authority | None = None
        self._began = time.monotonic()

    def tell(self) -> None:
        """From the first key to the refusal. Raises Unavailable when anything ends otherwise than it should."""
        self._line("step", "who", "what happens", "")
        authority = self._found()
        self._server_certificate(authority)
        for person in ("eager-client", "patient-client"):
            self._client_certificate(authority, person)
        server = self._start(authority)
        self._knocks(server)
        self._take_away(authority, server)
        self._finish()

    def _line(self, step: str, who: str, what: str, outcome: str) -> None:
        if step != "step":
            self._steps.append({"step": step, "who": who, "what": what, "outcome": outcome})
        if not self._session.json:
            say.words(f"{step:>6}  {who:<15} {what:<63} {outcome}".rstrip(), quiet=self._session.quiet)

    def _found(self) -> Authority:
        authority = app.create_authority(self._folder / "kitty-ca", app.Founding("kitty-ca", unencrypted_keys=True))
        self._authority = authority
        for record in authority.records():
            if record.is_root:
                what = f"makes a key and signs itself: {record.name}, 20 years"
                self._line("1-3", "kitty-ca", what, authority.issuing(record.name).certificate.fingerprint[:16])
        return authority

    def _server_certificate(self, authority: Authority) -> None:
        place = self._folder / "picture-server"
        files.folder(place)
        csr = self._request(place, "picture-server", Names("picture-server", dns=("picture-server", "localhost"), ips=("127.0.0.1",)))
        self._line("4-7", "picture-server", "makes picture-server.key and .csr, sends the request", "")
        released = issue(authority, *requests.from_csr(authority, "server", read_csr(csr)))
        self._put(authority, place, "picture-server", released)
        self._line("8", "kitty-ca", "checks it, issues picture-server.crt (375 days, with its names)", released.number[:16])

    def _client_certificate(self, authority: Authority, person: str) -> None:
        place = self._folder / person
        files.folder(place)
        csr = self._request(place, person, Names(person))
        self._line("11-12", person, f"makes {person}.key and .csr; the key never leaves", "")
        released = issue(authority, *requests.from_csr(authority, "client", read_csr(csr)), alone=True)
        self._put(authority, place, person, released)
        self._line("13", "kitty-ca", f"checks it, issues {person}.crt (365 days)", released.number[:16])
        key = material.load(files.read(place / f"{person}.key"))
        password = deliver.new_password(self._entropy)
        chain = deliver.issuers_without_root(authority, released.issuer)
        data = pkcs12.encode(key.pkcs8(), released.der, chain, friendly_name=person, password=password, target="any", random=self._entropy.bytes)
        files.create(place / f"{person}.p12", data, files.PRIVATE)
        self._passwords[person] = password
        self._line("14", person, f"puts {person}.p12 into the browser", "")

    def _request(self, place: Path, name: str, names: Names) -> bytes:
        key = material.make("p256")
        files.create(place / f"{name}.key", deliver.key_pem(key), files.PRIVATE)
        csr = encode_csr(names, key.spki, key.key_type, key.sign)
        files.create(place / f"{name}.csr", pem.encode("CERTIFICATE REQUEST", csr))
        return csr

    def _put(self, authority: Authority, place: Path, name: str, released: Released) -> None:
        deliver.write_certificate(authority, released, deliver.places(place, name), force=False)

    def _start(self, authority: Authority) -> servers.WebServer:
        place = self._folder / "picture-server"
        bundles.publish(authority, place / "bundle")
        server = servers.start(servers.Files(place / "picture-server.chain.crt", place / "picture-server.key", place / "bundle", place))
        self._server = server
        self._line("9-10", "picture-server", f"serves https://localhost:{server.port} with {server.kind}", "")
        return server

    def _context(self, person: str | None, authority: Authority) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.config.home / "authorities" / "servers-root.crt")
        if person:
            place = self._folder / person
            context.load_cert_chain(place / f"{person}.chain.crt", place / f"{person}.key")
        return context

    def _knocks(self, server: servers.WebServer) -> None:
        ours = self._known()
        self._refused("15", "nobody", "knocks without a certificate", servers.knock(server.port, self._context(None, ours)))
        for person in ("eager-client", "patient-client"):
            self._let_in("16-17", person, "shows the certificate", servers.knock(server.port, self._context(person, ours)))
        self._refused("", "mallory", 'shows one of another CA that is called "kitty-ca", too', servers.knock(server.port, self._mallory()))

    def _mallory(self) -> ssl.SSLContext:
        """Somebody with an authority of the same name and a person of the same name."""
        place = self._folder / "mallory"
        files.folder(place)
        theirs = app.create_authority(place / "kitty-ca", app.Founding("kitty-ca", unencrypted_keys=True))
        key = material.make("p256")
        released = issue(theirs, *requests.client(theirs, "eager-client", key.spki))
        files.create(place / "mallory.key", deliver.key_pem(key), files.PRIVATE)
        self._put(theirs, place, "mallory", released)
        theirs.close()
        return self._context("mallory", self._known())

    def _take_away(self, authority: Authority, server: servers.WebServer) -> None:
        record = authority.reads.by_holder("eager-client")[0]
        began = time.monotonic()
        revoke.revoke(authority, record.id, "privilege-withdrawn")
        self._line("after", "kitty-ca", "revokes eager-client.crt and publishes the CRL", record.serial[:16])
        bundles.publish(authority, self._folder / "picture-server" / "bundle")
        server.reload()
        context = self._context("eager-client", authority)
        answer = servers.knock(server.port, context)
        while answer.status == 200 and time.monotonic() - began < servers.PATIENCE:
            time.sleep(0.02)
            answer = servers.knock(server.port, context)
        self._refused("", "eager-client", f"knocks again, {time.monotonic() - began:.2f} s after the revocation", answer)
        self._let_in("", "patient-client", "still gets in", servers.knock(server.port, self._context("patient-client", authority)))

    def _let_in(self, step: str, who: str, what: str, answer: servers.Answer) -> None:
        if answer.status != 200 or f"I see you as {who}" not in answer.text:
            raise Unavailable("demo-failed", f"{who} should have got in and was answered {answer.status or answer.text}", hint="please report this")
        self._line(step, who, what, f'200  "I see you as {who}"')

    def _refused(self, step: str, who: str, what: str, answer: servers.Answer) -> None:
        if answer.status == 200 or "I see you as" in answer.text:
            raise Unavailable("demo-failed", f"{who} should have been refused and got in", hint="please report this")
        self._line(step, who, what, f"refused  ({answer.status})" if answer.status else f"refused  ({answer.text.lower()[:60]})")

    def _known(self) -> Authority:
        assert self._authority is not None  # noqa: S101  founded in the first step
        return self._authority

    def _finish(self) -> None:
        seconds = time.monotonic() - self._began
        if self._session.json:
            say.as_json({"steps": self._steps, "server": self._server.kind if self._server else "", "seconds": round(seconds, 2)})
            return
        say.result(f"the door works: eager-client was let in, revoked and refused; the others were treated as they should be ({seconds:.1f} s)")
        self._session.words()
        self._session.words("The same for real:")
        for line in (
            'gatekey init "Your Company"',
            "gatekey issue server app.example --out /etc/gatekey",
            "gatekey issue client ann --email ann@example.com --device laptop",
            "gatekey bundle --out /etc/gatekey/bundle",
            "gatekey webserver nginx --site app.example --upstream http://127.0.0.1:8000",
        ):
            self._session.words(f"  {line}")

    def keep(self) -> None:
        """Waits until Ctrl-C, with the server running."""
        server = self._server
        assert server is not None  # noqa: S101  started above
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())  # before anybody reads that it waits
        tell = self._session.words
        tell()
        tell(f"The server runs at https://localhost:{server.port} until you press Ctrl-C. Everything lies in {self._folder}")
        tell("To see it in Firefox: Settings > Privacy & Security > View Certificates")
        tell(f"  Authorities > Import         {self._folder}/kitty-ca/authorities/servers-root.crt  (identify websites)")
        for person, fate in (("patient-client", "gets the pictures"), ("eager-client", "is told that it was taken away")):
            tell(f"  Your Certificates > Import   {self._folder}/{person}/{person}.p12  password {self._passwords[person]}  {fate}")
        tell("In Chromium on Linux:")
        place = shlex.quote(str(self._folder))
        tell(f"  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n kitty-ca -i {place}/kitty-ca/authorities/servers-root.crt")
        tell(f"  pk12util -d sql:$HOME/.pki/nssdb -i {place}/patient-client/patient-client.p12 -W {self._passwords['patient-client']}")
        stopped.wait()  # Ctrl-C ends it as it ends every verb
        tell("stopped")

    def end(self) -> None:
        """Stops whatever was started."""
        if self._server:
            self._server.stop()
        if self._authority:
            self._authority.close()
