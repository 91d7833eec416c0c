"""What workers show each other: rows of those that live, and the seconds of all."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from app import shared_memory
from app.metrics import board
from app.metrics.board import SERIES, WorkerSlot


@pytest.fixture
def seat() -> Iterator[WorkerSlot]:
    """Return a seat on an empty board; the board is empty afterwards."""
    yield WorkerSlot()
    shared_memory.BOARD[: 2 * shared_memory.SLOT_SIZE] = bytes(2 * shared_memory.SLOT_SIZE)
    shared_memory.assign_worker_slot(0)


def another_seat(process: int) -> WorkerSlot:
    """Return the seat of another process, or of one that is dead."""
    shared_memory.assign_worker_slot(1)
    made = WorkerSlot()
    struct.pack_into("=d", shared_memory.BOARD, shared_memory.SLOT_SIZE, process)
    return made


def dead_process() -> int:
    """Return the number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_row_is_seen_until_it_ends(seat: WorkerSlot) -> None:
    """With what it tells, and how it stands."""
    row = seat.acquire_row("download", {"repository": "a/b"})
    assert row is not None
    seat.write(row, 0, 4711)
    (seen,) = board.iter_rows()
    assert (seen.kind, seen.labels, seen.numbers) == (
        "download",
        {"repository": "a/b"},
        (4711, 0, 0),
    )
    seat.release_row(row)
    assert list(board.iter_rows()) == []


def test_a_row_that_has_no_room_is_none(seat: WorkerSlot) -> None:
    """Too long a text is not shown, and neither is one too many; what ends makes room."""
    assert seat.acquire_row("download", {"repository": "x" * 1000}) is None
    taken = []
    while (row := seat.acquire_row("download", {})) is not None:
        taken.append(row)
    assert len(taken) > 400
    seat.release_row(taken[0])
    assert seat.acquire_row("download", {}) is not None


def test_a_row_that_is_half_written_is_none(seat: WorkerSlot) -> None:
    """A reader may come at any moment."""
    row = seat.acquire_row("download", {"repository": "a/b"})
    assert row is not None
    text = shared_memory.BOARD.find(b'["download"')
    shared_memory.BOARD[text : text + 4] = b"\0\xff[{"
    assert list(board.iter_rows()) == []


def test_rows_of_the_dead_are_not_seen(seat: WorkerSlot) -> None:
    """A worker that was killed has no downloads any more; one that lives has."""
    del seat
    another_seat(dead_process()).acquire_row("download", {})
    assert list(board.iter_rows()) == []
    another_seat(os.getpid()).acquire_row("download", {})
    assert len(list(board.iter_rows())) == 1


def test_seconds_are_those_of_all(seat: WorkerSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Second by second, also of workers that are dead; what is older than the board is gone."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    other = another_seat(dead_process())
    requests = SERIES.index("requests")
    for count in (1, 2, 4):
        seat.add(requests, count)
        other.add(requests, 10)
        now[0] += 1
    assert board.sum_seconds(1_800_000_003, 4)["requests"] == [11, 12, 14, 0]
    now[0] += board.SECONDS
    seat.add(requests, 1)
    assert board.sum_seconds(int(now[0]), 2)["requests"] == [0, 1]
