"""What tests of blobs share: a registry with one private blob, and workers before it."""

from collections.abc import Iterator

import pytest

from app.cache.blobs.blobs import BlobCache
from tests.servers import wait_until
from tests.unit.cache.blob_registry import DATA, OTHER, BlobRegistry, BlobWorld, is_fetching
from tests.unit.cache.world import ALICE, MALLORY, NAME, World


@pytest.fixture
def setting(world: World) -> Iterator[BlobWorld]:
    """Return a registry with one private blob, of Alice's."""
    world.registry = registry = BlobRegistry()
    registry.repository(NAME, ALICE).push_blob(DATA)
    registry.repository(OTHER, MALLORY)
    yield BlobWorld(world, registry)
    registry.going_on.set()
    wait_until(lambda: not is_fetching())


@pytest.fixture
def blobs(setting: BlobWorld) -> BlobCache:
    """Return the first worker's."""
    return setting.worker()
