"""`flask cache warm`, over a registry and cache that remember what was asked."""

from pathlib import Path

import pytest

from app.cache.source import Cache
from app.cli import reading
from app.oci import manifest
from app.oci.errors import RegistryError, TooManyRequests, UpstreamDown
from app.source import BodyBroken
from app.store.store import Store
from tests.unit.cli.parts import Document, Run, digest_of, image, index, keep, running
from tests.unit.cli.registry import NAME, CachedRegistry
from tests.unit.store.parts import lookup_member

AMD, ARM = image(b"amd config", b"shared", b"amd"), image(b"arm config", b"shared", b"arm")
BOTH = index(linux_amd64=AMD, linux_arm64_v8=ARM, unknown_unknown=image(b"attestation"))
BLOBS = (b"amd config", b"arm config", b"shared", b"amd", b"arm")
AMD_BLOBS = (b"amd config", b"shared", b"amd")
ALPINE = "library/alpine"


@pytest.fixture
def registry(store: Store) -> CachedRegistry:
    """Return a registry with an index, and an image that is none's."""
    registry = CachedRegistry(store)
    registry.has("latest", BOTH, AMD, ARM, blobs=BLOBS)
    registry.has("single", image(b"single"), blobs=(b"single",))
    return registry


@pytest.fixture
def run(cache: Cache, registry: CachedRegistry) -> Run:
    """Return what runs the commands over that registry."""
    return running(cache, registry)


def kept(store: Store, *content: Document | bytes) -> list[bool]:
    """Tell of each whether it is there for alpine."""
    digests = [digest_of(one) if isinstance(one, bytes) else one.digest for one in content]
    return [
        store.stat(NAME, one) is not None
        and lookup_member(store.ledger, NAME, ALPINE, one) is not None
        for one in digests
    ]


def test_an_image_of_one_platform(run: Run, store: Store, registry: CachedRegistry) -> None:
    """The index, its manifest and their blobs, and nothing of another platform."""
    result = run("warm", "alpine")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        ["1 of 1 image warm.", "2 pulls spent, 19 B of blobs fetched."],
    )
    assert all(kept(store, BOTH, AMD, *AMD_BLOBS))
    assert not any(kept(store, ARM, b"arm config", b"arm"))
    assert registry.pulls() == 2


def test_again_it_costs_a_head(run: Run, registry: CachedRegistry) -> None:
    """Nothing is pulled and nothing read."""
    run("warm", "alpine")
    registry.asked.clear()
    result = run("warm", "alpine")
    assert result.stdout.splitlines() == [
        "1 of 1 image warm.",
        "0 pulls spent, 0 B of blobs fetched.",
    ]
    assert registry.asked == ["HEAD latest"]


def test_platforms(run: Run, store: Store) -> None:
    """Several may be chosen."""
    result = run("warm", "alpine", "--platform", "linux/arm64", "--platform", "linux/amd64")
    assert result.exit_code == 0
    assert all(kept(store, BOTH, AMD, ARM, *BLOBS))


def test_all_platforms(run: Run, store: Store, registry: CachedRegistry) -> None:
    """What else an index names comes too."""
    other = image(b"attestation")
    registry.has("attestation", other, blobs=(b"attestation",))
    assert run("warm", "alpine", "--platform", "all").exit_code == 0
    assert all(kept(store, BOTH, AMD, ARM, other, *BLOBS, b"attestation"))


def test_an_image_without_an_index(run: Run, store: Store) -> None:
    """It is taken whatever it is for."""
    assert run("warm", "alpine:single", "--platform", "linux/s390x").exit_code == 0
    assert all(kept(store, image(b"single"), b"single"))


def test_a_digest(run: Run, store: Store, registry: CachedRegistry) -> None:
    """Costs no HEAD."""
    assert run("warm", f"alpine@{AMD.digest}").exit_code == 0
    assert all(kept(store, AMD, *AMD_BLOBS))
    assert not [asked for asked in registry.asked if asked.startswith("HEAD")]


def test_a_list(run: Run, store: Store, tmp_path: Path) -> None:
    """Comments and empty lines are none, and what is named twice is one."""
    images = tmp_path / "images"
    images.write_text(
        "# ours\n\n  alpine:single # the small one\ndocker.io/library/alpine:single\n"
    )
    result = run("warm", "alpine", "--file", str(images))
    assert result.stdout.startswith("2 of 2 images warm.\n")
    assert all(kept(store, image(b"single"), BOTH))


