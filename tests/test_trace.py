"""How many files a request passes through: few, and as many as docs/architecture.md says."""

import json
import re
import subprocess
import sys
from typing import Final

import pytest

from tests.servers import ROOT, clean_environment

_SLACK: Final = 3
"""Files: which of several threads comes first decides whether a few of them are entered."""


_MOST: Final = {"layer, no cache": 33, "layer, cold cache": 82, "tag, cached": 56}
"""The most files of some requests, without those of app/metrics: somebody has to read them."""


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """Return the files that each request enters."""
    traced = subprocess.run(
        [sys.executable, "-m", "tests.trace", "--json"],
        cwd=ROOT, env=clean_environment(PYTHONPATH=""), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    files: dict[str, list[str]] = json.loads(traced)
    return files


@pytest.mark.integration
def test_the_numbers_of_files(found: dict[str, list[str]]) -> None:
    """`make trace UPDATE=1` writes them anew."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- trace -->")[2].partition("<!-- /trace -->")[0]
    written = dict(re.findall(r"^\| ([a-z, ]+) \| (\d+) \|", table, re.MULTILINE))
    assert written.keys() == found.keys()
    differing = {
        name: len(files)
        for name, files in found.items()
        if abs(len(files) - int(written[name])) > _SLACK
    }
    assert differing == {}, "make trace UPDATE=1"


@pytest.mark.integration
@pytest.mark.parametrize("request_name", _MOST)
def test_the_most_files(found: dict[str, list[str]], request_name: str) -> None:
    """A file that many requests enter hides much behind little; else it belongs to another."""
    entered = [file for file in found[request_name] if not file.startswith("metrics/")]
    assert len(entered) <= _MOST[request_name], entered
