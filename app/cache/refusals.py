"""What this process knows of refusals, whatever the store could write down."""

from dataclasses import dataclass
from typing import Final

from app.cache.lately import Lately
from app.store.store import Store

_MOST: Final = 1000
"""Signs of refusals that take nothing away; the latest, since clients choose how many there are."""


@dataclass(frozen=True, slots=True)
class _Unwritten:
    at: float
    revokes: bool


class Refusals:
    """Whom a registry has refused lately; `lifetime` is for how many seconds a yes may count.

    A store that cannot be written takes nothing away: it is not believed then, here and, by a sign,
    in the other workers. Moments are those of the store's clock.
    """

    def __init__(self, about: str, lifetime: float, store: Store) -> None:
        self._about = about
        self._lifetime = lifetime
        self._signs = store.signs
        self._clock = store.clock
        self._told = Lately[float]()
        self._unwritten: dict[tuple[str, ...], _Unwritten] = {}

    def note(self, *key: str, revokes: bool) -> float:
        """Remember a refusal that the store does not have yet, and return its moment.

        `revokes` tells whether the store has a yes that it takes away. If not, it counts only
        against answers that are on their way.
        """
        now = self._clock.now()
        self._told.put(key, now)
        self._unwritten.pop(key, None)
        self._unwritten[key] = _Unwritten(now, revokes)
        self._signs.put_up(self._sign(key))
        if not revokes and len(self._unwritten) > _MOST:
            self._drop_oldest()
        return now

    def written(self, *key: str, at: float) -> None:
        """Note that the store has the refusal of that moment; a later one it may not have."""
        self._settle(key, at)

    def since(self, *key: str, moment: float) -> bool:
        """Tell whether there was a refusal at a moment or after it."""
        told = self._told.get(key)
        return told is not None and told >= moment

    def lift(self, *key: str, moment: float) -> None:
        """Forget the refusals before a moment: a question of then was answered with yes."""
        if not self.since(*key, moment=moment):
            self._told.forget(key)
        self._settle(key, moment)

    def counts(self, *key: str) -> bool:
        """Tell whether somebody is refused, and only the workers know, not the store."""
        return key in self._lasting() or self._signs.is_up_elsewhere(self._sign(key))

    def unwritten(self) -> list[tuple[tuple[str, ...], float]]:
        """Return the refusals that the store does not have, as long as they matter, and when."""
        return [(key, one.at) for key, one in self._lasting().items()]

    def _lasting(self) -> dict[tuple[str, ...], _Unwritten]:
        if self._unwritten:
            ended = self._clock.now() - self._lifetime
            for key, one in list(self._unwritten.items()):
                if one.at < ended:
                    self._settle(key, one.at)
        return dict(self._unwritten)

    def _drop_oldest(self) -> None:
        slight = [
            (key, one.at) for key, one in list(self._unwritten.items()) if not one.revokes
        ]  # fmt: skip
        for key, at in slight[:-_MOST]:
            self._settle(key, at)

    def _settle(self, key: tuple[str, ...], moment: float) -> None:
        found = self._unwritten.get(key)
        if found is not None and found.at <= moment:
            self._unwritten.pop(key, None)
            self._signs.take_down(self._sign(key))

    def _sign(self, key: tuple[str, ...]) -> str:
        return "\n".join((self._about, *key))
