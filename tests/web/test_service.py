"""`gatekey serve` as it runs: several workers on one ledger, killed, replaced, ended; strangers who are slow, loud or many."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import ocsp as judge

from gatekey.api import Authority
from gatekey.authority import access
from gatekey.authority.health import CHECKS
from gatekey.x509 import ocsp
from gatekey.x509.certificate import read_certificate
from gatekey.x509.spki import key_bits
from kit.servers import free_port, wait_until
from kit.service import COMMAND, ROOT, Service, client_context, configure, serving, started

pytestmark = pytest.mark.slow

GOOD, REVOKED = judge.OCSPCertStatus.GOOD, judge.OCSPCertStatus.REVOKED


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("service"), {"service": {"workers": 2}}) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames:
        request.getfixturevalue("service").hang_up()


def question(service: Service, serial: str) -> bytes:
    issuer = read_certificate(service.get("/ca/people.crt")[2])
    return ocsp.encode_request([ocsp.encode_id(ocsp.issuer_ids(issuer.subject, key_bits(issuer.spki))[0], int(serial, 16))])


def status(service: Service, body: bytes) -> judge.OCSPCertStatus:
    return judge.load_der_ocsp_response(service.get("/ocsp", method="POST", body=body)[2]).certificate_status


def connections_to_each(service: Service, wanted: int = 2) -> list[http.client.HTTPConnection]:
    """Connections that stay open, among them one to each worker: whose end it is, the kernel tells."""
    found: dict[str, http.client.HTTPConnection] = {}

    def another() -> bool:
        connection = service.connect()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        number = connection.sock.getsockname()[1]
        owner = subprocess.run(["ss", "-Htnp", f"dport = :{number}"], capture_output=True, text=True, check=True).stdout
        pids = [part.split(",")[0] for part in owner.split("pid=")[1:]]
        found.setdefault(pids[0] if pids else "", connection)
        return len(found) >= wanted

    wait_until(another, "a connection to each worker")
    return list(found.values())


def ask(connection: http.client.HTTPConnection, body: bytes) -> judge.OCSPCertStatus:
    connection.request("POST", "/ocsp", body)
    return judge.load_der_ocsp_response(connection.getresponse().read()).certificate_status


def test_a_revocation_reaches_every_worker_within_a_second(service: Service) -> None:
    with service.authority() as authority:
        serial = authority.issue_client("ann").serial
    body = question(service, serial)
    connections = connections_to_each(service)
    assert {ask(one, body) for one in connections} == {GOOD}
    service.gatekey("revoke", "ann")
    since = time.monotonic()
    waits = []
    for one in connections:
        wait_until(lambda one=one: ask(one, body) is REVOKED, "the answer", 5)  # type: ignore[misc]
        waits.append(time.monotonic() - since)
    assert max(waits) < 1, waits
    number = int(serial, 16)
    wait_until(lambda: x509.load_der_x509_crl(service.get("/crl/people.crl")[2]).get_revoked_certificate_by_serial_number(number), "the CRL", 2)


def test_health_and_readiness(service: Service) -> None:
    assert service.get("/healthz")[0] == 200
    code, headers, body = service.get("/readyz")
    found = json.loads(body)
    assert (code, found["ready"]) == (200, True)
    assert found["checks"].keys() == {*CHECKS, "config", "ocsp", "view", "certificate"}
    assert headers["cache-control"] == "no-store"


def test_methods_and_addresses_that_are_not_there(service: Service) -> None:
    cases = (("GET", "/nothing", 404), ("POST", "/healthz", 405), ("DELETE", "/crl/people.crl", 405), ("GET", "/metrics", 404), ("GET", "/crl/x", 404))
    for method, path, wanted in cases:
        code, headers, body = service.get(path, method=method)
        assert code == wanted, path
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["status"] == wanted
        if wanted == 405:
            assert "GET" in headers["allow"]
    connection = service.connect()
    connection.request("HEAD", "/ca/people.crt")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert int(answer.headers["content-length"]) == len(service.get("/ca/people.crt")[2])


def reader(service: Service) -> dict[str, str]:
    """The header of somebody who may read."""
    with service.authority() as authority:
        core = authority._core
        if core.reads.holder("monitor") is None:
            authority.issue_client("monitor")
            access.set_roles(core, "monitor", add=["auditor"])
        return {"Authorization": f"Bearer {access.make_token(core, 'monitor', ['read'])[1]}"}


def test_who_is_told_how_it_is_doing(service: Service, tmp_path: Path) -> None:
    """Details of /readyz and /metrics are for those who have signed in: by a certificate or a token. Everybody else hears whether it is ready."""
    token = reader(service)
    with service.authority() as authority:
        roles = {"nobody": "", "ann": "", "auditor": "auditor", "proxy": "proxy"}
        contexts = {"nobody": client_context(authority, tmp_path)}
        for login, role in list(roles.items())[1:]:
            issued = authority.issue_client(f"asks-{login}")
            access.set_roles(authority._core, f"asks-{login}", add=[role] if role else [])
            contexts[login] = client_context(authority, tmp_path, issued.chain, issued.key)

    def ask(who: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection("localhost", service.private, context=contexts[who], timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        said = answer.status, answer.read().decode()
        connection.close()
        return said

    assert {who: ask(who, "/metrics")[0] for who in roles} == {"nobody": 401, "ann": 403, "auditor": 200, "proxy": 403}
    assert ask("nobody", "/metrics", **token)[0] == 200
    assert ask("nobody", "/metrics", Authorization="Bearer gkt_x_y")[0] == 401
    assert {who: ask(who, "/readyz")[0] for who in roles} == dict.fromkeys(roles, 200)
    assert ask("nobody", "/readyz", Authorization="Bearer gkt_x_y")[0] == 200
    (service.home / "keys" / "people.key").rename(service.home / "people.key")
    try:
        wait_until(lambda: all("is not here" in ask("auditor", "/readyz")[1] for _ in range(8)), "a warning of every worker", 40)
        assert {who: "is not here" in ask(who, "/readyz")[1] for who in roles} == {"nobody": False, "ann": False, "auditor": True, "proxy": True}
        assert "is not here" in ask("nobody", "/readyz", **token)[1]
    finally:
        (service.home / "people.key").rename(service.home / "keys" / "people.key")


def test_the_authority_serves_under_a_certificate_of_its_own(service: Service, tmp_path: Path) -> None:
    with service.authority() as authority:
        context = client_context(authority, tmp_path)
        ann = authority.issue_client("tls-ann")
        context_of_ann = client_context(authority, tmp_path, ann.chain, ann.key)
    for host in ("localhost", "127.0.0.1"):
        connection = http.client.HTTPSConnection(host, service.private, context=context, timeout=10)
        connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", service.private), 10), server_hostname=host)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
    connection = http.client.HTTPSConnection("localhost", service.private, context=context_of_ann, timeout=10)
    headers = reader(service)

    def counted() -> bool:  # workers tell each other once a second
        connection.request("GET", "/metrics", headers=headers)
        return 'gatekey_requests_total{listener="private",route="/readyz",status="200"}' in connection.getresponse().read().decode()

    wait_until(counted, "the count of all workers")
    connection.close()


def test_a_foreign_certificate_ends_the_handshake(service: Service, tmp_path: Path) -> None:
    with Authority.create(tmp_path / "other", "Other", unencrypted_keys=True) as other, service.authority() as authority:
        eve = other.issue_client("eve")
        context = client_context(authority, tmp_path, eve.chain, eve.key)
    connection = http.client.HTTPSConnection("localhost", service.private, context=context, timeout=10)
    with pytest.raises((ssl.SSLError, ConnectionError)), contextlib.closing(connection) as one:
        one.request("GET", "/readyz")
        one.getresponse()


def raw(port: int, data: bytes, *, wait: float = 10) -> bytes:
    """What comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while part := sock.recv(65536):
                found += part
        return found


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"POST /ocsp HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n", b"413"),
        (b"POST /ocsp HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n", b""),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 400_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 60_000, b"431"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"40"),
        (b"GET /crl/%00%0d%0aset-cookie:x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET http:///healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b""),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"40"),
    ],
    ids=["huge body", "chunked", "huge header", "many headers", "no http", "smuggled", "negative", "tls", "path", "injected", "odd url", "star"],
)
def test_loud_strangers(service: Service, data: bytes, wanted: bytes) -> None:
    head = data
    if b"\r\n\r\n4000\r\n" in data:
        head = data + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 30
        wanted = b"413"
    found = raw(service.public, head)
    assert found.startswith(b"HTTP/1.1 " + wanted) or (not found and not wanted), found[:200]
    assert b"set-cookie" not in found.partition(b"\r\n\r\n")[0]
    assert service.get("/healthz")[0] == 200


