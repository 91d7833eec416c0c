"""What was just told about a blob."""

import pytest

from app.cache.blobs.blobs import RecentConfirmations

KEY = ("caller", "name", "digest")


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
