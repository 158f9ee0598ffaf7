"""The whole table against the doors that Gatekey itself writes, on the real servers: nothing is open, and what cannot be told is listed here by number."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gatekey.ports import SystemEntropy
from gatekey.webserver import check
from gatekey.webserver.check import Identities, Report, Target
from gatekey.webserver.report import UNSURE
from kit.doors import HOST, Door, door, identity
from kit.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.interop]

SIBLING = "public.example"
EVERYBODY_MAY_SEE = "<h1>Everybody may see this</h1> Nothing of it is private."

#: A public site on the same server and the same socket.
BESIDE = {
    "nginx": """
server {{ listen 127.0.0.1:{port} ssl; listen [::1]:{port} ssl; server_name {sibling}; ssl_certificate {chain}; ssl_certificate_key {key};
    location / {{ default_type text/html; return 200 "{page}"; }} }}
""",
    "apache": """
<VirtualHost *:{port}>
    ServerName {sibling}
    SSLEngine on
    SSLCertificateFile {chain}
    SSLCertificateKeyFile {key}
    Redirect 404 /
    ErrorDocument 404 "{page}"
</VirtualHost>
""",
}

#: No other site is known there, so its handshake and its sessions could not be tried.
ALONE = {9, 10}
#: A Caddyfile cannot switch session tickets off. Its lock by serial ends them with a revocation; what an expiry does to them is not tried.
RESUMES = {"caddy": (8,)}
UNTOLD: dict[str, set[int]] = {"nginx": set(), "apache": set(), "haproxy": ALONE, "caddy": {8} | ALONE}


def beside(d: Door) -> str:
    if d.kind not in BESIDE:
        return ""
    files = d.servers_pki.server(SIBLING).write(d.folder, SIBLING)
    return BESIDE[d.kind].format(port=d.port, sibling=SIBLING, chain=files.chain, key=files.key, page=EVERYBODY_MAY_SEE)


def everybody(d: Door) -> tuple[Identities, Any]:
    """All that an authority can make for a check, and the leaf behind the canary."""
    canary = d.pki.client("gatekey-probe")
    revoked = d.pki.client("gatekey-probe")
    d.publish(revoked=(revoked,))
    d.reload()
    identities = Identities(
        good=identity(d.ann, "the good certificate"),
        expired=identity(d.pki.client("ann", expired=True), "an expired certificate"),
        revoked=identity(revoked, "a revoked certificate"),
        server=identity(d.servers_pki.server("other.example"), "a web server's certificate"),
        wrong_usage=identity(d.pki.server("other.example"), "a certificate for servers only"),
        foreign=identity(d.pki.foreign().client("ann"), "another authority's certificate"),
        canary=identity(canary, "the certificate that is revoked"),
    )
    return identities, canary


def target(d: Door) -> Target:
    return Target(
        HOST, d.port, address="127.0.0.1", address6="::1", http_port=d.plain, app_ports=(free_port(),), tls_ports=(free_port(),),
        siblings=(SIBLING,) if d.kind in BESIDE else (), roots=d.servers_pki.root.pem, patience=15.0,
    )  # fmt: skip


def knocked(d: Door, identities: Identities, **more: Any) -> Report:
    return check.run(target(d), identities, now=int(time.time()), entropy=SystemEntropy(), **more)


def words(report: Report) -> str:
    return "\n".join(f"{o.number} {o.verdict}: {o.said} <- {o.request}" for o in report.outcomes if o.verdict != "pass")


@pytest.mark.parametrize("kind", UNTOLD)
def test_nothing_is_open(kind: str, tmp_path: Path) -> None:
    with door(kind, tmp_path, same_port=True, last_words=2, beside=beside) as d:
        identities, canary = everybody(d)

        def revoke() -> None:
            d.publish(revoked=(canary,))
            d.reload()

        report = knocked(d, identities, revoke=revoke, bundle=d.bundle)
    assert report.opened == (), words(report)
    assert set(report.unsure) == UNTOLD[kind], words(report)
    assert report.exit_code == 0
    assert report.seconds < 15
    assert report.server in (kind, "")


@pytest.mark.parametrize("kind", UNTOLD)
def test_with_one_certificate_and_with_none(kind: str, tmp_path: Path) -> None:
    """What `--client FILE.p12` and a bare URL can show: less, no alarm, and a way to more for each that could not be told."""
    with door(kind, tmp_path, same_port=True, beside=beside) as d:
        some = knocked(d, Identities(good=identity(d.ann, "the good certificate")))
        none = knocked(d, Identities())
    assert some.opened == none.opened == RESUMES.get(kind, ()), words(some) + words(none)
    assert some.shut == none.shut == ()
    needs_more = {5, 6, 27, 28, 32, 33, 34}
    assert set(some.unsure) == (UNTOLD[kind] - {8}) | needs_more | {21} | ({7} if kind in RESUMES else set()), words(some)
    assert set(none.unsure) == (UNTOLD[kind] | needs_more | {2, 7, 8, 21, 22, 25, 36}) - set(none.opened), words(none)
    for outcome in (*some.outcomes, *none.outcomes):
        assert outcome.verdict != UNSURE or outcome.hint, outcome


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_where_only_some_groups_may_enter(kind: str, tmp_path: Path) -> None:
    with door(kind, tmp_path, same_port=True, groups=("staff",)) as d:
        ann = knocked(d, Identities(good=identity(d.ann, "ann's certificate")), only=("2", "19", "22"))
        carl = knocked(d, Identities(good=identity(d.carl, "carl's certificate")), only=("2",))
    assert ann.opened == ann.shut == ann.unsure == (), words(ann)
    assert (carl.opened, carl.shut) == ((), (2,))
    assert "groups" in carl.outcomes[0].said
