"""Sizes and ages as people write and read them."""

import re
from typing import Final

import click

_STEP: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def size(number: int) -> str:
    """Return `1.2 GiB` for bytes."""
    if number < _STEP:
        return f"{number} B"
    amount, units = number / _STEP, list(_UNITS)
    while amount >= _STEP and len(units) > 1:
        amount, units = amount / _STEP, units[1:]
    return f"{amount:.1f} {units[0]}"


def counted(number: int, one: str, many: str) -> str:
    """Return `1 entry`, `2 entries`."""
    return f"{number} {one if number == 1 else many}"


def seconds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of `90m`, `36h` or `30d`, for an option; raise BadParameter."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        message = f"{value} is no age like 90m, 36h or 30d"
        raise click.BadParameter(message)
    return int(found[1]) * _SECONDS[found[2]]
