"""Tags: what they mean to whom, and how much of it is remembered."""

from app.cache.disk import DiskExecutor
from app.cache.manifests.tags import TagAnswer, TagTargets, lookup_digests
from app.oci.reference import Digest, Tag
from app.store.store import Store
from tests.unit.cache.registry import MANIFEST, digest_of
from tests.unit.cache.world import NAME, World

DIGEST = digest_of(b"it")
TAG = Tag.parse("1.0")


def said(store: Store, digest: Digest = DIGEST) -> TagAnswer:
    """Return what the registry says now."""
    return TagAnswer(digest, MANIFEST, store.clock.now())


def test_ever_other_accepts(world: World) -> None:
    """They push out each other, and no other tag, no token and no ping."""
    store = world.stores.open()
    tags = TagTargets("r.example", DiskExecutor(store))
    for other in ("1.0-x", "1"):
        tags.record(NAME, Tag.parse(other), ["*/*"], said(store))
    known = store.maintenance.statistics().table_rows
    for number in range(100):
        tags.record(NAME, TAG, [f"application/x{number}"], said(store))
    assert store.maintenance.statistics().table_rows == known | {"tags": known["tags"] + 20}
    for other in ("1.0-x", "1"):
        assert lookup_digests(store.ledger, "r.example", NAME, other) == {DIGEST}
    last = tags.lookup(NAME, TAG, ["application/x99"])
    assert last is not None
    assert last.is_exact
    first = tags.lookup(NAME, TAG, ["application/x0"])
    assert first is not None
    assert not first.is_exact


def test_an_answer_that_another_one_overtook(world: World) -> None:
    """A tag means what was said to the question that began last, in whatever worker."""
    store, other = world.stores.open(), world.stores.open()
    older, newer = said(store), said(store, digest_of(b"newer"))
    TagTargets("r.example", DiskExecutor(other)).record(NAME, TAG, ["*/*"], newer)
    tags = TagTargets("r.example", DiskExecutor(store))
    tags.record(NAME, TAG, ["*/*"], older)
    for accepts in (["*/*"], ["application/x"]):
        found = tags.lookup(NAME, TAG, accepts)
        assert found is not None
        assert found.digest == newer.digest


def test_an_answer_that_a_404_overtook(world: World) -> None:
    """A tag that is gone stays so, for all who ask, and was not known before."""
    store, other = world.stores.open(), world.stores.open()
    tags = TagTargets("r.example", DiskExecutor(store))
    older = said(store)
    TagTargets("r.example", DiskExecutor(other)).forget(NAME, TAG)
    for accepts in (["*/*"], ["application/x"]):
        tags.record(NAME, TAG, accepts, older)
        assert tags.lookup(NAME, TAG, accepts) is None
    tags.record(NAME, TAG, ["*/*"], said(store))
    assert tags.lookup(NAME, TAG, ["*/*"]) is not None
