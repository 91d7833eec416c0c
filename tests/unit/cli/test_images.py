"""Images as an operator writes them."""

import pytest

from app.cli.images import parse_image, parse_images
from app.oci.reference import Digest, Tag
from app.registries import DOCKER_HUB, Registries, Registry
from tests.unit.cli.parts import digest_of

DIGEST = digest_of(b"")
TABLE = Registries([
    Registry(name=DOCKER_HUB, url="https://hub.example", library_prefix=True),
    Registry(name="ghcr.io", url="https://ghcr.example"),
    Registry(name="registry.example:5000", url="https://registry.example:5000"),
])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param("nginx", ("docker.io", "library/nginx", None), id="short"),
        pytest.param("nginx:1.27", ("docker.io", "library/nginx", "1.27"), id="tag"),
        pytest.param("bitnami/redis", ("docker.io", "bitnami/redis", None), id="namespace"),
        pytest.param("docker.io/nginx", ("docker.io", "library/nginx", None), id="its own prefix"),
        pytest.param("ghcr.io/o/app:v1", ("ghcr.io", "o/app", "v1"), id="prefix"),
        pytest.param(f"nginx@{DIGEST}", ("docker.io", "library/nginx", DIGEST), id="digest"),
        pytest.param(f"nginx:1@{DIGEST}", ("docker.io", "library/nginx", DIGEST), id="both"),
        pytest.param("registry.example:5000/a", ("registry.example:5000", "a", None), id="port"),
        pytest.param(
            "registry.example:5000/a:b", ("registry.example:5000", "a", "b"), id="port and tag"
        ),
    ],
)
def test_what_is_meant(text: str, meant: tuple[str, str, str | None]) -> None:
    """A registry, its own name for the repository, and a tag or digest."""
    image = parse_image(text, TABLE)
    assert (image.registry, image.repository, image.reference) == meant
    assert image.text == text


def test_tags_and_digests_are_told_apart() -> None:
    """By their types."""
    tagged, digested = parse_images(["nginx:1", f"nginx@{DIGEST}"], TABLE)
    assert isinstance(tagged.reference, Tag)
    assert isinstance(digested.reference, Digest)


def test_each_once() -> None:
    """Two names of one image are one image."""
    found = parse_images(["nginx:1", "docker.io/library/nginx:1", "nginx:2"], TABLE)
    assert [image.text for image in found] == ["nginx:1", "nginx:2"]
