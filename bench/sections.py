"""Replaces a section of docs/performance.md that was measured alone."""

import re
from typing import Final

_LAST: Final = re.compile(r"^## Soak\n", re.MULTILINE)


def replace_section(page: str, section: str) -> str:
    """Return the page with a section replaced, or else inserted before the last section.

    Raise ValueError if the page has no place for it.
    """
    title = re.escape(section.partition("\n")[0])
    own_section = re.compile(rf"^{title}\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
    changed, count = own_section.subn(lambda _: f"{section}\n", page)
    if not count:
        changed, count = _LAST.subn(lambda match: f"{section}\n{match[0]}", page)
    if count != 1:
        message = f"the page has {count} sections that this could stand in place of, or before"
        raise ValueError(message)
    return changed
