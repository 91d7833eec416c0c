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

_ALONE_AFTER: Final = 0.002
"""Seconds since the end of the previous request after which a request is logged at once."""

_FLUSH_DELAY: Final = 0.05
"""The maximum number of seconds that a request waits for others. A worker that is killed loses the
requests of that time."""

_MAX_BATCH: Final = 128
"""The maximum number of requests in a batch; the last of them causes it to be written at once."""


@dataclass(slots=True)
class EndedRequest:
    """A request that has ended; `ended_at` is its end as wall-clock time in seconds."""

    exchange: Exchange
    line: dict[str, Any]
    ended_at: float

    def build_record(self) -> MinimalLogRecord:
        """Return the log line of the request; its times are in seconds, to the millisecond."""
        fields, exchange = self.line, self.exchange
        for name in ("registry", "repository", "reference"):
            if value := getattr(exchange, name):
                fields[name] = value
        if exchange.registry:
            fields["attempts"] = exchange.attempts
        fields["first_byte_seconds"] = round(exchange.time_to_first_byte, 3)
        fields["duration_seconds"] = round(exchange.duration, 3)
        fields["upstream_seconds"] = round(fields.pop("upstream_seconds"), 3)
        return MinimalLogRecord(logger.name, "Request.", fields, self.ended_at)


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

    def add(self, request: EndedRequest) -> None:
        """Count and log a request: at once if none ended just before, or else in a batch."""
        if self.watcher is UNWATCHED and not logger.isEnabledFor(logging.INFO):
            return
        ended_at = request.exchange.started_at + request.exchange.duration
        is_alone, self._last_end = ended_at - self._last_end > _ALONE_AFTER, ended_at
        self._pending.append(request)
        if is_alone or len(self._pending) >= _MAX_BATCH:
            self.flush()
        elif not self._is_scheduled:
            self._schedule_flush()

    def flush(self) -> None:
        """Count and log all waiting requests now."""
        with self._lock:
            if requests := [self._pending.popleft() for _ in range(len(self._pending))]:
                self.write(requests)

    def write(self, requests: Sequence[EndedRequest]) -> None:
        """Count and log the given requests now, without regard to those that wait."""
        try:
            self.watcher.record_end([request.exchange for request in requests])
        finally:
            # These lines exist nowhere else, so they are written even if counting fails.
            if logger.isEnabledFor(logging.INFO):
                logs.write_lines(logger, [request.build_record() for request in requests])

    def _schedule_flush(self) -> None:
        if not self._is_registered_at_exit:
            self._is_registered_at_exit = True
            atexit.register(self.flush)
        self._is_scheduled = True
        timer = threading.Timer(_FLUSH_DELAY, self._run_scheduled_flush)
        timer.daemon = True
        timer.start()

    def _run_scheduled_flush(self) -> None:
        self._is_scheduled = False
        self.flush()
