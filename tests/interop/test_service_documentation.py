"""docs/service.md typed as it stands there, before a real service: every command, every gatekey.toml, every line for a web server."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.prometheus import prometheus
from kit.servers import apache, nginx, program, wait_until
from kit.typist import Machine, Section, machine, sections

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PAGE = sections("service.md")


def the_service(section: Section, m: Machine) -> None:
    """Installing is noted only; the extra is there. A passphrase is asked for, and `serve` listens where the test says."""
    m.noted("pip")
    passphrase = m.folder / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("a passphrase for the test\n")
    m.environment["GATEKEY_PASSPHRASE_FILE"] = str(passphrase)
    block = section.take("sh")
    *before, last = block.splitlines()
    assert last == "gatekey serve"
    m.types("\n".join(before))
    extra = m.log("pip")[0].removeprefix("install .[").removesuffix("]")
    assert extra in tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    with m.serving(f'passphrase-file = "{passphrase}"', section.take("toml"), "[service]") as service:
        assert service.get("/healthz")[0] == 200
        assert len(service.workers()) == 2  # without a word in gatekey.toml


def the_listeners(section: Section, m: Machine) -> None:
    block = section.take("toml")
    with m.serving(block) as service:
        assert len(service.workers()) == tomllib.loads(block)["service"]["workers"]
        assert service.get("/readyz")[0] == 200
        assert m.file("/run/gatekey/proxy.sock").stat().st_mode & 0o777 == int(tomllib.loads(block)["proxy"]["mode"], 8)
        assert https(m, "/readyz", m.types("gatekey authority export servers-root --out -"))[0] == 200


def what_anybody_may_fetch(section: Section, m: Machine) -> None:
    block = section.take("console")
    with m.serving():
        m.session(block)
        first = (m.folder / "people.crl").stat()
        assert first.st_size
        m.session(block)
        assert (m.folder / "people.crl").stat().st_mtime_ns == first.st_mtime_ns, "a 304 writes nothing"


def ocsp(section: Section, m: Machine) -> None:
    """What stands on the page for nginx and Apache goes into a server whose other lines say who may have signed a client's certificate."""
    of_nginx, of_apache = m.moved(section.take("nginx")), m.moved(section.take("apache"))
    m.types("gatekey issue server app.example --out /etc/gatekey\ngatekey bundle --out /etc/gatekey/bundle")
    chain, crt, key = (m.file(f"/etc/gatekey/{name}") for name in ("bundle/people-chain.pem", "app.example.chain.crt", "app.example.key"))
    nginx_text = f"""server {{
        listen 127.0.0.1:{m.site} ssl;
        ssl_certificate {crt}; ssl_certificate_key {key};
        ssl_client_certificate {chain}; ssl_verify_client on; ssl_verify_depth 2;
        {of_nginx}
        return 200 "in";
    }}"""
    apache_text = f"""Listen 127.0.0.1:{m.site}
        <VirtualHost 127.0.0.1:{m.site}>
        ServerName app.example
        SSLEngine on
        SSLCertificateFile {crt}
        SSLCertificateKeyFile {key}
        SSLCACertificateFile {chain}
        SSLVerifyClient require
        SSLVerifyDepth 2
        {of_apache}
        RewriteEngine on
        RewriteRule ^ - [R=204,L]
        </VirtualHost>"""
    with m.serving():
        for login, run, text, let_in in (("ann", nginx, nginx_text, 200), ("bob", apache, apache_text, 204)):
            m.types(f"gatekey issue client {login} --out .")
            with run(text, m.folder, [m.site]):
                wait_until(lambda who=login, status=let_in: m.visit(who)[0] == status, f"{login} is let in", 10)  # type: ignore[misc]  # bound at once
                m.types(f"gatekey revoke {login}")
                wait_until(lambda who=login: m.visit(who)[0] in (0, 400, 403), f"{login} is refused", 10)  # type: ignore[misc]


def its_own_certificate(section: Section, m: Machine) -> None:
    """The names of the first block; then the files of the second one."""
    with m.serving(section.take("toml")):
        root = m.types("gatekey authority export servers-root --out -")
        names = certificate(m, root)["subjectAltName"]
        assert names == (("DNS", "localhost"), ("IP Address", "127.0.0.1"))
    live = m.file("/etc/letsencrypt/live/pki.example.com")
    live.mkdir(parents=True)
    m.types("gatekey issue server localhost files.example --out site")
    (m.folder / "site" / "localhost.chain.crt").rename(live / "fullchain.pem")
    (m.folder / "site" / "localhost.key").rename(live / "privkey.pem")
    with m.serving(section.take("toml")):
        assert ("DNS", "files.example") in certificate(m, root)["subjectAltName"]


