"""Time that passes when a test says so."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Stands for time.monotonic."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
