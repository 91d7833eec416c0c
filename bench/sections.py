"""Replaces a section of docs/performance.md that was measured alone."""

import re
from typing import Final

_LAST: Final = re.compile(r"^## Soak\n", re.MULTILINE)


def put_into(page: str, section: str) -> str:
    """Return the page with a section replaced, or else inserted before the last section.

    Raise ValueError if the page has no place for it.
    """
    title = re.escape(section.partition("\n")[0])
    own = re.compile(rf"^{title}\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
    changed, count = own.subn(lambda _: f"{section}\n", page)
    if not count:
        changed, count = _LAST.subn(lambda found: f"{section}\n{found[0]}", page)
    if count != 1:
        message = f"the page has {count} sections that this could stand in place of, or before"
        raise ValueError(message)
    return changed
