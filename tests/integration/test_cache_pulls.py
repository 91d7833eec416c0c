"""The second pull costs nothing, fifty pulls cost one, and none needs the registry to be there."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.process import CommandFailed
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import (
    DOCKER_LIST,
    OCI_KIND,
    OCI_MANIFEST,
    Blob,
    Image,
    image,
    layer,
    noise,
)
from tests.integration.caching import (
    ACCEPT,
    Cached,
    asked,
    caching,
    push,
    switched_off,
)
from tests.integration.pulling import COSTS, PRIVATE, TABLE, rows
from tests.integration.survival import ALICE, blob_path
from tests.servers import wait_until
from tests.wire.client import Client

pytestmark = pytest.mark.integration

MANY = 50
MB = 1_000_000
SIZES = (12 * MB, 6 * MB, 2 * MB)
PUBLIC = "stale/public"


def blob_costs(hub: Hub) -> Counter[str]:
    """Return how often each blob was fetched."""
    return Counter(record.path for record in hub.select("cdn", "GET"))


def assert_free(hub: Hub) -> None:
    """See that the hub was asked for no more than what the tag means.

    Some clients ask without a token first, only to hear where to get one: Docker Hub's 401.
    """
    assert hub.count("registry", "HEAD", "/manifests/1$", 200) <= 1
    assert [
        record
        for record in asked(hub)
        if record.status != 401
        if (record.method, record.path.rpartition("/")[2]) != ("HEAD", "1")
    ] == []


@pytest.mark.parametrize("name", TABLE)
def test_the_second_pull_by_name(name: str, cached: Cached, tmp_path: Path) -> None:
    """The first costs what it costs without a cache, the second one HEAD; no client is the same."""
    hub = cached.hub
    repository = f"cached/{name}"
    push(hub, repository)
    cached.pull(name, tmp_path / "first", repository)
    assert hub.pulls == COSTS[name].pulls
    assert set(blob_costs(hub).values()) == {1}
    hub.reset()
    cached.pull(name, tmp_path / "second", repository)
    assert hub.pulls == hub.count("cdn") == 0
    assert_free(hub)


@pytest.mark.parametrize(("name", "way"), rows("as mirror", only="plain"))
def test_what_others_have_pulled(name: str, way: str, cached: Cached, tmp_path: Path) -> None:
    """A mirror's client pays nothing for what skopeo has pulled by name."""
    del way
    hub = cached.hub
    repository = f"mirrored/{name}"
    image = push(hub, repository)
    cached.pull("skopeo", tmp_path / "skopeo", repository)
    hub.reset()
    with cached.fresh(name, tmp_path / "other", "as mirror") as other:
        assert other.pull(f"docker.io/{repository}:1") == other.kept(image)
    assert hub.pulls == hub.count("cdn") == 0
    assert_free(hub)


def test_a_tag_that_moves(cached: Cached, tmp_path: Path) -> None:
    """The next pull brings the new image, whatever is kept of the old one."""
    push(cached.hub, "cached/moving")
    cached.pull("skopeo", tmp_path / "first", "cached/moving")
    cached.hub.push("cached/moving", push(cached.hub, "cached/moved"), ["1"])
    cached.pull("skopeo", tmp_path / "second", "cached/moving")
    cached.hub.reset()
    cached.pull("skopeo", tmp_path / "third", "cached/moving")
    assert_free(cached.hub)


def test_a_tag_that_is_not_asked_for(kept_hub: Hub, tmp_path: Path) -> None:
    """With `tag_ttl` the second pull asks for nothing at all."""
    push(kept_hub, "cached/lasting")
    with caching(kept_hub, tmp_path / "cache", DOCXY_TAG_TTL="60") as cached:
        cached.pull("skopeo", tmp_path / "first", "cached/lasting")
        kept_hub.reset()
        cached.pull("skopeo", tmp_path / "second", "cached/lasting")
        assert asked(kept_hub) == []


