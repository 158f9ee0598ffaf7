"""Issuing through the API: certificates per second out of CSRs, over TLS on 16 connections, durable, beside "hello world" on the same server and connections.

    PYTHONPATH=src python bench/api.py [--seconds 5] [--encrypted]

Starts `gatekey serve` as it is (two workers, logs, metrics, limits) on a home in a temporary folder, loads it with wrk from another process, and looks into
the ledger afterwards. The aim is 1,500/s or 0.25 of hello world, whichever is lower. `cfssl serve` gets the same requests on as many connections, over TLS too;
it records nothing. step-ca signs with one-time tokens, and is told as MISSING where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONNECTIONS, PER_SECOND = 16, 4000
AIM, PART = 1500, 0.25
PASSPHRASE = "a passphrase that stands in a file"
SRC = Path(__file__).parent.parent / "src"
#: How a process is started without an installed command.
COMMAND = (sys.executable, "-c", "from gatekey.cli import main; main()")

#: Every CSR in order; where there is no more, what `over` says.
LUA = """
local requests, place = {}, 0
local said = ""
local headers = {["authorization"] = "Bearer %(token)s", ["content-type"] = "application/json"}
function init(args)
  for line in io.lines("%(bodies)s") do requests[#requests + 1] = wrk.format("POST", "%(path)s", headers, line) end
end
function request()
  place = place + 1
  if place > #requests then %(over)s end
  return requests[place]
end
function response(status, headers, body)
  if status ~= 201 and status ~= 200 and said == "" then said = body; print(status, body) end
end
"""


def requests(count: int) -> Iterator[tuple[str, str]]:
    """Names, and a CSR in PEM with a key of its own."""
    from gatekey.keys import material
    from gatekey.model.names import Names
    from gatekey.x509 import pem
    from gatekey.x509.csr import encode_csr

    for number in range(count):
        key = material.make("p256")
        yield f"p{number}", pem.encode("CERTIFICATE REQUEST", encode_csr(Names(common_name=f"p{number}"), key.spki, "p256", key.sign)).decode()


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def wrk(url: str, *more: str, seconds: float) -> tuple[float, str]:
    """Requests per second, and all that wrk said."""
    done = subprocess.run(["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", *more, url], capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1]), done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="certificates per second through the API")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--encrypted", action="store_true", help="the authority's keys are under a passphrase")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        csrs = list(requests(PER_SECOND * chosen.seconds))
        fine = gatekey(folder, csrs, chosen.seconds, encrypted=chosen.encrypted)
        if shutil.which("cfssl"):
            rate = cfssl(folder, csrs, chosen.seconds)
            print(f"cfssl serve    {rate:8.0f}/s  records nothing")
        else:
            print("cfssl serve     MISSING   not installed")
        if not shutil.which("step-ca"):
            print("step-ca         MISSING   not installed")
    return 0 if fine else 1


def gatekey(folder: Path, csrs: list[tuple[str, str]], seconds: int, *, encrypted: bool) -> bool:
    """Prints hello world's rate and ours; whether the aim is met."""
    from gatekey import app
    from gatekey.authority import access, people
    from gatekey.model.holder import Holder

    home, secret = folder / "home", folder / "secret"
    secret.touch(0o600)
    secret.write_text(f"{PASSPHRASE}\n")
    founding = app.Founding("Bench", passphrase_file=secret) if encrypted else app.Founding("Bench", unencrypted_keys=True)
    authority = app.create_authority(home, founding, passphrase=PASSPHRASE.encode if encrypted else None)
    people.add(authority, Holder("robot", "service"))
    access.set_roles(authority, "robot", add=["operator"])
    _, token = access.make_token(authority, "robot", ["issue"])
    private = free()
    with (home / "gatekey.toml").open("a") as config:
        config.write(f'\n[public]\nlisten = ""\n[private]\nlisten = "127.0.0.1:{private}"\n')
    bodies = [{"csr": csr, "profile": "client"} for _, csr in csrs]
    script = _script(folder, "gatekey", "/v1/certificates/sign", token, bodies, 'return wrk.format("GET", "/healthz")')
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    with running([*COMMAND, "--home", str(home), "serve"], private, environment) as pid:
        url = f"https://127.0.0.1:{private}"
        wrk(f"{url}/healthz", seconds=1)
        cpu = [_cpu(pid)]
        hello, _ = wrk(f"{url}/healthz", seconds=seconds)
        cpu.append(_cpu(pid))
        before = _count(authority)
        _, said = wrk(url, "-s", str(script), seconds=seconds)
        cpu.append(_cpu(pid))
        issued = _count(authority) - before
    authority.close()
    rate, aim = issued / seconds, min(AIM, PART * hello)
    print(f"hello world    {hello:8.0f}/s")
    print(f"issued         {rate:8.0f}/s  {rate / hello:.2f} of hello world; the aim is {aim:.0f}/s")
    # What others do on the machine changes rates, not this.
    print(f"processor      {(cpu[2] - cpu[1]) / issued * 1e6:8.0f} us each; hello world {(cpu[1] - cpu[0]) / (hello * seconds) * 1e6:.0f} us")
    if issued >= len(csrs):
        print(f"  all {len(csrs)} requests were used up; the rate is a lower bound")
    for line in said.splitlines():
        if "Non-2xx" in line or "{" in line or "Latency" in line:
            print(f"  {line.strip()}")
    return rate >= aim


def cfssl(folder: Path, csrs: list[tuple[str, str]], seconds: int) -> float:
    """Certificates per second of cfssl, which keeps no record of them."""
    place = folder / "cfssl"
    place.mkdir()
    wish = {"CN": "Bench people", "hosts": ["127.0.0.1"], "key": {"algo": "ecdsa", "size": 256}}
    done = subprocess.run(["cfssl", "genkey", "-initca", "-loglevel", "5", "-"], input=json.dumps(wish), capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    for name in ("cert", "key"):
        (place / f"ca.{name}").write_text(made[name])
    usages = {"usages": ["digital signature", "client auth"], "expiry": "8760h"}
    (place / "config.json").write_text(json.dumps({"signing": {"default": usages}}))
    port = free()
    ca = ["-ca", place / "ca.cert", "-ca-key", place / "ca.key", "-tls-cert", place / "ca.cert", "-tls-key", place / "ca.key"]
    command = ["cfssl", "serve", "-loglevel", "5", "-address", "127.0.0.1", "-port", str(port), "-config", place / "config.json", *ca]
    script = _script(folder, "cfssl", "/api/v1/cfssl/sign", "", [{"certificate_request": csr} for _, csr in csrs], "place = 1")
    with running(list(map(str, command)), port, dict(os.environ)):
        rate, said = wrk(f"https://127.0.0.1:{port}", "-s", str(script), seconds=seconds)
    if "Non-2xx" in said:
        raise SystemExit(said)
    return rate


def _script(folder: Path, name: str, path: str, token: str, bodies: list[dict[str, str]], over: str) -> Path:
    lines, script = folder / f"{name}.bodies", folder / f"{name}.lua"
    lines.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    script.write_text(LUA % {"bodies": lines, "path": path, "token": token, "over": over})
    return script


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """A server on this port; its PID."""
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait(port)
        yield server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def _count(authority: object) -> int:
    with authority.ledger.db.read() as tx:  # type: ignore[attr-defined]
        return int(tx.one("SELECT count(*) FROM certificate WHERE state = 'released'")[0])


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and its children so far."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    ticks = (Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in ticks) / os.sysconf("SC_CLK_TCK")


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the service does not listen")


if __name__ == "__main__":
    sys.exit(main())
