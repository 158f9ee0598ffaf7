"""`gatekey check`: what it knows of the web server of this machine before it knocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekey.cli import check

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
