"""Where the registry's redirects have led: further parts are asked for there, while it has them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.oci.errors import UpstreamUnavailable
from app.source import Place, PlaceExpired, PlaceForbidden, Reply
from app.transfer.chunk_map import CHUNK
from app.transfer.place import KnownPlace
from tests.unit.transfer.parts import Cache, Origin, blob_of, wait_for

OLD, NEW = Place("https://storage.example/old"), Place("https://storage.example/new")
ANSWER = Reply(status=206)


@dataclass
class Storage:
    """What the registry redirects to: it serves the new place, and the old one no longer."""

    asked: list[Place] = field(default_factory=list)

    def __call__(self, place: Place) -> Reply:
        """Answer, or say that the place has expired."""
        self.asked.append(place)
        if place == OLD:
            raise PlaceExpired
        return ANSWER


@dataclass
class Registry:
    """A registry that answers by itself, or redirects."""

    answer: Callable[[], Reply] = lambda: ANSWER
    asked: int = 0

    def __call__(self) -> Reply:
        """Answer, as it is told to."""
        self.asked += 1
        return self.answer()


def redirect_to(place: Place) -> Reply:
    return Reply(status=206, place=place)


def fail(*_: object) -> Reply:
    raise UpstreamUnavailable


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[KnownPlace, KnownPlace]]:
    """Return what two processes know of a blob."""
    origin = Origin(b"a blob")
    transfers = [Cache(tmp_path).enter(origin) for _ in range(2)]
    yield transfers[0].place, transfers[1].place
    for transfer in transfers:
        transfer.close()


@pytest.fixture
def place(places: tuple[KnownPlace, KnownPlace]) -> KnownPlace:
    """Return what one process knows of a blob."""
    return places[0]


def test_a_registry_that_does_not_redirect(place: KnownPlace) -> None:
    """It is asked for each part."""
    registry = Registry()
    for _ in range(3):
        assert place.fetch(Storage(), registry) is ANSWER
    assert registry.asked == 3
    assert not place.is_known


def test_a_registry_that_redirects(place: KnownPlace) -> None:
    """It is asked once, for as many parts as are needed."""
    registry, storage = Registry(lambda: redirect_to(NEW)), Storage()
    assert place.fetch(storage, registry).place == NEW
    for _ in range(2):
        assert place.fetch(storage, registry) is ANSWER
    assert storage.asked == [NEW] * 2
    assert registry.asked == 1
    assert place.is_known


def test_other_processes_need_not_ask(places: tuple[KnownPlace, KnownPlace]) -> None:
    """They learn where the first one was led to, and where others were led after that."""
    one, other = places
    registry, storage = Registry(fail), Storage()
    one.remember(redirect_to(NEW))
    assert other.fetch(storage, registry) is ANSWER
    other.remember(redirect_to(OLD))
    one.forget()
    assert one.fetch(storage, Registry()) is ANSWER
    assert storage.asked == [NEW, OLD]


def test_one_that_has_expired(place: KnownPlace) -> None:
    """The registry is asked for another one, once."""
    registry, storage = Registry(lambda: redirect_to(NEW)), Storage()
    place.remember(redirect_to(OLD))
    assert place.fetch(storage, registry).place == NEW
    for _ in range(2):
        assert place.fetch(storage, registry) is ANSWER
    assert (storage.asked, registry.asked) == ([OLD, NEW, NEW], 1)


def test_many_connections_ask_the_registry_once(place: KnownPlace) -> None:
    """The others wait for its answer, and use the new place."""
    begun, may_answer, storage = threading.Event(), threading.Event(), Storage()

    def redirect() -> Reply:
        begun.set()
        assert may_answer.wait(60)
        return redirect_to(NEW)

    registry = Registry(redirect)
    place.remember(redirect_to(OLD))
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(place.fetch, storage, registry)
        assert begun.wait(60)
        others = [threads.submit(place.fetch, storage, registry) for _ in range(7)]
        may_answer.set()
        assert first.result(60).place == NEW
        assert [other.result(60) for other in others] == [ANSWER] * 7
    assert registry.asked == 1
    assert storage.asked == [OLD, *[NEW] * 7]


def test_connections_to_a_registry_do_not_wait_for_each_other(place: KnownPlace) -> None:
    """Where it is known not to redirect."""
    registry, storage = Registry(), Storage()
    place.fetch(storage, registry)
    all_here = threading.Barrier(3)

    def meet() -> Reply:
        all_here.wait(60)
        return ANSWER

    registry.answer = meet
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(place.fetch, storage, registry) for _ in range(3)]
        assert [answer.result(60) for answer in answers] == [ANSWER] * 3


def test_one_that_was_told_meanwhile_is_kept(place: KnownPlace) -> None:
    """The end of an earlier place says nothing about it."""
    registry, asked = Registry(fail), list[Place]()

    def expire_late(which: Place) -> Reply:
        asked.append(which)
        if which == OLD:
            place.remember(redirect_to(NEW))
            raise PlaceExpired
        return ANSWER

    place.remember(redirect_to(OLD))
    assert place.fetch(expire_late, registry) is ANSWER
    assert asked == [OLD, NEW]


def test_one_that_another_process_was_told_meanwhile(
    places: tuple[KnownPlace, KnownPlace],
) -> None:
    """It is used, and stays; the registry is not asked again."""
    here, elsewhere = places
    registry, storage = Registry(fail), Storage()
    here.remember(redirect_to(OLD))
    elsewhere.remember(redirect_to(NEW))
    for one in (here, elsewhere):
        assert one.fetch(storage, registry) is ANSWER
    assert storage.asked == [OLD, NEW, NEW]
    assert registry.asked == 0


@pytest.mark.parametrize("redirects", [False, True])
def test_a_question_that_fails(place: KnownPlace, *, redirects: bool) -> None:
    """It says nothing about the place, and the next question is asked like the first."""
    registry = Registry(fail)
    if redirects:
        place.remember(redirect_to(NEW))
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            place.fetch(fail, registry)
    assert registry.asked == (0 if redirects else 2)
    assert place.is_known == redirects


def test_a_client_that_may_not_read_there(places: tuple[KnownPlace, KnownPlace]) -> None:
    """It asks the registry, and nobody else does."""
    place, other = places

    def forbid(_: Place) -> Reply:
        raise PlaceForbidden

    registry, storage = Registry(), Storage()
    place.remember(redirect_to(NEW))
    for _ in range(2):
        assert place.fetch(forbid, registry) is ANSWER
    assert registry.asked == 2
    for one in (place, other):
        assert one.fetch(storage, fail) is ANSWER
    assert storage.asked == [NEW] * 2


def test_a_refusal_is_no_place(place: KnownPlace) -> None:
    """The registry is asked again, and its redirect counts then."""
    replies = iter([Reply(status=503), redirect_to(NEW)])
    registry, storage = Registry(lambda: next(replies)), Storage()
    assert place.fetch(storage, registry).status == 503
    assert not place.is_known
    assert place.fetch(storage, registry).place == NEW
    assert place.fetch(storage, registry) is ANSWER


class TestDownloads:
    """Whole blobs, and parts of them."""

    def test_a_blob_costs_one_question_to_the_registry(self, tmp_path: Path) -> None:
        """All further parts come from the place, whoever reads them, in whichever process."""
        cache, origin = Cache(tmp_path), Origin(blob_of(40 * CHUNK), redirects=True)
        other = Cache(tmp_path, cache)
        holding = cache.enter(origin)
        for start in (30 * CHUNK, 20 * CHUNK, 10 * CHUNK):
            for one in (cache, other):
                assert one.read(origin, (start, start + 10)) == origin.data[start : start + 10]
                start += CHUNK  # noqa: PLW2901 - each process needs a chunk of its own
        assert cache.read(origin) == origin.data
        assert len(origin.asked) == 1
        assert len(origin.asked_place) >= 6
        holding.close()

    def test_a_place_that_expires_costs_another(self, tmp_path: Path) -> None:
        """The registry is asked anew, and what came stays."""
        cache, origin = Cache(tmp_path), Origin(blob_of(40 * CHUNK), redirects=True)
        holding = cache.enter(origin)
        spans = [(start * CHUNK, start * CHUNK + 10) for start in (30, 20, 10)]
        for generation, (start, end) in enumerate(spans):
            origin.generation = generation
            assert cache.read(origin, (start, end)) == origin.data[start:end]
        assert len(origin.asked) == 3
        assert len(origin.asked_place) == 2
        assert cache.read(origin) == origin.data
        wait_for(lambda: origin.sent == len(origin.data))
        assert len(origin.asked) == 3
        holding.close()

    def test_a_place_that_refuses(self, tmp_path: Path) -> None:
        """The registry is asked, which may lead to another one."""
        cache, origin = Cache(tmp_path), Origin(blob_of(10 * CHUNK), redirects=True)
        holding = cache.enter(origin)
        assert cache.read(origin, (0, 10)) == origin.data[:10]
        cache.wait_until_fetched(origin)
        origin.place_status = 403
        assert cache.read(origin, (CHUNK, CHUNK + 10)) == origin.data[CHUNK : CHUNK + 10]
        assert (len(origin.asked), len(origin.asked_place)) == (2, 1)
        holding.close()
