"""What tests of the cache share: a registry, and what is built over it on a storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import World
from tests.unit.store.parts import FakeClock, Storages

TICK = 1e-6
"""Seconds: what happens later has a later moment, as by a real clock."""


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Return a registry and a storage, and what builds caches between them.

    The storage is in memory, unless the test is marked with `in_a_directory`.
    """
    is_in_memory = getattr(request, "param", "memory") == "memory"
    storages = Storages(tmp_path / "cache", FakeClock(tick=TICK), is_in_memory)
    yield World(storages, FakeRegistry())
    storages.close()
