"""What tests of the store share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.storage import Storage
from app.store.store import Store
from tests.unit.store.parts import FakeClock, Storages, Stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Return what opens stores of one directory, which is not there yet."""
    made = Stores(tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def store(stores: Stores) -> Store:
    """Return a store without limits."""
    return stores.open()


@pytest.fixture
def clock(stores: Stores) -> FakeClock:
    """Return the clock of all stores."""
    return stores.clock


@pytest.fixture(params=["directory", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Storage]:
    """Return a storage of each kind, by the tests' clock."""
    storages = Storages(tmp_path / "cache", clock, is_in_memory=request.param == "memory")
    yield storages.open()
    storages.close()
