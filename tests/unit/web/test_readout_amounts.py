"""Amounts as people read them."""

import pytest

from app.web import readout


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (7, "7 B"), (999, "999 B"), (1000, "1.0 kB"), (9_940, "9.9 kB"),
        (9_960, "10 kB"), (999_400, "999 kB"), (999_600, "1.0 MB"), (1_234_567, "1.2 MB"),
        (50e9, "50 GB"), (3.2e12, "3.2 TB"), (5e18, "5000 PB"),
    ],
)  # fmt: skip
def test_sizes(count: float, text: str) -> None:
    """Two or three digits, in the unit that needs no more."""
    assert readout.format_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, ("seconds", 0)), (119, ("seconds", 119)), (120, ("minutes", 2)),
        (3600, ("minutes", 60)), (7200, ("hours", 2)), (21600, ("hours", 6)),
    ],
)  # fmt: skip
def test_times(seconds: float, told: tuple[str, int]) -> None:
    """A unit is taken when there are two of it."""
    assert readout.round_duration(seconds) == told


def test_numbers() -> None:
    """Grouped, without a fraction."""
    assert readout.format_number(1234567.0) == "1,234,567"