def test_layers_from_elsewhere(run: Run, registry: CachedRegistry) -> None:
    """No registry has them, and clients do not ask it."""
    foreign = Document(
        b'{"layers": [{"digest": "%s", "size": 1, "urls": ["https://elsewhere.example/"]}]}'
        % digest_of(b"foreign").encode(),
        AMD.media_type,
    )
    registry.has("foreign", foreign)
    assert run("warm", "alpine:foreign").exit_code == 0


def test_what_another_repository_has(run: Run, store: Store, registry: CachedRegistry) -> None:
    """It is not read again: the registry says by a HEAD that this one holds it too."""
    keep(store, "alice/other", b"shared")
    assert run("warm", "alpine").exit_code == 0
    assert f"HEAD {digest_of(b'shared')}" in registry.asked
    assert f"GET {digest_of(b'shared')}" not in registry.asked
    assert all(kept(store, b"shared"))


def test_a_token(run: Run, registry: CachedRegistry) -> None:
    """One for a repository, got before the first question."""
    registry.wants_token = True
    assert run("warm", "alpine", "alpine:single").exit_code == 0
    assert registry.asked[0] == "token library/alpine"
    assert sum(asked.startswith("token") for asked in registry.asked) == 1


def test_a_token_that_expires(run: Run, store: Store, registry: CachedRegistry) -> None:
    """The next is got, once for all that wait for it."""
    registry.wants_token = True
    registry.meanwhile = registry.good.clear
    assert run("warm", "alpine", "--platform", "all", f"alpine@{ARM.digest}").exit_code == 1
    assert all(kept(store, *AMD_BLOBS))


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"token": ""}', b"\xff", b"[" * 100_000])
def test_no_token(run: Run, registry: CachedRegistry, answer: bytes) -> None:
    """It is told."""
    registry.wants_token, registry.token_answer = True, answer
    result = run("warm", "alpine")
    assert result.exit_code == 1
    assert "failed: alpine: the registry's token service gave no token\n" in result.stdout


def test_a_budget(run: Run, store: Store, registry: CachedRegistry) -> None:
    """It is not exceeded; what it paid for is had, and the rest is told."""
    result = run("warm", "--budget", "1", "alpine", "alpine:single")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "skipped: alpine: the budget is spent",
        "skipped: alpine:single: the budget is spent",
        "0 of 2 images warm.",
        "1 of 1 pulls spent, 0 B of blobs fetched.",
    ]
    assert kept(store, BOTH, AMD) == [True, False]
    assert registry.pulls() == 1


def test_a_budget_again_and_again(run: Run, store: Store, registry: CachedRegistry) -> None:
    """Each run goes on where the last one stopped, and in the end all is there."""
    results = [run("warm", "--budget", "1", "alpine", "alpine:single") for _ in range(4)]
    assert [result.exit_code for result in results] == [1, 1, 0, 0]
    assert all(kept(store, BOTH, AMD, *AMD_BLOBS, image(b"single"), b"single"))
    assert registry.pulls() == 3


def test_no_budget_for_what_is_there(run: Run) -> None:
    """What is warm costs nothing, so that none is needed."""
    run("warm", "alpine")
    result = run("warm", "--budget", "0", "alpine")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "1 of 1 image warm.")


def test_what_a_registry_refuses(run: Run, store: Store, registry: CachedRegistry) -> None:
    """It is told, and does not stop the others."""
    registry.statuses["secret"] = 403
    result = run("warm", "alpine:secret", "alpine:nowhere", "alpine:single")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:3] == [
        "failed: alpine:secret: the registry answered 403: the image does not exist, or is private",
        "failed: alpine:nowhere: the registry answered 404",
        "1 of 3 images warm.",
    ]
    assert all(kept(store, image(b"single")))


@pytest.mark.parametrize("reference", ["single", "token"])
def test_a_registry_that_has_had_enough(run: Run, registry: CachedRegistry, reference: str) -> None:
    """It is asked nothing more."""
    registry.wants_token = True
    registry.statuses[reference] = 429
    result = run("warm", "alpine:single", "alpine")
    reason = "the registry answered 429; try again later"
    assert result.stdout.splitlines()[:2] == [
        f"skipped: alpine:single: {reason}",
        f"skipped: alpine: {reason}",
    ]
    assert "HEAD latest" not in registry.asked


def test_a_platform_that_is_not_there(run: Run) -> None:
    """It is told by its name."""
    result = run("warm", "alpine", "--platform", "linux/s390x", "--platform", "plan9/arm")
    assert "failed: alpine: it has no image for linux/s390x, plan9/arm\n" in result.stdout


def test_what_is_no_manifest(run: Run, registry: CachedRegistry) -> None:
    """It is told."""
    registry.has("text", Document(b"text", AMD.media_type))
    assert "alpine:text: text is not a manifest: " in run("warm", "alpine:text").stdout


