"""The web server's helper: brings what the authority publishes to the server, checked, as a whole and in a moment; keeps what is there if anything is wrong.

One step, `Agent.settle`, is all there is; a crash anywhere in it is repaired by doing it again. The server's own checker reads the paths that its
configuration names, and of nginx, Apache, HAProxy and Caddy none can be told to read the bundle elsewhere; so the new files are switched in, tested, and
switched back if the server does not take them. In between the running server keeps what it has in memory (Apache alone reads its lists again by
itself: they have passed our own checks by then), and whoever comes back after a crash there tests again before anything is reloaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from .. import files
from ..errors import GatekeyError, Misconfigured
from ..model.instants import DAY, HOUR, iso
from . import agent_server as server
from . import agent_status as statuses
from .agent_bundle import Bundle, Memory, admitted, fresh_until, in_time, understood
from .agent_config import Config
from .agent_server import CHAIN, CRLS, MANIFEST, PEOPLE
from .agent_source import Folder, Source
from .agent_status import CrlStatus, Problem, Status

#: Seconds: a source that is being copied, or a mount that is not there for a moment, is nothing to talk about.
GRACE = 2.0
#: Pauses between attempts after something went wrong.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 60.0
_PASSING = ("bundle-missing", "bundle-damaged")

Say = Callable[[str, str], None]


class Allowed(NamedTuple):
    """What a person allows once: a bundle that is older than the one in force, a root with this fingerprint."""

    older: bool = False
    root: str = ""


NOTHING = Allowed()


class InPlace(NamedTuple):
    """What the target holds: the bundle without its bytes, its manifest, the names of its files, the digest of those for which the server is reloaded."""

    bundle: Bundle
    manifest: bytes
    names: tuple[str, ...]
    digest: str
    deny_list: bytes


class Agent:
    """Keeps one target. `now` tells the time, `say(level, sentence)` is the log: "info", "warning" or "error".

    `service`: it goes on watching, and `ready` is called when the target holds tested files, before the server is reloaded.
    """

    def __init__(
        self, config: Config, source: Source, now: Callable[[], int], say: Say, *, service: bool = False, ready: Callable[[], None] = lambda: None
    ) -> None:
        self.config = config
        self._source, self._now, self._say, self._service, self._ready = source, now, say, service, ready
        self._target = Folder(config.target, watched=False)
        self._target_seen: object = None
        self._there: InPlace | None = None
        self._running_list: bytes | None = None  # what HAProxy's running list holds, as far as we know
        self._status = Status()
        self._written: Status | None = None
        self._said = ""
        self._reminded = 0
        self._wrong_since = 0.0
        self._read, self._asked_after, self._unread = False, "", ""  # whether nginx reads the target; of which files that was asked; what to say if not

    @property
    def status(self) -> Status:
        """How things stand after the last `settle`."""
        return self._status

    def settle(self, allowed: Allowed = NOTHING, *, asked: bool = False) -> GatekeyError | None:
        """Brings the server to what is published, or says why not. A crash at any instant leaves a complete set in place, and the next call goes on from there.

        1 remember what is in place, and how far the server has come      2 read what is published, and check it
        3 switch to it as a whole                                         4 have the server test it, or go back
        5 reload, if a file has changed that the server does not read by itself   6 write down how things stand

        `asked`: somebody waits for a word, also when there is nothing new.
        """
        try:
            with files.alone(self.config.target):  # a person's `gatekey agent --once` may run beside the service
                self._remember()  # 1
                before = (self._status.loaded, self._status.serving_number)
                problem = self._tried(lambda: self._bring(allowed))  # 2, 3
                problem = self._tried(self._load) or problem  # 4, 5
                if asked and problem is None and before == (self._status.loaded, self._status.serving_number):
                    problem = self._tried(self._nothing_new)
                return self._account(problem)  # 6
        except OSError as error:
            problem = files.explain(error, error.filename or self.config.target)
        except GatekeyError as error:
            problem = error
        self._tell(problem)
        return problem

    @staticmethod
    def _tried(step: Callable[[], None]) -> GatekeyError | None:
        try:
            step()
        except GatekeyError as problem:
            return problem
        except OSError as error:
            return files.explain(error, error.filename or "a file")
        return None

    def _remember(self) -> None:
        """Out of the status that was written last and of the target itself: each knows enough if the other is lost."""
        written = statuses.read(self.config.status)
        if written and written != self._written:  # by somebody else; what we could not write for want of room is not forgotten
            self._status = self._written = written
        config = self.config
        self._status = self._status._replace(server=config.server, source=self._source.place, target=str(config.target), service=self._service)
        self._look()

    def _look(self) -> None:
        """What the target holds now. Nothing, if it is damaged: then it is replaced."""
        seen = self._target.stamp()
        if self._there is None or seen != self._target_seen:
            self._there, self._target_seen = None, seen
            with contextlib.suppress(GatekeyError):
                self._there = self._in_place(understood(self._target.read() or {}, self.config.kind.lists))
            if self._there and self._there.digest == self._status.loaded:
                self._running_list = self._there.deny_list
        if self._there and not all(os.path.isfile(self.config.target / name) for name in self._there.names):
            self._there = self._there._replace(manifest=b"")  # somebody took a file away: so nothing that is published is the same

    def _in_place(self, bundle: Bundle) -> InPlace:
        contents = bundle.contents
        # A CRL of a million entries is not kept in memory for nothing.
        return InPlace(bundle._replace(contents={}), contents[MANIFEST], tuple(contents), self._digest(contents), contents.get("revoked.lst", b""))

    def _bring(self, allowed: Allowed) -> None:
        """Steps 2 and 3."""
        contents = self._source.read(self._there.manifest if self._there else b"")
        if contents is None:
            return
        fresh = understood(contents, self.config.kind.lists)
        memory = self._memory(allowed)
        admitted(fresh, memory, self._now(), older=allowed.older)
        in_time(fresh, self._now())
        server.openssl_takes(contents[CHAIN], contents[CRLS], (len(fresh.authorities), len(fresh.crls)))
        _take_over(self.config.target, contents)
        # From here on the target has either the old files or the new ones. If this is the last that happens, the next call finds them not loaded: step 4.
        files.switch(self.config.target, dict(contents), f"{fresh.number}-{fresh.made_at}", over=contents)
        self._there, self._target_seen = self._in_place(fresh), self._target.stamp()
        self._status = self._status._replace(installed_at=self._now(), roots=tuple(sorted(memory.roots or fresh.roots)))
        if not memory.roots:
            print_, name = next(iter(fresh.roots.items()))
            self._say("warning", f"first use: the root {name} is believed from now on, and no other; compare its SHA-256 with the authority's: {print_}")
        self._tell_running()

    def _memory(self, allowed: Allowed) -> Memory:
        memory = (Memory.of(self._there.bundle) if self._there else Memory()).and_also(self._status.memory)
        roots = self.config.roots or frozenset(self._status.roots) or memory.roots
        if allowed.root and self.config.roots and allowed.root not in roots:
            raise Misconfigured("config-mistake", f"{self.config.file} names the roots that are believed", hint="add the new one to root there")
        return memory._replace(roots=roots | {allowed.root} if allowed.root else roots)

    def _load(self) -> None:
        """Steps 4 and 5."""
        there, config, status = self._there, self.config, self._status
        if there is None:
            return
        reloaded = "reads it by itself"
        if there.digest != status.loaded:
            if config.check:
                try:
                    server.check(config.check, config.timeout)
                except GatekeyError as refused:
                    raise self._back(refused) from None
            self._ready()
            if config.reload:
                # Killed before the status is written, it is reloaded once more.
                server.reload(config.reload, config.timeout)
                reloaded = "was reloaded"
                if config.probe:
                    server.probe(config.probe, config.timeout)
            self._running_list = there.deny_list
        elif there.bundle.number == status.serving_number:
            return
        number, revoked, until = there.bundle.number, there.bundle.denied, iso(fresh_until(there.bundle, self._now()))
        self._status = status._replace(loaded=there.digest, serving_number=number, serving_since=self._now())
        self._say("info", f"revocation {number} is in force: {revoked} revoked certificates, CRLs good until {until}; {config.server} {reloaded}")

    def _nothing_new(self) -> None:
        """Somebody has asked: she is told, and also of a command that could not be run when it is needed. Raises Unavailable."""
        for words in (self.config.check, self.config.reload):
            if words:
                server.program(words)
        self._say("info", f"revocation {self._status.serving_number} is in force, nothing new")

    def _back(self, refused: GatekeyError) -> GatekeyError:
        """Puts the files of before back; the answer is what to say."""
        before = self._set_of_before()
        if before is None:
            hint = f"{refused.hint or 'mend the configuration'}; there are no earlier files to go back to, so these stay, and it is tried again"
            return type(refused)(refused.code, refused.message, hint=hint)
        _point(self.config.target, before)
        self._look()
        hint = "the files of before are back, the server runs on with them, and it is tried again"
        try:
            server.check(self.config.check, self.config.timeout)
        except GatekeyError:
            hint = "it does not take the files of before either, so the mistake is not in the bundle: mend the server's configuration; it is tried again"
        return type(refused)(refused.code, refused.message, hint=hint)

    def _set_of_before(self) -> str | None:
        """The name of the set in the target that the server has read last, or of the only other one."""
        target = self.config.target
        current = os.readlink(target / ".current")
        others = sorted(place for place in target.glob(".set-*") if place.name != current)
        for place in others:
            with contextlib.suppress(OSError):
                if self._digest({file.name: file.read_bytes() for file in place.iterdir()}) == self._status.loaded:
                    return place.name
        return others[0].name if len(others) == 1 else None

    def _tell_running(self) -> None:
        """HAProxy's running list, so that a revocation counts before the reload, also on connections that are open."""
        now, before = self._there.deny_list if self._there else None, self._running_list
        if self.config.runtime is None or now is None or before is None or now == before:
            return
        try:
            server.tell_haproxy(self.config.runtime, self.config.target / "revoked.lst", before, now)
            self._running_list = now
        except GatekeyError as problem:
            self._say("warning", f"{problem.message}; the reload will tell it")

    def _digest(self, contents: Mapping[str, bytes]) -> str:
        """One word for all files that the server must be reloaded for."""
        from hashlib import sha256

        names = self.config.reload_on or tuple(sorted(set(contents) - {MANIFEST, PEOPLE}))
        return sha256(b"".join(name.encode() + sha256(contents.get(name, b"")).digest() for name in names)).hexdigest()

    # Step 6

    def _account(self, problem: GatekeyError | None) -> GatekeyError | None:
        """Writes the status when it has changed, and says each thing once; answers with what is wrong now."""
        now = self._now()
        if self._there:
            bundle = self._there.bundle
            crls = tuple(CrlStatus(crl.issuer, crl.key, crl.number, crl.entries, crl.next_update) for crl in bundle.crls)
            roots = self._status.roots or tuple(sorted(bundle.roots))
            until = fresh_until(bundle, now)
            self._status = self._status._replace(number=bundle.number, made_at=bundle.made_at, fresh_until=until, crls=crls, roots=roots)
        passing = self._passing(problem)
        if not passing:
            before = self._status.problem
            since = before.since if problem and before and before.code == problem.code else now
            self._status = self._status._replace(problem=Problem(problem.code, problem.message, problem.hint, since) if problem else None)
        self._ask_what_is_read()
        self._warn(now)
        unwritten = self._tried(self._write)
        if unwritten or not passing:
            self._tell(problem or unwritten)
        return problem or unwritten

    def _passing(self, problem: GatekeyError | None) -> bool:
        """Whether a problem is of the kind that passes by itself, and may still do so."""
        if not self._service or problem is None or problem.code not in _PASSING:
            self._wrong_since = 0.0
            return False
        self._wrong_since = self._wrong_since or time.monotonic()
        return time.monotonic() - self._wrong_since < GRACE

    def _tell(self, problem: GatekeyError | None) -> None:
        said = f"{problem.message} ({problem.hint})" if problem and problem.hint else problem.message if problem else ""
        if said and said != self._said:
            self._say("error", said)
        elif not said and self._said:
            self._say("info", "all is well again")
        self._said = said

    def _ask_what_is_read(self) -> None:
        """Whether nginx reads the target: otherwise all is well but at the door. Asked until it does, after every reload, and while it is known not to."""
        target, loaded = self.config.target, self._status.loaded
        if self.config.server != "nginx" or not loaded or self._read or (loaded == self._asked_after and not self._unread):
            return
        folder = server.elsewhere(self.config.check, target, self.config.timeout)
        self._read, self._asked_after = folder == "", loaded
        unread = f"nginx reads its lists in {folder} and not in {target}, so what is brought there does not count" if folder else ""
        unread = f"{unread}: make that folder the target, or name this one in nginx's configuration (--bundle of gatekey webserver)" if folder else ""
        if unread and unread != self._unread:
            self._say("warning", unread)
        self._unread = unread

    def _warn(self, now: int) -> None:
        """The time that is left, said once a day: when it is over, nobody gets in."""
        until = self._status.fresh_until
        left = until - now
        warning = ""
        if until and left <= 0:
            warning = f"a CRL that is in force ran out at {iso(until)}: {self.config.server} refuses everybody"
        elif until and left < self.config.warn:
            span = f"{left // DAY} days" if left >= 2 * DAY else f"{left // HOUR} hours"
            warning = f"a CRL runs out at {iso(until)}, in {span}: then {self.config.server} refuses everybody"
        warning = f"{warning}; gatekey bundle at the authority signs a new one" if warning else ""
        self._status = self._status._replace(warning="; ".join(filter(None, (self._unread, warning))))
        if warning and now - self._reminded >= DAY:
            self._say("warning", warning)
            self._reminded = now
        elif not warning:
            self._reminded = 0

    def _write(self) -> None:
        path = self.config.status
        if self._written != self._status or not path.exists():
            statuses.write(path, self._status)
            self._written = self._status
        elif self._now() - path.stat().st_mtime >= statuses.ALIVE:
            os.utime(path, (self._now(), self._now()))


