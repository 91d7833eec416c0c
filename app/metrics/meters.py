"""The declarations of all metrics. Each label has few values, so that there are few series."""

import contextlib
from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.metrics import multiprocess
from app.metrics.multiprocess import SHARED

_DURATION_BUCKETS: Final = (
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    14400.0,
)  # fmt: skip
"""Buckets in seconds, from a cache hit to a large layer on a slow line."""
_FIRST_BYTE_BUCKETS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """The metrics of this process; `collect` and `format_exposition` give those of all workers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._own = registry = CollectorRegistry()
        with multiprocess.merge_dead_workers() if SHARED else contextlib.nullcontext():
            self._create_metrics(registry)

    def _create_metrics(self, registry: CollectorRegistry) -> None:
        """Create the metrics, and so the files that prometheus_client keeps for each kind."""
        self.requests = Counter(
            "docxy_requests_total", "Requests of clients that have ended.",
            ["route", "method", "status", "registry"], registry=registry,
        )  # fmt: skip
        self.refusals = Counter(
            "docxy_refusals_total", "Requests that this proxy refused, by what refused them.",
            ["rule"], registry=registry,
        )  # fmt: skip
        self.first_byte_seconds = Histogram(
            "docxy_time_to_first_byte_seconds",
            "Seconds from a request to the first byte of its response.",
            ["route", "registry"], buckets=_FIRST_BYTE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "docxy_request_duration_seconds", "Seconds from a request to the end of its response.",
            ["route", "registry"], buckets=_DURATION_BUCKETS, registry=registry,
        )  # fmt: skip
        self.sent_bytes = Counter(
            "docxy_response_bytes_total", "Bytes of response bodies sent to clients.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.received_bytes = Counter(
            "docxy_upstream_response_bytes_total",
            "Bytes of response bodies received from upstreams.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.upstream_requests = Counter(
            "docxy_upstream_requests_total",
            "Requests sent to a registry, its token service or its CDN.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.upstream_answers = Counter(
            "docxy_upstream_responses_total", "Responses of upstreams, by class of status.",
            ["registry", "status"], registry=registry,
        )  # fmt: skip
        self.upstream_answer_seconds = Histogram(
            "docxy_upstream_response_header_seconds",
            "Seconds until the headers of an upstream's response.",
            ["registry"], buckets=_FIRST_BYTE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.upstream_errors = Counter(
            "docxy_upstream_errors_total", "Requests to upstreams without a response, by error.",
            ["registry", "error"], registry=registry,
        )  # fmt: skip
        self.retries = Counter(
            "docxy_upstream_retries_total", "Requests to upstreams that were retried.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.resumes = Counter(
            "docxy_upstream_resumes_total", "Broken response bodies that were resumed.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.token_answers = Counter(
            "docxy_upstream_token_responses_total",
            "Responses of token services, by class of status.",
            ["registry", "status"], registry=registry,
        )  # fmt: skip
        self.cache_answers = Counter(
            "docxy_cache_responses_total",
            "Responses by cache result: hit, revalidated, collapsed, stale or miss.",
            ["registry", "result"], registry=registry,
        )  # fmt: skip
        self.cache_bytes = Counter(
            "docxy_cache_response_bytes_total",
            "Bytes of response bodies by cache result; all but misses are saved traffic.",
            ["registry", "result"], registry=registry,
        )  # fmt: skip
        self.fetch_connections = Counter(
            "docxy_cache_fetch_connections_total",
            "Connections over which the cache fetched blobs, by how they ended: complete, "
            "dismissed, stalled, refused, ignored or failed.",
            ["registry", "outcome"], registry=registry,
        )  # fmt: skip
        self.fetch_bytes = Counter(
            "docxy_cache_fetch_bytes_total",
            "Bytes of blobs that the cache fetched, over the first connection of a fetch and over "
            "those that were added.",
            ["registry", "connection"], registry=registry,
        )  # fmt: skip
        self.head_starts = Counter(
            "docxy_cache_head_starts_total",
            "Images whose layers the cache began to fetch before a client asked for them, by "
            "whether one did: used or wasted.",
            ["registry", "result"], registry=registry,
        )  # fmt: skip
        self.evictions = Counter(
            "docxy_cache_evictions_total", "Entries evicted from the cache.", registry=registry
        )
        self.cache_errors = Counter(
            "docxy_cache_errors_total", "Failed reads and writes of the cache, by error.",
            ["error"], registry=registry,
        )  # fmt: skip
        self.pulls_spent = Counter(
            "docxy_pulls_spent_total",
            "GETs of manifests that a registry answered; Docker Hub counts them as pulls.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.pulls_saved = Counter(
            "docxy_pulls_saved_total", "GETs of manifests that the cache answered.",
            ["registry"], registry=registry,
        )  # fmt: skip
        self.request_seconds.labels("other", "")

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all workers, including those that have ended.

        If the workers share no files, return those of this process alone.
        """
        if not SHARED:
            return self._own.collect()
        with multiprocess.hold_shared_lock():
            return list(MultiProcessCollector(None).collect())  # type: ignore[no-untyped-call]

    def format_exposition(self, gauges: Iterable[Metric]) -> bytes:
        """Return the collected metrics and the gauges in `gauges` in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(_CollectedMetrics([*self.collect(), *gauges]))
        return generate_latest(registry)


class _CollectedMetrics(Collector):
    """A collector of metrics that have been collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
