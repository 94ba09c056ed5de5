"""Counters of the gateway and of the daemon, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from sandboxd.protocol.errors import RequestError
from sandboxd_rest.http import Refusal, Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from sandboxd_rest.link import Link

_CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
# Seconds. A job takes from half a millisecond to its limit of some seconds.
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Whatever becomes of labels, memory is bounded.
_MAX_SERIES: Final = 10_000


class Histogram:
    """Times in seconds, counted by bucket."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        found, sum_ = [], 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self.counts, strict=True):
            sum_ += count
            found.append((bound, float(sum_)))
        return found


class HttpCounts:
    """Requests, and the stages of jobs that they ran."""

    def __init__(self) -> None:
        self.running = 0
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.seconds: dict[tuple[str, str], Histogram] = {}
        self.stages: dict[tuple[str, str, str], Histogram] = {}

    def add(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        if method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"):
            method = "other"
        self.requests[method, path, str(status)] += 1
        _of(self.seconds, (method, path)).add(seconds)

    def add_stage(self, runtime: str, stage: str, status: str, seconds: float) -> None:
        """Count a stage that ended."""
        _of(self.stages, (runtime, stage, status)).add(seconds)


def _of(histograms: dict[Any, Histogram], key: tuple[str, ...]) -> Histogram:
    found = histograms.get(key)
    if found is None:
        if len(histograms) >= _MAX_SERIES:
            key = tuple("other" for _ in key)
        found = histograms.setdefault(key, Histogram())
    return found


class _Collector:
    """What one scrape sees."""

    def __init__(self, counts: HttpCounts, stats: Mapping[str, Any] | None) -> None:
        self._counts = counts
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        yield from self._of_http()
        yield GaugeMetricFamily(
            "sandboxd_up", "1 when the daemon answers.", float(self._stats is not None)
        )
        if self._stats is not None:
            yield from _of_daemon(self._stats)

    def _of_http(self) -> Iterator[Metric]:
        counts = self._counts
        requests = CounterMetricFamily(
            "sandboxd_rest_requests",
            "Requests answered; 499: the client went away.",
            labels=("method", "path", "status"),
        )
        for labels, number in counts.requests.items():
            requests.add_metric(labels, number)
        yield requests
        yield GaugeMetricFamily(
            "sandboxd_rest_requests_running", "Requests not answered yet.", counts.running
        )
        seconds = HistogramMetricFamily(
            "sandboxd_rest_request_seconds", "Time to the answer.", labels=("method", "path")
        )
        for pair, histogram in counts.seconds.items():
            seconds.add_metric(pair, histogram.buckets(), histogram.total)
        yield seconds
        stages = HistogramMetricFamily(
            "sandboxd_stage_seconds",
            "Wall time of the stages that this gateway asked for.",
            labels=("runtime", "stage", "status"),
        )
        for labels, histogram in counts.stages.items():
            stages.add_metric(labels, histogram.buckets(), histogram.total)
        yield stages


def _of_daemon(stats: Mapping[str, Any]) -> Iterator[Metric]:
    jobs = CounterMetricFamily("sandboxd_jobs", "Jobs ended, by status.", labels=("status",))
    for status, number in stats["jobs"].items():
        jobs.add_metric((str(status),), number)
    yield jobs
    slots = dict(stats["slots"])
    states = GaugeMetricFamily("sandboxd_slots", "Sandboxes, by state.", labels=("state",))
    for state in ("ready", "running", "preparing", "held", "lost"):
        if state in slots:
            states.add_metric((state,), slots[state])
    yield states
    for name in ("made", "recycled", "retired"):
        if f"slots_{name}" in slots:
            yield CounterMetricFamily(
                f"sandboxd_slots_{name}", f"Sandboxes {name}.", slots[f"slots_{name}"]
            )
    queue = GaugeMetricFamily("sandboxd_queue_jobs", "Jobs in the queue.", labels=("state",))
    for state in ("running", "waiting"):
        queue.add_metric((state,), stats["queue"][state])
    yield queue
    yield GaugeMetricFamily(
        "sandboxd_queue_capacity", "Jobs that can wait.", stats["queue"]["capacity"]
    )
    yield GaugeMetricFamily("sandboxd_connections", "Clients.", stats["connections"])
    yield GaugeMetricFamily("sandboxd_uptime_seconds", "Of the daemon.", stats["uptime_ns"] / 1e9)


async def render(counts: HttpCounts, link: Link) -> Response:
    """The text that Prometheus scrapes; a daemon that is down shows as sandboxd_up 0."""
    try:
        stats = await link.call(lambda client: client.stats())
    except (Refusal, RequestError):
        stats = None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(counts, stats))
    return Response(generate_latest(registry), content_type=_CONTENT_TYPE)
