"""How much a client gets at once."""

import pytest

from app.spools.chunk_size import AdaptiveChunkSize


def test_who_is_swift_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And less again after a pause: what it does not take is held in memory."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = AdaptiveChunkSize()
    small = pace.size
    while pace.size == small:
        pace.record_handed()
        pace.record_taken(pace.size)
    assert pace.size == 16 * small
    pace.record_handed()
    now += 1
    pace.record_taken(pace.size)
    assert pace.size == small
