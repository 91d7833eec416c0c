"""What a registry's source tells becomes figures."""

import time
from collections.abc import Callable, Iterator

import pytest

from app import shared_memory
from app.events import Budget, Event, Exchange
from app.metrics import board, counting
from app.metrics.figures import Figures, Metrics
from app.oci.errors import UpstreamUnreachable
from app.source import CacheState, Source
from tests.servers import wait_until
from tests.unit.fake_source import FakeSource

HUB = "docker.io"


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Return counts of nothing yet."""
    yield Metrics()
    shared_memory.BOARD[: shared_memory.SLOT_SIZE] = bytes(shared_memory.SLOT_SIZE)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what lets time pass."""
    began, passed = time.time(), [0.0]

    def pass_by(seconds: float) -> None:
        passed[0] += seconds
        monkeypatch.setattr(time, "time", lambda: began + passed[0])

    return pass_by


class Kept:
    """A cache that has some room left, and not enough."""

    def measure_usage(self) -> tuple[int, int]:
        """Return what it has."""
        return 3, 4096

    def read_state(self) -> CacheState:
        """Return how it is."""
        return CacheState(fault="min_free", free=10, min_free=20, max_size=30, unfinished=40)


def figures(metrics: Metrics, source: Source | None = None) -> Figures:
    """Return what tells them."""
    return metrics.build_figures({HUB: source or FakeSource()}, HUB, Kept())


def told(metrics: Metrics) -> list[str]:
    """Return the lines that are scraped."""
    return figures(metrics).format_exposition().decode().splitlines()


def budget(identity: str, remaining: int = 7) -> Budget:
    """Return what somebody has left."""
    return Budget(identity=identity, limit=100, remaining=remaining, window=60)


def test_refusals_are_counted_by_what_refused(metrics: Metrics) -> None:
    """Each rule by its number; what was not refused is not among them."""
    refused = [Exchange(route="manifest", refused_by=by) for by in ("3", "networks", "3", "")]
    metrics.watcher.record_end(refused)
    assert [line for line in told(metrics) if line.startswith("docxy_refusals_total")] == [
        'docxy_refusals_total{rule="3"} 2.0',
        'docxy_refusals_total{rule="networks"} 1.0',
    ]


def test_every_event_can_be_told(metrics: Metrics) -> None:
    """Of a registry, or of the cache as a whole."""
    for event in list(Event):
        of_the_cache = event in {Event.EVICTED, Event.CACHE_FAILED}
        told_to = metrics if of_the_cache else metrics.build_observer(HUB)
        told_to.observe(event, "200" if event is Event.RESPONSE_RECEIVED else "hit", 2)


def test_a_breaker(metrics: Metrics) -> None:
    """As long as a host is left alone, and no longer."""
    observer = metrics.build_observer(HUB)
    observer.observe(Event.CIRCUIT_OPENED)
    observer.observe(Event.REQUEST_FAILED, "timeout")
    assert 'docxy_upstream_circuits_open{registry="docker.io"} 1.0' in told(metrics)
    assert figures(metrics).build_summary()["registries"][0]["circuit_open"]
    observer.observe(Event.CIRCUIT_CLOSED)
    assert 'docxy_upstream_circuits_open{registry="docker.io"} 0.0' in told(metrics)


def test_a_host_that_nobody_asks_for(metrics: Metrics, later: Callable[[float], None]) -> None:
    """It may be back for long: ten minutes after the last failure it counts no more."""
    observer = metrics.build_observer(HUB)
    observer.observe(Event.CIRCUIT_OPENED)
    observer.observe(Event.REQUEST_FAILED, "timeout")
    later(599)
    assert figures(metrics).build_summary()["registries"][0]["circuit_open"]
    later(2)
    assert not figures(metrics).build_summary()["registries"][0]["circuit_open"]
    assert 'docxy_upstream_circuits_open{registry="docker.io"} 0.0' in told(metrics)


def test_a_window_that_is_over(metrics: Metrics, later: Callable[[float], None]) -> None:
    """Nobody is woken for pulls that have come back."""
    metrics.build_observer(HUB).record_budget(budget("address-1", 0))
    later(59)
    assert len(figures(metrics).build_summary()["registries"][0]["rate_limits"]) == 1
    later(2)
    assert figures(metrics).build_summary()["registries"][0]["rate_limits"] == []
    assert not [one for one in told(metrics) if one.startswith("docxy_pulls_remaining")]


