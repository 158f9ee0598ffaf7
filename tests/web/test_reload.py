"""What the log of the service says of its addresses: where it listens, what a reload leaves as it was, and whether certificates lead there."""

from __future__ import annotations

import re
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest

from gatekey.api import Authority
from kit.servers import free_port, wait_until
from kit.service import Service, configure, serving, started

pytestmark = pytest.mark.slow


def lines(service: Service, event: str) -> list[dict[str, Any]]:
    return [one for one in service.log() if one["event"] == event]


def reload(service: Service, times: int) -> None:
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(lines(service, "reloaded")) == times, "the reload")


def test_a_reload_says_what_needs_a_restart_and_changes_no_address(tmp_path: Path) -> None:
    """Above all, a listener that is gone from gatekey.toml is still open, and must go on speaking TLS."""
    with serving(tmp_path, {"service": {"workers": 1}}) as service:
        (ready,) = lines(service, "ready")
        assert ready["listen"] == [f"public 127.0.0.1:{service.public}", f"private 127.0.0.1:{service.private}"]

        configure(service.home, {'site."app.example"': {"groups": ["staff"]}})
        reload(service, 1)
        assert lines(service, "restart-needed") == [], "a reload takes up sites"

        toml = service.home / "gatekey.toml"
        before = toml.read_text()
        changed = re.sub(rf'"127.0.0.1:{service.private}"', '"unix:/run/gatekey/private.sock"', before)
        toml.write_text(changed + f'[proxy]\nlisten = "unix:{tmp_path}/proxy.sock"\n')
        reload(service, 2)
        (told,) = lines(service, "restart-needed")
        assert (told["level"], told["keys"], told["listen"]) == ("warning", ["private.listen", "proxy.listen"], ready["listen"])
        assert "restart" in told["hint"]
        assert not (tmp_path / "proxy.sock").exists()
        shown = ssl.get_server_certificate(("127.0.0.1", service.private))
        assert shown.startswith("-----BEGIN CERTIFICATE")

        toml.write_text(before)
        reload(service, 3)
        assert len(lines(service, "restart-needed")) == 1, "what is as it was needs no restart"


def test_certificates_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    home, public, private = tmp_path / "home", free_port(), free_port()
    Authority.create(home, "Nowhere", unencrypted_keys=True, url="http://pki.example.com").close()
    configure(home, {"public": {"listen": f"127.0.0.1:{public}"}, "private": {"listen": ""}, "service": {"workers": 1}})
    with started(home, tmp_path / "log", public, private) as service:
        (told,) = lines(service, "url-not-served")
        assert told["message"] == f"certificates send to http://pki.example.com for CRLs and OCSP, but the public listener listens on 127.0.0.1:{public}"
        assert "fine if a web server hands on" in told["hint"]
        configure(home, {"limits": {"requests-per-second": 0}})
        reload(service, 1)
        assert len(lines(service, "url-not-served")) == 1, "there is a web server in front"