def test_indexes_without_end(run: Run, registry: CachedRegistry) -> None:
    """There is an end."""
    documents = [image(b"single")]
    for _ in range(6):
        inner = documents[-1]
        documents.append(index(linux_amd64=Document(inner.data, BOTH.media_type)))
    registry.has("deep", *reversed(documents))
    assert "its indexes are nested too deeply" in run("warm", "alpine:deep").stdout


def test_while_the_registry_is_away(run: Run, registry: CachedRegistry) -> None:
    """What is kept may be old: that is not what was asked for."""
    run("warm", "alpine")
    registry.stale = True
    result = run("warm", "alpine")
    assert result.exit_code == 1
    assert "failed: alpine: the registry does not answer" in result.stdout


@pytest.mark.parametrize("error", [UpstreamDown(), TooManyRequests(), BodyBroken("it broke")])
def test_blobs_that_break(
    run: Run, registry: CachedRegistry, error: RegistryError | BodyBroken
) -> None:
    """They are told with their image."""

    def fail() -> None:
        raise error

    registry.meanwhile = fail
    result = run("warm", "alpine:single")
    assert result.exit_code == 1
    assert f"failed: alpine:single: {digest_of(b'single')}: " in result.stdout


@pytest.mark.parametrize("keeps", ["manifests", "blobs"])
def test_what_is_not_kept(
    run: Run, registry: CachedRegistry, monkeypatch: pytest.MonkeyPatch, keeps: str
) -> None:
    """Somebody reads it, and nothing comes of it: that is told."""
    monkeypatch.setattr(reading, "_BASE_TIMEOUT", 0.0)
    registry.keeps = frozenset({keeps})
    result = run("warm", "alpine:single")
    assert "was fetched, but is not in the cache; check whether the disk is full" in result.stdout
    assert "0 of 1 image warm." in result.stdout


def test_blobs_of_a_registry_that_has_had_enough(run: Run, registry: CachedRegistry) -> None:
    """It is told, and what is not asked yet is not asked any more."""
    blobs = tuple(b"blob %d" % number for number in range(50))
    registry.has("many", image(*blobs), blobs=blobs)
    registry.statuses |= dict.fromkeys(map(digest_of, blobs), 429)
    result = run("warm", "alpine:many")
    assert "the registry answered 429; try again later\n" in result.stdout
    assert sum(asked.startswith("GET sha256:") for asked in registry.asked) < 25


def test_answers_that_are_too_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads them to their end."""
    monkeypatch.setattr(manifest, "LARGEST", 10)
    assert "failed: alpine: the answer is too long\n" in run("warm", "alpine").stdout


def test_a_blob_of_two_images(run: Run, registry: CachedRegistry) -> None:
    """It is fetched once, and where it is not to be had, both lack it."""
    other = image(b"other config", b"shared")
    registry.has("other", other, blobs=(b"other config",))
    registry.statuses[digest_of(b"shared")] = 404
    result = run("warm", "alpine", "alpine:other")
    reason = f"{digest_of(b'shared')}: the registry answered 404"
    assert result.stdout.splitlines()[:3] == [
        f"failed: alpine: {reason}",
        f"failed: alpine:other: {reason}",
        "0 of 2 images warm.",
    ]
    assert registry.asked.count(f"GET {digest_of(b'shared')}") == 1


def test_an_index_that_names_one_image_often(run: Run, registry: CachedRegistry) -> None:
    """It is read once."""
    often = index(linux_amd64=AMD, linux_amd64_v2=AMD, linux_amd64_v3=AMD)
    registry.has("often", often)
    assert run("warm", "alpine:often").stdout.startswith("1 of 1 image warm.\n2 pulls spent")


def test_an_interrupt(run: Run, registry: CachedRegistry, store: Store) -> None:
    """It ends soon, and the store is closed."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    registry.meanwhile = interrupt
    assert run("warm", "alpine").exit_code == 1
    assert all(kept(store, BOTH, AMD))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param((), "name the images", id="nothing"),
        pytest.param(("Alpine",), "invalid repository name", id="a name"),
        pytest.param(("alpine", "--budget", "-1"), "--budget", id="a budget"),
        pytest.param(("alpine", "--platform", "linux"), "not a platform like", id="a platform"),
        pytest.param(("--file", "/nonexistent"), "/nonexistent", id="a file"),
    ],
)
def test_what_cannot_be_meant(
    run: Run, registry: CachedRegistry, arguments: tuple[str, ...], fault: str
) -> None:
    """Nothing is asked, and it ends with 2."""
    result = run("warm", *arguments)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert registry.asked == []
