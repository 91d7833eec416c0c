"""File descriptors that are closed at once.

gevent's `os.close` waits for the event loop, which the threads that the store is used on do not
have: a lock would be held, and a descriptor lost, for ever.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.offloop import original

close: Final[Callable[[int], None]] = original("os", "close")


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file, which no other program inherits, and close it in the end; raise OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        close(descriptor)
