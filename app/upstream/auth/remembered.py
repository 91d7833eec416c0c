"""Facts learned from an upstream, kept in memory and refreshed in the background."""

import time
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Final, Generic, TypeVar

from app.background import BackgroundPool
from app.oci.errors import RegistryError, UpstreamUnavailable
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.waiting import SingleFlight

Fact = TypeVar("Fact")

PASSING_LIFETIME: Final = 5.0
"""Seconds for which an outcome that does not last is answered from memory, because many callers may
be waiting."""

OUTAGE_LIFETIME: Final = 2.0
"""The same if the upstream is unreachable; shorter, because it may be back at any moment."""

_RETRY_AFTER: Final = 30.0
"""Seconds until a failed refresh is tried again."""


class RefreshingCache(Generic[Fact]):
    """Calls `learn` when the fact is first needed, once for all waiting callers (single-flight).

    A fact is kept if `is_lasting` says so. When it is older than `lifetime` seconds, it is still
    returned at once while a thread calls `learn` again; if that yields no lasting fact, the old one
    stays. Until a lasting fact is learned, the last fact or RegistryError is repeated for some
    seconds.
    """

    def __init__(
        self, learn: Callable[[Call], Fact], is_lasting: Callable[[Fact], bool], lifetime: float
    ) -> None:
        self._learn = learn
        self._lasting = is_lasting
        self._lifetime = lifetime
        self._single_flight = SingleFlight[None]()
        self._background = BackgroundPool("refresh")
        self._fact: Fact | None = None
        self._stale_at = 0.0
        self._transient: Fact | RegistryError | None = None
        self._transient_until = 0.0

    def get(self, call: Call = NO_LIMIT) -> Fact:
        """Return the fact; `call` belongs to the caller, who may have to learn it.

        If no lasting fact was ever learned, raise the RegistryError that `learn` raised. Raise
        ClientGone if the client of `call` disconnects while another caller learns it.
        """
        fact = self._fact
        if fact is None:
            learn = partial(self._learn_first, call)
            outcome = self._single_flight.get(None, self._recall, learn, call.client)
            if isinstance(outcome, RegistryError):
                raise _copy_error(outcome)
            return outcome
        if time.monotonic() >= self._stale_at:
            self._refresh_in_background()
        return fact

    def _recall(self) -> Fact | RegistryError | None:
        if self._fact is not None:
            return self._fact
        return self._transient if time.monotonic() < self._transient_until else None

    def _learn_first(self, call: Call) -> Fact | RegistryError:
        self._transient = outcome = self._attempt(call)
        self._transient_until = time.monotonic() + get_transient_lifetime(outcome)
        return outcome

    def _refresh_in_background(self) -> None:
        # Set first, so that other callers do not submit it again, and tried again if it is dropped.
        self._stale_at = time.monotonic() + _RETRY_AFTER
        self._background.submit(partial(self._attempt, NO_LIMIT))

    def _attempt(self, call: Call) -> Fact | RegistryError:
        """Call `learn`, and keep a lasting fact; the session has already logged any failure."""
        try:
            fact = self._learn(call.share())
        except RegistryError as error:
            return _copy_error(error)
        if self._lasting(fact):
            self._fact = fact
            self._stale_at = time.monotonic() + self._lifetime
        return fact


def get_transient_lifetime(outcome: object) -> float:
    """Return the seconds for which a fact or error that does not last is repeated from memory."""
    return OUTAGE_LIFETIME if isinstance(outcome, UpstreamUnavailable) else PASSING_LIFETIME


class _Success:
    """The outcome of a call that did not raise."""


class ThrottledCheck:
    """Calls `act` at most once in `lifetime` seconds, and repeats its outcome in between."""

    def __init__(self, act: Callable[[Call], None], lifetime: float) -> None:
        self._act = act
        self._lifetime = lifetime
        self._single_flight = SingleFlight[None]()
        self._done_at = float("-inf")
        self._outcome: RegistryError | _Success = _Success()

    def check(self) -> None:
        """Return None if the last call of `act` succeeded; raise its RegistryError if it failed."""
        outcome = self._single_flight.get(None, self._recall, self._attempt)
        if isinstance(outcome, RegistryError):
            raise _copy_error(outcome)

    def _recall(self) -> RegistryError | _Success | None:
        return self._outcome if time.monotonic() < self._done_at + self._lifetime else None

    def _attempt(self) -> RegistryError | _Success:
        try:
            self._act(NO_LIMIT.share())
        except RegistryError as error:
            self._outcome = _copy_error(error)
        else:
            self._outcome = _Success()
        self._done_at = time.monotonic()
        return self._outcome


def _copy_error(error: RegistryError) -> RegistryError:
    """Return a copy of an error without its traceback, which would keep a request in memory."""
    return copy(error)
