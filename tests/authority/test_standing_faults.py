"""The view of who may enter, when the ledger fails in the middle of a comparison: nothing that was taken away may be missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatekey.api import Authority
from gatekey.authority.standing import Standing
from gatekey.errors import Unavailable
from gatekey.testing import FakeClock
from gatekey.x509.names import rfc2253


class Failing:
    """Reads that fail at one of their next calls."""

    def __init__(self, reads: Any) -> None:
        self._reads = reads
        self.left = 10**9

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._reads, name)

        def call(*args: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("store-locked", "another process holds the ledger")
            return real(*args, **named)

        return call


def until_it_holds(standing: Standing, reads: Failing, allowed: int) -> None:
    """Compares again and again, each time failing three reads later."""
    while True:
        reads.left = allowed
        try:
            standing.refresh()
        except Unavailable:
            allowed += 3
        else:
            reads.left = 10**9
            return


@pytest.mark.parametrize("at", range(12))
def test_a_comparison_that_breaks_off_is_made_again(tmp_path: Path, at: int) -> None:
    with Authority.create(tmp_path / "home", "Test", unencrypted_keys=True, clock=FakeClock()) as authority:
        core = authority._core
        names = [f"p{n}" for n in range(3)]
        serials = [authority.issue_client(name).serial for name in names]
        dn = rfc2253(core.issuing("people").certificate.subject)
        reads = Failing(core.reads)
        standing = Standing(reads, core.clock, {dn: "people"}, {})  # type: ignore[arg-type]  # reads that fail
        until_it_holds(standing, reads, at)
        assert all(standing.decide(dn, serial).allowed for serial in serials), "a load that broke off is made again"
        for name in names[:2]:
            authority.revoke(name)
        authority.leave(names[2])
        until_it_holds(standing, reads, at)
        assert not any(standing.decide(dn, serial).allowed for serial in serials)


def test_responders_open_no_door(tmp_path: Path) -> None:
    with Authority.create(tmp_path / "home", "Test", unencrypted_keys=True) as authority:
        core = authority._core
        from gatekey.authority.ocsp import Responders
        from gatekey.keys import material

        Responders(core, material.make).renew()
        dn = rfc2253(core.issuing("people").certificate.subject)
        standing = Standing(core.reads, core.clock, {dn: "people"}, {})
        standing.refresh()
        (one,) = [record for record in core.reads.by_holder("gatekey-ocsp") if record.issuer == "people"]
        assert not standing.decide(dn, one.serial).allowed
