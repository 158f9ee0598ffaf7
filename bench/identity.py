"""What the identity middleware adds to a request: the same app with and without it, ASGI and WSGI, in microseconds. The limit is 30.

    PYTHONPATH=src python bench/identity.py

Each line says: microseconds added (best of several rounds, in which both take turns), and that as a part of what a bare FastAPI answer takes in this run.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

LIMIT = 30.0
ROUNDS, REQUESTS = 15, 2000

BROWSER = [
    ("host", "app.example.com"), ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"), ("accept", "text/html"),
    ("accept-language", "en,de;q=0.7"), ("accept-encoding", "gzip, deflate, br, zstd"), ("cookie", "session=abcdef; theme=dark"), ("connection", "close"),
    ("upgrade-insecure-requests", "1"), ("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none"), ("priority", "u=0, i"),
    ("x-real-ip", "198.51.100.7"), ("x-forwarded-for", "198.51.100.7"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "app.example.com"),
]  # fmt: skip


def person(folder: Path) -> list[tuple[str, str]]:
    """A bundle of 1,000 people and 1,000 revoked certificates in `folder`, and the headers that nginx sets for one of them."""
    from gatekey.model import bundle
    from gatekey.model.headers import encode

    key, crt = folder / "k.pem", folder / "c.pem"
    subject = ["-subj", "/CN=ann", "-set_serial", "0x439C02C93ACB5FEF290DC4FE0B88E7CD", "-days", "30", "-addext", "subjectAltName=email:ann@example.com"]
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out", str(crt), *subject]
    subprocess.run(words, check=True, capture_output=True)
    pem = crt.read_text()
    from hashlib import sha256
    from ssl import PEM_cert_to_DER_cert

    serial, print_ = "439C02C93ACB5FEF290DC4FE0B88E7CD", sha256(PEM_cert_to_DER_cert(pem)).hexdigest().upper()
    far = int(time.time()) + 86400 * 30
    known = [bundle.Known("CN=ann", "people", f"{n:032X}", f"{n:064X}", f"p{n}", "", "", (), "", far) for n in range(1000)]
    known.append(bundle.Known("CN=ann", "people", serial, print_, "ann", "Änn", "ann@example.com", ("staff", "accounting"), "laptop", far))
    denied = [bundle.Denied("CN=ann", f"{n:032X}") for n in range(5000, 6000)]
    # As the authority publishes it: links into a folder that is switched as a whole.
    (folder / ".set-1").mkdir()
    (folder / ".current").symlink_to(".set-1")
    for name, text in (("people.json", bundle.people_json(known, 1)), ("revoked.lst", bundle.revoked_lst(denied))):
        (folder / ".set-1" / name).write_text(text)
        (folder / name).symlink_to(f".current/{name}")
    return [
        ("X-Client-Verify", "SUCCESS"), ("X-Client-User", "ann"), ("X-Client-Serial", serial), ("X-Client-Issuer", "CN=ann"), ("X-Client-Name", encode("Änn")),
        ("X-Client-Email", "ann@example.com"), ("X-Client-Groups", "staff,accounting"), ("X-Client-Device", "laptop"), ("X-Client-Cert", quote(pem, safe="-")),
    ]  # fmt: skip


def scope(headers: list[tuple[str, str]], *, unix: bool) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/", "raw_path": b"/", "root_path": "",
        "query_string": b"", "server": ("/run/app.sock", None) if unix else ("127.0.0.1", 8000), "client": None if unix else ("127.0.0.1", 40000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in [*BROWSER, *headers]],
    }  # fmt: skip


def environ(headers: list[tuple[str, str]]) -> dict[str, Any]:
    base = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80", "REMOTE_ADDR": "localhost", "REMOTE_PORT": "None"}
    more = {f"wsgi.{name}": None for name in ("version", "url_scheme", "input", "errors", "multithread", "multiprocess", "run_once")}
    said = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in [*BROWSER, *headers] if not name.lower().startswith("x-forwarded-for")}
    return {**base, **more, **said}


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Any) -> None:
    pass


async def bare_asgi(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


def bare_wsgi(_environ: Any, _start_response: Any) -> list[bytes]:
    return []


def asgi(app: Any, made: dict[str, Any], requests: int = REQUESTS) -> float:
    """Microseconds per request."""

    async def run() -> float:
        begin = time.perf_counter()
        for _ in range(requests):
            await app(dict(made), receive, send)
        return (time.perf_counter() - begin) / requests * 1e6

    return asyncio.run(run())


def wsgi(app: Any, made: dict[str, Any]) -> float:
    begin = time.perf_counter()
    for _ in range(REQUESTS):
        app(dict(made), None)
    return (time.perf_counter() - begin) / REQUESTS * 1e6


def added(measure: Callable[[Any, dict[str, Any]], float], bare: Any, wrapped: Any, made: dict[str, Any]) -> float:
    """What `wrapped` takes longer than `bare`: the best round of each, the two taking turns."""
    rounds = [(measure(bare, made), measure(wrapped, made)) for _ in range(ROUNDS)]
    return min(slow for _, slow in rounds) - min(quick for quick, _ in rounds)


def fastapi_answer() -> float | None:
    """Microseconds of a bare FastAPI answer in this run, to have something to compare with; None where FastAPI is not installed."""
    try:
        from fastapi import FastAPI
    except ImportError:
        return None
    app = FastAPI()

    @app.get("/")
    async def home() -> dict[str, str]:
        return {"hello": "world"}

    made = scope([], unix=True)
    return min(asgi(app, made, 300) for _ in range(5))


def main() -> int:
    from gatekey.identity import IdentityMiddleware, Secret
    from gatekey.identity.wsgi import IdentityMiddleware as WsgiMiddleware

    word = "correct-horse-battery-staple"
    with tempfile.TemporaryDirectory() as name:
        said = person(Path(name))
        short = [pair for pair in said if pair[0] != "X-Client-Cert"]
        secret = [*said, ("X-Gatekey-Secret", word)]
        alone: dict[str, Any] = {"trust": "unix"}
        known: dict[str, Any] = {**alone, "bundle": name}
        cases = [
            ("ASGI, nobody", asgi, bare_asgi, IdentityMiddleware(bare_asgi, **alone, anonymous=True), scope([], unix=True)),
            ("ASGI, headers", asgi, bare_asgi, IdentityMiddleware(bare_asgi, **alone), scope(short, unix=True)),
            ("ASGI, certificate", asgi, bare_asgi, IdentityMiddleware(bare_asgi, **alone), scope(said, unix=True)),
            ("ASGI, certificate, bundle, deny list", asgi, bare_asgi, IdentityMiddleware(bare_asgi, **known), scope(said, unix=True)),
            (
                "ASGI, the same with a secret and an address", asgi, bare_asgi,
                IdentityMiddleware(bare_asgi, trust=["127.0.0.1", Secret(word)], bundle=name), scope(secret, unix=False),
            ),
            ("WSGI, certificate, bundle, deny list", wsgi, bare_wsgi, WsgiMiddleware(bare_wsgi, **known), environ(said)),
        ]  # fmt: skip
        peer = fastapi_answer()
        worst = 0.0
        for label, measure, bare, wrapped, made in cases:
            figure = added(measure, bare, wrapped, made)
            worst = max(worst, figure)
            print(f"{label:46} +{figure:5.1f} us" + (f"   {figure / peer:5.2f} of a FastAPI answer" if peer else "   FastAPI: MISSING"))
        if peer:
            print(f"{'a bare FastAPI answer':46}  {peer:5.1f} us")
        print(f"{'worst':46} +{worst:5.1f} us   {worst / LIMIT:5.2f} of the limit of {LIMIT:g} us")
        return worst > LIMIT


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
