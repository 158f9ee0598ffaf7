"""Addresses in gatekey.toml: which a reload cannot change, and whether those that stand in certificates lead to the public listener. Opens nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from ..config import LISTENERS, Config


def fixed(config: Config) -> dict[str, str]:
    """What the service reads once, when it starts, by key: sockets stay open over a reload, and the passphrase is kept for the workers."""
    listens = {f"{name}.listen": config.listens.get(name, "") for name in LISTENERS}
    return {**listens, "proxy.mode": config.text("proxy.mode", "0660"), "passphrase-file": str(config.passphrase_file or "")}


def unserved(config: Config, public: Sequence[str]) -> dict[str, str]:
    """Message and hint when nobody answers here where certificates point to; nothing when all is well or something plainly stands in front.

    `public`: where the public listener listens. Something is in front when that is a Unix socket, or when one address may ask without limit, as a proxy must.
    """
    if not config.url or config.number("limits.requests-per-second", 200) == 0 or any(one.startswith("unix:") for one in public):
        return {}
    parts = urlsplit(config.url)
    host, port = parts.hostname or "", parts.port or 80
    if not parts.path and any(_serves(one, host, port) for one in public):
        return {}
    place = f"listens on {' and '.join(public)}" if public else "is off"
    return {
        "message": f"certificates send to {config.url} for CRLs and OCSP, but the public listener {place}",
        "hint": f"fine if a web server hands on what comes to port {port} of {host}: limits.requests-per-second = 0 says so. "
        f'Otherwise: [public] listen = "0.0.0.0:{port}" in gatekey.toml',
    }


def _serves(listen: str, host: str, port: int) -> bool:
    """Whether a listener answers others at this host and port, as far as can be seen without asking: loopback is reached from this machine only."""
    at, _, number = listen.rpartition(":")
    return int(number) == port and (not _loopback(at.strip("[]")) or _loopback(host))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
