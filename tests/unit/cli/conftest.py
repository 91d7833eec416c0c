"""What tests of the commands share: an application with a real store and a fake registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.room import Limits
from app.store.store import Store
from tests.unit.cli.parts import Run, running
from tests.unit.fake_source import FakeSource


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return the store that the commands work on."""
    opened = Store(tmp_path / "cache", Limits(min_free=0))
    yield opened
    opened.close()


@pytest.fixture
def run(store: Store, tmp_path: Path, source: FakeSource) -> Run:
    """Return what runs `flask cache` with arguments."""
    return running(store, tmp_path / "cache", source)
