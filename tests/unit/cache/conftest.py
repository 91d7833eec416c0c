"""What tests of the cache share: a registry, and what is built over it on a real store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import World
from tests.unit.store.parts import FakeClock, Stores

TICK = 1e-6
"""Seconds: what happens later has a later moment, as by a real clock."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a registry and a store, and what builds caches between them."""
    stores = Stores(tmp_path / "cache", FakeClock(tick=TICK))
    yield World(stores, FakeRegistry())
    stores.close()
