"""Pauses that take no time, and what was told meanwhile."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lines import line_of
from tests.unit.upstream.clock import Clock


@contextmanager
def hurried() -> Iterator[Clock]:
    """Let the clock go on by what is waited for, and by nothing else; no one really waits.

    Threads that an earlier test left behind are no part of it: they wait as they did.
    """
    clock = Clock()
    wait = threading.Event.wait
    strangers = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def at_once(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None or threading.get_ident() in strangers:
            return wait(event, timeout)
        clock.pass_by(timeout)
        return event.is_set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", clock)
        patch.setattr(threading.Event, "wait", at_once)
        yield clock


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(line_of(record))


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect all that Docxy logs; unlike caplog, anew for each example of a property."""
    ear = _Ear()
    root = logging.getLogger("app")
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield ear.lines
    finally:
        root.setLevel(level)
        root.removeHandler(ear)
