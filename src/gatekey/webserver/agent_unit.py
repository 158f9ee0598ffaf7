"""Texts for whoever sets up an agent: its configuration with every key explained, and a hardened systemd unit."""

from __future__ import annotations

import json
import textwrap

from .agent_config import KEYS, Config, Remote
from .agent_server import KINDS

#: The command gets this long, and each step of the agent has at most five of them (test, test again, reload) before systemd takes it for dead.
_COMMANDS, _LEAST = 5, 300


def example(server: str) -> str:
    """A configuration for `server` that is complete but for its folders."""
    kind = KINDS[server]
    given = {
        "source": '"/srv/gatekey/published"',
        "target": '"/etc/gatekey/bundle"',
        "server": json.dumps(server),
        "check": json.dumps(list(kind.check)),
        "reload": json.dumps(list(kind.reload)),
        "reload-on": json.dumps(list(kind.reads) or ["people-chain.pem", "all.crl.pem", "revoked.lst"]),
        "root": json.dumps(":".join(["0F"] * 32)),
        "warn": '"10d"',
        "timeout": '"60s"',
        "status": '"/etc/gatekey/bundle.agent.json"',
        "probe": '["/usr/local/bin/site-answers"]',
        "certificate": '"/etc/gatekey/agent.crt"',
        "key": '"/etc/gatekey/agent.key"',
        "roots": '"/etc/gatekey/servers-root.crt"',
        "name": '"web1"',
        "runtime": '"/run/haproxy/admin.sock"',
    }
    needed = ["source", "target", "server"] + (["reload"] if server == "other" else [])
    lines = ["# /etc/gatekey/agent.toml: the web server's helper. Every key: docs/reference/agent.md"]
    for key, value in given.items():
        if key == "runtime" and server != "haproxy":
            continue
        about = textwrap.wrap(KEYS[key].replace("`", ""), 150)
        lines += ["", *(f"# {line}" for line in about), f"{'' if key in needed else '# '}{key} = {value}"]
    return "\n".join(lines) + "\n"


def unit(config: Config, program: tuple[str, ...]) -> str:
    """The unit of a service that runs `program agent --config FILE`.

    It runs as root, because the web server's checker reads the site's key, but root with few powers. What starts the server's reload is systemd itself.
    """
    kind = config.kind
    remote = config.source if isinstance(config.source, Remote) else None
    own = (str(remote.certificate.parent),) if remote else ()  # it is renewed there
    writes = dict.fromkeys((str(config.target.parent), str(config.status.parent), *own, *(f"-{place}" for place in kind.writes)))
    read = (remote.certificate, remote.key, remote.roots) if remote else (config.source,)
    homes = any(str(path).startswith(("/home/", "/root/")) for path in (*read, config.target, config.file))
    network = "network-online.target" if remote else "remote-fs.target"
    wants = "Wants=network-online.target\n" if remote else ""
    before = f"Before={kind.unit}\n" if kind.unit else ""
    command = " ".join(map(_word, (*program, "agent", "--config", str(config.file))))
    return f"""\
# /etc/systemd/system/gatekey-agent.service
[Unit]
Description=Gatekey: brings what the authority publishes to the web server
After=local-fs.target {network}
{wants}# After a crash the files are tested before the web server reads them.
{before}StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
WatchdogSec={max(_LEAST, _COMMANDS * config.timeout)}
TimeoutStartSec={max(_LEAST, _COMMANDS * config.timeout)}

# Root, but: no new powers, a file system that can be read only, and of root's powers those that the server's checker needs.
User=root
UMask=0022
NoNewPrivileges=yes
CapabilityBoundingSet={" ".join(kind.capabilities)}
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths={" ".join(map(_word, writes))}
ProtectHome={"read-only" if homes else "yes"}
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# Not MemoryDenyWriteExecute: the servers' checkers compile regular expressions (PCRE).
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# systemd's socket; the checkers resolve the names of upstreams and try their ports.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

[Install]
WantedBy=multi-user.target

# then: systemctl daemon-reload && systemctl enable --now gatekey-agent.service
"""


def _word(word: str) -> str:
    """A word of a line as systemd.service(5) reads it."""
    word = word.replace("%", "%%").replace("$", "$$")
    return word if not any(c in word for c in " \t\"'\\;") else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
