"""What is known of refusals, whatever the store could write down."""

import time
from dataclasses import dataclass

from app.cache.lately import Lately
from app.store.signs import Signs


@dataclass(frozen=True, slots=True)
class _Refusal:
    at: float
    written: bool


class Refusals:
    """Whom a registry has refused lately; `lifetime` is for how many seconds a yes may count.

    A store that cannot be written takes nothing away: it is not believed then, here and, by a sign,
    in the other workers. And an answer that was on its way while another one refused is no yes.
    """

    def __init__(self, about: str, lifetime: float, signs: Signs) -> None:
        self._about = about
        self._lifetime = lifetime
        self._signs = signs
        self._told = Lately[_Refusal]()
        self._unwritten: dict[tuple[str, ...], float] = {}

    def note(self, *key: str, written: bool = False) -> None:
        """Remember a refusal of just now, and whether the store has it too."""
        now = time.monotonic()
        self._told.put(key, _Refusal(now, written))
        if written:
            self._settle(key)
        else:
            self._unwritten[key] = now
            self._signs.put_up(self._sign(key))

    def since(self, *key: str, moment: float) -> bool:
        """Tell whether there was a refusal after a moment (of the monotonic clock)."""
        told = self._told.get(key)
        return told is not None and told.at >= moment

    def lift(self, *key: str) -> None:
        """Forget a refusal: there was a yes to a later question."""
        self._told.forget(key)
        self._settle(key)

    def counts(self, *key: str) -> bool:
        """Tell whether somebody is refused, and only the workers know, not the store."""
        return key in self.unwritten() or self._signs.is_up_elsewhere(self._sign(key))

    def unwritten(self) -> list[tuple[str, ...]]:
        """Return what the store does not have, as long as that matters."""
        if not self._unwritten:
            return []
        ended = time.monotonic() - self._lifetime
        for key, at in list(self._unwritten.items()):
            if at < ended:
                self._settle(key)
        return list(self._unwritten)

    def _settle(self, key: tuple[str, ...]) -> None:
        if self._unwritten.pop(key, None) is not None:
            self._signs.take_down(self._sign(key))

    def _sign(self, key: tuple[str, ...]) -> str:
        return "\n".join((self._about, *key))