@pytest.mark.parametrize(
    "name", ["docker-containerd", pytest.param("docker", marks=pytest.mark.soak)]
)
def test_images_that_share_layers(name: str, kept_hub: Hub, tmp_path: Path) -> None:
    """A client that has the layers of one does not ask for them in another: Docxy does.

    Then a client that has nothing pulls both, while nothing of the registry is there.
    """
    base, other = (f"sharing/{name}-base", f"sharing/{name}-other")
    shared = [layer({f"/usr/{name}{number}": noise(50_000, f"{number}")}) for number in range(3)]
    images = {
        base: kept_hub.push(base, image(shared), ["1"]),
        other: kept_hub.push(other, image([*shared, layer({"/own": name.encode()})]), ["1"]),
    }
    with caching(kept_hub, tmp_path / "cache") as cached:
        with cached.fresh(name, tmp_path / "first") as client:
            for repository, pushed in images.items():
                assert client.pull(f"{cached.way.host}/{repository}:1") == client.kept(pushed)
        wait_until(lambda: confirmed(kept_hub, other) == {blob.digest for blob in shared})
        assert kept_hub.count("registry", "HEAD", f"/{base}/blobs/") == 0
        assert set(blob_costs(kept_hub).values()) == {1}
        with switched_off(kept_hub):
            for repository in images:
                cached.pull(name, tmp_path / repository, repository)


def confirmed(hub: Hub, repository: str) -> set[str]:
    """Return the blobs for which the hub was asked by HEAD, with success; each was asked once."""
    path = f"/{repository}/blobs/"
    asked = [one.path for one in hub.select("registry", "HEAD", path) if one.status != 401]
    assert len(asked) == len(set(asked))
    return {path.rpartition("/")[2] for path in asked}


def test_who_takes_another_media_type(cached: Cached) -> None:
    """The registry decides what it gives to those, by tag and by digest."""
    image = push(cached.hub, "cached/typed")
    authorization = cached.login("cached/typed")
    for reference in ("1", image.digest):
        path = f"/v2/cached/typed/manifests/{reference}"
        assert cached.get(path, authorization, ACCEPT).body == image.body
        cached.hub.reset()
        cached.get(path, authorization, f"Accept: {DOCKER_LIST}")
        assert cached.hub.count("registry", "GET", "/manifests/") == 1


@dataclass(frozen=True)
class Large:
    """An image of large layers, and the bytes of these."""

    image: Image
    layers: dict[str, bytes]


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.soak)], ids=["20 MB", "200 MB"])
def large(kept_hub: Hub, request: pytest.FixtureRequest) -> Large:
    """Push it."""
    name = "cached/large"
    layers = dict[str, bytes]()
    descriptors = []
    for size in (request.param * size for size in SIZES):
        digest = kept_hub.push_blob(name, size, f"large {size}")
        layers[digest] = kept_hub.cdn.registry.blob_path(digest).read_bytes()
        descriptors.append({"mediaType": OCI_KIND.layer, "digest": digest, "size": size})
    config = Blob(OCI_KIND.config, b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor(),
        "layers": descriptors,
    }
    image = Image(OCI_MANIFEST, json.dumps(document).encode(), config)
    return Large(kept_hub.push(name, image, ["1"]), layers)


def test_fifty_at_once(cached: Cached, large: Large) -> None:
    """Two workers fetch each blob once for all; everybody has first bytes while it is fetched."""
    hub = cached.hub
    authorization = cached.login("cached/large")
    first = next(iter(large.layers))
    begun = threading.Barrier(MANY + 1, timeout=60)

    def pull(_: int) -> None:
        answer = cached.get("/v2/cached/large/manifests/1", authorization, ACCEPT)
        assert answer.body == large.image.body
        for digest, data in large.layers.items():
            with Client(cached.proxy.host, timeout=60) as one:
                one.ask(blob_path(digest, "cached/large"), authorization)
                head = one.head()
                assert (head.status, head.value("Content-Length")) == (200, str(len(data)))
                if digest == first:
                    assert one.ahead(1)
                    begun.wait()
                read_all(one, data)

    with Gate() as gate, ThreadPoolExecutor(MANY) as pool:
        hub.fail(part="cdn", path=first.partition(":")[2], gate=gate, hold_after=MB)
        pulls = pool.map(pull, range(MANY))
        begun.wait()
        gate.open()
        assert len(list(pulls)) == MANY
    asked = Counter(record.path for record in hub.select("registry", "GET", "/blobs/", 307))
    assert {asked[blob_path(digest, "cached/large")] for digest in large.layers} == {1}
    assert set(asked.values()) == {1}
    # Over several connections; what one had sent when another one was faster is lost.
    sent = sum(record.sent or 0 for record in hub.select("cdn", "GET"))
    assert sent < 1.5 * sum(map(len, large.layers.values()))
    assert hub.pulls == 1