def _take_over(target: Path, names: Mapping[str, bytes]) -> None:
    """Files that somebody copied into the target become links to the same bytes, so that the switch that follows is one for all of them."""
    plain = {name: (target / name).read_bytes() for name in names if (target / name).is_file() and not (target / name).is_symlink()}
    if plain:
        files.switch(target, {**plain, "before-the-agent.txt": b"What was here before the agent came.\n"}, "before", over=plain)


def _point(target: Path, name: str) -> None:
    """Switches the target to another set that is there already."""
    temporary = target / ".link-current"
    temporary.unlink(missing_ok=True)
    os.symlink(name, temporary)
    os.replace(temporary, target / ".current")


def serve(agent: Agent, source: Source, notify: Callable[[str], None]) -> int:
    """Settles at every change, and once a minute for the sake of the clock, until SIGTERM or SIGINT; SIGHUP looks at once. `notify` speaks to systemd.

    Answers with an exit code: 130 after SIGINT, which is somebody's Ctrl-C.
    """
    with _Signals() as signals:
        failed = 0
        while not signals.stopped:
            problem = agent.settle()
            tell(agent.status, source)
            failed = failed + 1 if problem else 0
            notify(f"READY=1\nWATCHDOG=1\nSTATUS={agent.status.sentence}\n")
            pause = min(FIRST_PAUSE * 2 ** min(failed - 1, 16), LONGEST_PAUSE) if failed else float(statuses.ALIVE)
            if failed > 2:
                signals.rest(min(pause, FIRST_PAUSE))  # a source that never holds still is no reason to hurry
            source.wait(pause, signals.handle)
            signals.drain()
        notify("STOPPING=1\n")
        return 130 if signals.interrupted else 0


def tell(status: statuses.Status, source: Source) -> None:
    """Reports what the web server has taken over, where somebody wants to know."""
    if status.serving_number >= 0:
        source.took_over(status.serving_number, status.serving_since)


class _Signals:
    """Signals as something that can be waited for."""

    def __init__(self) -> None:
        self.stopped = self.interrupted = False
        self.handle, self._other_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._other_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.handle)
        os.close(self._other_end)

    def _stop(self, number: int, _: object) -> None:
        self.stopped = True
        self.interrupted = number == signal.SIGINT

    def rest(self, seconds: float) -> None:
        """Waits, but not longer than until a signal."""
        import select

        select.select([self.handle], [], [], 0 if self.stopped else seconds)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.handle, 1024):
                pass
