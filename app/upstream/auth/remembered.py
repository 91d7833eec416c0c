"""A fact learned from an upstream once, and refreshed behind the back of those who ask."""

import threading
import time
from collections.abc import Callable
from copy import copy
from typing import Final, Generic, TypeVar

from app.oci.errors import RegistryError, UpstreamUnavailable
from app.upstream.http.deadlines import unhurried

Fact = TypeVar("Fact")

PASSING_LIFETIME: Final = 5.0
"""Seconds that what does not last is answered from memory: many may be waiting to ask."""

OUTAGE_LIFETIME: Final = 2.0
"""The same of an upstream that cannot be reached: it may be back at any moment."""

SHARED_PATIENCE: Final = 30.0
"""Seconds that a question in all may take whose answer is for many, whoever asks it: it may lead to
others, each of which has a shorter time of its own."""

_RETRY_AFTER: Final = 30.0
"""Seconds until a refresh that failed is tried again."""


class Remembered(Generic[Fact]):
    """Asks `learn` when first needed, one caller for all who wait (single-flight).

    A fact that is `lasting` is kept: older than `lifetime` seconds it is still answered at once,
    while a thread asks anew, and if that brings nothing lasting, the old one stays.
    As long as nothing lasting was learned, the last fact or RegistryError counts for some seconds.
    """

    def __init__(
        self, learn: Callable[[], Fact], lasting: Callable[[Fact], bool], lifetime: float
    ) -> None:
        self._learn = learn
        self._lasting = lasting
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._fact: Fact | None = None
        self._stale_at = 0.0
        self._passing: Fact | RegistryError | None = None
        self._passing_until = 0.0

    def get(self) -> Fact:
        """Return the fact; raise what `learn` raised if nothing lasting was ever learned."""
        fact = self._fact
        if fact is None:
            return self._learn_first()
        if time.monotonic() >= self._stale_at:
            self._refresh_behind()
        return fact

    def _learn_first(self) -> Fact:
        with self._lock:
            if self._fact is not None:
                return self._fact
            passing = self._passing
            if passing is None or time.monotonic() >= self._passing_until:
                self._passing = passing = self._attempt()
                self._passing_until = time.monotonic() + passing_lifetime(passing)
            if isinstance(passing, RegistryError):
                raise _afresh(passing)
            return passing

    def _refresh_behind(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        # Set before the thread begins, so that the callers meanwhile start no second one.
        self._stale_at = time.monotonic() + _RETRY_AFTER
        self._lock.release()
        threading.Thread(target=self._attempt, daemon=True).start()

    def _attempt(self) -> Fact | RegistryError:
        """Ask, and keep what is lasting; the session has logged what went wrong."""
        try:
            with unhurried(SHARED_PATIENCE):
                fact = self._learn()
        except RegistryError as error:
            return _afresh(error)
        if self._lasting(fact):
            self._fact = fact
            self._stale_at = time.monotonic() + self._lifetime
        return fact


def passing_lifetime(outcome: object) -> float:
    """Return the seconds for which an outcome that does not last is answered from memory."""
    return OUTAGE_LIFETIME if isinstance(outcome, UpstreamUnavailable) else PASSING_LIFETIME


class Recent:
    """Does something at most once in `lifetime` seconds, and answers the others as it went."""

    def __init__(self, act: Callable[[], None], lifetime: float) -> None:
        self._act = act
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._done_at = float("-inf")
        self._failure: RegistryError | None = None

    def get(self) -> None:
        """Return if it went well; raise the RegistryError if it did not."""
        with self._lock:
            if time.monotonic() >= self._done_at + self._lifetime:
                self._failure = self._attempt()
                self._done_at = time.monotonic()
            if self._failure is not None:
                raise _afresh(self._failure)

    def _attempt(self) -> RegistryError | None:
        try:
            with unhurried(SHARED_PATIENCE):
                self._act()
        except RegistryError as error:
            return _afresh(error)
        return None


def _afresh(error: RegistryError) -> RegistryError:
    """Return the error without its traceback, which would keep a client's request alive."""
    return copy(error)
