"""The board, on which each worker publishes its state to the others, in shared memory.

A worker's slot holds the sums of recent seconds, and rows about downloads, registries and the pulls
that are left. No lock guards the board: a worker writes to its own slot only, eight bytes at a
time, and a reader ignores a partly written row.
"""

import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from app import shared_memory

SECONDS: Final = 128
"""The number of seconds that a slot remembers, including the current, incomplete one."""
SERIES: Final = ("bytes_sent", "bytes_received", "requests", "hits", "misses", "errors")

_NUMBER: Final = struct.Struct("=d")
_SECOND: Final = struct.Struct(f"={1 + len(SERIES)}d")
_TEXT_SIZE: Final = 480
_ROW: Final = struct.Struct(f"=4d{_TEXT_SIZE}s")
"""A row: 1 if it is in use, three numbers, and a JSON text."""

_HEADER: Final = 64
_SECONDS_AT: Final = _HEADER
_ROWS_AT: Final = _SECONDS_AT + SECONDS * _SECOND.size
_ROWS: Final = (shared_memory.SLOT_SIZE - _ROWS_AT) // _ROW.size


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: the kind of its subject, the labels of the subject, and three numbers.

    counting.py defines the kinds and the meaning of the numbers.
    """

    kind: str
    labels: dict[str, Any]
    numbers: tuple[float, float, float]


class WorkerSlot:
    """The slot of this process on the board, which is cleared when the object is created."""

    def __init__(self) -> None:
        self._memory = memoryview(shared_memory.BOARD)
        self._offset = shared_memory.get_worker_slot() * shared_memory.SLOT_SIZE
        self._memory[self._offset : self._offset + shared_memory.SLOT_SIZE] = bytes(
            shared_memory.SLOT_SIZE
        )
        _NUMBER.pack_into(self._memory, self._offset, os.getpid())
        self._free = list(range(_ROWS - 1, -1, -1))
        self._second = 0
        self._second_offset = 0
        self._sums = [0.0] * len(SERIES)

    def add(self, series: int, amount: float) -> None:
        """Add `amount` to a series in the current wall-clock second.

        `series` is an index into `SERIES`.
        """
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._second_offset = self._offset + _SECONDS_AT + now % SECONDS * _SECOND.size
            self._sums = [0.0] * len(SERIES)
            _SECOND.pack_into(self._memory, self._second_offset, now, *self._sums)
        self._sums[series] += amount
        offset = self._second_offset + (1 + series) * _NUMBER.size
        _NUMBER.pack_into(self._memory, offset, self._sums[series])

    def acquire_row(self, kind: str, labels: dict[str, Any]) -> int | None:
        """Begin a row and return its number.

        Return None if no row is free, or if kind and labels need more than 480 bytes of JSON.
        """
        text = json.dumps([kind, labels]).encode()
        if not self._free or len(text) > _TEXT_SIZE:
            return None
        row = self._free.pop()
        _ROW.pack_into(self._memory, self._row_offset(row), 0.0, 0.0, 0.0, 0.0, text)
        _NUMBER.pack_into(self._memory, self._row_offset(row), 1.0)
        return row

    def write(self, row: int, index: int, value: float) -> None:
        """Write one of the three numbers of a row; `index` is 0, 1 or 2."""
        _NUMBER.pack_into(self._memory, self._row_offset(row) + (1 + index) * _NUMBER.size, value)

    def read(self, row: int, index: int) -> float:
        """Return one of the three numbers of a row; `index` is 0, 1 or 2."""
        offset = self._row_offset(row) + (1 + index) * _NUMBER.size
        return float(_NUMBER.unpack_from(self._memory, offset)[0])

    def release_row(self, row: int) -> None:
        """Mark a row as free."""
        _NUMBER.pack_into(self._memory, self._row_offset(row), 0.0)
        self._free.append(row)

    def _row_offset(self, row: int) -> int:
        return self._offset + _ROWS_AT + row * _ROW.size


def sum_seconds(until: int, count: int) -> dict[str, list[float]]:
    """Return the sums of all workers for each series, one per second.

    Each list has `count` seconds and ends with the wall-clock second `until`.
    """
    sums = {name: [0.0] * count for name in SERIES}
    for slot_offset in _iter_slots():
        for position in range(SECONDS):
            second, *values = _SECOND.unpack_from(
                shared_memory.BOARD, slot_offset + _SECONDS_AT + position * _SECOND.size
            )
            index = int(second) - until + count - 1
            if 0 <= index < count:
                for name, value in zip(SERIES, values, strict=True):
                    sums[name][index] += value
    return sums


def iter_rows() -> Iterator[Row]:
    """Yield the rows of all workers whose processes are alive."""
    for slot_offset in _iter_slots():
        if not _is_alive(int(_NUMBER.unpack_from(shared_memory.BOARD, slot_offset)[0])):
            continue
        for position in range(_ROWS):
            is_used, *numbers, text = _ROW.unpack_from(
                shared_memory.BOARD, slot_offset + _ROWS_AT + position * _ROW.size
            )
            if is_used and (parsed := _parse_row(text)):
                first, second, third = numbers
                yield Row(parsed[0], parsed[1], (first, second, third))


def _iter_slots() -> Iterator[int]:
    for slot in range(shared_memory.SLOT_COUNT):
        offset = slot * shared_memory.SLOT_SIZE
        if _NUMBER.unpack_from(shared_memory.BOARD, offset)[0]:
            yield offset


def _parse_row(text: bytes) -> tuple[str, dict[str, Any]] | None:
    try:
        kind, labels = json.loads(text.rstrip(b"\0"))
    except ValueError:
        return None
    return (kind, labels) if isinstance(labels, dict) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
