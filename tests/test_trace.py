"""docs/architecture.md says how many files a request passes through, and is right."""

import json
import re
import subprocess
import sys
from typing import Final

import pytest

from tests.servers import ROOT, clean_environment

_SLACK: Final = 3
"""Files: which of several threads comes first decides whether a few of them are entered."""


@pytest.mark.integration
def test_the_numbers_of_files() -> None:
    """`make trace UPDATE=1` writes them anew."""
    traced = subprocess.run(
        [sys.executable, "-m", "tests.trace", "--json"],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- trace -->")[2].partition("<!-- /trace -->")[0]
    written = dict(re.findall(r"^\| ([a-z, ]+) \| (\d+) \|", table, re.MULTILINE))
    found = json.loads(traced)
    assert written.keys() == found.keys()
    differing = {
        name: found[name] for name in found if abs(found[name] - int(written[name])) > _SLACK
    }
    assert differing == {}, "make trace UPDATE=1"
