"""What tests of the spools share."""

from pathlib import Path

import pytest

from tests.unit.spools.parts import Bench, Kept


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return what opens fetches of one directory, which is not there yet."""
    return Bench(tmp_path, Kept(tmp_path / "kept"))
