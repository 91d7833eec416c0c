"""What the doctor can find: how bad it is, what it is called, and what to change.

Each has its section in docs/troubleshooting.md, whose heading is the title.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.doctor import wrong_front, wrong_here, wrong_pull, wrong_way

DOCUMENT: Final = "docs/troubleshooting.md"

_NOT_IN_ANCHORS: Final = re.compile(r"[^\w\- ]")


class Level(StrEnum):
    """How bad it is: an error keeps some client from pulling."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    name: str
    level: Level
    title: str
    change: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """Return where the document says more."""
        slug = _NOT_IN_ANCHORS.sub("", self.title.lower()).replace(" ", "-")
        return f"{DOCUMENT}#{slug}"


_TABLES: Final = tuple(
    (level, rows)
    for module in (wrong_here, wrong_way, wrong_front, wrong_pull)
    for level, rows in ((Level.ERROR, module.ERRORS), (Level.WARNING, module.WARNINGS))
)

FINDINGS: Final[Mapping[str, Finding]] = {
    name: Finding(name, level, title, tuple(change))
    for level, rows in _TABLES
    for name, (title, *change) in rows.items()
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried, and what came of it; `wrong` names the finding, if there is one."""

    tried: str
    came: str
    wrong: str = ""
    skipped: str = ""
    """Why it was not tried, in place of what came."""

    @property
    def finding(self) -> Finding | None:
        """Return what is wrong, or None."""
        return FINDINGS[self.wrong] if self.wrong else None
