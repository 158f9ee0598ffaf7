"""Our units under a real systemd, on a machine of their own: what the pages say is typed by root, and everything that a unit gives up is gone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.servers import wait_until
from kit.systemd import Booted, booted
from kit.typist import Section, sections

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SECRET = "a passphrase for the tests"
HOME = "/root/.local/share/gatekey"
TOML = """
[public]
listen = "0.0.0.0:80"
[proxy]
listen = "unix:/run/gatekey/proxy.sock"
"""
#: The API as an operator asks it, from root's home.
API = "curl -sS --fail-with-body --cert ops.crt --key ops.key --cacert servers-root.crt"
#: Verbs of the user gatekey, in a folder that is his.
AS_GATEKEY = """cd /tmp; chmod 777 .; install -o gatekey -m 600 /root/asked passphrase; export GATEKEY_PASSPHRASE_FILE=/tmp/passphrase
gatekey() { runuser -u gatekey -- /opt/gatekey/bin/gatekey --home /var/lib/gatekey "$@"; }
"""
#: What stands behind the web server.
APP = """install -d /srv/app; echo kittens > /srv/app/index.html
systemd-run --quiet --unit app /opt/gatekey/bin/python -m http.server 8000 --bind 127.0.0.1 --directory /srv/app
"""
#: What somebody gets who is not let in; no status at all where no handshake comes about.
SHUT = ("000", "400", "403")
#: Asks without a pause until the file is gone, and counts what was not answered.
ASKS = "touch asking; while test -e asking; do curl -sS -m 20 -o /dev/null http://127.0.0.1/healthz 2>> lost && echo >> answered || true; done"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Booted]:
    with booted(tmp_path) as made:
        yield made


@pytest.fixture
def section(m: Booted) -> Section:
    """The page, and an authority in root's home. Who asks for the passphrase is played: there is no terminal."""
    m.types(f"umask 077; echo {shlex.quote(SECRET)} > asked; gatekey init 'Kitty CA' --passphrase-file asked --url http://pki.example.com")
    m.types("printf '#!/bin/sh\\ncat /root/asked\\n' > /usr/local/bin/systemd-ask-password; chmod 755 /usr/local/bin/systemd-ask-password")
    m.types("gatekey issue client ops --for pem --out . --passphrase-file asked; gatekey people set ops --role operator")
    m.types("gatekey authority export servers-root --out servers-root.crt")
    toml = m.file(f"{HOME}/gatekey.toml")
    toml.write_text('publish = "/srv/gatekey/published"\n' + toml.read_text() + TOML)
    return sections("service.md")["As a systemd service"]


@pytest.fixture
def served(m: Booted, section: Section) -> Section:
    """The service runs. Left of the page: how verbs are called, and the sockets."""
    m.types(section.take("sh"))
    return section


def main_process(m: Booted) -> str:
    return m.shown("gatekey", "MainPID")["MainPID"]


def sequence(m: Booted) -> int:
    return int(m.types("grep -o '\"number\": *[0-9]*' /srv/gatekey/published/manifest.json | grep -o '[0-9]*$'"))


def test_the_page_leads_to_a_running_service(m: Booted, served: Section) -> None:
    assert "ops" in m.types(served.take("sh")), "verbs are for the user gatekey"
    assert m.shown("gatekey", "ActiveState", "SubState", "NRestarts") == {"ActiveState": "active", "SubState": "running", "NRestarts": "0"}
    ready = next(json.loads(line) for line in m.journal("gatekey").splitlines() if '"ready"' in line)
    assert ready["listen"] == ["public 0.0.0.0:80", "private 127.0.0.1:8443", "proxy unix:/run/gatekey/proxy.sock"]
    wait_until(lambda: json.loads(m.types("curl -sS http://127.0.0.1/readyz"))["ready"], "the folder is published", 10)
    assert m.types("stat -c '%U %a' /var/lib/gatekey /run/gatekey /srv/gatekey/published").split("\n")[:3] == ["gatekey 700", "gatekey 755", "gatekey 755"]
    assert m.file("/srv/gatekey/published/manifest.json").exists()
    told = m.types("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc/systemd/system/gatekey.service | tr '\\0' '\\n'; journalctl --no-pager")
    assert SECRET not in told
    m.types("systemctl stop gatekey")
    assert m.shown("gatekey", "ActiveState", "Result", "ExecMainStatus") == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}


