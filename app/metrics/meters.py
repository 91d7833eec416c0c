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

_SECONDS: Final = (
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
    14400.0,
)  # fmt: skip
"""Buckets in seconds, from a cache hit to a large layer on a slow line."""
_FIRST: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """The metrics of this process; `collect` and `format_exposition` give those of all workers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._own = own = CollectorRegistry()
        with multiprocess.merge_dead_workers() if SHARED else contextlib.nullcontext():
            self._create_metrics(own)

    def _create_metrics(self, own: CollectorRegistry) -> None:
        """Create the metrics, and so the files that prometheus_client keeps for each kind."""
        self.requests = Counter(
            "docxy_requests_total", "Requests of clients that are over.",
            ["route", "method", "status", "registry"], registry=own,
        )  # fmt: skip
        self.refusals = Counter(
            "docxy_refusals_total", "Requests that were refused here, by rule or by what else did.",
            ["rule"], registry=own,
        )  # fmt: skip
        self.first_byte_seconds = Histogram(
            "docxy_request_first_byte_seconds", "Seconds until there was a first byte to send.",
            ["route", "registry"], buckets=_FIRST, registry=own,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "docxy_request_seconds", "Seconds until a request was over.",
            ["route", "registry"], buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.sent_bytes = Counter(
            "docxy_sent_bytes_total", "Bytes of bodies that went to clients.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.received_bytes = Counter(
            "docxy_received_bytes_total", "Bytes of bodies that came from upstreams.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.upstream_requests = Counter(
            "docxy_upstream_requests_total",
            "Requests to a registry, its token service or its CDN.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.upstream_answers = Counter(
            "docxy_upstream_answers_total", "Their answers, by the class of their status.",
            ["registry", "status"], registry=own,
        )  # fmt: skip
        self.upstream_answer_seconds = Histogram(
            "docxy_upstream_answer_seconds", "Seconds until the head of an upstream's answer.",
            ["registry"], buckets=_FIRST, registry=own,
        )  # fmt: skip
        self.upstream_errors = Counter(
            "docxy_upstream_errors_total", "Requests to upstreams that had no answer, by kind.",
            ["registry", "kind"], registry=own,
        )  # fmt: skip
        self.retries = Counter(
            "docxy_upstream_retries_total", "Requests to upstreams that were repeated.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.resumes = Counter(
            "docxy_upstream_resumes_total", "Bodies that broke and went on.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.token_answers = Counter(
            "docxy_token_requests_total",
            "Answers of token services, by the class of their status.",
            ["registry", "status"], registry=own,
        )  # fmt: skip
        self.cache_answers = Counter(
            "docxy_cache_answers_total",
            "Answers by what the cache did: hit, revalidated, joined, stale or miss.",
            ["registry", "result"], registry=own,
        )  # fmt: skip
        self.cache_bytes = Counter(
            "docxy_cache_served_bytes_total",
            "Bytes of bodies by what the cache did; all but those of misses are saved.",
            ["registry", "result"], registry=own,
        )  # fmt: skip
        self.evictions = Counter(
            "docxy_cache_evictions_total", "Entries that were evicted.", registry=own
        )
        self.cache_errors = Counter(
            "docxy_cache_errors_total", "Errors of the cache: what could not be kept or found.",
            ["error"], registry=own,
        )  # fmt: skip
        self.pulls_spent = Counter(
            "docxy_pulls_spent_total",
            "GETs of manifests that a registry answered: pulls, to Docker Hub.",
            ["registry"], registry=own,
        )  # fmt: skip
        self.pulls_saved = Counter(
            "docxy_pulls_saved_total", "GETs of manifests that the cache answered instead.",
            ["registry"], registry=own,
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

    def format_exposition(self, more: Iterable[Metric]) -> bytes:
        """Return the collected metrics and the gauges in `more` in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(_CollectedMetrics([*self.collect(), *more]))
        return generate_latest(registry)


class _CollectedMetrics(Collector):
    """A collector of metrics that have been collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
