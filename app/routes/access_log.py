"""Afterwards: the lines and the counts of requests that are over, of many at once if many are.

The more are told at once, the less of a processor each takes; the figures are in
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
from app.log_lines import Line

logger = logging.getLogger("app.access")

_APART: Final = 0.002
"""Seconds from one end to the next from which on a request waits for no others."""

_LATER: Final = 0.05
"""Seconds that it waits at the most: a worker that is killed takes so much with it."""

_MOST: Final = 128
"""Requests that wait at the most."""


@dataclass(slots=True)
class Ended:
    """A request that is over."""

    exchange: Exchange
    line: dict[str, Any]
    at: float

    def as_line(self) -> Line:
        """Return its line."""
        line, exchange = self.line, self.exchange
        for name in ("registry", "repository", "reference"):
            if value := getattr(exchange, name):
                line[name] = value
        if exchange.registry:
            line["attempts"] = exchange.attempts
        line["first_byte_seconds"] = round(exchange.first_byte, 3)
        line["seconds"] = round(exchange.took, 3)
        line["upstream_seconds"] = round(line.pop("upstream_seconds"), 3)
        return Line(logger.name, "Request.", line, self.at)


class Afterwards:
    """Counts and logs in order, a moment later if much goes on; the end of the process waits."""

    def __init__(self, watcher: Watcher = UNWATCHED) -> None:
        self.watcher = watcher
        self._waiting: deque[Ended] = deque()
        self._is_coming = False
        self._one_at_a_time = threading.Lock()
        self._is_awaited = False
        self._last_end = 0.0

    def add(self, ended: Ended) -> None:
        """Tell of a request soon."""
        if self.watcher is UNWATCHED and not logger.isEnabledFor(logging.INFO):
            return
        end = ended.exchange.began + ended.exchange.took
        is_alone, self._last_end = end - self._last_end > _APART, end
        self._waiting.append(ended)
        if is_alone or len(self._waiting) >= _MOST:
            self.tell_all()
        elif not self._is_coming:
            self._come_soon()

    def tell_all(self) -> None:
        """Tell now of all that wait."""
        with self._one_at_a_time:
            if waiting := [self._waiting.popleft() for _ in range(len(self._waiting))]:
                self.tell(waiting)

    def tell(self, ended: Sequence[Ended]) -> None:
        """Count and log requests."""
        try:
            self.watcher.ended([one.exchange for one in ended])
        finally:
            # They wait nowhere else any more, and counts that fail are no reason to lose lines.
            if logger.isEnabledFor(logging.INFO):
                logs.write(logger, [one.as_line() for one in ended])

    def _come_soon(self) -> None:
        if not self._is_awaited:
            self._is_awaited = True
            atexit.register(self.tell_all)
        self._is_coming = True
        timer = threading.Timer(_LATER, self._come)
        timer.daemon = True
        timer.start()

    def _come(self) -> None:
        self._is_coming = False
        self.tell_all()
