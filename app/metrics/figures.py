"""The metrics of all workers together, as text for Prometheus and as figures for the page.

`Metrics` at the end is what each process creates: one slot on the board and one set of meters.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from app.background import BackgroundPool
from app.events import LOW, Budget, Event, Observer, Watcher
from app.metrics import board, counting
from app.metrics.board import Row, WorkerSlot
from app.metrics.counting import EventCounter, RequestCounter
from app.metrics.meters import Meters
from app.oci.errors import RegistryError
from app.source import MonitoredCache, Source

_SERIES_SECONDS: Final = 120
_MAX_DOWNLOADS: Final = 100
_CONTACT_TTL: Final = 60.0
"""Seconds for which a registry's last answer or failure is current; after that it is probed."""

_PROBES: Final = 4
"""Registries that are probed at the same time; a silent one takes some seconds."""

_BREAKER_TTL: Final = 600.0
"""Seconds for which an open circuit breaker counts after the last failure.

As long as clients ask for the host, a request probes it every 3 s at the latest.
"""

_SERIES_BY_TOTAL: Final = {
    "requests": "docxy_requests_total",
    "bytes_sent": "docxy_response_bytes_total",
    "bytes_received": "docxy_upstream_response_bytes_total",
    "retries": "docxy_upstream_retries_total",
    "resumes": "docxy_upstream_resumes_total",
    "pulls_spent": "docxy_pulls_spent_total",
    "pulls_saved": "docxy_pulls_saved_total",
}
_KEYS_BY_RESULT: Final = {
    "hit": "hits", "miss": "misses", "stale": "stale", "collapsed": "collapsed",
    "revalidated": "revalidated",
}  # fmt: skip


