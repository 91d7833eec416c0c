"""Every client asks every registry of one Docxy by name: by default, by prefix and by host."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.pulling import TABLE, Client, client
from tests.integration.registry_table import Served, known_at

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=TABLE)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of a client of the table."""
    return str(request.param)


@pytest.fixture(scope="module")
def stranger(
    kind: str, passthrough: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Start a client that knows nobody, for tests of which no two pull the same image."""
    with client(kind, passthrough.way(), "by name", tmp_path_factory.mktemp(kind)) as started:
        yield started


FOR_CLIENTS: Final = [
    ("HOST/owner/app:1", "docker.io", "owner/app"),
    ("HOST/ghcr.io/owner/app:1", "ghcr.io", "owner/app"),
    ("NAMED/library/nginx:latest", "ghcr.io", "library/nginx"),
]
"""Three addresses that clients read each in its own way: by default, by prefix and by host."""
FOR_REGISTRIES: Final = [
    ("HOST/ghcr.io/a/b/c:1", "ghcr.io", "a/b/c"),
    ("HOST/quay.io/owner/app:1", "quay.io", "owner/app"),
    ("HOST/managed.test/library/nginx:latest", "managed.test", "library/nginx"),
    ("HOST/plain.test/owner/app:1", "plain.test", "owner/app"),
    ("HOST/ported/a/b/c:1", "ported.test:5000", "a/b/c"),
]
"""Prefixes, for a client all alike: nested, discovered, managed, without tokens, by an alias."""


def addresses(kind: str) -> list[tuple[str, str, str]]:
    """Return the first three, and two of the others, which clients take in turn."""
    turn = 2 * [*TABLE].index(kind)
    return [*FOR_CLIENTS, *(FOR_REGISTRIES[at % len(FOR_REGISTRIES)] for at in (turn, turn + 1))]


@pytest.mark.parametrize("at", range(len(FOR_CLIENTS) + 2))
def test_by_name(kind: str, at: int, stranger: Client, served: Served) -> None:
    """Each address brings the image of its own registry, and asks no other one for anything."""
    written, name, repository = addresses(kind)[at]
    hub = served.hubs[name]
    reference = written.replace("HOST", served.host).replace("NAMED", served.named_host)
    image = hub.image(repository, reference.rpartition(":")[2])
    assert stranger.pull(reference) == stranger.kept(image)
    served.assert_only(name)
    assert hub.count("registry", "GET", f"^/v2/{repository}/manifests/", 200) > 0
    assert known_at(hub) == ({"alice"} if name == "managed.test" else set())
