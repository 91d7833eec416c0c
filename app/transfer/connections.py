"""The connections of a fan: what they ask, when they stall, and how many there should be."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from app.source import BodyBroken
from app.transfer.chunk_map import CHUNK
from app.transfer.lease import Span
from app.transfer.rest import RemainingBody

_GROWTH: Final = 1.1
"""How much faster the whole must become for added connections to stay."""

_BUSY: Final = 0.8
"""The part of the time in which this thread works or waits for a processor, from which on the
processor is the limit."""

_STALL: Final = 2.0
"""How many times longer than its siblings a chunk may take."""
_SHORTEST_STALL: Final = 0.5
"""Seconds in which no connection counts as stalled."""
_SIBLINGS: Final = 4
"""Chunks that must have come before a connection is compared with them."""
_RECENT: Final = 32
"""Chunks with which it is compared."""
_MOST_STALLS: Final = 16
"""How often a fan gives up a connection as stalled. If more stall, the line itself is slow."""

_SCHEDULER: Final = Path("/proc/thread-self/schedstat")


def read_demand() -> float:
    """Return the seconds in which this thread has worked, or waited for a processor.

    A system that does not tell the waiting gives the work alone.
    """
    try:
        waited = int(_SCHEDULER.read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.thread_time() + waited


class NoMoreConnections(Exception):
    """The registry, or the place that it redirects to, takes no further connection now."""


class PartRefused(BodyBroken):
    """The registry refuses a part of a blob. `retry_after` is its Retry-After in seconds, or 0."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"the registry answered {status}, so that it does not go on")
        self.status, self.retry_after = status, retry_after


class RangesIgnored(Exception):
    """The registry does not send the parts of this blob that it is asked for."""


class ChunkSource(Protocol):
    """Asks for parts of one blob, with the right of one client."""

    def fetch_part(self, span: Span, connection: "Connection", *, alone: bool) -> RemainingBody:
        """Ask for bytes of a blob.

        `connection` is the client of the request: when it is gone, the request ends, as does
        reading its body. Raise NoMoreConnections or RangesIgnored if another connection should go
        on in its place; if it is the only one (`alone`), raise RegistryError or BodyBroken instead.
        """


class FanWatch(Protocol):
    """Decides whether a fetch goes on. The methods may raise OSError."""

    def record_received(self, count: int) -> None:
        """Count bytes that have arrived."""

    def may_continue(self) -> bool:
        """Return whether the fetch is still wanted."""

    def close(self) -> None:
        """End the watch, since the fetch has ended."""


@dataclass(eq=False, slots=True)
class Connection:
    """One connection of a fan, as the client of its requests."""

    received: int = 0
    """Bytes so far."""
    chunk_began: float = math.inf
    """When the chunk that is arriving began; never, before the first byte of an answer."""
    in_chunk: int = 0
    is_first: bool = False
    """Whether the fan began with it."""
    outcome: str = "complete"
    """How it ended, in one word, for the metrics."""
    is_dismissed: bool = False
    """Whether it ends after its lease."""
    is_stalled: bool = False
    """Whether its request ends now, and the rest is asked for on another connection."""
    is_cancelled: bool = False
    """Whether it ends now."""

    def is_gone(self) -> bool:
        """Return whether the request is to end."""
        return self.is_stalled or self.is_cancelled

    def begin_request(self) -> None:
        """Measure from the first byte of the answer on, however long that takes to come."""
        self.is_stalled, self.in_chunk, self.chunk_began = False, 0, math.inf

    def record_received(self, count: int) -> float | None:
        """Count bytes; return how many seconds a chunk took, whenever one is complete."""
        now = time.monotonic()
        self.chunk_began = min(self.chunk_began, now)
        self.received += count
        self.in_chunk += count
        if self.in_chunk < CHUNK:
            return None
        seconds = (now - self.chunk_began) * CHUNK / self.in_chunk
        self.chunk_began, self.in_chunk = now, 0
        return seconds


class Stalls:
    """Ends the requests of connections that take much longer than their siblings for a chunk."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_RECENT)
        self._count = 0

    def record_chunk(self, seconds: float) -> None:
        """Take note of how long a chunk took on its connection."""
        self._durations.append(seconds)

    def compute_usual(self) -> float:
        """Return how many seconds a chunk usually takes; 0 if none has come yet."""
        durations = list(self._durations)
        return max(1e-6, statistics.median(durations)) if durations else 0.0

    def end_stalled(self, connections: Iterable[Connection]) -> None:
        """End the requests of those that stall."""
        if len(self._durations) < _SIBLINGS:
            return
        patience = max(_SHORTEST_STALL, _STALL * self.compute_usual())
        now = time.monotonic()
        for connection in connections:
            if connection.is_stalled or self._count >= _MOST_STALLS:
                continue
            if now - connection.chunk_began > patience:
                self._count += 1
                connection.is_stalled = True
                connection.outcome = "stalled"


class Growth:
    """Decides how many connections a fan has, by what the last ones brought.

    Their number is doubled while the whole grows by more than a tenth. If it does not, those that
    were added last are taken back, and the number stays. If this process's processor is the limit,
    each connection costs time and brings none, so half of them are taken back.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._processor_clock = processor_clock or read_demand
        self._mark: tuple[float, float, int] | None = None
        self._rate = 0.0
        self._count = 0
        self._is_settled = False

    def decide(self, received: int, count: int, most: int) -> int:
        """Return how many connections to have, given the bytes received so far by `count` of them.

        Call it at intervals, and only while every connection delivers.
        """
        now = (self._clock(), self._processor_clock(), received)
        mark, self._mark = self._mark, now
        if mark is None or now[0] <= mark[0]:
            return min(count, most)
        seconds = now[0] - mark[0]
        if (now[1] - mark[1]) / seconds > _BUSY:
            self._rate, self._count = 0.0, 0
            return max(1, min(count // 2, most))
        if self._is_settled:
            return min(count, most)
        rate = (received - mark[2]) / seconds
        if self._count and count > self._count and rate < self._rate * _GROWTH:
            self._is_settled = True
            return self._count
        self._rate, self._count = rate, count
        return min(most, 2 * count)

    def skip(self) -> None:
        """Begin to measure anew, because not every connection delivers yet."""
        self._mark = None
