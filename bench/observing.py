"""The cost of observability: manifests with metrics and log lines, and without either."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.variants import Variants

SEEN: Final = "counted and logged"
UNSEEN: Final = "neither"


def _build_observed_settings(folder: Path) -> Mapping[str, str]:
    del folder
    return {}


def _build_unobserved_settings(folder: Path) -> Mapping[str, str]:
    del folder
    return {"DOCXY_METRICS": "false", "DOCXY_LOG_LEVEL": "warning"}


OBSERVING: Final = Variants(
    "observing", {SEEN: _build_observed_settings, UNSEEN: _build_unobserved_settings}
)
