"""`flask cache remove`."""

import pytest

from app.cache.disk import DiskExecutor
from app.cache.manifests.tags import TagAnswer, TagTargets, lookup_digests
from app.oci.reference import Digest, RepositoryName, Tag
from app.store.store import Store
from tests.unit.cli.parts import Run, digest_of, image, index, keep
from tests.unit.store.parts import record_member
from tests.unit.store.parts import rows as rows_of

AMD, ARM = image(b"amd config", b"shared", b"amd"), image(b"arm config", b"shared", b"arm")
BOTH = index(linux_amd64=AMD, linux_arm64=ARM)
BLOBS = (b"amd config", b"arm config", b"shared", b"amd", b"arm")


@pytest.fixture
def held(store: Store) -> Store:
    """Return the store with an index of two images."""
    keep(store, "library/alpine", BOTH, AMD, ARM, *BLOBS)
    return store


def executor(store: Store) -> DiskExecutor:
    """Return what calls a store."""
    return DiskExecutor(store, store.ledger)


def said(store: Store, digest: Digest) -> TagAnswer:
    """Return what a registry says now of a tag."""
    return TagAnswer(digest, "x/manifest", store.clock.now())


def kept(store: Store) -> set[str]:
    """Return the digests of all that is kept."""
    return {checked.digest for checked in store.admin.verify()}


def test_a_repository(run: Run, held: Store) -> None:
    """With all that no other one holds."""
    keep(held, "alice/other", b"shared", b"hers")
    result = run("remove", "alpine", "quay/unheard-of")
    assert result.stdout.splitlines() == [
        "alpine: 7 entries removed",
        "quay/unheard-of: not in the cache",
    ]
    assert kept(held) == {digest_of(b"shared"), digest_of(b"hers")}


def test_what_is_known_of_a_repository(run: Run, held: Store) -> None:
    """Its tags and lists go too, and nobody else's."""
    tags, disk = TagTargets("docker.io", executor(held)), executor(held)
    for name in ("library/alpine", "library/alpine-x"):
        tags.record(RepositoryName.parse(name), Tag.parse("3"), ["*/*"], said(held, BOTH.digest))
        disk.write(held.ledger.lists.record, "list", f"docker.io/{name} tags?", "{}", 60)
    run("remove", "alpine")
    for name, number in (("library/alpine", 0), ("library/alpine-x", 1)):
        assert len(lookup_digests(held.ledger, "docker.io", name, "3")) == number
        assert len(held.ledger.lists.lookup_prefix("list", f"docker.io/{name} ")) == number


def test_an_index_by_its_digest(run: Run, held: Store) -> None:
    """Its manifests and their blobs go with it; what another image shares with it stays."""
    other = image(b"config", b"shared")
    keep(held, "library/alpine", other, b"config")
    result = run("remove", f"docker.io/library/alpine@{BOTH.digest}")
    assert result.stdout.endswith(": 7 entries removed\n")
    assert kept(held) == {other.digest, digest_of(b"config"), digest_of(b"shared")}


def test_one_image_of_an_index(run: Run, held: Store) -> None:
    """The index stays, and so does what its other images need."""
    result = run("remove", f"alpine:latest@{ARM.digest}")
    assert result.stdout.endswith(": 3 entries removed\n")
    assert kept(held) == {
        BOTH.digest,
        AMD.digest,
        *map(digest_of, (b"amd config", b"amd", b"shared")),
    }


def test_a_tag(run: Run, held: Store) -> None:
    """All that it has meant to anybody, and nothing that another image needs."""
    old, other = image(b"old config", b"shared"), image(b"config", b"shared")
    keep(held, "library/alpine", old, b"old config", other, b"config")
    tags = TagTargets("docker.io", executor(held))
    for tag, accepts, document in (
        ("3.19", ["*/*"], BOTH),
        ("3.19", ["application/json"], old),
        ("3.19-slim", ["*/*"], other),
    ):
        name = RepositoryName("library/alpine")
        tags.record(name, Tag(tag), accepts, said(held, document.digest))
    assert run("remove", "alpine:3.19").stdout == "alpine:3.19: 9 entries removed\n"
    assert kept(held) == {other.digest, digest_of(b"config"), digest_of(b"shared")}
    assert run("remove", "alpine:3.19").stdout == "alpine:3.19: not in the cache\n"
    assert lookup_digests(held.ledger, "docker.io", "library/alpine", "3.19") == set()
    assert lookup_digests(held.ledger, "docker.io", "library/alpine", "3.19-slim") == {other.digest}


def test_another_registry(run: Run, held: Store) -> None:
    """A prefix means that one, as in a pull."""
    held.keep(b"amd", "ghcr.io", digest_of(b"amd"), "")
    record_member(
        held.ledger, "ghcr.io", "library/alpine", digest_of(b"amd"), asked=held.clock.now()
    )
    assert run("remove", "ghcr.io/library/alpine").stdout.endswith(": 1 entry removed\n")
    assert held.stat("docker.io", digest_of(b"amd")) is not None
    assert held.stat("ghcr.io", digest_of(b"amd")) is None


def test_all(run: Run, held: Store) -> None:
    """What is known goes too."""
    assert run("remove", "--all").stdout == "8 entries removed.\n"
    assert kept(held) == set()
    assert held.admin.statistics().table_rows["members"] == 0


def test_what_is_old(run: Run, held: Store) -> None:
    """By when it came."""
    assert run("remove", "--older-than", "1h").stdout == "0 entries removed.\n"
    assert run("remove", "--older-than", "0s").stdout == "8 entries removed.\n"
    assert kept(held) == set()


def test_what_is_unused(run: Run, held: Store) -> None:
    """By when somebody last got it, however long ago it came."""
    directory = held.directory
    rows_of(directory, "UPDATE entries SET taken = taken - 7200, used_at = used_at - 7200")
    some = held.admin.statistics().registries["docker.io"].entries
    opened = held.open("docker.io", AMD.digest)
    assert opened is not None
    opened.blob.close()
    assert run("remove", "--unused-for", "3h").stdout == "0 entries removed.\n"
    assert run("remove", "--unused-for", "1h").stdout == f"{some - 1} entries removed.\n"
    assert len(kept(held)) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param((), "give one of these", id="nothing"),
        pytest.param(("--all", "alpine"), "give one of these", id="two ways"),
        pytest.param(("--older-than", "1h", "--all"), "give one of these", id="two options"),
        pytest.param(("Alpine",), "Alpine: invalid repository name", id="a name"),
        pytest.param(("alpine:a/b:c d",), "invalid", id="a tag"),
        pytest.param(("alpine@sha256:12",), "invalid digest", id="a digest"),
        pytest.param(("quay.io/a/b",), "does not serve that registry", id="a registry"),
        pytest.param(("quay.io:5000/a/b",), "does not serve that registry", id="with a port"),
        pytest.param(("--unused-for", "1h", "--all"), "give one of these", id="two more"),
        pytest.param(("--older-than", "soon"), "not an age like", id="an age"),
        pytest.param(("--unused-for", "1 month"), "not an age like", id="another age"),
    ],
)
def test_what_cannot_be_meant(
    run: Run, held: Store, arguments: tuple[str, ...], fault: str
) -> None:
    """Nothing is removed, and it ends with 2, as every command does that is misused."""
    result = run("remove", *arguments)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert len(kept(held)) == 8
