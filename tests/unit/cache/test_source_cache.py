"""The cache as those see it who look at it: what it has, and whether it can keep more."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cache.policy import CachePolicy
from app.cache.source import Cache
from app.events import Budget, Event
from app.store.blobs import SizeLimits
from app.store.errors import Fault
from app.store.store import open_directory
from tests.unit.store.parts import digest_of

DATA = b"kept"


class Noted:
    """Remembers which faults it was told of."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Remember."""
        assert (event, amount) == (Event.CACHE_FAILED, 1)
        self.faults.append(about)

    def record_budget(self, budget: Budget) -> None:
        """Remember nothing."""


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def cache(tmp_path: Path, noted: Noted) -> Iterator[Cache]:
    """Return a cache that has something."""
    storage = open_directory(tmp_path / "cache", SizeLimits(min_free=0))
    cache = Cache(storage, CachePolicy(), noted)
    storage.blobs.keep(DATA, "docker.io", digest_of(DATA), "")
    yield cache
    cache.storage.close()


def test_all_is_well(cache: Cache, noted: Noted) -> None:
    """It tells what it has, and what there is."""
    assert cache.measure_usage() == (1, len(DATA))
    state = cache.read_state()
    assert (state.fault, state.reason, state.min_free, state.max_size) == ("", "", 0, None)
    assert state.free > 0
    assert noted.faults == []


def test_an_index_that_cannot_be_opened(cache: Cache, noted: Noted) -> None:
    """Whoever looks is told, and what was there last; it is no error of the one who looks."""
    assert cache.measure_usage() == (1, len(DATA))
    cache.storage.close()
    index = cache.storage.unfinished.with_name("index.sqlite")
    index.rename(index.with_name("moved"))
    index.mkdir()
    assert cache.measure_usage() == (1, len(DATA))
    assert noted.faults == [Fault.IO]
    state = cache.read_state()
    assert (state.fault, state.reason) == (
        Fault.IO,
        "DOCXY_CACHE_DIR cannot be written; the log says more",
    )


def test_it_is_looked_at_now_and_then(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who ask cost the disk nothing, and what has changed is seen some seconds later."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert cache.read_state().fault == ""
    cache.storage.close()
    index = cache.storage.unfinished.with_name("index.sqlite")
    index.rename(index.with_name("moved"))
    index.mkdir()
    assert cache.read_state().fault == ""
    now += 6
    assert cache.read_state().fault == Fault.IO
    index.rmdir()
    index.with_name("moved").rename(index)
    assert cache.read_state().fault == Fault.IO
    now += 6
    assert cache.read_state().fault == ""
