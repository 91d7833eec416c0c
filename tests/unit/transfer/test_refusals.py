"""Registries that take few requests: what they are asked, and for how long."""

from pathlib import Path

import pytest

from app.source import BodyBroken
from app.transfer import connections
from app.transfer.chunk_map import CHUNK
from app.transfer.lease import Span
from tests.unit.transfer.parts import Cache, HurriedClock, Origin, blob_of, read_all

DATA = blob_of(10_500)


@pytest.mark.parametrize("span", [(0, 100 * CHUNK), (20 * CHUNK, 80 * CHUNK)])
def test_one_connection_asks_for_all_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, span: Span
) -> None:
    """Once, up to what is there already: a registry that does not redirect counts requests."""
    monkeypatch.setattr(connections, "_SHORTEST_STALL", 60.0)  # a busy machine stalls, too
    cache, origin = Cache(tmp_path, connections=1), Origin(blob_of(100 * CHUNK))
    holding = cache.enter(origin)
    there = (50 * CHUNK, 51 * CHUNK)
    assert cache.read(origin, there) == origin.data[slice(*there)]
    cache.wait_until_fetched(origin)
    assert cache.read(origin, span) == origin.data[slice(*span)]
    assert origin.asked == [there, (span[0], there[0]), (there[1], span[1])]
    holding.close()


@pytest.mark.parametrize("fault", ["429", "503", "refused", "cut"])
def test_a_refusal_that_passes(tmp_path: Path, fault: str) -> None:
    """Readers wait for the next request, and get all."""
    origin = Origin(DATA, fault=lambda number: fault if number <= 4 else "", cut_at=4000)
    assert Cache(tmp_path).read(origin) == DATA
    assert len(origin.asked) == 5


@pytest.mark.parametrize("after_bytes", [False, True])
def test_a_registry_that_says_when(tmp_path: Path, *, after_bytes: bool) -> None:
    """It is not asked before."""
    clock = HurriedClock()
    asked_at = list[float]()

    def refuse_once(number: int) -> str:
        asked_at.append(clock.now)
        if number == 1 and after_bytes:
            return "short"
        return "429" if number == 1 + after_bytes else ""

    origin = Origin(DATA, fault=refuse_once, retry_after="15")
    assert Cache(tmp_path, clock=clock, connections=1).read(origin) == DATA
    assert len(asked_at) == 2 + after_bytes
    assert asked_at[-1] - asked_at[-2] >= 15


def test_a_registry_that_refuses_for_too_long(tmp_path: Path) -> None:
    """Nobody waits for it; and whoever comes later has the registry asked again."""
    cache, origin = Cache(tmp_path), Origin(DATA, fault=lambda _: "429", retry_after="3600")
    holding = cache.enter(origin)
    for number in range(1, 3):
        with pytest.raises(BodyBroken, match="429"):
            cache.read(origin)
        assert len(origin.asked) == number
    holding.close()


def test_a_login_that_has_expired(tmp_path: Path) -> None:
    """Its client is told at once, because only it can log in again; others go on."""
    cache = Cache(tmp_path)
    expired, origin = Origin(DATA, fault=lambda _: "401"), Origin(DATA)
    bodies = [cache.open(one) for one in (expired, origin)]
    with pytest.raises(BodyBroken, match="401"):
        read_all(bodies[0])
    assert read_all(bodies[1]) == DATA
    assert (len(expired.asked), len(origin.asked)) == (1, 1)
