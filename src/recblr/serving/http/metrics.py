"""Counters and histograms of all workers, in memory that they share.

Each worker adds to a row of its own, so no lock is needed, and whichever worker is asked sums up all rows.  A
worker that takes the place of a dead one goes on with its row, so no counter falls.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np
from prometheus_client import generate_latest
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
_BINS = len(SECONDS) + 1

HISTOGRAMS = {
    "recblr_request_seconds": "From the head of a request to its answer.",
    "recblr_commit_seconds": "From the start of a group commit until it is durable.",
}
COUNTERS = {
    "recblr_requests": ("Requests that were answered.", ("route", "status")),
    "recblr_events": ("Events that were acknowledged.", ("result",)),
    "recblr_model_loads": ("Loads of a new model file.", ("result",)),
}
GAUGES = {
    "recblr_users_in_memory": "Users whose state a worker holds, of all workers.",
    "recblr_requests_in_progress": "Requests that wait for their answer, of all workers.",
    "recblr_events_left_out": "Events that a worker left out because the model lacks their items; the largest"
    " number of a worker.",
}
_MOST = ("recblr_events_left_out",)  # the largest number of a worker counts, not the sum


class Metrics(Collector):
    """The figures of the server, for Prometheus.  One thread of each worker adds to them.

    routes, statuses: all that may be counted.
    workers: their number; made before they are forked.
    """

    def __init__(self, routes: tuple[str, ...], statuses: tuple[int, ...], workers: int = 1) -> None:
        series: list[tuple[str, ...]] = [
            *(("recblr_requests", route, str(status)) for route in routes for status in statuses),
            *(("recblr_events", result) for result in ("accepted", "duplicate")),
            *(("recblr_model_loads", result) for result in ("loaded", "refused")),
            *((name,) for name in GAUGES),
        ]
        self._histograms = {
            labels: place * (_BINS + 1)
            for place, labels in enumerate(
                [*(("recblr_request_seconds", route) for route in routes), ("recblr_commit_seconds",)]
            )
        }
        start = len(self._histograms) * (_BINS + 1)
        self._places = {labels: start + place for place, labels in enumerate(series)}
        # The pages of an anonymous map are shared with the processes that are forked.
        memory = mmap.mmap(-1, max(1, 8 * workers * (start + len(series))))
        self._rows = np.frombuffer(memory, np.float64).reshape(workers, -1)
        self.use_row(0)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def use_row(self, worker: int) -> None:
        """From now on, this process is the worker with this number."""
        # Faster than an array for single numbers.
        self._row: Any = memoryview(self._rows[worker])
        for name in GAUGES:
            self.set(name, 0)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._row[self._places["recblr_requests", route, str(status)]] += 1
        self._observe(("recblr_request_seconds", route), seconds)

    def committed(self, accepted: int, duplicates: int, seconds: float) -> None:
        """Count a group commit."""
        self._row[self._places["recblr_events", "accepted"]] += accepted
        self._row[self._places["recblr_events", "duplicate"]] += duplicates
        self._observe(("recblr_commit_seconds",), seconds)

    def model_loaded(self, result: str) -> None:
        """Count a load of a model: "loaded" or "refused"."""
        self._row[self._places["recblr_model_loads", result]] += 1

    def set(self, gauge: str, value: float) -> None:
        self._row[self._places[(gauge,)]] = value

    def add(self, gauge: str, value: float) -> None:
        self._row[self._places[(gauge,)]] += value

    def _observe(self, labels: tuple[str, ...], seconds: float) -> None:
        start = self._histograms[labels]
        self._row[start + bisect_left(SECONDS, seconds)] += 1
        self._row[start + _BINS] += seconds

    def page(self) -> bytes:
        """All figures in the text format of Prometheus."""
        text: bytes = generate_latest(self._registry)
        return text

    def collect(self) -> Iterator[Metric]:
        total, most = self._rows.sum(axis=0), self._rows.max(axis=0)
        for name, about in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(
                name, about, labels=["route"] if name == "recblr_request_seconds" else []
            )
            for (of, *labels), start in self._histograms.items():
                counts = np.cumsum(total[start : start + _BINS])
                if of == name and (counts[-1] or not labels):
                    bounds = [*map(str, SECONDS), "+Inf"]
                    buckets = list(zip(bounds, counts.tolist(), strict=True))
                    histogram.add_metric(labels, buckets, float(total[start + _BINS]))
            yield histogram
        for name, (about, names) in COUNTERS.items():
            counter = CounterMetricFamily(name, about, labels=names)
            for (of, *labels), place in self._places.items():
                if of == name and (total[place] or name != "recblr_requests"):
                    counter.add_metric(labels, float(total[place]))
            yield counter
        for name, about in GAUGES.items():
            place = self._places[(name,)]
            yield GaugeMetricFamily(name, about, value=float((most if name in _MOST else total)[place]))
