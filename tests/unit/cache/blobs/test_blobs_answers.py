"""What was just told about a blob."""

from app.cache.blobs.blobs import RecentConfirmations

KEY = ("caller", "name", "digest")


def test_a_yes_counts_until_a_no() -> None:
    """To the one who was told, by the moment of the question."""
    answers = RecentConfirmations()
    assert answers.lookup(KEY, 0) is None
    answers.record_success(KEY, 0, 100.0)
    assert answers.lookup(KEY, 99.0) == (0, 100.0)
    assert answers.lookup(KEY, 100.0) is None
    assert answers.lookup(("other", *KEY[1:]), 99.0) is None
    answers.record_refusal(KEY)
    assert answers.lookup(KEY, 99.0) is None
