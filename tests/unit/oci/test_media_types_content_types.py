"""Content-Type: whether it can be that of a manifest or a blob, and what is remembered of it."""

import pytest

from app.oci import media_types

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        pytest.param(INDEX, True, id="index"),
        pytest.param("application/vnd.oci.image.manifest.v1+json", True, id="manifest"),
        pytest.param(
            "application/vnd.docker.distribution.manifest.v1+prettyjws", True, id="schema 1"
        ),
        pytest.param(
            "Application/vnd.oci.artifact.MANIFEST.v1+json; charset=utf-8", True, id="case"
        ),
        pytest.param("application/vnd.oci.image.layer.v1.tar", False, id="layer"),
        pytest.param("application/vnd.oci.image.config.v1+json", False, id="config"),
        pytest.param("application/manifest+json", False, id="no vendor"),
        pytest.param("application/vnd.x manifest", False, id="space"),
        pytest.param("xapplication/vnd.manifest", False, id="something before it"),
        pytest.param("text/html", False, id="page"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_manifests(written: str, *, is_one: bool) -> None:
    """OCI's, Docker's, and those of artifacts."""
    assert media_types.can_be_manifest(written) is is_one


def test_what_is_remembered() -> None:
    """No type has more than 255 characters (RFC 6838), and a registry sends what it likes."""
    assert media_types.drop_overlong(INDEX) == INDEX
    assert media_types.drop_overlong("a" * 255) == "a" * 255
    assert media_types.drop_overlong("a" * 256) == ""
