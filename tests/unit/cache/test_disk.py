"""The threads that wait for the disk: what is short never waits for what takes long."""

import threading

from tests.servers import wait_until
from tests.unit.cache.world import World, executor


def test_what_is_written_does_not_wait_for_large_files(world: World) -> None:
    """Many layers may be on their way to a slow disk, and a grant is wanted meanwhile."""
    disk = executor(world.storages.open())
    ended, begun = threading.Event(), list[int]()

    def take() -> None:
        begun.append(1)
        assert ended.wait(30)

    takers = [threading.Thread(target=disk.move, args=[take]) for _ in range(8)]
    for taker in takers:
        taker.start()
    try:
        wait_until(lambda: bool(begun))
        granting = threading.Thread(target=disk.write, args=[lambda: None])
        granting.start()
        granting.join(5)
        assert not granting.is_alive()
        assert disk.read(lambda: True)
    finally:
        ended.set()
        for taker in takers:
            taker.join(30)
