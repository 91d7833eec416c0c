"""A few thousand things to remember for a while, the latest of them."""

from typing import Final, Generic, TypeVar

_MOST: Final = 10_000

Thing = TypeVar("Thing")


class Lately(Generic[Thing]):
    """A dictionary of the latest entries, without a lock.

    It is used on real threads, and under gevent a lock of Python's is the event loop's. Each step
    is one operation of the interpreter's; where two threads meet, an entry may be lost.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._things: dict[tuple[str, ...], Thing] = {}

    def put(self, key: tuple[str, ...], thing: Thing) -> None:
        """Remember something as the latest."""
        self._things.pop(key, None)
        self._things[key] = thing
        if len(self._things) > self._most:
            self._things = dict(list(self._things.items())[-(self._most // 2) :])

    def get(self, key: tuple[str, ...]) -> Thing | None:
        """Return what is remembered, or None."""
        return self._things.get(key)

    def forget(self, key: tuple[str, ...]) -> None:
        """Remember it no more."""
        self._things.pop(key, None)
