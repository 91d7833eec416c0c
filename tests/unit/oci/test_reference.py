"""Names, tags and digests: what the specification allows passes unchanged, all else ends."""

import hashlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import DigestInvalid, NameInvalid, RegistryError
from app.oci.reference import Digest, RepositoryName, Tag, parse_reference

# As the specification has them: image-spec's descriptor.md, distribution-spec's spec.md.
SPEC_NAME = (
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"  # spec.md, main
)
SPEC_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
SPEC_DIGEST = r"[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8

NEARLY = st.text(alphabet="ab09AZ._-/:@+= \n\0é", max_size=300)
"""Text from what references are made of, and what is often beside it."""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("nginx", id="one component"),
        pytest.param("library/nginx", id="two"),
        pytest.param("a/b/c/d/e/f/g/h", id="many"),
        pytest.param("0", id="one digit"),
        pytest.param("a.b/c_d/e__f/g-h/i---j", id="every separator"),
        pytest.param("manifests/blobs/tags/list", id="words of the protocol"),
        pytest.param("ghcr.io/owner/app", id="a registry as prefix"),
        pytest.param("a" * 255, id="as long as may be"),
    ],
)
def test_names(text: str) -> None:
    """A name comes back as it was written."""
    name = RepositoryName.parse(text)
    assert (type(name), str(name)) == (RepositoryName, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("Nginx", id="upper case"),
        pytest.param("/nginx", id="leading slash"),
        pytest.param("nginx/", id="trailing slash"),
        pytest.param("a//b", id="empty component"),
        pytest.param("..", id="dots"),
        pytest.param("a/../b", id="parent"),
        pytest.param("a/./b", id="self"),
        pytest.param("a..b", id="two dots"),
        pytest.param("a___b", id="three underscores"),
        pytest.param("a_-b", id="mixed separators"),
        pytest.param("-a", id="leading separator"),
        pytest.param("a-", id="trailing separator"),
        pytest.param("localhost:5000/a", id="port"),
        pytest.param("a@sha256", id="at"),
        pytest.param("a b", id="space"),
        pytest.param("a\n", id="newline at the end"),
        pytest.param("a\n/b", id="newline"),
        pytest.param("a\0", id="nul"),
        pytest.param("ä", id="not ASCII"),
        pytest.param("٣", id="a digit that is not ASCII"),
        pytest.param("a%2fb", id="percent"),
        pytest.param("a?b", id="query"),
        pytest.param("a#b", id="fragment"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a" * 256, id="too long"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    """Everything else is NAME_INVALID, before it can be part of a URL."""
    with pytest.raises(NameInvalid):
        RepositoryName.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("latest", id="word"),
        pytest.param("3.19", id="version"),
        pytest.param("_", id="underscore"),
        pytest.param("V1.0-RC_2", id="upper case"),
        pytest.param("sha256-" + "a" * 64, id="the tag that stands for referrers"),
        pytest.param("x" * 128, id="as long as may be"),
    ],
)
def test_tags(text: str) -> None:
    """A tag comes back as it was written."""
    tag = parse_reference(text)
    assert (type(tag), str(tag)) == (Tag, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".hidden", id="leading dot"),
        pytest.param("-x", id="leading dash"),
        pytest.param("x" * 129, id="too long"),
        pytest.param("a/b", id="slash"),
        pytest.param("a+b", id="plus"),
        pytest.param("latest\n", id="newline at the end"),
        pytest.param("..", id="dots"),
        pytest.param("ä", id="not ASCII"),
    ],
)
def test_what_is_no_tag(text: str) -> None:
    """The specification has no code for tags: NAME_INVALID, and the message says tag."""
    with pytest.raises(NameInvalid, match="tag"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SHA256, id="sha256"),
        pytest.param(SHA512, id="sha512"),
        pytest.param("blake3:abc", id="an algorithm that is not registered"),
        pytest.param("sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=", id="two parts"),
        pytest.param("md5.x-y_z+1:A=", id="every separator"),
    ],
)
def test_digests(text: str) -> None:
    """A digest comes back as it was written, of whatever algorithm it is."""
    digest = parse_reference(text)
    assert (type(digest), str(digest)) == (Digest, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(":", id="nothing"),
        pytest.param("sha256:", id="no hex"),
        pytest.param(SHA256[:-1], id="sha256 too short"),
        pytest.param(SHA256 + "0", id="sha256 too long"),
        pytest.param(SHA256.upper(), id="upper case"),
        pytest.param("sha256:" + "A" * 64, id="upper case hex"),
        pytest.param("sha256:" + "g" * 64, id="not hex"),
        pytest.param("sha512:" + "a" * 64, id="sha512 too short"),
        pytest.param("SHA1:abc", id="upper case algorithm"),
        pytest.param("a..b:abc", id="two separators"),
        pytest.param("blake3:a/b", id="slash"),
        pytest.param("blake3:../x", id="parent"),
        pytest.param(SHA256 + "\n", id="newline at the end"),
        pytest.param("blake3:" + "a" * 100_000, id="without end"),
    ],
)
def test_what_is_no_digest(text: str) -> None:
    """Everything else with a colon is DIGEST_INVALID."""
    with pytest.raises(DigestInvalid):
        parse_reference(text)


@given(NEARLY | st.text())
def test_what_parses_as_a_name_is_one(text: str) -> None:
    """Nothing outside the specification's grammar becomes a name, and nothing crashes."""
    try:
        name = RepositoryName.parse(text)
    except NameInvalid:
        assert not re.fullmatch(SPEC_NAME, text) or len(text) > 255
    else:
        assert re.fullmatch(SPEC_NAME, name)
        assert name == text


@given(NEARLY | st.text())
def test_what_parses_as_a_reference_is_one(text: str) -> None:
    """Nothing outside the specification's grammar becomes a tag or a digest."""
    try:
        reference = parse_reference(text)
    except DigestInvalid:
        right = ":" in text
    except NameInvalid:
        right = ":" not in text
    else:
        grammar = SPEC_DIGEST if isinstance(reference, Digest) else SPEC_TAG
        right = bool(re.fullmatch(grammar, reference)) and reference == text
    assert right


WORDS = st.text(alphabet="abz059", min_size=1, max_size=8)
COMPONENTS = st.builds(
    lambda first, rest: first + "".join(rest),
    WORDS,
    st.lists(
        st.builds(str.__add__, st.sampled_from([".", "_", "__", "-", "----"]), WORDS), max_size=3
    ),
)


@given(st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join))
def test_every_name_parses(text: str) -> None:
    """Whatever the specification allows is a name here."""
    assert re.fullmatch(SPEC_NAME, text)
    assert RepositoryName.parse(text) == text


@given(st.from_regex(SPEC_TAG, fullmatch=True))
def test_every_tag_parses(text: str) -> None:
    """Whatever the specification allows is a tag here."""
    assert parse_reference(text) == text


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_every_registered_digest_parses(sha256: bytes, sha512: bytes) -> None:
    """Whatever the specification's algorithms give is a digest here."""
    for text in (f"sha256:{sha256.hex()}", f"sha512:{sha512.hex()}"):
        assert re.fullmatch(SPEC_DIGEST, text)
        assert parse_reference(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a-" * 100_000 + "!", id="separators"),
        pytest.param("a/" * 100_000 + "!", id="components"),
        pytest.param("a" + "-" * 200_000, id="dashes"),
        pytest.param("a_" * 100_000, id="underscores"),
        pytest.param("a." * 100_000 + ":!", id="algorithm"),
        pytest.param("sha256:" + "a" * 200_000, id="hex"),
        pytest.param("x" * 200_000, id="tag"),
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """Long text made to make a pattern go back and forth is refused at once."""
    began = time.process_time()
    with pytest.raises(RegistryError):
        RepositoryName.parse(text)
    with pytest.raises(RegistryError):
        parse_reference(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_of_bytes(algorithm: str) -> None:
    """It is of these bytes and no others, and what cannot be verified is of none."""
    digest = Digest.parse(f"{algorithm}:{hashlib.new(algorithm, b'bytes').hexdigest()}")
    assert digest.matches(b"bytes")
    assert digest in set(Digest.compute_all(b"bytes"))
    assert not digest.matches(b"byte")
    assert not Digest.parse("blake3:" + "0" * 64).matches(b"bytes")
