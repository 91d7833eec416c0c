"""An observer that remembers what it was told."""

from collections import Counter

from app.events import Budget, Event


class Remembering:
    """Counts by event and what it was about, and adds up the amounts."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Event, str]] = Counter()
        self.amounts: Counter[Event] = Counter()
        self.budgets: list[Budget] = []

    def observe(self, event: Event, about: str = "", amount: float = 1) -> None:
        """Remember an event."""
        self.counts[event, about] += 1
        self.amounts[event] += int(amount)

    def record_budget(self, budget: Budget) -> None:
        """Remember a budget."""
        self.budgets.append(budget)
