"""Log lines as JSON on stderr: what was refused and why, with the id of the request; never a secret, never a flood."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from ..errors import GatekeyError
from ..model.access import without_tokens

if TYPE_CHECKING:
    from ..protocols.message import Call

#: Words in the name of a fact that must not stand in a log.
SECRET = ("password", "passphrase", "secret", "token", "authorization", "cookie", "pkcs12", "private")
#: Lines of one kind in one second; the rest is counted and said in the next.
MOST = 50
#: Lines that wait for a look at the ledger; more than these are written without it.
MOST_WAITING = 20 * MOST
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Takes out whatever is called like a secret, and tokens wherever they stand; cuts what is long."""
    for name, value in event.items():
        if any(word in name.lower() for word in SECRET):
            event[name] = "***"
        elif isinstance(value, str):
            told = without_tokens(value)
            event[name] = told if len(told) <= 300 else told[:300] + "..."
    return event


class Log:
    """A structured log of one process. `level`: debug, info, warning or error. Failures are counted in `counts`, which a worker hands to its meter."""

    def __init__(self, level: str = "info", out: TextIO | None = None, **always: Any) -> None:
        self._level = _LEVELS.get(level, 20)
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(out or sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
                without_secrets,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
            cache_logger_on_first_use=True,
            **always,
        )
        self.counts: Counter[tuple[str, ...]] = Counter()
        self._second = 0
        self._said: dict[str, int] = {}
        self._waiting: deque[tuple[str, Callable[[], dict[str, str]], dict[str, Any]]] = deque()

    def _may(self, event: str) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            left = {name: count - MOST for name, count in self._said.items() if count > MOST}
            self._second, self._said = second, {}
            if left:
                self._log.warning("lines-left-out", **{name.replace("-", "_"): count for name, count in left.items()})
        self._said[event] = self._said.get(event, 0) + 1
        return self._said[event] <= MOST

    def info(self, event: str, **facts: Any) -> None:
        if self._may(event):
            self._log.info(event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        if self._may(event):
            self._log.warning(event, **facts)

    def refusal(self, error: GatekeyError, call: Call) -> bool:
        """A request was refused; whether the log has a line of it. Lines are counted by listener: what strangers are refused leaves the others theirs."""
        if self._level > _LEVELS["warning"] or not self._may(f"refused-{call.listener}"):
            return False
        facts = {"method": call.method, "path": call.path, "code": error.code, "message": error.message, "hint": error.hint, "address": call.peer.address}
        self._log.warning("refused", id=call.id, listener=call.listener, **facts)
        return True

    def later(self, event: str, more: Callable[[], dict[str, str]], **facts: Any) -> None:
        """A warning with facts that take time to find: `write_waiting` asks for them in another thread, and only for lines that are written at all."""
        if not self._may(event):
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((event, more, facts))
        else:
            self._log.warning(event, **facts)

    def write_waiting(self) -> None:
        """Writes what `later` was told. Never raises: a line stands there without the facts that could not be found."""
        while self._waiting:
            event, more, facts = self._waiting.popleft()
            try:
                found = more()
            except Exception as error:  # noqa: BLE001  the line is worth more than what would stand beside it
                found = {"not_found_out": error.code if isinstance(error, GatekeyError) else type(error).__name__}
            self._log.warning(event, **facts, **found)

    def error(self, event: str, **facts: Any) -> bool:
        """Whether a line was written."""
        if self._may(event):
            self._log.error(event, **facts)
            return True
        return False

    def failure(self, event: str, error: BaseException, **facts: Any) -> bool:
        """Something broke: our own words where there are some, otherwise only the kind and the place. The text of a stranger's error may hold anything.

        Whether a line was written.
        """
        self.counts["gatekey_log_failures", event] += 1
        if isinstance(error, GatekeyError):
            return self.error(event, code=error.code, message=error.message, hint=error.hint, **facts)
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
        return self.error(event, kind=type(error).__name__, where=where, **facts)

    def adopt(self, name: str) -> None:
        """What a library says through `logging` becomes our lines."""
        logger = logging.getLogger(name)
        logger.handlers = [_Into(self)]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


class _Into(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._ours = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._ours.failure(record.name, record.exc_info[1])
        else:
            self._ours.warning(record.name, message=record.getMessage())
