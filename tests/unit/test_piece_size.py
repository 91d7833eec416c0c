"""How much a reader gets at once."""

import pytest

from app.piece_size import FROM_CONNECTION, FROM_FILE, SMALLEST, AdaptivePieceSize

MIB = 1024 * 1024


def hand(pieces: AdaptivePieceSize, total: int) -> set[int]:
    """Hand over this many bytes, and return the sizes of the pieces."""
    sizes = set[int]()
    while total > 0:
        sizes.add(pieces.size)
        total -= pieces.size
        pieces.record_handed()
        pieces.record_taken(pieces.size)
    return sizes


@pytest.mark.parametrize("largest", [FROM_CONNECTION, FROM_FILE])
def test_who_is_swift_gets_more(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """And less again after a pause: what it does not take is held in memory."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pieces = AdaptivePieceSize(largest)
    for _ in range(3):
        assert hand(pieces, 8 * MIB) == {SMALLEST}
        assert hand(pieces, 8 * MIB) == {largest}
        pieces.record_handed()
        now += 0.5
        pieces.record_taken(pieces.size)


def test_the_turns_of_others_are_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has thousands of readers."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pieces = AdaptivePieceSize(FROM_FILE)
    hand(pieces, 8 * MIB)
    for _ in range(100):
        pieces.record_handed()
        now += 0.4
        pieces.record_taken(pieces.size)
        assert pieces.size == FROM_FILE