def test_identities_are_bounded(metrics: Metrics) -> None:
    """Whoever has many accounts fills no board: the first one goes."""
    observer = metrics.build_observer(HUB)
    for number in range(40):
        observer.record_budget(budget(f"account-{number}"))
    (registry,) = figures(metrics).build_summary()["registries"]
    names = {one["identity"] for one in registry["rate_limits"]}
    assert names == {f"account-{number}" for number in range(24, 40)}


def test_the_latest_word_counts(metrics: Metrics) -> None:
    """Two workers may have heard of one identity at different times."""
    first, second = metrics.build_observer(HUB), metrics.build_observer(HUB)
    first.record_budget(budget("address-1", 50))
    second.record_budget(budget("address-1", 9))
    (registry,) = figures(metrics).build_summary()["registries"]
    (one,) = registry["rate_limits"]
    assert (one["remaining"], one["kind"], one["low"]) == (9, "address", True)


def test_odd_methods_are_one(metrics: Metrics) -> None:
    """What a client makes up makes no series."""
    for number in range(3):
        metrics.watcher.record_end([Exchange(method=f"MADE-UP-{number}", status=405)])
    (line,) = [one for one in told(metrics) if one.startswith("docxy_requests_total")]
    assert line.endswith('{method="other",registry="",route="other",status="4xx"} 3.0')


def test_long_and_short_fall_into_their_buckets(metrics: Metrics) -> None:
    """A bound belongs to its bucket."""
    for seconds in (0.005, 0.0051, 61.0):
        metrics.build_observer(HUB).observe(Event.RESPONSE_RECEIVED, "200", seconds)
    buckets = [
        one for one in told(metrics) if one.startswith("docxy_upstream_response_header_seconds_b")
    ]
    counts = {one.partition('le="')[2].partition('"')[0]: one.rpartition(" ")[2] for one in buckets}
    assert (counts["0.005"], counts["0.02"], counts["60.0"]) == ("1.0", "2.0", "2.0")
    assert counts["+Inf"] == "3.0"


def test_a_registry_of_which_nothing_is_known_is_asked(metrics: Metrics) -> None:
    """Once, and nobody waits for it."""
    observer = metrics.build_observer(HUB)
    asked = []

    class Away(FakeSource):
        def reach(self) -> None:
            asked.append(1)
            observer.observe(Event.REQUEST_FAILED, "connect")
            raise UpstreamUnreachable

    shown = figures(metrics, Away())
    assert shown.build_summary()["registries"][0]["reachable"] is None
    wait_until(lambda: shown.build_summary()["registries"][0]["reachable"] is False, 5)
    assert len(asked) == 1
    observer.observe(Event.RESPONSE_RECEIVED, "401", 0.1)
    assert shown.build_summary()["registries"][0]["reachable"]


def test_the_cache(metrics: Metrics) -> None:
    """Its answers, and what was served and saved."""
    for result in ("hit", "miss", "stale"):
        metrics.build_observer(HUB).observe(Event.CACHE_OUTCOME, result)
        metrics.watcher.record_end(
            [Exchange(registry=HUB, cache_outcome=result, bytes_sent=1000, status=200)]
        )
    cache = figures(metrics).build_summary()["cache"]
    assert (cache["hits"], cache["misses"], cache["stale"], cache["collapsed"]) == (1, 1, 1, 0)
    assert (cache["bytes_served"], cache["bytes_saved"]) == (3000, 2000)
    assert (cache["entries"], cache["size"]) == (3, 4096)
    assert (cache["error"], cache["free"], cache["min_free"]) == ("min_free", 10, 20)


def test_a_cache_that_keeps_nothing(metrics: Metrics) -> None:
    """What was wrong is counted by its kind; the room is told once, for the whole machine."""
    for fault in ("min_free", "min_free", "io"):
        metrics.observe(Event.CACHE_FAILED, fault)
    lines = told(metrics)
    for line in (
        'docxy_cache_errors_total{error="min_free"} 2.0',
        'docxy_cache_errors_total{error="io"} 1.0',
        "docxy_cache_writable 0.0",
        "docxy_cache_free_bytes 10.0",
        "docxy_cache_min_free_bytes 20.0",
        "docxy_cache_max_size_bytes 30.0",
        "docxy_cache_unfinished_bytes 40.0",
    ):
        assert line in lines


