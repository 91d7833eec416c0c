"""Tags: what they mean to whom, and how much of it is remembered."""

from app.cache.disk import Disk
from app.cache.tags import Tags, digests
from app.oci.reference import Tag
from tests.unit.cache.registry import MANIFEST, digest_of
from tests.unit.cache.world import NAME, World

DIGEST = digest_of(b"it")
TAG = Tag.parse("1.0")


def test_ever_other_accepts(world: World) -> None:
    """They push out each other, and no other tag, no token and no ping."""
    store = world.stores.open()
    tags = Tags("r.example", Disk(store))
    for other in ("1.0-x", "1"):
        tags.note(NAME, Tag.parse(other), ["*/*"], DIGEST, MANIFEST)
    known = store.upkeep.statistics().rows
    for number in range(100):
        tags.note(NAME, TAG, [f"application/x{number}"], DIGEST, MANIFEST)
    assert store.upkeep.statistics().rows == known | {"tags": known["tags"] + 20}
    for other in ("1.0-x", "1"):
        assert digests(store, "r.example", NAME, other) == {DIGEST}
    last = tags.find(NAME, TAG, ["application/x99"])
    assert last is not None
    assert last.exact
    first = tags.find(NAME, TAG, ["application/x0"])
    assert first is not None
    assert not first.exact
