"""Connections that bring nothing while their siblings do: their bytes are asked for again."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.source import Client, Reply
from app.transfer import connections, fan
from app.transfer.chunk_map import CHUNK
from app.transfer.connections import Connection, Growth
from app.transfer.shared_blob import CONNECTIONS
from tests.unit.transfer.parts import Cache, Origin, blob_of, start_fetch, wait_for


def fetch_unread(cache: Cache, origin: Origin) -> None:
    """Fetch a blob that nobody reads, and that must be whole in the end."""
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    transfer.close()
    cache.wait_until_idle(origin)
    assert cache.kept == {origin.digest: origin.data}


def test_its_rest_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its answer is closed."""
    monkeypatch.setattr(connections, "_SHORTEST_STALL", 0.2)
    monkeypatch.setattr(fan, "_TICK", 0.02)
    cache = Cache(tmp_path)
    origin = Origin(blob_of(40 * CHUNK), fault=lambda number: "stall" if number == 1 else "")
    assert cache.read(origin) == origin.data
    cache.wait_until_idle(origin)
    start, end = origin.asked[0]
    assert origin.ended_stalls == 1
    assert (start + end) // 2 in {start for start, _ in origin.asked}
    assert origin.open_now == 0
    assert origin.sent == len(origin.data)


def test_a_line_that_is_slow_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more than a few are given up: the others are waited for."""
    monkeypatch.setattr(connections, "_SHORTEST_STALL", 0.2)
    monkeypatch.setattr(fan, "_TICK", 0.02)
    monkeypatch.setattr(connections, "_MOST_STALLS", 2)
    cache = Cache(tmp_path, connections=1)
    origin = Origin(
        blob_of(40 * CHUNK),
        fault=lambda number: "stall" if number in {1, 2, 3} else "",
        stall_seconds=1.0,
    )
    assert cache.read(origin) == origin.data
    assert 1 <= origin.ended_stalls <= 2


@pytest.mark.parametrize("most", [1, CONNECTIONS])
def test_an_answer_that_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """It is waited for: how long it is on its way says nothing about the line."""
    looks = list[int]()

    class Looking(Growth):
        def decide(self, received: int, count: int, most: int) -> int:
            del count
            looks.append(received)
            return most

        def skip(self) -> None:
            looks.append(0)

    def answer_late(number: int) -> str:
        begun = len(looks)
        wait_for(lambda: number == 1 or len(looks) > begun + 10)
        return ""

    monkeypatch.setattr(fan, "Growth", Looking)
    monkeypatch.setattr(connections, "_SHORTEST_STALL", 0.01)
    monkeypatch.setattr(fan, "_TICK", 0.005)
    origin = Origin(blob_of(20 * CHUNK), fault=answer_late)
    fetch_unread(Cache(tmp_path, connections=most), origin)


@pytest.mark.parametrize("is_answered", [False, True])
def test_one_that_ends_as_it_stalls(tmp_path: Path, *, is_answered: bool) -> None:
    """With an error or too early, the same bytes are asked for again."""

    class Stalling(Origin):
        def fetch_part(self, start: int, end: int | None, client: Client | None) -> Reply:
            is_first = not self.asked
            if is_first and not is_answered:
                _stall(client)
            reply = super().fetch_part(start, end, client)
            if is_first and is_answered:
                _stall(client)
                return replace(reply, body=())
            return reply

    origin = Stalling(blob_of(20 * CHUNK))
    fetch_unread(Cache(tmp_path, connections=1), origin)
    assert origin.asked[0][0] == origin.asked[1][0]


def _stall(client: Client | None) -> None:
    assert isinstance(client, Connection)
    client.is_stalled = True