def test_who_looks_is_not_among_what_the_page_adds_up(metrics: Metrics) -> None:
    """What is for no registry is scraped, and stands in no sum of the page."""
    metrics.watcher.record_end([
        Exchange(route="page", bytes_sent=90_000, status=200),
        Exchange(route="manifest", registry=HUB, bytes_sent=500, status=200),
    ])  # fmt: skip
    totals = figures(metrics).build_summary()["totals"]
    assert (totals["requests"], totals["bytes_sent"]) == (1, 500)
    assert any(
        line.startswith('docxy_requests_total{method="GET",registry=""') for line in told(metrics)
    )


def sent(metrics: Metrics) -> float:
    """Return how many bytes have gone to clients, as it is scraped."""
    (line,) = [one for one in told(metrics) if one.startswith("docxy_response_bytes_total")]
    return float(line.rpartition(" ")[2])


def test_a_body_is_told_of_by_the_megabyte(metrics: Metrics) -> None:
    """At its end, wherever that is, all of it was counted, once."""
    download = metrics.watcher.begin_download(Exchange(registry=HUB), None)
    download.record_sent(1000)
    assert sent(metrics) == 1000
    for _ in range(40):
        download.record_sent(100_000)
    assert 4_001_000 - 1024 * 1024 < sent(metrics) <= 4_001_000
    (shown,) = figures(metrics).build_summary()["downloads"]
    assert shown["bytes"] == 4_001_000
    download.record_sent(1)
    download.record_end()
    assert sent(metrics) == 4_001_001
    download.record_end()
    assert sent(metrics) == 4_001_001
    assert figures(metrics).build_summary()["downloads"] == []


def test_a_slow_body_is_told_of_twice_a_second(metrics: Metrics) -> None:
    """However little comes."""
    download = metrics.watcher.begin_download(Exchange(registry=HUB), None)
    counted = 0

    def is_told() -> bool:
        nonlocal counted
        download.record_sent(1)
        counted += 1
        return sent(metrics) == counted > 1

    wait_until(is_told, 5)


def test_there_are_more_downloads_than_rows(metrics: Metrics) -> None:
    """The page shows some, and all are counted, by registry."""
    metrics.build_observer(HUB)
    metrics.build_observer("quay.io")
    downloads = [metrics.watcher.begin_download(Exchange(registry=HUB), 9) for _ in range(700)]
    downloads.append(metrics.watcher.begin_download(Exchange(registry="quay.io"), 9))
    both = metrics.build_figures({HUB: FakeSource(), "quay.io": FakeSource()}, HUB, None)

    def active() -> list[str]:
        lines = both.format_exposition().decode().splitlines()
        return [one for one in lines if one.startswith("docxy_active_downloads")]

    assert active() == [
        'docxy_active_downloads{registry="docker.io"} 700.0',
        'docxy_active_downloads{registry="quay.io"} 1.0',
    ]
    assert len(both.build_summary()["downloads"]) == 100
    for download in downloads:
        download.record_end()
    assert [line.rpartition(" ")[2] for line in active()] == ["0.0", "0.0"]


def test_who_looks_does_not_see_just_that(metrics: Metrics) -> None:
    """Two minutes of traffic have the requests that are for a registry."""
    page = Exchange(route="page", bytes_sent=100_000)
    metrics.watcher.record_end([page, Exchange(route="manifest", registry=HUB, bytes_sent=700)])
    series = board.sum_seconds(int(time.time()), 10)
    assert (sum(series["requests"]), sum(series["bytes_sent"])) == (1, 700)


def test_rows_are_numbered_as_they_are_read() -> None:
    """The places of a row are three."""
    assert {counting.OPEN, counting.ANSWERED, counting.FAILED} == {0, 1, 2}
    assert {counting.REMAINING, counting.LIMIT, counting.TOLD} == {0, 1, 2}
