"""One revocation, watched: a canary goes in and out, keeps sessions, a connection and a WebSocket, is revoked, and tries each of them again.

Several checks read from this one play, so that a site sees a single canary and a single revocation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import GatekeyError
from .answer import ANSWERED, Answer
from .checks_app import upgrade
from .door import Door
from .knock import Identity, Knock, Line
from .report import OPEN, PASS, UNSURE, Finding

#: In how many seconds a revocation must be felt, and how often that is tried.
MOST_SECONDS = 5.0
_PAUSE = 0.05
#: Old and new workers of a server overlap for a moment after a reload.
_SETTLING = 1.0

#: What mends it when the lists are read already.
RELOAD = "reload it after every revocation: gatekey agent does, or by hand gatekey bundle --out DIR && systemctl reload nginx"

#: Revokes the canary and publishes that, as the authority does it; returns when it is published.
Revoke = Callable[[], None]


class Revocation:
    """What was seen. `reads_crl`: the web server is known to be configured for the CRLs that are published.

    `trouble`: why there was nothing to see, or "". Complete after `play`; what became of the WebSocket says `socket_ended`.
    """

    def __init__(self, door: Door, canary: Identity | None, revoke: Revoke | None, *, reads_crl: bool = False) -> None:
        self.door = door
        self.reads_crl = reads_crl
        self.canary = canary
        self.revoke = revoke
        self.trouble = "" if canary and revoke else "there is no certificate that may be revoked for the test"
        self.fresh = self.resumed = self.kept = Finding(UNSURE, self.trouble)
        self.has_socket = False
        self._played = False
        self._socket: Line | None = None
        self._watch: threading.Thread | None = None
        self._ended = False

    def play(self) -> str:
        """Plays it once; "" or the reason why nothing could be seen."""
        if self._played or self.canary is None or self.revoke is None:
            return self.trouble
        self._played = True
        what = self.door.try_(self.canary)
        answer = self.door.knock(what)
        if not self.door.let_in(answer) or answer.status >= 400:
            self.trouble = f"the certificate that was to be revoked does not get {self.door.target.path}: {answer.face}"
            return self.trouble
        # 1 What an attacker would keep.
        sessions = self._sessions(what)
        line = self._open(what._replace(keep=True))
        self._socket = self._websocket()
        # 2 The revocation, and the first refusal of a fresh connection.
        began = time.monotonic()
        try:
            self.revoke()
        except (GatekeyError, OSError) as error:
            self.trouble = f"the test certificate could not be revoked: {error}"
            self._drop(line)
            return self.trouble
        self.fresh = self._poll_fresh(what, began)
        # 3 What was kept.
        self._watch_socket()
        self.kept = self._poll_kept(what, line, began)
        self.resumed = self._try_sessions(sessions)
        return ""

    def socket_ended(self) -> bool:
        """Waits for the WebSocket that was open at the revocation; whether the server ended it in time."""
        if self._watch is not None:
            self._watch.join(self.door.target.closing + 1)
        return self._ended

    def _sessions(self, what: Knock) -> list[tuple[str, Knock, Line]]:
        kept = []
        for version in ("1.2", "1.3"):
            one = what._replace(tls=version)
            line = self.door.connect(one)
            if isinstance(line, Line):
                line.ask(one)
                line.close()
                if line.session is not None:
                    kept.append((version, one, line))
        return kept

    def _open(self, what: Knock) -> Line | None:
        line = self.door.connect(what)
        if isinstance(line, Answer):
            return None
        answer = line.ask(what)
        if answer.kind == ANSWERED and "close" not in answer.header("connection").lower():
            return line
        line.close()
        return None

    def _websocket(self) -> Line | None:
        target = self.door.target
        for path in dict.fromkeys((target.websocket, target.path)):
            what = self.door.try_(self.canary, path=path, headers=upgrade(self.door))
            line = self.door.connect(what)
            if isinstance(line, Answer):
                continue
            if line.ask(what).status == 101:
                self.has_socket = True
                return line
            line.close()
        return None

    def _poll_fresh(self, what: Knock, began: float) -> Finding:
        end = time.monotonic() + MOST_SECONDS
        while True:
            answer = self.door.knock(what)
            if not self._still_in(answer):
                return Finding(PASS, f"refused {time.monotonic() - began:.2f} s after the revocation began: {answer.face}", what.words, answer.face)
            if time.monotonic() > end:
                still = f"still let in {MOST_SECONDS:g} s after the revocation"
                if self.reads_crl:
                    server = self.door.server or "the web server"
                    return Finding(OPEN, f"{still}: it reads the CRLs that are published, but nothing reloaded {server}", what.words, answer.face, RELOAD)
                return Finding(OPEN, f"{still}: nothing reloaded the web server, or it reads no CRL", what.words, answer.face)
            time.sleep(_PAUSE)

    def _poll_kept(self, what: Knock, line: Line | None, began: float) -> Finding:
        if line is None:
            return Finding(PASS, "the server keeps no connection open for a second request", what.words)
        try:
            end = time.monotonic() + MOST_SECONDS
            while True:
                answer = line.ask(what._replace(keep=True))
                if not self._still_in(answer):
                    said = f"ended {time.monotonic() - began:.2f} s after the revocation began: {answer.face}"
                    return Finding(PASS, f"a connection that was open before: {said}", what.words, answer.face)
                if time.monotonic() > end:
                    return Finding(OPEN, f"a connection that was open before is still served {MOST_SECONDS:g} s after the revocation", what.words, answer.face)
                time.sleep(_PAUSE)
        finally:
            line.close()

    def _try_sessions(self, sessions: list[tuple[str, Knock, Line]]) -> Finding:
        passed = []
        opened = []
        for version, what, line in sessions:
            answer = self._resume(what, line)
            if self._still_in(answer) and not answer.resumed:
                return Finding(UNSURE, "the revoked certificate itself still gets in, so its sessions show nothing", what.words, answer.face, "see check 33")
            if self._still_in(answer):
                opened.append(Finding(OPEN, f"TLS {version}: a session from before the revocation still gets in: {answer.face}", what.words, answer.face))
            else:
                passed.append(f"TLS {version}: {answer.face}")
        if opened:
            return opened[0]._replace(said="; ".join(one.said for one in opened))
        said = f"sessions from before the revocation: {'; '.join(passed)}" if passed else "no session is handed out"
        return Finding(PASS, said, sessions[0][1].words if sessions else "")

    def _resume(self, what: Knock, line: Line) -> Answer:
        end = time.monotonic() + _SETTLING
        while True:
            again = self.door.connect(what, resume=line)
            if isinstance(again, Answer):
                return again
            answer = again.ask(what)
            again.close()
            if not self._still_in(answer) or time.monotonic() > end:
                return answer
            time.sleep(_PAUSE)

    def _still_in(self, answer: Answer) -> bool:
        return answer.kind == ANSWERED and answer.status < 400

    def _watch_socket(self) -> None:
        if self._socket is not None:
            self._watch = threading.Thread(target=self._wait_for_end, args=(self._socket,), daemon=True)
            self._watch.start()

    def _wait_for_end(self, line: Line) -> None:
        self._ended = line.ends_within(self.door.target.closing)
        line.close()

    def _drop(self, line: Line | None) -> None:
        for one in (line, self._socket):
            if one is not None:
                one.close()