def as_a_systemd_service(section: Section, m: Machine) -> None:
    """All of the commands, but nobody is made a user and nothing is anybody else's; the units are judged in test_service.py and tests/web/test_unit.py."""
    first = m.folder / "first-home"
    m.home.rename(first)
    m.table |= {"~/.local/share/gatekey": str(first), "/srv/": f"{m.folder}/srv/"}
    for name in ("useradd", "chown"):
        m.noted(name)
    m.command("systemd-ask-password", "#!/bin/sh\necho a passphrase for the test\n")
    m.command("install", '#!/bin/sh\nexec /usr/bin/install $(echo "$*" | sed "s/ -o gatekey -g gatekey//")\n')
    m.command("runuser", '#!/bin/sh\n[ "$1 $2 $3" = "-u gatekey --" ] && shift 3 && exec "$@"\n')
    for _ in list(section.blocks):
        m.types(section.take("sh"))
    units = {path.name for path in m.file("/etc/systemd/system/").iterdir()}
    assert {"gatekey.service", "gatekey-public.socket", "gatekey-private.socket"} <= units
    started = [name for line in m.log("systemctl") if "enable --now" in line for name in line.split()[2:]]
    assert {name if "." in name else f"{name}.service" for name in started} <= units
    assert m.file("/etc/gatekey/passphrase").stat().st_mode & 0o777 == 0o600
    with m.serving() as service:
        assert service.get("/readyz")[0] == 200, "the home is whole after its journey"


def behind_nginx(section: Section, m: Machine) -> None:
    """What nginx then makes of visitors: test_service.py, with the same lines."""
    m.types("gatekey issue server app.example --out /etc/gatekey\ngatekey issue client ann --out .\ngatekey people set ann --role auditor")
    m.types(section.take("sh"))
    crt, key = (m.file(f"/etc/gatekey/app.example.{name}") for name in ("chain.crt", "key"))
    text = f"server {{ listen 127.0.0.1:{m.site} ssl; ssl_certificate {crt}; ssl_certificate_key {key};\n{m.moved(section.take('nginx'))}\n}}"
    with m.serving(section.take("toml")), nginx(text, m.folder, [m.site]):
        status, body = m.visit("ann", "/v1/me")
        assert (status, json.loads(body)["login"]) == (200, "ann")
        assert m.visit("", "/v1/me")[0] == 401


def reminders(section: Section, m: Machine) -> None:
    """A service with this gatekey.toml is ready; what is sent: tests/outgoing and tests/jobs."""
    m.types("gatekey issue server app.example --out .")
    taken: dict[str, list[str]] = {"sh": [], "toml": []}
    for block in list(section.blocks):
        taken[block.language].append(section.take(block.language))
    for name in ("mail-password", "webhook-secret"):
        m.file(f"/etc/gatekey/{name}").touch(0o600)
        m.file(f"/etc/gatekey/{name}").write_text("a secret of 20 letters\n")
    m.types("\n".join(taken["sh"]))
    with m.serving(*taken["toml"]) as service:
        assert service.get("/readyz")[0] == 200


def how_it_is_doing(section: Section, m: Machine) -> None:
    """A real Prometheus asks, with what the YAML says and nothing else; its rules find that one worker is fewer than two, and later that nobody is there."""
    with m.serving() as service:
        m.types(section.take("sh"))
        scraping, rules = m.moved(section.take("yaml")), section.take("yaml")
        (job,) = yaml.safe_load(scraping)["scrape_configs"]
        (target,) = job["static_configs"][0]["targets"]
        assert job["scheme"] == "https"
        assert target == f"localhost:{m.private}"
        root = Path(job["tls_config"]["ca_file"]).read_text()
        token = Path(job["authorization"]["credentials_file"]).read_text().strip()
        status, body = https(m, "/metrics", root, Authorization=f"Bearer {token}")
        assert (status, "gatekey_requests_total" in body) == (200, True)
        with_certificate = ["--cert", "monitor/monitor.chain.crt", "--key", "monitor/monitor.key", "--cacert", job["tls_config"]["ca_file"]]
        done = subprocess.run(["curl", "-sf", *with_certificate, f"https://{target}/metrics"], cwd=m.folder, capture_output=True, text=True, timeout=60)
        assert "gatekey_requests_total" in done.stdout
        said = subprocess.run([program("promtool"), "check", "metrics"], input=body, capture_output=True, text=True, timeout=60)
        assert (said.returncode, said.stdout + said.stderr) == (0, "")
        with prometheus(scraping, rules, m.folder) as judge:
            wait_until(lambda: judge.value("gatekey_workers") == 1, "Prometheus has asked")
            assert judge.value('gatekey_check{name="ledger", state="ok"}') == 1
            wait_until(lambda: judge.alerts() == {"GatekeyWorkerHangs"}, "one worker is fewer than two")
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "GatekeySilent" in judge.alerts(), "nobody answers")
    names = {name for group in yaml.safe_load(rules)["groups"] for rule in group["rules"] for name in re.findall(r"gatekey_\w+", rule["expr"])}
    assert {name for name in names if name.removesuffix("_total") not in body} == set()
    the_rules(rules, m.folder)


