"""The benchmark runs whole and prints its page."""

import subprocess
import sys

import pytest

from tests import programs
from tests.servers import ROOT, clean_environment

pytestmark = [pytest.mark.integration, pytest.mark.soak]


def test_a_quick_run() -> None:
    """Each server of the benchmark starts, and each section of the published page is printed."""
    programs.require("nginx", "docker-registry", "wrk", "skopeo")
    # The benchmark runs a hub of the tests, and so imports what only the tests require.
    env = clean_environment(PYTHONPATH="")
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    published = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert _sections(run.stdout) == _sections(published)


def _sections(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("## ")]
