"""What tests of the commands share: an application with a real store and a fake registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cache.policy import CachePolicy
from app.cache.source import Cache
from app.store.eviction import SizeLimits
from app.store.store import Store
from tests.unit.cli.parts import Run, running
from tests.unit.fake_source import FakeSource


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Return the cache that the commands work on."""
    cache = Cache(tmp_path / "cache", SizeLimits(max_size=1 << 30, min_free=0), CachePolicy())
    yield cache
    cache.store.close()


@pytest.fixture
def store(cache: Cache) -> Store:
    """Return its store."""
    return cache.store


@pytest.fixture
def run(cache: Cache, source: FakeSource) -> Run:
    """Return what runs `flask cache` with arguments."""
    return running(cache, source)