#: Alert -> what Prometheus has scraped, once a minute in its notation, when the rule speaks; and when it does not. Both hold from the beginning on.
ALERTS = {
    "GatekeyUnwell": ({'gatekey_check{instance="a", name="crls", state="fail"}': "1x90"}, {'gatekey_check{instance="a", name="crls", state="fail"}': "0x90"}),
    "GatekeyLookAtIt": ({'gatekey_check{instance="a", name="crls", state="warn"}': "1x90"}, {'gatekey_check{instance="a", name="crls", state="warn"}': "0x90"}),
    "GatekeyCrlEnds": (
        {'gatekey_crl_next_update_seconds{authority="people"}': "1000000x90"}, {'gatekey_crl_next_update_seconds{authority="people"}': "1100000x90"},
    ),
    "GatekeyJobFails": (
        {'gatekey_job_runs_total{name="reminders", outcome="failed"}': "0+1x90"}, {'gatekey_job_runs_total{name="reminders", outcome="failed"}': "5x90"},
    ),
    "GatekeyWorkerHangs": ({"gatekey_workers": "1x90"}, {"gatekey_workers": "2x90"}),
    "GatekeySilent": ({'up{job="gatekey"}': "0x90"}, {'up{job="gatekey"}': "1x90", "gatekey_workers": "2x90"}),
}  # fmt: skip


def the_rules(rules: str, folder: Path) -> None:
    """Each rule of the page speaks when it should and only then, as `promtool test rules` finds."""
    alerts = [rule["alert"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]]
    assert set(alerts) == set(ALERTS)
    cases = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in scraped.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) > bool 0 or vector(0)',
                    "eval_time": "80m",
                    "exp_samples": [{"labels": "{}", "value": int(speaks)}],
                }
            ],
        }
        for name, both in ALERTS.items()
        for speaks, scraped in ((True, both[0]), (False, both[1]))
    ]
    (folder / "rules.yml").write_text(rules)
    test = folder / "rules-test.yml"
    test.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}))
    done = subprocess.run([program("promtool"), "test", "rules", str(test)], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


STEPS: dict[str, Callable[[Section, Machine], None]] = {
    "The service": the_service,
    "The listeners": the_listeners,
    "What anybody may fetch": what_anybody_may_fetch,
    "OCSP": ocsp,
    "Its own certificate": its_own_certificate,
    "As a systemd service": as_a_systemd_service,
    "Behind nginx": behind_nginx,
    "Reminders": reminders,
    "How it is doing": how_it_is_doing,
}


def test_every_section_with_a_block_is_typed() -> None:
    assert list(PAGE) == list(STEPS)


@pytest.mark.parametrize("title", STEPS)
def test_what_the_page_says_works(title: str, tmp_path: Path) -> None:
    section = sections("service.md")[title]
    with machine(tmp_path) as m:
        if title != "The service":
            m.found()
        STEPS[title](section, m)
    assert section.left == [], "blocks that nobody has typed"


def https(m: Machine, path: str, root: str, **headers: str) -> tuple[int, str]:
    """Status and body from the private listener, which must be believed by this root."""
    request = urllib.request.Request(f"https://localhost:{m.private}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30, context=ssl.create_default_context(cadata=root)) as answer:
        return answer.status, answer.read().decode()


def certificate(m: Machine, root: str) -> dict[str, Any]:
    """The certificate that the private listener shows, once it is believed by this root."""
    with socket.create_connection(("127.0.0.1", m.private), 30) as line:
        context = ssl.create_default_context(cadata=root)
        with context.wrap_socket(line, server_hostname="localhost") as shown:
            return dict(shown.getpeercert() or {})
