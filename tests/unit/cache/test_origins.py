"""Where the content of a repository has come from, and who may be given it from the cache."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from errno import EIO

import pytest

from app.cache.origins import OriginTracker
from app.oci.errors import RuleDenied, UpstreamUnreachable
from app.oci.reference import Digest, Operation, Reference, RepositoryName, Tag
from app.source import Reply, Request
from app.store.errors import build_error
from app.store.sqlite_notes import SqliteNotes
from tests.servers import wait_until
from tests.unit.cache.registry import FakeRegistry
from tests.unit.cache.world import ALICE, NAME, World, in_a_directory, read, request

TAG = Tag.parse("1.0")
MANIFEST = b"{}"
LAYER = b"layer" * 1000
THERE = RepositoryName("there/app")


class Leading(FakeRegistry):
    """A registry whose redirects have led to other repositories."""

    led_to: tuple[tuple[str, RepositoryName], ...] = (("other.example", THERE),)

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        return self._led(request, super().manifest(name, reference, request))

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        return self._led(request, super().blob(name, digest, request))

    def _led(self, request: Request, reply: Reply) -> Reply:
        for registry, name in self.led_to:
            if request.permit is not None:
                request.permit(registry, name, None)
        return replace(reply, redirect_targets=self.led_to)


class LeadingGets(Leading):
    """A registry that answers HEADs itself, and redirects only GETs."""

    def _led(self, request: Request, reply: Reply) -> Reply:
        return reply if request.method == "HEAD" else super()._led(request, reply)


@dataclass
class Rule:
    """Denies some repositories, and remembers what it was asked."""

    denied: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def __call__(self, registry: str, name: RepositoryName, reference: Reference | None) -> None:
        """Raise RuleRefused for what is denied."""
        del reference
        self.asked.append(f"{registry}/{name}")
        if f"{registry}/{name}" in self.denied:
            raise RuleDenied


ALLOWED = replace(request(), permit=Rule())
DENIED = replace(request(), permit=Rule(frozenset({f"other.example/{THERE}"})))


@pytest.fixture
def led(world: World) -> World:
    """Return a world in which everything comes from another registry."""
    world.registry = Leading()
    world.registry.repository(NAME, "", ALICE).push(TAG, MANIFEST)
    world.registry.repository(NAME).push_blob(LAYER)
    return world


@pytest.fixture
def led_gets(led: World) -> World:
    """Return one in which only GETs come from there."""
    repositories, led.registry = led.registry.repositories, LeadingGets()
    led.registry.repositories = repositories
    return led


def asks(world: World) -> list[Operation]:
    """Return what of a repository can be asked for."""
    repository = world.registry.repositories[NAME]
    (manifest,), (blob,) = repository.manifests, repository.blobs
    return [
        Operation.manifest(NAME, TAG),
        Operation.manifest(NAME, Digest(manifest)),
        Operation.blob(NAME, Digest(blob)),
    ]


def _said(reply: Reply) -> str:
    read(reply)
    return reply.header("cache-status")


@pytest.mark.parametrize("one", range(3), ids=["tag", "digest", "blob"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_kept_goes_to_whom_rules_let_have_it(led: World, one: int, method: str) -> None:
    """Also in another worker, and whoever had it before."""
    operation = asks(led)[one]
    ask = led.source().answer
    wait_until(lambda: "uri-miss" not in _said(ask(operation, request())), what="a copy")
    for _ in range(2):
        source = led.source()
        ask = source.answer
        with pytest.raises(RuleDenied):
            ask(operation, replace(DENIED, method=method))
        said = _said(ask(operation, replace(ALLOWED, method=method)))
        assert said == ("docxy; fwd=stale; fwd-status=200" if one == 0 else "docxy; hit")


@pytest.mark.parametrize("one", range(3), ids=["tag", "digest", "blob"])
def test_a_head_that_leads_nowhere_opens_nothing(led_gets: World, one: int) -> None:
    """The registry confirms with a HEAD what is kept; the rules are asked of where that is from."""
    operation = asks(led_gets)[one]
    ask = led_gets.source().answer
    wait_until(lambda: "uri-miss" not in _said(ask(operation, request())), what="a copy")
    ask = led_gets.source().answer
    for who in (DENIED, replace(DENIED, headers=request(ALICE).headers)):
        with pytest.raises(RuleDenied):
            ask(operation, who)
    assert "fwd=uri-miss; fwd-status=200" not in _said(ask(operation, ALLOWED))


def test_while_the_registry_is_away(led: World) -> None:
    """What is kept and public stays for those whom the rules let have it."""
    read(led.source().answer(Operation.manifest(NAME, TAG), request()))
    led.registry.trouble = UpstreamUnreachable("away")
    source = led.source()
    with pytest.raises(UpstreamUnreachable):
        source.answer(Operation.manifest(NAME, TAG), DENIED)
    assert read(source.answer(Operation.manifest(NAME, TAG), ALLOWED)) == MANIFEST


def test_a_registry_that_leads_elsewhere_by_now(led: World) -> None:
    """It decides itself; what it gave before stays where it came from."""
    digest = asks(led)[1].reference
    assert isinstance(digest, Digest)
    source = led.source()
    read(source.answer(Operation.manifest(NAME, digest), request()))
    assert isinstance(led.registry, Leading)
    led.registry.led_to = ()
    for _ in range(2):
        assert read(source.answer(Operation.manifest(NAME, digest), DENIED)) == MANIFEST
    assert led.registry.count("GET") == 3
    assert read(source.answer(Operation.manifest(NAME, digest), ALLOWED)) == MANIFEST
    assert led.registry.count("GET") == 3


def test_a_repository_whose_origin_is_forgotten(led: World) -> None:
    """It is asked for once more, and is known again."""
    digest = asks(led)[1].reference
    assert isinstance(digest, Digest)
    read(led.source().answer(Operation.manifest(NAME, digest), request()))
    led.storages.opened[-1].ledger.tags.keep_latest("origin", "", 0)
    source = led.source()
    for _ in range(2):
        assert read(source.answer(Operation.manifest(NAME, digest), ALLOWED)) == MANIFEST
    assert led.registry.count("GET") == 2


def test_a_registry_that_has_never_led_anywhere(world: World) -> None:
    """No rule is asked, and nothing noted."""
    world.registry.repository(NAME, "").push(TAG, MANIFEST)
    source = world.source()
    for _ in range(2):
        assert read(source.answer(Operation.manifest(NAME, TAG), DENIED)) == MANIFEST
    assert world.registry.count("GET") == 1
    assert world.storages.opened[-1].ledger.tags.lookup_prefix("origin", "") == {}


def test_a_repository_with_many_origins(led: World) -> None:
    """Those that are too many to note are not given from the cache to whom rules apply."""
    assert isinstance(led.registry, Leading)
    led.registry.led_to = tuple(("o.example", RepositoryName(f"a{one}")) for one in range(17))
    digest = asks(led)[1].reference
    assert isinstance(digest, Digest)
    source = led.source()
    for _ in range(3):
        assert read(source.answer(Operation.manifest(NAME, digest), ALLOWED)) == MANIFEST
    assert led.registry.count("GET") == 3
    assert read(source.answer(Operation.manifest(NAME, digest), request())) == MANIFEST
    assert led.registry.count("GET") == 3


class LeadingApart(Leading):
    """A registry that leads to another one for each blob, and answers both questions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[Digest, str] = {}
        self.meeting = threading.Barrier(2)

    def blob(self, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Fetch a blob."""
        reply = FakeRegistry.blob(self, name, digest, request)
        self.meeting.wait(20)
        return replace(reply, redirect_targets=((self.places[digest], THERE),))


def test_no_origin_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers learn of two at the same time, after both have read what is known."""
    registry = world.registry = LeadingApart()
    repository = registry.repository(NAME, "")
    digests = [repository.push_blob(data * 1000) for data in (b"one", b"two")]
    registry.places = dict(zip(digests, ("x.example", "y.example"), strict=True))
    known, both_know = OriginTracker._lookup_origins, threading.Barrier(2)  # noqa: SLF001 - when it was read

    def meet(self: OriginTracker, name: RepositoryName) -> frozenset[str] | None:
        found = known(self, name)
        both_know.wait(20)
        return found

    monkeypatch.setattr(OriginTracker, "_lookup_origins", meet)
    with ThreadPoolExecutor(2) as threads:
        asked = [
            threads.submit(world.source().answer, Operation.blob(NAME, one), request())
            for one in digests
        ]
        for reply in asked:
            read(reply.result())
    storage, row = world.storages.opened[0], world.row
    wait_until(
        lambda: all(storage.blobs.stat(row.name, one) is not None for one in digests), what="copies"
    )
    (value,) = storage.ledger.tags.lookup_prefix("origin", "").values()
    assert json.loads(value) == [f"x.example/{THERE}", f"y.example/{THERE}"]


@in_a_directory
@pytest.mark.parametrize("table", ["notes", "tags"])
def test_an_origin_that_cannot_be_written(
    led: World, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """No worker believes then that there is none; who has asked is answered all the same."""
    digest = asks(led)[1].reference
    assert isinstance(digest, Digest)
    assert isinstance(led.registry, Leading)
    there, led.registry.led_to = led.registry.led_to, ()
    here, elsewhere = led.source(), led.source()
    read(here.answer(Operation.manifest(NAME, digest), request()))
    led.registry.led_to = there
    with monkeypatch.context() as broken:
        method = "record" if table == "notes" else "add_to_set"
        original = getattr(SqliteNotes, method)

        def fail(self: SqliteNotes, kind: str, *args: object, **more: object) -> None:
            if kind == "origin":
                raise build_error(EIO, "the disk is broken")
            original(self, kind, *args, **more)

        broken.setattr(SqliteNotes, method, fail)
        # Another manifest comes from there, and is kept as soon as the disk lets it be.
        other = led.registry.repository(NAME).push("2.0", b'{"other": 1}')
        assert read(here.answer(Operation.manifest(NAME, other), request())) == b'{"other": 1}'
        for source in (here, elsewhere):
            with pytest.raises(RuleDenied):
                source.answer(Operation.manifest(NAME, other), DENIED)
            assert _said(source.answer(Operation.manifest(NAME, other), ALLOWED)).startswith(
                "docxy; fwd=uri-miss"
            )
    read(here.answer(Operation.manifest(NAME, Tag.parse("2.0")), request()))
    read(elsewhere.answer(Operation.manifest(NAME, Tag.parse("2.0")), request()))
    for source in (here, elsewhere):
        assert _said(source.answer(Operation.manifest(NAME, other), ALLOWED)) == "docxy; hit"
        with pytest.raises(RuleDenied):
            source.answer(Operation.manifest(NAME, other), DENIED)
