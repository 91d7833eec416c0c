"""The order in which passwords are hashed: fair to addresses, and kind to those who were right."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final, Protocol

from app.oci.errors import LoginsBusy

MOST_WAITING: Final = 128
"""Logins of one worker that wait; at 60 ms for each hash the last of them waits for 8 s."""
_PATIENCE: Final = 10.0
"""Seconds that a login waits for its turn; the Docker CLI gives up after 15."""
_FOR_ALL: Final = 4
"""One turn of so many is for every class."""


class Login(Protocol):
    """Someone who waits for a turn."""

    @property
    def prefixes(self) -> Sequence[Hashable]:
        """The networks that the login comes from, from the narrowest to the widest."""

    @property
    def rank(self) -> int:
        """The class of the login now; a lower one goes first."""


class Turns:
    """Gives out one turn after the other.

    Those of the best class go first. In a class the networks take turns, so that many logins from
    one network delay the others no more than a single one would. Each fourth turn ignores the
    classes, so that no class starves another.
    If more logins wait than may, the newest one of the worst class and the fullest network is
    refused.
    """

    def __init__(self, most: int = MOST_WAITING, patience: float = _PATIENCE) -> None:
        self._most, self._patience = most, patience
        self._lock = threading.Lock()
        self._numbers = count()
        self._waiting: list[_Waiter] = []
        self._served: dict[Hashable, int] = {}
        """When each network that still waits had its last turn, as a number of `_numbers`."""
        self._is_taken = False
        self._given = 0

    @property
    def waiting(self) -> int:
        """How many logins wait."""
        return len(self._waiting)

    @contextmanager
    def turn(self, login: Login) -> Iterator[None]:
        """Wait for a turn and hold it; raise LoginsBusy if none comes in time."""
        self._take(login)
        try:
            yield
        finally:
            with self._lock:
                self._pass_on()

    def _take(self, login: Login) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            waiter = _Waiter(login, next(self._numbers))
            self._waiting.append(waiter)
            if len(self._waiting) > self._most:
                self._drop(_newest_of_most(self._waiting))
        try:
            waiter.ended.wait(self._patience)
        except BaseException:  # the greenlet is killed: its turn would be lost with it
            with self._lock:
                self._drop(waiter)
                if waiter.has_turn:
                    self._pass_on()
            raise
        with self._lock:
            if not waiter.has_turn:
                self._drop(waiter)
                raise LoginsBusy

    def _drop(self, waiter: "_Waiter") -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.ended.set()

    def _pass_on(self) -> None:
        if not self._waiting:
            self._is_taken = False
            return
        self._given += 1
        is_for_all = self._given % _FOR_ALL == 0
        chosen = min(self._waiting if is_for_all else _of(min, self._waiting), key=self._order)
        self._waiting.remove(chosen)
        served = {**self._served, chosen.site: next(self._numbers)}
        still = {waiter.site for waiter in self._waiting}
        self._served = {site: number for site, number in served.items() if site in still}
        chosen.has_turn = True
        chosen.ended.set()

    def _order(self, waiter: "_Waiter") -> tuple[int, int]:
        """Return what to sort by: a network that has had a turn is behind all that waited then."""
        return max(waiter.number, self._served.get(waiter.site, -1)), waiter.number


class _Waiter:
    """A login in the queue."""

    def __init__(self, login: Login, number: int) -> None:
        self.login, self.number = login, number
        self.site = login.prefixes[0]
        self.has_turn = False
        self.ended = threading.Event()

    def network(self, depth: int) -> Hashable:
        """Return the widest network for 0, a narrower one for each more, at last the narrowest."""
        widest_first = self.login.prefixes[::-1]
        return widest_first[min(depth, len(widest_first) - 1)]


def _of(best: Callable[[list[int]], int], waiting: "list[_Waiter]") -> "list[_Waiter]":
    """Return the waiters of the lowest or of the highest rank."""
    ranks = [waiter.login.rank for waiter in waiting]
    wanted = best(ranks)
    return [waiter for waiter, rank in zip(waiting, ranks, strict=True) if rank == wanted]


def _newest_of_most(waiting: "list[_Waiter]") -> "_Waiter":
    """Return whom to refuse: of the worst class, in the fullest network, there in the fullest."""
    left = _of(max, waiting)
    for depth in range(max(len(waiter.login.prefixes) for waiter in left)):
        sizes = Counter(waiter.network(depth) for waiter in left)
        most = max(sizes.values())
        fullest = next(w.network(depth) for w in reversed(left) if sizes[w.network(depth)] == most)
        left = [waiter for waiter in left if waiter.network(depth) == fullest]
    return left[-1]
