"""A Redis that the workers share, or several replicas; it may be away."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from limits.storage import RedisStorage
from redis import Redis
from redis.exceptions import RedisError

from app.access.redis_connection import connections_to

logger = logging.getLogger(__name__)

_PATIENCE: Final = 1.0
"""Seconds for a name, for a connection, and for an answer."""
_PAUSE: Final = 5.0
"""Seconds for which one that has not answered is left alone."""
_PREFIX: Final = "docxy"

_Answer = TypeVar("_Answer")


class SharedRedis:
    """Asks it; while it is away an answer is given for it at once.

    Whether it is back is looked at now and then while there are requests, and none waits for that.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect to nothing yet; raise ValueError for a URL that is none."""
        pool = connections_to(url, _PATIENCE)
        self.connection = Redis(connection_pool=pool)
        self.storage = RedisStorage("redis://", connection_pool=pool, key_prefix=_PREFIX)
        self._clock = clock
        self._is_away = False
        self._again = 0.0

    def ask(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return its answer, or `otherwise` where it has none."""
        if self._is_away:
            self._look_again()
            return otherwise
        try:
            return question()
        except (RedisError, OSError) as error:
            self._fails(error)
            return otherwise

    def _fails(self, error: Exception) -> None:
        self._again = self._clock() + _PAUSE
        if self._is_away:
            return
        self._is_away = True
        # The text of an error may have the URL in it, with its password.
        logger.warning(
            "Redis does not count: requests pass without limits.",
            extra={"fields": {"kind": type(error).__name__}},
        )

    def _look_again(self) -> None:
        now = self._clock()
        if now >= self._again:
            self._again = now + _PAUSE
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            # Counts, as a full one or a replica would answer whoever only reads.
            self.storage.incr("probe", 60)
        except (RedisError, OSError):
            return
        if self._is_away:
            self._is_away = False
            logger.info("Redis is back: the limits count again.")

    def key(self, *parts: str) -> str:
        """Return the name of something there, beside those of the library."""
        return ":".join((_PREFIX, *parts))