def test_bodies_are_read_to_their_end(service: Service) -> None:
    """In pieces, chunked, and one request behind the other on one connection."""
    with service.authority() as authority:
        serial = authority.issue_client("pieces").serial
    body = question(service, serial)
    with socket.create_connection(("127.0.0.1", service.public), timeout=10) as sock:
        sock.sendall(b"POST /ocsp HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        for byte in body:
            sock.sendall(bytes([byte]))
        assert b"200 OK" in sock.recv(65536)
        chunked = b"POST /ocsp HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        sock.sendall(chunked)
        assert b"200 OK" in sock.recv(65536)
        sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 3 + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        found = b""
        while part := sock.recv(65536):
            found += part
        assert found.count(b"200 OK") == 4


def test_slow_strangers_are_let_go(service: Service) -> None:
    """A head that drips, a body that never comes, a connection that says nothing: none is kept, and everybody else is served meanwhile."""
    drip = socket.create_connection(("127.0.0.1", service.public), timeout=60)
    drip.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    silent = socket.create_connection(("127.0.0.1", service.public), timeout=60)
    since = time.monotonic()

    def dripping() -> bool:
        with contextlib.suppress(OSError):
            drip.sendall(b"x")
        drip.setblocking(False)
        try:
            return drip.recv(100).startswith(b"HTTP/1.1 408")
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            drip.setblocking(True)
            time.sleep(0.3)

    wait_until(dripping, "the end of the drip", 20)
    assert silent.recv(1) == b""
    drip.close()
    silent.close()
    assert time.monotonic() - since < 25
    assert service.get("/healthz")[0] == 200


def test_refusals_are_logged_with_their_id_and_without_secrets(service: Service) -> None:
    code, _, body = service.get("/crl/who?password=geheim", headers={"authorization": "Bearer geheim", "cookie": "geheim"})
    identity = json.loads(body)["instance"]
    assert code == 404
    line = wait_until(lambda: next((one for one in service.log() if one.get("id") == identity), None), "the line")
    assert (line["event"], line["level"], line["code"], line["path"], line["listener"]) == ("refused", "warning", "no-page", "/crl/who", "public")
    assert "geheim" not in service.log_file.read_text()


def test_killing_a_worker_loses_nothing(service: Service) -> None:
    with service.authority() as authority:
        serial = authority.issue_client("kill").serial
    body = question(service, serial)
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    for _ in range(50):
        assert service.get("/healthz")[0] == 200
        assert status(service, body) is GOOD
    wait_until(lambda: len(service.workers()) == 2 and before[0] not in service.workers(), "another worker")
    wait_until(lambda: any(one["event"] == "worker-died" and one["pid"] == before[0] for one in service.log()), "the line")
    connections_to_each(service)


class Load(threading.Thread):
    """Asks without a pause on kept and on new connections; every answer that is missing or wrong is remembered."""

    def __init__(self, service: Service, *, fresh: bool) -> None:
        super().__init__()
        self.service, self.fresh = service, fresh
        self.ended = threading.Event()
        self.found: Counter[str] = Counter()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.public, timeout=10)
        while not self.ended.is_set():
            try:
                if self.fresh:
                    connection = http.client.HTTPConnection("127.0.0.1", self.service.public, timeout=10)
                connection.request("GET", "/crl/people.crl")
                answer = connection.getresponse()
                data = answer.read()
                self.found["good" if answer.status == 200 and data else f"status {answer.status}"] += 1
                if answer.will_close or self.fresh:
                    connection.close()
            except Exception as error:  # noqa: BLE001  each is a dropped request
                self.found[repr(error)] += 1
                connection.close()
        connection.close()


