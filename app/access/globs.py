"""Patterns of names: `*` stays within one component, `**` does not, `?` is one character."""

import re
from typing import Final

_STARS: Final = re.compile(r"(\*\*+|\*)")


def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches whole names, in a time that no name can make long.

    Where a star has found the first place at which what follows it fits, no later place would do
    better, so the groups are atomic: clients choose the names.
    """
    first, *rest = _STARS.split(pattern)
    parts = [(rest[at], _literal(rest[at + 1])) for at in range(0, len(rest), 2)]
    if parts:
        star, literal = parts[-1]
        parts[-1] = star, rf"{literal}\Z"
    else:
        return re.compile(rf"{_literal(first)}\Z")
    text, opened = _literal(first), 0
    for star, literal in parts:
        if star == "*":
            text += f"(?>[^/]*?{literal})"
        else:
            text += f"{')' * opened}(?>.*?{literal}"
            opened = 1
    return re.compile(text + ")" * opened)


def _literal(text: str) -> str:
    return "".join("[^/]" if character == "?" else re.escape(character) for character in text)
