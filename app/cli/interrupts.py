"""Ctrl-C while threads are at work."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told(leave: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C call this, in the main thread, and a second one raise as usual.

    KeyboardInterrupt can be raised just after a lock of the interpreter's own was taken
    (`Condition.__enter__`), which is never given back then: the thread that wants it next, and with
    it the end of the process, would wait for ever.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, before)
        leave()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