def test_a_rolling_restart_drops_no_request(service: Service) -> None:
    loads = [Load(service, fresh=fresh) for fresh in (True, False, True, False)]
    for load in loads:
        load.start()
    try:
        for _ in range(2):
            before = set(service.workers())
            count = sum(one["event"] == "reloaded" for one in service.log())
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda count=count: sum(one["event"] == "reloaded" for one in service.log()) > count, "the reload")  # type: ignore[misc]
            wait_until(lambda before=before: not before & set(service.workers()), "the end of the old workers")  # type: ignore[misc]
    finally:
        for load in loads:
            load.ended.set()
        for load in loads:
            load.join(30)
    for load in loads:
        assert set(load.found) == {"good"}, load.found
        assert load.found["good"] > 20


def test_a_reload_changes_the_number_of_workers(tmp_path: Path) -> None:
    with serving(tmp_path, {"service": {"workers": 1}}) as service:
        for times, number in enumerate((3, 2, 12), 1):
            toml = service.home / "gatekey.toml"
            toml.write_text(re.sub(r"workers = \d+", f"workers = {number}", toml.read_text()))
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda times=times: sum(one["event"] == "reloaded" for one in service.log()) == times, "the reload")  # type: ignore[misc]
            wait_until(lambda number=number: len(service.workers()) == min(number, 8), f"{number} workers")  # type: ignore[misc]
        assert [one["asked"] for one in service.log() if one["event"] == "too-many-workers"] == [12]
        toml.write_text(toml.read_text() + "no TOML")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(one["event"] == "reload-failed" for one in service.log()), "the refusal")
        assert len(service.workers()) == 8
        assert service.get("/healthz")[0] == 200
        toml.write_text(toml.read_text().replace("no TOML", ""))


