"""Lists: always asked for, and told everybody only while what nobody was told is public."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.oci.errors import UpstreamUnavailable, UpstreamUnreachable
from app.oci.reference import Operation, RepositoryName, Tag
from app.source import BodyBroken, Reply, Request, build_reply
from tests.unit.cache.registry import FakeRegistry, digest_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, World, in_a_directory, read, request
from tests.unit.store.parts import rows as rows_of

TAG = Tag.parse("1.0")
DIGEST = digest_of(b"{}")


def test_they_are_asked_each_time_and_earn_nothing(world: World) -> None:
    """A list opens no manifest."""
    world.registry.repository(NAME, ALICE).push(TAG, b"{}")
    source = world.source()
    for _ in range(2):
        reply = source.answer(Operation.tags(NAME), request(ALICE))
        assert reply.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=200"
        assert reply.header("cache-control") == "private, no-store"
        assert b"1.0" in read(reply)
        assert (
            read(source.answer(Operation.referrers(NAME, DIGEST), request(ALICE)))
            == b'{"manifests":[]}'
        )
    assert len(world.registry.asked) == 4
    assert not world.gate().has_grant(world.caller(ALICE), NAME)
    assert source.answer(Operation.tags(NAME), request(MALLORY)).status == 401


def test_stale(world: World) -> None:
    """Page by page, with age and warning; of what is private, nothing."""
    world.registry.repository(NAME, "", ALICE).push(TAG, b"{}")
    source = world.source()
    page = replace(request(), query="n=5")
    kept = source.answer(Operation.tags(NAME), page)
    assert kept.header("cache-status").endswith("stored")
    data = read(kept)
    read(source.answer(Operation.referrers(NAME, DIGEST), request()))
    read(source.answer(Operation.tags(NAME), replace(request(ALICE), query="n=6")))
    world.registry.trouble = 503
    assert (
        world.source().answer(Operation.tags(NAME), page).status == 503
    )  # a list alone proves nothing
    world.registry.trouble = None
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.clock.time += 500
    world.registry.trouble = UpstreamUnreachable("away")
    again = world.source()
    reply = again.answer(Operation.tags(NAME), page)
    assert read(reply) == data
    assert reply.header("age") == "500"
    assert reply.header("warning")
    head = again.answer(Operation.tags(NAME), replace(page, method="HEAD"))
    assert (head.length, read(head)) == (len(data), b"")
    assert read(again.answer(Operation.referrers(NAME, DIGEST), request())) == b'{"manifests":[]}'
    with pytest.raises(UpstreamUnreachable):
        again.answer(Operation.tags(NAME), replace(request(), query="n=6"))  # told to somebody
    world.clock.time += 7 * 24 * 3600
    with pytest.raises(UpstreamUnreachable):
        again.answer(Operation.tags(NAME), page)


def refuse(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Let the registry answer whoever asks for referrers with this."""

    def referrers(self: FakeRegistry, *_: object) -> Reply:
        if isinstance(self.trouble, UpstreamUnreachable):
            raise self.trouble
        return build_reply(status, [], b"404 page not found")

    monkeypatch.setattr(FakeRegistry, "referrers", referrers)


@pytest.mark.parametrize(
    ("status", "query", "kept"),
    [
        pytest.param(404, "", True, id="404"),
        pytest.param(404, "artifactType=a", True, id="404 to a query"),
        pytest.param(400, "", True, id="400"),
        pytest.param(400, "artifactType=a", False, id="400 to a query"),
        pytest.param(405, "", True, id="405"),
        pytest.param(406, "", True, id="406"),
        pytest.param(403, "", False, id="403"),
        pytest.param(410, "", False, id="410"),
    ],
)
def test_a_registry_without_referrers(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, query: str, *, kept: bool
) -> None:
    """Whatever is asked for later, clients are told to look for the tag: in OCI JSON, with age."""
    world.registry.repository(NAME, "").push(TAG, b"{}")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    refuse(monkeypatch, status)
    told = source.answer(Operation.referrers(NAME, DIGEST), replace(request(), query=query))
    assert (told.status, "stored" in told.header("cache-status")) == (status, kept)
    world.registry.trouble = UpstreamUnreachable("away")
    world.clock.time += 7
    for later in ("", "artifactType=a", "artifactType=b"):
        asked = replace(request(), query=later)
        if not kept:
            with pytest.raises(UpstreamUnreachable):
                source.answer(Operation.referrers(NAME, DIGEST), asked)
            continue
        reply = source.answer(Operation.referrers(NAME, DIGEST), asked)
        assert (reply.status, reply.header("age")) == (404, "7")
        assert reply.header("warning").startswith("299")
        assert json.loads(read(reply))["errors"][0]["code"] == "UNSUPPORTED"
    with pytest.raises(UpstreamUnreachable):  # of another manifest nothing is known
        source.answer(Operation.referrers(NAME, digest_of(b"other")), request())


