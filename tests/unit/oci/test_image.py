"""What an image says of itself, and what is left unsaid."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.oci.image import ImageMetadata, parse_config_descriptor, parse_image_metadata
from app.oci.manifest import Platform

DIGEST, OTHER = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
CONFIG = f'"config":{{"digest":"{DIGEST}","size":7}}'


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(f"{{{CONFIG}}}", id="a manifest"),
        pytest.param(f'{{{CONFIG},"manifests":[]}}', id="an index as well"),
        pytest.param(f'{{"manifests":[],{CONFIG.replace("config", "Config")}}}', id="in any case"),
    ],
)
def test_a_config(document: str) -> None:
    """A document that has one is an image's."""
    config = parse_config_descriptor(document.encode())
    assert config is not None
    assert (config.digest, config.size) == (DIGEST, 7)


def test_an_index() -> None:
    """It has manifests, and nothing that an image has."""
    assert parse_config_descriptor(b'{"schemaVersion":2,"manifests":[]}') is None
    assert (
        parse_config_descriptor(b'{"manifests":[{"digest":"x","data":""},{"data":null},7]}') is None
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="no object"),
        pytest.param("[" * 100_000, id="nested"),
        pytest.param('{"schemaVersion":1,"fsLayers":[]}', id="schema 1"),
        pytest.param('{"manifests":[],"layers":[]}', id="layers without a config"),
        pytest.param('{"manifests":{}}', id="no list"),
        pytest.param('{"manifests":[{"size":2,"data":"e30="}]}', id="a manifest in an index"),
        pytest.param('{"manifests":[{},{"Data":"e30="}]}', id="a manifest in one, in another case"),
        pytest.param('{"config":null}', id="null"),
        pytest.param('{"config":{"digest":"sha256:0","size":7}}', id="no digest"),
        pytest.param(f'{{"config":{{"digest":"{DIGEST}","size":-1}}}}', id="size"),
        pytest.param(
            f'{{{CONFIG},"Config":{{"digest":"{OTHER}","size":7}}}}', id="twice, in two cases"
        ),
        pytest.param(
            f'{{"config":{{"digest":"{DIGEST}","Digest":"{OTHER}","size":7}}}}', id="two digests"
        ),
    ],
)
def test_what_cannot_be_told(document: str) -> None:
    """Readers would differ in it, or there is nothing to read."""
    with pytest.raises(ValueError, match=r"."):
        parse_config_descriptor(document.encode())


@pytest.mark.parametrize(
    ("written", "platform"),
    [
        pytest.param(
            {"os": "linux", "architecture": "amd64"}, Platform("linux", "amd64"), id="two"
        ),
        pytest.param(
            {"os": "Linux", "architecture": "arm", "variant": "v7"},
            Platform("linux", "arm", "v7"),
            id="three",
        ),
        pytest.param(
            {"os": "linux", "architecture": "aarch64", "variant": ""},
            Platform("linux", "arm64"),
            id="another name",
        ),
        pytest.param(
            {"os": "linux", "architecture": "amd64", "variant": None},
            Platform("linux", "amd64"),
            id="no variant",
        ),
        pytest.param(
            {"os": "linux", "architecture": "arm", "variant": 7}, None, id="a variant's number"
        ),
        pytest.param(
            {"os": "unknown", "architecture": "unknown"},
            Platform("unknown", "unknown"),
            id="an attestation of BuildKit",
        ),
        pytest.param({"os": "linux/arm", "architecture": "v7"}, None, id="a slash"),
        pytest.param({"os": "linux", "architecture": "a\nb"}, None, id="another line"),
        pytest.param({"os": "linux"}, None, id="no architecture"),
        pytest.param({"os": "", "architecture": ""}, None, id="empty"),
        pytest.param({"os": "linux", "architecture": 64}, None, id="a number"),
        pytest.param({"os": "linux", "OS": "x", "architecture": "amd64"}, None, id="twice"),
    ],
)
def test_a_platform(written: dict[str, Any], platform: Platform | None) -> None:
    """As the config has it."""
    assert parse_image_metadata(json.dumps(written).encode()).platform == platform


@pytest.mark.parametrize(
    ("written", "date"),
    [
        pytest.param("2024-02-03T04:05:06Z", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC), id="UTC"),
        pytest.param(
            "2024-02-03T04:05:06.123456789+02:00",
            datetime(2024, 2, 3, 2, 5, 6, 123456, tzinfo=UTC),
            id="nanoseconds",
        ),
        pytest.param("0001-01-01T00:00:00Z", None, id="Go's zero"),
        pytest.param("1970-01-01T00:00:00Z", None, id="the epoch"),
        pytest.param("2024-02-03T04:05:06", None, id="no zone"),
        pytest.param("yesterday", None, id="words"),
        pytest.param(1700000000, None, id="a number"),
        pytest.param(None, None, id="null"),
    ],
)
def test_a_date(written: object, date: datetime | None) -> None:
    """What is no date in a zone is none."""
    assert parse_image_metadata(json.dumps({"created": written}).encode()).created == date


def test_no_config() -> None:
    """It says nothing, and labels that differ in case only take nothing away."""
    assert parse_image_metadata(b"\x00") == ImageMetadata()
    config = b'{"os":"linux","architecture":"amd64","config":{"Labels":{"a":"1","A":"2"}}}'
    assert parse_image_metadata(config).platform == Platform("linux", "amd64")
