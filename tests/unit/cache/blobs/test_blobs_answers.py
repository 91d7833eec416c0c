"""What was just told about a blob, and who waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.cache.blobs.blobs import RecentConfirmations
from app.oci.errors import ClientGone
from tests.servers import wait_until

KEY = ("caller", "name", "digest")


class Leaving:
    """A client that has gone."""

    def is_gone(self) -> bool:
        """Say so."""
        return True


def test_a_yes_counts_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the one who was told, until a no, or a minute later."""
    now = 100.0
    monkeypatch.setattr("app.cache.blobs.blobs.time.monotonic", lambda: now)
    answers = RecentConfirmations()
    assert answers.lookup_size(KEY) is None
    answers.record_success(KEY, 0)
    assert answers.lookup_size(KEY) == 0
    assert answers.lookup_size(("other", *KEY[1:])) is None
    answers.record_refusal(KEY)
    assert answers.lookup_size(KEY) is None
    answers.record_success(KEY, 5)
    now += 61
    assert answers.lookup_size(KEY) is None


def test_others_wait_for_the_first() -> None:
    """And know that they have."""
    answers, waiting = RecentConfirmations(), threading.Event()

    def other() -> bool:
        waiting.set()
        with answers.wait_for_first(KEY, None) as asked:
            return asked

    with ThreadPoolExecutor() as threads:
        with answers.wait_for_first(KEY, None) as asked:
            assert not asked
            one = threads.submit(other)
            wait_until(waiting.is_set)
            with answers.wait_for_first(("another", *KEY[1:]), None) as asked_of_another:
                assert not asked_of_another
            with pytest.raises(ClientGone), answers.wait_for_first(KEY, Leaving()):
                pass
        one.result(10)
    with answers.wait_for_first(KEY, None) as asked:
        assert not asked
