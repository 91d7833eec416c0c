import itertools
from collections.abc import Sequence

import pytest

from tests.pairs import pairs


@pytest.mark.parametrize(
    ("axes", "most"),
    [
        pytest.param(["ab", "cd"], 4, id="a product"),
        pytest.param(["abcde", "fgh", "ijklmnopqrstu"], 65, id="three"),
        pytest.param(["ab", "ab", "ab", "ab", "ab"], 8, id="equal values"),
        pytest.param(["a", "b", "cde"], 3, id="axes of one value"),
        pytest.param(["abcd", "efgh", "ijkl", "mn"], 20, id="four"),
    ],
)
def test_every_two_meet(axes: Sequence[str], most: int) -> None:
    """Each pair is in a row, the rows are distinct, few, and the same each time."""
    rows = pairs(*axes)
    for one, other in itertools.combinations(range(len(axes)), 2):
        met = {(row[one], row[other]) for row in rows}
        assert met == {*itertools.product(axes[one], axes[other])}
    assert len(rows) == len({*rows}) <= most
    assert rows == pairs(*axes)
