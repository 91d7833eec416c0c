"""Retries before the first byte: here, and nowhere else."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Self

import requests

from app.oci.errors import (
    ClientGone,
    OutboundProxyFails,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
    UpstreamUnresolved,
    UpstreamUntrusted,
)
from app.source import NOBODY, Client, Event, Observer
from app.upstream.http.body import discard
from app.upstream.http.deadlines import within
from app.upstream.http.errors import FAILURES, redacted

# How much is done for an answer before it is given up.


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Seconds until no attempt begins any more: before the first byte, and after a body broke.

    With `verify_blobs`, a whole blob is hashed, and its end held back until the digest is right.
    """

    retry_budget: float
    resume_budget: float
    verify_blobs: bool = False


logger = logging.getLogger(__name__)

_PAUSES: Final = (0.05, 0.5, 1.5)
"""Seconds before the second, third and fourth attempt, more or less."""

_SHORT: Final = 0.1
"""Seconds that a caller with a fallback waits as well: no longer than the first pause."""

_LONGEST_TOLD: Final = 5
"""Seconds of a Retry-After that are waited for here; the client hears of a longer one."""

_HURRIED_BUDGET: Final = 8.0
_HURRIED_PATIENCE: Final = 6.0
_HURRIED_WHOLE: Final = 12.0
"""Seconds for pings and tokens: Docker waits 15 for one, and then asks nobody again."""

_FOREVER: Final = float("inf")

_PASSING: Final = frozenset({
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
})  # fmt: skip
"""Answers after which the same question may have another one."""


_Failures = tuple[type[UpstreamUnavailable], ...]

_UNASKED: Final[_Failures] = (UpstreamUnreachable, UpstreamUnresolved)
"""Failures before a byte of the question was sent."""

_ABSENT: Final[_Failures] = (*_UNASKED, OutboundProxyFails, UpstreamTimeout)
"""Failures that another attempt within two seconds hardly ever mends."""

_CLIENT_CHECK: Final = 0.25
_NEVER: Final = threading.Event()


Fallback = Callable[[], bool]
"""Tells whether a caller can answer without the upstream (`Request.has_fallback`)."""

_has_fallback: ContextVar[Fallback | None] = ContextVar("has_fallback", default=None)


@contextmanager
def falling_back(has_fallback: Fallback | None) -> Iterator[None]:
    """Let attempts in this block end early if the caller has a fallback.

    A question may need others to be asked first: for a token, or for what the registry asks for.
    They are made in the block as well, and None leaves the fallback of a block outside as it is.
    Callers who wait for the same answer share it, and a failure so counts for two seconds at most.
    """
    token = _has_fallback.set(has_fallback or _has_fallback.get())
    try:
        yield
    finally:
        _has_fallback.reset(token)


