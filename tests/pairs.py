"""Few rows out of the product of independent axes."""

import itertools
import random
from collections.abc import Sequence
from typing import Any


def pairs(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return rows in which every two values of different axes meet at least once.

    A fault that needs one value, or two of different axes, is met by one of these rows. A fault
    that needs three may not be, so whatever is decided by three needs a table of its own.
    There are as many rows as the two longest axes have pairs, or a few more; they are the same in
    every process. A product of two axes has no fewer rows than that, and needs no `pairs`.
    """
    assert len(axes) > 1
    cells = [[(axis, at) for at in range(len(values))] for axis, values in enumerate(axes)]
    cells.sort(key=len, reverse=True)
    missing = dict.fromkeys(
        pair
        for one, other in itertools.combinations(cells, 2)
        for pair in itertools.product(one, other)
    )
    choose = random.Random(0)  # noqa: S311 - the same rows each time
    rows: list[tuple[Any, ...]] = []
    while missing:
        row = [*next(iter(missing))]
        for axis in cells:
            if axis[0][0] not in dict(row):
                gains = {
                    cell: sum((one, cell) in missing or (cell, one) in missing for one in row)
                    for cell in choose.sample(axis, len(axis))  # a tie falls to any of them
                }
                row.append(max(gains, key=gains.__getitem__))
        for pair in itertools.permutations(row, 2):
            missing.pop(pair, None)
        rows.append(tuple(axes[axis][at] for axis, at in sorted(row)))
    return rows