class Figures:
    """Reads the counts of all workers, and their rows on the board."""

    def __init__(
        self,
        meters: Meters,
        sources: Mapping[str, Source],
        default: str,
        cache: MonitoredCache | None,
    ) -> None:
        self._meters = meters
        self._sources = sources
        self._default = default
        self._cache_holder = cache
        self._background = BackgroundPool("figures probe", threads=_PROBES, capacity=len(sources))
        self._probing: set[str] = set()

    def format_exposition(self) -> bytes:
        """Return all series of all workers in the text format of Prometheus."""
        return self._meters.format_exposition(self._iter_gauges())

    def build_summary(self) -> dict[str, Any]:
        """Return the figures of the page, as values for JSON; times are wall-clock seconds.

        If a registry has neither answered nor failed for 60 s, also probe it in the background.
        """
        now = time.time()
        rows = _group_by_kind(board.iter_rows())
        sums = _sum_series(self._meters.collect())
        last_second = int(now) - 1
        return {
            "time": now,
            "registries": [self._build_registry(name, rows, now) for name in self._sources],
            "series": {"until": last_second, **board.sum_seconds(last_second, _SERIES_SECONDS)},
            "totals": {
                name: sum(sums[series].values()) for name, series in _SERIES_BY_TOTAL.items()
            },
            "cache": self._build_cache(sums, rows),
            "downloads": [_build_download(row, now) for row in rows[counting.DOWNLOAD]][
                :_MAX_DOWNLOADS
            ],
        }

    def _build_registry(
        self, name: str, rows: Mapping[str, list[Row]], now: float
    ) -> dict[str, Any]:
        own_rows = [row for row in rows[counting.REGISTRY] if row.labels.get("registry") == name]
        last_answer = max((row.numbers[counting.ANSWERED] for row in own_rows), default=0.0)
        last_failure = max((row.numbers[counting.FAILED] for row in own_rows), default=0.0)
        last_contact = max(last_answer, last_failure)
        if now - last_contact > _CONTACT_TTL:
            self._probe(name)
        budgets = (row for row in rows[counting.BUDGET] if row.labels.get("registry") == name)
        return {
            "name": name,
            "default": name == self._default,
            "reachable": last_answer >= last_failure if last_contact else None,
            "seconds_ago": round(now - last_contact, 1) if last_contact else None,
            "circuit_open": _count_open_breakers(own_rows) > 0,
            "rate_limits": [_build_budget(row, now) for row in _select_latest(budgets)],
        }

    def _probe(self, name: str) -> None:
        """Probe a registry in a background thread, unless a probe of it is running already."""
        if name in self._probing:
            return
        self._probing.add(name)

        def reach_registry() -> None:
            try:
                with suppress(RegistryError):  # the source reports its failures to its observer
                    self._sources[name].reach()
            finally:
                self._probing.discard(name)

        if not self._background.submit(reach_registry):
            self._probing.discard(name)

    def _build_cache(
        self, sums: Mapping[str, Mapping[str, float]], rows: Mapping[str, list[Row]]
    ) -> dict[str, Any] | None:
        if self._cache_holder is None:
            return None
        (entries, size), state = self._cache_holder.measure_usage(), self._cache_holder.read_state()
        bytes_by_result = sums["docxy_cache_response_bytes_total"]
        answers = sums["docxy_cache_responses_total"]
        return {
            "size": size,
            "max_size": state.max_size,
            "free": state.free,
            "min_free": state.min_free,
            "error": state.fault,
            "entries": entries,
            **{key: answers.get(result, 0.0) for result, key in _KEYS_BY_RESULT.items()},
            "bytes_served": sum(bytes_by_result.values()),
            "bytes_saved": sum(
                count for result, count in bytes_by_result.items() if result != "miss"
            ),
            "evictions": sum(sums["docxy_cache_evictions_total"].values()),
            "fetch_connections": sum(row.numbers[0] for row in rows[counting.FETCHES]),
        }

    def _iter_gauges(self) -> Iterator[Metric]:
        rows = _group_by_kind(board.iter_rows())
        labels = ["registry"]
        active_downloads = GaugeMetricFamily(
            "docxy_active_downloads", "Response bodies being sent to clients.", labels=labels
        )
        open_circuits = GaugeMetricFamily(
            "docxy_upstream_circuits_open",
            "Open circuit breakers, one per host, summed over the workers.",
            labels=labels,
        )  # fmt: skip
        fetch_connections = GaugeMetricFamily(
            "docxy_cache_fetch_connections",
            "Connections over which the cache is fetching blobs.",
            labels=labels,
        )
        for name in self._sources:
            fetch_connections.add_metric([name], _count_fetches(rows[counting.FETCHES], name))
            download_rows = [
                row for row in rows[counting.DOWNLOADS] if row.labels.get("registry") == name
            ]
            active_downloads.add_metric([name], sum(row.numbers[0] for row in download_rows))
            registry_rows = [
                row for row in rows[counting.REGISTRY] if row.labels.get("registry") == name
            ]
            open_circuits.add_metric([name], _count_open_breakers(registry_rows))
        yield active_downloads
        yield open_circuits
        yield fetch_connections
        yield from _iter_budget_gauges(rows[counting.BUDGET])
        if self._cache_holder is not None:
            yield from _iter_cache_gauges(self._cache_holder)


