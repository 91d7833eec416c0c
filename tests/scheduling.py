"""Which of pytest-xdist's processes runs which file of tests."""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import PurePath
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped] # it has no types

_LAST: Final = "tests/unit"
"""Its files are short, so that no process waits long for the last ones of another."""


@cache
def site_of(file: str) -> str:
    """Return what the files share whose tests share servers: a folder, or the start of a name.

    In tests/integration that is the first word, as in test_pull_blobs.py and test_pull_limits.py.
    """
    path = PurePath(file)
    folder = path.parent.as_posix()
    if path.parent.name != "integration":
        return folder
    return f"{folder}/{'_'.join(path.stem.split('_')[:2])}"


def next_file(
    waiting: Iterable[str], begun: Mapping[str, Collection[object]], process: object
) -> str:
    """Return the file that a process begins now: one of another's site only if there is no other.

    `begun` has the processes that have begun with files of a site.
    """

    def order(file: str) -> tuple[bool, bool]:
        site = site_of(file)
        return site.startswith(_LAST), site in begun and process not in begun[site]

    return min(waiting, key=order)


class BySite(LoadFileScheduling):  # type: ignore[misc] # as above
    """Keeps the tests of a file together, and the files of a site where they can be.

    A process that takes the first file of a site starts servers that the site's other files use,
    which another process would have to start as well.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._begun: dict[str, set[object]] = {}

    def _assign_work_unit(self, node: object) -> None:
        file = next_file(self.workqueue, self._begun, node)
        self._begun.setdefault(site_of(file), set()).add(node)
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)