def test_what_a_registry_says_last_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lists referrers since, and one that has ceased to."""
    world.registry.repository(NAME, "").push(TAG, b"{}")
    read(world.source().answer(Operation.manifest(NAME, TAG), request()))
    page = replace(request(), query="artifactType=a")
    lists = FakeRegistry.referrers
    for status in (404, 200, 404):
        world.registry.trouble = None
        if status == 404:
            refuse(monkeypatch, status)
        else:
            monkeypatch.setattr(FakeRegistry, "referrers", lists)
        read(world.source().answer(Operation.referrers(NAME, DIGEST), page))
        world.clock.time += 3
        world.registry.trouble = UpstreamUnreachable("away")
        assert world.source().answer(Operation.referrers(NAME, DIGEST), page).status == status


def test_what_only_somebody_was_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told nobody, be it a list or that there is none; nor is what is not public any more."""
    world.registry.repository(NAME, "", ALICE).push(TAG, b"{}")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    refuse(monkeypatch, 404)
    read(source.answer(Operation.referrers(NAME, DIGEST), request(ALICE)))
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        source.answer(Operation.referrers(NAME, DIGEST), request())
    world.registry.trouble = None
    read(source.answer(Operation.referrers(NAME, DIGEST), request()))
    world.registry.repositories[NAME].readers.discard("")
    assert source.answer(Operation.manifest(NAME, TAG), request(MALLORY)).status == 401
    world.gate().record_anonymous_refusal(NAME)
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        source.answer(Operation.referrers(NAME, DIGEST), request())


@pytest.mark.parametrize("told", [True, False], ids=["length told", "not told"])
def test_large_ones_pass(world: World, monkeypatch: pytest.MonkeyPatch, *, told: bool) -> None:
    """All of them comes, and nothing is kept."""
    pieces = [b"x" * 100_000] * 20

    def tags(_: FakeRegistry, __: object, ___: Request) -> Reply:
        return Reply(status=200, body=iter(pieces), length=2_000_000 if told else None)

    world.registry.repository(NAME, "")
    monkeypatch.setattr(FakeRegistry, "tags", tags)
    reply = world.source().answer(Operation.tags(NAME), request())
    assert read(reply) == b"".join(pieces)
    assert "stored" not in reply.header("cache-status")


def test_one_that_breaks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no answer, and the client is told so in time."""

    def broken() -> Iterator[bytes]:
        yield b"{"
        reason = "cut"
        raise BodyBroken(reason)

    world.registry.repository(NAME, "")
    monkeypatch.setattr(FakeRegistry, "tags", lambda *_: Reply(status=200, body=broken()))
    with pytest.raises(UpstreamUnavailable):
        world.source().answer(Operation.tags(NAME), request())


def test_a_note_that_cannot_be_read(world: World) -> None:
    """It is none."""
    world.registry.repository(NAME, "").push(TAG, b"{}")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    read(source.answer(Operation.tags(NAME), request()))
    store = world.storages.opened[-1]
    world.registry.trouble = 503
    for value in ("", "{}", '{"headers": [], "next": null, "content": "AAAA"}'):
        store.ledger.lists.record("list", f"{world.row.name}/{NAME} tags?", value, 1)
        assert source.answer(Operation.tags(NAME), request()).status == 503


def test_ever_other_queries(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They push out each other, and nothing that is known of tags, tokens or other repositories."""
    monkeypatch.setattr("app.cache.lists._MAX_LISTS", 3)
    other = RepositoryName.parse("team/apparel")
    for name in (NAME, other):
        world.registry.repository(name, "").push(TAG, b"{}")
    source = world.source()
    read(source.answer(Operation.ping(), request()))
    for name in (other, NAME):
        read(source.answer(Operation.manifest(name, TAG), request()))
        read(source.answer(Operation.tags(name), request()))
    store = world.storages.opened[-1]
    known = store.admin.statistics().table_rows
    for number in range(10):
        read(source.answer(Operation.tags(NAME), replace(request(), query=f"n={number}")))
        read(source.answer(Operation.referrers(NAME, digest_of(b"%d" % number)), request()))
    rows = store.admin.statistics().table_rows
    assert rows == known | {"lists": 3 + 1}
    world.registry.trouble = 503
    for name, query, status in ((other, "", 200), (NAME, "n=9", 200), (NAME, "n=0", 503)):
        reply = source.answer(Operation.tags(name), replace(request(), query=query))
        assert (reply.status, len(read(reply)) > 0) == (status, True)
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 200


@in_a_directory
def test_lists_of_many_repositories(world: World) -> None:
    """In all there are so many, and the latest stay."""
    names = [RepositoryName.parse(f"team/app{number}") for number in range(6)]
    source = world.source()
    store = world.storages.opened[-1]
    rows_of(world.storages.directory, "UPDATE counts SET most = 4 WHERE name = 'lists'")
    for name in names:
        world.registry.repository(name, "").push(TAG, b"{}")
        read(source.answer(Operation.manifest(name, TAG), request()))
        read(source.answer(Operation.tags(name), request()))
    assert store.admin.statistics().table_rows["lists"] == 4
    world.registry.trouble = 503
    statuses = [source.answer(Operation.tags(name), request()).status for name in names]
    assert statuses == [503, 503, 200, 200, 200, 200]


def test_a_list_that_a_refusal_overtook(world: World) -> None:
    """It was told to nobody before nobody was refused, and is nobody's when that is over."""
    world.registry.repository(NAME, "").push(TAG, b"{}")
    source, other = world.source(), world.source()
    read(other.answer(Operation.manifest(NAME, TAG), request()))

    def refuse() -> None:
        world.registry.during = lambda: None
        world.registry.trouble = 403
        assert other.answer(Operation.manifest(NAME, TAG), request()).status == 403
        world.registry.trouble = None

    world.registry.during = refuse
    assert read(source.answer(Operation.tags(NAME), request()))
    read(other.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().answer(Operation.tags(NAME), request())
