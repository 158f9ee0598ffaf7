"""What the agent knows of each kind of web server, and how it speaks to one: its own checker, its reload, HAProxy's stats socket. Never through a shell."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import Malformed, Refused, Unavailable

CHAIN, CRLS, PEOPLE, MANIFEST = "people-chain.pem", "all.crl.pem", "people.json", "manifest.json"

#: Where programs are looked for beyond PATH: a service's PATH may be short.
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Characters of a command's output that are repeated to a person.
MOST_WORDS = 2000
#: What systemd tells the agent alone.
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: More changes than these are left to the reload: each is a command on HAProxy's socket, and a command line has 16 KiB.
MOST_LIVE = 1000


class Kind(NamedTuple):
    """One kind of web server.

    `lists`: the files of the bundle that its configuration includes, all of which must be there. `live`: those of them that it reads again by itself.
    `check` and `reload`: the usual commands. `unit`: its systemd unit. `capabilities` and `writes`: what its checker needs within a hardened unit.
    """

    lists: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    unit: str = ""
    capabilities: tuple[str, ...] = ("CAP_DAC_OVERRIDE",)
    writes: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The files whose change it only learns of by a reload; () where that is not known."""
        return tuple(name for name in self.lists if name not in self.live)


KINDS = {
    # `nginx -t` opens the log files (www-data's) and the pid file, makes temporary folders, and binds the ports that nobody has yet. apache2ctl makes its
    # folders below /run and gives them away. The checkers of HAProxy and Caddy only read, but keys that are not root's, and Caddy opens its log files.
    "nginx": Kind(
        (CHAIN, CRLS, "revoked.map", "issuers.map", "people.map"), (), ("nginx", "-t"), ("systemctl", "reload", "nginx"), "nginx.service",
        ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_NET_BIND_SERVICE"), ("/run", "/var/log/nginx", "/var/lib/nginx"),
    ),
    # SIGHUP and not "graceful", which ends no WebSocket; not `apache2ctl -k restart`, which would start a stopped Apache as a child of the agent.
    "apache": Kind(
        (CHAIN, CRLS, "revoked.txt", "issuers.txt", "people.txt"), ("revoked.txt", "issuers.txt", "people.txt"), ("apache2ctl", "configtest"),
        ("systemctl", "kill", "--kill-who=main", "--signal=HUP", "apache2"), "apache2.service", ("CAP_CHOWN", "CAP_DAC_OVERRIDE"),
        ("/run", "/var/log/apache2"),
    ),
    "haproxy": Kind(
        (CHAIN, CRLS, "revoked.lst", "issuers.lst", "people.lst"), (), ("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"), ("systemctl", "reload", "haproxy"),
        "haproxy.service",
    ),
    "caddy": Kind(
        ("trust.caddy", "revoked.caddy", "issuers.caddy", "people.caddy"), (),
        ("caddy", "validate", "--adapter", "caddyfile", "--config", "/etc/caddy/Caddyfile"), ("systemctl", "reload", "caddy"), "caddy.service",
        ("CAP_DAC_OVERRIDE",), ("/var/log/caddy", "/var/lib/caddy"),
    ),
    "other": Kind((), (), (), (), "", ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE"), ("/run", "/var/log")),
}  # fmt: skip


def check(words: tuple[str, ...], timeout: float) -> None:
    """Has the server test its configuration with the files that are in place. Raises Refused("server-refuses") with its words, or Unavailable."""
    code, said = ran(words, timeout)
    if code:
        raise Refused("server-refuses", f"{os.path.basename(words[0])} does not take the configuration with these files: {said}", command=" ".join(words))


def reload(words: tuple[str, ...], timeout: float) -> None:
    """Tells the server to read its files again. Raises Unavailable("server-reload") with its words."""
    code, said = ran(words, timeout)
    if code:
        hint = "is the server running? It is tried again; a server that is started reads the new files anyway"
        raise Unavailable("server-reload", f"{' '.join(words)} failed (exit {code}): {said}", hint=hint)


def probe(words: tuple[str, ...], timeout: float) -> None:
    """Waits until the server shows that it has taken the files over: the command ends with 0. Raises Unavailable("server-probe") with its last words."""
    import time

    end = time.monotonic() + timeout
    while True:
        code, said = ran(words, timeout)
        if not code:
            return
        if time.monotonic() >= end:
            hint = "the files are in place and the server was reloaded; it is reloaded and asked again"
            raise Unavailable("server-probe", f"{' '.join(words)} did not succeed within {timeout:g} s (exit {code}): {said}", hint=hint)
        time.sleep(0.05)


def ran(words: tuple[str, ...], timeout: float) -> tuple[int, str]:
    """Exit code and output of a command. Raises Unavailable("server-command") when it cannot be started or does not end in time (seconds)."""
    import subprocess

    path = program(words)
    try:
        # A session of its own: what the command has started dies with it when the time is up. What speaks to systemd (`caddy reload`) must not speak for us.
        process = subprocess.Popen(
            [path, *words[1:]], env={name: value for name, value in os.environ.items() if name not in _OURS},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable("server-command", f"{path} cannot be started: {error.strerror}", hint="look at its permissions") from error
    with process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, 9)
            message = f"{' '.join(words)} did not end within {timeout:g} s"
            raise Unavailable("server-command", message, hint="raise timeout in the agent's configuration if it needs longer") from None
    said = " ".join(output.decode("utf-8", "replace").split())
    return process.returncode, said[-MOST_WORDS:] or "it said nothing"


def program(words: tuple[str, ...]) -> str:
    """The path of a command's program. Raises Unavailable("server-command") when there is none."""
    path = found(words[0])
    if not path:
        raise Unavailable("server-command", f"there is no program {words[0]} on this machine", hint="name the command with its full path")
    return path


#: Directives of nginx that name files of a bundle.
_NAMES = re.compile(rb"""(?:^|[\s{;])(?:include|ssl_crl|ssl_client_certificate|ssl_trusted_certificate)\s+(?:"([^"\n]+)"|'([^'\n]+)'|([^\s;"']+))\s*;""")
_MAIN = b"# configuration file "


def elsewhere(words: tuple[str, ...], target: Path, timeout: float) -> str | None:
    """The folder where nginx reads its lists, if it reads none in `target`; "" when it does, None when that cannot be told.

    `words`: the command that tests its configuration; it is given with -T. A dump may have a million lines, so it is read line by line.
    """
    nginx = found(words[0]) if words and os.path.basename(words[0]) in ("nginx", "openresty") and "-t" in words else None
    if not nginx:
        return None
    import subprocess
    import threading

    others: list[str] = []
    asked = [nginx, *("-T" if word == "-t" else word for word in words[1:])]
    try:
        process = subprocess.Popen(asked, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True)
    except OSError:
        return None
    with process:
        clock = threading.Timer(timeout, process.kill)
        clock.start()
        try:
            for path in _named(process.stdout or ()):
                folder, name = os.path.split(path)
                if {os.path.realpath(folder), os.path.dirname(os.path.realpath(path))} & {os.path.realpath(target), os.path.realpath(target / ".current")}:
                    process.kill()
                    return ""
                if name in KINDS["nginx"].lists:
                    others.append(folder)
        finally:
            clock.cancel()
    return others[0] if others and not process.returncode else None


def _named(dump: Iterable[bytes]) -> Iterator[str]:
    """The files that a dump of nginx's configuration names, absolute: a relative name counts from the main file."""
    main = ""
    for line in dump:
        if line.startswith(_MAIN):
            main = main or os.path.dirname(os.fsdecode(line.removeprefix(_MAIN).rstrip(b":\n")))
        elif not line.lstrip().startswith(b"#"):
            yield from (os.path.join(main, os.fsdecode(one[1] or one[2] or one[3])) for one in _NAMES.finditer(line))


def found(program: str) -> str | None:
    """The path of a program, also where only root's PATH looks."""
    import shutil

    return shutil.which(program) or shutil.which(program, path=PLACES)


def tell_haproxy(socket_path: Path, file: Path, before: bytes, after: bytes) -> int:
    """Changes the running list of HAProxy that was read from `file`, without a reload; says how many lines were changed, 0 where they are too many.

    Raises Unavailable("server-runtime") when HAProxy does not answer or does not know the list.
    """
    old, new = _lines(before), _lines(after)
    commands = [f"add acl {file} {key}" for key in sorted(new - old)] + [f"del acl {file} {key}" for key in sorted(old - new)]
    if len(commands) > MOST_LIVE:
        return 0
    for start in range(0, len(commands), 50):
        answer = _asked(socket_path, ";".join(commands[start : start + 50]))
        if answer:
            hint = f"the configuration must read its list from {file}, and the socket needs `level admin`"
            raise Unavailable("server-runtime", f"HAProxy does not change its running list: {answer[:200]}", hint=hint)
    return len(commands)


def _asked(socket_path: Path, command: str) -> str:
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(2)
            line.connect(str(socket_path))
            line.sendall(command.encode() + b"\n")
            answer = b""
            while len(answer) < MOST_WORDS and (more := line.recv(4096)):
                answer += more
    except OSError as error:
        hint = "the reload tells it as well"
        raise Unavailable("server-runtime", f"HAProxy does not answer on {socket_path}: {error.strerror or error}", hint=hint) from error
    return " ".join(answer.decode("utf-8", "replace").split())


def _lines(text: bytes) -> set[str]:
    """The entries of a list. Only what the bundle's grammar allows ever comes as far as here; a key with a space or a semicolon would be a command."""
    lines = {line for line in text.decode("ascii").splitlines() if not line.startswith("#")}
    if any(not line or any(c in line for c in " ;\\<") for line in lines):
        raise Malformed("bundle-list", "a list for HAProxy has a line that is no key")
    return lines


def openssl_takes(chain: bytes, crls: bytes, expected: tuple[int, int]) -> None:
    """Whether the library of nginx, Apache and HAProxy reads as many certificates and CRLs as we do. Raises Refused("bundle-damaged").

    `apache2 -t` looks at neither, and Apache ends at a restart where it cannot read them.
    """
    import ssl
    import tempfile

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(ssl.SSLError):
        file.write(chain + crls)
        file.flush()
        context.load_verify_locations(file.name)
    stats = context.cert_store_stats()
    if (stats["x509"], stats["crl"]) != expected:
        found = f"{stats['x509']} certificates and {stats['crl']} CRLs where there are {expected[0]} and {expected[1]}"
        raise Refused("bundle-damaged", f"OpenSSL reads {found} in {CHAIN} and {CRLS}", hint="publish the bundle again")
