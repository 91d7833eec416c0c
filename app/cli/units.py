"""Format sizes and counts for people, and parse the ages that they write."""

import re
from typing import Final

import click

_STEP: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def format_binary_size(number: int) -> str:
    """Return a number of bytes in binary units, such as `1.2 GiB`."""
    if number < _STEP:
        return f"{number} B"
    amount, units = number / _STEP, list(_UNITS)
    while amount >= _STEP and len(units) > 1:
        amount, units = amount / _STEP, units[1:]
    return f"{amount:.1f} {units[0]}"


def format_count(number: int, singular: str, plural: str) -> str:
    """Return a number with the noun that fits it: `1 entry`, `2 entries`."""
    return f"{number} {singular if number == 1 else plural}"


def parse_age(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return an option's age, such as `90m`, `36h` or `30d`, in seconds.

    This is a callback for click. Return None if the option is not given; raise BadParameter if
    the value is not an age.
    """
    if value is None:
        return None
    match = _AGE.fullmatch(value)
    if match is None:
        message = f"{value} is not an age like 90m, 36h or 30d"
        raise click.BadParameter(message)
    return int(match[1]) * _SECONDS[match[2]]
