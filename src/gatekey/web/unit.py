"""The systemd unit of the service: its credential, everything that it does not need taken away from it, sockets of systemd's, and what must be there first."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from ..config import Config

#: As whom the service runs, and where it is at home.
USER, HOME = "gatekey", Path("/var/lib/gatekey")
#: Where every unit of ours looks for the passphrase.
PASSPHRASE = "/etc/gatekey/passphrase"


def unit(config: Config) -> str:
    """The text of gatekey.service for this home."""
    command = str(_program() or "/usr/bin/gatekey")
    home = config.home.resolve()
    low = any(_low(listen) for listen in config.listens.values())
    state = home == HOME
    writable = [str(home)] if not state else []
    if published := _published(config):
        writable.append(str(published))
    capability = "CAP_NET_BIND_SERVICE" if low else ""
    lines = [
        "# gatekey serve --unit > /etc/systemd/system/gatekey.service && systemctl daemon-reload && systemctl enable --now gatekey",
        "# docs/service.md has the lines that come before: the user, its home, the passphrase and the folder that is published.",
        "[Unit]",
        f"Description=Gatekey, the authority {config.name.translate({10: 32, 13: 32, 37: '%%'})}",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        *needed(config),
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"User={USER}",
        f"Group={USER}",
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
        "# Sockets of systemd's lie there, too: they stay open while the service is stopped, and must stay to be found.",
        "RuntimeDirectoryPreserve=yes",
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
        *(["ProtectHome=yes"] if not _in_a_home(home) else []),
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


def needed(config: Config) -> list[str]:
    """The line of the section Unit that names a missing passphrase: systemd itself says "Protocol error" of a credential without a file."""
    return [f"AssertPathExists={PASSPHRASE}"] if credential(config) else []


def lacking(config: Config, number: Callable[[str], int | None] | None = None) -> list[str]:
    """What the unit needs and does not find here, each as a sentence with the command that mends it. `number`: of a user, None where there is none."""
    uid = (number or _number)(USER)
    home, published = config.home.resolve(), _published(config)
    found = []
    if uid is None:
        found.append(f"there is no user {USER}: useradd --system --user-group --home-dir {HOME} --no-create-home --shell /usr/sbin/nologin {USER}")
    if _in_a_home(home):
        moved = f"mv -T {shlex.quote(str(home))} {HOME} && chown -R {USER}:{USER} {HOME}"
        found.append(f"the unit's user does not reach {home}: {moved}, and then gatekey serve --home {HOME} --unit")
    elif _foreign(home, uid):
        found.append(f"not all of {home} belongs to the unit's user: chown -R {USER}:{USER} {shlex.quote(str(home))}")
    if published and not published.is_dir():
        found.append(f"the folder to be published is not there: install -d -m 0755 -o {USER} -g {USER} {shlex.quote(str(published))}")
    elif published and _foreign(published, uid):
        found.append(f"not all of the published folder belongs to the unit's user: chown -R {USER}:{USER} {shlex.quote(str(published))}")
    if credential(config) and not os.path.exists(PASSPHRASE):
        found.append(f"nothing gives the passphrase: (umask 077; systemd-ask-password > {PASSPHRASE})")
    if (program := _program()) and not _in_a_home(home) and (_in_a_home(program) or _in_a_home(Path(sys.executable).resolve())):
        found.append(f"the unit does not see {program}, or its Python, in a home: python3 -m venv /opt/gatekey && /opt/gatekey/bin/pip install '.[serve]'")
    return found


def _program() -> Path | None:
    """The command that was called, if it is an installed one."""
    program = Path(sys.argv[0])
    return program.resolve() if program.name == "gatekey" and program.exists() else None


def _published(config: Config) -> Path | None:
    """The folder that the service publishes into, unless the home holds it anyway."""
    return config.publish if config.publish and not config.publish.resolve().is_relative_to(config.home.resolve()) else None


def _in_a_home(path: Path) -> bool:
    """Whether it lies where ProtectHome hides everything, and where nobody but its person may go."""
    return any(path.is_relative_to(place) for place in ("/home", "/root", "/run/user"))


def _foreign(folder: Path, uid: int | None) -> bool:
    """Whether anything in a folder belongs to somebody else."""
    return any(one.lstat().st_uid != uid for one in (folder, *folder.rglob("*")))


def _number(user: str) -> int | None:
    import pwd

    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _low(listen: str) -> bool:
    port = listen.rpartition(":")[2]
    return not listen.startswith("unix:") and port.isdigit() and int(port) < 1024


def socket_unit(config: Config) -> str:
    """A socket unit for each listener: systemd opens the addresses, so that ports below 1024 need no capability, and no connection is lost while we start."""
    parts = []
    for name, listen in config.listens.items():
        mode = config.text("proxy.mode", "0660") if name == "proxy" else "0660"
        # Without them it would be root's, and no web server in our group could open it.
        who = f"SocketUser={USER}\nSocketGroup={USER}\nSocketMode={mode}\n" if listen.startswith("unix:") else ""
        parts.append(
            f"# /etc/systemd/system/gatekey-{name}.socket\n[Unit]\nDescription=Gatekey, listener {name}\n\n"
            f"[Socket]\nListenStream={listen.removeprefix('unix:')}\nFileDescriptorName={name}\nService=gatekey.service\n{who}\n[Install]\nWantedBy=sockets.target\n"
        )
    return "\n".join(parts)
