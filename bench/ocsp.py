"""OCSP through `gatekey serve`, side by side with a hello world on the same server: same listener, workers and connections, load from wrk.

    PYTHONPATH=src python bench/ocsp.py

Kept answers must reach 0.8 of the hello world, answers signed on demand for a nonce 0.4. Defaults are on: logs, metrics, limits (the limit of requests per
address is high enough not to be met, but counted). Rounds of the three take turns; the best of each counts.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

CACHED, SIGNED = 0.8, 0.4
ROUNDS, SECONDS, CONNECTIONS, WORKERS = 3, 3, 32, 2

SERVE = "from gatekey.cli import main; main()"


def port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def home(folder: Path, listen: int) -> tuple[Path, bytes]:
    """A home with one person; its folder, and the OCSP request for her certificate without its nonce."""
    from gatekey.api import Authority
    from gatekey.x509 import ocsp
    from gatekey.x509.certificate import read_certificate
    from gatekey.x509.pem import decode
    from gatekey.x509.spki import key_bits

    place = folder / "home"
    with Authority.create(place, "Bench", unencrypted_keys=True, url=f"http://127.0.0.1:{listen}") as authority:
        issued = authority.issue_client("ann")
        issuer = read_certificate(decode(authority.certificate_of("people"))[0][1])
    with (place / "gatekey.toml").open("a") as file:
        file.write(f'\n[public]\nlisten = "127.0.0.1:{listen}"\n[private]\nlisten = ""\n[service]\nworkers = {WORKERS}\n')
        file.write("[limits]\nrequests-per-second = 1000000\n")
    which = next(one for one in ocsp.issuer_ids(issuer.subject, key_bits(issuer.spki)) if one[0] == "sha256")
    return place, ocsp.encode_id(which, int(issued.serial, 16))


def wait(url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def hello(listen: int) -> None:
    """The peer: the same uvicorn, parser and number of processes on one socket, answering a short text and nothing else."""
    import uvicorn

    async def app(_: object, __: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[operator]

    sock = socket.socket(proto=socket.IPPROTO_TCP)  # otherwise asyncio leaves Nagle's algorithm on
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", listen))
    sock.listen(2048)
    for _ in range(WORKERS - 1):
        if os.fork() == 0:
            break
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", interface="asgi3", access_log=False, log_level="critical", backlog=8)
    asyncio.run(uvicorn.Server(config).serve([sock]))


_POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/ocsp-request"
local function unhex(s) return (s:gsub("..", function(c) return string.char(tonumber(c, 16)) end)) end
"""


def scripts(folder: Path, cert_id: bytes, listen: int) -> tuple[Path, Path]:
    """Wrk's scripts: the same request again and again; and one with another nonce each time, put together cheaply, since wrk shares our processors."""
    from gatekey.x509 import ocsp

    kept, nonce = folder / "kept.lua", folder / "nonce.lua"
    kept.write_text(f'{_POST}wrk.body = unhex("{ocsp.encode_request([cert_id]).hex()}")\n')
    whole = ocsp.encode_request([cert_id], b"\0" * 16)
    lines = (b"POST /ocsp HTTP/1.1", b"Host: 127.0.0.1:%d" % listen, b"Content-Type: application/ocsp-request", b"Content-Length: %d" % len(whole), b"", b"")
    head = b"\r\n".join(lines) + whole[:-16]
    nonce.write_text(
        f'{_POST}local head = unhex("{head.hex()}")\nlocal n = math.random(1, 2000000000)\n'
        'function request()\n  n = n + 1\n  return head .. string.format("%016x", n)\nend\n'
    )
    return kept, nonce


def load(url: str, *script: Path) -> float:
    """Requests per second. Ends the run when anything but 200 came back: a fast refusal is no answer."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *(["-s", str(script[0])] if script else []), url]
    out = subprocess.run(words, check=True, capture_output=True, text=True, timeout=SECONDS + 30).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    found = re.search(r"Requests/sec:\s*([\d.]+)", out)
    assert found, out
    return float(found.group(1))


def main() -> int:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt install wrk")
    if sys.argv[1:2] == ["hello"]:
        hello(int(sys.argv[2]))
        return 0
    best = {"hello": 0.0, "kept": 0.0, "get": 0.0, "nonce": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer, ours = port(), port()
        place, cert_id = home(folder, ours)
        from gatekey.x509 import ocsp

        kept, nonce = scripts(folder, cert_id, ours)
        path = base64.b64encode(ocsp.encode_request([cert_id])).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        started = [
            subprocess.Popen([sys.executable, __file__, "hello", str(peer)], start_new_session=True),
            subprocess.Popen([sys.executable, "-c", SERVE, "--home", str(place), "serve"], stderr=subprocess.DEVNULL, start_new_session=True),
        ]
        try:
            wait(f"http://127.0.0.1:{peer}/")
            wait(f"http://127.0.0.1:{ours}/readyz")
            for _ in range(ROUNDS):
                best["hello"] = max(best["hello"], load(f"http://127.0.0.1:{peer}/"))
                best["kept"] = max(best["kept"], load(f"http://127.0.0.1:{ours}/ocsp", kept))
                best["get"] = max(best["get"], load(f"http://127.0.0.1:{ours}/ocsp/{path}"))
                best["nonce"] = max(best["nonce"], load(f"http://127.0.0.1:{ours}/ocsp", nonce))
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
    print(f"hello world             {best['hello']:8.0f}/s   {WORKERS} workers, {CONNECTIONS} connections, best of {ROUNDS}")
    fine = True
    for what, about, least in (("kept", "OCSP, kept, POST", CACHED), ("get", "OCSP, kept, GET", CACHED), ("nonce", "OCSP, signed (nonce)", SIGNED)):
        ratio = best[what] / best["hello"]
        fine &= ratio >= least
        print(f"{about:22s}  {best[what]:8.0f}/s   {ratio:.2f} of hello world, wanted {least}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
