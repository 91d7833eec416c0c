"""When the next fetch of a blob begins after one that has failed, and for how long that goes on."""

import time
from collections.abc import Callable
from http import HTTPStatus

from app.oci.errors import Denied, RegistryError
from app.oci.headers import parse_retry_after
from app.source import BodyBroken
from app.transfer.connections import PartRefused
from app.waiting import choose_pause


class Patience:
    """Counts the time in which the fetches of a blob in this process bring nothing.

    A fetch that has brought nothing is followed by a pause that grows, or by as long a one as the
    registry has asked for. After `budget` seconds without a byte, no further fetch begins.
    """

    def __init__(self, budget: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._failures = 0
        self._failure: BaseException | None = None
        self._arrived: int | None = None
        self._next = 0.0
        """When the next fetch may begin."""
        self._deadline = 0.0
        """When the last one may begin; it counts only after a failure."""

    def record_start(self, arrived: int) -> None:
        """Take note that a fetch begins; so many bytes of the blob are there."""
        if self._arrived is None:
            self._arrived = arrived

    def record_end(
        self, failure: BaseException | None, *, arrived: int, received_at: float
    ) -> None:
        """Take note of how a fetch has ended; `arrived` bytes of the blob are there now.

        `received_at` is when its last byte came, or when it began.
        """
        has_progressed, self._arrived = arrived != self._arrived, arrived
        if self._failure is None or has_progressed:
            self._deadline = received_at + self._budget
            self._failures = 0
        self._failure = failure
        if failure is not None:
            pause = 0.0 if has_progressed else choose_pause(self._failures)
            self._failures += not has_progressed
            self._next = self._clock() + max(pause, _find_retry_after(failure))

    def record_reader(self) -> None:
        """Take note of a new reader, who has all of the time."""
        if self._is_over():
            self._failure, self._failures = None, 0  # the registry may answer by now
        else:
            self._deadline = self._clock() + self._budget

    def is_pausing(self) -> bool:
        """Return whether the next fetch is to begin later."""
        return self._failure is not None and not self._is_over() and self._clock() < self._next

    def check(self, *, is_refused: bool = False) -> None:
        """Raise BodyBroken if no further fetch begins, or if whoever asks is refused for good."""
        if is_refused or self._is_over():
            raise BodyBroken(str(self._failure))

    def _is_over(self) -> bool:
        return self._failure is not None and self._next > self._deadline


def is_final(failure: BaseException) -> bool:
    """Return whether the registry refuses the client, which would have to log in again."""
    if isinstance(failure, PartRefused):
        return failure.status == HTTPStatus.UNAUTHORIZED
    return isinstance(failure, Denied)


def _find_retry_after(failure: BaseException) -> float:
    """Return for how many seconds nothing is to be asked, as far as the failure says."""
    if isinstance(failure, PartRefused):
        return failure.retry_after
    if isinstance(failure, RegistryError):
        return parse_retry_after(failure.extra_headers.get("Retry-After", ""))
    return 0.0
