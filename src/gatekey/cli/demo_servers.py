"""The web server of the demo: Debian's nginx when it is installed, otherwise one in Python. Both on loopback, both with real TLS, both gone at the end."""

from __future__ import annotations

import contextlib
import html
import http.client
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from ..errors import Unavailable
from ..webserver import nginx as writer
from ..webserver.site import Site

#: How long a server may take to start or to reload (seconds).
PATIENCE = 8.0
#: A folder that can stand in a configuration, and is short enough for a socket in it.
_PLAIN = re.compile(r"/[A-Za-z0-9/._@+=:-]{0,89}")


class WebServer(Protocol):
    """What the demo needs of a web server."""

    port: int
    kind: str

    def reload(self) -> None: ...
    def stop(self) -> None: ...


class Files(NamedTuple):
    """What a web server is given: its chain and key, the bundle folder, and a folder of its own."""

    chain: Path
    key: Path
    bundle: Path
    folder: Path


class Answer(NamedTuple):
    """How a knock ended: `status` of HTTP, or 0 when TLS itself refused; `text` is the body, or the refusal."""

    status: int
    text: str


def page(login: str) -> str:
    """The page full of pictures."""
    kittens = "".join(_kitten(hue) for hue in range(0, 360, 40))
    who = html.escape(login)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Pictures</title><meta name="viewport" content="width=device-width">'
        f"<style>body{{font:1.2rem system-ui;margin:2rem;text-align:center}}svg{{width:7rem;margin:.6rem}}</style>"
        f"<h1>I see you as {who}</h1><p>This page full of pictures is for people with a certificate only.</p>{kittens}</html>"
    )


def _kitten(hue: int) -> str:
    fur = f"hsl({hue} 70% 65%)"
    return (
        '<svg viewBox="0 0 100 100" role="img" aria-label="a kitten">'
        f'<path d="M20 45 15 12 42 28zM80 45 85 12 58 28z" fill="{fur}"/><circle cx="50" cy="56" r="36" fill="{fur}"/>'
        '<circle cx="38" cy="50" r="5"/><circle cx="62" cy="50" r="5"/>'
        '<path d="M46 62h8l-4 5zM50 67q-8 10-14 2M50 67q8 10 14 2" fill="none" stroke="#000" stroke-width="2"/></svg>'
    )


def knock(port: int, context: ssl.SSLContext) -> Answer:
    """One request for the page, as a browser would make it."""
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return Answer(response.status, response.read(1 << 20).decode("utf-8", "replace"))
    except ssl.SSLError as refused:
        return Answer(0, str(getattr(refused, "reason", "") or refused))
    except OSError as refused:
        return Answer(0, f"the connection was closed ({refused.strerror or type(refused).__name__})")
    finally:
        connection.close()


def free_port() -> int:
    """A free port on loopback, as far as one can know."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _App(BaseHTTPRequestHandler):
    """The private app behind nginx: it only believes what nginx says."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        body = page(unquote(self.headers.get("X-Client-User", "nobody"))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The demo tells its own story."""

    def address_string(self) -> str:
        return "proxy"


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def _linked(files: Files, place: Path) -> Files:
    """The same files by short and plain names: links in another folder."""
    links = Files(*(place / name for name in Files._fields))
    for link, file in zip(links, files, strict=True):
        link.symlink_to(file)
    return links


class Nginx:
    """Debian's nginx with the configuration that `gatekey webserver nginx` writes, an app behind it on a Unix socket."""

    def __init__(self, program: str, files: Files) -> None:
        self.port = free_port()
        version = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr.strip().rpartition("/")[2]
        self.kind = f"nginx {version}"
        self._folder = files.folder
        # A socket's path has room for 107 bytes, and a configuration for plain names only; the folder may be deep, or have a space in its name.
        self._elsewhere = "" if _PLAIN.fullmatch(str(files.folder)) else tempfile.mkdtemp(prefix="gatekey-demo-", dir="/tmp")
        if self._elsewhere:
            files = _linked(files, Path(self._elsewhere))
        socket_path = Path(self._elsewhere or files.folder) / "app.sock"
        self._app = _UnixServer(str(socket_path), _App)
        threading.Thread(target=self._app.serve_forever, daemon=True).start()
        site = Site(
            "localhost",
            f"unix:{socket_path}",
            certificate=str(files.chain),
            key=str(files.key),
            folder=str(files.folder),
            bundle=str(files.bundle),
            listen=(f"127.0.0.1:{self.port}",),
            plain=(),
        )
        (files.folder / "nginx.conf").write_text(self._whole(writer.configuration(site).whole))
        self._process = subprocess.Popen(
            [program, "-p", f"{files.folder}/", "-c", "nginx.conf", "-e", "error.log", "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for_port(self.port, lambda: self._process.poll() is None)
        except BaseException:
            self.stop()
            raise

    def _whole(self, site: str) -> str:
        user = "user root;\n" if os.geteuid() == 0 else ""
        paths = "".join(f"    {what}_temp_path tmp-{what};\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"{user}pid nginx.pid;\nworker_processes 1;\n{writer.main_level()}events {{}}\nhttp {{\n    access_log off;\n{paths}{site}\n}}\n"

    def reload(self) -> None:
        """As `systemctl reload nginx` does."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Ends nginx and the app."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._app.shutdown()
        self._app.server_close()
        if self._elsewhere:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


class _TlsApp(_App):
    """The private app as its own TLS server: who is there stands in the certificate."""

    def do_GET(self) -> None:
        certificate = self.connection.getpeercert() or {}  # an SSLSocket: see _TlsServer
        names = [value for rdn in certificate.get("subject", ()) for kind, value in rdn if kind == "commonName"]
        self.headers["X-Client-User"] = names[0] if names else "nobody"
        super().do_GET()


class _TlsServer(ThreadingHTTPServer):
    """Shakes hands in the thread of the request, with the context of the moment."""

    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101
        request.settimeout(PATIENCE)
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as shaken:
            self.RequestHandlerClass(shaken, client_address, self)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class Python:
    """A TLS server of the standard library that asks for certificates and checks every CRL."""

    kind = "a TLS server in Python (nginx is not installed)"

    def __init__(self, files: Files) -> None:
        self._files = files
        self._server = _TlsServer(("127.0.0.1", 0), _TlsApp)
        self.port = int(self._server.server_address[1])
        self.reload()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reload(self) -> None:
        """Reads certificate, trust chain and CRLs again."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._files.chain, self._files.key)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self._files.bundle / "people-chain.pem")
        context.load_verify_locations(self._files.bundle / "all.crl.pem")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.options |= ssl.OP_NO_TICKET
        self._server.context = context

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


def start(files: Files) -> WebServer:
    """Starts nginx if it is installed, otherwise Python's server."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Nginx(program, files) if program else Python(files)


def _wait_for_port(port: int, alive: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if not alive():
            break
        time.sleep(0.02)
    raise Unavailable("demo-server", f"the web server did not start on port {port}", hint="try again; --dir D --keep leaves its error.log to look at")
