"""The version, as /health and the start line tell it."""

from typing import Final

VERSION: Final = "0.1.0"
