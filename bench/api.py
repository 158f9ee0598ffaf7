"""Issuing through the API: certificates per second out of CSRs, over TLS on 16 connections, durable, beside "hello world" on the same server and connections.

    PYTHONPATH=src python bench/api.py

Starts `gatekey serve` as it is (two workers, logs, metrics, limits) on a home in a temporary folder, loads it with wrk from another process, and looks into
the ledger afterwards. The aim is 1,500/s or 0.25 of hello world, whichever is lower.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS, SECONDS, REQUESTS = 16, 5, 9000
AIM, PART = 1500, 0.25
SRC = Path(__file__).parent.parent / "src"
#: How a process is started without an installed command.
COMMAND = (sys.executable, "-c", "from gatekey.cli import main; main()")

#: Each thread of wrk takes every CSR once, in order.
LUA = """
local bodies, place = {}, 0
local refused, said = 0, ""
function init(args)
  for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
end
function request()
  place = place + 1
  if place > #bodies then return wrk.format("GET", "/healthz") end
  return wrk.format("POST", "/v1/certificates/sign", {["authorization"] = "Bearer %(token)s", ["content-type"] = "application/json"}, bodies[place])
end
function response(status, headers, body)
  if status ~= 201 and status ~= 200 and said == "" then said = body; print(status, body) end
end
"""


def bodies(path: Path) -> None:
    """One request per line, each with a key of its own."""
    from gatekey.keys import material
    from gatekey.model.names import Names
    from gatekey.x509 import pem
    from gatekey.x509.csr import encode_csr

    with path.open("w") as out:
        for number in range(REQUESTS):
            key = material.make("p256")
            csr = encode_csr(Names(common_name=f"p{number}"), key.spki, "p256", key.sign)
            out.write(json.dumps({"csr": pem.encode("CERTIFICATE REQUEST", csr).decode(), "profile": "client"}) + "\n")


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def wrk(url: str, *more: str, seconds: float = SECONDS) -> tuple[float, str]:
    """Requests per second, and all that wrk said."""
    done = subprocess.run(["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", *more, url], capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1]), done.stdout


def main() -> int:
    from gatekey import app
    from gatekey.authority import access, people
    from gatekey.model.holder import Holder

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        authority = app.create_authority(home, app.Founding("Bench", unencrypted_keys=True))
        people.add(authority, Holder("robot", "service"))
        access.set_roles(authority, "robot", add=["operator"])
        _, token = access.make_token(authority, "robot", ["issue"])
        private = free()
        with (home / "gatekey.toml").open("a") as config:
            config.write(f'\n[public]\nlisten = ""\n[private]\nlisten = "127.0.0.1:{private}"\n')
        lines, script = Path(folder) / "bodies", Path(folder) / "issue.lua"
        bodies(lines)
        script.write_text(LUA % {"bodies": lines, "token": token})
        environment = {**os.environ, "PYTHONPATH": str(SRC)}
        service = subprocess.Popen([*COMMAND, "--home", str(home), "serve"], env=environment, stderr=subprocess.PIPE)
        try:
            url = f"https://127.0.0.1:{private}"
            _wait(private)
            wrk(f"{url}/healthz", seconds=1)
            cpu = [_cpu(service.pid)]
            hello, _ = wrk(f"{url}/healthz")
            cpu.append(_cpu(service.pid))
            before, begun = _count(authority), time.monotonic()
            _, said = wrk(url, "-s", str(script))
            cpu.append(_cpu(service.pid))
            took = time.monotonic() - begun
            issued = _count(authority) - before
            rate = issued / min(took, SECONDS)
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=30)
            authority.close()
        aim = min(AIM, PART * hello)
        print(f"hello world    {hello:8.0f}/s")
        print(f"issued         {rate:8.0f}/s  {rate / hello:.2f} of hello world; the aim is {aim:.0f}/s")
        # What others do on the machine changes rates, not this.
        print(f"processor      {(cpu[2] - cpu[1]) / issued * 1e6:8.0f} us each; hello world {(cpu[1] - cpu[0]) / (hello * SECONDS) * 1e6:.0f} us")
        if issued >= REQUESTS:
            print(f"  all {REQUESTS} requests were used up; the rate is a lower bound")
        for line in said.splitlines():
            if "Non-2xx" in line or "{" in line or "Latency" in line:
                print(f"  {line.strip()}")
        return 0 if rate >= aim else 1


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
