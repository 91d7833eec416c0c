"""The clock of the tests itself."""

import threading

from tests.unit.upstream.hurry import hurried


def test_a_thread_of_before_moves_no_clock() -> None:
    """A server that an earlier test left behind looks around every so often."""
    ending, looked, looks = threading.Event(), threading.Event(), []

    def look_around() -> None:
        while not ending.wait(0.001):
            looks.append(1)
            looked.set()

    stranger = threading.Thread(target=look_around)
    stranger.start()
    try:
        with hurried() as clock:
            looked.clear()
            assert looked.wait()
            assert clock.now == type(clock)().now
            threading.Event().wait(7)
            assert clock.now == type(clock)().now + 7
    finally:
        ending.set()
        stranger.join()
