"""`gatekey check`: what it knows of the web server of this machine before it knocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekey.cli import check
from gatekey.cli.session import Session
from gatekey.webserver.report import OPEN, PASS, SHUT, Outcome, Report
from kit.administrator import Administrator
from kit.pki import make_pki

DUMP = """\
# configuration file /etc/nginx/conf.d/gatekey-app.example.conf:
server {
    listen 443 ssl;
    server_name www.example app.example;
    ssl_crl /etc/gatekey/bundle/all.crl.pem;
}
"""


@pytest.mark.parametrize(
    ("dump", "host", "folder", "known"),
    [
        (DUMP, "app.example", "/etc/gatekey/bundle", True),
        (DUMP, "www.example", "/etc/gatekey/bundle", True),
        (DUMP, "example", "/etc/gatekey/bundle", False),
        (DUMP, "app.example", "/srv/gatekey/published", False),
        (DUMP.replace("    ssl_crl", "    # ssl_crl"), "app.example", "/etc/gatekey/bundle", False),
        ("", "app.example", "/etc/gatekey/bundle", False),
        (None, "app.example", "/etc/gatekey/bundle", False),
    ],
)
def test_whether_the_nginx_of_this_machine_reads_the_crls(dump: str | None, host: str, folder: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekey.cli.webserver.running_nginx", lambda: dump)
    assert check._nginx_reads(Path(folder), host) is known


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (PASS, ["0 open, 1 shut, 0 cannot tell, 1 pass", "the door is shut to those whom it is for"]),
        (OPEN, ["1 open, 1 shut, 0 cannot tell, 0 pass", "the door is shut to those whom it is for", "the door is open"]),
    ],
)
def test_a_door_that_lets_nobody_in_is_not_called_open(others: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = (
        Outcome(2, "good-certificate", "with a good certificate", SHUT, "refused", fixes=(("any", "mend it so"),)),
        Outcome(11, "no-sni", "without SNI", others, "said"),
    )
    check._tell(Session(), Report("https://app.example/", "nginx", 0, 1.0, 2, outcomes))
    printed = " ".join("".join(capsys.readouterr()).split())
    assert all(piece in printed for piece in ["2 SHUT with a good certificate: refused", *words]), printed
    assert ("the door is open" in printed) == (others == OPEN)


def test_a_folder_that_is_no_bundle_stays_as_it_is(admin: Administrator) -> None:
    """The check publishes the revocation of its canary there: not into a folder with a slip of the pen in it, and not over another authority's bundle."""
    wrong = admin.folder / "bundel"
    for more in ([], ["--no-authority"]):
        said = admin("check", "https://app.example", "--address", "127.0.0.1", "--bundle", wrong, *more, code=3).err
        assert f"{wrong} is no bundle of Gatekey's" in said
        assert not wrong.exists()
    admin("bundle", "--out", wrong)
    theirs = make_pki().chain_pem
    (wrong / "people-chain.pem").unlink()
    (wrong / "people-chain.pem").write_bytes(theirs)
    said = admin("check", "https://app.example", "--address", "127.0.0.1", "--bundle", wrong, code=1).err
    assert f"the bundle in {wrong} is another authority's" in said
    assert (wrong / "people-chain.pem").read_bytes() == theirs
    assert "gatekey-probe" not in admin("list", "--probes").out
