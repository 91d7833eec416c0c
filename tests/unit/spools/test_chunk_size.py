"""How much a client gets at once."""

import pytest

from app.spools.chunk_size import Pace


def test_who_is_swift_gets_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And less again after a pause: what it does not take is held in memory."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace()
    small = pace.piece
    while pace.piece == small:
        pace.hand()
        pace.taken(pace.piece)
    assert pace.piece == 16 * small
    pace.hand()
    now += 1
    pace.taken(pace.piece)
    assert pace.piece == small
