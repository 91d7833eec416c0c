"""The order in which passwords are hashed: fair to networks, with returning users first."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final, Protocol

from app.oci.errors import LoginsBusy

MOST_WAITING: Final = 128
"""Logins of one worker that may wait; at 60 ms for each hash, the last of them waits 8 s."""
_TURN_TIMEOUT: Final = 10.0
"""Seconds that a login waits for its turn; the Docker CLI gives up after 15."""
_OPEN_TURN_INTERVAL: Final = 4
"""One turn in this many is open to every class."""


class QueuedLogin(Protocol):
    """A login that waits for a turn."""

    @property
    def prefixes(self) -> Sequence[Hashable]:
        """The networks that the login comes from, from the narrowest to the widest."""

    @property
    def rank(self) -> int:
        """The current class of the login; a lower one goes first."""


class LoginQueue:
    """Gives out one turn at a time.

    Logins of the best class go first. Within a class the sites alternate, so that many logins from
    one site delay the others no more than a single login would. Every fourth turn ignores the
    classes, so that no class starves another. If too many logins wait, the newest login of the
    worst class in the fullest network is refused.
    """

    def __init__(self, max_waiting: int = MOST_WAITING, timeout: float = _TURN_TIMEOUT) -> None:
        self._most, self._patience = max_waiting, timeout
        self._lock = threading.Lock()
        self._numbers = count()
        self._waiting: list[_Waiter] = []
        self._served: dict[Hashable, int] = {}
        """The last turn of each site with waiting logins, as a number drawn from `_numbers`."""
        self._is_taken = False
        self._granted_count = 0

    @property
    def waiting_count(self) -> int:
        """The number of logins that wait for a turn."""
        return len(self._waiting)

    @contextmanager
    def hold_turn(self, login: QueuedLogin) -> Iterator[None]:
        """Wait for a turn and hold it; raise LoginsBusy if none comes in time or too many wait."""
        self._acquire_turn(login)
        try:
            yield
        finally:
            with self._lock:
                self._grant_next()

    def _acquire_turn(self, login: QueuedLogin) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            waiter = _Waiter(login, next(self._numbers))
            self._waiting.append(waiter)
            if len(self._waiting) > self._most:
                self._remove(_choose_refused(self._waiting))
        try:
            waiter.done.wait(self._patience)
        except BaseException:  # if the greenlet is killed, its turn must not be lost with it
            with self._lock:
                self._remove(waiter)
                if waiter.has_turn:
                    self._grant_next()
            raise
        with self._lock:
            if not waiter.has_turn:
                self._remove(waiter)
                raise LoginsBusy

    def _remove(self, waiter: "_Waiter") -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.done.set()

    def _grant_next(self) -> None:
        if not self._waiting:
            self._is_taken = False
            return
        self._granted_count += 1
        is_open_turn = self._granted_count % _OPEN_TURN_INTERVAL == 0
        chosen = min(
            self._waiting if is_open_turn else _filter_by_rank(min, self._waiting),
            key=self._sort_key,
        )
        self._waiting.remove(chosen)
        last_turns = {**self._served, chosen.site: next(self._numbers)}
        waiting_sites = {waiter.site for waiter in self._waiting}
        self._served = {
            site: number for site, number in last_turns.items() if site in waiting_sites
        }
        chosen.has_turn = True
        chosen.done.set()

    def _sort_key(self, waiter: "_Waiter") -> tuple[int, int]:
        """Return the sort key: a site that had a turn goes behind all that waited at that time."""
        return max(waiter.number, self._served.get(waiter.site, -1)), waiter.number


class _Waiter:
    """A login in the queue."""

    def __init__(self, login: QueuedLogin, number: int) -> None:
        self.login, self.number = login, number
        self.site = login.prefixes[0]
        self.has_turn = False
        self.done = threading.Event()

    def network_at(self, depth: int) -> Hashable:
        """Return the widest network for depth 0 and narrower ones after it, down to the site."""
        widest_first = self.login.prefixes[::-1]
        return widest_first[min(depth, len(widest_first) - 1)]


def _filter_by_rank(
    choose: Callable[[list[int]], int], waiting: "list[_Waiter]"
) -> "list[_Waiter]":
    """Return the waiters of the lowest rank (`choose` is min) or of the highest (max)."""
    ranks = [waiter.login.rank for waiter in waiting]
    chosen_rank = choose(ranks)
    return [waiter for waiter, rank in zip(waiting, ranks, strict=True) if rank == chosen_rank]


def _choose_refused(waiting: "list[_Waiter]") -> "_Waiter":
    """Return the waiter to refuse: the newest of the worst class in the fullest network.

    Within the fullest wide network, the fullest of its narrower networks is chosen.
    """
    candidates = _filter_by_rank(max, waiting)
    for depth in range(max(len(waiter.login.prefixes) for waiter in candidates)):
        sizes = Counter(waiter.network_at(depth) for waiter in candidates)
        largest = max(sizes.values())
        fullest = next(
            waiter.network_at(depth)
            for waiter in reversed(candidates)
            if sizes[waiter.network_at(depth)] == largest
        )
        candidates = [waiter for waiter in candidates if waiter.network_at(depth) == fullest]
    return candidates[-1]
