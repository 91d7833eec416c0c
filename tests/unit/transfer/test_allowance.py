"""Room on the disk for fetches of parts: it is made for all that they bring, and may run out."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.transfer.allowance import Allowance
from app.transfer.chunk_map import CHUNK
from app.transfer.connections import Connection
from app.transfer.lease import Span
from app.transfer.rest import parse_rest
from app.transfer.shared_blob import CONNECTIONS, FirstAnswer
from app.transfer.transfers import Transfer
from tests.unit.transfer.parts import (
    Cache,
    Gate,
    Origin,
    ask_for,
    blob_of,
    open_body,
    read_all,
    start_fetch,
    wait_for,
)

DATA = blob_of(40 * CHUNK)
PART = (0, 30 * CHUNK)
STEP = 8 * CHUNK
"""The least for which room is made."""


@pytest.mark.parametrize(
    ("size", "taken", "made"),
    [
        pytest.param(100 * CHUNK, [CHUNK] * 9, [STEP] * 2, id="small ones share a step"),
        pytest.param(100 * CHUNK, [9 * CHUNK] * 2, [9 * CHUNK] * 2, id="large ones"),
        pytest.param(10, [5, 5, 5], [10] * 2, id="a small blob"),
    ],
)
def test_steps(size: int, taken: Sequence[int], made: Sequence[int]) -> None:
    """What has been made is used before more is made."""
    asked = list[int]()
    allowance = Allowance(asked.append, size)
    for count in taken:
        allowance.take(count)
    assert asked == made


@pytest.mark.parametrize("most", [1, CONNECTIONS])
def test_room_for_each_part(tmp_path: Path, most: int) -> None:
    """Also for what the first lease grows into, and for all that follows it."""
    cache, origin = Cache(tmp_path, connections=most), Origin(DATA)
    assert cache.read(origin, PART) == DATA[slice(*PART)]
    cache.wait_until_idle(origin)
    assert PART[1] <= origin.sent <= sum(cache.room_asked) <= 2 * PART[1]


def test_room_for_the_whole_is_made_once(tmp_path: Path) -> None:
    """For what is missing of it, if only a part was wanted before."""
    cache, origin = Cache(tmp_path), Origin(DATA, gate=Gate(0))
    transfer = cache.enter(origin)
    start_fetch(origin, transfer, [(0, CHUNK)], whole=False)
    start_fetch(origin, transfer)
    origin.gate.let()
    transfer.close()
    cache.wait_until_idle(origin)
    assert cache.kept
    assert cache.room_asked == [CHUNK, len(DATA)]


def test_no_room_for_more(tmp_path: Path) -> None:
    """The fetch ends as on a full disk: the reader gets the rest for itself alone."""
    cache, origin = Cache(tmp_path, connections=1), Origin(DATA)
    cache.has_room = lambda: len(cache.room_asked) < 2
    assert cache.read(origin, PART) == DATA[slice(*PART)]
    cache.wait_until_idle(origin)
    assert cache.list_files() == []
    assert {one.errno for one in cache.failures} == {28}
    (start, end), *_ = origin.asked_alone
    assert (start <= STEP, end, len(origin.asked_alone)) == (True, PART[1], 1)


def ask_first(origin: Origin, transfer: Transfer, span: Span) -> FirstAnswer:
    """Return the answer to a client of whom nobody knows yet what it may read."""
    lease = transfer.blob.acquire_lease([span], span[1] - span[0])
    assert lease is not None
    connection = Connection()
    rest = parse_rest(origin.fetch_part(*span, connection), span[0], len(origin.data))
    assert rest is not None
    return FirstAnswer(connection, lease, rest)


@pytest.mark.parametrize("has_asked", [False, True])
@pytest.mark.parametrize("has_room", [False, True])
def test_a_part_elsewhere(tmp_path: Path, *, has_asked: bool, has_room: bool) -> None:
    """Without room for it, its reader alone goes on without the file."""
    cache, origin = Cache(tmp_path), Origin(DATA, gate=Gate(0))
    cache.has_room = lambda: has_room or len(cache.room_asked) < 2
    transfer, span = cache.enter(origin), (20 * CHUNK, 32 * CHUNK)
    body = open_body(origin, transfer, (0, CHUNK))
    start_fetch(origin, transfer, [(0, CHUNK)], whole=False)
    wait_for(lambda: origin.open_now == 1)
    first = ask_first(origin, transfer, span) if has_asked else None
    try:
        transfer.fetch(ask_for(origin, transfer, whole=False), [span], whole=False, first=first)
    except OSError:
        assert not has_room
        assert len(cache.failures) == 1 - has_asked  # whoever has asked the registry reports it
        if first is not None:
            first.rest.close()
            first.lease.close()
    else:
        assert has_room
    assert len(cache.room_asked) == 2
    origin.gate.let()
    assert read_all(body) == DATA[:CHUNK]
    cache.wait_until_idle(origin)
    assert cache.list_files() == [".data", ".map"]
