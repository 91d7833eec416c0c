"""A fact learned from an upstream once, and refreshed behind the back of those who ask."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from app.oci.errors import RegistryError

Fact = TypeVar("Fact")

_RETRY_AFTER: Final = 30.0
"""Seconds until a refresh that failed is tried again."""


class Remembered(Generic[Fact]):
    """Asks `learn` when first needed, one caller for all who wait (single-flight).

    A fact older than `lifetime` seconds is still answered at once, while a thread asks anew; if
    that fails, the old one stays. Only the very first asking can raise RegistryError.
    """

    def __init__(self, learn: Callable[[], Fact], lifetime: float) -> None:
        self._learn = learn
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._fact: Fact | None = None
        self._stale_at = 0.0
        self._failures = 0
        self._failure: RegistryError | None = None

    def get(self) -> Fact:
        """Return the fact; raise what `learn` raises if it was never learned."""
        fact = self._fact
        if fact is None:
            return self._learn_first()
        if time.monotonic() >= self._stale_at:
            self._refresh_behind()
        return fact

    def _learn_first(self) -> Fact:
        failures = self._failures
        with self._lock:
            if self._fact is not None:
                return self._fact
            if self._failure is not None and self._failures != failures:
                raise self._failure  # the failure of the one that this caller waited for
            try:
                fact = self._learn()
            except RegistryError as error:
                self._failures += 1
                self._failure = error
                raise
            self._keep(fact)
            return fact

    def _refresh_behind(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        # Set before the thread begins, so that the callers meanwhile start no second one.
        self._stale_at = time.monotonic() + _RETRY_AFTER
        self._lock.release()
        threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        try:
            fact = self._learn()
        except RegistryError:
            return  # the session has logged why; the old fact stays
        self._keep(fact)

    def _keep(self, fact: Fact) -> None:
        self._fact = fact
        self._stale_at = time.monotonic() + self._lifetime


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
                raise self._failure

    def _attempt(self) -> RegistryError | None:
        try:
            self._act()
        except RegistryError as error:
            return error
        return None
