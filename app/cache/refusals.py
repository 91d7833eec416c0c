"""What this worker knows of refusals, whatever the store could write down."""

import time
from dataclasses import dataclass

from app.cache.lately import Lately


@dataclass(frozen=True, slots=True)
class _Refusal:
    at: float
    written: bool


class Refusals:
    """Whom a registry has refused lately; `lifetime` is for how many seconds a yes may count.

    A store that cannot be written takes nothing away: this worker does not believe it then.
    And an answer that was on its way while another one refused is no yes.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._told = Lately[_Refusal]()

    def note(self, *key: str, written: bool = False) -> None:
        """Remember a refusal of just now, and whether the store has it too."""
        self._told.put(key, _Refusal(time.monotonic(), written))

    def since(self, *key: str, moment: float) -> bool:
        """Tell whether there was a refusal after a moment (of the monotonic clock)."""
        told = self._told.get(key)
        return told is not None and told.at >= moment

    def lift(self, *key: str) -> None:
        """Forget a refusal: there was a yes to a later question."""
        self._told.forget(key)

    def counts(self, *key: str) -> bool:
        """Tell whether somebody is refused, and only this worker knows."""
        told = self._told.get(key)
        if told is None or told.written:
            return False
        return time.monotonic() - told.at <= self._lifetime
