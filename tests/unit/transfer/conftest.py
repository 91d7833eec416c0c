"""What tests of transfers share: those of one process, and of another one of the machine."""

from pathlib import Path

import pytest

from tests.unit.transfer.parts import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return the transfers of one process; their directory is not there yet."""
    return Cache(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path, cache: Cache) -> Cache:
    """Return those of another process of the machine."""
    return Cache(tmp_path, cache)
