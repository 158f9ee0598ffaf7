"""A machine with systemd as its first process: namespaces over this machine's files, in which whatever is written is gone at the end. Needs root.

    with booted(tmp_path) as m:
        m.types("systemctl daemon-reload && systemctl enable --now gatekey")
        m.file("/etc/gatekey/agent.toml").write_text(...)

It has its own processes, users, sockets, loopback, control groups and journal. `gatekey` is in /opt/gatekey/bin, with the interpreter and the packages of
the tests.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from kit.servers import program, wait_until

SRC = Path(__file__).parent.parent.parent / "src"

#: What would change the kernel or the devices of the machine that lends its files, and what needs a screen.
MASKED = (
    "console-getty.service", "getty.target", "systemd-binfmt.service", "systemd-modules-load.service", "systemd-sysctl.service", "systemd-udevd.service",
    "systemd-timesyncd.service", "systemd-networkd.service", "networking.service", "systemd-random-seed.service", "systemd-remount-fs.service",
    "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-clean.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-ask-password-wall.path",
    "systemd-ask-password-console.path", "systemd-journal-flush.service", "systemd-logind.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
)  # fmt: skip

#: In namespaces of mounts, so that nothing of this is seen outside. A control group of its own first: of another one systemd would be the ruler, too.
OUTER = """
mount --make-rprivate /
mkdir -p "$1/groups" "$1/disk"
mount -t cgroup2 none "$1/groups"
mkdir -p "$1/groups/$2"
echo $$ > "$1/groups/$2/cgroup.procs"
exec unshare --pid --cgroup --uts --ipc --net --mount --fork --kill-child=KILL --propagation private /bin/sh -eu -c "$INNER" inner "$@"
"""

#: The order is the content: layers, the kernel's file systems (read-only where writing would reach beyond), devices, what is empty at every start, the root.
INNER = """
disk="$1/disk"
mount -t tmpfs -o mode=755 tmpfs "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
cd "$disk/root"
mount -t proc proc proc
for part in sys irq bus; do mount --bind "proc/$part" "proc/$part"; mount -o remount,bind,ro "proc/$part"; done
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do : > "dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for part in run tmp var/tmp root home; do mkdir -p "$part"; mount -t tmpfs -o mode=755 tmpfs "$part"; done
chmod 1777 tmp var/tmp
mkdir run/lock
mkdir -p opt/python opt/src opt/site
mount --bind "$3" opt/python
mount --bind "$4" opt/site
mount --bind "$5" opt/src
rm -rf etc/systemd/system var/log/journal
mkdir -p etc/systemd/system
for unit in $6; do ln -s /dev/null "etc/systemd/system/$unit"; done
: > etc/machine-id
ip link set lo up
mkdir -p opt/old
pivot_root . opt/old
umount -l /opt/old
mount --make-rshared /
exec env -i container=tests PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=multi-user.target
"""

#: The control groups, which nobody is in any more as soon as the kernel has buried the last process.
AFTER = """
mount -t cgroup2 none "$1/groups"
for _ in $(seq 200); do
    find "$1/groups/$2" -depth -type d -exec rmdir {} + 2> /dev/null || true
    if [ ! -e "$1/groups/$2" ]; then exit 0; fi
    sleep 0.05
done
exit 1
"""

#: The program, in a folder that no unit is kept from.
INSTALL = """
echo /opt/python/lib > /etc/ld.so.conf.d/000-python.conf
ldconfig
/opt/python/bin/python3 -m venv --without-pip /opt/gatekey
printf '/opt/src\\n/opt/site\\n' > "$(/opt/gatekey/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gatekey.pth"
printf '#!/opt/gatekey/bin/python\\nfrom gatekey.cli import main\\nmain()\\n' > /opt/gatekey/bin/gatekey
chmod 755 /opt/gatekey/bin/gatekey
ln -s /opt/gatekey/bin/gatekey /usr/local/bin/gatekey
"""


class Booted:
    """A machine that has started. `pid`: its first process, as this machine calls it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def file(self, place: str) -> Path:
        """A file of that machine, for the test."""
        return Path(f"/proc/{self.pid}/root{place}")

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """A command of root's on that machine, in root's home."""
        enter = [program("nsenter"), "--target", str(self.pid), "--all", "--wdns=/root"]
        whose = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        return subprocess.run([*enter, *words], env=whose, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)

    def types(self, lines: str, seconds: float = 60) -> str:
        """Lines of a shell; what they print. Raises AssertionError when one of them fails."""
        done = self.run("/bin/sh", "-eu", "-c", lines, seconds=seconds)
        assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}{self.run('journalctl', '--no-pager', '--lines', '25').stdout}"
        return done.stdout

    def journal(self, unit: str) -> str:
        """What a unit has said since the start."""
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit).stdout

    def shown(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd says of a unit."""
        said = self.types(shlex.join(["systemctl", "show", unit, "--property", ",".join(properties)]))
        return dict(line.split("=", 1) for line in said.splitlines())


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """Starts one; at the end nothing of it is left."""
    assert os.geteuid() == 0, "only root can start a machine of its own"
    base = Path(sys.base_prefix)
    group = f"gatekey-tests-{os.getpid()}-{folder.name}"
    places = [str(folder), group, str(base), sysconfig.get_path("purelib"), str(SRC), " ".join(MASKED)]
    log = folder / "console"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program("unshare"), "--mount", "--propagation", "private", "/bin/sh", "-eu", "-c", OUTER, "outer", *places],
            env={**os.environ, "INNER": INNER}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or _first(process.pid), "the machine starts", 20)
        assert process.poll() is None, log.read_text()
        made = Booted(_first(process.pid))
        wait_until(lambda: made.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), "systemd is up", 30)
        failed = made.types("systemctl --failed --plain --no-legend")
        assert not failed, failed
        made.types(INSTALL)
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):  # the whole of its namespace dies with it, and who has started it has waited for that
            os.kill(_first(process.pid) or process.pid, signal.SIGKILL)
        process.wait(20)
        subprocess.run([program("unshare"), "--mount", "/bin/sh", "-eu", "-c", AFTER, "after", str(folder), group], capture_output=True, check=True, timeout=30)


def _first(pid: int) -> int:
    """The process in which systemd has taken over; 0 before that."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"/lib/systemd/systemd" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
                return int(child)
    return 0
