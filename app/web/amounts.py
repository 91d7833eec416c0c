"""Bytes and seconds as people read them; assets/figures.js writes them alike."""

from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1000
_TEN: Final = 9.95
"""Below this a number has one decimal place, as there is no room for more."""
_MINUTE, _HOUR = 60, 3600


def size(count: float) -> str:
    """Return bytes in the unit that leaves few digits: `9.5 MB`, `120 MB`."""
    unit = 0
    while count >= _THOUSAND - 0.5 and unit < len(_UNITS) - 1:
        count /= _THOUSAND
        unit += 1
    digits = 1 if unit and count < _TEN else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def number(count: float) -> str:
    """Return a whole number, grouped as English, Korean and Chinese group it."""
    return f"{count:,.0f}"


def time(seconds: float) -> tuple[str, int]:
    """Return the unit that a time has, and how many of it, rounded to the nearest."""
    if seconds < 2 * _MINUTE:
        return "seconds", round(seconds)
    if seconds < 2 * _HOUR:
        return "minutes", round(seconds / _MINUTE)
    return "hours", round(seconds / _HOUR)
