"""What manifests and indexes name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.manifest import Descriptor, Platform, parse_descriptors
from app.oci.reference import Digest

ONE = Digest.parse(f"sha256:{'1' * 64}")
TWO = Digest.parse(f"sha256:{'2' * 64}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(str(ONE)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "urls", "os", "architecture", "platform"]), inner
        )
    ),
)
KEYS = st.sampled_from(["manifests", "config", "layers", "blobs", "mediaType"])


def read(**document: Any) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    found = parse_descriptors(json.dumps(document).encode())
    return found.manifests, found.blobs


def test_a_manifest_names_its_config_and_layers() -> None:
    """The config first."""
    manifests, blobs = read(
        config={"digest": ONE, "size": 1, "mediaType": "x/config"},
        layers=[{"digest": TWO, "size": 2, "urls": ["https://elsewhere.example/"]}],
    )
    assert manifests == ()
    assert blobs == (Descriptor(ONE, 1, "x/config"), Descriptor(TWO, 2, is_foreign=True))


def test_an_index_names_manifests_and_their_platforms() -> None:
    """Which may be unsaid."""
    arm = {"os": "linux", "architecture": "arm", "variant": "v7"}
    manifests, blobs = read(
        manifests=[{"digest": ONE, "size": 1, "platform": arm}, {"digest": TWO, "size": 2}]
    )
    assert manifests == (
        Descriptor(ONE, 1, platform=Platform("linux", "arm", "v7")),
        Descriptor(TWO, 2),
    )
    assert blobs == ()


def test_an_artifact_names_blobs() -> None:
    """OCI artifact manifests, as they once were."""
    assert read(blobs=[{"digest": ONE, "size": 0}]) == ((), (Descriptor(ONE, 0),))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"digest": "sha256:12", "size": 1}, id="a digest that is none"),
        pytest.param({"digest": 5, "size": 1}, id="a number for a digest"),
        pytest.param({"digest": ONE, "size": -1}, id="a negative size"),
        pytest.param({"digest": ONE, "size": "1"}, id="text for a size"),
        pytest.param({"digest": ONE}, id="no size"),
        pytest.param("text", id="text"),
        pytest.param(None, id="nothing"),
    ],
)
def test_what_is_no_descriptor_names_nothing(entry: object) -> None:
    """And the others beside it count."""
    good = {"digest": TWO, "size": 2}
    assert read(layers=[entry, good]) == ((), (Descriptor(TWO, 2),))
    assert read(manifests=[entry, good]) == ((Descriptor(TWO, 2),), ())


@pytest.mark.parametrize("document", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"text"'])
def test_what_is_no_object(document: bytes) -> None:
    """It is refused, however it is broken."""
    with pytest.raises(ValueError, match=r"not a JSON object|nested too deeply|decode|Expecting"):
        parse_descriptors(document)


@given(st.dictionaries(KEYS, JSON))
def test_any_json_object(document: dict[str, Any]) -> None:
    """It names something, or nothing."""
    for one in (
        *(found := parse_descriptors(json.dumps(document).encode())).manifests,
        *found.blobs,
    ):
        assert one.digest == ONE
        assert one.size >= 0


@pytest.mark.parametrize(
    ("offered", "wanted", "suits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v9", "linux/arm64/v8", False),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/amd64", "Linux/AMD64", True),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm", "linux/arm/v6", False),
        ("linux/amd64", "linux/x86_64", True),
        ("linux/x86-64", "linux/amd64", True),
        ("linux/386", "linux/i386", True),
        ("linux/arm64", "linux/aarch64", True),
        ("linux/armhf", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/armel", True),
        ("linux/arm/v7", "linux/armel", False),
        ("unknown/unknown", "unknown/unknown", True),
        ("unknown/unknown", "linux/amd64", False),
    ],
)
def test_platforms(offered: str, wanted: str, suits: bool) -> None:  # noqa: FBT001 - a table
    """A variant counts where one is asked for."""
    assert Platform.parse(offered).satisfies(Platform.parse(wanted)) is suits


@pytest.mark.parametrize(
    "text",
    [
        *("", "linux", "linux/", "/amd64", "a/b/c/d", "linux//v7", "linux/amd64/"),
        *("linux/*", "*", "*/*", "linux/amd64 ", "linux/amd64\n", "linux/" + "a" * 65),
    ],
)
def test_no_platforms(text: str) -> None:
    """Two or three parts, none empty, and no pattern."""
    with pytest.raises(ValueError, match="is not a platform"):
        Platform.parse(text)


def test_a_platform_as_text() -> None:
    """As it is written."""
    assert [str(Platform.parse(text)) for text in ("linux/amd64", "linux/arm/v7")] == [
        "linux/amd64",
        "linux/arm/v7",
    ]
