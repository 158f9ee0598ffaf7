"""The whole table of `gatekey check` against doors that ask a real service: nothing is open."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gatekey.authority import probe, revoke
from gatekey.keys import material
from gatekey.ports import SystemEntropy
from gatekey.webserver import check
from gatekey.webserver.check import Identities, Target
from gatekey.webserver.knock import Identity
from kit.asked import HOST, asking, service
from kit.doors import identity
from kit.pki import make_pki
from kit.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: What cannot be told: there is no other site (9, 10); no CRL is read (32); Caddy resumes sessions, and what an expiry does to them is not tried (8).
UNTOLD: dict[str, set[int]] = {"nginx": {9, 10, 32}, "apache": {9, 10, 32}, "haproxy": {9, 10, 32}, "caddy": {8, 9, 10, 32}}


@pytest.mark.parametrize("kind", UNTOLD)
def test_nothing_is_open(kind: str, tmp_path: Path) -> None:
    """The canary is revoked through the ledger. The web server is reloaded then, as the agent does it: for open WebSockets (21) alone."""
    with service(tmp_path) as s, s.admin.open() as authority:
        made = probe.make(authority, lambda: material.make("p256"))

        def of(one: probe.Probe, label: str) -> Identity:
            return Identity(one.chain, one.key, label)

        identities = Identities(
            good=of(made.good, "good"), expired=of(made.expired, "expired"), server=of(made.server, "a web server's"),
            wrong_usage=of(made.wrong_usage, "for servers"),
            foreign=identity(make_pki("Kitty CA").client("gatekey-probe")), canary=of(made.canary, "canary"),
        )  # fmt: skip
        with asking(kind, tmp_path, s, (identities.good, identities.good), same_port=True, last_words=2) as d:  # type: ignore[arg-type]  # both are there

            def take() -> None:
                revoke.revoke(authority, made.canary.id, "superseded")
                d.reload()

            target = Target(
                HOST, d.port, address="127.0.0.1", address6="::1", http_port=d.plain, app_ports=(free_port(),), tls_ports=(free_port(),),
                roots=d.servers_pki.root.pem, patience=15.0,
            )  # fmt: skip
            report = check.run(target, identities, now=int(time.time()), entropy=SystemEntropy(), revoke=take)
    words = "\n".join(f"{o.number} {o.verdict}: {o.said} <- {o.request}" for o in report.outcomes if o.verdict != "pass")
    assert (report.opened, report.shut) == ((), ()), words
    assert set(report.unsure) == UNTOLD[kind], words


@pytest.mark.parametrize(("kind", "verdict"), [("nginx", "shut"), ("apache", "cannot-tell"), ("haproxy", "shut"), ("caddy", "cannot-tell")])
def test_a_service_that_cannot_be_asked_is_named(kind: str, verdict: str, tmp_path: Path) -> None:
    """Our own 503 is no app that is down, and nobody was let in. Apache and Caddy answer alike for both, so it cannot be told."""
    with service(tmp_path) as s, s.admin.open() as authority:
        made = probe.make(authority, lambda: material.make("p256"))
        good, expired = Identity(made.good.chain, made.good.key, "good"), Identity(made.expired.chain, made.expired.key, "expired")
        with asking(kind, tmp_path, s, (good, good)) as d:
            s.stop()
            target = Target(HOST, d.port, address="127.0.0.1", http_port=0, roots=d.servers_pki.root.pem, patience=15.0)
            report = check.run(target, Identities(good=good, expired=expired), only=("2", "5"), now=int(time.time()), entropy=SystemEntropy())
    entered, late = report.outcomes
    assert entered.verdict == verdict
    assert late.verdict == "cannot-tell" or kind == "caddy"
    assert "the decision service cannot be asked" in entered.said
    assert "is `gatekey serve` running" in (entered.hint or entered.fix(kind))
