"""The systemd unit of the service: its socket-free default, its credential, and everything that it does not need taken away from it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ..config import Config

#: Where every unit of ours looks for the passphrase.
PASSPHRASE = "/etc/gatekey/passphrase"


def unit(config: Config) -> str:
    """The text of gatekey.service for this home."""
    program = Path(sys.argv[0])
    command = str(program.resolve()) if program.name == "gatekey" and program.exists() else "/usr/bin/gatekey"
    home = config.home.resolve()
    low = any(_low(config.text(f"{name}.listen", default)) for name, default in (("public", ""), ("enrol", ""), ("private", "")))
    state = home == Path("/var/lib/gatekey")
    writable = [str(home)] if not state else []
    if config.publish:
        writable.append(str(config.publish.parent))
    capability = "CAP_NET_BIND_SERVICE" if low else ""
    lines = [
        "# gatekey serve --unit > /etc/systemd/system/gatekey.service && systemctl daemon-reload && systemctl enable --now gatekey",
        "[Unit]",
        f"Description=Gatekey, the authority {config.name.translate({10: 32, 13: 32, 37: '%%'})}",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        "User=gatekey",
        "Group=gatekey",
        f"ExecStart={shlex.quote(command)} --home {shlex.quote(str(home))} serve",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "KillMode=mixed",
        "TimeoutStartSec=180",
        "TimeoutStopSec=60",
        "Restart=on-failure",
        "RestartSec=2",
        *credential(config),
        *(["StateDirectory=gatekey", "StateDirectoryMode=0700"] if state else []),
        "RuntimeDirectory=gatekey",
        "RuntimeDirectoryMode=0755",
        "RuntimeDirectoryPreserve=restart",
        "UMask=0077",
        "LimitNOFILE=65536",
        "LimitCORE=0",
        "",
        "# What it does not need",
        f"CapabilityBoundingSet={capability}",
        f"AmbientCapabilities={capability}",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        *([f"ReadWritePaths={' '.join(shlex.quote(one) for one in writable)}"] if writable else []),
        *(["ProtectHome=yes"] if not str(home).startswith(("/home/", "/root")) else []),
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible",
        "ProcSubset=pid",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RemoveIPC=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service memfd_create",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallErrorNumber=EPERM",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def credential(config: Config) -> list[str]:
    """The lines that hand the passphrase to a unit; none where the keys have none, or the configuration says where it lies."""
    if config.unencrypted_keys or config.passphrase_file:
        return []
    said = "# The passphrase of the keys: one line, root:root 0600. systemd hands it to the service and to nobody else."
    return [said, f"LoadCredential=gatekey-passphrase:{PASSPHRASE}"]


def _low(listen: str) -> bool:
    port = listen.rpartition(":")[2]
    return not listen.startswith("unix:") and port.isdigit() and int(port) < 1024


def socket_unit(config: Config) -> str:
    """The text of gatekey.socket: systemd opens the addresses, so that ports below 1024 need no capability, and no connection is lost while we start."""
    defaults = {"public": "127.0.0.1:8080", "enrol": "", "private": "127.0.0.1:8443", "proxy": ""}
    parts = []
    for name, default in defaults.items():
        listen = config.text(f"{name}.listen", default)
        if listen:
            mode = f"SocketMode={config.text('proxy.mode', '0660')}\n" if listen.startswith("unix:") else ""
            parts.append(
                f"# /etc/systemd/system/gatekey-{name}.socket\n[Unit]\nDescription=Gatekey, listener {name}\n\n"
                f"[Socket]\nListenStream={listen.removeprefix('unix:')}\nFileDescriptorName={name}\nService=gatekey.service\n{mode}\n[Install]\nWantedBy=sockets.target\n"
            )
    return "\n".join(parts)
