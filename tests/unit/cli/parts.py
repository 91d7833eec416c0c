"""Images in a store, and what runs commands."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result
from flask import Flask

from app.access.networks import NetworkPolicy
from app.access.rules import Rules
from app.cache.source import Cache
from app.cli import commands
from app.cli.context import CliContext
from app.oci import manifest
from app.oci.reference import Digest
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry
from app.source import Source
from app.store.ledger import Member
from app.store.store import Store
from tests.unit.store.parts import record_member

Run = Callable[..., Result]

HUB = Registry(
    name=DOCKER_HUB,
    url="https://registry.example",
    aliases=DOCKER_HUB_ALIASES,
    library_prefix=True,
)
GHCR = Registry(name="ghcr.io", url="https://ghcr.example")


def running(cache: Cache | None, source: Source, group: str = "cache", **access: Any) -> Run:
    """Return what runs a group of commands with arguments; `access` has `lists` and `rules`."""
    application = Flask("docxy")
    registries = Registries([HUB, GHCR])
    nobody = {"lists": NetworkPolicy(), "users": None, "rules": Rules([], registries)}
    CliContext(
        registries=registries,
        sources={HUB.name: source, GHCR.name: source},
        cache=cache,
        **{**nobody, **access},
    ).install(application)
    commands.register(application)

    def run(*arguments: str) -> Result:
        return application.test_cli_runner().invoke(args=[group, *arguments])

    return run


def digest_of(data: bytes) -> Digest:
    """Return the digest of some bytes."""
    return Digest.parse(f"sha256:{hashlib.sha256(data).hexdigest()}")


def descriptor(data: bytes, media_type: str = "", **more: object) -> dict[str, object]:
    """Return what a manifest says of some bytes."""
    return {"digest": digest_of(data), "size": len(data), "mediaType": media_type, **more}


def platform(text: str) -> dict[str, str]:
    """Return what an index says of `linux/arm/v7`."""
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


@dataclass(frozen=True)
class Document:
    """A manifest or an index."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        """Its digest."""
        return digest_of(self.data)


def image(*blobs: bytes) -> Document:
    """Return a manifest of a config and layers."""
    config, *layers = blobs
    data = {"config": descriptor(config), "layers": [descriptor(layer) for layer in layers]}
    return Document(json.dumps(data).encode(), manifest.MANIFESTS[0])


def index(**images: Document) -> Document:
    """Return an index; `linux_arm_v7` is a platform."""
    children = [
        descriptor(one.data, one.media_type, platform=platform(name.replace("_", "/")))
        for name, one in images.items()
    ]
    return Document(json.dumps({"manifests": children}).encode(), manifest.INDEXES[0])


def keep(store: Store, repository: str, *content: Document | bytes) -> None:
    """Keep content as a pull of it through Docxy does."""
    for one in content:
        data, media_type = (one, "") if isinstance(one, bytes) else (one.data, one.media_type)
        store.keep(data, "docker.io", digest_of(data), media_type)
        record_member(
            store.ledger,
            "docker.io",
            repository,
            digest_of(data),
            Member(media_type, is_public=False),
            asked=store.clock.now(),
        )


def path(directory: Path, digest: Digest, registry: str = "docker.io") -> Path:
    """Return where content lies in a cache directory."""
    name = digest.partition(":")[2]
    return directory / "content" / registry / "sha256" / name[:2] / name
