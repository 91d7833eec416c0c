"""How many connections a fan has, by what the last ones brought."""

import pytest

from app.transfer.connections import Growth
from tests.unit.transfer.parts import Clock


def idle() -> float:
    """Return the time of a processor that never works."""
    return 0.0


class TestGrowth:
    """How many connections there are, by what the last ones brought."""

    @pytest.mark.parametrize(
        ("rates", "most", "counts"),
        [
            pytest.param([1, 2, 3, 4, 5, 6, 7, 8], 8, [1, 2, 4, 8, 8, 8], id="each brings more"),
            pytest.param([1] * 8, 8, [1, 2, 1, 1, 1, 1], id="the line is full"),
            pytest.param([1, 1.09], 8, [1, 2, 1, 1], id="less than a tenth more"),
            pytest.param([1, 1.11, 0, 1.12], 8, [1, 2, 4, 2, 2], id="more than a tenth more"),
            pytest.param([1, 2, 3, 3, 3, 3, 3, 3], 8, [1, 2, 4, 8, 4, 4], id="full with three"),
            pytest.param([1, 2, 3], 3, [1, 2, 3, 3, 3], id="no more are allowed"),
            pytest.param([1], 1, [1, 1, 1], id="one is allowed"),
        ],
    )
    def test_it_doubles_while_that_helps(
        self, rates: list[float], most: int, counts: list[int]
    ) -> None:
        """`rates` are the bytes in a second over one connection, over two, and so on."""
        clock, received, count = Clock(), 0.0, 1
        growth, decided = Growth(clock, idle), list[int]()
        for _ in counts:
            clock.now += 1
            received += 1_000_000 * rates[count - 1]
            count = growth.decide(int(received), count, most)
            decided.append(count)
        assert decided == counts

    def test_it_measures_anew_after_a_pause(self) -> None:
        """What came while not all delivered says nothing."""
        clock = Clock()
        growth, now = Growth(clock, idle), iter(range(1, 100))

        def decide(received: int, count: int) -> int:
            clock.now = next(now)
            return growth.decide(received, count, 8)

        assert [decide(0, 1), decide(100, 1)] == [1, 2]
        growth.skip()
        assert [decide(100, 2), decide(300, 2)] == [2, 4]

    def test_it_decides_nothing_at_once(self) -> None:
        """Two looks at the same moment have no rate between them."""
        growth = Growth(Clock(), idle)
        assert [growth.decide(received, 2, 8) for received in (0, 100)] == [2, 2]

    def test_fewer_are_allowed_than_there_are(self) -> None:
        """Those above go at once, whatever they bring."""
        assert Growth(Clock(), idle).decide(0, 5, 3) == 3

    def test_a_processor_that_is_the_limit(self) -> None:
        """Half of them go while it is, and it is measured anew when it is not any more."""
        clock, processor = Clock(), Clock()
        growth, decided, count, received = Growth(clock, processor), list[int](), 8, 0
        for busy in (0.9, 0.9, 0.81, 0.9, 0.9, 0.1, 0.79, 0.1):
            clock.now += 1
            processor.now += busy
            received += 1_000_000 * count
            count = growth.decide(received, count, 8)
            decided.append(count)
        assert decided == [8, 4, 2, 1, 1, 2, 4, 8]

    def test_a_processor_that_becomes_the_limit(self) -> None:
        """Though their number has been settled before."""
        clock, processor = Clock(), Clock()
        growth = Growth(clock, processor)

        def decide(received: int, count: int, busy: float) -> int:
            clock.now += 1
            processor.now += busy
            return growth.decide(received, count, 8)

        assert [decide(0, 2, 0), decide(100, 2, 0), decide(200, 4, 0)] == [2, 4, 2]
        assert [decide(300, 2, 0), decide(400, 2, 0.9)] == [2, 1]