def test_what_it_does_not_need_is_gone(m: Booted, served: Section) -> None:
    del served
    pid = main_process(m)
    status = dict(line.split(":\t", 1) for line in m.types(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == [m.types("id -u gatekey").strip()] * 4
    bind = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE, for port 80 and only because of it
    assert [status[one] for one in ("CapEff", "CapBnd", "CapAmb")] == [bind] * 3
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    within = f"nsenter --target {pid} --mount"
    said = m.run("/bin/sh", "-c", f"{within} touch /etc/x /srv/x /opt/x /var/lib/x").stderr
    assert said.count("Read-only file system") == 4, said
    assert m.types("ls -A /root").strip()
    assert not m.types(f"{within} ls -A /root").strip()
    assert not m.types(f"{within} find /dev -name 'vd*' -o -name 'sd*' -o -name mem -o -name kmsg").strip()
    exposure = re.search(r"exposure level for gatekey.service: ([0-9.]+)", m.types("systemd-analyze security --no-pager gatekey.service"))
    assert exposure
    assert float(exposure[1]) <= 1.5


def test_it_does_all_of_its_work_without_that(m: Booted, served: Section) -> None:
    """A certificate over the API, OCSP, the decision, a revocation and the folder that follows it; nothing in the journal complains."""
    del served
    m.types("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bob -keyout bob.key -out bob.csr 2>&1")
    m.file("/root/asked.json").write_text(json.dumps({"csr": m.file("/root/bob.csr").read_text(), "profile": "client"}))
    issued = json.loads(m.types(f"{API} -H 'Content-Type: application/json' --data @asked.json https://localhost:8443/v1/certificates/sign"))
    m.file("/root/bob.crt").write_text(issued["pem"])
    for name in ("people", "people-root"):
        m.types(f"gatekey --home /var/lib/gatekey authority export {name} --out {name}.crt")

    def ocsp() -> str:
        return m.types("openssl ocsp -issuer people.crt -cert bob.crt -url http://127.0.0.1/ocsp -CAfile people-root.crt -verify_other people.crt 2>&1")

    def decision() -> str:
        der = "$(openssl x509 -in bob.crt -outform DER | base64 -w 0)"
        words = f'-o /dev/null -w "%{{http_code}}" -H "Client-Cert: :{der}:" -H "X-Gatekey-Site: app.example"'
        return m.types(f"curl -sS --unix-socket /run/gatekey/proxy.sock {words} http://x/decision")

    assert "bob.crt: good" in ocsp()
    wait_until(lambda: decision() == "200", "the decision knows him", 10)
    before = sequence(m)
    m.types(f"{API} -H 'Content-Type: application/json' --data '{{}}' https://localhost:8443/v1/certificates/{issued['serial']}/revoke")
    wait_until(lambda: decision() == "403", "the decision refuses him", 10)
    wait_until(lambda: "bob.crt: revoked" in ocsp(), "OCSP says so", 10)
    wait_until(lambda: sequence(m) == before + 1, "the published folder follows", 10)
    levels = {json.loads(line)["level"] for line in m.journal("gatekey").splitlines() if line.startswith("{")}
    assert levels <= {"info", "warning"}
    assert "Traceback" not in m.journal("gatekey")
    assert "not permitted" not in m.journal("gatekey")


def test_reload_and_death(m: Booted, served: Section) -> None:
    """No request is lost at a reload or with a worker's death; when the supervisor dies, systemd starts all of it again."""
    del served
    supervisor = main_process(m)

    def workers() -> set[str]:
        return set(m.types(f"pgrep -P {main_process(m)}").split())

    before = workers()
    m.types(f"systemd-run --quiet --unit asks --working-directory /root /bin/sh -c {shlex.quote(ASKS)}")
    wait_until(m.file("/root/answered").exists, "somebody asks", 10)
    m.types("systemctl reload gatekey")
    wait_until(lambda: len(workers()) == 2 and not workers() & before, "both workers are new", 30)
    one = min(workers())
    m.types(f"kill -9 {one}")
    wait_until(lambda: len(workers()) == 2 and one not in workers(), "a worker is replaced", 30)
    m.types("rm asking; while systemctl -q is-active asks; do sleep 0.05; done")
    lost = m.file("/root/lost").read_text()
    assert lost.count("curl:") <= 1, f"the request that the dead worker had in its hands, at most: {lost}"
    assert main_process(m) == supervisor

    m.types(f"kill -9 {supervisor}")
    wait_until(lambda: m.shown("gatekey", "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}, "systemd starts it again", 30)
    assert m.types("curl -sS http://127.0.0.1/healthz")


def test_systemd_holds_the_sockets(m: Booted, served: Section) -> None:
    """Over a restart everybody waits and nobody is turned away; a stopped service is started by the next connection."""
    served.take("sh")
    m.types(served.take("sh"))
    assert not served.left
    held = m.types("ss -Hltnp")
    assert re.search(r"0.0.0.0:80 .*systemd", held), held
    assert re.search(r"127.0.0.1:8443 .*systemd", held), held
    m.types(f"systemd-run --quiet --unit asks --working-directory /root /bin/sh -c {shlex.quote(ASKS)}")
    wait_until(m.file("/root/answered").exists, "somebody asks", 10)
    before = main_process(m)
    m.types("systemctl restart gatekey")
    assert main_process(m) != before
    m.types("rm asking; while systemctl -q is-active asks; do sleep 0.05; done")
    assert not m.file("/root/lost").read_text()
    m.types("systemctl stop gatekey 2>&1")
    assert m.types("curl -sS http://127.0.0.1/healthz")
    wait_until(lambda: m.shown("gatekey", "ActiveState")["ActiveState"] == "active", "it is ready", 10)


def test_what_the_unit_lacks_is_said_by_systemd_too(m: Booted, section: Section) -> None:
    """The lines of the page without the one for the passphrase: the start is refused, and the status names the file."""
    lines = [line for line in section.take("sh").splitlines() if "ask-password" not in line]
    done = m.run("/bin/sh", "-eu", "-c", "\n".join(lines))
    assert done.returncode != 0
    assert "nothing gives the passphrase: (umask 077; systemd-ask-password > /etc/gatekey/passphrase)" in done.stderr
    assert "AssertPathExists=/etc/gatekey/passphrase was not met" in m.run("systemctl", "status", "gatekey").stdout


# The bundle's timer


@pytest.mark.parametrize("keys", ["--unencrypted-keys", "--passphrase-file asked"])
def test_the_timer_renews_the_bundle_and_reloads_the_server(m: Booted, keys: str) -> None:
    m.types(f"umask 077; echo {shlex.quote(SECRET)} > asked; install -D -m 600 asked /etc/gatekey/passphrase; gatekey init Kitty {keys}")
    m.types("systemctl start nginx")
    units = "awk '/^# .*[.](service|timer)$/ { file = $2 } { print > file }'"
    m.types(f"gatekey bundle --timer --out /etc/gatekey/bundle --reload nginx | {units}")
    m.types("systemctl daemon-reload && systemctl enable --now gatekey-bundle.timer")
    assert "gatekey-bundle.timer" in m.types("systemctl list-timers --no-pager")
    m.types("systemctl start gatekey-bundle.service")
    assert m.file("/etc/gatekey/bundle/manifest.json").exists()
    assert "Reloaded nginx" in m.journal("nginx").replace("nginx.service - A high performance web server and a reverse proxy server.", "nginx")


# The agent


class Site:
    """A web server as Debian starts it, its configuration and its agent as docs/agent.md and `gatekey webserver` say."""

    #: Where the printed configuration goes, what else Debian's server needs, and its unit.
    PLACES = {  # noqa: RUF012  a constant
        "nginx": ("--install /etc/nginx/conf.d", "true", "nginx"),
        "apache": ("--install /etc/apache2/sites-enabled", "a2enmod -q ssl headers rewrite proxy proxy_http proxy_wstunnel", "apache2"),
        "haproxy": (">> /etc/haproxy/haproxy.cfg", "ln -s /etc/gatekey/app.example.key /etc/gatekey/app.example.chain.crt.key", "haproxy"),
        "caddy": ("> /etc/caddy/Caddyfile", "chgrp caddy /etc/gatekey/app.example.key && chmod 640 /etc/gatekey/app.example.key", "caddy"),
    }

    def __init__(self, m: Booted, kind: str) -> None:
        self.m = m
        self.install, needed, self.unit = self.PLACES[kind]
        m.types("gatekey init Kitty --unencrypted-keys; install -d /srv/gatekey")
        toml = m.file(f"{HOME}/gatekey.toml")
        toml.write_text('publish = "/srv/gatekey/published"\n' + toml.read_text())
        m.types("for who in ann bob; do gatekey issue client $who --for pem --out .; done; gatekey issue server app.example --out /etc/gatekey")
        m.types("gatekey bundle --out /srv/gatekey/published; gatekey authority export servers-root --out servers-root.crt")
        m.types(APP)
        m.types(f"systemctl start {self.unit}; {needed}")


def visit(m: Booted, who: str) -> str:
    """The status that somebody gets."""
    words = f"--cert {who}.crt --key {who}.key --cacert servers-root.crt --connect-to ::127.0.0.1:"
    return m.run("/bin/sh", "-c", f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {words} https://app.example/").stdout


@pytest.mark.parametrize("kind", list(Site.PLACES))
def test_the_agent_beside_the_server_of_the_distribution(m: Booted, kind: str) -> None:
    """From `gatekey revoke` to a shut door, with four powers of root's at most, and over restarts of agent and server."""
    site = Site(m, kind)
    blocks = sections("agent.md")["Set it up"]
    lines = blocks.take("sh").replace("nginx", kind)
    configured = "--certificate /etc/gatekey/app.example.chain.crt --key /etc/gatekey/app.example.key --bundle /etc/gatekey/bundle"
    first, then = lines.split("gatekey agent unit", 1)
    m.types(first)
    installed = m.run("/bin/sh", "-eu", "-c", f"gatekey webserver {kind} --site app.example {configured} {site.install}")
    assert installed.returncode == 0, installed.stderr
    m.types(f"systemctl restart {site.unit}")
    m.types(f"gatekey agent unit{then}")
    wait_until(lambda: [visit(m, who) for who in ("ann", "bob")] == ["200", "200"], "both get in", 20)
    status = json.loads(m.types("gatekey agent status --json"))
    assert status["health"] == "ok", status

    m.types("gatekey revoke ann")
    wait_until(lambda: visit(m, "ann") in SHUT, "ann is refused", 20)
    wait_until(lambda: visit(m, "bob") == "200", "bob gets in", 20)
    pid = m.shown("gatekey-agent", "MainPID")["MainPID"]
    powers = int(dict(line.split(":\t", 1) for line in m.types(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)["CapBnd"], 16)
    assert powers.bit_count() <= 4
    said = m.journal("gatekey-agent")
    assert "revocation 1 is in force: 1 revoked certificates" in said
    assert "Got notification message" not in said, "what the server's commands say to systemd is not said for the agent"
    assert m.shown("gatekey-agent", "StatusText")["StatusText"] == "ok: revocation 1 is in force"

    m.types(f"systemctl reload gatekey-agent; systemctl restart gatekey-agent {site.unit}; gatekey revoke bob")
    wait_until(lambda: visit(m, "bob") in SHUT, "bob is refused", 20)
    assert json.loads(m.types("gatekey agent status --json"))["serving"]["number"] == 2
    exposure = re.search(r"exposure level for gatekey-agent.service: ([0-9.]+)", m.types("systemd-analyze security --no-pager gatekey-agent.service"))
    assert exposure
    assert float(exposure[1]) <= 2.5


def test_the_agent_over_the_network_under_its_unit(m: Booted, section: Section) -> None:
    """Service, agent and nginx, each as its unit says, on the lines of docs/agent-network.md: a revocation through the API is at the door within seconds."""
    page = sections("agent-network.md")["Setting it up"]
    toml = m.file(f"{HOME}/gatekey.toml")
    toml.write_text(toml.read_text().replace("0.0.0.0:80", "127.0.0.1:8080") + page.take("toml").replace("10.1.0.5", "127.0.0.1"))
    m.types("echo '127.0.0.1 pki.example.com' >> /etc/hosts")
    m.types(section.take("sh"))
    fingerprint = m.types(AS_GATEKEY + page.take("sh")).split()[-1]
    m.types(f"cd /tmp/web1; {page.take('sh')}")
    m.file("/etc/gatekey/agent.toml").write_text(page.take("toml").replace("38A2C4EC97...", fingerprint))
    m.types(f"{AS_GATEKEY}for who in ann bob; do gatekey issue client $who --for pem --out .; done; gatekey issue server app.example --out .")
    m.types("cp /tmp/ann.* /tmp/bob.* .; cp /tmp/app.example* /etc/gatekey")
    m.types(APP)
    first, then = page.take("sh").split("\n", 1)
    m.types(f"systemctl start nginx; {first}")
    m.types("gatekey webserver nginx --site app.example > /etc/nginx/conf.d/app.conf; systemctl restart nginx")
    m.types(then)
    wait_until(lambda: [visit(m, who) for who in ("ann", "bob")] == ["200", "200"], "both get in", 20)

    begun = time.monotonic()
    m.types(f"{API} -H 'Content-Type: application/json' --data '{{}}' https://pki.example.com:8443/v1/certificates/ann/revoke")
    wait_until(lambda: visit(m, "ann") in SHUT, "ann is refused", 20)
    assert time.monotonic() - begun < 5, "a second on an idle machine"
    wait_until(lambda: visit(m, "bob") == "200", "bob gets in", 20)
    assert m.shown("gatekey-agent", "StatusText", "NRestarts") == {"StatusText": "ok: revocation 1 is in force", "NRestarts": "0"}


def test_nothing_of_a_machine_is_left(tmp_path: Path) -> None:
    with booted(tmp_path) as m:
        m.types("useradd kitty; echo here > /etc/kitty; echo here > /srv/kitty")
        assert m.types("cat /proc/1/comm").strip() == "systemd"
        pid = m.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not Path("/etc/kitty").exists()
    assert "kitty" not in Path("/etc/passwd").read_text()
    mounts = subprocess.run(["findmnt", "--noheadings", "--output", "TARGET"], capture_output=True, text=True, check=False).stdout
    assert str(tmp_path) not in mounts
