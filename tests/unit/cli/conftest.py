"""What tests of the commands share: an application with a real store and a fake registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cache.policy import CachePolicy
from app.cache.source import Cache
from app.store.blobs import SizeLimits
from app.store.store import Store, open_directory
from tests.unit.cli.parts import Run, running
from tests.unit.fake_source import FakeSource


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """Return the cache that the commands work on."""
    limits = SizeLimits(max_size=1 << 30, min_free=0)
    cache = Cache(open_directory(tmp_path / "cache", limits), CachePolicy())
    yield cache
    cache.storage.close()


@pytest.fixture
def store(cache: Cache) -> Store:
    """Return its store."""
    assert isinstance(cache.storage.blobs, Store)
    return cache.storage.blobs


@pytest.fixture
def run(cache: Cache, source: FakeSource) -> Run:
    """Return what runs `flask cache` with arguments."""
    return running(cache, source)
