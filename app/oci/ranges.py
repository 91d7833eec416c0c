"""Which bytes a Range header asks for: RFC 9110, section 14."""

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Range:
    """One range as it was asked for: from a byte on, up to one, or the last so many."""

    first: int | None
    last: int | None

    def of(self, size: int) -> tuple[int, int] | None:
        """Return where it starts and ends in so many bytes, the last one not counted.

        What lies past the end is cut off; None if all of it does.
        """
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start = self.first
            end = size if self.last is None else min(self.last + 1, size)
        return (start, end) if start < end else None


def parse_range(header: str) -> Range | None:
    """Return the one range that a header asks for, or None for the whole.

    A header that cannot be read asks for nothing, and several ranges may be answered by the whole
    (section 14.2): no container client asks for them.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if (first is None and last is None) or (first or 0) > (last if last is not None else 10**18):
        return None
    return Range(first, last)
