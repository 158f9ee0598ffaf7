"""Counters and gauges for Prometheus. Each worker counts in its own dictionary and writes a copy into shared memory once a second, with its gauges; whoever is
asked adds them up, or takes the worst. Nothing is looked up for the question.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..authority.health import FAIL, OK, WARN
from ..protocols.message import Answer, Call

#: Bytes of one worker's copy.
AREA = 256 * 1024
_HEAD = struct.Struct("<II")

Labels = tuple[str, ...]

#: Counters by name: what they count, and their labels.
COUNTERS: dict[str, tuple[str, Labels]] = {
    "gatekey_requests": ("Requests answered", ("listener", "route", "status")),
    "gatekey_refused_connections": ("Connections closed for being slow, too large or too many", ("listener", "why")),
    "gatekey_ocsp_answers": ("OCSP answers by how they came about", ("how",)),
    "gatekey_decisions": ("Decisions of the decision endpoint: let-in, or why not", ("why",)),
    "gatekey_log_failures": ("Failures that the log tells of, and those beyond what it writes in a second", ("event",)),
    "gatekey_job_runs": ("Runs of what comes round by itself: done or failed", ("name", "outcome")),
}
#: Gauges by name. Of several workers the largest value counts: for a check that of the worker where it stands worst.
GAUGES: dict[str, tuple[str, Labels]] = {
    "gatekey_check": ("The checks of /readyz: 1 for the state that one is in (ok, warn or fail), 0 for the others", ("name", "state")),
    "gatekey_crl_next_update_seconds": ("When the newest CRL of an authority runs out (POSIX seconds)", ("authority",)),
    "gatekey_newest_revocation_seconds": ("When the newest revocation was (POSIX seconds); 0 when there is none", ()),
    "gatekey_workers": ("Workers whose housekeeping was at work within the last half minute", ()),
}
#: States of a check in the order of their rank.
STATES = (OK, WARN, FAIL)
#: A copy that is older than this is that of a worker that is gone or hangs (seconds); its counts stay.
STALE = 30

Levels = dict[tuple[str, ...], float]


class _Copy(NamedTuple):
    """What a worker left for the others, and when (monotonic seconds, the same for all processes; 0: it has ended)."""

    counts: Counter[tuple[str, ...]]
    levels: Levels
    at: float


class Meter:
    """`counts` is (counter, *labels) -> number and may be added to by anybody.

    `levels` answers with the gauges, (gauge, *labels) -> number, from memory; a check as the rank of its state.
    """

    def __init__(self, memory: mmap.mmap, place: int, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._place = place
        self._places = places
        self._clock = clock
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.levels: Callable[[], Levels] = dict
        self.counts.update(self._read(place).counts)

    @staticmethod
    def declare(name: str, about: str, labels: Labels) -> None:
        """A counter of another room."""
        COUNTERS[name] = (about, labels)

    def write(self) -> None:
        """Leaves a copy for the others, and for whoever takes this place when this process is gone."""
        self._leave(self.levels(), self._clock())

    def end(self) -> None:
        """The last copy: the counts stay, and how this worker stood is nobody's business any more."""
        self._leave({}, 0)

    def _leave(self, levels: Levels, at: float) -> None:
        rows = ([[*key, number] for key, number in list(numbers.items())] for numbers in (self.counts, levels))
        data = json.dumps([*rows, at], separators=(",", ":")).encode()
        if len(data) > AREA - _HEAD.size:
            return
        start = self._place * AREA
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, len(data), zlib.crc32(data))

    def _read(self, place: int) -> _Copy:
        """A worker's copy; nothing when it is being written this instant."""
        start = place * AREA
        for _ in range(3):
            size, check = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + min(size, AREA)]
            if size and zlib.crc32(data) == check:
                counts, levels, at = json.loads(data)
                return _Copy(Counter({tuple(row[:-1]): row[-1] for row in counts}), {tuple(row[:-1]): row[-1] for row in levels}, at)
        return _Copy(Counter(), {}, 0)

    def total(self) -> tuple[Counter[tuple[str, ...]], Levels]:
        """All workers' counts together, and the largest of each gauge; this worker's own are of this moment."""
        counts, levels, workers = Counter(self.counts), self.levels(), 0
        now = self._clock()
        for place in range(self._places):
            copy = self._read(place)
            alive = copy.at > now - STALE
            workers += alive
            if place != self._place:
                counts.update(copy.counts)
                for key, value in copy.levels.items() if alive else ():
                    levels[key] = max(value, levels.get(key, value))
        return counts, levels | {("gatekey_workers",): workers}

    def answer(self, _: Call) -> Answer:
        """What Prometheus reads."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self))
        return Answer(200, (("content-type", CONTENT_TYPE_LATEST), ("cache-control", "no-store")), generate_latest(registry))


class _Collector:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts, levels = self._meter.total()
        for name, (about, labels) in COUNTERS.items():
            counter = CounterMetricFamily(name, about, labels=labels)
            for key, count in sorted(counts.items()):
                if key[0] == name:
                    counter.add_metric(list(key[1:]), count)
            yield counter
        for name, (about, labels) in GAUGES.items():
            gauge = GaugeMetricFamily(name, about, labels=labels)
            for key, value in sorted(levels.items()):
                if key[0] == "gatekey_check" == name:
                    for rank, state in enumerate(STATES):
                        gauge.add_metric([key[1], state], rank == value)
                elif key[0] == name:
                    gauge.add_metric(list(key[1:]), value)
            yield gauge
