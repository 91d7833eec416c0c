"""Whole copies of an image by skopeo, from a registry with a high latency."""

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import machine
from typing import Final

from bench import docker_registry
from bench.content import MIB
from tests.clients.skopeo import Skopeo
from tests.hub.hub import Hub
from tests.hub.images import Image, image, index, layer, noise
from tests.servers import docxy

logger = logging.getLogger(__name__)

LATENCY: Final = 0.1
"""Seconds added to every request to the registry, its token service and its CDN."""
DIRECT: Final = "direct"
CACHED: Final = "Docxy"
PEER: Final = docker_registry.NAME

_REPOSITORY: Final = "library/bench"
_LAYER: Final = MIB // 2
LAYERS: Final = 16
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_FIRST: Final = "first"
"""The tag that is copied before anything is measured, so that every server knows the registry."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Seconds of each copy, a value for each round."""

    image: Image
    direct: list[float]
    cold: Mapping[str, list[float]]
    """Copies through each server whose cache lacks the image, by the name of the server."""
    warm: Mapping[str, list[float]]
    """The same copies again, with the image in the cache."""


@dataclass(frozen=True, slots=True)
class _Route:
    """One way to the images of the hub: through `host`."""

    skopeo: Skopeo
    host: str

    def seconds(self, tag: str) -> float:
        """Copy an image, discard the copy, and return the seconds that it took."""
        with tempfile.TemporaryDirectory(prefix="docxy-copy-") as folder:
            started = time.perf_counter()
            self.skopeo.copy(f"{self.host}/{_REPOSITORY}:{tag}", Path(folder))
            return time.perf_counter() - started


def measure_copies(folder: Path, rounds: int) -> Copies:
    """Copy a new image in each round: from the registry, then twice through each cache."""
    tags = [f"round-{number}" for number in range(rounds)]
    images = {tag: _build_image(tag) for tag in (_FIRST, *tags)}
    copies = Copies(images[_FIRST], [], {CACHED: [], PEER: []}, {CACHED: [], PEER: []})
    with _run_hub(images) as hub, _run_routes(folder, hub) as (direct, ways_by_name, peer):
        for way in (direct, *ways_by_name.values()):
            way.seconds(_FIRST)
        for number, tag in enumerate(tags, start=1):
            copies.direct.append(direct.seconds(tag))
            for name, way in ways_by_name.items():
                copies.cold[name].append(way.seconds(tag))
            # docker-registry answers before it has stored the content.
            peer.await_stored(
                sum(_count_contents(images[other_tag]) for other_tag in (_FIRST, *tags[:number]))
            )
            for name, way in ways_by_name.items():
                copies.warm[name].append(way.seconds(tag))
            logger.info("copies: round %s of %s", number, rounds)
    return copies


def _build_image(seed: str) -> Image:
    platform = f"linux/{_ARCHITECTURES[machine()]}"
    layers = [
        layer({f"/layer-{number}": noise(_LAYER, f"{seed} {number}")}) for number in range(LAYERS)
    ]
    return index({platform: image(layers, platform=platform)})


def _count_contents(copied_image: Image) -> int:
    return 1 + len(copied_image.platforms) + len(copied_image.all_blobs)


@contextmanager
def _run_hub(images: Mapping[str, Image]) -> Iterator[Hub]:
    with Hub(content=tuple) as hub:
        for tag, pushed_image in images.items():
            hub.push(_REPOSITORY, pushed_image, [tag])
        hub.fail(delay=LATENCY, times=None)
        yield hub


@contextmanager
def _run_routes(
    folder: Path, hub: Hub
) -> Iterator[tuple[_Route, dict[str, _Route], docker_registry.Proxy]]:
    with ExitStack() as stack:
        # docker-registry needs an empty folder, and each skopeo a home of its own.
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="copies-")))
        settings = hub.settings | {"DOCXY_CACHE_DIR": str(base / "cache")}
        docxy_server = stack.enter_context(docxy(**settings))
        peer = stack.enter_context(docker_registry.proxy(base, hub.url, hub.ca_bundle))
        homes = {name: base / name for name in (DIRECT, "proxies")}
        for home in homes.values():
            home.mkdir()
        proxy_skopeo = Skopeo(homes["proxies"])
        yield (
            _Route(Skopeo(homes[DIRECT], ca=hub.ca_bundle), hub.host),
            {
                CACHED: _Route(proxy_skopeo, docxy_server.host),
                PEER: _Route(proxy_skopeo, f"127.0.0.1:{peer.port}"),
            },
            peer,
        )
