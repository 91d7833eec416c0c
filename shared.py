"""Memory that the workers share, since gunicorn loads this in the master, before it forks them.

Not part of `app`, which no master may load. A process without a master has it for itself.
"""

import mmap
import os
from typing import Final

_KEY: Final = 32
_SIZE: Final = 1024 * 1024

KEY: Final = os.urandom(_KEY)
"""A secret of this run's."""

MEMORY: Final = mmap.mmap(-1, _SIZE)
"""Zeros at first; nothing guards it, so whoever reads has to cope with what is half written."""
