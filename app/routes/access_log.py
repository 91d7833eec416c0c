"""Logs and counts requests that have ended, in batches under load.

The larger the batch, the less processor time each request takes; the figures are in
docs/decisions/upstream/batched-access-log.md.
"""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app import logs
from app.events import UNWATCHED, Exchange, Watcher
from app.log_lines import MinimalLogRecord

logger = logging.getLogger("app.access")

_APART: Final = 0.002
"""Seconds since the end of the previous request after which a request is logged at once."""

_LATER: Final = 0.05
"""The most seconds that a request waits for others: a worker that is killed loses as many."""

_MOST: Final = 128
"""The most requests in a batch; the last of them causes it to be written at once."""


@dataclass(slots=True)
class EndedRequest:
    """A request that has ended; `ended_at` is its end as wall-clock time in seconds."""

    exchange: Exchange
    line: dict[str, Any]
    ended_at: float

    def build_record(self) -> MinimalLogRecord:
        """Return the log line of the request; its times are in seconds, to the millisecond."""
        line, exchange = self.line, self.exchange
        for name in ("registry", "repository", "reference"):
            if value := getattr(exchange, name):
                line[name] = value
        if exchange.registry:
            line["attempts"] = exchange.attempts
        line["first_byte_seconds"] = round(exchange.time_to_first_byte, 3)
        line["duration_seconds"] = round(exchange.duration, 3)
        line["upstream_seconds"] = round(line.pop("upstream_seconds"), 3)
        return MinimalLogRecord(logger.name, "Request.", line, self.ended_at)


class AccessLog:
    """Counts and logs requests in order, a moment later under load.

    The process does not exit before it has written those that wait.
    """

    def __init__(self, watcher: Watcher = UNWATCHED) -> None:
        self.watcher = watcher
        self._pending: deque[EndedRequest] = deque()
        self._is_scheduled = False
        self._lock = threading.Lock()
        self._is_registered_at_exit = False
        self._last_end = 0.0

    def add(self, ended: EndedRequest) -> None:
        """Count and log a request: at once if none ended just before, or else in a batch."""
        if self.watcher is UNWATCHED and not logger.isEnabledFor(logging.INFO):
            return
        end = ended.exchange.started_at + ended.exchange.duration
        is_alone, self._last_end = end - self._last_end > _APART, end
        self._pending.append(ended)
        if is_alone or len(self._pending) >= _MOST:
            self.flush()
        elif not self._is_scheduled:
            self._schedule_flush()

    def flush(self) -> None:
        """Count and log all waiting requests now."""
        with self._lock:
            if waiting := [self._pending.popleft() for _ in range(len(self._pending))]:
                self.write(waiting)

    def write(self, ended: Sequence[EndedRequest]) -> None:
        """Count and log the given requests now, without regard to those that wait."""
        try:
            self.watcher.record_end([one.exchange for one in ended])
        finally:
            # These lines exist nowhere else, so they are written even if counting fails.
            if logger.isEnabledFor(logging.INFO):
                logs.write_lines(logger, [one.build_record() for one in ended])

    def _schedule_flush(self) -> None:
        if not self._is_registered_at_exit:
            self._is_registered_at_exit = True
            atexit.register(self.flush)
        self._is_scheduled = True
        timer = threading.Timer(_LATER, self._run_scheduled_flush)
        timer.daemon = True
        timer.start()

    def _run_scheduled_flush(self) -> None:
        self._is_scheduled = False
        self.flush()