def read_all(one: Client, data: bytes) -> None:
    """Read a body, which must be this."""
    position = 0
    while piece := one.some(1 << 20):
        assert data.startswith(piece, position), position
        position += len(piece)
        if position == len(data):
            return
    pytest.fail(f"it ended after {position} bytes")


@pytest.fixture(scope="module")
def stocked(busy_hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a Docxy that kept a public image and alice's, and has ended."""
    directory = tmp_path_factory.mktemp("stocked")
    push(busy_hub, PUBLIC)
    with caching(busy_hub, directory / "cache") as cached:
        cached.pull("skopeo", directory / "nobody", PUBLIC)
        with cached.fresh("skopeo", directory / "alice") as alice:
            alice.log_in(*ALICE)
            alice.pull(f"{cached.way.host}/{PRIVATE}")
    return directory / "cache"


@pytest.fixture(scope="module")
def deserted_docxy(busy_hub: Hub, stocked: Path) -> Iterator[Cached]:
    """Run a Docxy that has never reached its registry."""
    with contextlib.ExitStack() as stack:
        with switched_off(busy_hub):
            cached = stack.enter_context(caching(busy_hub, stocked))
        yield cached


@pytest.fixture
def deserted(deserted_docxy: Cached, kept_hub: Hub) -> Iterator[Cached]:
    """Return it, and let the registry be away until the end of the test."""
    with switched_off(kept_hub):
        yield deserted_docxy


@pytest.mark.parametrize("name", TABLE)
def test_a_client_that_starts_from_nothing(name: str, deserted: Cached, tmp_path: Path) -> None:
    """Ping, token, manifests and blobs of a public image: all of it without the registry."""
    deserted.pull(name, tmp_path, PUBLIC)


@pytest.mark.parametrize("name", ["skopeo", "podman", "docker", "ctr"])
def test_private_without_the_registry(name: str, deserted: Cached, tmp_path: Path) -> None:
    """Nobody has it then: not a stranger, and not its owner."""
    for who in ("stranger", "alice"):
        with deserted.fresh(name, tmp_path / who) as client:
            if who == "alice":
                with contextlib.suppress(CommandFailed):
                    client.log_in(*ALICE)
            with pytest.raises(CommandFailed):
                client.pull(f"{deserted.way.host}/{PRIVATE}")


@pytest.mark.parametrize(
    "troubles",
    [
        pytest.param({"registry": 429}, id="registry-429"),
        pytest.param({"token": 503}, id="token-503"),
        pytest.param({"registry": 500, "token": 429, "cdn": 503}, id="all"),
    ],
)
def test_an_ill_registry(troubles: dict[str, int], kept_hub: Hub, stocked: Path) -> None:
    """Public content comes with its age and a warning; private content does not come."""
    hub = kept_hub
    private = hub.image(*PRIVATE.split(":"))
    with caching(hub, stocked) as cached:
        alice = cached.login("alice/private", ALICE)
        for part, status in troubles.items():
            hub.fail(part=part, status=status, times=None)
        nobody = cached.login(PUBLIC)
        tag = cached.get(f"/v2/{PUBLIC}/manifests/1", nobody, ACCEPT)
        assert (tag.status, tag.body) == (200, hub.image(PUBLIC, "1").body), tag
        if "registry" in troubles:
            assert tag.head.value("Warning").startswith("299 ")
            assert int(tag.head.value("Age")) >= 0
            assert tag.head.value("Cache-Status").startswith("docxy; ")
            answers = [
                cached.get(f"/v2/alice/private/{rest}", alice, ACCEPT)
                for rest in ("manifests/2", f"manifests/{private.digest}")
            ]
            refused = 429 if troubles["registry"] == 429 else 503
            assert {answer.status for answer in answers} == {refused}, answers
        for digest, blob in hub.image(PUBLIC, "1").all_blobs.items():
            assert cached.get(blob_path(digest, PUBLIC), nobody).body == blob.data


def test_stale_is_not_for_ever(kept_hub: Hub, stocked: Path) -> None:
    """After `stale_ttl` public content is refused as well."""
    settings = {"DOCXY_STALE_TTL": "0", "DOCXY_GRANT_TTL": "1"}
    with caching(kept_hub, stocked, **settings) as cached, switched_off(kept_hub):
        answer = cached.get(f"/v2/{PUBLIC}/manifests/1", ACCEPT)
        assert answer.status == 503, answer