def test_counters_survive_their_worker(service: Service, tmp_path: Path) -> None:
    with service.authority() as authority:
        context = client_context(authority, tmp_path)
    headers = reader(service)

    def count() -> float:
        connection = http.client.HTTPSConnection("localhost", service.private, context=context, timeout=10)
        connection.request("GET", "/metrics", headers=headers)
        text = connection.getresponse().read().decode()
        connection.close()
        lines = [line for line in text.splitlines() if line.startswith('gatekey_requests_total{listener="public",route="/healthz",status="200"}')]
        return float(lines[0].split()[-1])

    for _ in range(20):
        service.get("/healthz")
    before = wait_until(lambda: count() if count() >= 20 else 0, "the count")
    time.sleep(1.2)  # a copy is left once a second
    for pid in service.workers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(service.workers()) == 2, "new workers")
    connections_to_each(service)
    assert wait_until(lambda: count() >= before, "the count")


def test_rate_limits_count_over_all_workers(tmp_path: Path) -> None:
    with serving(tmp_path, {"limits": {"requests-per-second": 20}}) as service:
        def burst() -> Counter[int]:
            return Counter(service.get("/healthz")[0] for _ in range(60))

        found = wait_until(lambda: found if (found := burst())[429] else None, "a refusal")
        assert found[200] <= 60
        _, headers, body = wait_until(lambda: answer if (answer := service.get("/healthz"))[0] == 429 else None, "429", 10)
        assert headers["retry-after"] == "1"
        assert json.loads(body)["code"] == "too-many-requests"
        wait_until(lambda: service.get("/healthz")[0] == 200, "the next second")
        assert not [one for one in service.log() if one.get("code") == "too-many-requests"], "counted, not logged"


def test_unix_sockets_have_their_mode(tmp_path: Path) -> None:
    place = tmp_path / "proxy.sock"
    with serving(tmp_path, {"proxy": {"listen": f"unix:{place}", "mode": "0600"}}) as service:
        assert place.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(place))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in sock.recv(65536)
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(one["event"] == "reloaded" for one in service.log()), "the reload")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(place))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in sock.recv(65536)


def files_for(service_home: Path, folder: Path, name: str) -> bytes:
    """A certificate for localhost in site.crt and site.key."""
    with Authority.open(service_home) as authority:
        issued = authority.issue_server(name, "localhost")
    (folder / "site.key").touch(0o600)
    (folder / "site.key").write_bytes(issued.key)
    (folder / "site.crt").write_bytes(issued.chain)
    return issued.certificate


def test_given_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    public, private = free_port(), free_port()
    home = tmp_path / "home"
    Authority.create(home, "Files", unencrypted_keys=True).close()
    first = files_for(home, tmp_path, "one.example")
    tables = {"public": {"listen": f"127.0.0.1:{public}"}, "private": {"listen": f"127.0.0.1:{private}"}}
    configure(home, {**tables, "service": {"certificate": str(tmp_path / "site.crt"), "key": str(tmp_path / "site.key"), "workers": 1}})

    def shown() -> bytes:
        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", private)).encode()).serial_number.to_bytes(16, "big")

    def serial(pem: bytes) -> bytes:
        return x509.load_pem_x509_certificate(pem).serial_number.to_bytes(16, "big")

    with started(home, tmp_path / "log", public, private) as service:
        assert shown() == serial(first)
        (tmp_path / "site.crt").write_bytes(b"not a certificate")
        wait_until(lambda: json.loads(service.get("/readyz")[2])["checks"]["certificate"]["state"] == "warn", "a warning")
        assert shown() == serial(first), "what cannot be read changes nothing"
        second = files_for(home, tmp_path, "two.example")
        wait_until(lambda: shown() == serial(second), "the new certificate")
        wait_until(lambda: json.loads(service.get("/readyz")[2])["checks"]["certificate"]["state"] == "ok", "the end of the warning")


