"""The version, which /health and the first log line report."""

from typing import Final

VERSION: Final = "0.1.0"
