"""Counters for Prometheus. Each worker counts in its own dictionary and writes a copy into shared memory once a second; whoever is asked adds them up."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

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
    "gatekey_log_failures": ("Failures written to the log", ("event",)),
}


class Meter:
    """`counts` is (counter, *labels) -> number and may be added to by anybody; `gauges` are asked when somebody looks."""

    def __init__(self, memory: mmap.mmap, place: int, places: int) -> None:
        self._memory = memory
        self._place = place
        self._places = places
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.counts.update(self._read(place))

    @staticmethod
    def declare(name: str, about: str, labels: Labels) -> None:
        """A counter of another room."""
        COUNTERS[name] = (about, labels)

    def write(self) -> None:
        """Leaves a copy for the others, and for whoever takes this place when this process is gone."""
        data = json.dumps([[*key, count] for key, count in list(self.counts.items())], separators=(",", ":")).encode()
        if len(data) > AREA - _HEAD.size:
            return
        start = self._place * AREA
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, len(data), zlib.crc32(data))

    def _read(self, place: int) -> Counter[tuple[str, ...]]:
        """A worker's copy; nothing when it is being written this instant."""
        start = place * AREA
        for _ in range(3):
            size, check = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + min(size, AREA)]
            if size and zlib.crc32(data) == check:
                return Counter({tuple(row[:-1]): row[-1] for row in json.loads(data)})
        return Counter()

    def total(self) -> Counter[tuple[str, ...]]:
        """All workers' counts together."""
        found = Counter(self.counts)
        for place in range(self._places):
            if place != self._place:
                found.update(self._read(place))
        return found

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

        total = self._meter.total()
        for name, (about, labels) in COUNTERS.items():
            family = CounterMetricFamily(name, about, labels=labels)
            for key, count in sorted(total.items()):
                if key[0] == name:
                    family.add_metric(list(key[1:]), count)
            yield family
        for name, (about, ask) in self._meter.gauges.items():
            yield GaugeMetricFamily(name, about, value=ask())