@pytest.fixture
def closing() -> Iterator[Callable[[socket.socket], socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


def test_sockets_and_readiness_by_systemd(tmp_path: Path, closing: Callable[[socket.socket], socket.socket]) -> None:
    """LISTEN_FDS and NOTIFY_SOCKET, as systemd gives them."""
    home = tmp_path / "home"
    Authority.create(home, "Systemd", unencrypted_keys=True).close()
    configure(home, {"private": {"listen": ""}, "service": {"workers": 1}})
    listening = closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listening.bind(("127.0.0.1", 0))
    listening.listen(10)
    told = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    told.bind(str(tmp_path / "notify"))
    told.settimeout(30)
    # The descriptor must be number 3 and LISTEN_PID the pid of the process itself: exec keeps both.
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1',"
        " LISTEN_FDNAMES='public'); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "NOTIFY_SOCKET": str(tmp_path / "notify")}
    words = [sys.executable, "-c", start, str(listening.fileno()), *COMMAND[1:], "--home", str(home), "serve"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, pass_fds=[listening.fileno()], stderr=log)
    try:
        assert told.recv(1000).startswith(b"READY=1"), (tmp_path / "log").read_text()
        found = raw(listening.getsockname()[1], b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in found
        process.send_signal(signal.SIGTERM)
        assert told.recv(1000) == b"STOPPING=1"
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)


def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    Authority.create(home, "Ctrl-C", unencrypted_keys=True).close()
    configure(home, {"public": {"listen": f"127.0.0.1:{free_port()}"}, "private": {"listen": ""}, "service": {"workers": 1}})
    with log.open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--home", str(home), "serve"], env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, stderr=out)
    try:
        wait_until(lambda: '"ready"' in log.read_text(), "the service")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait(10)


def test_the_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """Killed outright, it leaves nobody behind on its sockets."""
    home = tmp_path / "home"
    port = free_port()
    Authority.create(home, "Orphans", unencrypted_keys=True).close()
    configure(home, {"public": {"listen": f"127.0.0.1:{port}"}, "private": {"listen": ""}})
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--home", str(home), "serve"], env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, stderr=out)
    wait_until(lambda: '"ready"' in log.read_text(), "the service")
    workers = Service(home, process, log, port, 0).workers()
    process.kill()
    process.wait(10)
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers), "their end")


@pytest.mark.parametrize(
    ("tables", "word"),
    [
        ({"public": {"listen": "192.0.2.1:8080"}}, "192.0.2.1:8080 cannot be listened on"),
        ({"public": {"listen": ""}, "private": {"listen": ""}}, "no listener has an address"),
        ({"service": {"certificate": "/nowhere"}}, "only one of service.certificate and service.key"),
        ({"proxy": {"listen": "127.0.0.1:9999"}}, "proxy.listen is no Unix socket"),
        ({"proxy": {"mode": "rw"}}, "proxy.mode 'rw' is no mode in octal"),
        ({"private": {"listen": "", "behind-proxy": ["next door"]}}, "is no address and no network"),
        ({"service": {"certificate": "/nowhere", "key": "/nowhere"}}, "cannot be used as certificate and key: there is no /nowhere"),
        ({"service": {"log": "loud"}}, "service.log: is 'loud', and must be one of"),
        ({"service": {"workers": 0}}, "service.workers: must be a whole number, 1 or more"),
        ({"mail": {"server": "post.example:587"}}, "mail needs a server as HOST:PORT, a sender"),
        ({"webhook": {"url": "https://hooks.example/"}}, "the webhook needs both webhook.url and webhook.secret-file"),
        ({"proxy": {"mode": "rw"}, "mail": {"from": "a@b"}}, "is no mode in octal; mail needs a server"),
    ],
)
def test_what_cannot_be_is_said_at_once(tmp_path: Path, tables: dict[str, dict[str, object]], word: str) -> None:
    home = tmp_path / "home"
    Authority.create(home, "Wrong", unencrypted_keys=True).close()
    wanted = {"public": {"listen": f"127.0.0.1:{free_port()}"}, "private": {"listen": f"127.0.0.1:{free_port()}"}}
    configure(home, {table: {**wanted.get(table, {}), **tables.get(table, {})} for table in {**wanted, **tables}})
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([*COMMAND, "--home", str(home), "serve"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert word in done.stderr
    assert done.stderr.startswith("gatekey: ")
    assert "Traceback" not in done.stderr
    assert '"event"' not in done.stderr, "a person is told, not a log: no worker was started"
