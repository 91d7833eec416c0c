"""What manifests were found to say."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.access.image_facts import ImageFactsCache
from app.oci.errors import ClientGone
from app.oci.image import INDEX, ImageMetadata
from app.oci.reference import Digest
from tests.servers import wait_until

ONE, TWO, THREE = (Digest(f"sha256:{number:064}") for number in range(3))


def test_it_is_bounded() -> None:
    """What was asked for longest ago goes first."""
    known = ImageFactsCache(2)
    known.get_or_read(ONE, lambda: INDEX)
    known.get_or_read(TWO, ImageMetadata)
    assert known.lookup(ONE) == INDEX
    known.get_or_read(THREE, ImageMetadata)
    assert [known.lookup(one) for one in (ONE, TWO, THREE)] == [INDEX, None, ImageMetadata()]


def test_what_is_not_found_is_not_kept() -> None:
    """The next one looks again."""
    known = ImageFactsCache()
    assert known.get_or_read(ONE, lambda: None) is None
    assert known.get_or_read(ONE, lambda: INDEX) == INDEX


class Slow:
    """Reads as soon as all others wait, or have found out that they need not."""

    def __init__(self, outcomes: list[ImageMetadata | Exception | None]) -> None:
        self._lock = threading.Lock()
        self._outcomes = outcomes
        self.go_on = threading.Event()
        self.reading = 0

    def read(self) -> ImageMetadata | None:
        """Give one outcome after the other."""
        with self._lock:
            outcome = self._outcomes[min(self.reading, len(self._outcomes) - 1)]
            self.reading += 1
        assert self.go_on.wait(20)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def together(
    known: ImageFactsCache, slow: Slow, many: int
) -> list[ImageMetadata | BaseException | None]:
    """Ask so many times at once, and return what each was told."""
    begun = threading.Barrier(many + 1)

    def ask() -> ImageMetadata | None:
        begun.wait(20)
        return known.get_or_read(ONE, slow.read)

    with ThreadPoolExecutor(many) as pool:
        running = [pool.submit(ask) for _ in range(many)]
        begun.wait(20)
        wait_until(lambda: slow.reading > 0, what="who reads")
        slow.go_on.set()
        return [one.exception(20) or one.result(20) for one in running]


def test_one_reads_for_all() -> None:
    """However many ask at once."""
    slow = Slow([INDEX])
    assert together(ImageFactsCache(), slow, 8) == [INDEX] * 8
    assert slow.reading == 1


@pytest.mark.parametrize("failure", [None, ValueError("cut")], ids=["no answer", "an error"])
def test_nobody_suffers_from_another(failure: Exception | None) -> None:
    """Who has waited for one that was refused reads in their own name."""
    slow = Slow([failure, INDEX])
    told = together(ImageFactsCache(), slow, 8)
    assert told.count(INDEX) == 7
    assert told.count(failure) == 1


class Gone:
    """A client that has left."""

    def is_gone(self) -> bool:
        """Tell so."""
        return True


def test_a_client_that_has_left_waits_no_longer() -> None:
    """The one who reads goes on, for the others."""
    known, slow = ImageFactsCache(), Slow([INDEX])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(known.get_or_read, ONE, slow.read, Gone())
        wait_until(lambda: slow.reading > 0, what="who reads")
        with pytest.raises(ClientGone):
            known.get_or_read(ONE, slow.read, Gone())
        slow.go_on.set()
        assert reading.result(20) == INDEX


def test_manifests_at_hand() -> None:
    """The same bytes are known without a digest, others are not; large ones and old ones go."""
    known, facts = ImageFactsCache(), ImageMetadata(is_index=True)
    known.store_by_bytes(b"one", facts)
    assert known.lookup_by_bytes(b"-one"[1:]) is facts
    assert known.lookup_by_bytes(b"two") is None
    large = bytes(1 << 20)
    known.store_by_bytes(large, facts)
    assert known.lookup_by_bytes(large) is None
    for number in range(256):
        known.store_by_bytes(str(number).encode(), facts)
    assert known.lookup_by_bytes(b"one") is None
    assert known.lookup_by_bytes(b"255") is facts
