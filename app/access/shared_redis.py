"""A Redis that the workers share, or several replicas; it may be away."""

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar, cast

from limits.storage import RedisStorage
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

logger = logging.getLogger(__name__)

_PATIENCE: Final = 0.5
"""Seconds for a connection, and for an answer."""
_PAUSE: Final = 5.0
"""Seconds for which one that has not answered is left alone."""
_PREFIX: Final = "docxy"

_Answer = TypeVar("_Answer")


class SharedRedis:
    """Asks it; while it is away, an answer is given for it, and one request tries now and then."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect to nothing yet; raise ValueError for a URL that is none."""
        self.storage = RedisStorage(
            url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url,
            key_prefix=_PREFIX,
            socket_connect_timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            # A connection that has long been idle may have been closed: one more attempt.
            retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type] # redis takes it
        )
        self.connection = cast("Redis", self.storage.get_connection())
        self._clock = clock
        self._is_away = False
        self._again = 0.0

    def ask(self, question: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """Return its answer, or `otherwise` where it has none."""
        if self._is_away:
            now = self._clock()
            if now < self._again:
                return otherwise
            self._again = now + _PAUSE  # the others need not wait meanwhile
        try:
            answer = question()
        except (RedisError, OSError) as error:
            self._fails(error)
            return otherwise
        if self._is_away:
            self._is_away = False
            logger.info("Redis is back: the limits count again.")
        return answer

    def _fails(self, error: Exception) -> None:
        self._again = self._clock() + _PAUSE
        if self._is_away:
            return
        self._is_away = True
        # The text of an error may have the URL in it, with its password.
        logger.warning(
            "Redis does not answer: requests pass without limits.",
            extra={"fields": {"kind": type(error).__name__}},
        )

    def key(self, *parts: str) -> str:
        """Return the name of something there, beside those of the library."""
        return ":".join((_PREFIX, *parts))
