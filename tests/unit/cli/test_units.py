"""Sizes and ages."""

import click
import pytest

from app.cli import units


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    """In the unit that fits."""
    assert units.format_binary_size(number) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90m", 5400), ("36h", 129600), ("30d", 2592000), ("2w", 1209600), (None, None)],
)
def test_ages(text: str | None, seconds: int | None) -> None:
    """A number and a unit; none is none."""
    command, option = click.Command("x"), click.Option(["--x"])
    assert units.parse_age(click.Context(command), option, text) == seconds


def test_no_ages() -> None:
    """Anything else is refused."""
    for text in ["", "d", "30", "-1d", "1.5h", "1 d", "30d ", "1y"]:
        command, option = click.Command("x"), click.Option(["--x"])
        with pytest.raises(click.BadParameter):
            units.parse_age(click.Context(command), option, text)
