"""Medians and spreads of values that were measured in rounds."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Summarize the values of all rounds."""
        measured = list(values)
        return cls(statistics.median(measured), min(measured), max(measured))

    @classmethod
    def ratio(cls, ours: Iterable[float], theirs: Iterable[float]) -> Self:
        """Summarize the ratio in each round, in which both had the same noise."""
        return cls.of(a / b for a, b in zip(ours, theirs, strict=True))

    def text(self, digits: int) -> str:
        """Return the median, followed by the spread."""
        median, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median} ({low} to {high})"
