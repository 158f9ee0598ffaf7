"""Several worker processes on the same sockets: started, watched, restarted when they die, replaced one by one without a dropped request, and ended.

The supervisor opens the sockets and nothing else: no ledger, no keys, no threads. Signals: TERM and INT end, HUP replaces every worker. The log says what was
changed and has to wait for a restart.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..errors import GatekeyError, Misconfigured
from .logs import Log

#: Seconds for a worker to become ready, and to end; seconds between two starts of a worker that keeps dying, at most.
START, STOP, PATIENCE = 120, 40, 30
#: As many workers as this can always be had by a reload.
FEW = 8
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


class Worker(NamedTuple):
    """A worker process. `started`: monotonic seconds."""

    pid: int
    place: int
    started: float
    life: int  # our end of a pipe: when it closes, the worker knows that we are gone


#: What a worker process does: its place, a pipe that ends with the supervisor, and what it calls when it is ready. Answers with an exit code.
Work = Callable[[int, int, Callable[[], None]], int]


class Wanted(NamedTuple):
    """What `gatekey.toml` says to the supervisor. `fixed`: what only a restart takes up, by key."""

    workers: int
    fixed: Mapping[str, str]


class Supervisor:
    """`work` runs in each worker process. `wanted` says how many there should be; it is asked at the start and at each HUP. `listen`: addresses, for the log.

    Places are numbered from 0. There are twice as many as workers, so that old and new can stand side by side; the memory that workers share has so many from
    the beginning.
    """

    def __init__(self, wanted: Callable[[], Wanted], places: int, work: Work, log: Log, listen: Sequence[str]) -> None:
        self.work = work
        self.log = log
        self._ask = wanted
        self.places = places
        self.listen = listen
        first = wanted()
        self.fixed = first.fixed
        self.wanted = self._count(first)
        self.workers: dict[int, Worker] = {}
        self.leaving: dict[int, tuple[Worker, float]] = {}
        self._backoff = 0.5
        self._again = 0.0

    def _count(self, said: Wanted) -> int:
        """How many workers there should be, and can. What else was changed and has to wait for a restart is told."""
        if changed := [key for key, value in said.fixed.items() if value != self.fixed.get(key)]:
            self.log.warning("restart-needed", keys=changed, listen=self.listen, hint="a reload leaves these as they were: restart the service")
        asked, most = said.workers, most_workers(self.places)
        if asked > most:
            self.log.warning("too-many-workers", asked=asked, workers=most, hint="restart the service for more")
        return min(max(asked, 1), most)

    def run(self) -> int:
        """Until it is told to end; answers with the exit code: 130 after SIGINT, which is somebody's Ctrl-C."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for _ in range(self.wanted):
                if not self._start():
                    self._end()
                    return 3
            notify(f"READY=1\nMAINPID={os.getpid()}")
            self.log.info("ready", workers=self.wanted, pid=os.getpid(), listen=self.listen)
            return self._watch()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _watch(self) -> int:
        while True:
            got = signal.sigtimedwait(_SIGNALS, 0.5)
            if got and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                notify("STOPPING=1")
                self._end()
                return 130 if got.si_signo == signal.SIGINT else 0
            if got and got.si_signo == signal.SIGHUP:
                notify("RELOADING=1")
                self._roll()
                notify("READY=1")
            self._bury()
            self._mend()

    def _start(self) -> bool:
        """One more worker. False when it did not become ready."""
        taken = {worker.place for worker in self.workers.values()} | {worker.place for worker, _ in self.leaving.values()}
        place = min(set(range(self.places)) - taken)
        ready, says_ready = os.pipe()
        ends, life = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_worker(place, (ready, life), says_ready, ends)
        os.close(says_ready)
        os.close(ends)
        worker = Worker(pid, place, time.monotonic(), life)
        self.workers[pid] = worker
        became = bool(select.select([ready], [], [], START)[0]) and os.read(ready, 1) == b"1"
        os.close(ready)
        if not became:
            self.log.error("worker-not-ready", pid=pid)
            self._kill(worker, signal.SIGKILL)
            self._wait(worker)
        return became

    def _become_worker(self, place: int, close: tuple[int, ...], says_ready: int, ends: int) -> None:
        """Never returns."""
        code = 1
        try:
            for fd in (*close, *(worker.life for worker in self.workers.values()), *(worker.life for worker, _ in self.leaving.values())):
                os.close(fd)
            for one in _SIGNALS:
                signal.signal(one, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            code = self.work(place, ends, lambda: _say(says_ready))
        except BaseException as error:  # noqa: BLE001  this process ends here whatever it was
            self.log.failure("worker-failed", error, pid=os.getpid())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _kill(self, worker: Worker, how: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, how)

    def _wait(self, worker: Worker) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(worker.pid, 0)
        self._forget(worker.pid)

    def _forget(self, pid: int) -> Worker | None:
        worker = self.workers.pop(pid, None) or (self.leaving.pop(pid)[0] if pid in self.leaving else None)
        if worker:
            os.close(worker.life)
        return worker

    def _bury(self) -> None:
        """Takes note of the dead, and ends those that take too long to leave."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            left = pid in self.leaving
            worker = self._forget(pid)
            if worker and not left:
                code = os.waitstatus_to_exitcode(status)
                self.log.error("worker-died", pid=pid, code=code)
                lived = time.monotonic() - worker.started
                self._backoff = 0.5 if lived > 10 else min(2 * self._backoff, PATIENCE)
                self._again = time.monotonic() + (0 if lived > 10 else self._backoff)
        for worker, until in list(self.leaving.values()):
            if time.monotonic() > until:
                self._kill(worker, signal.SIGKILL)

    def _mend(self) -> None:
        """Starts what is missing."""
        while len(self.workers) < self.wanted and time.monotonic() >= self._again:
            if not self._start():
                self._backoff = min(2 * self._backoff, PATIENCE)
                self._again = time.monotonic() + self._backoff

    def _roll(self) -> None:
        """A new worker for each old one; an old one leaves when its successor is ready. When a successor fails, the old ones stay.

        If fewer are wanted by now, the last ones leave without a successor; if more, `_mend` starts them.
        """
        try:
            self.wanted = self._count(self._ask())
        except GatekeyError as error:  # a configuration that cannot be read: no worker would start with it
            self.log.failure("reload-failed", error)
            return
        for number, worker in enumerate(list(self.workers.values())):
            if number < self.wanted and not self._start():
                self.log.error("reload-failed", hint="the old workers go on; the lines above say why")
                return
            if worker.pid in self.workers:
                self.leaving[worker.pid] = (self.workers.pop(worker.pid), time.monotonic() + STOP)
                self._kill(worker, signal.SIGTERM)
        self._mend()
        self.log.info("reloaded", workers=len(self.workers))

    def _end(self) -> None:
        for worker in list(self.workers.values()):
            self._kill(worker, signal.SIGTERM)
        until = time.monotonic() + STOP
        while (self.workers or self.leaving) and time.monotonic() < until:
            self._reap(until)
        for worker in [*self.workers.values(), *(one for one, _ in self.leaving.values())]:
            self._kill(worker, signal.SIGKILL)
            self._wait(worker)
        self.log.info("ended")

    def _reap(self, until: float) -> None:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pid = -1
        if pid > 0:
            self._forget(pid)
        elif pid < 0:
            self.workers.clear()
            self.leaving.clear()
        else:
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, min(0.5, until - time.monotonic())))


def places_for(workers: int) -> int:
    """Places for so many workers, or for the few more that somebody may want after a reload."""
    return 2 * max(workers, FEW) + 2


def most_workers(places: int) -> int:
    """How many workers so many places are for."""
    return (places - 2) // 2


def _say(fd: int) -> None:
    os.write(fd, b"1")
    os.close(fd)


def notify(words: str) -> None:
    """Tells systemd, where it listens (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(words.encode(), "\0" + place[1:] if place.startswith("@") else place)


def bind(listen: str, mode: int = 0o660) -> socket.socket:
    """A listening socket: `ADDRESS:PORT`, `[IPV6]:PORT` or `unix:/path` with this mode. Raises Misconfigured."""
    if listen.startswith("unix:"):
        return _bind_unix(listen.removeprefix("unix:"), mode)
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    with contextlib.ExitStack() as unless_bound:
        # The protocol is named, because asyncio switches Nagle's algorithm off only where it is: without it every answer waits 40 ms for an acknowledgement.
        sock = unless_bound.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, int(port)))
            sock.listen(2048)
        except OSError as error:
            low = isinstance(error, PermissionError)
            hint = "ports below 1024 are for root, or for the unit that serve --unit prints" if low else "another address or port in gatekey.toml"
            raise Misconfigured("listen", f"{listen} cannot be listened on: {error.strerror or error}", hint=hint) from error
        sock.setblocking(False)
        unless_bound.pop_all()
    return sock


