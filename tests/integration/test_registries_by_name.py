"""Every client asks every registry of one Docxy by name: by default, by prefix and by host."""

from collections.abc import Iterator

import pytest

from tests.integration.pulling import TABLE, Client, client
from tests.integration.registry_table import Served, known_at

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=TABLE)
def stranger(
    request: pytest.FixtureRequest,
    passthrough: Served,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    """Start a client that knows nobody, for tests of which no two pull the same image."""
    home = tmp_path_factory.mktemp(request.param)
    with client(request.param, passthrough.way(), "by name", home) as started:
        yield started


@pytest.mark.parametrize(
    ("written", "name", "repository"),
    [
        pytest.param("HOST/owner/app:1", "docker.io", "owner/app", id="default"),
        pytest.param("HOST/ghcr.io/owner/app:1", "ghcr.io", "owner/app", id="prefix"),
        pytest.param("HOST/ghcr.io/a/b/c:1", "ghcr.io", "a/b/c", id="nested"),
        pytest.param("HOST/quay.io/owner/app:1", "quay.io", "owner/app", id="discovered"),
        pytest.param(
            "HOST/managed.test/library/nginx:latest", "managed.test", "library/nginx", id="managed"
        ),
        pytest.param("HOST/plain.test/owner/app:1", "plain.test", "owner/app", id="no-token"),
        pytest.param("HOST/ported/a/b/c:1", "ported.test:5000", "a/b/c", id="alias"),
        pytest.param("NAMED/library/nginx:latest", "ghcr.io", "library/nginx", id="host"),
    ],
)
def test_by_name(
    written: str, name: str, repository: str, stranger: Client, served: Served
) -> None:
    """Each address brings the image of its own registry, and asks no other one for anything."""
    hub = served.hubs[name]
    reference = written.replace("HOST", served.host).replace("NAMED", served.named_host)
    image = hub.image(repository, reference.rpartition(":")[2])
    assert stranger.pull(reference) == stranger.kept(image)
    served.assert_only(name)
    assert hub.count("registry", "GET", f"^/v2/{repository}/manifests/", 200) > 0
    assert known_at(hub) == ({"alice"} if name == "managed.test" else set())
