"""What the workers of a machine tell each other about a blob."""

import os
from pathlib import Path

import pytest

from app.source import Place
from app.transfer import chunk_map, shared_facts
from app.transfer.chunk_map import ChunkMap, Head, read_head, write_head
from app.transfer.shared_facts import Confirmations, read_place, write_place
from app.transfer.shared_file import SharedFile

ALICE, BOB = ("alice", "team/app"), ("bob", "team/app")


@pytest.fixture
def file(tmp_path: Path) -> SharedFile:
    """Return the map of a blob of one chunk."""
    file = SharedFile.open(tmp_path / "map", os.O_RDWR | os.O_CREAT)
    write_head(file, Head(size=5))
    ChunkMap(file, 5).create()
    return file


def test_a_place(file: SharedFile) -> None:
    """It is read as it was written, and can be taken back."""
    assert read_place(file) is None
    place = Place("https://cdn.example/blob?signature=" + "x" * 3000, '"etag"')
    write_place(file, place)
    assert read_place(file) == place
    write_place(file, Place("https://cdn.example/b"))
    assert read_place(file) == Place("https://cdn.example/b")
    write_place(file, None)
    assert read_place(file) is None


def test_a_long_place_is_not_shared(file: SharedFile) -> None:
    """It would lie over what comes behind it."""
    write_place(file, Place("https://cdn.example/" + "x" * 8000))
    assert read_place(file) is None
    assert read_head(file) == Head(size=5)


def test_a_place_is_not_shown() -> None:
    """Its URL lets anybody in who has it."""
    assert "signature" not in repr(Place("https://cdn.example/?signature=x"))


def test_a_confirmation(file: SharedFile) -> None:
    """Of one caller and repository, for as long as the reader says."""
    confirmations = Confirmations(file)
    confirmations.record(ALICE, 100.0)
    assert confirmations.find(ALICE, since=99.0) == 100.0
    assert not confirmations.find(ALICE, since=100.0)
    assert not confirmations.find(BOB, since=0.0)
    assert not confirmations.find(("alice", "team/other"), since=0.0)


@pytest.mark.parametrize(
    ("asked_at", "refused_at", "counts"), [(100.0, 90.0, True), (90.0, 100.0, False)]
)
@pytest.mark.parametrize("refusal_comes_first", [False, True])
def test_the_later_question_counts(
    file: SharedFile,
    asked_at: float,
    refused_at: float,
    *,
    counts: bool,
    refusal_comes_first: bool,
) -> None:
    """In whichever order the answers are written: a yes that was late is no yes."""
    confirmations = Confirmations(file)
    if refusal_comes_first:
        confirmations.refuse(ALICE, refused_at)
        confirmations.record(ALICE, asked_at)
        assert confirmations.find(ALICE, since=0.0) == (asked_at if counts else None)
    else:
        confirmations.record(ALICE, asked_at)
        confirmations.refuse(ALICE, refused_at)
        assert not confirmations.find(ALICE, since=0.0)


def test_a_slot_is_taken_over(file: SharedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another caller whose hash chooses the same: neither has the other's right."""
    monkeypatch.setattr(shared_facts, "_SLOTS", 1)
    confirmations = Confirmations(file)
    confirmations.record(ALICE, 100.0)
    confirmations.record(BOB, 100.0)
    assert confirmations.find(BOB, since=0.0)
    assert not confirmations.find(ALICE, since=0.0)


def test_a_confirmation_of_an_earlier_boot(
    file: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its moment is one of another clock."""
    Confirmations(file).record(ALICE, 100.0)
    monkeypatch.setattr(shared_facts, "current_boot", lambda: 12345)
    assert not Confirmations(file).find(ALICE, since=0.0)


def test_entries_lie_apart(file: SharedFile) -> None:
    """The facts do not reach into the chunks' entries."""
    for number in range(500):
        Confirmations(file).record((str(number),), 1.0)
    assert ChunkMap(file, 5).read(0) == [chunk_map.Entry()]
    assert read_head(file) == Head(size=5)