def _group_by_kind(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    rows_by_kind = defaultdict[str, list[Row]](list)
    for row in rows:
        rows_by_kind[row.kind].append(row)
    return rows_by_kind


def _sum_series(metrics: Iterable[Metric]) -> Mapping[str, Mapping[str, float]]:
    """Return the sum of each series over all labels except `result`, by series and `result`.

    A series without that label has the result "". Samples with an empty `registry` do not count.
    """
    sums = defaultdict[str, dict[str, float]](dict)
    for metric in metrics:
        for sample in metric.samples:
            result = sample.labels.get("result", "")
            if sample.labels.get("registry") == "":
                continue  # the page leaves out its own requests
            total = sums[sample.name].get(result, 0.0)
            sums[sample.name][result] = total + sample.value
    return sums


def _count_open_breakers(rows: Iterable[Row]) -> float:
    """Return how many hosts have an open circuit breaker, summed over the workers.

    Rows without a failure in the last 600 s do not count: the state of a host that no client asks
    for is unknown.
    """
    since = time.time() - _BREAKER_TTL
    return sum(row.numbers[counting.OPEN] for row in rows if row.numbers[counting.FAILED] > since)


def _count_fetches(rows: Iterable[Row], registry: str) -> float:
    return sum(row.numbers[0] for row in rows if row.labels.get("registry") == registry)


def _select_latest(rows: Iterable[Row]) -> list[Row]:
    """Return the latest row of each identity from any worker, if it is within its window."""
    now = time.time()
    latest = dict[tuple[str, str], Row]()
    for row in rows:
        if now - row.numbers[counting.TOLD] > float(row.labels.get("window") or 0):
            continue  # the window is over, so the registry allows those pulls again
        key = (str(row.labels.get("registry")), str(row.labels.get("identity")))
        previous = latest.get(key)
        if previous is None or previous.numbers[counting.TOLD] < row.numbers[counting.TOLD]:
            latest[key] = row
    return list(latest.values())


def _build_budget(row: Row, now: float) -> dict[str, Any]:
    remaining, limit, reported_at = row.numbers
    identity = str(row.labels.get("identity"))
    return {
        "identity": identity,
        "kind": identity.partition("-")[0],
        "limit": int(limit),
        "remaining": int(remaining),
        "window": row.labels.get("window"),
        "seconds_ago": round(now - reported_at, 1),
        "low": remaining < limit * LOW,
    }


def _iter_budget_gauges(rows: Iterable[Row]) -> Iterator[Metric]:
    families = [
        GaugeMetricFamily(f"docxy_pulls_{name}", text, labels=["registry", "identity"])
        for name, text in (
            ("remaining", "Pulls that an identity has left, as the registry last reported."),
            ("limit", "Pulls that an identity may make in a window."),
            ("window_seconds", "Length of that window in seconds."),
        )
    ]
    for row in _select_latest(rows):
        labels = [str(row.labels.get("registry")), str(row.labels.get("identity"))]
        remaining, limit, _ = row.numbers
        window = float(row.labels.get("window") or 0)
        for family, value in zip(families, (remaining, limit, window), strict=True):
            family.add_metric(labels, value)
    yield from families


def _iter_cache_gauges(holder: MonitoredCache) -> Iterator[Metric]:
    """Yield the gauges of the cache, which are the same in every worker of the machine."""
    (entries, size), state = holder.measure_usage(), holder.read_state()
    gauges = [
        ("entries", "Entries in the cache.", entries),
        ("size_bytes", "Bytes of cached content.", size),
        (
            "unfinished_bytes",
            "Bytes of downloads that are running or were interrupted.",
            state.unfinished,
        ),
        ("free_bytes", "Free bytes on the disk of the cache.", state.free),
        ("min_free_bytes", "Bytes of the disk that must stay free.", state.min_free),
        ("writable", "1 if the cache can store content, or else 0.", int(not state.fault)),
    ]
    if state.max_size is not None:
        gauges.append(("max_size_bytes", "Maximum size of the cache in bytes.", state.max_size))
    for name, documentation, value in gauges:
        yield GaugeMetricFamily(f"docxy_cache_{name}", documentation, value)


def _build_download(row: Row, now: float) -> dict[str, Any]:
    sent, total, started_at = row.numbers
    return {
        **row.labels,
        "bytes": int(sent),
        "total": None if total < 0 else int(total),
        "started_at": started_at,
        "seconds": round(now - started_at, 1),
    }


# The metrics that each process creates to count its own events.


class Metrics:
    """The metrics of this process: one slot on the board and one set of meters.

    It builds the observers of registries, and itself observes the events that belong to none.
    """

    def __init__(self) -> None:
        self._meters = Meters()
        self._slot = WorkerSlot()
        self._request_counter = RequestCounter(self._meters, self._slot)
        self.watcher: Watcher = self._request_counter

    def build_observer(self, registry: str) -> Observer:
        """Return an observer that counts the events of one registry's source."""
        self._request_counter.reserve_row(registry)
        return EventCounter(registry, self._meters, self._slot)

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Count evictions and errors of the cache; ignore all other events."""
        if event is Event.EVICTED:
            self._meters.evictions.inc(amount)
        elif event is Event.CACHE_FAILED:
            self._meters.cache_errors.labels(about).inc(amount)

    def record_budget(self, budget: Budget) -> None:
        """Ignore a budget: only the observer of a registry shows pulls."""

    def build_figures(
        self,
        sources: Mapping[str, Source],
        default: str,
        cache: MonitoredCache | None,
    ) -> Figures:
        """Return the reader of all workers' metrics; `cache` is `None` if there is no cache."""
        return Figures(self._meters, sources, default, cache)
