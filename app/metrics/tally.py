"""Counts that go up often, written straight into the file that others read.

prometheus_client takes a lock for each, and asks each time which process it is: a dozen times for
each request. A worker's files are its own, and its counts are made after the fork.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import Counter, Histogram, values

SHARED: Final = bool(values.ValueClass._multiprocess)  # noqa: SLF001 - told nowhere else
"""Whether there are files, which gunicorn.conf.py says before this is imported."""

Add = Callable[[float], None]
Write = Callable[[], None]


def adding(counter: Counter, *labels: str, later: list[Write] | None = None) -> Add:
    """Return what adds to one series of a counter; nothing else may.

    With `later`, what is to be written goes into that list, each series once.
    """
    child = counter.labels(*labels) if labels else counter
    return _adding(child._value, later)  # noqa: SLF001


def observing(histogram: Histogram, *labels: str, later: list[Write] | None = None) -> Add:
    """Return what adds to one series of a histogram; nothing else may."""
    child: Any = histogram.labels(*labels)
    if not SHARED:
        observe: Add = child.observe
        return observe
    bounds, total = child._upper_bounds, _adding(child._sum, later)  # noqa: SLF001
    buckets = [_adding(one, later) for one in child._buckets]  # noqa: SLF001

    def add(amount: float) -> None:
        total(amount)
        buckets[bisect_left(bounds, amount)](1)

    return add


def _adding(value: Any, later: list[Write] | None) -> Add:  # noqa: ANN401 - the library has no type for it
    if not SHARED:
        increase: Add = value.inc
        return increase
    write_value, key, total = value._file.write_value, value._key, value.get()  # noqa: SLF001
    is_waiting = False

    def add_now(amount: float) -> None:
        # Nothing between reading and writing this is another thread's turn.
        nonlocal total
        total += amount
        write_value(key, total, 0.0)

    def add_later(amount: float) -> None:
        nonlocal total, is_waiting
        total += amount
        if not is_waiting:
            is_waiting = True
            waiting.append(write)

    def write() -> None:
        nonlocal is_waiting
        is_waiting = False
        write_value(key, total, 0.0)

    if later is None:
        return add_now
    waiting = later
    return add_later