def address(sock: socket.socket) -> str:
    """Where a socket listens, as gatekey.toml would say it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return "unix:" + os.fsdecode(name).removesuffix(_staging(""))  # the kernel remembers the name under which it was bound
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _staging(path: str) -> str:
    return f"{path}.{os.getpid()}"


def _bind_unix(path: str, mode: int) -> socket.socket:
    """A Unix socket that has its mode before anybody can find it: bound under another name, then renamed over the socket that an earlier run left there.

    Nothing else is ever replaced. Raises Misconfigured.
    """
    _refuse_taken(path)
    staging = _staging(path)
    with contextlib.ExitStack() as unless_bound:
        sock = unless_bound.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o777)
        try:
            sock.bind(staging)
        except OSError as error:
            raise _unbound(path, error) from error
        finally:
            os.umask(before)
        try:
            os.chmod(staging, mode)
            sock.listen(2048)
            os.rename(staging, path)
        except OSError as error:
            os.unlink(staging)
            raise _unbound(path, error) from error
        sock.setblocking(False)
        unless_bound.pop_all()
    return sock


def _refuse_taken(path: str) -> None:
    """Raises Misconfigured unless nothing is there, or a socket on which nobody listens. Links are not followed: the name itself would be replaced."""
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return  # nothing; what is wrong with the folder, binding says
    if not stat.S_ISSOCK(kind):
        what = "a link" if stat.S_ISLNK(kind) else "a folder" if stat.S_ISDIR(kind) else "a file" if stat.S_ISREG(kind) else "something else"
        message = f"{path} is {what}, not a socket; it was not touched"
        raise Misconfigured("listen", message, hint="move it away, or name another path in gatekey.toml", path=path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue must not keep us waiting; it is an answer, too
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # only these say that nobody is there: we may be forbidden to ask, or it may be a socket of another kind
        except OSError:
            pass
    raise Misconfigured("listen", f"somebody listens on {path} already", hint="stop the other process, or name another socket", path=path)


def _unbound(path: str, error: OSError) -> Misconfigured:
    """Why no socket could be made, and the command that mends it where the folder is the reason."""
    folder = os.path.dirname(path)
    user, group = _me()
    mend = f"install -d -m 0750 -o {user} -g {group} {shlex.quote(folder)}"  # the group of the socket: whoever may open it must come to it
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        why = "is no folder" if os.path.lexists(folder) else "is not there"
        return Misconfigured("listen", f"{path} cannot be listened on: {folder} {why}", hint=mend, path=path)
    if isinstance(error, PermissionError):
        return Misconfigured("listen", f"{path} cannot be listened on: {user} may not write into {folder}", hint=f"a folder of its own: {mend}", path=path)
    return Misconfigured("listen", f"{path} cannot be listened on: {error.strerror or error}", hint="another path in gatekey.toml", path=path)


def _me() -> tuple[str, str]:
    """User and group of this process, by name where they have one."""
    import grp
    import pwd

    user, group = str(os.geteuid()), str(os.getegid())
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(os.geteuid()).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(os.getegid()).gr_name
    return user, group


def inherited() -> dict[str, list[socket.socket]]:
    """Sockets that systemd has opened for us, by name (sd_listen_fds(3)): public, enrol, private, proxy."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(count):
        sock = socket.socket(fileno=3 + number)
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
        found.setdefault(names[number] if number < len(names) else "public", []).append(sock)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return found
