"""Tags: what they mean to whom, and how much of it is remembered."""

from app.cache.manifests.tags import TagAnswer, TagTargets, lookup_digests
from app.oci.reference import Digest, Tag
from tests.unit.cache.registry import MANIFEST, digest_of
from tests.unit.cache.world import NAME, World, executor

DIGEST = digest_of(b"it")
TAG = Tag.parse("1.0")


def said(world: World, digest: Digest = DIGEST) -> TagAnswer:
    """Return what the registry says now."""
    return TagAnswer(digest, MANIFEST, world.clock.now())


def test_ever_other_accepts(world: World) -> None:
    """They push out each other, and no other tag, no token and no ping."""
    store = world.storages.open()
    tags = TagTargets("r.example", executor(store))
    for other in ("1.0-x", "1"):
        tags.record(NAME, Tag.parse(other), ["*/*"], said(world))
    known = store.admin.statistics().table_rows
    for number in range(100):
        tags.record(NAME, TAG, [f"application/x{number}"], said(world))
    assert store.admin.statistics().table_rows == known | {"tags": known["tags"] + 20}
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
    store, other = world.storages.open(), world.storages.open()
    older, newer = said(world), said(world, digest_of(b"newer"))
    TagTargets("r.example", executor(other)).record(NAME, TAG, ["*/*"], newer)
    tags = TagTargets("r.example", executor(store))
    tags.record(NAME, TAG, ["*/*"], older)
    for accepts in (["*/*"], ["application/x"]):
        found = tags.lookup(NAME, TAG, accepts)
        assert found is not None
        assert found.digest == newer.digest


def test_an_answer_that_a_404_overtook(world: World) -> None:
    """A tag that is gone stays so, for all who ask, and was not known before."""
    store, other = world.storages.open(), world.storages.open()
    tags = TagTargets("r.example", executor(store))
    older = said(world)
    TagTargets("r.example", executor(other)).forget(NAME, TAG)
    for accepts in (["*/*"], ["application/x"]):
        tags.record(NAME, TAG, accepts, older)
        assert tags.lookup(NAME, TAG, accepts) is None
    tags.record(NAME, TAG, ["*/*"], said(world))
    assert tags.lookup(NAME, TAG, ["*/*"]) is not None
