"""Processes that are killed, at whatever they do: the next one finds nothing that is not whole."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, clean_environment
from tests.unit.store import killing

MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made in it


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory, where there is one: a killed process loses nothing of it.

    On a disk, waiting for it would take minutes.
    """
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="docxy-store-", dir=MEMORY) as folder:
        yield Path(folder)


def outcome_of(directory: Path, name: str) -> dict[str, Any]:
    """Do some work again and again, killed after each step of it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", killing.__file__, directory, name],
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("name", killing.WORK)
def test_killed_after_each_step(memory: Path, name: str) -> None:
    """No entry is ever half there, no file is without one, and nothing is left over."""
    told = outcome_of(memory, name)
    wrong = {step + 1: found for step, found in enumerate(told["outcomes"]) if found}
    assert wrong == {}
    assert len(told["outcomes"]) > 20
