"""The cost of observability: manifests with metrics and log lines, and without either."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.variants import Variants

SEEN: Final = "counted and logged"
UNSEEN: Final = "neither"


def _seen(folder: Path) -> Mapping[str, str]:
    del folder
    return {}


def _unseen(folder: Path) -> Mapping[str, str]:
    del folder
    return {"DOCXY_METRICS": "false", "DOCXY_LOG_LEVEL": "warning"}


OBSERVING: Final = Variants("observing", {SEEN: _seen, UNSEEN: _unseen})