class Attempts:
    """Asks a question that may be repeated (GET or HEAD) up to four times, within a budget."""

    def __init__(
        self,
        budget: float,
        patience: float = _FOREVER,
        whole: float = _FOREVER,
        observer: Observer = NOBODY,
    ) -> None:
        """Begin no attempt later than `budget` seconds after the first.

        Give each `patience` seconds, however slowly its answer drips and however often it is sent
        on, and all together `whole` seconds.
        """
        self._budget = budget
        self._patience = patience
        self._whole = whole
        self._observer = observer

    @classmethod
    def hurried(cls, budget: float, observer: Observer = NOBODY) -> Self:
        """Return attempts at what clients wait for some seconds only: pings and tokens."""
        return cls(min(budget, _HURRIED_BUDGET), _HURRIED_PATIENCE, _HURRIED_WHOLE, observer)

    def __call__(
        self, ask: Callable[[], requests.Response], client: Client | None
    ) -> requests.Response:
        """Return the first answer that is worth passing on, or the last one.

        A caller that has a fallback is not kept waiting: a host that is not there is asked once,
        and one that cut the connection or answered 5xx once more, after the first pause.
        Raise what `ask` raised in the end, or ClientGone.
        """
        has_fallback = _has_fallback.get()
        return self._repeat(ask, client, (UpstreamUnavailable,), _is_passing, has_fallback)

    def to_connect(
        self, ask: Callable[[], requests.Response], client: Client | None
    ) -> requests.Response:
        """Return the answer to a question that may be asked once only, but may fail to be asked."""
        return self._repeat(ask, client, _UNASKED, lambda _: False)

    def _repeat(
        self,
        ask: Callable[[], requests.Response],
        client: Client | None,
        failure: _Failures,
        is_passing: Callable[[requests.Response], bool],
        has_fallback: Fallback | None = None,
    ) -> requests.Response:
        now = time.monotonic()
        deadline, end = now + self._budget, now + self._whole

        def attempt() -> requests.Response:
            with within(min(self._patience, end - time.monotonic())):
                return ask()

        is_over = partial(_is_over, deadline, has_fallback)
        for pause in _PAUSES:
            wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            try:
                response = attempt()
            except failure as error:
                wait = max(wait, _pause_after(error, first=pause == _PAUSES[0]))
                if is_over(wait, error):
                    raise
                _tell(error)
            else:
                wait = max(wait, told_to_wait(response))
                if not is_passing(response) or is_over(wait):
                    return response
                fields = {"status": response.status_code, "url": redacted(response.url)}
                logger.warning("An upstream is asked again.", extra={"fields": fields})
                discard(response)
            sleep(wait, client)
            self._observer.happened(Event.RETRIED)
        return attempt()


def _is_over(
    deadline: float,
    has_fallback: Fallback | None,
    wait: float,
    error: UpstreamUnavailable | None = None,
) -> bool:
    """Tell whether there is no other attempt: too late, or not worth it for one with a fallback."""
    if time.monotonic() + wait > deadline:
        return True
    is_long = wait > _SHORT or isinstance(error, _ABSENT)
    return is_long and has_fallback is not None and has_fallback()


def _tell(error: UpstreamUnavailable) -> None:
    """Say why an upstream is asked again, unless that has been said.

    What requests raises is told where it is translated, and a host that is left alone by its
    breaker; a body that breaks is told nowhere.
    """
    told = isinstance(error, UpstreamDown | UpstreamUnresolved)
    if not told and not isinstance(error.__cause__, FAILURES):
        logger.warning("An upstream is asked again.", extra={"fields": {"error": str(error)}})


def sleep(seconds: float, client: Client | None) -> None:
    """Wait; raise ClientGone as soon as nobody waits for the outcome any more."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if client is not None and client.gone():
            raise ClientGone
        _NEVER.wait(min(left, _CLIENT_CHECK))


def _is_passing(response: requests.Response) -> bool:
    return response.status_code in _PASSING and told_to_wait(response) <= _LONGEST_TOLD


def told_to_wait(response: requests.Response) -> float:
    """Return the seconds of a Retry-After; infinity for what cannot be read as such."""
    return seconds_in(response.headers.get("Retry-After", ""))


def seconds_in(told: str) -> float:
    """Read a Retry-After; a date says that it takes too long, whatever it is."""
    told = told.strip()
    if not told:
        return 0
    return float(told[:9]) if told.isascii() and told.isdecimal() else float("inf")


def _pause_after(error: UpstreamUnavailable, *, first: bool) -> float:
    """Return the seconds to wait at least; infinity where asking again does not help.

    A host that is left alone refuses whoever comes new; who has begun to ask waits for it.
    """
    if isinstance(error, UpstreamUntrusted) or (first and isinstance(error, UpstreamDown)):
        return float("inf")
    if not isinstance(error, UpstreamDown):
        return 0
    told = seconds_in(error.added.get("Retry-After", ""))
    return told if told <= _LONGEST_TOLD else float("inf")
