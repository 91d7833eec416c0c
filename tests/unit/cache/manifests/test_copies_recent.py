"""What was read in the last second is read again, unless anybody has taken it away meanwhile."""

from collections.abc import Callable

import pytest

from app.cache.disk import HotMap
from app.cache.manifests.copies import CachedManifest
from app.cache.source import CachedSource
from app.oci.reference import Digest, Operation
from app.store.errors import StoreError
from app.store.storage import Storage
from tests.servers import wait_until
from tests.unit.cache.manifests.test_by_digest import DATA, TAG, pushed
from tests.unit.cache.world import ALICE, NAME, World, in_a_directory, read, request


def warm(world: World, *readers: str) -> tuple[CachedSource, Callable[[], CachedManifest | None]]:
    """Return a source that has just read a manifest, and what it remembers of that."""
    digest = pushed(world, *(readers or (ALICE,)))
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    copies = source.manifests_by_digest.cached_manifests
    recent = copies._hot  # noqa: SLF001
    wait_until(
        lambda: world.storages.opened[-1].ledger.read_version() is not None,
        what="the last write to be a while ago",
    )
    read(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    caller = world.caller_of(source, ALICE)

    def remembered() -> CachedManifest | None:
        changes = str(source.manifests_by_digest.gate.revocation_count)
        return recent.get((caller.name, NAME, digest, changes))

    copy = remembered()
    assert copy is not None
    assert copy.data == DATA
    return source, remembered


def is_refused(source: CachedSource, world: World) -> bool:
    """Tell whether the registry decides, and refuses."""
    world.registry.repositories[NAME].readers.clear()
    digest = world.registry.repositories[NAME].tags[TAG]
    return source.answer(Operation.manifest(NAME, digest), request(ALICE)).status == 401


def test_another_worker_revokes(world: World) -> None:
    """The very next question is the registry's to answer."""
    source, remembered = warm(world)
    world.registry.repositories[NAME].readers.clear()
    assert world.source().answer(Operation.manifest(NAME, TAG), request(ALICE)).status == 401
    assert remembered() is None
    assert is_refused(source, world)


@in_a_directory
def test_this_worker_revokes_and_cannot_write_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows counts, whatever the disk says."""
    source, remembered = warm(world)

    def full(*_: object, **__: object) -> None:
        raise StoreError(28, "no space")

    store = world.storages.opened[-1]
    monkeypatch.setattr(store.ledger, "refuse", full)
    monkeypatch.setattr(store.ledger.tags, "delete_refused", full)
    world.registry.repositories[NAME].readers.clear()
    assert source.answer(Operation.manifest(NAME, TAG), request(ALICE)).status == 401
    assert remembered() is None
    assert is_refused(source, world)


@in_a_directory
def test_another_worker_revokes_and_cannot_write_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sign counts here, though nothing was written."""
    source, remembered = warm(world)
    other = world.source()

    def full(*_: object, **__: object) -> None:
        raise StoreError(28, "no space")

    store = world.storages.opened[-1]
    monkeypatch.setattr(store.ledger, "refuse", full)
    monkeypatch.setattr(store.ledger.tags, "delete_refused", full)
    world.registry.repositories[NAME].readers.clear()
    assert other.answer(Operation.manifest(NAME, TAG), request(ALICE)).status == 401
    assert remembered() is None
    assert is_refused(source, world)


@in_a_directory
@pytest.mark.parametrize(
    "removing",
    [
        lambda storage, _: storage.admin.remove_all(),
        lambda storage, _: storage.admin.remove_repository("r.example", NAME),
        lambda storage, digest: storage.admin.remove_members("r.example", NAME, [digest]),
        lambda storage, digest: storage.blobs.delete("r.example", digest),
    ],
    ids=["all", "repository", "holding", "content"],
)
def test_an_operator_removes(world: World, removing: Callable[[Storage, Digest], object]) -> None:
    """From another process."""
    source, remembered = warm(world)
    removing(world.storages.open(), world.registry.repositories[NAME].tags[TAG])
    assert remembered() is None
    assert is_refused(source, world)


def test_a_grant_ends(world: World) -> None:
    """Not a moment later than it would."""
    world.policy = type(world.policy)(grant_ttl=30)
    source, remembered = warm(world)
    world.clock.time += 29.5
    digest = world.registry.repositories[NAME].tags[TAG]
    read(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    assert remembered() is not None
    world.clock.time += 0.6
    assert remembered() is None
    assert is_refused(source, world)


@in_a_directory
def test_the_index_is_gone(world: World) -> None:
    """Then nothing is remembered."""
    _, remembered = warm(world)
    for path in world.storages.directory.glob("index.sqlite*"):
        path.unlink()
    assert remembered() is None


def test_so_many_bytes_and_no_more(world: World) -> None:
    """The latest stay, and what is too old to be given goes."""
    store = world.storages.open()
    recent = HotMap[str](store.ledger)
    mib = 1024 * 1024

    def put(key: str, size: int, left: float = 100.0) -> None:
        recent.put((key,), key, size=size, seconds_left=left, version=(1,))

    def held() -> list[str]:
        return [key for (key,) in recent._entries]  # noqa: SLF001

    for number in range(40):
        put(str(number), mib // 4)
    assert held() == [str(number) for number in range(8, 40)]
    put("8", mib // 4)
    assert held() == [*(str(number) for number in range(9, 40)), "8"]
    put("large", mib)
    assert "large" not in held()
    world.clock.time += 4
    put("young", 10)
    world.clock.time += 1
    put("last", 10, left=2)
    assert held() == ["young", "last"]
    assert recent.get(("last",)) is None  # something was written since
    assert held() == ["young"]
    for number in range(300):
        put(str(number), 1)
    assert len(held()) == 256
